//! File locks that are released when their process ends, with timeouts for waiting.

use std::convert::identity;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::geteuid;

/// Timeouts for waiting for a lock.
#[derive(Debug, Clone, Copy)]
pub struct LockTimeouts {
    /// After this time the caller is notified once that it is waiting.
    pub notice: Duration,
    /// After this time waiting fails.
    pub limit: Duration,
}

impl Default for LockTimeouts {
    fn default() -> Self {
        Self::SHORT_SECTIONS
    }
}

impl LockTimeouts {
    /// For locks that are held for milliseconds.
    pub const SHORT_SECTIONS: Self = Self { notice: Duration::from_secs(2), limit: Duration::from_secs(30) };

    /// The error when the limit is exceeded.
    fn exceeded(self) -> io::Error {
        let text = format!("another process has held its lock for {} s", self.limit.as_secs());
        io::Error::new(ErrorKind::TimedOut, text)
    }
}

/// The pause between two attempts. Such locks are held for milliseconds.
const PAUSE: Duration = Duration::from_millis(10);

/// The mode of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One holder.
    Exclusive,
    /// Many concurrent holders.
    Shared,
}

/// A lock that is held until the value is dropped or the process ends.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

/// Why a file is not used as a lock; wrapped in an [`io::Error`]. The holder of a lock may write to its file, so one
/// chosen by someone else could be any file of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It points to another file.
    #[error("it is a symbolic link, not a lock file: remove it")]
    Link,
    /// It is a folder, a pipe or a device.
    #[error("it is not a regular file, so it is not a lock file: remove it")]
    NotRegular,
    /// The same file has another name, under which it may have another purpose.
    #[error("it has another hard link, so it is not a lock file: remove it")]
    HardLink,
    /// Root could be made to write to a user's file, and a user to a file that others gave away.
    #[error("it belongs to another user (uid {0}): remove it, or ask them to")]
    Owner(u32),
}

impl From<Unfit> for io::Error {
    fn from(unfit: Unfit) -> Self {
        Self::new(ErrorKind::InvalidInput, unfit)
    }
}

/// Opens a lock file for this user alone (mode 0600) and creates it if it does not exist. A lock always has a dedicated
/// file, never a folder or file that other users can read, because anyone who can open a file can lock it.
///
/// # Errors
/// Those of the system; a lock file that belongs to another user can't be opened. [`Unfit`] if it isn't a lock file.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = unfollowed(options.read(true).write(true).create(true).truncate(false).mode(0o600), path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(Unfit::NotRegular.into());
    }
    // A count of zero is allowed: the file was renamed or removed since it was opened.
    if found.nlink() > 1 {
        return Err(Unfit::HardLink.into());
    }
    if found.uid() != geteuid().as_raw() {
        return Err(Unfit::Owner(found.uid()).into());
    }
    Ok(file)
}

/// Opens a file without following a link in its place and without blocking on a pipe.
fn unfollowed(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    match options.custom_flags(flags.bits().cast_signed()).open(path) {
        Err(_) if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) => {
            Err(Unfit::Link.into())
        }
        other => other,
    }
}

/// Takes the lock of a file. `on_wait` is called once if it takes longer than [`LockTimeouts::notice`].
///
/// # Errors
/// Those of the system, and [`ErrorKind::TimedOut`] if the lock is still held after [`LockTimeouts::limit`].
pub fn take(path: &Path, mode: Mode, timeouts: LockTimeouts, on_wait: impl FnOnce()) -> io::Result<FileLock> {
    let file = open(path)?;
    let attempt = || try_lock(&file, mode).map(|is_ours| is_ours.then_some(()));
    wait(timeouts, PAUSE, on_wait, identity, attempt)?;
    Ok(FileLock { _file: file })
}

/// Takes the lock of a file without waiting, and creates the file if it does not exist; `None` while another process
/// has it. The descriptor is close-on-exec, so no child process inherits the lock.
///
/// # Errors
/// Those of [`open`], and of the system.
pub fn try_take(path: &Path, mode: Mode) -> io::Result<Option<FileLock>> {
    let file = open(path)?;
    // Who can open it can lock it.
    if file.metadata()?.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(try_lock(&file, mode)?.then_some(FileLock { _file: file }))
}

/// Takes the lock of a file that its holder writes and then renames or removes, so that no lock file remains. The
/// file may contain leftovers of a process that died.
///
/// # Errors
/// See [`take`].
pub fn take_draft(path: &Path, timeouts: LockTimeouts, on_wait: impl FnOnce()) -> io::Result<File> {
    wait(timeouts, PAUSE, on_wait, identity, || {
        let (file, is_writable) = match open(path) {
            // A process that died had already set its final mode, or the folder belongs to someone else.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                (unfollowed(OpenOptions::new().read(true), path).map_err(|_| error)?, false)
            }
            other => (other?, true),
        };
        // The file may have been renamed or removed since it was opened: then the lock no longer protects this path.
        let is_at_path = |file: &File| -> io::Result<bool> {
            let there = match std::fs::symlink_metadata(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                other => other?,
            };
            let own = file.metadata()?;
            Ok((there.dev(), there.ino()) == (own.dev(), own.ino()))
        };
        if !try_lock(&file, Mode::Exclusive)? || !is_at_path(&file)? {
            return Ok(None);
        }
        if !is_writable {
            std::fs::remove_file(path)?;
            return Ok(None);
        }
        Ok(Some(file))
    })
}

