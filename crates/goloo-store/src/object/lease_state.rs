//! A held lock: what is stored under its name, and every change of it.

use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{Owner, Phase, Record};
use goloo_model::store::{Loaded, Snapshot, StoreError};
use goloo_model::time::Timestamp;
use object_store::UpdateVersion;
use ulid::Ulid;

use super::archive;
use super::bucket::{Bucket, WriteError};
use super::envelope::{Envelope, Holder, Kept, Unsound};
use super::moved::refuse_moved;
use super::place::{ACTIVE, Place};
use super::records;
use super::write_check;
use crate::rules::{Unacknowledged, archive_ids, check_schema, is_half_archived, newer, odd_replacement};

/// The state of a lock as known to its holder.
pub(super) struct LeaseState {
    place: Place,
    name: VmName,
    /// What is stored, unless someone else has written.
    current: Envelope,
    version: UpdateVersion,
    /// Writes that may still succeed; each replaces `current`, so at most one of them does.
    doubts: Vec<Envelope>,
    unacknowledged: Option<Unacknowledged>,
    /// Set if the lock was lost; contains the new holder, if any.
    lost: Option<Option<String>>,
}

/// How often taking a lock is attempted while others write the same object.
const ATTEMPTS: usize = 16;

impl LeaseState {
    /// Takes the lock, or returns its holder. A lease that has expired, by the service's clock, is taken over.
    /// Then completes the unfinished work of a dead owner.
    pub async fn take(place: Place, name: VmName, owner: Owner, seconds: u64) -> Result<Self, StoreError> {
        let mut lease_state = Self::claim(place, name, Holder { owner, seconds }).await?;
        lease_state.confirm().await?;
        tracing::debug!(vm = %lease_state.name, seconds, "took the lease");
        // After the claim: marking the store as moved breaks the locks that were taken before.
        let ready = match refuse_moved(&lease_state.place.bucket).await {
            Ok(()) => lease_state.finish_archiving().await,
            Err(error) => Err(error),
        };
        if let Err(error) = ready {
            lease_state.release().await;
            return Err(error);
        }
        Ok(lease_state)
    }

    async fn claim(place: Place, name: VmName, holder: Holder) -> Result<Self, StoreError> {
        for _ in 0..ATTEMPTS {
            let found = place.bucket.read(ACTIVE, name.as_str()).await?;
            let (stored, version) = match found {
                None => (Envelope::empty(), None),
                Some(found) => {
                    let broken =
                        |error| StoreError::Broken(place.bucket.broken(ACTIVE, name.as_str(), error));
                    let stored = found.envelope.map_err(broken)?;
                    if let Some(other) = &stored.lease
                        && let Some(heartbeat) = last_heartbeat(&place.bucket, other, found.modified).await?
                    {
                        return Err(other.lock(name, heartbeat).refusal());
                    }
                    (stored, Some(found.version))
                }
            };
            let current = stored.claimed_by(holder.clone());
            match place.bucket.write(ACTIVE, name.as_str(), &current, version.as_ref()).await {
                Ok(version) => {
                    let (doubts, unacknowledged, lost) = (Vec::new(), None, None);
                    return Ok(Self { place, name, current, version, doubts, unacknowledged, lost });
                }
                Err(WriteError::Refused) => {}
                Err(WriteError::InDoubt(error)) => return Err(error),
            }
        }
        Err(StoreError::Locked { name, holder: None, lease_end: None })
    }

    /// Reads the claim back once: a service that has stopped honoring conditional writes since it was checked lets
    /// two processes claim a lock, and one of them finds the other's claim instead of its own.
    async fn confirm(&mut self) -> Result<(), StoreError> {
        let found = match self.place.bucket.read(ACTIVE, self.name.as_str()).await {
            Ok(found) => found,
            Err(error) => {
                self.release().await;
                return Err(error);
            }
        };
        let stored = found.and_then(|found| found.envelope.ok());
        match stored {
            Some(stored) if stored.write == self.current.write => Ok(()),
            // The epoch increases with each claim, so this one came after ours: the lock was taken over.
            Some(stored) if stored.epoch > self.current.epoch => {
                self.lost = Some(stored.lease.map(|lease| lease.owner.to_string()));
                Err(self.lock_lost().await)
            }
            _ => {
                write_check::forget(&self.place.bucket).await;
                let seen = match stored {
                    Some(_) => format!("it accepted two claims of the lock of \"{}\"", self.name),
                    None => format!("the lock of \"{}\" disappeared right after it was taken", self.name),
                };
                Err(self.place.bucket.unsafe_writes(seen))
            }
        }
    }

