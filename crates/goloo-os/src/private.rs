//! Files and folders that only their user reads and writes, and what tells that one isn't private.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// Makes a folder and those above it that aren't there; what is made has mode 0700 whatever the umask.
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

/// Why a file or folder of goloo's isn't used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Exposed {
    /// It is somebody else's.
    #[error("{} belongs to {}, not to the user who runs goloo ({})", .path.display(), user(*.owner), user(*.me))]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The effective user id of this process.
        me: u32,
    },
    /// Others can change it.
    #[error("{} can be changed by other users (mode {mode:04o})", .path.display())]
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others can put another one in its place.
    #[error("{} can be replaced by other users: {} is theirs to change (mode {mode:04o})", .place.display(), .path.display())]
    Above {
        /// The folder above that others can write.
        path: PathBuf,
        /// The file or folder.
        place: PathBuf,
        /// The folder's permission bits.
        mode: u32,
    },
    /// Another user can put another one in its place.
    #[error("{} can be replaced by {}: {} is theirs", .place.display(), user(*.owner), .path.display())]
    OwnerAbove {
        /// The folder above.
        path: PathBuf,
        /// The file or folder.
        place: PathBuf,
        /// The folder's owner's user id.
        owner: u32,
    },
    /// Root would leave its own files where another user's are.
    #[error("{} is in a folder of {}, and goloo runs as root", .path.display(), user(*.owner))]
    RootInHome {
        /// The file or folder, which need not exist.
        path: PathBuf,
        /// The owner's user id of the nearest folder that exists.
        owner: u32,
    },
}

impl Exposed {
    /// The command that repairs it.
    pub fn hint(&self) -> String {
        match self {
            // What lies in a folder may have been opened with it.
            Self::Writable { path, .. } => format!("chmod -R go-w {}", in_shell(path)),
            Self::Above { path, .. } => format!("chmod go-w {}, or name another place", in_shell(path)),
            Self::Owner { path, .. } if !geteuid().is_root() && is_in_home(path) => {
                format!("sudo chown -R \"$(id -un)\" {}", in_shell(path))
            }
            Self::Owner { .. } | Self::OwnerAbove { .. } if !geteuid().is_root() => {
                "name a folder of your own: GOLOO_STATE_DIR, GOLOO_CONFIG_DIR, GOLOO_CACHE_DIR".to_owned()
            }
            Self::OwnerAbove { owner, .. } => format!("run goloo without sudo, as {}", user(*owner)),
            Self::Owner { owner, .. } | Self::RootInHome { owner, .. } => {
                format!("run goloo without sudo, as {}; for VMs of root's own: sudo -H goloo …", user(*owner))
            }
        }
    }
}

/// A user's login name, where /etc/passwd has it, else the number.
fn user(id: u32) -> String {
    let passwd = crate::read::text(Path::new("/etc/passwd"), 16 << 20).unwrap_or_default();
    let field = |line: &str, at: usize| line.split(':').nth(at).map(str::to_owned);
    let found = passwd.lines().find(|line| field(line, 2).is_some_and(|uid| uid == id.to_string()));
    found.and_then(|line| field(line, 0)).unwrap_or_else(|| format!("user {id}"))
}

/// Whether a path lies in the user's home, and isn't it.
fn is_in_home(path: &Path) -> bool {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.parent().is_some());
    home.is_some_and(|home| path != home && path.starts_with(&home))
}

/// A path as one word of a command for a shell.
pub fn in_shell(path: &Path) -> String {
    let text = path.to_string_lossy();
    shlex::try_quote(&text).map_or_else(|_| text.clone().into_owned(), std::borrow::Cow::into_owned)
}

/// Checks a file or folder that goloo keeps, as ssh checks its own: it belongs to this user, and nobody else can
/// write it or put another one in its place. One that doesn't exist passes, except below another user's folder when
/// goloo runs as root.
///
/// # Errors
/// [`Exposed`]. Errors of the system are ignored here; opening the file will report them.
pub fn check(path: &Path) -> Result<(), Exposed> {
    check_owned(path, false)
}

/// The same for what lies in a folder that has passed: the folders above are the same, except behind a link.
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

/// The same for what goloo only reads, such as settings: it may belong to root, too.
///
/// # Errors
/// As [`check`].
pub fn check_readable(path: &Path) -> Result<(), Exposed> {
    check_owned(path, true)
}

