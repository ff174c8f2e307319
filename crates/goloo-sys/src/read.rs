//! Reads files of bounded size: regular files only, up to a limit, and never blocking.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::owner;

/// The maximum size of a configuration, settings or state file, in bytes. All of goloo's are far smaller.
pub const FILE_MAX: u64 = 1 << 20;

/// Why a file is not read; wrapped in an [`io::Error`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Opening or reading it could block forever or have side effects.
    #[error("it is {0}, not a regular file")]
    NotRegular(&'static str),
    /// It belongs to another user.
    #[error("it belongs to another user (uid {0}): remove it, or ask them to")]
    Foreign(u32),
    /// It exceeds the size limit.
    #[error("it is larger than {}", size(*.max))]
    TooLarge {
        /// The limit in bytes.
        max: u64,
    },
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        let kind = match refused {
            Refused::NotRegular(_) => ErrorKind::InvalidInput,
            Refused::Foreign(_) => ErrorKind::PermissionDenied,
            Refused::TooLarge { .. } => ErrorKind::FileTooLarge,
        };
        Self::new(kind, refused)
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        mib if mib % (1 << 20) == 0 => format!("{} MiB", mib >> 20),
        kib if kib % (1 << 10) == 0 => format!("{} KiB", kib >> 10),
        bytes => format!("{bytes} bytes"),
    }
}

/// The content of a regular file of at most `max` bytes. Links are followed.
///
/// # Errors
/// Those of the system, and [`Refused`]: a named pipe, a device or a socket is refused without blocking.
pub fn file(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let length = file.metadata()?.len();
    bounded(file, max, length)
}

/// Like [`file()`], as text.
///
/// # Errors
/// As [`file()`], and [`ErrorKind::InvalidData`] if it isn't UTF-8.
pub fn text(path: &Path, max: u64) -> io::Result<String> {
    String::from_utf8(file(path, max)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// The content of a file that goloo wrote itself. Another user may have replaced it while the folder was accessible
/// to them.
///
/// # Errors
/// As [`file()`], and [`Refused::Foreign`].
pub fn own(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    expect_own(metadata.uid())?;
    bounded(file, max, metadata.len())
}

/// Like [`own()`], as text.
///
/// # Errors
/// As [`own()`], and [`ErrorKind::InvalidData`] if it isn't UTF-8.
pub fn own_text(path: &Path, max: u64) -> io::Result<String> {
    String::from_utf8(own(path, max)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Refuses the owner of an open file, unless it is this user or root.
///
/// # Errors
/// [`Refused::Foreign`].
pub fn expect_own(owner: u32) -> io::Result<()> {
    if owner::is_trusted_owner(owner) { Ok(()) } else { Err(Refused::Foreign(owner).into()) }
}

/// The entire content of a stream, at most `max` bytes.
///
/// # Errors
/// Those of the stream, and [`Refused::TooLarge`].
pub fn stream(stream: impl Read, max: u64) -> io::Result<Vec<u8>> {
    bounded(stream, max, 0)
}

/// Opens a regular file for reading.
///
/// # Errors
/// Those of the system, and [`Refused::NotRegular`].
pub fn open(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK a named pipe makes open itself wait for a writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(|_| ErrorKind::InvalidInput)?;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match std::fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => Refused::NotRegular("a socket").into(),
        _ => error,
    })?;
    let kind = file.metadata()?.file_type();
    let other = match kind {
        kind if kind.is_file() => return Ok(file),
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a named pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(Refused::NotRegular(other).into())
}

fn bounded(stream: impl Read, max: u64, expected: u64) -> io::Result<Vec<u8>> {
    if expected > max {
        return Err(Refused::TooLarge { max }.into());
    }
    let mut content = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
    // A file may grow while it is being read.
    stream.take(max.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > max {
        return Err(Refused::TooLarge { max }.into());
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn refused(path: &Path, max: u64) -> String {
        file(path, max).unwrap_err().to_string()
    }

    #[test]
    fn a_file_up_to_the_limit_is_read_and_a_larger_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "12345").unwrap();
        assert_eq!(file(&path, 5).unwrap(), b"12345");
        assert_eq!(refused(&path, 4), "it is larger than 4 bytes");
        assert_eq!(text(&path, FILE_MAX).unwrap(), "12345");
        let sparse = File::create(folder.path().join("b")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        assert_eq!(refused(&folder.path().join("b"), FILE_MAX), "it is larger than 1 MiB");
        assert_eq!(stream(io::repeat(1), 10).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn pipes_folders_devices_and_sockets_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(refused(&pipe, 9), "it is a named pipe, not a regular file");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        assert_eq!(refused(&link, 9), "it is a named pipe, not a regular file");
        assert_eq!(refused(folder.path(), 9), "it is a folder, not a regular file");
        assert_eq!(refused(Path::new("/dev/zero"), 9), "it is a device, not a regular file");
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(refused(&socket, 9), "it is a socket, not a regular file");
        let missing = file(&folder.path().join("none"), 9).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    /// Files in /proc report no length.
    #[test]
    fn a_file_without_a_known_length_is_read() {
        assert!(!file(Path::new("/proc/self/stat"), FILE_MAX).unwrap().is_empty());
    }
}
