//! Hints for machines that goloo refuses to log in to, or can't set up `ssh` for.

use goloo::ssh::SshError;
use goloo_sys::private::in_shell;

use crate::exit;

/// The exit code of `ssh` when it refuses a machine.
const REFUSED: u8 = 255;

/// The exit code and the hint.
pub(super) fn explain(error: &SshError) -> (u8, String) {
    match error {
        SshError::HostKeyChanged { name, path, .. } => (
            REFUSED,
            format!(
                "run `goloo history {name}` to see who changed the record; if the machine really has a new key: rm {}",
                in_shell(path)
            ),
        ),
        SshError::OtherVm { name, path } => (
            REFUSED,
            format!(
                "run `goloo history {name}` to see who changed it; if it really is another VM: rm {}",
                in_shell(path)
            ),
        ),
        SshError::InvalidClientKey { path, .. } => (
            exit::FAILED,
            format!(
                "restore it from a backup; without it goloo can't log in to VMs created with it; to start with a new key, move {} elsewhere",
                path.display()
            ),
        ),
        SshError::UserConfig { line, .. } => {
            (exit::FAILED, format!("change it yourself; the line of goloo, for its top, is: {line}"))
        }
        SshError::NoHostBlock { name } => (
            exit::FAILED,
            format!("if you trust it, add the output of `goloo ssh-config {name}` to ~/.ssh/config yourself"),
        ),
        SshError::UnusablePath { .. } | SshError::NotUtf8 { .. } => {
            (exit::FAILED, "set GOLOO_STATE_DIR to another folder".to_owned())
        }
        _ => (exit::FAILED, "goloo doctor".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use goloo_testkit::samples::name;

    use super::*;

    #[test]
    fn a_changed_host_key_exits_255_with_the_command_to_remove_it() {
        let path = "/state/keys/known_hosts.d/goloo-x".into();
        let (code, hint) = explain(&SshError::OtherVm { name: name("web"), path });
        assert_eq!(code, 255);
        assert!(hint.ends_with("rm /state/keys/known_hosts.d/goloo-x"), "{hint}");
    }
}
