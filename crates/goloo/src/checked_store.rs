//! A store whose records are checked by their providers when they are read: others may have written them. What a
//! provider refuses is reported as broken, as what the store itself can't read. It also notes that records were changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use goloo_model::name::{ArchiveId, VmId, VmName};
use goloo_model::record::{Owner, Record};
use goloo_model::store::{
    Archived, Broken, HeldLock, Listing, Loaded, Snapshot, Store, StoreError, Summary, VmLock,
};
use goloo_model::time::Timestamp;
use goloo_sys::error_chain::in_one_line;

use crate::providers::Providers;

/// Whether records were changed through a store.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecordChanges(Arc<AtomicBool>);

impl RecordChanges {
    fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether there were any since the last call.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// The store.
pub(crate) struct CheckedStore(Checks);

/// The store behind it, and what checks its records.
#[derive(Clone)]
struct Checks {
    providers: Providers,
    store: Arc<dyn Store>,
    changes: RecordChanges,
}

impl CheckedStore {
    pub fn new(inner: Box<dyn Store>, providers: Providers, changes: RecordChanges) -> Self {
        Self(Checks { providers, store: inner.into(), changes })
    }
}

impl Checks {
    fn broken(&self, key: &str, error: String) -> Broken {
        Broken { name: key.to_owned(), path: self.store.record_location(key), error }
    }

    fn record(&self, key: &str, record: &Record) -> Result<(), Broken> {
        self.providers.check(record).map_err(|error| self.broken(key, error))
    }

    /// Checks a record that was read, and corrects what only its provider decides.
    fn read(&self, key: &str, record: &mut Record) -> Result<(), Broken> {
        self.providers.correct_place(record.provider, &mut record.host_bound);
        self.record(key, record)
    }

    fn loaded(&self, mut loaded: Option<Loaded>) -> Result<Option<Loaded>, StoreError> {
        if let Some(Loaded { record, .. }) = &mut loaded {
            let name = record.name.clone();
            self.read(name.as_str(), record).map_err(StoreError::Broken)?;
        }
        Ok(loaded)
    }

    /// Moves what a check refuses to the broken ones, which stay sorted by name.
    fn listing<T>(&self, listing: Listing<T>, check: impl Fn(&mut T) -> Result<(), Broken>) -> Listing<T> {
        let Listing { entries, broken } = listing;
        let mut refused = Vec::new();
        let mut keep = |mut entry: T| check(&mut entry).map_err(|one| refused.push(one)).ok().map(|()| entry);
        let entries = entries.into_iter().filter_map(&mut keep).collect();
        Listing { entries, broken: with_refused(broken, refused) }
    }

    fn archive(&self, listing: Listing<Archived>) -> Listing<Archived> {
        self.listing(listing, |archived| self.read(archived.id.as_str(), &mut archived.record))
    }
}

/// Leaves out what an interrupted rename has stored twice: until it is finished, the VM has its old name.
fn leave_out_copies<T>(entries: &mut Vec<T>, identity: impl Fn(&T) -> (&VmName, &VmId, Option<&VmName>)) {
    let copies: Vec<(VmName, VmId)> = entries
        .iter()
        .filter_map(|entry| {
            let (_, id, renamed_from) = identity(entry);
            Some((renamed_from?.clone(), id.clone()))
        })
        .filter(|(from, id)| {
            entries.iter().map(&identity).any(|(name, other, _)| name == from && other == id)
        })
        .collect();
    if !copies.is_empty() {
        entries.retain(|entry| {
            let (_, id, renamed_from) = identity(entry);
            !copies.iter().any(|(from, copied)| Some(from) == renamed_from && copied == id)
        });
    }
}

/// What the store can't read and what a provider refuses, sorted by name as the store's own.
fn with_refused(mut broken: Vec<Broken>, refused: Vec<Broken>) -> Vec<Broken> {
    if !refused.is_empty() {
        broken.extend(refused);
        broken.sort_by(|a, b| a.name.cmp(&b.name));
    }
    broken
}

#[async_trait]
impl Store for CheckedStore {
    fn location(&self) -> String {
        self.0.store.location()
    }

    fn record_location(&self, key: &str) -> String {
        self.0.store.record_location(key)
    }

    async fn names(&self) -> Result<Vec<String>, StoreError> {
        self.0.store.names().await
    }

