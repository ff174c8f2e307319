//! Copies records from another store, unchanged.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use goloo_model::record::Record;
use goloo_model::store::{Snapshot, StoreError};

use super::durable::{self, Old, refused};
use super::inner::Inner;
use super::layout::{self, STATE};
use super::read::{self, Found};
use crate::rules::{check_schema, newer, odd_file, readable_document};

/// The final place of a record, and the one where it is prepared.
pub(super) struct Place {
    pub folder: PathBuf,
    pub staged: PathBuf,
}

impl Inner {
    /// Makes record and snapshot appear together; `false` if the place is in use.
    pub(super) fn publish(
        &self,
        place: &Place,
        record: &Record,
        snapshot: &Snapshot,
    ) -> Result<bool, StoreError> {
        if let Some(odd) = odd_file(snapshot) {
            return Err(refused(&place.folder, odd));
        }
        let document = readable_document(record).map_err(|text| refused(&place.folder, text))?;
        let fs = self.fs();
        let published = self
            .stage(&place.staged, record, &document, snapshot)
            .and_then(|()| durable::publish(fs, &place.staged, &place.folder));
        if !matches!(published, Ok(true)) {
            // Anything that can't be removed now is removed by the next process.
            let _ = durable::remove_tree(fs, &place.staged);
        }
        published
    }

    fn stage(
        &self,
        staged: &Path,
        record: &Record,
        document: &[u8],
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        let fs = self.fs();
        durable::remove_tree(fs, staged)?;
        fs.create_folder(staged).map_err(durable::failed("create the folder", staged))?;
        match &record.reprovisioned {
            Some(_) => self.add_files(staged, record, snapshot)?,
            None => {
                let mut files = snapshot.files.iter();
                files.try_for_each(|(file, bytes)| durable::write_file(fs, &staged.join(file), bytes))?;
            }
        }
        durable::write_file(fs, &staged.join(STATE), document)
    }

    /// Puts the files of a snapshot that isn't the first where this record will have them, durably.
    pub(super) fn add_files(
        &self,
        folder: &Path,
        record: &Record,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        let (fs, files) = (self.fs(), layout::files(folder, record));
        durable::ensure_folder(fs, &files)?;
        // A reader may need the same file as it is there already.
        let temporary = files.join(layout::TEMPORARY);
        let mut contents = snapshot.files.iter();
        contents.try_for_each(|(file, bytes)| durable::replace_file(fs, &temporary, &files.join(file), bytes))
    }

    /// Puts a record in a place that nobody else writes to meanwhile; `other` is the error if another
    /// VM's record is there.
    pub(super) fn put(
        &self,
        place: &Place,
        record: &Record,
        snapshot: &Snapshot,
        other: impl Fn(&Record) -> StoreError,
    ) -> Result<(), StoreError> {
        check_schema(record)?;
        let (stored, old) = match self.reader().find(&place.folder, record.name.as_str())? {
            Found::Absent if self.publish(place, record, snapshot)? => return Ok(()),
            Found::Absent => {
                return Err(refused(&place.folder, "something was created there in the meantime".to_owned()));
            }
            Found::Broken(broken) => return Err(StoreError::Broken(broken)),
            Found::Newer(_, schema) => return Err(newer(&record.name, schema)),
            Found::Sound(stored, bytes) => (stored, Some(bytes)),
            Found::Recovered(stored, _) => (stored, None),
        };
        check_schema(&stored)?;
        if stored.id != record.id {
            return Err(other(&stored));
        }
        match stored.serial.cmp(&record.serial) {
            Ordering::Less => self.replace(place, record, snapshot, old.as_deref()),
            // An earlier attempt may have failed at the last sync.
            Ordering::Equal => durable::sync_folder(self.fs(), &place.folder)
                .and_then(|()| durable::sync_parents(self.fs(), &[&place.folder])),
            Ordering::Greater => Err(stale(record, stored.serial)),
        }
    }

    /// Replaces an older record of the same VM; `old` is its content if it is valid.
    fn replace(
        &self,
        place: &Place,
        record: &Record,
        snapshot: &Snapshot,
        old: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        if record.has_files(snapshot) {
            self.add_files(&place.folder, record, snapshot)?;
        } else if read::files_in(self.fs(), &layout::files(&place.folder, record))? != *snapshot {
            // Only provisioning again changes them.
            let text = "the files that this VM was created from differ here".to_owned();
            return Err(refused(&place.folder, text));
        }
        let document = readable_document(record).map_err(|text| refused(&place.folder, text))?;
        let old = old.map_or(Old::Broken, Old::Sound);
        durable::replace_state(self.fs(), &place.folder, &document, old)
    }
}

pub(super) fn stale(record: &Record, found: u64) -> StoreError {
    StoreError::Stale { name: record.name.clone(), expected: record.serial, found }
}
