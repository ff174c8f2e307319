//! A lock that is held: what is stored under its name, and every change of it.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use goloo_core::name::{ArchiveId, VmName};
use goloo_core::record::{Owner, Phase, Record, SCHEMA};
use goloo_core::store::{HeldLock, Loaded, Snapshot, StoreError};
use goloo_core::time::Timestamp;
use object_store::UpdateVersion;
use ulid::Ulid;

use super::ACTIVE;
use super::archive;
use super::bucket::{Bucket, WriteError};
use super::envelope::{Envelope, Kept, Lease, Unsound};
use super::error::backend;
use super::moved::refuse_moved;
use super::write_check;
use crate::rules::{Unacknowledged, archive_ids, is_half_archived, newer, odd_file, other_name};
use crate::seal::{Seal, SealError};

/// Where a lock is held and how documents are kept there.
#[derive(Clone)]
pub(super) struct Place {
    pub bucket: Arc<Bucket>,
    pub seal: Seal,
}

impl Place {
    pub fn sealing(&self, error: SealError) -> StoreError {
        backend("seal a document", &self.bucket.place, error)
    }

    /// The refusal of a document that has no place under this name.
    pub fn refused(&self, folder: &str, name: &str, text: String) -> StoreError {
        let path = self.bucket.address(folder, name).into();
        StoreError::Io { action: "write", path, source: io::Error::new(ErrorKind::InvalidInput, text) }
    }

    /// Refuses what can't be put under this name of a folder.
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
        if record.schema > SCHEMA {
            return Err(newer(&record.name, record.schema));
        }
        Ok(())
    }

    /// Refuses files that a snapshot doesn't have.
    pub fn check_files(&self, folder: &str, name: &str, snapshot: &Snapshot) -> Result<(), StoreError> {
        odd_file(snapshot).map_or(Ok(()), |odd| Err(self.refused(folder, name, odd)))
    }
}

/// What the holder of a lock knows.
pub(super) struct Held {
    place: Place,
    name: VmName,
    /// What is stored, as long as nobody else has written.
    current: Envelope,
    version: UpdateVersion,
    /// Writes that may still come through; each replaces `current`, so one of them at most does.
    doubts: Vec<Envelope>,
    unacknowledged: Option<Unacknowledged>,
    /// The lock is someone else's now; who has it, when somebody has.
    lost: Option<Option<String>>,
}

/// How often a lock is tried to be had while others write the same object.
const ATTEMPTS: usize = 16;

impl Held {
    /// Takes the lock, or says who has it. A lease that has ended, by the service's clock, is taken over.
    /// Then finishes what a dead owner left half done.
    pub async fn take(place: Place, name: VmName, owner: Owner, seconds: u64) -> Result<Self, StoreError> {
        let mut held = Self::claim(place, name, Lease { owner, seconds }).await?;
        held.confirm().await?;
        // After the claim: who marks the store as moved breaks the locks that were taken before.
        let ready = match refuse_moved(&held.place.bucket).await {
            Ok(()) => held.finish_archiving().await,
            Err(error) => Err(error),
        };
        if let Err(error) = ready {
            held.release().await;
            return Err(error);
        }
        Ok(held)
    }

