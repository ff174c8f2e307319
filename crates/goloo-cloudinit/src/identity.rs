//! What goloo needs in every machine, regardless of the user's document: its account and key, the host key, sshd
//! settings, the ttl, `configure.sh`. A single shell script that runs before cloud-init's modules at every boot.

use std::fmt::Write as _;

use super::script::{base64, squeezed};
use goloo_model::access::LoginName;
use goloo_model::authorized_key::AuthorizedKey;
use goloo_model::host_key::HostKey;
use goloo_model::record::{PrivateAddress, UserKeys};
use goloo_model::spec::Mount;

/// The account that goloo's own commands use in the machine.
pub const ACCOUNT: &str = "goloo";

/// The same, typed for a record.
pub fn account() -> LoginName {
    LoginName::parse(ACCOUNT).expect("it is a login name")
}

/// Where sshd finds the keys that goloo adds, next to the users' own files. The path is in the user-data of
/// every machine created by any version of goloo, which identifies such a machine.
pub const KEY_FOLDER: &str = "/etc/ssh/goloo_keys";

pub(super) const MOUNTS: &str = "/opt/goloo/mounts.sh";

/// Chooses the file system of the mounts at each boot.
pub(super) const MOUNT_TYPES: &str = "/opt/goloo/mount-types";

/// Sets the address in a private network.
pub(super) const NETWORK_SCRIPT: &str = "/opt/goloo/network";

pub(super) const NETWORK: &str = include_str!("guest/network.sh");
const NETWORK_UNIT: &str = include_str!("guest/goloo-network.service");
pub(super) const SETUP: &str = include_str!("guest/setup.sh");
const ACCESS: &str = include_str!("guest/access.sh");
const BEFORE_SSHD: &str = include_str!("guest/before-sshd.sh");
const SSHD_ACCOUNT: &str = include_str!("guest/sshd-account.conf");
const RUN_CONFIGURE: &str = include_str!("guest/run-configure.sh");
pub(super) const END: &str = include_str!("guest/end.sh");
const MOUNT_SHARES: &str = include_str!("guest/mounts.sh");
const CHOOSE_MOUNT_TYPES: &str = include_str!("guest/mount-types.sh");
const AS: &str = include_str!("guest/as.sh");
const ACCESS_UNIT: &str = include_str!("guest/goloo-access.service");
const CONFIGURE_UNIT: &str = include_str!("guest/goloo-configure.service");
pub(super) const END_UNIT: &str = include_str!("guest/goloo-end.service");

/// The inputs of the script.
pub(super) struct Identity<'a> {
    /// goloo's own public key.
    pub client_key: &'a str,
    /// The host key of a new machine.
    pub host_key: Option<&'a HostKey>,
    /// The login user.
    pub login_user: &'a str,
    /// The stack's users, who must exist in the end even if the document's users fail.
    pub users: &'a [UserKeys],
    /// Folders to mount.
    pub mounts: &'a [Mount],
    /// The number of seconds after its first boot when the machine terminates itself.
    pub ttl: Option<u64>,
    /// `configure.sh`.
    pub configure: Option<&'a [u8]>,
    /// The machine's address in the private network of its environment.
    pub network: Option<PrivateAddress>,
}

