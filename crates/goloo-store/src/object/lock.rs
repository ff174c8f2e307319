//! The lock as used by its holder; renewed on the store's thread, and released when dropped.

use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{Owner, Record};
use goloo_model::store::{Loaded, Snapshot, StoreError, VmLock};
use goloo_model::time::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::envelope::lease;
use super::inner::Inner;
use super::lease_state::LeaseState;
use crate::lease::{Heartbeat, keep_alive};

/// The lock of one name.
pub(super) struct ObjectLock {
    store: Arc<Inner>,
    name: VmName,
    lease_state: Arc<Mutex<LeaseState>>,
    taken_over: Option<Owner>,
    renewal: AbortHandle,
    released: bool,
}

impl ObjectLock {
    pub fn new(store: Arc<Inner>, name: VmName, lease_state: LeaseState) -> Self {
        let taken_over = lease_state.taken_over().cloned();
        let lease_state = Arc::new(Mutex::new(lease_state));
        let (renewed, renewal) = (lease_state.clone(), store.options.pace.lease.renewal);
        let pause = move || async move {
            sleep(renewal).await;
            ControlFlow::Continue(())
        };
        let renew = move || renew(renewed.clone());
        let renewal = store.worker.keep(keep_alive(pause, renew));
        Self { store, name, lease_state, taken_over, renewal, released: false }
    }

    /// Runs work under the lock, on the store's own thread, to completion, even if the caller stops waiting.
    async fn under<T, F>(
        &self,
        work: impl FnOnce(OwnedMutexGuard<LeaseState>) -> F + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let lease_state = self.lease_state.clone();
        let job = async move { work(lease_state.lock_owned().await).await };
        self.store.finished(self.store.worker.run(job).await)
    }
}

/// What is lost is said by the next write.
async fn renew(lease_state: Arc<Mutex<LeaseState>>) -> Heartbeat {
    let mut lease_state = lease_state.lock().await;
    let _ = lease_state.renew().await;
    if lease_state.is_lost() { Heartbeat::Lost } else { Heartbeat::Alive }
}

/// Copies the fields that a save changes.
fn acknowledge(record: &mut Record, saved: &Record) {
    record.serial = saved.serial;
    record.updated_at = saved.updated_at;
}

impl Drop for ObjectLock {
    fn drop(&mut self) {
        self.renewal.abort();
        if self.released {
            return;
        }
        let lease_state = self.lease_state.clone();
        let release = async move { lease_state.lock().await.release().await };
        self.store.worker.wait_for(release, self.store.options.pace.patience);
    }
}

#[async_trait]
impl VmLock for ObjectLock {
    fn name(&self) -> &VmName {
        &self.name
    }

    async fn load(&mut self) -> Result<Option<Loaded>, StoreError> {
        self.under(async move |lease_state: OwnedMutexGuard<LeaseState>| lease_state.load()).await
    }

    async fn snapshot(&mut self) -> Result<Snapshot, StoreError> {
        self.under(async move |lease_state: OwnedMutexGuard<LeaseState>| lease_state.snapshot()).await
    }

    async fn create(&mut self, record: &mut Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        let (first, snapshot) = (record.clone(), snapshot.clone());
        let create = async move |mut lease_state: OwnedMutexGuard<LeaseState>| {
            lease_state.create(&first, &snapshot).await
        };
        record.serial = self.under(create).await?.serial;
        Ok(())
    }

    async fn save(&mut self, record: &mut Record) -> Result<(), StoreError> {
        let next = record.clone();
        let save =
            async move |mut lease_state: OwnedMutexGuard<LeaseState>| lease_state.save(&next, None).await;
        acknowledge(record, &self.under(save).await?);
        Ok(())
    }

    async fn save_with_snapshot(
        &mut self,
        record: &mut Record,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        let (next, snapshot) = (record.clone(), snapshot.clone());
        let save = async move |mut lease_state: OwnedMutexGuard<LeaseState>| {
            lease_state.save_with_snapshot(&next, &snapshot).await
        };
        acknowledge(record, &self.under(save).await?);
        Ok(())
    }

    async fn put(&mut self, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        let (record, snapshot) = (record.clone(), snapshot.clone());
        self.under(async move |mut lease_state: OwnedMutexGuard<LeaseState>| {
            lease_state.put(&record, &snapshot).await
        })
        .await
    }

    async fn remove(&mut self, record: &Record) -> Result<(), StoreError> {
        let record = record.clone();
        let remove =
            async move |mut lease_state: OwnedMutexGuard<LeaseState>| lease_state.remove(&record).await;
        self.under(remove).await
    }

    async fn release(mut self: Box<Self>) {
        self.renewal.abort();
        self.released = true;
        let release = async move |mut lease_state: OwnedMutexGuard<LeaseState>| {
            lease_state.release().await;
            Ok(())
        };
        // A lease that isn't released expires.
        let _: Result<(), StoreError> = self.under(release).await;
    }

    fn taken_over(&self) -> Option<&Owner> {
        self.taken_over.as_ref()
    }

    fn lease_end(&self) -> Option<Timestamp> {
        let now = self.store.place.get()?.bucket.now().ok()?;
        Some(lease(now.unix(), self.store.options.pace.lease.seconds()).shown())
    }

    async fn archive(&mut self, record: &mut Record, at: Timestamp) -> Result<ArchiveId, StoreError> {
        let next = record.clone();
        let begin = async move |mut lease_state: OwnedMutexGuard<LeaseState>| {
            lease_state.begin_archiving(&next, at).await
        };
        match self.under(begin).await {
            Ok(saved) => acknowledge(record, &saved),
            // An earlier attempt may have completed the move.
            Err(error @ StoreError::NotFound { .. }) => {
                let gone = record.clone();
                let look = async move |lease_state: OwnedMutexGuard<LeaseState>| {
                    lease_state.moved_before(&gone, at).await
                };
                return self.under(look).await?.ok_or(error);
            }
            Err(error) => return Err(error),
        }
        self.under(async move |mut lease_state: OwnedMutexGuard<LeaseState>| {
            lease_state.move_to_archive().await
        })
        .await
    }
}
