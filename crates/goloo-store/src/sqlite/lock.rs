//! The right to write one VM's record, and all writing of records.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use goloo_core::name::{ArchiveId, VmName};
use goloo_core::record::{Owner, Phase, Record, SCHEMA};
use goloo_core::store::{Loaded, Snapshot, StoreError, VmLock};
use goloo_core::time::Timestamp;
use rusqlite::Transaction;

use super::database::{Durability, Failure};
use super::shelf::{self, Found, Place};
use super::{Inner, lease};
use crate::dir::durable::failed;
use crate::rules::{archive_ids, is_half_archived, newer, odd_file, other_name};

/// The lock of one name; it ends with the value.
pub(super) struct SqliteLock {
    store: Arc<Inner>,
    name: VmName,
    epoch: i64,
    taken_over: Option<Owner>,
    renewal: Option<Renewal>,
}

/// The thread that gives signs of life.
struct Renewal {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Renewal {
    fn start(store: Arc<Inner>, name: VmName, epoch: i64) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let every = store.locks.lease.renewal;
        let thread = thread::Builder::new().name("lease".to_owned()).spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let renewed = store
                    .database
                    .write(Durability::Volatile, |transaction| store.locks.renew(transaction, &name, epoch));
                // One that fails is tried again; a lock that is lost stays lost.
                if matches!(renewed, Ok(false)) {
                    return;
                }
            }
        })?;
        Ok(Self { stop, thread })
    }

    fn end(self) {
        drop(self.stop);
        // A thread that panicked gives no more signs of life, which is all that is asked of it here.
        let _ = self.thread.join();
    }
}

impl Drop for SqliteLock {
    fn drop(&mut self) {
        if let Some(renewal) = self.renewal.take() {
            renewal.end();
        }
        // Where this fails the lock ends with the process, or with its lease.
        let _ = self
            .store
            .database
            .write(Durability::Volatile, |transaction| lease::release(transaction, &self.name, self.epoch));
    }
}

impl SqliteLock {
    /// Takes the lock, and finishes what a dead owner left half done.
    pub fn take(store: Arc<Inner>, name: &VmName, owner: &Owner) -> Result<Self, StoreError> {
        let taken = store.database.write(Durability::Volatile, |transaction| {
            store.check_not_moved(transaction)?;
            store.locks.take(transaction, name, owner)
        })?;
        let mut lock = Self {
            store,
            name: name.clone(),
            epoch: taken.epoch,
            taken_over: taken.over_from,
            renewal: None,
        };
        lock.finish_archive()?;
        let renewal = Renewal::start(lock.store.clone(), name.clone(), lock.epoch);
        lock.renewal = Some(renewal.map_err(failed("start a thread for", lock.store.database.file()))?);
        Ok(lock)
    }

    /// A VM that was saved as destroyed goes to the archive.
    fn finish_archive(&self) -> Result<(), StoreError> {
        let is_half = |found| matches!(found, Found::Sound(record) if is_half_archived(&record));
        if !self.store.database.read(|transaction| Ok(is_half(self.find(transaction)?)))? {
            return Ok(());
        }
        self.write(|transaction| match self.find(transaction)? {
            Found::Sound(record) if is_half_archived(&record) => {
                self.move_to_archive(transaction, &record, record.updated_at).map(drop)
            }
            _ => Ok(()),
        })
    }

