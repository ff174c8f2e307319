//! Removing folders within one file system, and copies that keep holes.

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Removes a folder with all its contents, if it exists. Fails on anything that lies on another file system: a mount
/// inside isn't ours to empty.
///
/// # Errors
/// Those of the system.
pub fn remove_tree(path: &Path) -> io::Result<()> {
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

/// Writes a piece of a file, or leaves a hole if it is all zeros.
///
/// # Errors
/// Those of the system.
pub fn write_or_skip(file: &mut File, piece: &[u8]) -> io::Result<()> {
    if piece.iter().all(|byte| *byte == 0) {
        let length = i64::try_from(piece.len()).map_err(io::Error::other)?;
        file.seek(SeekFrom::Current(length)).map(drop)
    } else {
        file.write_all(piece)
    }
}

/// Makes the empty `target` share all that `source` holds; `false` where the file system can't.
#[cfg(target_os = "linux")]
pub fn reflink(target: &File, source: &File) -> bool {
    rustix::fs::ioctl_ficlone(target, source).is_ok()
}

/// Makes the empty `target` share all that `source` holds; `false` where the file system can't.
#[cfg(not(target_os = "linux"))]
pub fn reflink(_: &File, _: &File) -> bool {
    false
}
