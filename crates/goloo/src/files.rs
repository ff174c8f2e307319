//! Atomic writes: a crash leaves either the old or the new file or folder, never a mixture. Used for everything outside
//! the store: the user's stacks and their registry, settings, backups.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_model::events::{Event, Events};
use goloo_sys::durable::{self, sync_folder};
use goloo_sys::lock::{self, FileLock, LockTimeouts};
use goloo_sys::{private, read};
use rustix::fs::{CWD, RenameFlags};
use tempfile::{NamedTempFile, TempDir};

/// The name prefix of staged folders: no VM's name begins with it.
const STAGED: &str = ".goloo-";

/// How many random characters `tempfile` appends.
const RANDOM: usize = 6;

/// The age after which no process is still writing a staged file.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Creates a private folder and its parents.
///
/// # Errors
/// I/O errors.
pub fn ensure_folder(folder: &Path) -> io::Result<()> {
    private::create_folders(folder)
}

/// Locks this file until the value is dropped or the process dies. Waiting is reported and has a time limit.
///
/// # Errors
/// I/O errors, and [`ErrorKind::TimedOut`] when the lock is still held after the limit.
pub fn lock(path: &Path, events: &dyn Events) -> io::Result<FileLock> {
    ensure_folder(parent(path)?)?;
    lock::take(path, lock::Mode::Exclusive, LockTimeouts::default(), || {
        events.event(Event::WaitingForLock { path: path.to_owned() });
    })
}

/// The content of one of goloo's own files; `None` when it doesn't exist.
///
/// # Errors
/// I/O errors.
pub fn read_own(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read::own(path, read::FILE_MAX) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates a file, or replaces an existing one and keeps its permissions.
///
/// # Errors
/// I/O errors.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (folder, mut file) = begin(path)?;
    if let Ok(old) = fs::metadata(path) {
        file.as_file().set_permissions(old.permissions())?;
    }
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_folder(folder)
}

/// Creates a new private file.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] when the file exists; other I/O errors.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let (folder, mut file) = begin(path)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    sync_folder(folder)
}

/// The folder of a file, and the temporary file that becomes it.
fn begin(path: &Path) -> io::Result<(&Path, NamedTempFile)> {
    let folder = parent(path)?;
    ensure_folder(folder)?;
    sweep_abandoned(folder);
    Ok((folder, tempfile::Builder::new().prefix(STAGED).tempfile_in(folder)?))
}

/// Removes temporary files of dead processes: no process takes a day to write one. Files that can't be removed are
/// ignored.
fn sweep_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(STAGED));
        let is_ours = random.is_some_and(|random| {
            random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        let is_abandoned = |metadata: fs::Metadata| {
            let age = metadata.modified().ok().and_then(|modified| modified.elapsed().ok());
            metadata.is_file() && age.is_some_and(|age| age > ABANDONED)
        };
        if is_ours && entry.metadata().is_ok_and(is_abandoned) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A staged folder, which is not at its final path yet.
pub struct Staged(TempDir);

impl Staged {
    /// Copies these files of `source` into a folder next to the final path. The folder is private, like all files of
    /// goloo.
    ///
    /// # Errors
    /// I/O errors.
    pub fn copy(source: &Path, files: &[&str], place: &Path) -> io::Result<Self> {
        let staged = tempfile::Builder::new().prefix(STAGED).tempdir_in(parent(place)?)?;
        for file in files {
            let content = read::file(&source.join(file), read::FILE_MAX)?;
            durable::write_new(&staged.path().join(file), &content)?;
        }
        sync_folder(staged.path())?;
        Ok(Self(staged))
    }

    /// Sets permissions according to the umask: the copy belongs to the user, who may want to share it.
    ///
    /// # Errors
    /// I/O errors.
    pub fn share(&self) -> io::Result<()> {
        let umask = goloo_sys::umask::users();
        fs::set_permissions(self.path(), Permissions::from_mode(0o777 & !umask))?;
        for name in names(self.path())? {
            fs::set_permissions(self.path().join(name), Permissions::from_mode(0o666 & !umask))?;
        }
        Ok(())
    }

    /// Its current path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Moves it to its final path in one step; `false` when anything but an empty folder is there.
    ///
    /// # Errors
    /// I/O errors.
    pub fn publish(self, place: &Path) -> io::Result<bool> {
        match fs::rename(self.path(), place) {
            Err(error) if is_taken(&error) => return Ok(false),
            other => other?,
        }
        // Already moved: nothing to clean up.
        let _ = self.0.keep();
        sync_folder(parent(place)?)?;
        Ok(true)
    }

    /// Replaces another folder in one step, then removes the replaced one.
    ///
    /// # Errors
    /// I/O errors.
    pub fn publish_over(self, place: &Path) -> io::Result<()> {
        rustix::fs::renameat_with(CWD, self.path(), CWD, place, RenameFlags::EXCHANGE)?;
        sync_folder(parent(place)?)?;
        self.0.close()
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory)
}

/// Removes staged files that dead processes left in a folder. The caller must hold the lock that every process holds
/// while it stages files there.
///
/// # Errors
/// I/O errors.
pub fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(STAGED) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder: renames it in one step, then deletes its contents. Of a symlink, only the link is removed.
///
/// # Errors
/// I/O errors.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    let aside = tempfile::Builder::new().prefix(STAGED).tempdir_in(parent(path)?)?;
    let gone = aside.path().join("gone");
    fs::rename(path, &gone)?;
    sync_folder(parent(path)?)?;
    remove(&gone)?;
    aside.close()
}

fn remove(path: &Path) -> io::Result<()> {
    let is_folder = fs::symlink_metadata(path)?.is_dir();
    if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// The names in a folder, sorted.
///
/// # Errors
/// I/O errors.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<io::Result<_>>()?;
    names.sort_unstable();
    Ok(names)
}

fn parent(path: &Path) -> io::Result<&Path> {
    let parent = path.parent().ok_or(ErrorKind::InvalidInput)?;
    Ok(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// Whether a name in a folder is one of goloo's staged ones.
pub fn is_staged(name: &str) -> bool {
    name.starts_with(STAGED)
}

/// A private folder for one draft, kept until it is removed.
///
/// # Errors
/// I/O errors.
pub fn draft_folder(drafts: &Path) -> io::Result<PathBuf> {
    ensure_folder(drafts)?;
    Ok(tempfile::Builder::new().prefix("draft-").tempdir_in(drafts)?.keep())
}
