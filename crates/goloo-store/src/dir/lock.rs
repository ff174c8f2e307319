//! The right to write one VM's record, and all writes.

use std::sync::Arc;

use async_trait::async_trait;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{Owner, Phase, Record};
use goloo_model::store::{HeldLock, Loaded, Snapshot, StoreError, VmLock};
use goloo_model::time::Timestamp;

use super::durable::{self, Old, failed, refused};
use super::fs::{LockAttempt, LockGuard};
use super::inner::Inner;
use super::put::Place;
use super::read::{self, Found};
use crate::rules::{
    Unacknowledged, check_schema, document, newer, odd_replacement, other_name, readable_document,
};

/// The lock of one name; released when the value is dropped.
pub(super) struct DirLock {
    store: Arc<Inner>,
    name: VmName,
    unacknowledged: Option<Unacknowledged>,
    _held: LockGuard,
    _entered: LockGuard,
}

impl DirLock {
    /// Takes the lock of a name, with these words about its holder.
    pub fn acquire(store: &Arc<Inner>, name: &VmName, holder: &[u8]) -> Result<Self, StoreError> {
        let entered = store.enter()?;
        let path = store.layout.lock(name);
        match store.fs.lock(&path, holder).map_err(failed("lock", &path))? {
            LockAttempt::Held(held) => Self::take(store.clone(), name, entered, held),
            LockAttempt::Busy(holder) => {
                let owner = serde_json::from_slice(&holder).ok();
                Err(HeldLock { name: name.clone(), owner, lease_end: None }.refusal())
            }
        }
    }

    /// Completes the unfinished work of a dead owner.
    fn take(
        store: Arc<Inner>,
        name: &VmName,
        entered: LockGuard,
        held: LockGuard,
    ) -> Result<Self, StoreError> {
        let lock = Self { store, name: name.clone(), unacknowledged: None, _held: held, _entered: entered };
        lock.store.remove_staged(name)?;
        lock.store.sweep_staged();
        if let Found::Sound(record, _) = lock.find()?
            && read::is_half_archived(&record)
        {
            lock.move_to_archive(&record, record.updated_at)?;
        }
        Ok(lock)
    }

    fn find(&self) -> Result<Found, StoreError> {
        self.store.reader().find(&self.store.layout.vm(self.name.as_str()), self.name.as_str())
    }

    fn not_found(&self) -> StoreError {
        StoreError::NotFound { name: self.name.clone() }
    }

    fn check_writable(&self, record: &Record) -> Result<(), StoreError> {
        if record.name != self.name {
            let text = other_name(record.name.as_str(), self.name.as_str());
            return Err(refused(&self.store.layout.vm(self.name.as_str()), text));
        }
        check_schema(record)
    }

    fn create(&self, record: &mut Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.check_writable(record)?;
        if record.serial != 0 {
            return Err(StoreError::Stale { name: self.name.clone(), expected: record.serial, found: 0 });
        }
        let place = self.place();
        let taken = || StoreError::NameTaken { name: self.name.clone() };
        let fs = self.store.fs();
        if fs.folder_id(&place.folder).map_err(failed("access", &place.folder))?.is_some() {
            return Err(taken());
        }
        durable::ensure_folder(fs, &self.store.layout.active())?;
        let first = Record { serial: 1, ..record.clone() };
        if !self.store.publish(&place, &first, snapshot)? {
            return Err(taken());
        }
        record.serial = 1;
        Ok(())
    }

    fn put(&mut self, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.check_writable(record)?;
        durable::ensure_folder(self.store.fs(), &self.store.layout.active())?;
        let taken = |_: &Record| StoreError::NameTaken { name: self.name.clone() };
        self.store.put(&self.place(), record, snapshot, taken)
    }

    fn place(&self) -> Place {
        let layout = &self.store.layout;
        Place { folder: layout.vm(self.name.as_str()), staged: layout.staged(&self.name) }
    }

    fn save(&mut self, record: &mut Record) -> Result<(), StoreError> {
        let (stored, bytes) = self.stored(record)?;
        let (serial, bytes) = match bytes {
            Some(bytes) => (stored.serial, bytes),
            None => self.repair(stored, record.serial)?,
        };
        let next = Record { serial: serial + 1, updated_at: Timestamp::now(), ..record.clone() };
        self.replace(record.serial, &next, Old::Sound(&bytes))?;
        self.unacknowledged = None;
        record.serial = next.serial;
        record.updated_at = next.updated_at;
        Ok(())
    }

    /// The files come first, in a folder of their own, and count as soon as the record names them.
    fn save_with_snapshot(&mut self, record: &mut Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        let folder = self.place().folder;
        if let Some(odd) = odd_replacement(record, snapshot) {
            return Err(refused(&folder, odd));
        }
        self.stored(record)?;
        self.store.add_files(&folder, record, snapshot)?;
        self.save(record)
    }

