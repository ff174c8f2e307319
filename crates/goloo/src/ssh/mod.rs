//! The way into a machine: goloo's client key, the pinned host key, and the `ssh` command.

mod guest;
mod keys;
mod quote;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use goloo_core::access::PublicHostKey;
use goloo_core::guest::SshTarget;
use goloo_os::read;

use crate::error::CliError;

pub use guest::SshGuest;
use quote::{quoted, quoted_text};

/// The files that `ssh` needs: `keys/` in the state folder.
#[derive(Debug, Clone)]
pub struct KeyFolder(PathBuf);

/// As `ssh` ends when it refuses a machine.
const REFUSED: u8 = 255;

fn changed_key(target: &SshTarget, path: &Path) -> CliError {
    let message = format!(
        "Host key verification failed: the record of the machine at {} names another host key than it did before",
        target.host
    );
    let file = path.display().to_string();
    let file = shlex::try_quote(&file).unwrap_or_default();
    let hint = format!(
        "run goloo history NAME to see who changed the record; if the machine really has a new key: rm {file}"
    );
    CliError::new(REFUSED, "host-key-changed", message, hint)
}

impl KeyFolder {
    /// In this state folder; made on the first write.
    pub fn new(state: &Path) -> Self {
        Self(state.join("keys"))
    }

    /// goloo's private client key.
    pub fn identity(&self) -> PathBuf {
        self.0.join("id_ed25519")
    }

    /// The file with one machine's host key.
    pub fn known_hosts(&self, alias: &str) -> PathBuf {
        self.0.join("known_hosts.d").join(alias)
    }

    /// Writes the machine's host key where `ssh` will look for it. The file is per machine, so two
    /// processes never write over each other's lines.
    ///
    /// # Errors
    /// When another key is there: a machine keeps its key for life, so somebody changed the record.
    pub fn pin(&self, target: &SshTarget) -> Result<PathBuf, CliError> {
        let path = self.known_hosts(&target.alias);
        match self.pinned(&target.alias) {
            Some(pinned) if pinned == target.host_key => return Ok(path),
            Some(_) => return Err(changed_key(target, &path)),
            None => {}
        }
        let line = format!("{} {}\n", target.alias, target.host_key);
        keys::write_whole(&path, line.as_bytes())
            .map_err(|error| CliError::cannot("write", &path, &error))?;
        Ok(path)
    }

    /// The host key that was written there; `None` where there is none.
    pub fn pinned(&self, alias: &str) -> Option<PublicHostKey> {
        let text = read::text(&self.known_hosts(alias), read::FILE_MAX).ok()?;
        PublicHostKey::parse(text.trim_end().strip_prefix(alias)?.trim_start()).ok()
    }

    /// The program that `scp` uses in place of `ssh`.
    pub fn scp_transport(&self) -> Result<PathBuf, CliError> {
        let path = self.0.join("scp-transport");
        if read::text(&path, read::FILE_MAX).is_ok_and(|text| text == SCP_TRANSPORT) {
            return Ok(path);
        }
        keys::write_program(&path, SCP_TRANSPORT.as_bytes())
            .map_err(|error| CliError::cannot("write", &path, &error))?;
        Ok(path)
    }

    /// Forgets a machine that is gone.
    pub fn unpin(&self, alias: &str) {
        // A file that stays harms nobody: the alias is never used again.
        let _ = std::fs::remove_file(self.known_hosts(alias));
    }

    /// The options that make `ssh` and `scp` strict and independent of the user's own files.
    pub fn options(&self, target: &SshTarget) -> Result<Vec<OsString>, CliError> {
        let known_hosts = self.pin(target)?;
        let mut options: Vec<OsString> = vec!["-F".into(), "none".into()];
        let mut option = |name: &str, value: &std::ffi::OsStr| {
            let mut text = OsString::from(format!("{name}="));
            text.push(value);
            options.extend(["-o".into(), text]);
        };
        option("IdentityFile", &quoted(&self.identity())?);
        option("UserKnownHostsFile", &quoted(&known_hosts)?);
        for (name, value) in STRICT {
            option(name, value.as_ref());
        }
        // Also for the handshake: a machine may take the connection and say nothing.
        option("ConnectTimeout", "20".as_ref());
        option("HostKeyAlias", target.alias.as_ref());
        option("User", target.user.as_str().as_ref());
        option("Port", target.port.to_string().as_ref());
        Ok(options)
    }

    /// The same as a block for `~/.ssh/config`.
    pub fn config_block(&self, host: &str, target: &SshTarget) -> Result<String, CliError> {
        let known_hosts = self.pin(target)?;
        let mut lines = vec![
            format!("Host {host}"),
            format!("  HostName {}", target.host),
            format!("  Port {}", target.port),
            format!("  User {}", target.user),
            format!("  IdentityFile {}", quoted_text(&self.identity())?),
            format!("  UserKnownHostsFile {}", quoted_text(&known_hosts)?),
            format!("  HostKeyAlias {}", target.alias),
        ];
        lines.extend(STRICT.iter().map(|(name, value)| format!("  {name} {value}")));
        Ok(lines.join("\n"))
    }
}

