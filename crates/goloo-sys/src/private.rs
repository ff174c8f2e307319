//! Files and folders that only their user can read and write, and checks that they are private.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::owner::is_trusted_owner;

/// Creates a folder and its missing parents, with mode 0700 regardless of the umask.
///
/// # Errors
/// Those of the system.
pub fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_folders(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o700)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Why a file or folder of goloo is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Exposed {
    /// It belongs to another user.
    #[error("{} belongs to {}, not to the user who runs goloo ({})", .path.display(), user(*.owner), user(*.me))]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The effective user id of this process.
        me: u32,
    },
    /// Others can modify it.
    #[error("{} can be changed by other users (mode {mode:04o})", .path.display())]
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others can replace it.
    #[error("{} can be replaced by other users, because they can change {} (mode {mode:04o})", .place.display(), .path.display())]
    Above {
        /// The parent folder that others can write to.
        path: PathBuf,
        /// The file or folder.
        place: PathBuf,
        /// The folder's permission bits.
        mode: u32,
    },
    /// Another user can replace it.
    #[error("{} can be replaced by {}, who owns {}", .place.display(), user(*.owner), .path.display())]
    OwnerAbove {
        /// The parent folder.
        path: PathBuf,
        /// The file or folder.
        place: PathBuf,
        /// The folder's owner's user id.
        owner: u32,
    },
    /// Root would leave its own files in another user's folder.
    #[error("{} is in a folder of {}, and goloo runs as root", .path.display(), user(*.owner))]
    RootInHome {
        /// The file or folder, which need not exist.
        path: PathBuf,
        /// The owner's user id of the nearest folder that exists.
        owner: u32,
    },
}

impl Exposed {
    /// The command that fixes it.
    pub fn hint(&self) -> String {
        match self {
            // The contents of a folder may have been exposed with it.
            Self::Writable { path, .. } => format!("chmod -R go-w {}", in_shell(path)),
            Self::Above { path, .. } => format!("chmod go-w {}, or use another place", in_shell(path)),
            Self::Owner { path, .. } if !geteuid().is_root() && is_in_home(path) => {
                format!("sudo chown -R \"$(id -un)\" {}", in_shell(path))
            }
            Self::Owner { .. } | Self::OwnerAbove { .. } if !geteuid().is_root() => {
                "set a folder that you own: GOLOO_STATE_DIR, GOLOO_CONFIG_DIR, GOLOO_CACHE_DIR".to_owned()
            }
            Self::OwnerAbove { owner, .. } => format!("run goloo without sudo, as {}", user(*owner)),
            Self::Owner { owner, .. } | Self::RootInHome { owner, .. } => {
                format!("run goloo without sudo, as {}; for root's own VMs, use sudo -H", user(*owner))
            }
        }
    }
}

/// A user's login name, if /etc/passwd contains it, else the number.
fn user(id: u32) -> String {
    let passwd = crate::read::text(Path::new("/etc/passwd"), 16 << 20).unwrap_or_default();
    let field = |line: &str, at: usize| line.split(':').nth(at).map(str::to_owned);
    let found = passwd.lines().find(|line| field(line, 2).is_some_and(|uid| uid == id.to_string()));
    found.and_then(|line| field(line, 0)).unwrap_or_else(|| format!("user {id}"))
}

/// Whether a path is inside the user's home, but not the home itself.
fn is_in_home(path: &Path) -> bool {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.parent().is_some());
    home.is_some_and(|home| path != home && path.starts_with(&home))
}

/// A path or a name, quoted as one word for a shell.
pub fn in_shell(word: impl AsRef<Path>) -> String {
    let text = word.as_ref().to_string_lossy();
    shlex::try_quote(&text).map_or_else(|_| text.clone().into_owned(), std::borrow::Cow::into_owned)
}

