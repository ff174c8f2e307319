//! Writing files and folders so that, whatever dies, there is the old or the new and never a mixture. For
//! what isn't in the store: the user's stacks and what goloo remembers of them, settings, backups.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_os::lock::{self, FileLock, LockTimeouts};
use goloo_os::{private, read};
use rustix::fs::{CWD, RenameFlags};
use tempfile::{NamedTempFile, TempDir};

use crate::output::Ui;

/// What a folder is called while it is staged: no VM's name begins so.
const STAGED: &str = ".goloo-";

/// How many random characters `tempfile` puts behind it.
const RANDOM: usize = 6;

/// After this nobody writes a staged file any more.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes a private folder and those above it.
pub fn ensure_folder(folder: &Path) -> io::Result<()> {
    private::create_folders(folder)
}

/// Takes the lock of this file, and holds it until the value is dropped or the process dies. A wait is shown; it has
/// a limit.
pub fn lock(path: &Path, ui: &Ui) -> io::Result<FileLock> {
    ensure_folder(parent(path)?)?;
    lock::take(path, lock::Mode::Exclusive, LockTimeouts::default(), || ui.waiting_for_lock(path))
}

/// The content of one of goloo's own files; `None` where it isn't there.
pub fn read_own(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read::file(path, read::FILE_MAX) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a file in place of an older one, whose permissions it takes over, or of none.
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

/// Writes a private file where there is none; [`ErrorKind::AlreadyExists`] where one is.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let (folder, mut file) = begin(path)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    sync_folder(folder)
}

/// The folder that a file is to lie in, and what is to become the file.
fn begin(path: &Path) -> io::Result<(&Path, NamedTempFile)> {
    let folder = parent(path)?;
    ensure_folder(folder)?;
    sweep_abandoned(folder);
    Ok((folder, tempfile::Builder::new().prefix(STAGED).tempfile_in(folder)?))
}

/// Removes the files that processes which died long ago have left beside what they were writing. Nobody writes one for a
/// day; what can't be removed is no matter.
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

/// A folder that isn't where it belongs yet.
pub struct Staged(TempDir);

impl Staged {
    /// A copy of these files of `source`, beside the place where it is to go; private to the user, as all that goloo
    /// keeps.
    pub fn copy(source: &Path, files: &[&str], place: &Path) -> io::Result<Self> {
        let staged = tempfile::Builder::new().prefix(STAGED).tempdir_in(parent(place)?)?;
        for file in files {
            let content = read::file(&source.join(file), read::FILE_MAX)?;
            let mut copy =
                File::options().write(true).create_new(true).mode(0o600).open(staged.path().join(file))?;
            copy.write_all(&content)?;
            copy.sync_all()?;
        }
        sync_folder(staged.path())?;
        Ok(Self(staged))
    }

    /// Gives the copy to the user, who may share it: the permissions are those that the umask leaves.
    pub fn share(&self) -> io::Result<()> {
        let umask = goloo_os::umask::users();
        fs::set_permissions(self.path(), Permissions::from_mode(0o777 & !umask))?;
        for name in names(self.path())? {
            fs::set_permissions(self.path().join(name), Permissions::from_mode(0o666 & !umask))?;
        }
        Ok(())
    }

    /// Where it is now.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Puts it there in one step; `false` when something else than an empty folder is in the way.
    pub fn publish(self, place: &Path) -> io::Result<bool> {
        match fs::rename(self.path(), place) {
            Err(error) if is_taken(&error) => return Ok(false),
            other => other?,
        }
        // It is no longer where it would be removed from.
        let _ = self.0.keep();
        sync_folder(parent(place)?)?;
        Ok(true)
    }

    /// Puts it there in one step in place of another folder, which is removed then.
    pub fn publish_over(self, place: &Path) -> io::Result<()> {
        rustix::fs::renameat_with(CWD, self.path(), CWD, place, RenameFlags::EXCHANGE)?;
        sync_folder(parent(place)?)?;
        self.0.close()
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory)
}

/// Removes what processes that died have left staged in a folder. Only under the lock that all who stage
/// there hold.
pub fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(STAGED) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Takes a folder away in one step, and then removes what is in it. A link goes, and not what it leads to.
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
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<io::Result<_>>()?;
    names.sort_unstable();
    Ok(names)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
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
pub fn draft_folder(drafts: &Path) -> io::Result<PathBuf> {
    ensure_folder(drafts)?;
    Ok(tempfile::Builder::new().prefix("draft-").tempdir_in(drafts)?.keep())
}
