//! Rules and messages that all back ends share.

use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{self, MAX_RECORD_BYTES, Phase, Record, SCHEMA};
use goloo_model::store::{Broken, SNAPSHOT_FILES, Snapshot, StoreError};
use goloo_model::time::Timestamp;
use goloo_sys::read;

/// Whether a record is of a deleted VM whose move to the archive was interrupted. One of a newer format
/// must not be moved by this version.
pub(crate) fn is_half_archived(record: &Record) -> bool {
    record.phase == Phase::Destroyed && record.schema <= SCHEMA
}

/// The ids that a record may get in the archive, in order of preference. Two VMs with the same name
/// almost never share both the four random characters and the second of their deletion; if they do, the later one
/// gets the next second.
pub(crate) fn archive_ids(record: &Record, at: Timestamp) -> impl Iterator<Item = ArchiveId> + use<> {
    let (name, id) = (record.name.clone(), record.id.clone());
    let times = std::iter::successors(Some(at), |time| Timestamp::from_unix(time.unix() + 1));
    times.map(move |time| ArchiveId::new(&name, time, &id))
}

/// The broken records of a list, which others may have created in any number: the first are kept, the rest is counted.
#[derive(Default)]
pub(crate) struct BrokenRecords {
    kept: Vec<Broken>,
    more: usize,
}

impl BrokenRecords {
    /// Fifty times the number that is displayed, for `--json`.
    pub const KEPT_MAX: usize = 1000;

    pub fn push(&mut self, broken: Broken) {
        if self.kept.len() < Self::KEPT_MAX {
            self.kept.push(broken);
        } else {
            self.more += 1;
        }
    }

    /// All of them; the last one stands for those that weren't kept, with the location of the whole list.
    pub fn in_place(self, place: &str) -> Vec<Broken> {
        let Self { mut kept, more } = self;
        if more > 0 {
            let error = format!("{more} more broken records are not listed");
            kept.push(Broken { name: "…".to_owned(), path: place.to_owned(), error });
        }
        kept
    }
}

/// The error for a record that belongs under another name.
pub(crate) fn other_name(found: &str, expected: &str) -> String {
    format!("it is the record of \"{found}\", not of \"{expected}\"")
}

/// A record's document. Indentation multiplies the size of nested values unknown to goloo, which it preserves: if
/// it would make the record too large to be read, it is omitted.
pub(crate) fn document(record: &Record) -> Vec<u8> {
    let indented = record::to_json(record);
    if indented.len() > MAX_RECORD_BYTES { compact(&indented) } else { indented }
}

/// The same, or an error: a record that goloo can't read again must not be written.
pub(crate) fn readable_document(record: &Record) -> Result<Vec<u8>, String> {
    let document = document(record);
    if document.len() <= MAX_RECORD_BYTES {
        return Ok(document);
    }
    Err(format!(
        "the record of \"{}\" would have {} bytes, but the limit is {MAX_RECORD_BYTES}: check it for fields that goloo doesn't know",
        record.name,
        document.len()
    ))
}

/// A JSON document without insignificant whitespace.
fn compact(json: &[u8]) -> Vec<u8> {
    let (mut in_string, mut is_escaped) = (false, false);
    let mut is_kept = |byte: u8| {
        let is_quote = byte == b'"' && !is_escaped;
        is_escaped = in_string && byte == b'\\' && !is_escaped;
        in_string ^= is_quote;
        in_string || !byte.is_ascii_whitespace()
    };
    json.iter().copied().filter(|byte| is_kept(*byte)).collect()
}

/// The problem with a snapshot that contains an unknown or too large file.
pub(crate) fn odd_file(snapshot: &Snapshot) -> Option<String> {
    snapshot.files.iter().find_map(|(file, content)| check_file(file, content).err())
}

/// The problem with a record and a snapshot that are to replace others.
pub(crate) fn odd_replacement(record: &Record, snapshot: &Snapshot) -> Option<String> {
    let other_files =
        || (!record.has_files(snapshot)).then(|| "the record doesn't name these files".to_owned());
    odd_file(snapshot).or_else(other_files)
}

/// The maximum size of a document in a store, in bytes: [`read::FILE_MAX`] plus the overhead of encryption.
pub(crate) const KEPT_MAX: u64 = read::FILE_MAX + (64 << 10);

/// The problem with a snapshot's file in a store that others can write to.
pub(crate) fn check_file(file: &str, content: &[u8]) -> Result<(), String> {
    if !SNAPSHOT_FILES.contains(&file) {
        return Err(format!("a snapshot holds no file \"{file}\""));
    }
    if content.len() as u64 > read::FILE_MAX {
        return Err(format!("{file} is larger than {} MiB", read::FILE_MAX >> 20));
    }
    Ok(())
}

/// Refuses to write over a record of a newer format.
pub(crate) fn check_schema(record: &Record) -> Result<(), StoreError> {
    if record.schema > SCHEMA {
        return Err(newer(&record.name, record.schema));
    }
    Ok(())
}

/// The error for overwriting a record of a newer format.
pub(crate) fn newer(name: &VmName, found: u32) -> StoreError {
    StoreError::Newer { name: name.clone(), found, known: SCHEMA }
}

/// A lock holder's writes that may have succeeded although a failure was reported. The caller still uses the
/// serial from before them, which is correct: nobody else can have written meanwhile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unacknowledged {
    /// The serial that they were to replace.
    pub replaced: u64,
    /// The highest serial that they may have written.
    pub last: u64,
}

impl Unacknowledged {
    /// Whether the stored record may be from these writes, if the caller expects another serial.
    pub fn explains(self, stored: u64, expected: u64) -> bool {
        self.replaced == expected && self.replaced < stored && stored <= self.last
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn compacting_a_document_keeps_its_meaning() {
        let values =
            serde_json::json!({"a b": [1, " \\ \" x ", {"\\": "\\\\", "n": "\n \t"}, []], "": {}, "c": null});
        let indented = serde_json::to_vec_pretty(&values).unwrap();
        assert_eq!(compact(&indented), serde_json::to_vec(&values).unwrap());
    }
}
