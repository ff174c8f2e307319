//! A store in one SQLite file on this host.
//!
//! Every change is one transaction, so if a process dies, either all of it or nothing is stored; this includes the move
//! to the archive, which other back ends do in two steps. The record is stored whole, as in `state.json`,
//! and is what goloo reads; the other columns are for people (`schema.sql`).
//!
//! Every method blocks inline and needs no runtime: a caller may drive the
//! futures with any executor that polls once.

mod connection;
mod database;
mod failure;
mod file_check;
mod inner;
mod lock;
mod lock_rows;
mod machine;
mod row_limit;
mod rows;
mod schema_check;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use goloo_model::check::Check;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::Owner;
use goloo_model::store::{Archived, HeldLock, Listing, Loaded, Snapshot, Store, StoreError, Summary, VmLock};

pub use machine::{Machine, ThisMachine};

use crate::lease::LeaseTiming;
use crate::options::Options;
use database::{Database, Durability};
use inner::{Inner, archived, moved_to};
use lock::SqliteLock;
use lock_rows::Locks;
use rows::Place;

/// The store in a SQLite file. Clones share it.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

impl SqliteStore {
    /// The store in `file`. Touches nothing: a missing file is treated as an empty store until something
    /// is written.
    pub fn open(file: &Path, options: Options) -> Self {
        Self::with_machine(file, options, Arc::new(ThisMachine), LeaseTiming::default())
    }

    /// The same on another computer, or with another timing of leases.
    pub fn with_machine(
        file: &Path,
        options: Options,
        machine: Arc<dyn Machine>,
        timing: LeaseTiming,
    ) -> Self {
        let (database, locks) = (Database::new(file, options), Locks { machine, timing });
        Self { inner: Arc::new(Inner { database, locks }) }
    }
}

impl SqliteStore {
    /// Checks of the file, apart from its records: its location, its integrity, and who can read it.
    pub fn examine(&self) -> Vec<Check> {
        let file = self.inner.database.file();
        let shown = file.display();
        let mode = match fs::metadata(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return vec![Check::ok(format!(
                    "records will be stored in {shown}, which is created on first use"
                ))];
            }
            Err(error) => {
                let hint = format!("check who owns it: ls -ld {shown}");
                return vec![Check::failed(format!("{shown} can't be read: {error}"), hint)];
            }
            Ok(metadata) => metadata.permissions().mode(),
        };
        let mut checks = Vec::from_iter(self.inner.integrity());
        let strangers = if self.inner.database.is_for_a_group() { 0o007 } else { 0o077 };
        if mode & strangers != 0 {
            checks.push(Check::failed(
                format!("{shown} can be read by other users, and cloud-init files contain secrets"),
                format!("chmod 600 {shown}*"),
            ));
        }
        checks
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn names(&self) -> Result<Vec<String>, StoreError> {
        self.inner.names()
    }

    async fn list(&self) -> Result<Listing<Summary>, StoreError> {
        self.inner.list()
    }

    async fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
        self.inner.load(name)
    }

    async fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError> {
        self.inner.snapshot(name)
    }

    async fn lock(&self, name: &VmName, owner: &Owner) -> Result<Box<dyn VmLock>, StoreError> {
        Ok(Box::new(SqliteLock::take(self.inner.clone(), name, owner)?))
    }

    async fn archive_list(&self) -> Result<Listing<Archived>, StoreError> {
        self.inner.archive_list()
    }

    async fn archive_load(&self, id: &ArchiveId) -> Result<Option<Archived>, StoreError> {
        let record = self.inner.find(Place::Archived(id))?.readable()?;
        Ok(record.map(|record| archived(id.clone(), record)))
    }

    async fn archive_snapshot(&self, id: &ArchiveId) -> Result<Snapshot, StoreError> {
        let files = self.inner.files(Place::Archived(id))?;
        files.ok_or_else(|| StoreError::NotArchived { id: id.clone() })
    }

    async fn archive_delete(&self, id: &ArchiveId, _by: &Owner) -> Result<(), StoreError> {
        self.inner.archive_delete(id)
    }

    async fn archive_put(&self, archived: &Archived, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.inner.archive_put(archived, snapshot)
    }

    async fn records(&self) -> Result<Listing<Loaded>, StoreError> {
        self.inner.records()
    }

    async fn locks(&self) -> Result<Vec<HeldLock>, StoreError> {
        self.inner.held_locks()
    }

    async fn break_lock(&self, name: &VmName) -> Result<Option<HeldLock>, StoreError> {
        let inner = &self.inner;
        if inner.held_locks()?.is_empty() {
            return Ok(None);
        }
        inner.database.write(Durability::Durable, |transaction| inner.locks.break_lock(transaction, name))
    }

    async fn moved_to(&self) -> Result<Option<String>, StoreError> {
        self.inner.database.read(moved_to)
    }

    async fn set_moved(&self, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
        self.inner.set_moved(replaces, to)
    }
}