    async fn claim(place: Place, name: VmName, lease: Lease) -> Result<Self, StoreError> {
        for _ in 0..ATTEMPTS {
            let found = place.bucket.read(ACTIVE, name.as_str()).await?;
            let (stored, version) = match found {
                None => (Envelope::empty(), None),
                Some(found) => {
                    let broken =
                        |error| StoreError::Broken(place.bucket.broken(ACTIVE, name.as_str(), error));
                    let stored = found.envelope.map_err(broken)?;
                    if let Some(lease) = &stored.lease
                        && let Some(sign) = sign_of_life(&place.bucket, lease, found.modified).await?
                    {
                        return Err(lease.held(name, sign).refusal());
                    }
                    (stored, Some(found.version))
                }
            };
            let current = stored.claimed_with(lease.clone());
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

    /// Reads the claim back once: a service that stopped honouring conditional writes since it was checked lets
    /// two claim a lock, and one of them finds the other's claim in place of its own.
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
            // The epoch rises with each claim, so this one came after ours: the lock was taken away.
            Some(stored) if stored.epoch > self.current.epoch => {
                self.lost = Some(stored.lease.map(|lease| lease.owner.to_string()));
                Err(self.lock_lost().await)
            }
            _ => {
                write_check::forget(&self.place.bucket).await;
                let seen = match stored {
                    Some(_) => format!("it accepted two claims of the lock of \"{}\"", self.name),
                    None => format!("the lock of \"{}\" was gone as soon as it was taken", self.name),
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

    /// Why nothing can be written any more: who marks the store as moved breaks all locks.
    async fn lock_lost(&self) -> StoreError {
        match refuse_moved(&self.place.bucket).await {
            Err(moved @ StoreError::Moved { .. }) => moved,
            // Lost it is, also when the mark can't be looked for.
            _ => StoreError::LockLost { name: self.name.clone(), by: self.lost.clone().flatten() },
        }
    }

    fn not_found(&self) -> StoreError {
        StoreError::NotFound { name: self.name.clone() }
    }

    /// Writes what `next` makes of what is stored, until it is stored or can't be.
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

    /// Finds out what is stored: what we know, one of our writes in doubt, or someone else's.
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

    /// Says that the holder lives.
    pub async fn renew(&mut self) -> Result<(), StoreError> {
        self.change(|held| Ok(held.current.clone())).await
    }

    /// Gives the lock back. When that fails the lease ends by itself.
    pub async fn release(&mut self) {
        let released = |held: &Self| Ok(Envelope { lease: None, ..held.current.clone() });
        if self.change(released).await.is_ok() && self.current.is_empty() {
            self.place.bucket.remove_empty(ACTIVE, self.name.as_str(), &self.version).await;
        }
    }

    fn kept(&self) -> Result<&Kept, StoreError> {
        self.current.vm.as_ref().ok_or_else(|| self.not_found())
    }

    /// The record as it is stored, also one on its way to the archive.
    fn stored(&self) -> Result<Record, StoreError> {
        let broken = |error| StoreError::Broken(self.place.bucket.broken(ACTIVE, self.name.as_str(), error));
        self.kept()?.record(self.name.as_str(), &self.place.seal).map_err(|unsound| match unsound {
            Unsound::Bad(text) => broken(text),
            Unsound::Newer(found, _) => newer(&self.name, found),
        })
    }

    pub fn load(&self) -> Result<Option<Loaded>, StoreError> {
        super::loaded(&self.place, self.name.as_str(), &self.current).map_err(StoreError::Broken)
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

    /// Whether what is stored is what the caller means to replace.
    fn check_serial(&self, stored: &Record, record: &Record) -> Result<(), StoreError> {
        let ours = self.unacknowledged.is_some_and(|writes| writes.explains(stored.serial, record.serial));
        if (stored.serial == record.serial || ours) && stored.id == record.id {
            return Ok(());
        }
        Err(self.stale(record.serial, stored.serial))
    }

    /// Changes the record, and remembers whether that is in doubt.
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
        let next = |held: &Self| {
            let ours =
                held.unacknowledged.is_some() && held.stored().is_ok_and(|stored| stored.id == first.id);
            if held.current.vm.is_some() && !ours {
                return Err(StoreError::NameTaken { name: held.name.clone() });
            }
            Ok(held.current.with_vm(vm.clone()))
        };
        self.change_record(0, next).await
    }

    /// Replaces the record; `archive_at` says that it is on its way to the archive.
    pub async fn save(
        &mut self,
        record: &Record,
        archive_at: Option<Timestamp>,
    ) -> Result<Record, StoreError> {
        self.check_writable(record)?;
        let next = |held: &Self| {
            let stored = held.stored()?;
            if stored.schema > SCHEMA {
                return Err(newer(&held.name, stored.schema));
            }
            held.check_serial(&stored, record)?;
            let next = Record { serial: stored.serial + 1, updated_at: Timestamp::now(), ..record.clone() };
            let vm = held.kept()?.with_record(&next, &held.place.seal);
            let vm = vm.map_err(|error| held.place.sealing(error))?;
            let id = archive_at.map(|at| ArchiveId::new(&held.name, at, &record.id));
            let archiving = held.current.archiving.clone().or(id);
            Ok(Envelope { archiving, ..held.current.with_vm(vm) })
        };
        self.change_record(record.serial, next).await
    }

    /// Puts a record from another store in this name's place.
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
                // Nothing to write, but a lock that was lost must not pass for one that wasn't.
                return self.renew().await;
            }
        }
        let vm = Kept::new(record, snapshot, &self.place.seal).map_err(|error| self.place.sealing(error))?;
        self.change(|held| Ok(held.current.with_vm(vm.clone()))).await
    }

    /// The first step of a move to the archive; the record says from then on that its VM is gone.
    pub async fn begin_archiving(&mut self, record: &Record, at: Timestamp) -> Result<Record, StoreError> {
        if record.phase != Phase::Destroyed {
            return Err(
                self.refused(format!("only a destroyed VM is archived; this one is {}", record.phase))
            );
        }
        self.save(record, Some(at)).await
    }

    /// Whether an earlier attempt has moved this record already.
    pub async fn moved_before(
        &self,
        record: &Record,
        at: Timestamp,
    ) -> Result<Option<ArchiveId>, StoreError> {
        let id = ArchiveId::new(&self.name, at, &record.id);
        let archived = archive::load(&self.place, &id).await?;
        Ok(archived.filter(|archived| archived.record.id == record.id).map(|archived| archived.id))
    }

    /// The other steps: a copy in the archive, then nothing here.
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
        let id = copied.ok_or_else(|| self.refused("the archive has no time left for it".to_owned()))?;
        self.change(|held| {
            Ok(Envelope { vm: None, archiving: None, unsettled: None, ..held.current.clone() })
        })
        .await?;
        Ok(id)
    }
}

