//! Reads one record consistently without a lock: writers replace files and folders atomically, so a
//! reader sees the state before or after.

use std::io::{self, ErrorKind};
use std::path::Path;

use goloo_model::record::RecordError;
use goloo_model::record::{self, Record};
use goloo_model::store::{Broken, SNAPSHOT_FILES, Snapshot, StoreError};

use super::durable::failed;
use super::fs::Fs;
use super::layout::{PREVIOUS, STATE};
use super::sealed::unopened;
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

/// Reads the record in `folder`, which must have the name `name`.
pub(super) fn find(fs: &dyn Fs, folder: &Path, name: &str) -> Result<Found, StoreError> {
    if let Ok((record, bytes)) = read_record(fs, &folder.join(STATE), name)? {
        return Ok(Found::Sound(record, bytes));
    }
    // The folder may have been moved or replaced between two reads.
    unmoved(fs, folder, || match read_record(fs, &folder.join(STATE), name)? {
        Ok((record, bytes)) => Ok(Found::Sound(record, bytes)),
        Err(unsound) => recover(fs, folder, name, unsound),
    })
    .map(|found| found.unwrap_or(Found::Absent))
}

fn recover(fs: &dyn Fs, folder: &Path, name: &str, unsound: Unsound) -> Result<Found, StoreError> {
    let broken =
        |error| Broken { name: folder_name(folder), path: folder.join(STATE).display().to_string(), error };
    let broken = match unsound {
        Unsound::Missing => broken("the file is missing".to_owned()),
        Unsound::Bad(text) => broken(text),
        Unsound::Sealed(text) => return Ok(Found::Broken(broken(text))),
        Unsound::Newer(schema, text) => return Ok(Found::Newer(broken(text), schema)),
    };
    Ok(match read_record(fs, &folder.join(PREVIOUS), name)? {
        Ok((record, _)) => Found::Recovered(record, broken),
        Err(_) => Found::Broken(broken),
    })
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

fn read_record(fs: &dyn Fs, path: &Path, name: &str) -> Result<Read, StoreError> {
    let mut bytes = Vec::new();
    if let Err(error) = fs.read(path, &mut bytes) {
        return match unsound(&error) {
            Some(unsound) => Ok(Err(unsound)),
            None => Err(failed("read", path)(error)),
        };
    }
    Ok(match record::from_json(&bytes) {
        Ok(record) if record.name.as_str() == name => Ok((Box::new(record), bytes)),
        Ok(record) => Err(Unsound::Bad(other_name(record.name.as_str(), name))),
        Err(error @ RecordError::Newer { schema, .. }) => Err(Unsound::Newer(schema, error.to_string())),
        Err(error) => Err(Unsound::Bad(error.to_string())),
    })
}

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

/// Reads the snapshot in `folder`; `None` if the folder doesn't exist.
pub(super) fn snapshot(fs: &dyn Fs, folder: &Path) -> Result<Option<Snapshot>, StoreError> {
    unmoved(fs, folder, || {
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
    })
}
