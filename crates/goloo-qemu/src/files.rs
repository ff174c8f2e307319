//! The few file operations that need care: durable writes and locks.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use goloo_core::events::Event;
use goloo_core::provider::{ProviderError, Work};
use goloo_os::lock::{self, LockTimeouts, Mode};

/// Replaces a file so that after a crash either the old content or the new one is there.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a file without a folder"))?;
    let name = path.file_name().ok_or_else(|| io::Error::other("a file without a name"))?;
    let mut staged = name.to_owned();
    staged.push(format!(".{}.new", std::process::id()));
    let staged = folder.join(staged);
    let written = write_new(&staged, content).and_then(|()| std::fs::rename(&staged, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&staged);
        return Err(error);
    }
    sync_folder(folder)
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a folder with all that is in it, if it is there. It stops with an error at whatever lies
/// on another file system: something mounted there isn't ours to empty.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(data) => remove_within(path, &data, data.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove_within(path: &Path, data: &Metadata, device: u64) -> io::Result<()> {
    if data.dev() != device {
        return Err(io::Error::other(format!("something is mounted on {}", path.display())));
    }
    if !data.is_dir() {
        return std::fs::remove_file(path);
    }
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        remove_within(&path, &std::fs::symlink_metadata(&path)?, device)?;
    }
    std::fs::remove_dir(path)
}

/// Takes write permission from a file: nobody changes a base image under an overlay.
pub(crate) fn make_read_only(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o400))
}

/// Writes a piece of a file, or leaves a hole where it is all zeros.
pub(crate) fn write_or_skip(file: &mut File, piece: &[u8]) -> io::Result<()> {
    if piece.iter().all(|byte| *byte == 0) {
        let length = i64::try_from(piece.len()).map_err(io::Error::other)?;
        file.seek(SeekFrom::Current(length)).map(drop)
    } else {
        file.write_all(piece)
    }
}

/// Makes the empty `target` share all that `source` holds; `false` where the file system can't.
#[cfg(target_os = "linux")]
pub(crate) fn reflink(target: &File, source: &File) -> bool {
    rustix::fs::ioctl_ficlone(target, source).is_ok()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn reflink(_: &File, _: &File) -> bool {
    false
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A lock that dies with its holder. The descriptor is close-on-exec, so QEMU never inherits it.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "held, never read")] File);

impl Lock {
    /// Takes the lock on a file, which is made when it isn't there; `None` when someone else has it.
    pub(crate) fn try_file(path: &Path, mode: Mode) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        // Who can open it can lock it.
        if file.metadata()?.mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(lock::try_lock(&file, mode)?.then(|| Self(file)))
    }

    /// Waits for the lock on a file that only this user can open, for sections of some milliseconds. What holds it for
    /// longer is said after some time, and not waited for without a limit.
    pub(crate) async fn wait(
        path: &Path,
        timeouts: LockTimeouts,
        work: &mut dyn Work,
    ) -> Result<Self, ProviderError> {
        let failed = |source| {
            ProviderError::caused(
                format!("the lock {} can't be taken", path.display()),
                "check the permissions of its folder",
                source,
            )
        };
        let begun = Instant::now();
        let mut is_said = false;
        loop {
            if let Some(lock) = Self::try_file(path, Mode::Exclusive).map_err(failed)? {
                return Ok(lock);
            }
            if begun.elapsed() > timeouts.limit {
                return Err(ProviderError::failed(
                    format!("{} has been locked for {} s", path.display(), timeouts.limit.as_secs()),
                    format!("`fuser -v {}` shows what holds it; end that, then try again", path.display()),
                ));
            }
            if begun.elapsed() > timeouts.notice && !std::mem::replace(&mut is_said, true) {
                let text = format!("another goloo has locked {}; waiting for it", path.display());
                work.events().event(Event::Note(text));
            }
            tokio::select! {
                () = work.interruption() => return Err(ProviderError::Interrupted),
                () = tokio::time::sleep(WAIT_POLL) => {}
            }
        }
    }
}

/// How often it is asked for again.
const WAIT_POLL: Duration = Duration::from_millis(10);