/// When the holder of a lease wrote last, in seconds since 1970; `None` when the lease has ended. A service may
/// date what it stores earlier than its answers, which is measured before a lease counts as ended.
async fn sign_of_life(bucket: &Bucket, lease: &Lease, modified: i64) -> Result<Option<i64>, StoreError> {
    if bucket.now()? <= lease.end(modified) {
        return Ok(Some(modified));
    }
    let modified = modified.saturating_add(bucket.last_modified_lag().await?);
    Ok((bucket.now()? <= lease.end(modified)).then_some(modified))
}

/// Breaks the lock of a name, whoever has it; says who had. Whoever takes it meanwhile keeps theirs.
pub(super) async fn break_lock(bucket: &Bucket, name: &VmName) -> Result<Option<HeldLock>, StoreError> {
    let mut meant = None;
    for _ in 0..ATTEMPTS {
        let Some(found) = bucket.read(ACTIVE, name.as_str()).await? else { return Ok(None) };
        let broken = |error| StoreError::Broken(bucket.broken(ACTIVE, name.as_str(), error));
        let stored = found.envelope.map_err(broken)?;
        let lock = stored.lease.clone().map(|lease| (stored.epoch, lease, found.modified));
        let Some((epoch, lease, modified)) = meant.get_or_insert(lock) else { return Ok(None) };
        // The next epoch is the next one's, who came when the lock had ended, perhaps by our very write.
        let ended = stored.lease.is_none() || stored.epoch != *epoch;
        let held = lease.clone().held(name.clone(), *modified);
        if ended {
            return Ok(Some(held));
        }
        match bucket.write(ACTIVE, name.as_str(), &stored.broken_open(), Some(&found.version)).await {
            Ok(_) => return Ok(Some(held)),
            Err(WriteError::Refused) => {}
            Err(WriteError::InDoubt(error)) => return Err(error),
        }
    }
    Err(backend("break the lock", &bucket.place, format!("\"{name}\" is written all the time")))
}