/// In the environment of [`KeyFolder::scp_transport`]: whom files are copied as.
pub const SCP_USER: &str = "GOLOO_SCP_USER";

/// `scp` goes in as goloo's account, and reads and writes as the login user.
const SCP_TRANSPORT: &str = include_str!("scp-transport.sh");

/// A command line for `ssh` that `/bin/sh` runs, whatever the account's shell is.
pub fn by_sh(script: &str) -> String {
    // No command of goloo's has the NUL byte that alone can't be quoted.
    format!("exec /bin/sh -c {}", shlex::try_quote(script).unwrap_or_default())
}

/// Only goloo's key, only the pinned host key.
const STRICT: [(&str, &str); 5] = [
    ("IdentitiesOnly", "yes"),
    ("GlobalKnownHostsFile", "/dev/null"),
    ("StrictHostKeyChecking", "yes"),
    ("UpdateHostKeys", "no"),
    ("LogLevel", "ERROR"),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use goloo_core::access::{Address, LoginName};
    use goloo_core::cloud_init::HostKey;
    use proptest::prelude::*;

    use super::*;

    /// Texts as somebody would write them into a record to be more than a name.
    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}",
            "[A-Za-z0-9._%@:${}~!*?,\"'\\\\ \t-]{1,12}",
            "\\PC{0,8}",
            "(-o|-F|-)?(ProxyCommand|User|Host|Match)[= ]?[a-z.]{0,8}",
            "[a-z]{1,8}[\r\n\u{0}\u{85}\u{2028}][A-Za-z ]{1,12}",
        ]
    }

    fn settings(arguments: &[OsString]) -> Vec<String> {
        let output = Command::new("ssh").arg("-G").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn assert_leads_to(target: &SshTarget, lines: &[String]) {
        let host = target.host.to_ascii_lowercase();
        let (user, port) = (format!("user {}", target.user), format!("port {}", target.port));
        for line in [user, format!("hostname {host}"), port, format!("hostkeyalias {}", target.alias)] {
            assert!(lines.contains(&line), "{line:?} is not in {lines:#?}");
        }
        let is_command =
            |line: &&String| line.starts_with("proxycommand ") || line.starts_with("localcommand ");
        assert_eq!(lines.iter().find(is_command), None);
        let checks =
            |line: &String| line == "stricthostkeychecking true" || line == "stricthostkeychecking yes";
        assert!(lines.iter().any(checks), "{lines:#?}");
    }

    /// A machine keeps its key for life: a record that names another one was changed.
    #[test]
    fn a_pinned_key_is_never_replaced_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::new(folder.path());
        let target = |host_key| SshTarget {
            host: Address::parse("127.0.0.1").unwrap(),
            port: 2222,
            user: LoginName::parse("goloo").unwrap(),
            host_key,
            alias: "goloo-x".to_owned(),
        };
        let (first, second) = (HostKey::generate().public_openssh, HostKey::generate().public_openssh);
        keys.pin(&target(first.clone())).unwrap();
        keys.pin(&target(first.clone())).unwrap();
        let refused = keys.pin(&target(second.clone())).unwrap_err();
        assert_eq!((refused.code, refused.kind), (255, "host-key-changed"));
        assert_eq!(keys.pinned("goloo-x"), Some(first));
        keys.unpin("goloo-x");
        keys.pin(&target(second)).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn whatever_a_record_holds_ssh_reads_no_more_than_its_host_port_and_user(
            user in texts(), host in texts(), port in 1_u16.., alias in "[0-9a-z]{26}",
        ) {
            let host_key = HostKey::generate().public_openssh;
            let (Ok(user), Ok(host)) = (LoginName::parse(&user), Address::parse(&host)) else { return Ok(()) };
            let target = SshTarget { host, port, user, host_key, alias: format!("goloo-{alias}") };
            let folder = tempfile::tempdir().unwrap();
            let keys = KeyFolder::new(folder.path());
            let mut arguments = keys.options(&target).unwrap();
            arguments.extend(["--".into(), target.host.as_str().into()]);
            assert_leads_to(&target, &settings(&arguments));
            let file = folder.path().join("config");
            std::fs::write(&file, keys.config_block("vm", &target).unwrap()).unwrap();
            assert_leads_to(&target, &settings(&["-F".into(), file.into(), "vm".into()]));
            let known = std::fs::read_to_string(keys.known_hosts(&target.alias)).unwrap();
            prop_assert_eq!(known, format!("{} {}\n", target.alias, target.host_key));
        }
    }
}
