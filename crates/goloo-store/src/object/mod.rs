//! A store in a bucket, shared by several users: S3 and compatible services, Google Cloud Storage, Azure.
//!
//! ```text
//! PREFIX/active/NAME.json   record, snapshot, and the lease of who may write them, in one object
//! PREFIX/archive/ID.json    record and snapshot of a deleted VM
//! PREFIX/moved.json         where the store was moved to
//! ```
//!
//! The rules that make it safe:
//! - Every write is conditional on what it replaces, so a holder whose lease was taken over can't write.
//! - Every write has a unique id. If its result is unknown (a lost reply, a timeout, a conflict) the object
//!   is read: if it contains our id, the write succeeded.
//! - A lease runs from the object's last write, by the service's clock; the clock of this host isn't
//!   used.
//! - An operation with several writes is completed by the next process that takes the lock.
//!
//! If a service has no conditional writes, a lock table replaces them ([`lock_table_store`]).
//!
//! All requests are made on the store's own thread ([`worker`]), so any executor may poll the futures.

mod access;
mod archive;
mod break_lock;
mod bucket;
mod envelope;
mod error;
mod http;
mod http_error;
mod inner;
mod lease_state;
mod list_page;
mod lock;
mod moved;
mod odd_key;
mod opening;
mod options;
mod place;
mod probe;
mod records;
mod settings;
mod trust;
mod worker;
mod write_check;

#[cfg(feature = "s3")]
mod aws_environment;
#[cfg(feature = "lock-table")]
mod lock_table_store;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
mod signed;
#[cfg(feature = "lock-table")]
mod table;
#[cfg(feature = "lock-table")]
mod table_error;
#[cfg(feature = "s3")]
mod versions;

use std::sync::Arc;

use async_trait::async_trait;
use goloo_model::check::Check;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::Owner;
use goloo_model::store::{Archived, HeldLock, Listing, Loaded, Snapshot, Store, StoreError, Summary, VmLock};
use tokio::sync::OnceCell;

pub use access::{Access, Clock, ConditionalWrites, TableCheck};
pub use opening::access;
pub use options::{Options, Pace};
pub use settings::{Keys, Kind, LockTable, ObjectSettings};

use inner::{Inner, Opening};
use lease_state::LeaseState;
use lock::ObjectLock;
use moved::refuse_moved;
use place::{ACTIVE, Place};
use records::shown;
use worker::Worker;

/// The store in a bucket. Clones share it.
#[derive(Clone)]
pub struct ObjectStore {
    inner: Arc<Inner>,
}

impl ObjectStore {
    /// The store that the settings name. No request is made yet.
    ///
    /// # Errors
    /// [`StoreError::Backend`] if the system can't start a thread.
    pub fn open(settings: ObjectSettings, options: Options) -> Result<Self, StoreError> {
        let (location, prefix) = (settings.location.clone(), settings.prefix.clone());
        Self::new(location, prefix, Opening::Settings(settings), options)
    }

    /// The store in a bucket that the caller has already opened.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn with_access(
        access: Access,
        location: &str,
        prefix: &str,
        options: Options,
    ) -> Result<Self, StoreError> {
        Self::new(location.to_owned(), prefix.to_owned(), Opening::Ready(access), options)
    }

    /// Checks of the location, apart from its records.
    pub async fn examine(&self) -> Vec<Check> {
        let mut checks = vec![Check::ok(format!("records are stored in {}", self.inner.location))];
        checks.extend(self.check_writes().await);
        if let Opening::Settings(settings) = &self.inner.opening {
            let (settings, answer) = (settings.clone(), self.inner.options.pace.answer);
            let look = async move { opening::examine(&settings, answer).await };
            checks.extend(self.inner.worker.run(look).await.unwrap_or_default());
        }
        checks
    }

    /// Checks the service again, regardless of earlier results.
    async fn check_writes(&self) -> Option<Check> {
        let person = self.inner.options.person.clone();
        let check = async move |place: Place| {
            if !place.bucket.needs_write_check() {
                return Ok(None);
            }
            write_check::run(&place.bucket, &person).await?;
            Ok(Some(place.bucket.last_modified_lag().await?))
        };
        match self.there(check).await {
            Ok(lag) => lag.map(write_check::passed),
            Err(StoreError::UnsafeWrites { seen, lock_table, .. }) => {
                Some(write_check::failed(&seen, lock_table))
            }
            // `examine` reports an unavailable lock table itself.
            Err(StoreError::LockTable { .. }) => None,
            Err(error) => Some(write_check::unchecked(&error)),
        }
    }

    fn new(location: String, prefix: String, opening: Opening, options: Options) -> Result<Self, StoreError> {
        let worker = Worker::start().map_err(|source| error::backend("start a thread", &location, source))?;
        let (place, writable) = (OnceCell::new(), OnceCell::new());
        Ok(Self { inner: Arc::new(Inner { worker, opening, place, writable, location, prefix, options }) })
    }

    /// Runs work on the bucket, on the store's own thread.
    async fn there<T, F>(&self, work: impl FnOnce(Place) -> F + Send + 'static) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let inner = self.inner.clone();
        let job = async move {
            let place = inner.place().await?.clone();
            work(place).await
        };
        self.inner.finished(self.inner.worker.run(job).await)
    }

    /// Like [`Self::there`], for writes, which require a service with conditional writes.
    async fn write_there<T, F>(&self, work: impl FnOnce(Place) -> F + Send + 'static) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let inner = self.inner.clone();
        self.there(async move |place: Place| {
            let check = || write_check::require(&place.bucket, &inner.options.person);
            inner.writable.get_or_try_init(check).await?;
            work(place).await
        })
        .await
    }
}

