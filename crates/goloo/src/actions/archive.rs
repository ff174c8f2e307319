//! The archive of deleted VMs, and the history of a name.

use std::time::Duration;

use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::Record;
use goloo_model::store::{Archived, Listing, Snapshot, StoreError};
use goloo_model::time::Timestamp;

use crate::error::Error;
use crate::identity;
use crate::session::Session;

/// A deleted VM and the files that it was created from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedFiles {
    /// The VM.
    pub archived: Archived,
    /// The files.
    pub snapshot: Snapshot,
}

/// One of the VMs that had a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incarnation {
    /// The record's id in the archive; `None` for the active VM.
    pub archive_id: Option<ArchiveId>,
    /// The record, with its history.
    pub record: Record,
}

impl Incarnation {
    /// Where its record is: its id in the archive, or `active`.
    pub fn place(&self) -> &str {
        self.archive_id.as_ref().map_or("active", ArchiveId::as_str)
    }
}

impl Session {
    /// The archive, newest first.
    ///
    /// # Errors
    /// As the store's.
    pub fn archive(&self) -> Result<Listing<Archived>, Error> {
        self.local(self.store.archive_list())
    }

    /// The VMs that were deleted at least this long ago.
    ///
    /// # Errors
    /// As the store's.
    pub fn archived_before(&self, age: Duration) -> Result<Vec<Archived>, Error> {
        let now = Timestamp::now();
        let mut archive = self.archive()?.entries;
        archive.retain(|entry| now.since(entry.deleted_at) >= age);
        Ok(archive)
    }

    /// A deleted VM.
    ///
    /// # Errors
    /// [`StoreError::NotArchived`]; errors of the store.
    pub fn archived(&self, id: &ArchiveId) -> Result<Archived, Error> {
        let archived = self.local(self.store.archive_load(id))?;
        Ok(archived.ok_or_else(|| StoreError::NotArchived { id: id.clone() })?)
    }

    /// A deleted VM with the files that it was created from.
    ///
    /// # Errors
    /// As [`Self::archived`].
    pub fn archived_files(&self, id: &ArchiveId) -> Result<ArchivedFiles, Error> {
        let archived = self.archived(id)?;
        Ok(ArchivedFiles { archived, snapshot: self.local(self.store.archive_snapshot(id))? })
    }

    /// Removes a record from the archive permanently.
    ///
    /// # Errors
    /// As the store's.
    pub fn delete_archived(&self, id: &ArchiveId) -> Result<(), Error> {
        self.local(self.store.archive_delete(id, &identity::owner()))
    }

    /// The VMs that had this name, oldest first; each record has its history.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there never was one; errors of the store.
    pub fn history(&self, name: &VmName) -> Result<Vec<Incarnation>, Error> {
        let archived = self.local(self.store.archive_of(name))?.entries.into_iter();
        let mut all: Vec<_> =
            archived.map(|entry| Incarnation { archive_id: Some(entry.id), record: entry.record }).collect();
        let active = match self.local(self.store.load(name))? {
            Some(loaded) => Some(loaded.record),
            // One of goloo v0 is imported here.
            None if all.is_empty() => Some(self.record(name)?),
            None => None,
        };
        all.extend(active.map(|record| Incarnation { archive_id: None, record }));
        all.sort_by_key(|vm| vm.record.created_at);
        Ok(all)
    }
}
