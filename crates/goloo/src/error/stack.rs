//! Stacks that can't be used.

use std::path::{Path, PathBuf};

use goloo_model::spec::{DIAGNOSTICS_MAX, Diagnostic};
use goloo_sys::read;

/// Why a stack can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// Its files don't validate.
    #[error("{}", problem_count(problems))]
    Invalid {
        /// The problems in all its files; at most [`DIAGNOSTICS_MAX`] should be shown.
        problems: Vec<Diagnostic>,
        /// The stack's folder.
        folder: PathBuf,
    },
    /// No place has a stack of this name.
    #[error("there is no stack \"{name}\"")]
    NotFound {
        /// The name that was given.
        name: String,
        /// Where its `config.json` was expected.
        tried: Vec<PathBuf>,
        /// The folder that this name was last created from.
        last: Option<LastFolder>,
    },
    /// It was found by its name, and may belong to another user.
    #[error("the stack {} is not used: {reason}", folder.display())]
    Exposed {
        /// The stack's folder.
        folder: PathBuf,
        /// Who owns it, or may own it.
        reason: String,
    },
    /// A file is larger than any stack needs.
    #[error("{} is larger than {} KiB", path.display(), read::FILE_MAX >> 10)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The registry was written by a newer version.
    #[error("{} was written by a newer goloo", path.display())]
    NewerRegistry {
        /// The file.
        path: PathBuf,
    },
}

impl StackError {
    /// The stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::NotFound { .. } => "not-found",
            Self::Exposed { .. } => "exposed",
            Self::TooLarge { .. } => "usage",
            Self::NewerRegistry { .. } => "failed",
        }
    }
}

/// The number of problems, as an error message.
pub fn problem_count(problems: &[Diagnostic]) -> String {
    match problems.len() {
        1 => "the stack has a problem".to_owned(),
        count if count > DIAGNOSTICS_MAX => {
            format!("the stack has {count} problems; these are the first {DIAGNOSTICS_MAX}")
        }
        count => format!("the stack has {count} problems"),
    }
}

/// Where a stack's folder was when a VM was last created from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastFolder {
    /// From the registry of this computer.
    Known(PathBuf),
    /// From a record that somebody else may have written: it is reported, but not read.
    OfOthers(PathBuf),
}

impl LastFolder {
    /// The folder, if it may be read.
    pub(crate) fn known(&self) -> Option<&Path> {
        match self {
            Self::Known(folder) => Some(folder),
            Self::OfOthers(_) => None,
        }
    }
}
