//! Changes a hosts file atomically: writes a temporary file next to it and renames it over the original.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use goloo_model::host_names::HostNamesError;
use goloo_sys::lock::{self, LockTimeouts};
use goloo_sys::{durable, read};

use super::text::{Change, Edited, Taken};

/// The system's hosts file.
pub(super) const HOSTS: &str = "/etc/hosts";

/// The largest hosts file, in bytes. Blocklists of advertisers reach some MiB.
const FILE_MAX: u64 = 64 << 20;

/// The result of an edit.
#[derive(Debug, PartialEq, Eq)]
pub enum Done {
    /// The file is as it should be.
    Sound,
    /// The same, and the missing end of goloo's block was restored.
    Mended,
}

/// Applies a change to the hosts file; `Denied` when another user might be allowed to. `on_wait` is called when it has
/// to wait for another goloo process.
pub fn edit(path: &Path, change: &Change, on_wait: impl FnOnce(&Path)) -> Result<Done, HostNamesError> {
    // A symlink is kept: its target is changed.
    let place = match path.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound && matches!(change, Change::Remove(_)) => {
            return Ok(Done::Sound);
        }
        other => other.map_err(failed("find", path))?,
    };
    let folder = place.parent().unwrap_or(&place);
    // If nothing changes, no write permission is needed.
    let (old, edited) = edited(&place, change)?;
    if edited.text == old {
        if temporary(&place, folder).exists()
            && let Ok(leftover) = draft(&place, folder, on_wait)
        {
            leftover.discard();
        }
        return Ok(Done::of(&edited));
    }
    let draft = draft(&place, folder, on_wait)?;
    let (old, edited) = self::edited(&place, change)?;
    if edited.text == old {
        draft.discard();
    } else {
        draft.publish(&edited.text)?;
        durable::sync_folder(folder).map_err(failed("sync", folder))?;
    }
    Ok(Done::of(&edited))
}

impl Done {
    fn of(edited: &Edited) -> Self {
        if edited.mended { Self::Mended } else { Self::Sound }
    }
}

/// The file's text, and the new text.
fn edited(place: &Path, change: &Change) -> Result<(Vec<u8>, Edited), HostNamesError> {
    let old = read::file(place, FILE_MAX).map_err(failed("read", place))?;
    let edited = change
        .apply(&old)
        .map_err(|Taken| HostNamesError::Taken { place: place.to_owned(), name: change.name().clone() })?;
    Ok((old, edited))
}

/// The right to replace the hosts file. Its lock excludes all other goloo processes, of any user: a lost update would
/// be a lost line.
///
/// The lock is on a separate file that only its owner can open. It can't be on the file that becomes the hosts file:
/// that must be world-readable before the rename, and anyone who can open it could keep it locked after a crash. Nor
/// can it be on the hosts file, which is replaced by each change, or on its folder, which anyone who can read it can
/// lock.
struct Draft<'p> {
    _lock: File,
    path: PathBuf,
    place: &'p Path,
}

fn draft<'p>(
    place: &'p Path,
    folder: &Path,
    on_wait: impl FnOnce(&Path),
) -> Result<Draft<'p>, HostNamesError> {
    let path = temporary(place, folder);
    let lock =
        lock::take_draft(&path, LockTimeouts::default(), || on_wait(&path)).map_err(failed("lock", &path))?;
    Ok(Draft { _lock: lock, path, place })
}

impl Draft<'_> {
    fn discard(self) {
        // A leftover is reused by the next edit. The lock file is removed last, while it is still locked.
        let _ = fs::remove_file(self.text());
        let _ = fs::remove_file(&self.path);
    }

    /// The path of the new text.
    fn text(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        name.into()
    }

    /// Replaces the hosts file durably, keeping its owner and mode.
    fn publish(self, text: &[u8]) -> Result<(), HostNamesError> {
        let path = self.text();
        let replaced = self
            .write(text, &path)
            .and_then(|()| fs::rename(&path, self.place).map_err(failed("replace", self.place)));
        // The error above is the one to report.
        self.discard();
        replaced
    }

    fn write(&self, text: &[u8], path: &Path) -> Result<(), HostNamesError> {
        let old = self.place.metadata().map_err(failed("read the metadata of", self.place))?;
        // A leftover of a killed goloo process can be removed: this process holds the lock.
        let _ = fs::remove_file(path);
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = new.map_err(failed("write", path))?;
        file.write_all(text).map_err(failed("write", path))?;
        let new = file.metadata().map_err(failed("read the metadata of", path))?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid())).map_err(failed("change the owner of", path))?;
        }
        let mode = fs::Permissions::from_mode(old.mode() & 0o7777);
        file.set_permissions(mode).map_err(failed("set the mode of", path))?;
        file.sync_all().map_err(failed("sync", path))
    }
}

/// Always the same name, so that at most one is left behind.
fn temporary(place: &Path, folder: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(place.file_name().unwrap_or_default());
    name.push(".goloo");
    folder.join(name)
}

