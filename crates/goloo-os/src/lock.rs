//! Locks on files that end with their process, waited for with a limit.

use std::convert::identity;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a lock is waited for.
#[derive(Debug, Clone, Copy)]
pub struct LockTimeouts {
    /// After this the caller is told that it waits, once.
    pub notice: Duration,
    /// After this it is an error.
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

    /// The error after the limit.
    fn exceeded(self) -> io::Error {
        let text = format!("another process has held its lock for {} s", self.limit.as_secs());
        io::Error::new(ErrorKind::TimedOut, text)
    }
}

/// Between two attempts. Who holds such a lock needs milliseconds.
const PAUSE: Duration = Duration::from_millis(10);

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By one alone.
    Exclusive,
    /// By many at once.
    Shared,
}

/// A lock that is held until the value is dropped or the process ends.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

/// Opens a lock file for this user alone (mode 0600) and creates it if it does not exist. A lock always has a file of its
/// own, never a folder or file that other users can read, because anyone who can open a file can lock it.
///
/// # Errors
/// Those of the system; a lock file that belongs to another user can't be opened.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Takes the lock of a file. `on_wait` is called once when it takes longer than [`LockTimeouts::notice`].
///
/// # Errors
/// Those of the system, and [`ErrorKind::TimedOut`] when the lock is still held after [`LockTimeouts::limit`].
pub fn take(path: &Path, mode: Mode, timeouts: LockTimeouts, on_wait: impl FnOnce()) -> io::Result<FileLock> {
    let file = open(path)?;
    let attempt = || try_lock(&file, mode).map(|is_ours| is_ours.then_some(()));
    wait(timeouts, PAUSE, on_wait, identity, attempt)?;
    Ok(FileLock { _file: file })
}

/// Takes the lock of a file that its holder writes and then renames or removes, so that no lock file stays behind. The
/// file may hold what a process left that died.
///
/// # Errors
/// As [`take`].
pub fn take_draft(path: &Path, timeouts: LockTimeouts, on_wait: impl FnOnce()) -> io::Result<File> {
    wait(timeouts, PAUSE, on_wait, identity, || {
        let (file, is_writable) = match open(path) {
            // One that died had given it its final mode, or the folder is somebody else's.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                (File::open(path).map_err(|_| error)?, false)
            }
            other => (other?, true),
        };
        // The file may have been renamed or removed since it was opened: then the lock is on another file's name.
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

/// Takes the lock of an open file without waiting; `false` while another process has it.
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

/// Makes an attempt again and again, with `pause` in between, until it yields a value. `on_wait` is called once after
/// [`LockTimeouts::notice`].
///
/// # Errors
/// The attempt's own, and after [`LockTimeouts::limit`] what `exceeded` makes of an error of the kind
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
    fn a_lock_that_is_held_is_waited_for_with_one_notice_and_a_limit() {
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
    fn a_lock_that_is_given_back_while_it_is_waited_for_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let held = Cell::new(Some(take(&path, Mode::Exclusive, SHORT, || ()).unwrap()));
        take(&path, Mode::Exclusive, SHORT, || drop(held.take())).unwrap();
    }

    #[test]
    fn a_draft_is_one_s_alone_until_it_is_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let (draft, target) = (folder.path().join("draft"), folder.path().join("target"));
        for mode in [0o600, 0o400] {
            std::fs::write(&draft, "left by one that died").unwrap();
            std::fs::set_permissions(&draft, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            let first = take_draft(&draft, SHORT, || panic!("nobody has it")).unwrap();
            let refused = take_draft(&draft, SHORT, || ()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::TimedOut);
            // Who waits meanwhile has opened the file that is the target then.
            let second = take_draft(&draft, SHORT, || std::fs::rename(&draft, &target).unwrap()).unwrap();
            assert_ne!(first.metadata().unwrap().ino(), second.metadata().unwrap().ino());
            assert_eq!(second.metadata().unwrap().ino(), std::fs::metadata(&draft).unwrap().ino());
        }
    }

    #[test]
    fn many_share_a_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        let _one = take(&path, Mode::Shared, SHORT, || ()).unwrap();
        take(&path, Mode::Shared, SHORT, || panic!("it is shared")).unwrap();
    }
}
