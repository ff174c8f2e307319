//! Writes that outlive a power loss once they return.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Creates a private file with this content. Its name is durable after [`sync_folder`].
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] when there is one; others of the system.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Replaces a file so that after a crash it has either the old content or the new one. The new one is written to
/// `staged`, in the same folder, over what a dead process or another user left there.
///
/// # Errors
/// Those of the system; the old content is still there then.
pub fn replace(path: &Path, staged: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    remove_if_there(staged)?;
    let written = write_new(staged, content).and_then(|()| std::fs::rename(staged, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(staged);
        return Err(error);
    }
    sync_folder(folder)
}

/// Replaces a file as [`replace`] does, staged beside it under a name of this process.
///
/// # Errors
/// Those of the system; the old content is still there then.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let mut staged = name.to_owned();
    staged.push(format!(".{}.new", std::process::id()));
    replace(path, &folder.join(staged), content)
}

/// Removes a file, unless there is none.
///
/// # Errors
/// Those of the system.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the entries of a folder durable.
///
/// # Errors
/// Those of the system.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_written_through_a_link_that_waits_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("other"), "other").unwrap();
        fs::write(at("file"), "old").unwrap();
        std::os::unix::fs::symlink(at("other"), at("staged")).unwrap();
        replace(&at("file"), &at("staged"), b"new").unwrap();
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
        assert_eq!(fs::read(at("other")).unwrap(), b"other");
        assert!(!at("staged").exists());
        assert_eq!(write_new(&at("file"), b"x").unwrap_err().kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_is_left_without_a_staged_one() {
        let folder = tempfile::tempdir().unwrap();
        let (place, staged) = (folder.path().join("folder"), folder.path().join("staged"));
        fs::create_dir(&place).unwrap();
        replace(&place, &staged, b"new").unwrap_err();
        assert!(!staged.exists() && place.is_dir());
    }
}
