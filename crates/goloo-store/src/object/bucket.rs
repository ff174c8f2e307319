//! The requests that the store makes, each with a time limit, and the one way to write: compare-and-swap,
//! with a look at what is stored after any doubt.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use goloo_core::store::{Broken, StoreError};
use goloo_core::time::Timestamp;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore as Objects, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

use super::envelope::Envelope;
use super::error::{self, Seen};
use super::http::{DELETE_IF, PAGES_LEFT, PAGES_MAX};
use super::write_check;

/// Tells the time of the service, in seconds since 1970; `None` before its first answer.
pub trait Clock: Send + Sync {
    /// What its clock shows now.
    fn now(&self) -> Option<i64>;
}

/// A service, and what it can do.
#[derive(Clone)]
pub struct Access {
    /// The bucket.
    pub objects: Arc<dyn Objects>,
    /// The service's clock.
    pub clock: Arc<dyn Clock>,
    /// Whether a deletion can be made to depend on the ETag. Where it can't, empty objects stay.
    pub conditional_delete: bool,
    /// Which service it is: its endpoint, and that of its lock table.
    pub service: String,
    /// How much is known of its conditional writes.
    pub writes: ConditionalWrites,
    /// The lock table that takes the place of conditions, where there is one.
    pub table: Option<Arc<dyn TableCheck>>,
}

/// A lock table that can be checked.
#[async_trait]
pub trait TableCheck: Send + Sync {
    /// Checks that it keeps those apart who want one row. `place` names the store in errors.
    async fn check(&self, key: &str, place: &str) -> Result<(), StoreError>;
}

/// Whether a service is known to honour the conditions of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalWrites {
    /// The caller knows that it does.
    Known,
    /// It is checked before the first write. `lock_table` says whether one would help where it doesn't.
    Unknown {
        /// A lock table can take the place of conditions.
        lock_table: bool,
    },
}

/// An object as the service gives it: bytes, version, and when it was last written.
type Got = (Vec<u8>, UpdateVersion, i64);

impl Access {
    async fn get(&self, path: &Path) -> object_store::Result<Got> {
        let got = self.objects.get_opts(path, GetOptions::default()).await?;
        let meta = got.meta.clone();
        let version = UpdateVersion { e_tag: meta.e_tag, version: meta.version };
        Ok((Vec::from(got.bytes().await?), version, meta.last_modified.timestamp()))
    }
}

/// How long answers are waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For one request.
    pub request: Duration,
    /// For a write with all its repetitions.
    pub write: Duration,
    /// After which no request that got no answer is carried out any more.
    pub late: Duration,
}

/// The largest object, in bytes: four documents, with what base64 and encryption add to them.
pub(super) const OBJECT_MAX: u64 = 8 << 20;
/// How many objects are read at once.
const READS_AT_ONCE: usize = 32;
/// The wait before a request is made again; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Longer than a service takes for the bytes of one record.
const HALF_WRITTEN: Duration = Duration::from_millis(300);

/// The store's part of a bucket.
pub(super) struct Bucket {
    access: Access,
    prefix: String,
    /// The whole address, as a person writes it: `s3://bucket/prefix?region=…`.
    pub place: String,
    limits: Limits,
    lag: OnceCell<i64>,
}

/// An object as it was read.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// What it holds, or why that can't be read.
    pub envelope: Result<Envelope, String>,
    pub version: UpdateVersion,
    /// When it was last written, by the service's clock, in seconds since 1970.
    pub modified: i64,
}

/// One line of a listing.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key without its folder and `.json`.
    pub name: String,
    pub bytes: u64,
}

/// Why a write didn't happen, or may not have.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Something else is stored; nothing was written.
    Refused,
    /// It isn't known whether the write came through, or still will.
    InDoubt(StoreError),
}

impl Bucket {
    pub fn new(access: Access, prefix: &str, place: String, limits: Limits) -> Self {
        Self { access, prefix: prefix.trim_matches('/').to_owned(), place, limits, lag: OnceCell::new() }
    }

    /// The key of an object, as a person would look it up.
    pub fn address(&self, folder: &str, name: &str) -> String {
        let place = self.place.split('?').next().unwrap_or_default();
        format!("{place}/{folder}/{name}.json")
    }

    pub fn broken(&self, folder: &str, name: &str, error: String) -> Broken {
        Broken { name: name.to_owned(), path: self.address(folder, name), error }
    }

    pub fn can_delete_conditionally(&self) -> bool {
        self.access.conditional_delete
    }

    /// The service that answers, as the write check names it.
    pub fn service(&self) -> &str {
        &self.access.service
    }

    /// Checks the lock table, where there is one.
    pub async fn check_table(&self, key: &str) -> Result<(), StoreError> {
        match &self.access.table {
            Some(table) => table.check(key, &self.place).await,
            None => Ok(()),
        }
    }

    pub fn needs_write_check(&self) -> bool {
        matches!(self.access.writes, ConditionalWrites::Unknown { .. })
    }

