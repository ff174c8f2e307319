//! Settings that can't be used or changed.

use std::path::PathBuf;

use goloo_model::spec::Diagnostic;

use super::address::AddressError;

/// Why the settings can't be used or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The content of settings.json is invalid.
    #[error("{} is invalid", path.display())]
    Invalid {
        /// All problems.
        problems: Vec<Diagnostic>,
        /// The file.
        path: PathBuf,
    },
    /// An unknown key, or a value that the key doesn't accept.
    #[error("{key} can't be set to this value")]
    Refused {
        /// The key.
        key: String,
        /// The problems that settings.json would have. Their positions refer to a text that was never written to disk.
        problems: Vec<Diagnostic>,
    },
    /// An environment variable whose value isn't a valid backend.
    #[error("{variable}: {error}")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// Why its value isn't a valid address. It is part of the message, so it isn't a source.
        error: AddressError,
    },
    /// The file that `encryption.identityFile` names has no key.
    #[error("{} has no age secret key: {reason}", path.display())]
    NoIdentity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl SettingsError {
    /// The stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Refused { .. } => "usage",
            Self::Variable { error, .. } => error.code(),
            Self::NoIdentity { .. } => "failed",
        }
    }
}