fn failed(action: &'static str, place: &Path) -> impl FnOnce(io::Error) -> HostNamesError {
    let place = place.to_owned();
    move |source| match source.kind() {
        ErrorKind::PermissionDenied => HostNamesError::Denied { place, reason: source.to_string() },
        _ => HostNamesError::Io { action, place, source },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::name::VmName;

    use super::*;

    fn edit(path: &Path, change: &Change) -> Result<Done, HostNamesError> {
        super::edit(path, change, |_| ())
    }

    fn set(vm: &str, last: u8) -> Change {
        Change::Set(VmName::parse(vm).unwrap(), [10, 0, 0, last].into())
    }

    fn remove(vm: &str) -> Change {
        Change::Remove(VmName::parse(vm).unwrap())
    }

    const HOSTS: &str = "127.0.0.1 localhost\n";
    const WITH_WEB: &str = "127.0.0.1 localhost\n# BEGIN goloo\n10.0.0.2 web\n# END goloo\n";

    fn hosts(folder: &Path) -> PathBuf {
        let path = folder.join("hosts");
        fs::write(&path, HOSTS).unwrap();
        path
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_edit_keeps_mode_and_owner_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = hosts(folder.path());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        let is_root = path.metadata().unwrap().uid() == 0;
        if is_root {
            std::os::unix::fs::chown(&path, Some(12), Some(34)).unwrap();
        }
        let before = path.metadata().unwrap();
        edit(&path, &set("web", 2)).unwrap();
        let after = path.metadata().unwrap();
        assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
        assert_eq!(fs::read_to_string(&path).unwrap(), WITH_WEB);
        assert_eq!(names(folder.path()), ["hosts"]);
    }

    #[test]
    fn a_file_without_changes_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = hosts(folder.path());
        edit(&path, &set("web", 2)).unwrap();
        // Held open so that its inode number isn't reused.
        let before = File::open(&path).unwrap();
        let is_the_same = || path.metadata().unwrap().ino() == before.metadata().unwrap().ino();
        edit(&path, &set("web", 2)).unwrap();
        edit(&path, &remove("other")).unwrap();
        assert!(is_the_same());
        edit(&path, &set("web", 3)).unwrap();
        assert!(!is_the_same(), "it is replaced, and never half written");
    }

    #[test]
    fn a_symlink_is_followed_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let path = hosts(folder.path());
        let link = other.path().join("hosts");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        edit(&link, &set("web", 2)).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), WITH_WEB);
        assert_eq!((names(folder.path()), names(other.path())), (vec!["hosts".into()], vec!["hosts".into()]));
    }

    #[test]
    fn a_leftover_temporary_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = hosts(folder.path());
        let leftover = temporary(&path, folder.path());
        fs::write(&leftover, "half a li").unwrap();
        fs::set_permissions(&leftover, fs::Permissions::from_mode(0o400)).unwrap();
        edit(&path, &set("web", 2)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), WITH_WEB);
        assert_eq!(names(folder.path()), ["hosts"]);
    }

    /// A goloo process killed before the rename leaves a file that everyone can open, and so lock indefinitely.
    #[test]
    fn a_leftover_locked_by_another_process_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let path = hosts(folder.path());
        let draft = draft(&path, folder.path(), |_| ()).unwrap();
        draft.write(WITH_WEB.as_bytes(), &draft.text()).unwrap();
        let text = draft.text();
        let public = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path() != path && entry.metadata().unwrap().mode() & 0o077 != 0);
        assert_eq!(public.map(|entry| entry.path()).collect::<Vec<_>>(), std::slice::from_ref(&text));
        // As if it had been killed: the lock is released and the files stay.
        drop(draft);
        let others = File::open(&text).unwrap();
        others.lock().unwrap();
        edit(&path, &set("web", 3)).unwrap();
        assert_eq!(names(folder.path()), ["hosts"]);
        assert!(fs::read_to_string(&path).unwrap().contains("10.0.0.3 web"));
    }

    #[test]
    fn a_name_of_an_unmanaged_entry_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = hosts(folder.path());
        let error = edit(&path, &set("localhost", 2)).unwrap_err();
        assert!(matches!(error, HostNamesError::Taken { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), HOSTS);
    }

    #[test]
    fn a_missing_file_is_not_created() {
        let nowhere = Path::new("/nowhere/hosts");
        assert_eq!(edit(nowhere, &remove("web")).unwrap(), Done::Sound);
        assert!(matches!(edit(nowhere, &set("web", 2)), Err(HostNamesError::Io { action: "find", .. })));
    }

    #[test]
    fn a_repaired_block_is_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        fs::write(&path, "# BEGIN goloo\n10.0.0.2 web\n127.0.0.1\tlocalhost\n").unwrap();
        assert_eq!(edit(&path, &set("db", 3)).unwrap(), Done::Mended);
        assert_eq!(edit(&path, &set("db", 4)).unwrap(), Done::Sound);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "# BEGIN goloo\n10.0.0.2 web\n10.0.0.4 db\n# END goloo\n127.0.0.1\tlocalhost\n");
    }

    #[test]
    fn concurrent_threads_lose_no_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = hosts(folder.path());
        let all = |change: fn(u8) -> Change| {
            std::thread::scope(|scope| {
                for number in 0..16 {
                    let path = &path;
                    scope.spawn(move || edit(path, &change(number)).unwrap());
                }
            });
        };
        all(|number| set(&format!("vm-{number}"), number));
        let text = fs::read_to_string(&path).unwrap();
        for number in 0..16 {
            assert!(text.contains(&format!("\n10.0.0.{number} vm-{number}\n")), "{number} is lost:\n{text}");
        }
        all(|number| remove(&format!("vm-{number}")));
        assert_eq!(fs::read_to_string(&path).unwrap(), HOSTS);
    }
}