impl Identity<'_> {
    /// The script as a part of a MIME message: cloud-init runs it as soon as it has read the user-data.
    pub fn boothook(&self) -> String {
        format!("#cloud-boothook\n{}", self.script())
    }

    /// The script. It is idempotent.
    pub fn script(&self) -> String {
        let mut script = Self::begin();
        script.line("skip_what_was_baked");
        script.file("0755", "/opt/goloo/access", &squeezed(ACCESS));
        script.line("sh /opt/goloo/access");
        self.keys(&mut script);
        script.file("0644", "/etc/ssh/goloo_sshd_account", SSHD_ACCOUNT);
        script.file("0644", "/etc/ssh/sshd_config.d/00-goloo.conf", DROP_IN);
        script.file("0755", "/opt/goloo/before-sshd", &squeezed(BEFORE_SSHD));
        let users = self.users.iter().map(|user| user.username.as_str());
        script.file("0644", "/opt/goloo/users", &users_file(users, self.login_user));
        script.file("0755", "/opt/goloo/as", &squeezed(AS));
        if !self.mounts.is_empty() {
            script.file("0755", MOUNTS, &mount_script(self.mounts, self.login_user));
            // Kernels before 5.17 don't load the transport automatically; others lack the file system.
            script.here("! modprobe -qn 9p || put 0644 /etc/modules-load.d/goloo.conf", "9p\n9pnet_virtio\n");
            mount_types_file(&mut script);
            script.line(&format!("sh {MOUNT_TYPES}"));
        }
        script.line("start_sshd_with_it");
        script.unit("goloo-access.service", ACCESS_UNIT);
        self.configure_files(&mut script);
        self.network_and_end(&mut script);
        script.line(&behind_cloud_init("goloo-access.service", "/opt/goloo/access last"));
        if self.configure.is_some() {
            script.line(&behind_cloud_init("goloo-configure.service", "/opt/goloo/run-configure unit"));
        }
        script.line("exit 0");
        script.0
    }

    /// The part that differs between the machines of one baked image, for one that continues from its memory: nothing else
    /// has changed since the image was baked ([`bake_key`](crate::bake_key)), and each file takes time.
    pub fn script_of_copy(&self) -> String {
        let mut script = Self::begin();
        self.keys(&mut script);
        self.network_and_end(&mut script);
        script.line("exit 0");
        script.0
    }

    fn begin() -> Script {
        Script::new(&format!("#!/bin/sh\n{}", squeezed(SETUP)))
    }

    fn keys(&self, script: &mut Script) {
        script.file("0644", &format!("{KEY_FOLDER}/{ACCOUNT}"), self.client_key);
        for user in user_keys(self.users, self.login_user, self.client_key) {
            script.file("0644", &format!("{KEY_FOLDER}/{}", user.username), &user.keys.join("\n"));
        }
        if let Some(key) = self.host_key {
            script.file("0600", "/etc/ssh/goloo_host_ed25519_key", key.private_openssh.expose());
            script.file("0644", "/etc/ssh/goloo_host_ed25519_key.pub", &key.public_openssh);
        }
    }

    fn configure_files(&self, script: &mut Script) {
        let Some(configure) = self.configure else { return };
        script.encoded("0755", "/opt/goloo/configure.sh", configure);
        script.file("0755", "/opt/goloo/run-configure", &squeezed(RUN_CONFIGURE));
        script.line("configure_later");
        script.unit("goloo-configure.service", CONFIGURE_UNIT);
    }

    /// The address in the private network and the end, with their services, and what makes changed services count.
    fn network_and_end(&self, script: &mut Script) {
        if let Some(address) = self.network {
            network_files(script, address);
        }
        if let Some(seconds) = self.ttl {
            script.file("0755", "/opt/goloo/end", &squeezed(END));
            script.line(&format!("set_end {seconds}"));
            script.unit("goloo-end.service", END_UNIT);
        }
        script.line("reload_units");
        if self.network.is_some() {
            script.line(&format!("run_unit goloo-network.service /bin/sh {NETWORK_SCRIPT}"));
        }
        if self.ttl.is_some() {
            script.line("run_unit goloo-end.service /bin/sh /opt/goloo/end");
        }
    }
}

/// What a member of an environment needs at each boot for its address in the private network, whatever manages its other
/// network cards.
pub(super) fn network_files(script: &mut Script, address: PrivateAddress) {
    let mac = address.mac();
    let text = format!("#!/bin/sh\nmac={mac}\naddress={address}\n{}", squeezed(NETWORK));
    script.file("0755", NETWORK_SCRIPT, &text);
    let rule = format!(
        "ACTION==\"add\", SUBSYSTEM==\"net\", ATTR{{address}}==\"{mac}\", RUN+=\"/bin/sh {NETWORK_SCRIPT}\""
    );
    script.file("0644", "/etc/udev/rules.d/90-goloo-network.rules", &rule);
    let unmanaged = format!("[Match]\nMACAddress={mac}\n[Link]\nUnmanaged=yes");
    script.file("0644", "/etc/systemd/network/00-goloo-network.network", &unmanaged);
    script.here(
        "[ ! -d /etc/NetworkManager ] || put 0644 /etc/NetworkManager/conf.d/90-goloo-network.conf",
        &format!("[keyfile]\nunmanaged-devices+=mac:{mac}"),
    );
    script.unit("goloo-network.service", NETWORK_UNIT);
}