    pub fn unsafe_writes(&self, seen: String) -> StoreError {
        let lock_table = matches!(self.access.writes, ConditionalWrites::Unknown { lock_table: true });
        StoreError::UnsafeWrites { place: self.place.clone(), seen, lock_table }
    }

    /// The service's clock. An answer of the service's must have come before.
    pub fn now(&self) -> Result<Timestamp, StoreError> {
        let now = self.access.clock.now().and_then(Timestamp::from_unix);
        now.ok_or_else(|| {
            error::backend("read the clock", &self.place, "the service's answers carry no Date header")
        })
    }

    /// Whether an object that was written then is written by nobody any more who saw nothing there.
    pub fn is_settled(&self, modified: i64) -> Result<bool, StoreError> {
        let late = modified.saturating_add_unsigned(self.limits.late.as_secs());
        Ok(self.now()?.unix() > late)
    }

    fn path(&self, key: &str) -> Path {
        if self.prefix.is_empty() {
            return Path::from(key);
        }
        let full = format!("{}/{key}", self.prefix);
        // As it is shown; what was checked before it came here is never written differently.
        Path::parse(&full).unwrap_or_else(|_| Path::from(full))
    }

    fn key(folder: &str, name: &str) -> String {
        format!("{folder}/{name}.json")
    }

    async fn limited<T>(&self, work: impl Future<Output = object_store::Result<T>>) -> Result<T, Seen> {
        match timeout(self.limits.request, work).await {
            Ok(answer) => answer.map_err(Seen::Error),
            Err(_) => Err(Seen::Silence(self.limits.request)),
        }
    }

    /// How long a request is repeated that ended so.
    fn patience(&self, seen: &Seen) -> Duration {
        if seen.is_nobody() { self.limits.request } else { self.limits.write }
    }

    /// Reads, again and again until the limit where a failure may pass.
    pub async fn bytes(&self, key: &str) -> Result<Option<Got>, StoreError> {
        let path = self.path(key);
        match self.patiently(|| self.access.get(&path).boxed()).await {
            Ok(read) => Ok(Some(read)),
            Err(seen) if seen.is_absence() => Ok(None),
            Err(seen) => Err(seen.into_error(error::READ, &self.place)),
        }
    }