    async fn finish_archiving(&mut self) -> Result<(), StoreError> {
        match self.stored() {
            Ok(record) if is_half_archived(&record) => self.move_to_archive().await.map(drop),
            _ => Ok(()),
        }
    }

    pub fn taken_over(&self) -> Option<&Owner> {
        self.current.unsettled.as_ref()
    }

    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Why nothing can be written any more: marking the store as moved breaks all locks.
    async fn lock_lost(&self) -> StoreError {
        match refuse_moved(&self.place.bucket).await {
            Err(moved @ StoreError::Moved { .. }) => moved,
            // The lock is lost even if the marker can't be read.
            _ => StoreError::LockLost { name: self.name.clone(), by: self.lost.clone().flatten() },
        }
    }

    fn not_found(&self) -> StoreError {
        StoreError::NotFound { name: self.name.clone() }
    }

    /// Writes the result of `next` on the stored object, until that succeeds or is impossible.
    async fn change(
        &mut self,
        next: impl Fn(&Self) -> Result<Envelope, StoreError>,
    ) -> Result<(), StoreError> {
        if !self.doubts.is_empty() {
            self.look().await?;
        }
        loop {
            if self.is_lost() {
                return Err(self.lock_lost().await);
            }
            let next = Envelope { write: Ulid::new().to_string(), ..next(self)? };
            match self.place.bucket.write(ACTIVE, self.name.as_str(), &next, Some(&self.version)).await {
                Ok(version) => {
                    (self.current, self.version) = (next, version);
                    self.doubts.clear();
                    return Ok(());
                }
                Err(WriteError::Refused) => self.look().await?,
                Err(WriteError::InDoubt(error)) => {
                    self.doubts.push(next);
                    return Err(error);
                }
            }
        }
    }

    /// Determines what is stored: the known state, one of our writes with unknown result, or someone else's.
    async fn look(&mut self) -> Result<(), StoreError> {
        let found = self.place.bucket.read(ACTIVE, self.name.as_str()).await?;
        let (stored, version) = match found {
            Some(found) => (found.envelope.ok(), found.version),
            None => (None, self.version.clone()),
        };
        let write = stored.as_ref().map(|stored| stored.write.as_str());
        if write == Some(&self.current.write) {
            self.version = version;
        } else if let Some(ours) = self.doubts.iter().find(|doubt| Some(doubt.write.as_str()) == write) {
            (self.current, self.version) = (ours.clone(), version);
            self.doubts.clear();
        } else {
            let lease = stored.and_then(|stored| stored.lease);
            self.lost = Some(lease.map(|lease| lease.owner.to_string()));
        }
        Ok(())
    }

    /// Sends a heartbeat.
    pub async fn renew(&mut self) -> Result<(), StoreError> {
        tracing::debug!(vm = %self.name, "renewing the lease");
        self.change(|lease_state| Ok(lease_state.current.clone())).await
    }

    /// Releases the lock. If that fails, the lease expires.
    pub async fn release(&mut self) {
        let released = |lease_state: &Self| Ok(Envelope { lease: None, ..lease_state.current.clone() });
        if self.change(released).await.is_ok() && self.current.is_empty() {
            self.place.bucket.remove_empty(ACTIVE, self.name.as_str(), &self.version).await;
        }
    }

    fn kept(&self) -> Result<&Kept, StoreError> {
        self.current.vm.as_ref().ok_or_else(|| self.not_found())
    }

    /// The record as stored, even if its move to the archive is incomplete.
    fn stored(&self) -> Result<Record, StoreError> {
        let broken = |error| StoreError::Broken(self.place.bucket.broken(ACTIVE, self.name.as_str(), error));
        self.kept()?.record(self.name.as_str(), &self.place.seal).map_err(|unsound| match unsound {
            Unsound::Bad(text) => broken(text),
            Unsound::Newer(found, _) => newer(&self.name, found),
        })
    }