#[async_trait]
impl Store for ObjectStore {
    fn location(&self) -> String {
        self.inner.location.clone()
    }

    async fn names(&self) -> Result<Vec<String>, StoreError> {
        self.there(records::names).await
    }

    async fn list(&self) -> Result<Listing<Summary>, StoreError> {
        let Listing { entries, broken } = self.records().await?;
        let entries = entries.iter().map(|loaded| Summary::from(&loaded.record)).collect();
        Ok(Listing { entries, broken })
    }

    async fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
        let name = name.clone();
        self.there(async move |place: Place| {
            let found = place.bucket.read(ACTIVE, name.as_str()).await?;
            let shown = found.map(|found| shown(&place, name.as_str(), found));
            Ok(shown.transpose().map_err(StoreError::Broken)?.flatten())
        })
        .await
    }

    async fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError> {
        let name = name.clone();
        self.there(async move |place: Place| {
            let broken = |error| StoreError::Broken(place.bucket.broken(ACTIVE, name.as_str(), error));
            let found = place.bucket.read(ACTIVE, name.as_str()).await?;
            let envelope = found.map(|found| found.envelope).transpose().map_err(broken)?;
            let vm = envelope.and_then(|envelope| envelope.vm);
            let vm = vm.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
            vm.snapshot(&place.seal).map_err(broken)
        })
        .await
    }

    async fn lock(&self, name: &VmName, owner: &Owner) -> Result<Box<dyn VmLock>, StoreError> {
        let pace = self.inner.options.pace;
        let (asked, owner) = (name.clone(), owner.clone());
        let take = move |place| LeaseState::take(place, asked, owner, pace.lease.seconds());
        let lease_state = self.write_there(take).await?;
        Ok(Box::new(ObjectLock::new(self.inner.clone(), name.clone(), lease_state)))
    }

    async fn archive_list(&self) -> Result<Listing<Archived>, StoreError> {
        self.there(async move |place: Place| archive::list(&place).await).await
    }

    async fn archive_of(&self, name: &VmName) -> Result<Listing<Archived>, StoreError> {
        let name = name.clone();
        self.there(async move |place: Place| archive::list_of(&place, &name).await).await
    }

    async fn archive_load(&self, id: &ArchiveId) -> Result<Option<Archived>, StoreError> {
        let id = id.clone();
        self.there(async move |place: Place| archive::load(&place, &id).await).await
    }

    async fn archive_snapshot(&self, id: &ArchiveId) -> Result<Snapshot, StoreError> {
        let id = id.clone();
        self.there(async move |place: Place| archive::snapshot(&place, &id).await).await
    }

    async fn archive_delete(&self, id: &ArchiveId, by: &Owner) -> Result<(), StoreError> {
        let seconds = self.inner.options.pace.lease.seconds();
        let (id, by) = (id.clone(), by.clone());
        self.write_there(async move |place: Place| {
            refuse_moved(&place.bucket).await?;
            if let Some(name) = archive::half_way(&place, &id).await? {
                LeaseState::take(place.clone(), name, by, seconds).await?.release().await;
            }
            archive::delete(&place, &id).await
        })
        .await
    }

    async fn archive_put(&self, archived: &Archived, snapshot: &Snapshot) -> Result<(), StoreError> {
        let (archived, snapshot) = (archived.clone(), snapshot.clone());
        self.write_there(async move |place: Place| {
            refuse_moved(&place.bucket).await?;
            archive::put(&place, &archived, &snapshot).await
        })
        .await
    }

    async fn records(&self) -> Result<Listing<Loaded>, StoreError> {
        self.there(records::records).await
    }

    async fn locks(&self) -> Result<Vec<HeldLock>, StoreError> {
        self.there(records::locks).await
    }

    async fn break_lock(&self, name: &VmName) -> Result<Option<HeldLock>, StoreError> {
        let name = name.clone();
        self.write_there(async move |place: Place| break_lock::break_one(&place.bucket, &name).await).await
    }

    async fn require_safe_writes(&self) -> Result<(), StoreError> {
        self.write_there(async |_| Ok(())).await
    }

    async fn moved_to(&self) -> Result<Option<String>, StoreError> {
        self.there(async move |place: Place| moved::read(&place.bucket).await).await
    }

    async fn set_moved(&self, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
        let (replaces, to) = (replaces.map(str::to_owned), to.map(str::to_owned));
        // Without the write check, so that a store can be moved away from an unsafe service.
        self.there(async move |place: Place| {
            moved::set(&place.bucket, replaces.as_deref(), to.as_deref()).await
        })
        .await
    }
}