/// Checks a file or folder that goloo keeps, as ssh checks its own: it belongs to this user, and nobody else can
/// write to it or replace it. One that doesn't exist is accepted, except below another user's folder when
/// goloo runs as root.
///
/// # Errors
/// [`Exposed`]. Errors of the system are ignored here; opening the file will report them.
pub fn check(path: &Path) -> Result<(), Exposed> {
    check_owned(path, false)
}

/// Like [`check`], inside a folder that has passed the check: the parents are the same, except behind a link.
///
/// # Errors
/// As [`check`].
pub fn check_within(path: &Path) -> Result<(), Exposed> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => check(path),
        Ok(found) if found.is_file() || found.is_dir() => check_metadata(path, &found, geteuid().as_raw()),
        _ => Ok(()),
    }
}

/// Like [`check`], for files that goloo only reads, such as settings: they may also belong to root.
///
/// # Errors
/// As [`check`].
pub fn check_readable(path: &Path) -> Result<(), Exposed> {
    check_owned(path, true)
}

/// Why a file of a user's project may have been written by another user; `None` if it wasn't, or doesn't exist. As in
/// git, root in a sudo shell accepts the files of the user who called sudo.
pub fn foreign(path: &Path) -> Option<String> {
    // Opening it reports any other type.
    let metadata = fs::metadata(path).ok().filter(|found| found.is_file() || found.is_dir())?;
    let (owner, me) = (metadata.uid(), geteuid().as_raw());
    let by_sudo = || me == 0 && std::env::var("SUDO_UID").is_ok_and(|uid| uid == owner.to_string());
    if !is_trusted_owner(owner) && !by_sudo() {
        return Some(format!("{} belongs to {}", path.display(), user(owner)));
    }
    let is_open = metadata.mode() & 0o002 != 0;
    is_open.then(|| format!("{} can be changed by all users", path.display()))
}

fn check_owned(path: &Path, may_be_roots: bool) -> Result<(), Exposed> {
    let me = geteuid().as_raw();
    match fs::metadata(path) {
        // Opening it reports the type.
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => Ok(()),
        Ok(metadata) => {
            // A link is reported by its target: that is what must be fixed.
            let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
            let place = if is_link { path.canonicalize().ok() } else { None };
            let place = place.as_deref().unwrap_or(path);
            let owner = if may_be_roots && metadata.uid() == 0 { 0 } else { me };
            check_metadata(place, &metadata, owner)?;
            check_above(path, me)
        }
        // What would be refused once it exists is refused before it is created.
        Err(error) if error.kind() == ErrorKind::NotFound => match nearest_owner(path) {
            Some(owner) if me == 0 && owner != 0 => Err(Exposed::RootInHome { path: path.to_owned(), owner }),
            _ => match path.ancestors().skip(1).find(|above| above.exists()) {
                Some(above) => check_folder_and_above(above, me),
                None => Ok(()),
            },
        },
        Err(_) => Ok(()),
    }
}

