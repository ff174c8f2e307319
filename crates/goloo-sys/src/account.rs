//! The account that controls a path: root must act there with the rights of that account only.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::process::geteuid;

/// The maximum number of links that are followed in one path, as in Linux.
const LINKS_MAX: u32 = 40;

/// A user id with the id of one of their groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// The primary group, or if /etc/passwd doesn't contain the user the group of their folder.
    pub gid: u32,
}

/// The first account other than this process's own and root's that owns a folder, file or link along `path`,
/// which is absolute and need not exist: that user can make the rest of the path point anywhere.
///
/// # Errors
/// Those of the system; cyclic links; a user whose group is unknown.
pub fn on_the_way_to(path: &Path) -> io::Result<Option<Account>> {
    let mut left: VecDeque<OsString> = words(path).collect();
    let (mut here, mut links) = (PathBuf::from("/"), 0);
    while let Some(word) = left.pop_front() {
        let next = here.join(word);
        let found = match std::fs::symlink_metadata(&next) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        if found.uid() != 0 && found.uid() != geteuid().as_raw() {
            return account(found.uid(), found.gid()).map(Some);
        }
        if !found.is_symlink() {
            here = next;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(io::Error::other("too many links"));
        }
        let target = std::fs::read_link(&next)?;
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        for word in words(&target).collect::<Vec<_>>().into_iter().rev() {
            left.push_front(word);
        }
    }
    Ok(None)
}

fn words(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(word) => Some(word.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// The login name of a user according to /etc/passwd; `None` for a user that isn't in it, as from a directory service.
pub fn login_name(uid: u32) -> Option<String> {
    let users = users();
    let line = users.lines().find(|line| uid_in(line) == Some(uid))?;
    line.split(':').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

fn users() -> String {
    crate::read::text(Path::new("/etc/passwd"), 16 << 20).unwrap_or_default()
}

fn uid_in(line: &str) -> Option<u32> {
    line.split(':').nth(2)?.parse().ok()
}

/// A folder's group is only a fallback, and never root's: the user would gain rights that they lack.
fn account(uid: u32, folder_gid: u32) -> io::Result<Account> {
    let users = users();
    let line = users.lines().find(|line| uid_in(line) == Some(uid));
    let primary = line.and_then(|line| line.split(':').nth(3)?.parse().ok());
    match primary.or((folder_gid != 0).then_some(folder_gid)) {
        Some(gid) => Ok(Account { uid, gid }),
        None => Err(io::Error::other(format!("the group of user {uid} is unknown"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{chown, lchown, symlink};

    use super::*;

    /// A user id that no system uses.
    const USER: u32 = 54_321;

    #[test]
    fn a_login_name_is_that_of_the_system() {
        assert_eq!(login_name(0).as_deref(), Some("root"));
        assert_eq!(login_name(USER), None);
    }

    #[test]
    fn the_first_non_root_owner_on_a_path_is_found_through_root_owned_links() {
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["root/inner", "theirs/.cache", "group-of-root"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        chown(at("theirs"), Some(USER), Some(USER + 1)).unwrap();
        chown(at("group-of-root"), Some(USER), Some(0)).unwrap();
        symlink(at("theirs"), at("root/to-theirs")).unwrap();
        symlink("../theirs", at("root/relative")).unwrap();
        symlink(at("root"), at("a-link-of-theirs")).unwrap();
        lchown(at("a-link-of-theirs"), Some(USER), Some(USER + 1)).unwrap();
        symlink("circle", at("circle")).unwrap();
        let theirs = Some(Account { uid: USER, gid: USER + 1 });
        for (path, expected) in [
            ("root/inner", None),
            ("root/not/made/yet", None),
            ("theirs", theirs),
            ("theirs/.cache/not/made", theirs),
            ("root/to-theirs/.cache", theirs),
            ("root/relative/.cache", theirs),
            ("root/inner/../../theirs/.cache", theirs),
            ("a-link-of-theirs/inner", theirs),
        ] {
            assert_eq!(on_the_way_to(&at(path)).unwrap(), expected, "{path}");
        }
        on_the_way_to(&at("group-of-root/x")).unwrap_err();
        on_the_way_to(&at("circle/x")).unwrap_err();
        // Debian's nobody is in every /etc/passwd.
        chown(at("group-of-root"), Some(65_534), Some(0)).unwrap();
        assert_eq!(on_the_way_to(&at("group-of-root/x")).unwrap().map(|account| account.gid), Some(65_534));
    }
}