/// Takes the lock of an open file without waiting; `false` if another process has it.
///
/// # Errors
/// Those of the system.
pub fn try_lock(file: &File, mode: Mode) -> io::Result<bool> {
    let attempt = match mode {
        Mode::Exclusive => file.try_lock(),
        Mode::Shared => file.try_lock_shared(),
    };
    match attempt {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Retries an attempt, with `pause` in between, until it yields a value. `on_wait` is called once after
/// [`LockTimeouts::notice`].
///
/// # Errors
/// The attempt's own, and after [`LockTimeouts::limit`] the result of `exceeded` for an error of kind
/// [`ErrorKind::TimedOut`].
pub fn wait<T, E>(
    timeouts: LockTimeouts,
    pause: Duration,
    on_wait: impl FnOnce(),
    exceeded: impl FnOnce(io::Error) -> E,
    mut attempt: impl FnMut() -> Result<Option<T>, E>,
) -> Result<T, E> {
    let start = Instant::now();
    let mut on_wait = Some(on_wait);
    loop {
        if let Some(done) = attempt()? {
            return Ok(done);
        }
        if start.elapsed() >= timeouts.limit {
            return Err(exceeded(timeouts.exceeded()));
        }
        if start.elapsed() >= timeouts.notice
            && let Some(on_wait) = on_wait.take()
        {
            on_wait();
        }
        sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;

    const SHORT: LockTimeouts =
        LockTimeouts { notice: Duration::from_millis(20), limit: Duration::from_millis(200) };

    #[test]
    fn waiting_for_a_held_lock_has_one_notice_and_a_time_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let held = take(&path, Mode::Exclusive, SHORT, || panic!("nobody has it")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let notices = Cell::new(0);
        let refused = take(&path, Mode::Shared, SHORT, || notices.set(notices.get() + 1)).unwrap_err();
        assert_eq!((refused.kind(), notices.get()), (ErrorKind::TimedOut, 1));
        drop(held);
        take(&path, Mode::Shared, SHORT, || panic!("nobody has it")).unwrap();
    }

    #[test]
    fn a_lock_released_during_the_wait_is_acquired() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let held = Cell::new(Some(take(&path, Mode::Exclusive, SHORT, || ()).unwrap()));
        take(&path, Mode::Exclusive, SHORT, || drop(held.take())).unwrap();
    }

    #[test]
    fn a_draft_is_exclusive_until_it_is_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let (draft, target) = (folder.path().join("draft"), folder.path().join("target"));
        for mode in [0o600, 0o400] {
            std::fs::write(&draft, "left by one that died").unwrap();
            std::fs::set_permissions(&draft, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            let first = take_draft(&draft, SHORT, || panic!("nobody has it")).unwrap();
            let refused = take_draft(&draft, SHORT, || ()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::TimedOut);
            // A process that is waiting meanwhile has opened the file that then becomes the target.
            let second = take_draft(&draft, SHORT, || std::fs::rename(&draft, &target).unwrap()).unwrap();
            assert_ne!(first.metadata().unwrap().ino(), second.metadata().unwrap().ino());
            assert_eq!(second.metadata().unwrap().ino(), std::fs::metadata(&draft).unwrap().ino());
        }
    }

    #[test]
    fn links_foreign_files_and_non_regular_files_are_refused_as_locks() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, path) = (folder.path().join("precious"), folder.path().join("a.lock"));
        std::fs::write(&victim, "precious").unwrap();
        let refused = || {
            let unfit = |error: io::Error| *error.get_ref().unwrap().downcast_ref::<Unfit>().unwrap();
            let draft = take_draft(&path, SHORT, || ()).map(drop).map_err(unfit);
            assert_eq!(take(&path, Mode::Exclusive, SHORT, || ()).map(drop).map_err(unfit), draft);
            std::fs::remove_file(&path).unwrap();
            draft.unwrap_err()
        };
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        assert_eq!(refused(), Unfit::Link);
        std::os::unix::fs::symlink(folder.path().join("nothing"), &path).unwrap();
        assert_eq!(refused(), Unfit::Link);
        std::fs::hard_link(&victim, &path).unwrap();
        assert_eq!(refused(), Unfit::HardLink);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(refused(), Unfit::NotRegular);
        if geteuid().is_root() {
            std::fs::write(&path, "").unwrap();
            std::os::unix::fs::chown(&path, Some(54_321), None).unwrap();
            assert_eq!(refused(), Unfit::Owner(54_321));
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!folder.path().join("nothing").exists());
    }

    #[test]
    fn a_lock_can_be_shared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let _one = take(&path, Mode::Shared, SHORT, || ()).unwrap();
        take(&path, Mode::Shared, SHORT, || panic!("it is shared")).unwrap();
    }
}
