//! The lock as its holder has it; it is kept alive on the store's thread, and given back when it is dropped.

use std::sync::Arc;

use async_trait::async_trait;
use goloo_core::name::{ArchiveId, VmName};
use goloo_core::record::{Owner, Record};
use goloo_core::store::{Loaded, Snapshot, StoreError, VmLock};
use goloo_core::time::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::envelope::lease_end;
use super::held::Held;
use super::{Inner, acknowledge};

/// The lock of one name.
pub(super) struct ObjectLock {
    store: Arc<Inner>,
    name: VmName,
    held: Arc<Mutex<Held>>,
    taken_over: Option<Owner>,
    renewal: AbortHandle,
    released: bool,
}

impl ObjectLock {
    pub fn new(store: Arc<Inner>, name: VmName, held: Held) -> Self {
        let taken_over = held.taken_over().cloned();
        let held = Arc::new(Mutex::new(held));
        let (renewed, pause) = (held.clone(), store.options.pace.renew);
        let renewal = store.worker.keep(async move {
            loop {
                sleep(pause).await;
                let mut held = renewed.lock().await;
                // What fails is tried again at the next turn; what is lost is said by the next write.
                let _ = held.renew().await;
                if held.is_lost() {
                    return;
                }
            }
        });
        Self { store, name, held, taken_over, renewal, released: false }
    }

    /// Does something under the lock, on the store's own thread, and to its end whoever still waits.
    async fn under<T, F>(
        &self,
        work: impl FnOnce(OwnedMutexGuard<Held>) -> F + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let held = self.held.clone();
        let job = async move { work(held.lock_owned().await).await };
        self.store.finished(self.store.worker.run(job).await)
    }
}

impl Drop for ObjectLock {
    fn drop(&mut self) {
        self.renewal.abort();
        if self.released {
            return;
        }
        let held = self.held.clone();
        let release = async move { held.lock().await.release().await };
        self.store.worker.wait_for(release, self.store.options.pace.patience);
    }
}

#[async_trait]
impl VmLock for ObjectLock {
    fn name(&self) -> &VmName {
        &self.name
    }

    async fn load(&mut self) -> Result<Option<Loaded>, StoreError> {
        self.under(async move |held: OwnedMutexGuard<Held>| held.load()).await
    }

    async fn snapshot(&mut self) -> Result<Snapshot, StoreError> {
        self.under(async move |held: OwnedMutexGuard<Held>| held.snapshot()).await
    }

    async fn create(&mut self, record: &mut Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        let (first, snapshot) = (record.clone(), snapshot.clone());
        let create = async move |mut held: OwnedMutexGuard<Held>| held.create(&first, &snapshot).await;
        record.serial = self.under(create).await?.serial;
        Ok(())
    }

    async fn save(&mut self, record: &mut Record) -> Result<(), StoreError> {
        let next = record.clone();
        let save = async move |mut held: OwnedMutexGuard<Held>| held.save(&next, None).await;
        acknowledge(record, &self.under(save).await?);
        Ok(())
    }

    async fn put(&mut self, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        let (record, snapshot) = (record.clone(), snapshot.clone());
        self.under(async move |mut held: OwnedMutexGuard<Held>| held.put(&record, &snapshot).await).await
    }

    async fn release(mut self: Box<Self>) {
        self.renewal.abort();
        self.released = true;
        let release = async move |mut held: OwnedMutexGuard<Held>| {
            held.release().await;
            Ok(())
        };
        // A lease that isn't given back ends by itself.
        let _: Result<(), StoreError> = self.under(release).await;
    }

    fn taken_over(&self) -> Option<&Owner> {
        self.taken_over.as_ref()
    }

    fn lease_end(&self) -> Option<Timestamp> {
        let now = self.store.place.get()?.bucket.now().ok()?;
        Some(lease_end(now.unix(), self.store.options.pace.lease.as_secs()))
    }

    async fn archive(&mut self, record: &mut Record, at: Timestamp) -> Result<ArchiveId, StoreError> {
        let next = record.clone();
        let begin = async move |mut held: OwnedMutexGuard<Held>| held.begin_archiving(&next, at).await;
        match self.under(begin).await {
            Ok(saved) => acknowledge(record, &saved),
            // An earlier attempt may have come as far as the end.
            Err(error @ StoreError::NotFound { .. }) => {
                let gone = record.clone();
                let look = async move |held: OwnedMutexGuard<Held>| held.moved_before(&gone, at).await;
                return self.under(look).await?.ok_or(error);
            }
            Err(error) => return Err(error),
        }
        self.under(async move |mut held: OwnedMutexGuard<Held>| held.move_to_archive().await).await
    }
}
