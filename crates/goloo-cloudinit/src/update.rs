//! What goloo changes in a machine that exists: users and their keys, its end, its mounts, and the size of its root. A
//! shell script that runs as root through goloo's account.

use goloo_model::record::UserKeys;
use goloo_model::spec::Mount;

use super::identity::{
    ACCOUNT, END, END_UNIT, MOUNT_TYPES, MOUNTS, SETUP, Script, mount_script, mount_types_file, user_keys,
    users_file,
};
use super::script::squeezed;

pub(super) const UPDATE: &str = include_str!("guest/update.sh");
const USERS: &str = include_str!("guest/users.sh");
const GROW: &str = include_str!("guest/grow.sh");

/// The users of a machine.
#[derive(Debug, Clone, Copy)]
pub struct UsersUpdate<'a> {
    /// goloo's own public key, which also opens the login user's account.
    pub client_key: &'a str,
    /// The login user.
    pub login_user: &'a str,
    /// All users with their keys.
    pub users: &'a [UserKeys],
    /// Those that are no longer among them.
    pub removed: &'a [String],
}

/// What is changed; what is `None` is left as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct GuestUpdate<'a> {
    /// The users and their keys.
    pub users: Option<UsersUpdate<'a>>,
    /// When the machine terminates itself, in seconds since 1970; `Some(None)` for never.
    pub end: Option<Option<i64>>,
    /// The folders of the host that the machine mounts itself, and the login user, who becomes their owner.
    pub mounts: Option<(&'a [Mount], &'a str)>,
    /// Whether the root takes up the space that the disk now has.
    pub grow: bool,
}

impl GuestUpdate<'_> {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.users.is_none() && self.end.is_none() && self.mounts.is_none() && !self.grow
    }
}

/// The script. It is idempotent, and fails if a part of it does.
pub fn update_script(update: &GuestUpdate<'_>) -> String {
    let mut script = Script::new(&format!("{}{}", squeezed(SETUP), squeezed(UPDATE)));
    if let Some(users) = &update.users {
        let names = users.users.iter().map(|user| user.username.as_str());
        script.file("0644", "/opt/goloo/users", &users_file(names, users.login_user));
        script.later("users", &users_part(users));
        // It creates the accounts that don't exist.
        script.line("sh /opt/goloo/before-sshd || failed=1");
    }
    if let Some(end) = update.end {
        end_part(&mut script, end);
    }
    if let Some((mounts, login_user)) = update.mounts {
        mount_types_file(&mut script);
        // Later boots mount them by fstab.
        script.part(&mounts_part(mounts, login_user));
        script.later("mounts", &format!("sh {MOUNT_TYPES}"));
    }
    if update.grow {
        script.text(&squeezed(GROW));
    }
    script.line("unit_before_sshd");
    // Not reload_units, which restarts sshd: this runs through it.
    script.line("reload_changed_units");
    if let Some(Some(_)) = update.end {
        script.line("run_unit goloo-end.service /bin/sh /opt/goloo/end");
    }
    script.line("exit $failed");
    script.into_text()
}

fn users_part(update: &UsersUpdate<'_>) -> String {
    let mut part = Script::new(&squeezed(USERS));
    for user in user_keys(update.users, update.login_user, update.client_key) {
        part.here(&format!("user {}", user.username), &user.keys.join("\n"));
    }
    for name in update.removed.iter().filter(|name| *name != ACCOUNT && *name != "root") {
        part.line(&format!("without {name}"));
    }
    part.line("exit $failed");
    part.into_text()
}

fn end_part(script: &mut Script, end: Option<i64>) {
    match end {
        Some(end) => {
            script.file("0755", "/opt/goloo/end", &squeezed(END));
            script.later("end", &format!("echo {end} >/var/lib/goloo/end"));
            script.unit("goloo-end.service", END_UNIT);
        }
        None => script.later(
            "end",
            "rm -f /var/lib/goloo/end\nsystemctl disable --now goloo-end.service >/dev/null 2>&1\nexit 0",
        ),
    }
}

/// The mounts of before end, since a share of the same name may now be another folder.
fn mounts_part(mounts: &[Mount], login_user: &str) -> String {
    let unmount = "awk '$1 ~ /^goloo[0-9]+$/ && $3 ~ /^(9p|virtiofs)$/ { print $2 }' /proc/mounts | \
         while read -r target; do umount \"$target\" || umount -l \"$target\"; done\n\
         sed -i -E '/^goloo[0-9]+ [^ ]+ (9p|virtiofs) /d' /etc/fstab\n";
    let mut part = Script::new(unmount);
    if !mounts.is_empty() {
        part.here(&format!("cat >{MOUNTS}"), &mount_script(mounts, login_user));
        part.line(&format!("chmod 0755 {MOUNTS}"));
        part.line(&format!("exec /bin/sh {MOUNTS}"));
    }
    part.into_text()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_script_that_mounts_folders_is_written_in_full() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let mount = Mount { source: "/a".into(), target: "/srv/a".to_owned(), readonly: false };
        let part = mounts_part(std::slice::from_ref(&mount), "ann");
        let (write, run) = part.split_once("exec /bin/sh").unwrap();
        assert_eq!(run.trim(), MOUNTS);
        // Neither the mounts nor the fstab of this computer.
        let write = write
            .replace(MOUNTS, &at("mounts.sh"))
            .replace("/etc/fstab", &at("fstab"))
            .replace("/proc/mounts", &at("fstab"));
        std::fs::write(at("fstab"), "").unwrap();
        // As in an update, the shell reads it from standard input.
        let mut shell = Command::new("/bin/sh").stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut shell.stdin.take().unwrap(), write.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
        let written = std::fs::read_to_string(at("mounts.sh")).unwrap();
        let expected = mount_script(&[mount], "ann").replace("/etc/fstab", &at("fstab"));
        assert_eq!(written, expected);
    }
}
