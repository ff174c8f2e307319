//! Rules that every back end keeps in the same words.

use std::error::Error;

use goloo_core::name::{ArchiveId, VmName};
use goloo_core::record::{Phase, Record, SCHEMA};
use goloo_core::store::{SNAPSHOT_FILES, Snapshot, StoreError};
use goloo_core::time::Timestamp;
use goloo_os::read;

/// A record of a VM that is gone, on its way to the archive when somebody died. One of a newer format
/// isn't ours to move.
pub(crate) fn is_half_archived(record: &Record) -> bool {
    record.phase == Phase::Destroyed && record.schema <= SCHEMA
}

/// The ids that a record may get in the archive, the first of them first. Two VMs of one name can't share
/// four random characters and the second of their end, save by the rarest chance; the later one then
/// gets the next second.
pub(crate) fn archive_ids(record: &Record, at: Timestamp) -> impl Iterator<Item = ArchiveId> + use<> {
    let (name, id) = (record.name.clone(), record.id.clone());
    let times = std::iter::successors(Some(at), |time| Timestamp::from_unix(time.unix() + 1));
    times.map(move |time| ArchiveId::new(&name, time, &id))
}

/// An error with its causes.
pub(crate) fn in_one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// What is wrong with a record that belongs elsewhere.
pub(crate) fn other_name(found: &str, expected: &str) -> String {
    format!("it is the record of \"{found}\", not of \"{expected}\"")
}

/// What is wrong with a snapshot, when it holds a file that no stack has, or that is larger than one may be.
pub(crate) fn odd_file(snapshot: &Snapshot) -> Option<String> {
    snapshot.files.iter().find_map(|(file, content)| check_file(file, content).err())
}

/// The largest document that is read from a store, in bytes: [`read::FILE_MAX`] and what encryption adds to it.
pub(crate) const KEPT_MAX: u64 = read::FILE_MAX + (64 << 10);

/// What is wrong with a file of a snapshot in a store that others write to.
pub(crate) fn check_file(file: &str, content: &[u8]) -> Result<(), String> {
    if !SNAPSHOT_FILES.contains(&file) {
        return Err(format!("a snapshot holds no file \"{file}\""));
    }
    if content.len() as u64 > read::FILE_MAX {
        return Err(format!("{file} is larger than {} MiB", read::FILE_MAX >> 20));
    }
    Ok(())
}

/// The refusal to write over a record of a newer format.
pub(crate) fn newer(name: &VmName, found: u32) -> StoreError {
    StoreError::Newer { name: name.clone(), found, known: SCHEMA }
}

/// Writes of a lock's that may have come through although a failure was reported. The caller still names the
/// serial from before them, and is right to: nobody else can have written meanwhile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unacknowledged {
    /// The serial that they were to replace.
    pub replaced: u64,
    /// The highest that they may have left.
    pub last: u64,
}

impl Unacknowledged {
    /// Whether what is stored may be of these writes, where the caller expects another serial.
    pub fn explains(self, stored: u64, expected: u64) -> bool {
        self.replaced == expected && self.replaced < stored && stored <= self.last
    }
}
