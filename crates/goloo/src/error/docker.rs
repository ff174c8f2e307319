//! Docker contexts that can't be created or removed.

/// Why a Docker context can't be created or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DockerError {
    /// The command `docker` isn't in the search path.
    #[error("the command docker is not installed")]
    NotInstalled,
    /// The context wasn't created by goloo.
    #[error("the Docker context \"{context}\" was not created by goloo")]
    Foreign {
        /// The context.
        context: String,
    },
    /// `docker` failed.
    #[error("docker can't {action}: {reason}")]
    Failed {
        /// The attempted action: "list its contexts".
        action: &'static str,
        /// Its message, or why it couldn't be run.
        reason: String,
    },
}

impl DockerError {
    /// The stable error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotInstalled => "not-installed",
            Self::Foreign { .. } => "name-taken",
            Self::Failed { .. } => "failed",
        }
    }
}
