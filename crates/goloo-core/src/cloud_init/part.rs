//! goloo's own part of the user-data: a cloud-config document that is merged behind the user's.

use serde_json::{Map, Value, json};

use super::HostKey;
use super::targets::Collection;
use crate::record::UserKeys;
use crate::spec::{Mount, ResolvedStack};

/// How lists are put together with the user's; of two values for one key the user's stays.
fn merge_how(lists: &str) -> Value {
    json!([
        {"name": "list", "settings": [lists]},
        {"name": "dict", "settings": ["no_replace", "recurse_list"]},
    ])
}

/// Where sshd finds the keys that goloo brings. A second place beside the users' own files works
/// whatever the user's document does with users: of two entries for one user cloud-init keeps only
/// the first one's keys. Ubuntu from 20.04 and Debian from 11 read such drop-in files.
const KEY_FOLDER: &str = "/etc/ssh/goloo_keys";
/// goloo's settings for sshd. Their name is in the user-data of every machine that goloo makes: it tells
/// such a machine from others.
pub const SSHD_DROP_IN: &str = "/etc/ssh/sshd_config.d/60-goloo.conf";
const MOUNTS: &str = "/opt/goloo/mounts.sh";
const CONFIGURE: &str = "/opt/goloo/configure.sh";

/// What the part is made from.
pub(super) struct Part<'a> {
    pub stack: &'a ResolvedStack,
    /// All users with keys, the login user among them.
    pub keys: &'a [UserKeys],
    pub host_key: &'a HostKey,
    /// Users that the user's document doesn't make.
    pub new_users: &'a [UserKeys],
    /// Whom goloo logs in as: where the part makes this user, it may become root.
    pub login_user: &'a str,
    /// Whether the part's list of users must keep the image's own.
    pub with_default_user: bool,
    /// Folders to mount by 9p.
    pub mounts: &'a [Mount],
}

impl Part<'_> {
    /// The part as a cloud-config document beside the user's.
    pub fn document(&self) -> String {
        let mut config = json!({"merge_how": merge_how("append")});
        config.as_object_mut().expect("made as an object").extend(self.config());
        cloud_config(&config)
    }

    /// What must be merged before the part: something to add to in place of these keys' empty values, which
    /// cloud-init would else keep. It counts even where they aren't there in the end.
    pub fn room(&self, emptied: &[(&str, Collection)]) -> Option<String> {
        let mut config = json!({"merge_how": [{"name": "dict", "settings": ["replace"]}]});
        for (key, collection) in emptied {
            config[*key] = collection.empty();
        }
        (!emptied.is_empty()).then(|| cloud_config(&config))
    }

    /// The user's lists and mappings that the part adds to, wherever it stands.
    pub fn targets(&self) -> Vec<(String, Collection)> {
        let mut config = self.config();
        config.extend(self.first_config().unwrap_or_default());
        config
            .into_iter()
            .filter_map(|(key, value)| Collection::of(&value).map(|target| (key, target)))
            .collect()
    }

    /// What the part says, wherever it stands.
    pub fn config(&self) -> Map<String, Value> {
        let mut config = json!({
            "ssh_deletekeys": true,
            "ssh_genkeytypes": ["ed25519"],
            "ssh_keys": {
                "ed25519_private": self.host_key.private_openssh.expose(),
                "ed25519_public": self.host_key.public_openssh,
            },
            "write_files": self.files(),
        });
        if !self.new_users.is_empty() {
            config["users"] = self.users();
        }
        if let Some(seconds) = self.stack.ttl {
            config["bootcmd"] = json!([end_after(seconds)]);
        }
        if self.stack.configure.is_some() {
            // cloud-init makes one script of all commands, and the last one's status decides: a
            // failure right before must not be hidden by a configure.sh that works.
            config["runcmd"] = json!([format!("goloo_status=$?; {CONFIGURE} && exit $goloo_status")]);
        }
        std::mem::take(config.as_object_mut().expect("made as an object"))
    }

    /// What must be merged in front of the user's lists: the mounts, for commands that want them. They
    /// come after the users are made, for a target in a home folder must not make the home.
    pub fn first_document(&self) -> Option<String> {
        self.first_config().map(|first| {
            let mut config = json!({"merge_how": merge_how("prepend")});
            config.as_object_mut().expect("made as an object").extend(first);
            cloud_config(&config)
        })
    }

    fn first_config(&self) -> Option<Map<String, Value>> {
        let command = format!("{MOUNTS} || exit 1");
        (!self.mounts.is_empty()).then(|| Map::from_iter([("runcmd".to_owned(), json!([command]))]))
    }

    fn files(&self) -> Vec<Value> {
        let drop_in = format!("AuthorizedKeysFile .ssh/authorized_keys {KEY_FOLDER}/%u\n");
        let mut files = vec![json!({"path": SSHD_DROP_IN, "permissions": "0644", "content": drop_in})];
        files.extend(self.keys.iter().filter(|user| !user.keys.is_empty()).map(|user| {
            let path = format!("{KEY_FOLDER}/{}", user.username);
            json!({"path": path, "permissions": "0644", "content": user.keys.join("\n") + "\n"})
        }));
        if !self.mounts.is_empty() {
            files.push(json!({"path": MOUNTS, "permissions": "0755", "content": mount_script(self.mounts)}));
            // Kernels before 5.17 don't find the transport by themselves.
            let path = "/etc/modules-load.d/goloo.conf";
            files.push(json!({"path": path, "permissions": "0644", "content": "9p\n9pnet_virtio\n"}));
        }
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
        let users = self.new_users.iter().map(|user| {
            let mut entry = json!({
                "name": user.username, "shell": "/bin/bash", "lock_passwd": true,
            });
            // cloud-init's schema takes no empty list.
            if !user.keys.is_empty() {
                entry["ssh_authorized_keys"] = json!(user.keys);
            }
            if user.username == self.login_user {
                entry["sudo"] = json!("ALL=(ALL) NOPASSWD:ALL");
                entry["groups"] = json!("adm");
            }
            entry
        });
        default.into_iter().chain(users).collect()
    }
}

