//! The folder with goloo's client key and the pinned host keys, and the options that make `ssh` use them.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use goloo_model::access::PublicHostKey;
use goloo_model::guest::SshTarget;
use goloo_model::name::VmName;
use goloo_sys::private;
use goloo_sys::read;

use super::own_files::{write_program, write_whole};
use super::quote::{quoted, quoted_text};
use crate::error::{Error, SshError};

/// The files that `ssh` needs: `keys/` in the state folder.
#[derive(Debug, Clone)]
pub struct KeyFolder(PathBuf);

impl KeyFolder {
    /// The key folder of this state folder; created on the first write.
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

    /// Writes the machine's host key to the file that `ssh` will read. Each machine has its own file, so two
    /// processes never overwrite each other's lines.
    ///
    /// # Errors
    /// When the file has another key: a machine never changes its key, so somebody changed the record.
    pub fn pin(&self, target: &SshTarget) -> Result<PathBuf, Error> {
        let path = self.known_hosts(&target.alias);
        let pinned = self.pin_key(&target.alias, &target.name, &target.host_key);
        if pinned.map_err(|error| Error::cannot("write", &path, error))? != target.host_key {
            let (name, host) = (target.name.clone(), target.host.clone());
            return Err(SshError::HostKeyChanged { name, host, path }.into());
        }
        Ok(path)
    }

    /// Writes a host key if none is pinned, and returns the pinned one. The file remembers each name that the VM had.
    ///
    /// # Errors
    /// Those of the system.
    pub fn pin_key(&self, alias: &str, name: &VmName, key: &PublicHostKey) -> io::Result<PublicHostKey> {
        let pinned = self.pinned(alias);
        if pinned.as_ref().is_some_and(|pinned| pinned != key)
            || self.names(alias).iter().any(|known| known == name.as_str())
        {
            return Ok(pinned.unwrap_or_else(|| key.clone()));
        }
        let known = if pinned.is_some() { self.known_hosts_text(alias) } else { String::new() };
        // The name is a comment after the key.
        write_whole(&self.known_hosts(alias), format!("{known}{alias} {key} {name}\n").as_bytes())?;
        Ok(key.clone())
    }

    fn known_hosts_text(&self, alias: &str) -> String {
        read::own_text(&self.known_hosts(alias), read::FILE_MAX).unwrap_or_default()
    }

    /// The names under which the machine with this alias was reached.
    fn names(&self, alias: &str) -> Vec<String> {
        let text = self.known_hosts_text(alias);
        text.lines().filter_map(|line| line.split_whitespace().nth(3)).map(str::to_owned).collect()
    }

    /// The pinned host key; `None` when there is none.
    pub fn pinned(&self, alias: &str) -> Option<PublicHostKey> {
        let text = read::own_text(&self.known_hosts(alias), read::FILE_MAX).ok()?;
        let mut words = text.split_whitespace();
        words.next().filter(|word| *word == alias)?;
        PublicHostKey::parse(&format!("{} {}", words.next()?, words.next()?)).ok()
    }

    /// The aliases under which host keys were pinned for VMs of this name.
    pub fn pinned_for(&self, name: &VmName) -> Vec<String> {
        let files = std::fs::read_dir(self.0.join("known_hosts.d")).into_iter().flatten().flatten();
        let aliases = files.filter_map(|file| file.file_name().into_string().ok());
        let is_of_name = |alias: &String| self.names(alias).iter().any(|known| known == name.as_str());
        aliases.filter(is_of_name).collect()
    }

