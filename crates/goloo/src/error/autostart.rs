//! Why VMs can't be started at login.

use goloo_model::name::VmName;

/// Why VMs can't be started at login.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AutostartError {
    /// The machine isn't on this computer.
    #[error("\"{name}\" is not a machine of this computer, so nothing here can start it")]
    NotLocal {
        /// The VM.
        name: VmName,
    },
    /// systemd isn't installed.
    #[error("the command systemctl is not installed, and without systemd nothing starts VMs at login")]
    NoServiceManager,
    /// `systemctl` failed.
    #[error("systemctl --user {command} failed: {reason}")]
    Failed {
        /// Its arguments.
        command: String,
        /// Its message.
        reason: String,
    },
    /// A path or a variable that the service can't contain.
    #[error("the service can't contain {text:?}")]
    UnusableText {
        /// The path or the value.
        text: String,
    },
}

impl AutostartError {
    /// The stable error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotLocal { .. } => "unsupported",
            Self::NoServiceManager => "not-installed",
            Self::Failed { .. } | Self::UnusableText { .. } => "failed",
        }
    }
}