    /// Makes a request that changes nothing, or nothing when made twice, until it is answered.
    async fn patiently<'r, T>(
        &self,
        mut request: impl FnMut() -> BoxFuture<'r, object_store::Result<T>>,
    ) -> Result<T, Seen> {
        let begin = Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            match self.limited(request()).await {
                Err(seen) if seen.may_pass() && begin.elapsed() + wait < self.patience(&seen) => {
                    sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                other => return other,
            }
        }
    }

    /// Reads an object. Some services show a write that is only half done, so one that can't be parsed is read again
    /// until it can be, or stays the same.
    pub async fn read(&self, folder: &str, name: &str) -> Result<Option<Found>, StoreError> {
        let (key, end) = (Self::key(folder, name), Instant::now() + self.limits.request);
        let mut last = None;
        loop {
            let Some((bytes, version, modified)) = self.bytes(&key).await? else { return Ok(None) };
            let envelope = Envelope::parse(&bytes);
            if envelope.is_ok() || last.as_ref() == Some(&bytes) || Instant::now() > end {
                return Ok(Some(Found { envelope, version, modified }));
            }
            last = Some(bytes);
            sleep(HALF_WRITTEN).await;
        }
    }

    /// What lies in a folder, sorted by name.
    pub async fn entries(&self, folder: &str) -> Result<Vec<Entry>, StoreError> {
        let prefix = self.path(folder);
        let list = || {
            let pages = self.access.objects.list(Some(&prefix)).try_collect::<Vec<_>>();
            PAGES_LEFT.scope(Cell::new(PAGES_MAX), pages).boxed()
        };
        let listed = self.patiently(list).await;
        let listed = listed.map_err(|seen| seen.into_error(error::LIST, &self.place))?;
        let entry = |meta: object_store::ObjectMeta| {
            let name = meta.location.filename()?.strip_suffix(".json")?.to_owned();
            // What lies deeper isn't the store's.
            let ours = meta.location.prefix_match(&prefix)?.count() == 1;
            ours.then_some(Entry { name, bytes: meta.size })
        };
        let mut entries: Vec<_> = listed.into_iter().filter_map(entry).collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Reads many, in their order; what is gone meanwhile is left out.
    pub async fn read_all(
        &self,
        folder: &str,
        entries: Vec<Entry>,
    ) -> Result<Vec<(String, Found)>, StoreError> {
        let reads = entries.into_iter().map(|entry| self.read_entry(folder, entry).boxed());
        let found: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn read_entry(&self, folder: &str, entry: Entry) -> Result<Option<(String, Found)>, StoreError> {
        if entry.bytes > OBJECT_MAX {
            let envelope = Err(format!("it is larger than {} MiB", OBJECT_MAX >> 20));
            let version = UpdateVersion { e_tag: None, version: None };
            return Ok(Some((entry.name, Found { envelope, version, modified: 0 })));
        }
        let found = self.read(folder, &entry.name).await?;
        Ok(found.map(|found| (entry.name, found)))
    }

    /// Puts `envelope` in the place of what has the version `replaces`, or where nothing is. Its `write` must
    /// be new.
    ///
    /// The same bytes are sent again after a doubt: of two that arrive only one finds what it is to replace.
    pub async fn write(
        &self,
        folder: &str,
        name: &str,
        envelope: &Envelope,
        replaces: Option<&UpdateVersion>,
    ) -> Result<UpdateVersion, WriteError> {
        self.swap(&Self::key(folder, name), envelope.to_bytes(), replaces).await
    }

    /// The same for any bytes that nobody has written before: they hold an id that is new.
    pub async fn swap(
        &self,
        key: &str,
        bytes: Vec<u8>,
        replaces: Option<&UpdateVersion>,
    ) -> Result<UpdateVersion, WriteError> {
        let begin = Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            let seen = match self.put(key, bytes.clone(), replaces).await {
                Ok(version) => return Ok(version),
                Err(seen) => seen,
            };
            let failed = |seen: Seen| WriteError::InDoubt(self.write_failed(seen));
            // Nothing can be missing that a new object is to replace.
            if seen.is_final() || replaces.is_none() && seen.is_absence() {
                return Err(failed(seen));
            }
            if let Some(version) = self.came_through(key, &bytes, replaces).await? {
                return Ok(version);
            }
            if begin.elapsed() + wait >= self.patience(&seen) {
                return Err(failed(seen));
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Makes one request for a write, whose end may stay unknown.
    pub async fn put(
        &self,
        key: &str,
        bytes: Vec<u8>,
        replaces: Option<&UpdateVersion>,
    ) -> Result<UpdateVersion, Seen> {
        let path = self.path(key);
        let mode = replaces.map_or(PutMode::Create, |version| PutMode::Update(version.clone()));
        let options = PutOptions { mode, ..PutOptions::default() };
        let put = self.limited(self.access.objects.put_opts(&path, bytes.into(), options)).await?;
        Ok(UpdateVersion { e_tag: put.e_tag, version: put.version })
    }

    /// Every write is conditional: a service that has no such writes says 501 to all of them.
    pub fn write_failed(&self, seen: Seen) -> StoreError {
        match seen.unimplemented() {
            Some(said) => self.unsafe_writes(format!("it has no conditional writes ({said})")),
            None => seen.into_error(error::WRITE, &self.place),
        }
    }

    /// Looks for a write after a doubt; `None` when what it is to replace is still there.
    async fn came_through(
        &self,
        key: &str,
        bytes: &[u8],
        replaces: Option<&UpdateVersion>,
    ) -> Result<Option<UpdateVersion>, WriteError> {
        let found = self.bytes(key).await.map_err(WriteError::InDoubt)?;
        match (found, replaces) {
            (Some((stored, version, _)), _) if stored == bytes => Ok(Some(version)),
            (Some((_, stored, _)), Some(version)) if stored.e_tag == version.e_tag => Ok(None),
            (None, None) => Ok(None),
            _ => Err(WriteError::Refused),
        }
    }

    /// Removes an object, if it still has this version and the service can see to that. It is only called
    /// for objects that may as well stay, so a failure is none.
    pub async fn remove_empty(&self, folder: &str, name: &str, version: &UpdateVersion) {
        let Some(etag) = version.e_tag.clone().filter(|_| self.can_delete_conditionally()) else { return };
        let path = self.path(&Self::key(folder, name));
        let _ = self.limited(DELETE_IF.scope(etag, self.access.objects.delete(&path))).await;
    }

    /// Removes objects that nobody needs; a failure is none.
    pub async fn remove_all(&self, keys: Vec<String>) {
        let paths: Vec<_> = keys.iter().map(|key| self.path(key)).collect();
        join_all(paths.iter().map(|path| self.limited(self.access.objects.delete(path)))).await;
    }

    /// How many seconds earlier than its answers the service dates what it stores; 0 where it doesn't. Rounded
    /// up, by the time that the requests take.
    pub async fn last_modified_lag(&self) -> Result<i64, StoreError> {
        let measured = self.lag.get_or_try_init(|| self.measure_lag()).await;
        measured.copied()
    }

    async fn measure_lag(&self) -> Result<i64, StoreError> {
        let key = format!("{}.json", write_check::new_folder());
        match self.swap(&key, write_check::content(0), None).await {
            Ok(_) => {}
            Err(WriteError::InDoubt(error)) => return Err(error),
            Err(WriteError::Refused) => {
                return Err(self.unsafe_writes("a new object was replaced".to_owned()));
            }
        }
        let read = self.bytes(&key).await?;
        let now = self.now()?.unix();
        self.remove_all(vec![key]).await;
        Ok(read.map_or(0, |(_, _, modified)| (now - modified).max(0)))
    }
}
