//! Records from another store, put as they are there.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use goloo_core::record::{self, Record, SCHEMA};
use goloo_core::store::{Archived, Snapshot, StoreError};

use super::Inner;
use super::durable::{self, Old};
use super::layout::STATE;
use super::lock::refused;
use super::read::{self, Found};
use crate::rules::{newer, odd_file, other_name};

/// Where a record belongs, and where it is made ready.
pub(super) struct Place {
    pub folder: PathBuf,
    pub staged: PathBuf,
}

impl Inner {
    /// Makes record and snapshot appear together; `false` when something is in their place.
    pub(super) fn publish(
        &self,
        place: &Place,
        record: &Record,
        snapshot: &Snapshot,
    ) -> Result<bool, StoreError> {
        if let Some(odd) = odd_file(snapshot) {
            return Err(refused(&place.folder, odd));
        }
        let fs = self.fs();
        let published = self
            .stage(&place.staged, record, snapshot)
            .and_then(|()| durable::publish(fs, &place.staged, &place.folder));
        if !matches!(published, Ok(true)) {
            // What can't be removed now is removed by whoever comes next.
            let _ = durable::remove_tree(fs, &place.staged);
        }
        published
    }

    fn stage(&self, staged: &Path, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        let fs = self.fs();
        durable::remove_tree(fs, staged)?;
        fs.create_folder(staged).map_err(durable::failed("make the folder", staged))?;
        for (file, bytes) in &snapshot.files {
            durable::write_file(fs, &staged.join(file), bytes)?;
        }
        durable::write_file(fs, &staged.join(STATE), &record::to_json(record))
    }

    /// Puts a record in a place that nobody else writes to meanwhile; `other` is the error when another
    /// VM's record lies there.
    pub(super) fn put(
        &self,
        place: &Place,
        record: &Record,
        snapshot: &Snapshot,
        other: impl Fn(&Record) -> StoreError,
    ) -> Result<(), StoreError> {
        if record.schema > SCHEMA {
            return Err(newer(&record.name, record.schema));
        }
        let (stored, old) = match read::find(self.fs(), &place.folder, record.name.as_str())? {
            Found::Absent if self.publish(place, record, snapshot)? => return Ok(()),
            Found::Absent => return Err(refused(&place.folder, "something came there meanwhile".to_owned())),
            Found::Broken(broken) => return Err(StoreError::Broken(broken)),
            Found::Newer(_, schema) => return Err(newer(&record.name, schema)),
            Found::Sound(stored, bytes) => (stored, Some(bytes)),
            Found::Recovered(stored, _) => (stored, None),
        };
        if stored.schema > SCHEMA {
            return Err(newer(&record.name, stored.schema));
        }
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

    /// Replaces an older record of the same VM; `old` are its bytes when it is sound.
    fn replace(
        &self,
        place: &Place,
        record: &Record,
        snapshot: &Snapshot,
        old: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        // It is what the VM was made from, and can't have become another since.
        if read::snapshot(self.fs(), &place.folder)?.as_ref() != Some(snapshot) {
            let text = "the files that this VM was made from are others here".to_owned();
            return Err(refused(&place.folder, text));
        }
        let old = old.map_or(Old::Broken, Old::Sound);
        durable::replace_state(self.fs(), &place.folder, &record::to_json(record), old)
    }

    pub(super) fn archive_put(
        self: &Arc<Self>,
        archived: &Archived,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        let (id, record) = (&archived.id, &archived.record);
        let folder = self.layout.archived(id);
        if record.name.as_str() != id.name() {
            return Err(refused(&folder, other_name(record.name.as_str(), id.name())));
        }
        if self.half_archived_as(id)?.is_some() {
            // Taking the lock moves it.
            self.lock(&record.name, b"")?;
        }
        let _entered = self.enter_archive()?;
        durable::ensure_folder(self.fs(), &self.layout.archive())?;
        let place = Place { folder, staged: self.layout.staged_archive(id) };
        self.put(&place, record, snapshot, |stored| stale(record, stored.serial))
    }
}

fn stale(record: &Record, found: u64) -> StoreError {
    StoreError::Stale { name: record.name.clone(), expected: record.serial, found }
}