/// Mounts the shares `goloo0`, `goloo1`, … now, and by way of fstab at each boot. A kernel that can't
/// is an error with words in cloud-init's log.
fn mount_script(mounts: &[Mount]) -> String {
    let share = |(index, mount): (usize, &Mount)| {
        // The targets' characters are checked: none needs more than quotes, here or in fstab.
        format!("share goloo{index} '{}'\n", mount.target)
    };
    let shares: String = mounts.iter().enumerate().map(share).collect();
    format!(
        r#"#!/bin/sh
# Folders of the host (vm.mounts).
fail() {{
    echo "goloo: $*" >&2
    exit 1
}}
share() {{
    mkdir -p "$2" || fail "can't make the folder $2"
    grep -q "^$1 " /etc/fstab ||
        printf '%s %s 9p trans=virtio,version=9p2000.L,msize=131072,nofail 0 0\n' "$1" "$2" >>/etc/fstab
    mountpoint -q "$2" || mount "$2" || fail "can't mount a folder of the host at $2"
}}
grep -qw 9p /proc/filesystems || modprobe 9p ||
    fail "the kernel $(uname -r) has no 9p file system, which vm.mounts needs: take an image with a full kernel"
modprobe -q 9pnet_virtio
{shares}systemctl daemon-reload
"#
    )
}

/// Powers the machine off so many seconds after its first boot, reboots included. It runs
/// in the background: systemd answers it when the boot is further on, and the boot waits for this
/// command (even with `--no-block`, as a real machine showed). All boot commands are one script whose
/// last status decides: a failure right before is handed on.
fn end_after(seconds: u64) -> String {
    format!(
        "goloo_status=$?\n\
         [ -s /var/lib/goloo-end ] || echo $(($(date +%s) + {seconds})) > /var/lib/goloo-end\n\
         left=$(($(cat /var/lib/goloo-end) - $(date +%s)))\n\
         [ \"$left\" -gt 0 ] || left=1\n\
         systemd-run --quiet --unit=goloo-end --on-active=\"$left\" systemctl poweroff </dev/null >>/var/log/goloo-end.log 2>&1 &\n\
         (exit $goloo_status)\n"
    )
}

/// JSON is YAML, and leaves no doubt about quoting.
fn cloud_config(config: &Value) -> String {
    let body = serde_json::to_string_pretty(config).expect("JSON values have only string keys");
    format!("#cloud-config\n{body}\n")
}

pub(super) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