    /// The stored record, if `record` may replace it, and its content if that is valid.
    fn stored(&self, record: &Record) -> Result<(Record, Option<Vec<u8>>), StoreError> {
        self.check_writable(record)?;
        let (stored, bytes) = match self.find()? {
            Found::Absent => return Err(self.not_found()),
            Found::Broken(broken) => return Err(StoreError::Broken(broken)),
            Found::Newer(_, schema) => return Err(newer(&self.name, schema)),
            Found::Sound(stored, bytes) => (stored, Some(bytes)),
            Found::Recovered(stored, _) => (stored, None),
        };
        check_schema(&stored)?;
        self.check_serial(&stored, record)?;
        Ok((*stored, bytes))
    }

    fn remove(&self, record: &Record) -> Result<(), StoreError> {
        self.stored(record)?;
        let Place { folder, staged } = self.place();
        self.store.remove_staged(&self.name)?;
        if !durable::move_folder(self.store.fs(), &folder, &staged)? {
            return Err(refused(&staged, "something was created there in the meantime".to_owned()));
        }
        // The next process that takes the lock removes what is left.
        let _ = durable::remove_tree(self.store.fs(), &staged);
        Ok(())
    }

    fn check_serial(&self, stored: &Record, record: &Record) -> Result<(), StoreError> {
        let ours = self.unacknowledged.is_some_and(|writes| writes.explains(stored.serial, record.serial));
        let current = stored.serial == record.serial || ours;
        if current && stored.id == record.id {
            return Ok(());
        }
        let name = self.name.clone();
        Err(StoreError::Stale { name, expected: record.serial, found: stored.serial })
    }

    /// Replaces the unreadable record with the one that was recovered from `state.json.prev`, so that
    /// the next save finds a valid one to keep. The unreadable one had the next serial,
    /// and may have been acknowledged, so that serial is skipped.
    fn repair(&mut self, recovered: Record, replaced: u64) -> Result<(u64, Vec<u8>), StoreError> {
        let repaired = Record { serial: recovered.serial + 2, ..recovered };
        self.replace(replaced, &repaired, Old::Broken)?;
        Ok((repaired.serial, document(&repaired)))
    }

    fn replace(&mut self, replaced: u64, next: &Record, old: Old<'_>) -> Result<(), StoreError> {
        let folder = self.store.layout.vm(self.name.as_str());
        let document = readable_document(next).map_err(|text| refused(&folder, text))?;
        self.unacknowledged = Some(Unacknowledged { replaced, last: next.serial });
        durable::replace_state(self.store.fs(), &folder, &document, old)
    }

    fn archive(&mut self, record: &mut Record, at: Timestamp) -> Result<ArchiveId, StoreError> {
        if record.phase != Phase::Destroyed {
            let text = format!("only a destroyed VM is archived; this one is {}", record.phase);
            return Err(refused(&self.store.layout.vm(self.name.as_str()), text));
        }
        match self.save(record) {
            // An earlier attempt may have completed the move.
            Err(error @ StoreError::NotFound { .. }) => self.moved_before(record, at)?.ok_or(error),
            saved => saved.and_then(|()| self.move_to_archive(record, at)),
        }
    }

    fn moved_before(&self, record: &Record, at: Timestamp) -> Result<Option<ArchiveId>, StoreError> {
        let id = ArchiveId::new(&self.name, at, &record.id);
        let archived = self.store.archived(&id)?;
        if archived.is_none_or(|archived| archived.record.id != record.id) {
            return Ok(None);
        }
        let (from, to) = (self.store.layout.vm(self.name.as_str()), self.store.layout.archived(&id));
        durable::sync_parents(self.store.fs(), &[&to, &from])?;
        Ok(Some(id))
    }

    fn move_to_archive(&self, record: &Record, at: Timestamp) -> Result<ArchiveId, StoreError> {
        let fs = self.store.fs();
        durable::ensure_folder(fs, &self.store.layout.archive())?;
        let from = self.store.layout.vm(self.name.as_str());
        for id in read::archive_ids(record, at) {
            if durable::move_folder(fs, &from, &self.store.layout.archived(&id))? {
                return Ok(id);
            }
        }
        Err(refused(&from, "the archive has no free timestamp for it".to_owned()))
    }
}

/// What a lock says of its owner.
pub(super) fn to_json(owner: &Owner) -> Vec<u8> {
    serde_json::to_vec(owner).expect("an owner has only string keys")
}

#[async_trait]
impl VmLock for DirLock {
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
        DirLock::create(self, record, snapshot)
    }

    async fn save(&mut self, record: &mut Record) -> Result<(), StoreError> {
        DirLock::save(self, record)
    }

    async fn save_with_snapshot(
        &mut self,
        record: &mut Record,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        DirLock::save_with_snapshot(self, record, snapshot)
    }

    async fn archive(&mut self, record: &mut Record, at: Timestamp) -> Result<ArchiveId, StoreError> {
        DirLock::archive(self, record, at)
    }

    async fn remove(&mut self, record: &Record) -> Result<(), StoreError> {
        DirLock::remove(self, record)
    }

    async fn put(&mut self, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        DirLock::put(self, record, snapshot)
    }

    fn taken_over(&self) -> Option<&Owner> {
        None
    }

    fn lease_end(&self) -> Option<Timestamp> {
        None
    }
}
