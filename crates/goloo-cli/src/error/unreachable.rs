//! Hints for machines that can't be connected to.

use goloo::ssh::UnreachableError;
use goloo_model::name::VmName;

use crate::exit;

/// The exit code and the hint.
pub(super) fn explain(error: &UnreachableError) -> (u8, String) {
    match error {
        UnreachableError::NoAddress { name } => (exit::FAILED, format!("check with `goloo status {name}`")),
        UnreachableError::NoKey { name } => {
            (exit::FAILED, format!("log in manually; `goloo status {name}` shows its address"))
        }
        UnreachableError::Stopped { name } | UnreachableError::Suspended { name } => {
            (exit::FAILED, format!("goloo start {name}"))
        }
        UnreachableError::Missing { name } => {
            (exit::NOT_FOUND, format!("run `goloo delete {name}` to archive the record"))
        }
        UnreachableError::Booting { name, has_console, .. } => {
            let without_ssh = without_ssh(name, *has_console);
            (exit::FAILED, format!("run `goloo wait {name}`; `{without_ssh}` shows its boot progress"))
        }
        UnreachableError::UnsafeScp => (exit::FAILED, "install OpenSSH 8.7 or later".to_owned()),
        _ => (exit::FAILED, "goloo doctor".to_owned()),
    }
}

/// The command that shows a machine's state without SSH: not every provider has a console.
pub fn without_ssh(name: &VmName, has_console: bool) -> String {
    if has_console { format!("goloo logs {name} --console") } else { format!("goloo status {name}") }
}
