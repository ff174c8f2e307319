//! Writes files of the key folder, each in one step.

use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use goloo_sys::private;

/// Creates the file atomically; never overwrites another one.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    staged(path, content)?.persist_noclobber(path)?;
    Ok(())
}

/// Writes the file atomically; replaces an older one.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    staged(path, content)?.persist(path)?;
    Ok(())
}

/// Writes an executable file atomically; replaces an older one.
pub fn write_program(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = staged(path, content)?;
    file.as_file().set_permissions(PermissionsExt::from_mode(0o700))?;
    file.persist(path)?;
    Ok(())
}

fn staged(path: &Path, content: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    private::create_folders(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}
