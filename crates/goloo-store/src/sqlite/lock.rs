//! The right to write one VM's record, and all writes of records.

use std::future::ready;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{Owner, Phase, Record};
use goloo_model::store::{Loaded, Snapshot, StoreError, VmLock};
use goloo_model::time::Timestamp;
use rusqlite::Transaction;

use super::database::Durability;
use super::failure::Failure;
use super::inner::Inner;
use super::lock_rows;
use super::rows::{self, Found, Place};
use crate::dir::durable::failed;
use crate::lease::{Heartbeat, keep_alive};
use crate::rules::{archive_ids, check_schema, is_half_archived, newer, odd_replacement, other_name};

/// The lock of one name; released when the value is dropped.
pub(super) struct SqliteLock {
    store: Arc<Inner>,
    name: VmName,
    epoch: i64,
    taken_over: Option<Owner>,
    renewal: Option<Renewal>,
}

/// The thread that sends heartbeats.
struct Renewal {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Renewal {
    fn start(store: Arc<Inner>, name: VmName, epoch: i64) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("lease".to_owned()).spawn(move || {
            let pause = || ready(wait(&stopped, store.locks.timing.renewal));
            let renew = || ready(renew(&store, &name, epoch));
            pollster::block_on(keep_alive(pause, renew));
        })?;
        Ok(Self { stop, thread })
    }

    fn end(self) {
        drop(self.stop);
        // A thread that panicked sends no more heartbeats, which is all that is asked of it here.
        let _ = self.thread.join();
    }
}

fn wait(stopped: &Receiver<()>, renewal: Duration) -> ControlFlow<()> {
    match stopped.recv_timeout(renewal) {
        Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => ControlFlow::Break(()),
    }
}

fn renew(store: &Inner, name: &VmName, epoch: i64) -> Heartbeat {
    let renewed =
        store.database.write(Durability::Volatile, |transaction| store.locks.renew(transaction, name, epoch));
    renewed.unwrap_or(Heartbeat::Alive)
}

impl Drop for SqliteLock {
    fn drop(&mut self) {
        if let Some(renewal) = self.renewal.take() {
            renewal.end();
        }
        // If this fails, the lock ends with the process, or its lease expires.
        let _ = self.store.database.write(Durability::Volatile, |transaction| {
            lock_rows::release(transaction, &self.name, self.epoch)
        });
    }
}

impl SqliteLock {
    /// Takes the lock, and completes the unfinished work of a dead owner.
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

    /// Archives a VM that was saved as destroyed.
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
        rows::find(&self.store.database, transaction, self.place())
    }

    /// Writes if the lock is still ours and the store wasn't moved.
    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>) -> Result<T, StoreError> {
        self.store.database.write(Durability::Durable, |transaction| {
            self.store.check_not_moved(transaction)?;
            lock_rows::check(transaction, &self.name, self.epoch)?;
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
        rows::put(&self.store.database, transaction, self.place(), record)?;
        rows::put_files(&self.store.database, transaction, self.place(), snapshot)
    }

    fn save(&self, record: &mut Record) -> Result<(), StoreError> {
        let next = self.next(record)?;
        self.write(|transaction| self.replace(transaction, record, &next))?;
        record.serial = next.serial;
        record.updated_at = next.updated_at;
        Ok(())
    }

    fn save_with_snapshot(&self, record: &mut Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        if let Some(odd) = odd_replacement(record, snapshot) {
            return Err(self.store.refused(odd));
        }
        let next = self.next(record)?;
        self.write(|transaction| {
            self.replace(transaction, record, &next)?;
            rows::put_files(&self.store.database, transaction, self.place(), snapshot)
        })?;
        record.serial = next.serial;
        record.updated_at = next.updated_at;
        Ok(())
    }

    /// The record as the next save will write it.
    fn next(&self, record: &Record) -> Result<Record, StoreError> {
        self.check_writable(record)?;
        let serial = record.serial.checked_add(1).ok_or_else(|| self.stale(record, 0))?;
        Ok(Record { serial, updated_at: Timestamp::now(), ..record.clone() })
    }

    /// Refuses unless `record` is the one that is stored.
    fn expect_stored(&self, transaction: &Transaction<'_>, record: &Record) -> Result<(), Failure> {
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
        Ok(())
    }

    fn replace(&self, transaction: &Transaction<'_>, record: &Record, next: &Record) -> Result<(), Failure> {
        self.expect_stored(transaction, record)?;
        rows::put(&self.store.database, transaction, self.place(), next)
    }

    fn remove(&self, record: &Record) -> Result<(), StoreError> {
        self.check_writable(record)?;
        self.write(|transaction| {
            self.expect_stored(transaction, record)?;
            rows::remove(transaction, self.place()).map(drop)
        })
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
        let id = rows::archive(&self.store.database, transaction, record, ids)?;
        let full = || self.store.refused("the archive has no free timestamp for it".to_owned());
        Ok(id.ok_or_else(full)?)
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

    async fn save_with_snapshot(
        &mut self,
        record: &mut Record,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        SqliteLock::save_with_snapshot(self, record, snapshot)
    }

    async fn put(&mut self, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        SqliteLock::put(self, record, snapshot)
    }

    async fn remove(&mut self, record: &Record) -> Result<(), StoreError> {
        SqliteLock::remove(self, record)
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