    async fn list(&self) -> Result<Listing<Summary>, StoreError> {
        let Listing { entries, broken } = self.0.store.list().await?;
        let (mut accepted, mut refused) = (Vec::with_capacity(entries.len()), Vec::new());
        for mut summary in entries {
            self.0.providers.correct_place(summary.provider, &mut summary.host_bound);
            if self.0.providers.check_summary(&summary).is_ok() {
                accepted.push(summary);
                continue;
            }
            // The store may have a copy that can be used.
            match self.load(&summary.name).await {
                Ok(Some(Loaded { record, .. })) => accepted.push(Summary::from(&record)),
                Ok(None) => {}
                Err(StoreError::Broken(broken)) => refused.push(broken),
                Err(error) => refused.push(self.0.broken(summary.name.as_str(), in_one_line(&error))),
            }
        }
        leave_out_copies(&mut accepted, |vm| (&vm.name, &vm.id, vm.renamed_from.as_ref()));
        Ok(Listing { entries: accepted, broken: with_refused(broken, refused) })
    }

    async fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
        self.0.loaded(self.0.store.load(name).await?)
    }

    async fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError> {
        self.0.store.snapshot(name).await
    }

    async fn lock(&self, name: &VmName, owner: &Owner) -> Result<Box<dyn VmLock>, StoreError> {
        let inner = self.0.store.lock(name, owner).await?;
        Ok(Box::new(CheckedLock { inner, checks: self.0.clone() }))
    }

    async fn archive_list(&self) -> Result<Listing<Archived>, StoreError> {
        Ok(self.0.archive(self.0.store.archive_list().await?))
    }

    async fn archive_of(&self, name: &VmName) -> Result<Listing<Archived>, StoreError> {
        Ok(self.0.archive(self.0.store.archive_of(name).await?))
    }

    async fn archive_load(&self, id: &ArchiveId) -> Result<Option<Archived>, StoreError> {
        let mut archived = self.0.store.archive_load(id).await?;
        if let Some(Archived { record, .. }) = &mut archived {
            self.0.read(id.as_str(), record).map_err(StoreError::Broken)?;
        }
        Ok(archived)
    }

    async fn archive_snapshot(&self, id: &ArchiveId) -> Result<Snapshot, StoreError> {
        self.0.store.archive_snapshot(id).await
    }

    async fn archive_delete(&self, id: &ArchiveId, by: &Owner) -> Result<(), StoreError> {
        self.0.store.archive_delete(id, by).await
    }

    async fn archive_put(&self, archived: &Archived, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.0.record(archived.id.as_str(), &archived.record).map_err(StoreError::Broken)?;
        self.0.store.archive_put(archived, snapshot).await
    }

    async fn records(&self) -> Result<Listing<Loaded>, StoreError> {
        let check = |loaded: &mut Loaded| {
            let name = loaded.record.name.clone();
            self.0.read(name.as_str(), &mut loaded.record)
        };
        let mut listing = self.0.listing(self.0.store.records().await?, check);
        leave_out_copies(&mut listing.entries, |Loaded { record, .. }| {
            (&record.name, &record.id, record.renamed_from())
        });
        Ok(listing)
    }

    async fn locks(&self) -> Result<Vec<HeldLock>, StoreError> {
        self.0.store.locks().await
    }

    async fn break_lock(&self, name: &VmName) -> Result<Option<HeldLock>, StoreError> {
        self.0.store.break_lock(name).await
    }

    async fn require_safe_writes(&self) -> Result<(), StoreError> {
        self.0.store.require_safe_writes().await
    }

    async fn moved_to(&self) -> Result<Option<String>, StoreError> {
        self.0.store.moved_to().await
    }

    async fn set_moved(&self, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
        self.0.store.set_moved(replaces, to).await
    }
}

struct CheckedLock {
    inner: Box<dyn VmLock>,
    checks: Checks,
}

#[async_trait]
impl VmLock for CheckedLock {
    fn name(&self) -> &VmName {
        self.inner.name()
    }

    async fn load(&mut self) -> Result<Option<Loaded>, StoreError> {
        self.checks.loaded(self.inner.load().await?)
    }

    async fn snapshot(&mut self) -> Result<Snapshot, StoreError> {
        self.inner.snapshot().await
    }

    async fn create(&mut self, record: &mut Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.checks.changes.note();
        self.inner.create(record, snapshot).await
    }

    async fn save(&mut self, record: &mut Record) -> Result<(), StoreError> {
        self.checks.changes.note();
        self.inner.save(record).await
    }

    async fn save_with_snapshot(
        &mut self,
        record: &mut Record,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        self.checks.changes.note();
        self.inner.save_with_snapshot(record, snapshot).await
    }

