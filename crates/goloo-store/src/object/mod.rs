//! A store in a bucket, for people who share it: S3 and what speaks like it, Google Cloud Storage, Azure.
//!
//! ```text
//! PREFIX/active/NAME.json   record, snapshot, and the lease of who may write them, in one object
//! PREFIX/archive/ID.json    record and snapshot of a deleted VM
//! PREFIX/moved.json         where the store was moved to
//! ```
//!
//! The rules that make it safe:
//! - Every write is conditional on what it replaces, so a holder whose lease was taken over writes no more.
//! - Every write carries an id of its own. After any doubt (a lost reply, a time-out, a conflict) the object
//!   is read: with our id in it the write came through.
//! - A lease counts from the object's last write to the service's present; the clock of this machine has no
//!   part in it.
//! - What takes several writes is finished by whoever takes the lock next.
//!
//! Where a service has no conditional writes, a lock table stands in for them ([`tabled`]).
//!
//! All requests are made on a thread of the store's own ([`worker`]), so any executor may poll the futures.

mod archive;
mod bucket;
mod envelope;
mod error;
mod held;
mod http;
mod lock;
mod moved;
mod settings;
mod table_error;
mod worker;
mod write_check;

#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
mod signed;
#[cfg(feature = "s3")]
mod table;
#[cfg(feature = "s3")]
mod tabled;
#[cfg(feature = "s3")]
mod versions;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use goloo_core::finding::Finding;
use goloo_core::name::{ArchiveId, VmName};
use goloo_core::record::{Owner, Record};
use goloo_core::store::{
    Archived, Broken, HeldLock, Listing, Loaded, Snapshot, Store, StoreError, Summary, VmLock,
};
use tokio::sync::OnceCell;

pub use bucket::{Access, Clock, ConditionalWrites, TableCheck};
pub use settings::{Keys, Kind, LockTable, ObjectSettings};
pub use table_error::{TableError, TableName};

use crate::rules::is_half_archived;
use crate::seal::Seal;
use bucket::{Bucket, Found, Limits};
use envelope::Envelope;
use held::{Held, Place};
use lock::ObjectLock;
use moved::refuse_moved;
use worker::Worker;

const ACTIVE: &str = "active";
const ARCHIVE: &str = "archive";

/// An object with a VM in it may be smaller, but one without never is larger: what is above needn't be
/// opened to know that a name is taken.
const EMPTY_BYTES_MAX: u64 = 4096;

/// What is decided about a store apart from its place.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How documents are kept.
    pub seal: Seal,
    /// How long things take.
    pub pace: Pace,
    /// The person who works with the store, as in `ann on laptop`.
    pub person: String,
}

/// Times; tests shorten them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long a lock outlives its holder's last sign of life; whole seconds.
    pub lease: Duration,
    /// Between two signs of life.
    pub renew: Duration,
    /// How long one answer is waited for.
    pub answer: Duration,
    /// How long a request is repeated that gets no answer.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(90),
            renew: Duration::from_secs(20),
            answer: Duration::from_secs(10),
            patience: Duration::from_secs(30),
        }
    }
}

/// The store in a bucket. Clones share it.
#[derive(Clone)]
pub struct ObjectStore {
    inner: Arc<Inner>,
}

struct Inner {
    worker: Worker,
    opening: Opening,
    place: OnceCell<Place>,
    /// Set when the service is known to honour conditional writes.
    writable: OnceCell<()>,
    location: String,
    prefix: String,
    options: Options,
}

/// Where the bucket comes from.
enum Opening {
    Settings(ObjectSettings),
    Ready(Access),
}

impl ObjectStore {
    /// The store that the settings name. Nothing is read or asked yet.
    ///
    /// # Errors
    /// [`StoreError::Backend`] when the system gives no thread.
    pub fn open(settings: ObjectSettings, options: Options) -> Result<Self, StoreError> {
        let (location, prefix) = (settings.location.clone(), settings.prefix.clone());
        Self::new(location, prefix, Opening::Settings(settings), options)
    }

    /// The store in a bucket that the caller has opened.
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

    /// What is to be said of the place beyond its records.
    pub async fn examine(&self) -> Vec<Finding> {
        let mut findings = vec![Finding::sound(format!("records are kept in {}", self.inner.location))];
        findings.extend(self.check_writes().await);
        if let Opening::Settings(settings) = &self.inner.opening {
            let (settings, answer) = (settings.clone(), self.inner.options.pace.answer);
            let look = async move { settings.examine(answer).await };
            findings.extend(self.inner.worker.run(look).await.unwrap_or_default());
        }
        findings
    }

    /// Checks the service again, whatever is known of it.
    async fn check_writes(&self) -> Option<Finding> {
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
            Err(StoreError::Backend { source, .. }) if source.is::<TableError>() => None,
            Err(error) => Some(write_check::unchecked(&error)),
        }
    }

    fn new(location: String, prefix: String, opening: Opening, options: Options) -> Result<Self, StoreError> {
        let worker = Worker::start().map_err(|source| error::backend("start a thread", &location, source))?;
        let (place, writable) = (OnceCell::new(), OnceCell::new());
        Ok(Self { inner: Arc::new(Inner { worker, opening, place, writable, location, prefix, options }) })
    }

    /// Does something in the bucket, on the store's own thread.
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

    /// The same for what writes, which the service must be fit for.
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

