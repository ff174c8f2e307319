//! Files that the command itself writes: whole, durable, and readable by their owner alone.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Writes a file in place of an older one. At every moment one of the two is there.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    staged(path, content)?.persist(path)?;
    sync_folder(path)
}

/// Writes a file where none is; [`ErrorKind::AlreadyExists`] where one is.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    staged(path, content)?.persist_noclobber(path)?;
    sync_folder(path)
}

fn staged(path: &Path, content: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let folder = folder(path)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path)?)?.sync_all()
}

fn folder(path: &Path) -> io::Result<&Path> {
    let parent = path.parent().ok_or(ErrorKind::InvalidInput)?;
    Ok(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}
