//! Hints for errors with Docker contexts.

use goloo::error::DockerError;

use crate::exit;

/// The exit code and the hint.
pub(super) fn explain(error: &DockerError) -> (u8, String) {
    match error {
        DockerError::NotInstalled => (
            exit::FAILED,
            "install Docker's command line (Debian: apt-get install docker-cli); no daemon is needed on this computer"
                .to_owned(),
        ),
        DockerError::Foreign { context } => {
            (exit::NOT_FOUND, format!("remove it if it isn't needed: docker context rm {context}"))
        }
        _ => (exit::FAILED, "run `docker context ls` to see what is wrong".to_owned()),
    }
}