impl Inner {
    async fn place(&self) -> Result<&Place, StoreError> {
        self.place.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<Place, StoreError> {
        let access = match &self.opening {
            Opening::Ready(access) => access.clone(),
            Opening::Settings(settings) => settings.access(self.options.pace.answer).await?,
        };
        let Pace { lease, answer, patience, .. } = self.options.pace;
        let limits = Limits { request: answer, write: patience, late: lease };
        let bucket = Arc::new(Bucket::new(access, &self.prefix, self.location.clone(), limits));
        Ok(Place { bucket, seal: self.options.seal.clone() })
    }

    fn finished<T>(&self, answer: Option<Result<T, StoreError>>) -> Result<T, StoreError> {
        answer.unwrap_or_else(|| Err(error::backend("finish a request", &self.location, "its thread ended")))
    }
}

/// An active object's record, unless it is half way to the archive.
fn loaded(place: &Place, name: &str, envelope: &Envelope) -> Result<Option<Loaded>, Broken> {
    let Some(vm) = &envelope.vm else { return Ok(None) };
    let record = vm.record(name, &place.seal);
    let record = record.map_err(|unsound| place.bucket.broken(ACTIVE, name, unsound.text()))?;
    Ok((!is_half_archived(&record)).then_some(Loaded { record, recovered: None }))
}

fn shown(place: &Place, name: &str, found: Found) -> Result<Option<Loaded>, Broken> {
    let broken = |error| place.bucket.broken(ACTIVE, name, error);
    VmName::parse(name).map_err(|error| broken(error.to_string()))?;
    loaded(place, name, &found.envelope.map_err(broken)?)
}

/// All active records.
async fn records(place: Place) -> Result<Listing<Loaded>, StoreError> {
    let mut listing = Listing::default();
    let entries = place.bucket.entries(ACTIVE).await?;
    // A name that begins with a dot is a lock that stands for no VM.
    let entries = entries.into_iter().filter(|entry| !entry.name.starts_with('.')).collect();
    for (name, found) in place.bucket.read_all(ACTIVE, entries).await? {
        match shown(&place, &name, found) {
            Ok(loaded) => listing.entries.extend(loaded),
            Err(broken) => listing.broken.push(broken),
        }
    }
    Ok(listing)
}

async fn names(place: Place) -> Result<Vec<String>, StoreError> {
    let entries = place.bucket.entries(ACTIVE).await?;
    let ours = entries.into_iter().filter(|entry| VmName::parse(&entry.name).is_ok());
    let (small, mut names): (Vec<_>, Vec<_>) = ours.partition(|entry| entry.bytes <= EMPTY_BYTES_MAX);
    let is_vm = |found: &Found| found.envelope.as_ref().map_or(true, |envelope| envelope.vm.is_some());
    let small = place.bucket.read_all(ACTIVE, small).await?;
    let small = small.into_iter().filter(|(_, found)| is_vm(found)).map(|(name, _)| name);
    let mut names: Vec<_> = names.drain(..).map(|entry| entry.name).chain(small).collect();
    names.sort_unstable();
    Ok(names)
}

async fn locks(place: Place) -> Result<Vec<HeldLock>, StoreError> {
    let entries = place.bucket.entries(ACTIVE).await?;
    let mut locks = Vec::new();
    for (name, found) in place.bucket.read_all(ACTIVE, entries).await? {
        let (Ok(name), Ok(envelope)) = (VmName::parse(&name), found.envelope) else { continue };
        if let Some(lease) = envelope.lease {
            locks.push(lease.held(name, found.modified));
        }
    }
    Ok(locks)
}

#[async_trait]
impl Store for ObjectStore {
    fn location(&self) -> String {
        self.inner.location.clone()
    }

    async fn names(&self) -> Result<Vec<String>, StoreError> {
        self.there(names).await
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
        let take = move |place| Held::take(place, asked, owner, pace.lease.as_secs());
        let held = self.write_there(take).await?;
        Ok(Box::new(ObjectLock::new(self.inner.clone(), name.clone(), held)))
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
        let seconds = self.inner.options.pace.lease.as_secs();
        let (id, by) = (id.clone(), by.clone());
        self.write_there(async move |place: Place| {
            refuse_moved(&place.bucket).await?;
            if let Some(name) = archive::half_way(&place, &id).await? {
                Held::take(place.clone(), name, by, seconds).await?.release().await;
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
        self.there(records).await
    }

    async fn locks(&self) -> Result<Vec<HeldLock>, StoreError> {
        self.there(locks).await
    }

    async fn break_lock(&self, name: &VmName) -> Result<Option<HeldLock>, StoreError> {
        let name = name.clone();
        self.write_there(async move |place: Place| held::break_lock(&place.bucket, &name).await).await
    }

    async fn require_safe_writes(&self) -> Result<(), StoreError> {
        self.write_there(async |_| Ok(())).await
    }

    async fn moved_to(&self) -> Result<Option<String>, StoreError> {
        self.there(async move |place: Place| moved::read(&place.bucket).await).await
    }

    async fn set_moved(&self, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
        let (replaces, to) = (replaces.map(str::to_owned), to.map(str::to_owned));
        // Without the write check, so that records can be moved away from an unsafe service.
        self.there(async move |place: Place| {
            moved::set(&place.bucket, replaces.as_deref(), to.as_deref()).await
        })
        .await
    }
}

/// Takes over what a save changes.
fn acknowledge(record: &mut Record, saved: &Record) {
    record.serial = saved.serial;
    record.updated_at = saved.updated_at;
}