    pub fn load(&self) -> Result<Option<Loaded>, StoreError> {
        records::loaded(&self.place, self.name.as_str(), &self.current).map_err(StoreError::Broken)
    }

    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let broken = |error| StoreError::Broken(self.place.bucket.broken(ACTIVE, self.name.as_str(), error));
        self.kept()?.snapshot(&self.place.seal).map_err(broken)
    }

    fn refused(&self, text: String) -> StoreError {
        self.place.refused(ACTIVE, self.name.as_str(), text)
    }

    fn check_writable(&self, record: &Record) -> Result<(), StoreError> {
        self.place.check_document(ACTIVE, self.name.as_str(), self.name.as_str(), record)
    }

    fn check_snapshot(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.place.check_files(ACTIVE, self.name.as_str(), snapshot)
    }

    fn stale(&self, expected: u64, found: u64) -> StoreError {
        StoreError::Stale { name: self.name.clone(), expected, found }
    }

    /// Whether the stored record is the one that the caller wants to replace.
    fn check_serial(&self, stored: &Record, record: &Record) -> Result<(), StoreError> {
        let ours = self.unacknowledged.is_some_and(|writes| writes.explains(stored.serial, record.serial));
        if (stored.serial == record.serial || ours) && stored.id == record.id {
            return Ok(());
        }
        Err(self.stale(record.serial, stored.serial))
    }

    /// Changes the record, and remembers whether the result is unknown.
    async fn change_record(
        &mut self,
        replaced: u64,
        next: impl Fn(&Self) -> Result<Envelope, StoreError>,
    ) -> Result<Record, StoreError> {
        if let Err(error) = self.change(next).await {
            let doubt = self.doubts.last().and_then(|doubt| doubt.vm.as_ref());
            let doubt = doubt.and_then(|vm| vm.record(self.name.as_str(), &self.place.seal).ok());
            if let Some(doubt) = doubt {
                self.unacknowledged = Some(Unacknowledged { replaced, last: doubt.serial });
            }
            return Err(error);
        }
        self.unacknowledged = None;
        self.stored()
    }

    /// Claims the name.
    pub async fn create(&mut self, record: &Record, snapshot: &Snapshot) -> Result<Record, StoreError> {
        self.check_writable(record)?;
        self.check_snapshot(snapshot)?;
        if record.serial != 0 {
            return Err(self.stale(record.serial, 0));
        }
        let first = Record { serial: 1, ..record.clone() };
        let vm = Kept::new(&first, snapshot, &self.place.seal).map_err(|error| self.place.sealing(error))?;
        let next = |lease_state: &Self| {
            let ours = lease_state.unacknowledged.is_some()
                && lease_state.stored().is_ok_and(|stored| stored.id == first.id);
            if lease_state.current.vm.is_some() && !ours {
                return Err(StoreError::NameTaken { name: lease_state.name.clone() });
            }
            Ok(lease_state.current.with_vm(vm.clone()))
        };
        self.change_record(0, next).await
    }

    /// Replaces the record; `archive_at` marks it for the move to the archive.
    pub async fn save(
        &mut self,
        record: &Record,
        archive_at: Option<Timestamp>,
    ) -> Result<Record, StoreError> {
        self.check_writable(record)?;
        let next = |lease_state: &Self| {
            let stored = lease_state.stored()?;
            check_schema(&stored)?;
            lease_state.check_serial(&stored, record)?;
            let next = Record { serial: stored.serial + 1, updated_at: Timestamp::now(), ..record.clone() };
            let vm = lease_state.kept()?.with_record(&next, &lease_state.place.seal);
            let vm = vm.map_err(|error| lease_state.place.sealing(error))?;
            let id = archive_at.map(|at| ArchiveId::new(&lease_state.name, at, &record.id));
            let archiving = lease_state.current.archiving.clone().or(id);
            Ok(Envelope { archiving, ..lease_state.current.with_vm(vm) })
        };
        self.change_record(record.serial, next).await
    }

    /// Replaces the record and its snapshot.
    pub async fn save_with_snapshot(
        &mut self,
        record: &Record,
        snapshot: &Snapshot,
    ) -> Result<Record, StoreError> {
        self.check_writable(record)?;
        if let Some(odd) = odd_replacement(record, snapshot) {
            return Err(self.refused(odd));
        }
        let next = |lease_state: &Self| {
            let stored = lease_state.stored()?;
            check_schema(&stored)?;
            lease_state.check_serial(&stored, record)?;
            let next = Record { serial: stored.serial + 1, updated_at: Timestamp::now(), ..record.clone() };
            let vm = Kept::new(&next, snapshot, &lease_state.place.seal);
            let vm = vm.map_err(|error| lease_state.place.sealing(error))?;
            Ok(lease_state.current.with_vm(vm))
        };
        self.change_record(record.serial, next).await
    }

    /// Copies a record from another store under this name.
    pub async fn put(&mut self, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.check_writable(record)?;
        self.check_snapshot(snapshot)?;
        if self.current.vm.is_some() {
            let stored = self.stored()?;
            if stored.id != record.id {
                return Err(StoreError::NameTaken { name: self.name.clone() });
            }
            if stored.serial > record.serial {
                return Err(self.stale(record.serial, stored.serial));
            }
            if stored.serial == record.serial {
                // Nothing to write, but the loss of the lock must be detected.
                return self.renew().await;
            }
        }
        let vm = Kept::new(record, snapshot, &self.place.seal).map_err(|error| self.place.sealing(error))?;
        self.change(|lease_state| Ok(lease_state.current.with_vm(vm.clone()))).await
    }

    /// The first step of a move to the archive: marks the VM as deleted.
    pub async fn begin_archiving(&mut self, record: &Record, at: Timestamp) -> Result<Record, StoreError> {
        if record.phase != Phase::Destroyed {
            return Err(
                self.refused(format!("only a destroyed VM is archived; this one is {}", record.phase))
            );
        }
        self.save(record, Some(at)).await
    }

    /// Whether an earlier attempt has already moved this record.
    pub async fn moved_before(
        &self,
        record: &Record,
        at: Timestamp,
    ) -> Result<Option<ArchiveId>, StoreError> {
        let id = ArchiveId::new(&self.name, at, &record.id);
        let archived = archive::load(&self.place, &id).await?;
        Ok(archived.filter(|archived| archived.record.id == record.id).map(|archived| archived.id))
    }

    /// The remaining steps: creates the copy in the archive, then empties this object.
    pub async fn move_to_archive(&mut self) -> Result<ArchiveId, StoreError> {
        let (record, kept) = (self.stored()?, self.kept()?.clone());
        let at = self.current.archiving.as_ref().map_or(record.updated_at, ArchiveId::deleted_at);
        let mut copied = None;
        for id in archive_ids(&record, at) {
            if archive::copy(&self.place, &id, &record, &kept).await? {
                copied = Some(id);
                break;
            }
        }
        let id = copied.ok_or_else(|| self.refused("the archive has no free timestamp for it".to_owned()))?;
        self.change(|lease_state| Ok(lease_state.emptied())).await?;
        Ok(id)
    }

    /// Removes the record and its snapshot.
    pub async fn remove(&mut self, record: &Record) -> Result<(), StoreError> {
        self.check_writable(record)?;
        let next = |lease_state: &Self| {
            let stored = lease_state.stored()?;
            check_schema(&stored)?;
            lease_state.check_serial(&stored, record)?;
            Ok(lease_state.emptied())
        };
        self.change(next).await
    }

    /// The object without a VM.
    fn emptied(&self) -> Envelope {
        Envelope { vm: None, archiving: None, unsettled: None, ..self.current.clone() }
    }
}

/// When the holder of a lock wrote last, in seconds since 1970; `None` when the lease has ended. A service may date
/// what it stores earlier than its answers, which is measured before a lease counts as ended.
async fn last_heartbeat(bucket: &Bucket, holder: &Holder, modified: i64) -> Result<Option<i64>, StoreError> {
    if !holder.lease(modified).has_ended(bucket.now()?.unix()) {
        return Ok(Some(modified));
    }
    let modified = modified.saturating_add(bucket.last_modified_lag().await?);
    let has_ended = holder.lease(modified).has_ended(bucket.now()?.unix());
    Ok((!has_ended).then_some(modified))
}
