//! Reads one record consistently without a lock: writers replace files and folders atomically, so a
//! reader sees the state before or after.

use std::io::{self, ErrorKind};
use std::path::Path;

use goloo_model::record::RecordError;
use goloo_model::record::{self, Record};
use goloo_model::store::{Broken, SNAPSHOT_FILES, Snapshot, StoreError};

use super::durable::failed;
use super::fs::Fs;
use super::layout::{self, PREVIOUS, STATE};
use super::sealed::unopened;
use crate::options::RecordCheck;
use crate::rules::other_name;
pub(super) use crate::rules::{archive_ids, is_half_archived};

/// The content of a VM's folder.
pub(super) enum Found {
    /// The folder doesn't exist.
    Absent,
    /// A valid `state.json`, and its content.
    Sound(Box<Record>, Vec<u8>),
    /// `state.json` is unusable; this is the previous one.
    Recovered(Box<Record>, Broken),
    /// Neither is usable.
    Broken(Broken),
    /// A newer format, with its number, that can't be read here. The previous record is
    /// not used: a newer goloo can read this one.
    Newer(Broken, u32),
}

/// Why a file isn't a valid record.
enum Unsound {
    Missing,
    Bad(String),
    /// Encrypted for others. They can read it, so the previous record is not used.
    Sealed(String),
    Newer(u32, String),
}

/// What records are read with.
#[derive(Clone, Copy)]
pub(super) struct RecordReader<'a> {
    pub fs: &'a dyn Fs,
    pub check: &'a RecordCheck,
}

impl RecordReader<'_> {
    /// Reads the record in `folder`, which must have the name `name`.
    pub fn find(self, folder: &Path, name: &str) -> Result<Found, StoreError> {
        if let Ok((record, bytes)) = self.read(&folder.join(STATE), name)? {
            return Ok(Found::Sound(record, bytes));
        }
        // The folder may have been moved or replaced between two reads.
        unmoved(self.fs, folder, || match self.read(&folder.join(STATE), name)? {
            Ok((record, bytes)) => Ok(Found::Sound(record, bytes)),
            Err(unsound) => self.recover(folder, name, unsound),
        })
        .map(|found| found.unwrap_or(Found::Absent))
    }

    /// Reads the snapshot of the record in `folder`; `None` if the folder doesn't exist.
    pub fn snapshot(self, folder: &Path, name: &str) -> Result<Option<Snapshot>, StoreError> {
        let files = match self.find(folder, name)? {
            Found::Sound(record, _) | Found::Recovered(record, _) => layout::files(folder, &record),
            Found::Absent | Found::Broken(_) | Found::Newer(..) => folder.to_owned(),
        };
        unmoved(self.fs, folder, || files_in(self.fs, &files))
    }

    fn recover(self, folder: &Path, name: &str, unsound: Unsound) -> Result<Found, StoreError> {
        let broken = |error| Broken {
            name: folder_name(folder),
            path: folder.join(STATE).display().to_string(),
            error,
        };
        let broken = match unsound {
            Unsound::Missing => broken("the file is missing".to_owned()),
            Unsound::Bad(text) => broken(text),
            Unsound::Sealed(text) => return Ok(Found::Broken(broken(text))),
            Unsound::Newer(schema, text) => return Ok(Found::Newer(broken(text), schema)),
        };
        Ok(match self.read(&folder.join(PREVIOUS), name)? {
            Ok((record, _)) => Found::Recovered(record, broken),
            Err(_) => Found::Broken(broken),
        })
    }

    fn read(self, path: &Path, name: &str) -> Result<Read, StoreError> {
        let mut bytes = Vec::new();
        if let Err(error) = self.fs.read(path, &mut bytes) {
            return match unsound(&error) {
                Some(unsound) => Ok(Err(unsound)),
                None => Err(failed("read", path)(error)),
            };
        }
        Ok(match record::from_json(&bytes) {
            Ok(record) if record.name.as_str() != name => {
                Err(Unsound::Bad(other_name(record.name.as_str(), name)))
            }
            Ok(record) => match self.check.check(&record) {
                Ok(()) => Ok((Box::new(record), bytes)),
                Err(error) => Err(Unsound::Bad(error)),
            },
            Err(error @ RecordError::Newer { schema, .. }) => Err(Unsound::Newer(schema, error.to_string())),
            Err(error) => Err(Unsound::Bad(error.to_string())),
        })
    }
}

fn folder_name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Retries `read` until the folder was the same before and after it; `None` if it doesn't exist.
fn unmoved<T>(
    fs: &dyn Fs,
    folder: &Path,
    mut read: impl FnMut() -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let id = || fs.folder_id(folder).map_err(failed("access", folder));
    let mut before = id()?;
    loop {
        if before.is_none() {
            return Ok(None);
        }
        let value = read()?;
        let after = id()?;
        if before == after {
            return Ok(Some(value));
        }
        before = after;
    }
}

type Read = Result<(Box<Record>, Vec<u8>), Unsound>;

/// Whether a failed read is due to the file rather than to this process (no permission, too many
/// open files).
fn unsound(error: &io::Error) -> Option<Unsound> {
    const EIO: i32 = 5;
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Some(Unsound::Missing),
        _ if unopened(error).is_some() => unopened(error).map(|error| Unsound::Sealed(error.to_string())),
        _ if error.raw_os_error() == Some(EIO) => Some(Unsound::Bad(error.to_string())),
        _ => None,
    }
}

/// The files of a snapshot in `folder`; none if it doesn't exist.
pub(super) fn files_in(fs: &dyn Fs, folder: &Path) -> Result<Snapshot, StoreError> {
    let mut snapshot = Snapshot::default();
    for file in SNAPSHOT_FILES {
        let path = folder.join(file);
        let mut bytes = Vec::new();
        match fs.read(&path, &mut bytes) {
            Ok(()) => drop(snapshot.files.insert(file.to_owned(), bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read", &path)(error)),
        }
    }
    Ok(snapshot)
}