    fn place(&self) -> Place<'_> {
        Place::Active(&self.name)
    }

    fn find(&self, transaction: &Transaction<'_>) -> Result<Found, Failure> {
        shelf::find(&self.store.database, transaction, self.place())
    }

    /// Writes, when the lock is still ours and the store wasn't moved.
    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>) -> Result<T, StoreError> {
        self.store.database.write(Durability::Durable, |transaction| {
            self.store.check_not_moved(transaction)?;
            lease::check(transaction, &self.name, self.epoch)?;
            work(transaction)
        })
    }

    fn taken(&self) -> Failure {
        StoreError::NameTaken { name: self.name.clone() }.into()
    }

    fn stale(&self, record: &Record, found: u64) -> StoreError {
        StoreError::Stale { name: self.name.clone(), expected: record.serial, found }
    }

    fn check_writable(&self, record: &Record) -> Result<(), StoreError> {
        if record.name != self.name {
            return Err(self.store.refused(other_name(record.name.as_str(), self.name.as_str())));
        }
        check_schema(record)
    }

    fn create(&self, record: &mut Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.check_writable(record)?;
        self.store.check_files(snapshot)?;
        if record.serial != 0 {
            return Err(self.stale(record, 0));
        }
        let first = Record { serial: 1, ..record.clone() };
        self.write(|transaction| match self.find(transaction)? {
            Found::Absent => self.put_whole(transaction, &first, snapshot),
            _ => Err(self.taken()),
        })?;
        record.serial = 1;
        Ok(())
    }

    fn put_whole(
        &self,
        transaction: &Transaction<'_>,
        record: &Record,
        snapshot: &Snapshot,
    ) -> Result<(), Failure> {
        shelf::put(&self.store.database, transaction, self.place(), record)?;
        shelf::put_files(&self.store.database, transaction, self.place(), snapshot)
    }

    fn save(&self, record: &mut Record) -> Result<(), StoreError> {
        let next = self.next(record)?;
        self.write(|transaction| self.replace(transaction, record, &next))?;
        record.serial = next.serial;
        record.updated_at = next.updated_at;
        Ok(())
    }

    /// The record as the next save makes it.
    fn next(&self, record: &Record) -> Result<Record, StoreError> {
        self.check_writable(record)?;
        let serial = record.serial.checked_add(1).ok_or_else(|| self.stale(record, 0))?;
        Ok(Record { serial, updated_at: Timestamp::now(), ..record.clone() })
    }

    fn replace(&self, transaction: &Transaction<'_>, record: &Record, next: &Record) -> Result<(), Failure> {
        let name = self.name.clone();
        let stored = match self.find(transaction)? {
            Found::Sound(stored) => stored,
            Found::Absent => return Err(StoreError::NotFound { name }.into()),
            Found::Broken(broken) => return Err(StoreError::Broken(broken).into()),
            Found::Newer(_, found) => return Err(newer(&self.name, found).into()),
        };
        check_schema(&stored)?;
        if (stored.serial, &stored.id) != (record.serial, &record.id) {
            return Err(self.stale(record, stored.serial).into());
        }
        shelf::put(&self.store.database, transaction, self.place(), next)
    }

    fn put(&self, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.check_writable(record)?;
        self.store.check_files(snapshot)?;
        self.write(|transaction| {
            if let Some(stored) = self.find(transaction)?.readable()? {
                if stored.id != record.id {
                    return Err(self.taken());
                }
                match stored.serial.cmp(&record.serial) {
                    std::cmp::Ordering::Equal => return Ok(()),
                    std::cmp::Ordering::Greater => return Err(self.stale(record, stored.serial).into()),
                    std::cmp::Ordering::Less => check_schema(&stored)?,
                }
            }
            self.put_whole(transaction, record, snapshot)
        })
    }

    fn archive(&self, record: &mut Record, at: Timestamp) -> Result<ArchiveId, StoreError> {
        if record.phase != Phase::Destroyed {
            let text = format!("only a destroyed VM is archived; this one is {}", record.phase);
            return Err(self.store.refused(text));
        }
        let next = self.next(record)?;
        let id = self.write(|transaction| {
            self.replace(transaction, record, &next)?;
            self.move_to_archive(transaction, &next, at)
        })?;
        record.serial = next.serial;
        record.updated_at = next.updated_at;
        Ok(id)
    }

    fn move_to_archive(
        &self,
        transaction: &Transaction<'_>,
        record: &Record,
        at: Timestamp,
    ) -> Result<ArchiveId, Failure> {
        let ids = archive_ids(record, at);
        let id = shelf::archive(&self.store.database, transaction, record, ids)?;
        let full = || self.store.refused("the archive has no time left for it".to_owned());
        Ok(id.ok_or_else(full)?)
    }
}

pub(super) fn check_schema(record: &Record) -> Result<(), StoreError> {
    if record.schema > SCHEMA {
        return Err(newer(&record.name, record.schema));
    }
    Ok(())
}

impl Inner {
    /// The caller asks for something that must not be written.
    pub(super) fn refused(&self, text: String) -> StoreError {
        failed("write", self.database.file())(io::Error::new(ErrorKind::InvalidInput, text))
    }

    pub(super) fn check_files(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        odd_file(snapshot).map_or(Ok(()), |odd| Err(self.refused(odd)))
    }
}

#[async_trait]
impl VmLock for SqliteLock {
    fn name(&self) -> &VmName {
        &self.name
    }

    async fn load(&mut self) -> Result<Option<Loaded>, StoreError> {
        self.store.load(&self.name)
    }

    async fn snapshot(&mut self) -> Result<Snapshot, StoreError> {
        self.store.snapshot(&self.name)
    }

    async fn create(&mut self, record: &mut Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        SqliteLock::create(self, record, snapshot)
    }

    async fn save(&mut self, record: &mut Record) -> Result<(), StoreError> {
        SqliteLock::save(self, record)
    }

    async fn put(&mut self, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        SqliteLock::put(self, record, snapshot)
    }

    fn taken_over(&self) -> Option<&Owner> {
        self.taken_over.as_ref()
    }

    fn lease_end(&self) -> Option<Timestamp> {
        self.store.locks.end()
    }

    async fn archive(&mut self, record: &mut Record, at: Timestamp) -> Result<ArchiveId, StoreError> {
        SqliteLock::archive(self, record, at)
    }
}