/// Starts a unit that is ordered after cloud-init; without systemd its command waits for cloud-init itself.
fn behind_cloud_init(unit: &str, command: &str) -> String {
    let wait = "until [ -e /run/cloud-init/result.json ]; do sleep 2; done";
    format!("run_unit {unit} /bin/sh -c '{wait}; exec /bin/sh {command}'")
}

/// For an sshd that isn't started by its systemd unit.
const DROP_IN: &str = "HostKey /etc/ssh/goloo_host_ed25519_key\nInclude /etc/ssh/goloo_sshd_account\n";

/// The file of the stack's users. One line each: the name, and whether it is the login user.
pub(super) fn users_file<'n>(names: impl Iterator<Item = &'n str>, login_user: &str) -> String {
    let names = names.filter(|name| *name != ACCOUNT);
    names.map(|name| format!("{name}{}\n", if name == login_user { " login" } else { "" })).collect()
}

/// The users with the keys that goloo adds for them, its own added to the login user's. The account of goloo's own
/// commands isn't among them.
pub(super) fn user_keys(users: &[UserKeys], login_user: &str, client_key: &str) -> Vec<UserKeys> {
    let mut all = users.to_vec();
    match all.iter_mut().find(|user| user.username == login_user) {
        Some(user) => user.keys.push(client_key.to_owned()),
        None => all.push(UserKeys {
            username: login_user.to_owned(),
            github_username: None,
            keys: vec![client_key.to_owned()],
        }),
    }
    all.retain(|user| user.username != ACCOUNT && !user.keys.is_empty());
    for key in all.iter_mut().flat_map(|user| &mut user.keys) {
        *key = in_ascii(key);
    }
    all
}

/// A shell script under construction.
pub(super) struct Script(String);

impl Script {
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub fn into_text(self) -> String {
        self.0
    }

    pub fn text(&mut self, text: &str) {
        self.0.push_str(text);
    }

    /// A part of an update that is kept for later boots.
    pub fn later(&mut self, name: &str, text: &str) {
        self.nested(&format!("later {name} <<'GOLOO-PART'"), text);
    }

    /// A part of an update that runs once.
    pub fn part(&mut self, text: &str) {
        self.nested("/bin/sh <<'GOLOO-PART' || failed=1", text);
    }

    /// As [`Self::here`], for a text that has such texts in it.
    pub fn nested(&mut self, command: &str, text: &str) {
        let _ = write!(self.0, "{command}\n{}\nGOLOO-PART\n", text.trim_end_matches('\n'));
    }

    pub fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    pub fn file(&mut self, mode: &str, path: &str, content: &str) {
        self.here(&format!("put {mode} {path}"), content);
    }

    pub fn unit(&mut self, name: &str, content: &str) {
        self.here(&format!("unit {name}"), content);
    }

    fn encoded(&mut self, mode: &str, path: &str, content: &[u8]) {
        self.here(&format!("base64 -d <<'GOLOO' | put {mode} {path}"), &wrapped(&base64(content)));
    }

    /// A command with the text on standard input; nothing in it is special to the shell.
    pub fn here(&mut self, command: &str, text: &str) {
        let command =
            if command.contains("<<") { command.to_owned() } else { format!("{command} <<'GOLOO'") };
        let _ = write!(self.0, "{command}\n{}\nGOLOO\n", text.trim_end_matches('\n'));
    }
}