fn check_owned(path: &Path, may_be_roots: bool) -> Result<(), Exposed> {
    let me = geteuid().as_raw();
    match fs::metadata(path) {
        // Opening it reports what it is.
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => Ok(()),
        Ok(metadata) => {
            // A link is named by what it leads to: that is what must be repaired.
            let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
            let place = if is_link { path.canonicalize().ok() } else { None };
            let place = place.as_deref().unwrap_or(path);
            let owner = if may_be_roots && metadata.uid() == 0 { 0 } else { me };
            check_metadata(place, &metadata, owner)?;
            check_above(path, me)
        }
        // What is refused once it exists is refused before it is created.
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

/// The folders above: root's or this user's, and writable by nobody else, except where only the owner of an entry may
/// move it (the sticky bit of /tmp). Links are resolved first: what counts is where the file is.
fn check_above(path: &Path, me: u32) -> Result<(), Exposed> {
    let Ok(place) = path.canonicalize() else { return Ok(()) };
    place.ancestors().skip(1).try_for_each(|above| check_one_above(&place, above, me))
}

/// The same for what is still to be made in a folder.
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

/// What a container without root of its own shows for the owner of the folders that its host gave it.
const UNMAPPED: u32 = 65534;

/// Whether the process is in a user namespace, where owners may be unmapped.
fn is_mapped() -> bool {
    let map = crate::read::text(Path::new("/proc/self/uid_map"), 1 << 16).unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether the group's bits stand for an access control list, which may let in others than the group.
fn has_acl(path: &Path) -> bool {
    let mut nothing: [u8; 0] = [];
    rustix::fs::getxattr(path, "system.posix_acl_access", &mut nothing).is_ok_and(|length| length > 0)
}

/// The owner of the nearest folder above that exists.
fn nearest_owner(path: &Path) -> Option<u32> {
    path.ancestors().skip(1).find_map(|above| fs::metadata(above).ok()).map(|metadata| metadata.uid())
}

/// Whether a group is the user's private one, where nobody else is a member. Distributions that give each user such
/// a group use umask 002, and their ssh takes group-writable files too.
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

/// Whether another user's files are this group's by default: /etc/group doesn't list such members.
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
    fn every_folder_that_is_made_is_private() {
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
    fn what_others_can_write_is_exposed_and_the_hint_repairs_it() {
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
    fn a_group_that_is_not_the_users_own_counts_as_others() {
        assert!(!is_own_group(u32::MAX - 7, geteuid().as_raw()));
    }

    #[test]
    fn a_folder_that_others_can_replace_is_exposed_and_one_with_the_sticky_bit_is_not() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("its place/state");
        create_folders(&folder).unwrap();
        for (bits, is_fine) in [(0o755, true), (0o1777, true), (0o777, false)] {
            mode(&above.path().join("its place"), bits);
            assert_eq!(check(&folder).is_ok(), is_fine, "{bits:o}");
        }
        let exposed = check(&folder).unwrap_err();
        let repair = exposed.hint().replace(", or name another place", "");
        assert!(std::process::Command::new("sh").args(["-c", &repair]).status().unwrap().success());
        assert_eq!(check(&folder), Ok(()));
        let link = above.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        mode(&above.path().join("its place"), 0o777);
        assert!(check(&link).is_err(), "the place is what the link leads to");
    }

    #[test]
    fn what_would_be_refused_once_it_is_there_is_refused_before_it_is_made() {
        let above = tempfile::tempdir().unwrap();
        mode(above.path(), 0o777);
        assert!(check(&above.path().join("not/made/yet")).is_err());
        mode(above.path(), 0o755);
        assert_eq!(check(&above.path().join("not/made/yet")), Ok(()));
    }

    #[test]
    fn what_lies_in_a_folder_that_passed_is_checked_itself_and_behind_a_link_as_a_place_of_its_own() {
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
    fn what_is_only_read_may_be_root_s() {
        let root_owned = Path::new("/etc/passwd");
        assert_eq!(check_readable(root_owned), Ok(()));
        assert_eq!(check(root_owned).is_ok(), geteuid().is_root());
    }

    #[test]
    fn a_hint_is_the_command_for_any_path() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("it's $HOME; `x`");
        create_folders(&folder).unwrap();
        mode(&folder, 0o777);
        let hint = check(&folder).unwrap_err().hint();
        assert!(std::process::Command::new("sh").args(["-c", &hint]).status().unwrap().success(), "{hint}");
        assert_eq!(check(&folder), Ok(()));
    }

    #[test]
    fn the_hint_for_a_folder_of_somebody_else_gives_nothing_away() {
        let exposed = Exposed::Owner { path: "/etc".into(), owner: 0, me: 1000 };
        assert!(!exposed.hint().contains("chown"), "{}", exposed.hint());
    }

    #[test]
    fn what_does_not_exist_below_an_own_folder_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(&folder.path().join("not/made/yet")), Ok(()));
    }

    #[test]
    fn another_owner_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = fs::metadata(folder.path()).unwrap();
        let exposed = check_metadata(folder.path(), &metadata, metadata.uid() + 1).unwrap_err();
        assert!(matches!(exposed, Exposed::Owner { .. }), "{exposed}");
    }
}
