//! Reads one record, whole and without a lock: writers replace files and folders in one step, so a
//! reader sees what was before or after.

use std::io::{self, ErrorKind};
use std::path::Path;

use goloo_core::record::upgrade::RecordError;
use goloo_core::record::{self, Record};
use goloo_core::store::{Broken, SNAPSHOT_FILES, Snapshot, StoreError};

use super::durable::failed;
use super::fs::Fs;
use super::layout::{PREVIOUS, STATE};
use super::sealed::unopened;
use crate::rules::other_name;
pub(super) use crate::rules::{archive_ids, is_half_archived};

/// What lies in a VM's folder.
pub(super) enum Found {
    /// No such folder.
    Absent,
    /// A sound `state.json`, and its bytes.
    Sound(Box<Record>, Vec<u8>),
    /// `state.json` can't be used; this is the one before.
    Recovered(Box<Record>, Broken),
    /// Neither can be used.
    Broken(Broken),
    /// Of a newer format, with its number, and of a shape that can't be read here. The one before is
    /// no substitute: a newer goloo reads this one.
    Newer(Broken, u32),
}

/// Why a file is no sound record.
enum Unsound {
    Missing,
    Bad(String),
    /// Sealed for others: whoever can open it reads it, so the one before is no substitute.
    Sealed(String),
    Newer(u32, String),
}

/// Reads the record in `folder`; `name` is what it must be called.
pub(super) fn find(fs: &dyn Fs, folder: &Path, name: &str) -> Result<Found, StoreError> {
    if let Ok((record, bytes)) = read_record(fs, &folder.join(STATE), name)? {
        return Ok(Found::Sound(record, bytes));
    }
    // The folder may have been moved, or another put in its place, between two reads.
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

/// Runs `read` until the folder was the same one before and after it; `None` when there is none.
fn unmoved<T>(
    fs: &dyn Fs,
    folder: &Path,
    mut read: impl FnMut() -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let id = || fs.folder_id(folder).map_err(failed("look at", folder));
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

/// Whether a failed read says something of the file; else (no permission, too many open files) it
/// says something of this process.
fn unsound(error: &io::Error) -> Option<Unsound> {
    const EIO: i32 = 5;
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Some(Unsound::Missing),
        _ if unopened(error).is_some() => unopened(error).map(|error| Unsound::Sealed(error.to_string())),
        _ if error.raw_os_error() == Some(EIO) => Some(Unsound::Bad(error.to_string())),
        _ => None,
    }
}

/// Reads the snapshot in `folder`; `None` when there is no such folder.
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
