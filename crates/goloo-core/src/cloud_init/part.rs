//! goloo's own part of the user-data: a cloud-config document that is merged behind the user's.

use serde_json::{Value, json};

use super::HostKey;
use crate::record::UserKeys;
use crate::spec::{Mount, ResolvedStack};

/// Lists are appended to the user's; of two values for one key the user's stays.
fn merge_how() -> Value {
    json!([
        {"name": "list", "settings": ["append"]},
        {"name": "dict", "settings": ["no_replace", "recurse_list"]},
    ])
}

/// Where sshd finds the keys that goloo brings. A second place beside the users' own files works
/// whatever the user's document does with users: of two entries for one user cloud-init keeps only
/// the first one's keys. Ubuntu from 20.04 and Debian from 11 read such drop-in files.
const KEY_FOLDER: &str = "/etc/ssh/goloo_keys";
const SSHD_DROP_IN: &str = "/etc/ssh/sshd_config.d/60-goloo.conf";
const CONFIGURE: &str = "/opt/goloo/configure.sh";

/// What the part is made from.
pub(super) struct Part<'a> {
    pub stack: &'a ResolvedStack,
    /// All users with keys, the login user among them.
    pub keys: &'a [UserKeys],
    pub host_key: &'a HostKey,
    /// Users that the user's document doesn't make; the first may become root.
    pub new_users: &'a [UserKeys],
    /// Whether the part's list of users must keep the image's own.
    pub with_default_user: bool,
    /// Folders to mount by 9p.
    pub mounts: &'a [Mount],
}

impl Part<'_> {
    /// The part as a cloud-config document. JSON is YAML, and leaves no doubt about quoting.
    pub fn document(&self) -> String {
        let mut config = json!({
            "merge_how": merge_how(),
            "ssh_deletekeys": true,
            "ssh_genkeytypes": ["ed25519"],
            "ssh_keys": {
                "ed25519_private": self.host_key.private_openssh,
                "ed25519_public": self.host_key.public_openssh,
            },
            "write_files": self.files(),
        });
        if !self.new_users.is_empty() {
            config["users"] = self.users();
        }
        let boot = self.boot_commands();
        if !boot.is_empty() {
            config["bootcmd"] = json!(boot);
        }
        if self.stack.configure.is_some() {
            // cloud-init makes one script of all commands, and the last one's status decides: a
            // failure right before must not be hidden by a configure.sh that works.
            config["runcmd"] = json!([format!("goloo_status=$?; {CONFIGURE} && exit $goloo_status")]);
        }
        let body = serde_json::to_string_pretty(&config).expect("JSON values have only string keys");
        format!("#cloud-config\n{body}\n")
    }

    fn files(&self) -> Vec<Value> {
        let drop_in = format!("AuthorizedKeysFile .ssh/authorized_keys {KEY_FOLDER}/%u\n");
        let mut files = vec![json!({"path": SSHD_DROP_IN, "permissions": "0644", "content": drop_in})];
        files.extend(self.keys.iter().filter(|user| !user.keys.is_empty()).map(|user| {
            let path = format!("{KEY_FOLDER}/{}", user.username);
            json!({"path": path, "permissions": "0644", "content": user.keys.join("\n") + "\n"})
        }));
        if let Some(script) = &self.stack.configure {
            files.push(json!({
                "path": CONFIGURE, "permissions": "0755", "owner": "root:root",
                "encoding": "b64", "content": base64(script),
            }));
        }
        files
    }

    fn users(&self) -> Value {
        let default = self.with_default_user.then(|| json!("default"));
        let users = self.new_users.iter().enumerate().map(|(index, user)| {
            let mut entry = json!({
                "name": user.username, "shell": "/bin/bash", "lock_passwd": true,
                "ssh_authorized_keys": user.keys,
            });
            if index == 0 {
                entry["sudo"] = json!("ALL=(ALL) NOPASSWD:ALL");
                entry["groups"] = json!("adm");
            }
            entry
        });
        default.into_iter().chain(users).collect()
    }

    /// Commands that run early on every boot.
    fn boot_commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        commands.extend(self.stack.ttl.map(end_after));
        commands.extend(mount(self.mounts));
        commands
    }
}

/// Mounts the shared folders before anything else needs them, on every boot. A kernel that can't is an
/// error of cloud-init's, with words in its log.
fn mount(mounts: &[Mount]) -> Option<String> {
    if mounts.is_empty() {
        return None;
    }
    let mut script = String::from(
        "goloo_status=$?\n\
         goloo_mount() {\n\
         \x20 mkdir -p \"$2\" && { mountpoint -q \"$2\" || modprobe -q 9pnet_virtio; } ; \n\
         \x20 mountpoint -q \"$2\" || mount -t 9p -o trans=virtio,version=9p2000.L,msize=131072 \"$1\" \"$2\" || {\n\
         \x20   echo \"goloo: $2 can't be mounted: the kernel of this image may have no 9p\" >&2\n\
         \x20   goloo_status=1\n\
         \x20 }\n\
         }\n",
    );
    for (index, mount) in mounts.iter().enumerate() {
        // The targets' characters are checked: none needs more than quotes.
        script.push_str(&format!("goloo_mount goloo{index} '{}'\n", mount.target));
    }
    script.push_str("(exit $goloo_status)\n");
    Some(script)
}

/// Powers the machine off so many seconds after its first boot, reboots included.
fn end_after(seconds: u64) -> String {
    format!(
        "[ -s /var/lib/goloo-end ] || echo $(($(date +%s) + {seconds})) > /var/lib/goloo-end\n\
         left=$(($(cat /var/lib/goloo-end) - $(date +%s)))\n\
         [ \"$left\" -gt 0 ] || left=1\n\
         systemd-run --quiet --unit=goloo-end --on-active=\"$left\" systemctl poweroff\n"
    )
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
