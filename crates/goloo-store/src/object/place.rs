//! A bucket with its encryption, and what may be put there.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use goloo_model::record::Record;
use goloo_model::store::{Snapshot, StoreError};

use super::bucket::Bucket;
use super::error::backend;
use crate::rules::{check_schema, odd_file, other_name, readable_document};
use crate::seal::{Seal, SealError};

/// The folder of active VMs.
pub(super) const ACTIVE: &str = "active";
/// The folder of deleted VMs.
pub(super) const ARCHIVE: &str = "archive";

/// A bucket, and how documents are stored in it.
#[derive(Clone)]
pub(super) struct Place {
    pub bucket: Arc<Bucket>,
    pub seal: Seal,
}

impl Place {
    pub fn sealing(&self, error: SealError) -> StoreError {
        backend("seal a document", &self.bucket.place, error)
    }

    /// The error for a document that must not be stored under this name.
    pub fn refused(&self, folder: &str, name: &str, text: String) -> StoreError {
        let path = self.bucket.address(folder, name).into();
        StoreError::Io { action: "write", path, source: io::Error::new(ErrorKind::InvalidInput, text) }
    }

    /// Refuses a document that can't be stored under this name in a folder.
    pub fn check_document(
        &self,
        folder: &str,
        name: &str,
        vm: &str,
        record: &Record,
    ) -> Result<(), StoreError> {
        if record.name.as_str() != vm {
            return Err(self.refused(folder, name, other_name(record.name.as_str(), vm)));
        }
        check_schema(record)?;
        readable_document(record).map(drop).map_err(|text| self.refused(folder, name, text))
    }

    /// Refuses files that a snapshot can't contain.
    pub fn check_files(&self, folder: &str, name: &str, snapshot: &Snapshot) -> Result<(), StoreError> {
        odd_file(snapshot).map_or(Ok(()), |odd| Err(self.refused(folder, name, odd)))
    }
}
