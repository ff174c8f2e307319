//! The state folder's id and key: two small files that move with the folder and are not included in backups. The id
//! distinguishes the machines of one state folder from those of others on the same computer; the key authenticates
//! records that were written with this folder.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use goloo_model::name::StateId;
use goloo_model::record::StateKey;
use rustix::fs::OFlags;

use crate::error::Error;
use crate::files;

pub use crate::error::{StateFile, StateFileError};

/// The read limit in bytes: more than an id or a key with a line end.
const READ_MAX: u64 = 128;

/// The path of a state folder's id.
pub fn file(state: &Path) -> PathBuf {
    state.join("state-id")
}

/// The path of its key.
pub fn key_file(state: &Path) -> PathBuf {
    state.join("state-key")
}

/// The folder's id; `None` if it has none yet. Writes nothing.
///
/// # Errors
/// When the file exists but doesn't contain an id.
pub fn read(state: &Path) -> Result<Option<StateId>, Error> {
    read_as(&file(state), |text| StateId::parse(text).ok(), StateFile::Id)
}

/// The folder's key; `None` if it has none yet. Writes nothing.
///
/// # Errors
/// When the file exists but doesn't contain a key.
pub fn read_key(state: &Path) -> Result<Option<StateKey>, Error> {
    read_as(&key_file(state), StateKey::parse, StateFile::Key)
}

/// The folder's id; created when there is none.
pub fn ensure(state: &Path) -> Result<StateId, Error> {
    made_once(&file(state), || read(state), || StateId::generate().to_string())
}

/// The folder's key; created when there is none.
pub fn ensure_key(state: &Path) -> Result<StateKey, Error> {
    made_once(&key_file(state), || read_key(state), || StateKey::generate().expose())
}

fn read_as<T>(path: &Path, parse: impl Fn(&str) -> Option<T>, file: StateFile) -> Result<Option<T>, Error> {
    let text = match content(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::cannot("read", path, error)),
    };
    match parse(text.trim_end()) {
        Some(value) => Ok(Some(value)),
        None => Err(StateFileError::Damaged { path: path.to_owned(), file }.into()),
    }
}

/// Creates the file atomically: if two processes create it at the same time, one wins and both use its value, and a
/// process that dies leaves no partial file.
fn made_once<T>(
    path: &Path,
    read: impl Fn() -> Result<Option<T>, Error>,
    new: impl FnOnce() -> String,
) -> Result<T, Error> {
    if let Some(known) = read()? {
        return Ok(known);
    }
    match files::write_new(path, format!("{}\n", new()).as_bytes()) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(Error::cannot("write", path, error));
        }
        _ => {}
    }
    read()?.ok_or_else(|| StateFileError::Removed { path: path.to_owned() }.into())
}

/// Reads the start of a regular file; a pipe in its place would block every command.
fn content(path: &Path) -> io::Result<String> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    goloo_sys::read::expect_own(metadata.uid())?;
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(READ_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn concurrent_callers_get_the_same_id() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let ids: Vec<StateId> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| ensure(&state).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(read(&state).unwrap().as_ref(), Some(&ids[0]));
        assert_eq!(std::fs::metadata(file(&state)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn reading_creates_no_id_and_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        assert_eq!(read(&state).unwrap(), None);
        assert!(!state.exists());
    }

    #[test]
    fn a_damaged_file_is_an_error_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path());
        for damaged in
            ["", "\n", "garbage", "01M8HXK8W3HQXXHS5WXE6KW9AA01M8HXK8W3HQXXHS5WXE6KW9AA", "\u{0}\u{1b}"]
        {
            std::fs::write(&path, damaged).unwrap();
            for result in [read(folder.path()).map(drop), ensure(folder.path()).map(drop)] {
                let error = result.unwrap_err();
                assert!(error.to_string().ends_with("state-id is damaged"), "{damaged:?}: {error:?}");
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
        }
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("can't read"));
    }
}