    /// The program that `scp` uses in place of `ssh`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn scp_transport(&self) -> Result<PathBuf, Error> {
        let path = self.0.join("scp-transport");
        // It is executed, so a file that others can change is always replaced.
        let is_own = private::check(&path).is_ok();
        if is_own && read::own_text(&path, read::FILE_MAX).is_ok_and(|text| text == SCP_TRANSPORT) {
            return Ok(path);
        }
        write_program(&path, SCP_TRANSPORT.as_bytes())
            .map_err(|error| Error::cannot("write", &path, error))?;
        Ok(path)
    }

    /// Removes the pinned host key of a machine that no longer exists.
    pub fn unpin(&self, alias: &str) {
        // A leftover file does no harm: the alias is never used again.
        let _ = std::fs::remove_file(self.known_hosts(alias));
    }

    /// The options that make `ssh` and `scp` strict and independent of the user's own files.
    ///
    /// # Errors
    /// As [`Self::pin`], and when `ssh` can't use the path of a file.
    pub fn options(&self, target: &SshTarget) -> Result<Vec<OsString>, Error> {
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
        // Also limits the handshake: a machine may accept the connection and send nothing.
        option("ConnectTimeout", "20".as_ref());
        option("HostKeyAlias", target.alias.as_ref());
        option("User", target.user.as_str().as_ref());
        option("Port", target.port.to_string().as_ref());
        Ok(options)
    }

    /// The same options as a block for `~/.ssh/config`.
    ///
    /// # Errors
    /// As [`Self::options`].
    pub fn config_block(&self, host: &str, target: &SshTarget) -> Result<String, Error> {
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

/// In the environment of [`KeyFolder::scp_transport`]: the user that files are copied as.
pub const SCP_USER: &str = "GOLOO_SCP_USER";

/// `scp` logs in as goloo's account, and reads and writes as the login user.
const SCP_TRANSPORT: &str = include_str!("scp-transport.sh");

/// A command line for `ssh` that `/bin/sh` runs, whatever the account's shell is.
pub fn by_sh(script: &str) -> String {
    // Quoting fails only for NUL bytes, which goloo's commands never contain.
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

    use goloo_model::access::{Address, LoginName};
    use goloo_model::host_key::HostKey;
    use proptest::prelude::*;

    use super::*;

    /// Strings that an attacker would write into a record to inject options.
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

    #[test]
    fn a_client_key_in_a_folder_writable_by_others_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::new(folder.path());
        for exposed in ["", "keys"] {
            let exposed = folder.path().join(exposed);
            std::fs::create_dir_all(&exposed).unwrap();
            std::fs::set_permissions(&exposed, PermissionsExt::from_mode(0o777)).unwrap();
            assert!(matches!(keys.client_key().unwrap_err(), Error::Exposed(_)));
            std::fs::set_permissions(&exposed, PermissionsExt::from_mode(0o700)).unwrap();
        }
        keys.client_key().unwrap();
    }

    #[test]
    fn a_pinned_key_is_found_by_each_name_that_the_vm_had() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::new(folder.path());
        let name = |text: &str| VmName::parse(text).unwrap();
        let (key, other) = (HostKey::generate().public_openssh, HostKey::generate().public_openssh);
        for text in ["web", "shop", "web"] {
            assert_eq!(keys.pin_key("goloo-1", &name(text), &key).unwrap(), key);
        }
        assert_eq!(keys.pin_key("goloo-1", &name("evil"), &other).unwrap(), key);
        assert_eq!(["web", "shop", "evil"].map(|text| keys.pinned_for(&name(text)).len()), [1, 1, 0]);
        let text = std::fs::read_to_string(keys.known_hosts("goloo-1")).unwrap();
        assert_eq!(text, format!("goloo-1 {key} web\ngoloo-1 {key} shop\n"));
    }

    /// A machine never changes its key: a record that names another one was changed.
    #[test]
    fn a_pinned_host_key_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::new(folder.path());
        let target = |host_key| SshTarget {
            host: Address::parse("127.0.0.1").unwrap(),
            port: 2222,
            user: LoginName::parse("goloo").unwrap(),
            host_key,
            name: VmName::parse("web").unwrap(),
            alias: "goloo-x".to_owned(),
        };
        let (first, second) = (HostKey::generate().public_openssh, HostKey::generate().public_openssh);
        keys.pin(&target(first.clone())).unwrap();
        keys.pin(&target(first.clone())).unwrap();
        let refused = keys.pin(&target(second.clone())).unwrap_err();
        assert!(matches!(refused, Error::Ssh(SshError::HostKeyChanged { .. })), "{refused:?}");
        assert_eq!(keys.pinned("goloo-x"), Some(first));
        keys.unpin("goloo-x");
        keys.pin(&target(second)).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn ssh_reads_only_host_port_and_user_from_any_record(
            user in texts(), host in texts(), port in 1_u16.., alias in "[0-9a-z]{26}",
        ) {
            let host_key = HostKey::generate().public_openssh;
            let (Ok(user), Ok(host)) = (LoginName::parse(&user), Address::parse(&host)) else { return Ok(()) };
            let name = VmName::parse("web").unwrap();
            let target = SshTarget { host, port, user, host_key, name, alias: format!("goloo-{alias}") };
            let folder = tempfile::tempdir().unwrap();
            let keys = KeyFolder::new(folder.path());
            let mut arguments = keys.options(&target).unwrap();
            arguments.extend(["--".into(), target.host.as_str().into()]);
            assert_leads_to(&target, &settings(&arguments));
            let file = folder.path().join("config");
            std::fs::write(&file, keys.config_block("vm", &target).unwrap()).unwrap();
            assert_leads_to(&target, &settings(&["-F".into(), file.into(), "vm".into()]));
            let known = std::fs::read_to_string(keys.known_hosts(&target.alias)).unwrap();
            prop_assert_eq!(known, format!("{} {} web\n", target.alias, target.host_key));
            prop_assert_eq!(keys.pinned(&target.alias), Some(target.host_key));
        }
    }
}