fn check_metadata(path: &Path, metadata: &Metadata, me: u32) -> Result<(), Exposed> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != me {
        return Err(Exposed::Owner { path: path.to_owned(), owner, me });
    }
    let by_group = mode & 0o020 != 0 && (has_acl(path) || !is_own_group(metadata.gid(), owner));
    if mode & 0o002 != 0 || by_group {
        return Err(Exposed::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Checks the parents: they belong to root or this user, and nobody else can write to them, unless only the owner of an
/// entry may move it (the sticky bit of /tmp). Links are resolved first: the file's real location is checked.
fn check_above(path: &Path, me: u32) -> Result<(), Exposed> {
    let Ok(place) = path.canonicalize() else { return Ok(()) };
    place.ancestors().skip(1).try_for_each(|above| check_one_above(&place, above, me))
}

/// The same for something that is about to be created in a folder.
fn check_folder_and_above(folder: &Path, me: u32) -> Result<(), Exposed> {
    let Ok(place) = folder.canonicalize() else { return Ok(()) };
    place.ancestors().try_for_each(|above| check_one_above(&place, above, me))
}

fn check_one_above(place: &Path, above: &Path, me: u32) -> Result<(), Exposed> {
    let Ok(metadata) = fs::metadata(above) else { return Ok(()) };
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let is_safe = [0, me].contains(&owner) || (owner == UNMAPPED && is_mapped());
    if !is_safe {
        return Err(Exposed::OwnerAbove { path: above.to_owned(), place: place.to_owned(), owner });
    }
    let is_own_group = is_own_group(metadata.gid(), me) || is_own_group(metadata.gid(), 0);
    let by_group = mode & 0o020 != 0 && (has_acl(above) || !is_own_group);
    if mode & 0o1000 == 0 && (mode & 0o002 != 0 || by_group) {
        return Err(Exposed::Above { path: above.to_owned(), place: place.to_owned(), mode });
    }
    Ok(())
}

/// The owner that a rootless container shows for folders mounted from its host.
const UNMAPPED: u32 = 65534;

/// Whether the process is in a user namespace, where owners may be unmapped.
fn is_mapped() -> bool {
    let map = crate::read::text(Path::new("/proc/self/uid_map"), 1 << 16).unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether the group's bits represent an access control list, which may grant access to others than the group.
fn has_acl(path: &Path) -> bool {
    let mut nothing: [u8; 0] = [];
    rustix::fs::getxattr(path, "system.posix_acl_access", &mut nothing).is_ok_and(|length| length > 0)
}

/// The owner of the nearest existing parent folder.
fn nearest_owner(path: &Path) -> Option<u32> {
    path.ancestors().skip(1).find_map(|above| fs::metadata(above).ok()).map(|metadata| metadata.uid())
}

/// Whether a group is the user's private one, without other members. Distributions that give each user such
/// a group use umask 002, and their ssh accepts group-writable files too.
fn is_own_group(gid: u32, owner: u32) -> bool {
    let Ok(groups) = crate::read::text(Path::new("/etc/group"), 16 << 20) else { return false };
    let name = user(owner);
    if is_primary_group_of_others(gid, owner) {
        return false;
    }
    let number = gid.to_string();
    let entry = groups
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| matches!(fields[..], [_, _, id, _] if id == number));
    match entry.as_deref() {
        Some([group, _, _, members]) => {
            *group == name && members.split(',').all(|member| member.is_empty() || member == name)
        }
        // The user isn't in these files (LDAP, a container): the group of the same number is theirs by convention.
        _ => gid == owner,
    }
}

/// Whether the group is the primary one of other users: /etc/group doesn't list such members.
fn is_primary_group_of_others(gid: u32, owner: u32) -> bool {
    let Ok(users) = crate::read::text(Path::new("/etc/passwd"), 16 << 20) else { return true };
    users.lines().any(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        matches!(fields[..], [_, _, uid, group, ..] if group == gid.to_string() && uid != owner.to_string())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn every_created_folder_is_private() {
        let above = tempfile::tempdir().unwrap();
        mode(above.path(), 0o755);
        create_folders(&above.path().join("a/b")).unwrap();
        for (path, expected) in [("", 0o755), ("a", 0o700), ("a/b", 0o700)] {
            let found = fs::metadata(above.path().join(path)).unwrap().mode() & 0o777;
            assert_eq!(found, expected, "{path}");
        }
        fs::write(above.path().join("file"), "").unwrap();
        let over_a_file = create_folders(&above.path().join("file")).unwrap_err();
        assert_eq!(over_a_file.kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_folder_writable_by_others_is_exposed_and_the_hint_repairs_it() {
        let folder = tempfile::tempdir().unwrap();
        for (bits, is_fine) in [(0o700, true), (0o755, true), (0o757, false), (0o1777, false)] {
            mode(folder.path(), bits);
            assert_eq!(check(folder.path()).is_ok(), is_fine, "{bits:o}");
        }
        let exposed = check(folder.path()).unwrap_err();
        assert_eq!(exposed.hint(), format!("chmod -R go-w {}", folder.path().display()));
        let repaired = std::process::Command::new("sh").args(["-c", &exposed.hint()]).status().unwrap();
        assert!(repaired.success());
        assert_eq!(check(folder.path()), Ok(()));
    }

    #[test]
    fn a_group_other_than_the_users_own_counts_as_others() {
        assert!(!is_own_group(u32::MAX - 7, geteuid().as_raw()));
    }

    #[test]
    fn a_folder_in_a_writable_parent_is_exposed_unless_the_sticky_bit_is_set() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("its place/state");
        create_folders(&folder).unwrap();
        for (bits, is_fine) in [(0o755, true), (0o1777, true), (0o777, false)] {
            mode(&above.path().join("its place"), bits);
            assert_eq!(check(&folder).is_ok(), is_fine, "{bits:o}");
        }
        let exposed = check(&folder).unwrap_err();
        let repair = exposed.hint().replace(", or use another place", "");
        assert!(std::process::Command::new("sh").args(["-c", &repair]).status().unwrap().success());
        assert_eq!(check(&folder), Ok(()));
        let link = above.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        mode(&above.path().join("its place"), 0o777);
        assert!(check(&link).is_err(), "the place is what the link leads to");
    }

    #[test]
    fn a_missing_folder_in_an_exposed_parent_is_refused_before_creation() {
        let above = tempfile::tempdir().unwrap();
        mode(above.path(), 0o777);
        assert!(check(&above.path().join("not/made/yet")).is_err());
        mode(above.path(), 0o755);
        assert_eq!(check(&above.path().join("not/made/yet")), Ok(()));
    }

    #[test]
    fn parents_within_a_checked_folder_are_checked_only_behind_a_symlink() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, link) = (folder.path().join("open/inner"), folder.path().join("link"));
        create_folders(&inner).unwrap();
        std::os::unix::fs::symlink(&inner, &link).unwrap();
        assert_eq!((check_within(&inner), check_within(&link)), (Ok(()), Ok(())));
        mode(&folder.path().join("open"), 0o777);
        assert!(check_within(&link).is_err());
        mode(&folder.path().join("open"), 0o755);
        mode(&inner, 0o777);
        assert!(check_within(&inner).is_err() && check_within(&link).is_err());
        assert_eq!(check_within(&folder.path().join("not there")), Ok(()));
    }

    #[test]
    fn a_file_that_is_read_only_may_belong_to_root() {
        let root_owned = Path::new("/etc/passwd");
        assert_eq!(check_readable(root_owned), Ok(()));
        assert_eq!(check(root_owned).is_ok(), geteuid().is_root());
    }

    #[test]
    fn a_hint_is_a_working_command_for_any_path() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("it's $HOME; `x`");
        create_folders(&folder).unwrap();
        mode(&folder, 0o777);
        let hint = check(&folder).unwrap_err().hint();
        assert!(std::process::Command::new("sh").args(["-c", &hint]).status().unwrap().success(), "{hint}");
        assert_eq!(check(&folder), Ok(()));
    }

    #[test]
    fn the_hint_for_a_foreign_folder_does_not_suggest_chown() {
        let exposed = Exposed::Owner { path: "/etc".into(), owner: 0, me: 1000 };
        assert!(!exposed.hint().contains("chown"), "{}", exposed.hint());
    }

    #[test]
    fn a_missing_path_below_an_own_folder_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(&folder.path().join("not/made/yet")), Ok(()));
    }

    #[test]
    fn a_foreign_owner_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = fs::metadata(folder.path()).unwrap();
        let exposed = check_metadata(folder.path(), &metadata, metadata.uid() + 1).unwrap_err();
        assert!(matches!(exposed, Exposed::Owner { .. }), "{exposed}");
    }
}
