//! A hosts file is changed whole or not at all: a temporary file beside it takes its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use goloo_core::host_names::HostNamesError;
use goloo_os::lock::{self, LockTimeouts};
use goloo_os::read;

use super::text::{Change, Edited, Taken};

/// The largest hosts file, in bytes. Blocklists of advertisers reach some MiB.
const FILE_MAX: u64 = 64 << 20;

/// What came of an edit.
#[derive(Debug, PartialEq, Eq)]
pub enum Done {
    /// The file is as it should be.
    Sound,
    /// That too, and the end of goloo's block, which was missing, is back.
    Mended,
}

/// Makes a change in the hosts file; `Denied` when another user might be allowed to. `on_wait` is called when another
/// goloo keeps it waiting.
pub fn edit(path: &Path, change: &Change, on_wait: impl FnOnce(&Path)) -> Result<Done, HostNamesError> {
    // A link stays a link: the file that it leads to is changed.
    let place = match path.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound && matches!(change, Change::Remove(_)) => {
            return Ok(Done::Sound);
        }
        other => other.map_err(failed("find", path))?,
    };
    let folder = place.parent().unwrap_or(&place);
    // Where nothing is to change no right to write is needed.
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
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))?;
    }
    Ok(Done::of(&edited))
}

impl Done {
    fn of(edited: &Edited) -> Self {
        if edited.mended { Self::Mended } else { Self::Sound }
    }
}

/// The file's text, and what it is to become.
fn edited(place: &Path, change: &Change) -> Result<(Vec<u8>, Edited), HostNamesError> {
    let old = read::file(place, FILE_MAX).map_err(failed("read", place))?;
    let edited = change
        .apply(&old)
        .map_err(|Taken| HostNamesError::Taken { place: place.to_owned(), name: change.name().clone() })?;
    Ok((old, edited))
}

/// The right to replace the hosts file. Its lock keeps all other goloos from the hosts file, whoever runs them: one lost
/// update would be a lost line.
///
/// Only its owner can open the file with the lock, and so lock it. What is to become the hosts file is another file: it
/// must be open to all before it takes its place, and whoever can open it could hold its lock after goloo was killed. The
/// hosts file itself is another one after each change, so that its lock would protect the old one; and its folder can be
/// locked by whoever can read it.
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
        // A leftover is taken over by the next edit. The lock's file goes last, while it is still locked.
        let _ = fs::remove_file(self.text());
        let _ = fs::remove_file(&self.path);
    }

    /// Where the new text is written.
    fn text(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        name.into()
    }

    /// Puts it in place of the hosts file, durably, with that one's owner and mode.
    fn publish(self, text: &[u8]) -> Result<(), HostNamesError> {
        let path = self.text();
        let replaced = self
            .write(text, &path)
            .and_then(|()| fs::rename(&path, self.place).map_err(failed("replace", self.place)));
        // The error that counts is the one above.
        self.discard();
        replaced
    }

    fn write(&self, text: &[u8], path: &Path) -> Result<(), HostNamesError> {
        let old = self.place.metadata().map_err(failed("look at", self.place))?;
        // One that a killed goloo left is nobody's: this one has the lock.
        let _ = fs::remove_file(path);
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = new.map_err(failed("write", path))?;
        file.write_all(text).map_err(failed("write", path))?;
        let new = file.metadata().map_err(failed("look at", path))?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid())).map_err(failed("give away", path))?;
        }
        let mode = fs::Permissions::from_mode(old.mode() & 0o7777);
        file.set_permissions(mode).map_err(failed("set the mode of", path))?;
        file.sync_all().map_err(failed("sync", path))
    }
}

/// Always the same name, so that at most one is ever left.
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
    use goloo_core::name::VmName;

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
    fn mode_and_owner_stay_and_nothing_is_left_beside_it() {
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
    fn a_file_that_is_right_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = hosts(folder.path());
        edit(&path, &set("web", 2)).unwrap();
        // Held open, so that no other file gets its number.
        let before = File::open(&path).unwrap();
        let is_the_same = || path.metadata().unwrap().ino() == before.metadata().unwrap().ino();
        edit(&path, &set("web", 2)).unwrap();
        edit(&path, &remove("other")).unwrap();
        assert!(is_the_same());
        edit(&path, &set("web", 3)).unwrap();
        assert!(!is_the_same(), "it is replaced, and never half written");
    }

    #[test]
    fn a_link_stays_a_link() {
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
    fn a_leftover_of_one_that_was_killed_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = hosts(folder.path());
        let leftover = temporary(&path, folder.path());
        fs::write(&leftover, "half a li").unwrap();
        fs::set_permissions(&leftover, fs::Permissions::from_mode(0o400)).unwrap();
        edit(&path, &set("web", 2)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), WITH_WEB);
        assert_eq!(names(folder.path()), ["hosts"]);
    }

    /// Killed before the rename, it leaves a file that all can open, and so lock for as long as they like.
    #[test]
    fn a_leftover_that_others_have_locked_is_not_waited_for() {
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
        // As if it had been killed: the lock goes with it, and the files stay.
        drop(draft);
        let others = File::open(&text).unwrap();
        others.lock().unwrap();
        edit(&path, &set("web", 3)).unwrap();
        assert_eq!(names(folder.path()), ["hosts"]);
        assert!(fs::read_to_string(&path).unwrap().contains("10.0.0.3 web"));
    }

    #[test]
    fn a_name_that_somebody_else_gave_away_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = hosts(folder.path());
        let error = edit(&path, &set("localhost", 2)).unwrap_err();
        assert!(matches!(error, HostNamesError::Taken { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), HOSTS);
    }

    #[test]
    fn a_missing_file_has_no_names_and_gets_none() {
        let nowhere = Path::new("/nowhere/hosts");
        assert_eq!(edit(nowhere, &remove("web")).unwrap(), Done::Sound);
        assert!(matches!(edit(nowhere, &set("web", 2)), Err(HostNamesError::Io { action: "find", .. })));
    }

    #[test]
    fn a_mended_block_is_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        fs::write(&path, "# BEGIN goloo\n10.0.0.2 web\n127.0.0.1\tlocalhost\n").unwrap();
        assert_eq!(edit(&path, &set("db", 3)).unwrap(), Done::Mended);
        assert_eq!(edit(&path, &set("db", 4)).unwrap(), Done::Sound);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "# BEGIN goloo\n10.0.0.2 web\n10.0.0.4 db\n# END goloo\n127.0.0.1\tlocalhost\n");
    }

    #[test]
    fn of_many_threads_none_loses_a_line() {
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
