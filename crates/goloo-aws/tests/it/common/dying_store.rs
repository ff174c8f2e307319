//! A store whose process dies during a save.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{Owner, Record};
use goloo_model::store::{Archived, HeldLock, Listing, Loaded, Snapshot, Store, StoreError, Summary, VmLock};
use goloo_model::time::Timestamp;
use goloo_testkit::memory_store::MemoryStore;
use tokio::sync::Notify;

/// Signals the death of the process.
#[derive(Debug, Clone)]
pub struct Death {
    saves_left: Arc<AtomicUsize>,
    came: Arc<Notify>,
}

impl Death {
    /// Waits until the process dies.
    pub async fn comes(&self) {
        self.came.notified().await;
    }

    async fn pass_by(&self) {
        let one_less = |left: usize| left.checked_sub(1);
        if self.saves_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_err() {
            self.came.notify_one();
            std::future::pending().await
        }
    }
}

/// Carries out this many saves; the next one never returns.
pub struct DyingStore {
    store: MemoryStore,
    /// Signals that the process has died.
    pub death: Death,
}

impl DyingStore {
    /// Dies after this many saves.
    pub fn after(saves: usize, store: &MemoryStore) -> Self {
        let death = Death { saves_left: Arc::new(AtomicUsize::new(saves)), came: Arc::default() };
        Self { store: store.clone(), death }
    }
}

#[async_trait]
impl Store for DyingStore {
    fn location(&self) -> String {
        self.store.location()
    }

    async fn names(&self) -> Result<Vec<String>, StoreError> {
        self.store.names().await
    }

    async fn list(&self) -> Result<Listing<Summary>, StoreError> {
        self.store.list().await
    }

    async fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
        self.store.load(name).await
    }

    async fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError> {
        self.store.snapshot(name).await
    }

    async fn lock(&self, name: &VmName, owner: &Owner) -> Result<Box<dyn VmLock>, StoreError> {
        let lock = self.store.lock(name, owner).await?;
        Ok(Box::new(DyingLock { lock, death: self.death.clone() }))
    }

    async fn archive_list(&self) -> Result<Listing<Archived>, StoreError> {
        self.store.archive_list().await
    }

    async fn archive_load(&self, id: &ArchiveId) -> Result<Option<Archived>, StoreError> {
        self.store.archive_load(id).await
    }

    async fn archive_snapshot(&self, id: &ArchiveId) -> Result<Snapshot, StoreError> {
        self.store.archive_snapshot(id).await
    }

    async fn archive_delete(&self, id: &ArchiveId, by: &Owner) -> Result<(), StoreError> {
        self.store.archive_delete(id, by).await
    }

    async fn archive_put(&self, archived: &Archived, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.store.archive_put(archived, snapshot).await
    }

    async fn records(&self) -> Result<Listing<Loaded>, StoreError> {
        self.store.records().await
    }

    async fn locks(&self) -> Result<Vec<HeldLock>, StoreError> {
        self.store.locks().await
    }

    async fn break_lock(&self, name: &VmName) -> Result<Option<HeldLock>, StoreError> {
        self.store.break_lock(name).await
    }

    async fn moved_to(&self) -> Result<Option<String>, StoreError> {
        self.store.moved_to().await
    }

    async fn set_moved(&self, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
        self.store.set_moved(replaces, to).await
    }
}

struct DyingLock {
    lock: Box<dyn VmLock>,
    death: Death,
}

#[async_trait]
impl VmLock for DyingLock {
    fn name(&self) -> &VmName {
        self.lock.name()
    }

    async fn load(&mut self) -> Result<Option<Loaded>, StoreError> {
        self.lock.load().await
    }

    async fn snapshot(&mut self) -> Result<Snapshot, StoreError> {
        self.lock.snapshot().await
    }

    async fn create(&mut self, record: &mut Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.lock.create(record, snapshot).await
    }

    async fn save(&mut self, record: &mut Record) -> Result<(), StoreError> {
        self.death.pass_by().await;
        self.lock.save(record).await
    }

    async fn save_with_snapshot(
        &mut self,
        record: &mut Record,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        self.death.pass_by().await;
        self.lock.save_with_snapshot(record, snapshot).await
    }

    async fn archive(&mut self, record: &mut Record, at: Timestamp) -> Result<ArchiveId, StoreError> {
        self.lock.archive(record, at).await
    }

    async fn put(&mut self, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.death.pass_by().await;
        self.lock.put(record, snapshot).await
    }

    async fn remove(&mut self, record: &Record) -> Result<(), StoreError> {
        self.death.pass_by().await;
        self.lock.remove(record).await
    }

    fn taken_over(&self) -> Option<&Owner> {
        self.lock.taken_over()
    }

    fn lease_end(&self) -> Option<Timestamp> {
        self.lock.lease_end()
    }
}
