//! Hints for VMs that can't be started at login.

use goloo::error::AutostartError;

use crate::exit;

/// The exit code and the hint.
pub(super) fn explain(error: &AutostartError) -> (u8, String) {
    let hint = match error {
        AutostartError::NotLocal { .. } => "start it with a schedule of its provider",
        AutostartError::NoServiceManager => {
            "have your own service manager run `goloo autostart --start` at login, or `goloo start NAME`"
        }
        AutostartError::Failed { .. } => {
            "log in as this user with a session of systemd, not with su or sudo, and run the command again"
        }
        AutostartError::UnusableText { .. } => "use paths without line breaks",
        _ => "goloo doctor",
    };
    (exit::FAILED, hint.to_owned())
}