    async fn put(&mut self, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.checks.record(record.name.as_str(), record).map_err(StoreError::Broken)?;
        self.checks.changes.note();
        self.inner.put(record, snapshot).await
    }

    fn taken_over(&self) -> Option<&Owner> {
        self.inner.taken_over()
    }

    fn lease_end(&self) -> Option<Timestamp> {
        self.inner.lease_end()
    }

    async fn archive(&mut self, record: &mut Record, at: Timestamp) -> Result<ArchiveId, StoreError> {
        self.checks.changes.note();
        self.inner.archive(record, at).await
    }

    async fn remove(&mut self, record: &Record) -> Result<(), StoreError> {
        self.checks.changes.note();
        self.inner.remove(record).await
    }

    async fn release(self: Box<Self>) {
        self.inner.release().await;
    }
}

#[cfg(all(test, feature = "aws"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::provider_id::ProviderId;
    use goloo_model::record::ForeignOwner;
    use goloo_testkit::memory_store::MemoryStore;
    use goloo_testkit::samples::{creating, here, in_aws, name, owner, snapshot, time};

    use super::*;

    #[test]
    fn a_record_that_its_provider_refuses_is_broken_wherever_it_is_read() {
        let inner = MemoryStore::default();
        let mut hostile = in_aws(&name("evil"));
        hostile.details.insert("stackID".into(), "arn:aws:cloudformation:evil.example#:1:stack/x".into());
        pollster::block_on(async {
            for mut record in [hostile.clone(), in_aws(&name("fine"))] {
                inner
                    .lock(&record.name, &owner(1))
                    .await
                    .unwrap()
                    .create(&mut record, &snapshot())
                    .await
                    .unwrap();
            }
            let store =
                CheckedStore::new(Box::new(inner.clone()), crate::providers(), RecordChanges::default());
            let Err(StoreError::Broken(broken)) = store.load(&name("evil")).await else {
                panic!("it is taken")
            };
            assert!(broken.error.starts_with("aws.stackID: "), "{broken:?}");
            let mut lock = store.lock(&name("evil"), &owner(1)).await.unwrap();
            assert!(matches!(lock.load().await, Err(StoreError::Broken(_))));
            let records = store.records().await.unwrap();
            assert_eq!((records.entries.len(), records.broken), (1, vec![broken]));
            assert!(store.load(&name("fine")).await.unwrap().is_some());
            // The provider decides whether a machine belongs to a host, not the record.
            let mut bound = Record { host_bound: true, ..in_aws(&name("bound")) };
            inner.lock(&bound.name, &owner(1)).await.unwrap().create(&mut bound, &snapshot()).await.unwrap();
            assert!(!store.load(&bound.name).await.unwrap().unwrap().record.host_bound);
            let listed = store.list().await.unwrap().entries;
            assert!(listed.iter().all(|vm| !vm.host_bound));
            // From a backup or another store it doesn't come in either.
            let other = Record { id: VmId::generate(), serial: 1, name: name("other"), ..hostile };
            let mut lock = store.lock(&other.name, &owner(1)).await.unwrap();
            assert!(matches!(lock.put(&other, &snapshot()).await, Err(StoreError::Broken(_))));
            let id = ArchiveId::new(&other.name, time("2026-01-01T00:00:00Z"), &other.id);
            let archived = Archived { deleted_at: id.deleted_at(), id, record: other };
            assert!(matches!(store.archive_put(&archived, &snapshot()).await, Err(StoreError::Broken(_))));
        });
    }

    #[test]
    fn a_record_cannot_free_a_machine_from_its_host() {
        let inner = MemoryStore::default();
        let elsewhere = |mut record: Record| {
            record.host_bound = false;
            record.created_by.host_id = "other".into();
            pollster::block_on(async {
                let mut lock = inner.lock(&record.name, &owner(1)).await.unwrap();
                lock.create(&mut record, &snapshot()).await.unwrap();
                drop(lock);
                let store =
                    CheckedStore::new(Box::new(inner.clone()), crate::providers(), RecordChanges::default());
                store.load(&record.name).await.unwrap().unwrap().record.elsewhere(&here())
            })
        };
        assert!(matches!(elsewhere(creating(&name("web"))), Some(ForeignOwner::Host { .. })));
        // For a provider that this program lacks, only the record can tell.
        let unknown = Record { provider: ProviderId::known("unknown"), ..creating(&name("db")) };
        assert_eq!(elsewhere(unknown), None);
    }
}