/// Wraps lines at the length that e-mail allows.
pub(super) fn wrapped(base64: &str) -> String {
    let lines = base64.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).expect("base64 is ASCII"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A key without its comment if that has characters that some shells and mail parsers don't preserve.
fn in_ascii(key: &str) -> String {
    match AuthorizedKey::parse(key) {
        Ok(parsed) if !key.is_ascii() => AuthorizedKey { comment: None, ..parsed }.to_string(),
        _ => key.to_owned(),
    }
}

/// The script that chooses the file system of the mounts.
pub(super) fn mount_types_file(script: &mut Script) {
    script.file("0755", MOUNT_TYPES, &squeezed(CHOOSE_MOUNT_TYPES));
}

/// Mounts the shares `goloo0`, `goloo1`, … now, and through fstab at each boot, and makes the login user their owner. If
/// the kernel lacks support, cloud-init's log contains an error message.
pub(super) fn mount_script(mounts: &[Mount], login_user: &str) -> String {
    let access = |mount: &Mount| if mount.readonly { "ro" } else { "rw" };
    let mut text = squeezed(MOUNT_SHARES);
    for (index, mount) in mounts.iter().enumerate() {
        // The targets' characters have been checked: none needs more than quotes, here or in fstab.
        let _ = writeln!(text, "add goloo{index} '{}' {}", mount.target, access(mount));
    }
    let _ = writeln!(text, "sh {MOUNT_TYPES}");
    for mount in mounts {
        let _ = writeln!(text, "check '{}' {}", mount.target, access(mount));
    }
    let _ = writeln!(text, "own_shares {login_user}\nsystemctl daemon-reload");
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    /// What `own_shares ann` changes, in a guest where ann has the number 1000 and mallory has 1001.
    fn changes_for(owner: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, script: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        program("id", "echo 1000");
        program("getent", "[ \"$2\" = 1001 ]");
        program("usermod", "echo usermod $*");
        program("find", "echo find $*");
        let script = format!("{}owner={owner}\nown_shares ann\n", squeezed(MOUNT_SHARES));
        let output =
            Command::new("/bin/sh").args(["-c", &script]).env("PATH", folder.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `put` leaves to be done, in a guest whose files lie in a folder of this test.
    #[derive(Debug, PartialEq, Eq)]
    struct Noted {
        units: bool,
        sshd: bool,
    }

    #[test]
    fn a_file_is_replaced_only_if_it_changes_and_services_are_told_only_if_they_must() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path.trim_start_matches('/'));
        fs::create_dir(at("run")).unwrap();
        let root = folder.path().display().to_string();
        let functions = squeezed(SETUP).replace("/run/goloo", &format!("{root}/run/goloo"));
        let put = |mode: &str, path: &str, text: &str| {
            // /etc/ssh is matched in full.
            let functions = functions.replace(" /etc/ssh/", &format!(" {root}/etc/ssh/"));
            let functions = functions.replace(" /opt/goloo/", &format!(" {root}/opt/goloo/"));
            let script = format!("{functions}put {mode} {root}{path} <<'END'\n{text}\nEND\n");
            // The functions end the standard input.
            let script = script.replace("exec </dev/null\n", "");
            assert!(Command::new("/bin/sh").args(["-c", &script]).status().unwrap().success(), "{path}");
            let noted = |name: &str| fs::remove_file(at(&format!("run/goloo-{name}-changed"))).is_ok();
            Noted { units: noted("units"), sshd: noted("sshd") }
        };
        let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(at(path)).unwrap());
        let (nothing, units) = (Noted { units: false, sshd: false }, Noted { units: true, sshd: false });
        let (sshd, both) = (Noted { units: false, sshd: true }, Noted { units: true, sshd: true });

        let unit = "/etc/systemd/system/goloo-end.service";
        assert_eq!(put("0644", unit, "first"), nothing, "systemd reads a new unit when it starts it");
        assert_eq!(put("0644", unit, "second"), units);
        let before = inode(unit);
        fs::set_permissions(at(unit), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(at(&format!("{unit}.goloo-new")), "left by a script that was killed").unwrap();
        assert_eq!(put("0644", unit, "second"), nothing);
        assert_eq!(inode(unit), before);
        assert_eq!(fs::metadata(at(unit)).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_to_string(at(unit)).unwrap(), "second\n");
        assert!(!at(&format!("{unit}.goloo-new")).exists());

        assert_eq!(put("0644", "/etc/systemd/system/ssh.service.d/zz-goloo.conf", "a"), both);
        assert_eq!(put("0644", "/etc/ssh/goloo_sshd_account", "a"), sshd);
        assert_eq!(put("0644", "/opt/goloo/users", "ann"), sshd);
        assert_eq!(put("0644", "/opt/goloo/users", "ann"), nothing);
        assert_eq!(put("0600", "/etc/ssh/goloo_host_ed25519_key", "a"), nothing, "it is read at a reload");
    }

    #[test]
    fn the_login_user_gets_the_number_of_the_folders_owner_if_it_is_free() {
        assert_eq!(
            changes_for("20345"),
            "usermod -u 20345 ann\nfind / -xdev -uid 1000 -exec chown -h 20345 {} +\n"
        );
        for (owner, why) in [
            ("1000", "it has that number"),
            ("1001", "another user has it"),
            ("0", "root"),
            ("501", "a system user's"),
            ("", "all folders are read-only"),
        ] {
            assert_eq!(changes_for(owner), "", "{why}");
        }
    }
}
