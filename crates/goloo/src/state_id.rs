//! The state folder's identity and its key: two small files in it, which move with it and are in no backup. The id tells
//! the machines of one state folder from those of others on the same computer; the key shows in records what was
//! decided with this folder.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use goloo_core::name::StateId;
use goloo_core::record::StateKey;
use rustix::fs::OFlags;

use crate::error::CliError;
use goloo_os::private::in_shell;

use crate::files;

/// More than an id or a key and a line end take, in bytes.
const READ_MAX: u64 = 128;

/// Where the id of a state folder is kept.
pub fn file(state: &Path) -> PathBuf {
    state.join("state-id")
}

/// Where its key is kept.
pub fn key_file(state: &Path) -> PathBuf {
    state.join("state-key")
}

/// The folder's id; `None` where it has none yet. Nothing is written.
///
/// # Errors
/// When the file is there and holds no id.
pub fn read(state: &Path) -> Result<Option<StateId>, CliError> {
    read_as(&file(state), |text| StateId::parse(text).ok(), "the next VM gives the folder a new id")
}

/// The folder's key, in the same way.
///
/// # Errors
/// When the file is there and holds no key.
pub fn read_key(state: &Path) -> Result<Option<StateKey>, CliError> {
    let without =
        "the folder gets a new key, and goloo asks before it trusts the records of the VMs that it has";
    read_as(&key_file(state), StateKey::parse, without)
}

/// The folder's id; made when there is none.
pub fn ensure(state: &Path) -> Result<StateId, CliError> {
    made_once(&file(state), || read(state), || StateId::generate().to_string())
}

/// The folder's key; made when there is none.
pub fn ensure_key(state: &Path) -> Result<StateKey, CliError> {
    made_once(&key_file(state), || read_key(state), || StateKey::generate().expose())
}

fn read_as<T>(path: &Path, parse: impl Fn(&str) -> Option<T>, without: &str) -> Result<Option<T>, CliError> {
    let text = match content(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CliError::cannot("read", path, &error)),
    };
    match parse(text.trim_end()) {
        Some(value) => Ok(Some(value)),
        None => {
            let what = format!("{} is damaged", path.display());
            Err(CliError::failed(what, format!("rm {}; {without}", in_shell(path))))
        }
    }
}

/// Of two processes that make one at once, one wins and both use its value; one that dies leaves none, since the file
/// appears whole.
fn made_once<T>(
    path: &Path,
    read: impl Fn() -> Result<Option<T>, CliError>,
    new: impl FnOnce() -> String,
) -> Result<T, CliError> {
    if let Some(known) = read()? {
        return Ok(known);
    }
    match files::write_new(path, format!("{}\n", new()).as_bytes()) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(CliError::cannot("write", path, &error));
        }
        _ => {}
    }
    read()?.ok_or_else(|| {
        CliError::failed(format!("{} was removed just now", path.display()), "run the command again")
    })
}

/// A regular file's start: a pipe in its place would keep every command waiting.
fn content(path: &Path) -> io::Result<String> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
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
    fn of_many_who_make_the_id_at_once_all_get_the_same_one() {
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
    fn reading_makes_no_id_and_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        assert_eq!(read(&state).unwrap(), None);
        assert!(!state.exists());
    }

    #[test]
    fn a_damaged_file_is_an_error_with_the_command_that_repairs_it_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path());
        for damaged in
            ["", "\n", "garbage", "01M8HXK8W3HQXXHS5WXE6KW9AA01M8HXK8W3HQXXHS5WXE6KW9AA", "\u{0}\u{1b}"]
        {
            std::fs::write(&path, damaged).unwrap();
            for result in [read(folder.path()).map(drop), ensure(folder.path()).map(drop)] {
                let error = result.unwrap_err();
                assert!(error.message.ends_with("state-id is damaged"), "{damaged:?}: {error:?}");
                assert!(error.hint.starts_with("rm "), "{error:?}");
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
        }
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
        assert!(read(folder.path()).unwrap_err().message.contains("can't read"));
    }
}
