//! The store's requests, each with a timeout, and the only way to write: compare-and-swap,
//! with a read of the stored object if the result is unknown.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use goloo_model::store::{Broken, StoreError};
use goloo_model::time::Timestamp;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

use super::access::{Access, ConditionalWrites, Got, OBJECT_MAX};
use super::envelope::Envelope;
use super::error::{self, Seen};
use super::http::{DELETE_IF, LISTING, ListRequests};
use super::{odd_key, probe};
use crate::rules::BrokenRecords;

/// Timeouts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Of one request.
    pub request: Duration,
    /// Of a write with all its retries.
    pub write: Duration,
    /// After which an unanswered request can no longer be carried out.
    pub late: Duration,
}

/// The number of objects that are read concurrently.
const READS_AT_ONCE: usize = 32;
/// The wait before the first retry of a request; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Longer than a service takes to write one record.
const HALF_WRITTEN: Duration = Duration::from_millis(300);
/// How often unparsable objects are read again, in total for all that are read together: a service that always returns
/// invalid data must not delay a list in proportion to the number of its objects.
const REREADS_MAX: u32 = 64;

/// The part of a bucket that belongs to the store.
pub(super) struct Bucket {
    access: Access,
    prefix: String,
    /// The full address, as users write it: `s3://bucket/prefix?region=…`.
    pub place: String,
    limits: Limits,
    lag: OnceCell<i64>,
}

/// An object as read.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Its content, or why that is unreadable.
    pub envelope: Result<Envelope, String>,
    pub version: UpdateVersion,
    /// When it was last written, by the service's clock, in seconds since 1970.
    pub modified: i64,
}

/// One entry of a listing.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key without its folder and `.json`.
    pub name: String,
    pub bytes: u64,
}

/// The contents of a folder.
pub(super) struct Listed {
    /// Sorted by name.
    pub entries: Vec<Entry>,
    /// Objects with keys that goloo can't use.
    pub broken: BrokenRecords,
}

/// Why a write failed, or may have failed.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The stored object is a different one; nothing was written.
    Refused,
    /// It is unknown whether the write succeeded, or still will.
    InDoubt(StoreError),
}

impl Bucket {
    pub fn new(access: Access, prefix: &str, place: String, limits: Limits) -> Self {
        Self { access, prefix: prefix.trim_matches('/').to_owned(), place, limits, lag: OnceCell::new() }
    }

    /// The address of a folder for users.
    pub fn folder_address(&self, folder: &str) -> String {
        let place = self.place.split('?').next().unwrap_or_default();
        format!("{place}/{folder}")
    }

    /// The address of an object for users.
    pub fn address(&self, folder: &str, name: &str) -> String {
        format!("{}/{name}.json", self.folder_address(folder))
    }

    pub fn broken(&self, folder: &str, name: &str, error: String) -> Broken {
        Broken { name: name.to_owned(), path: self.address(folder, name), error }
    }

    pub fn can_delete_conditionally(&self) -> bool {
        self.access.conditional_delete
    }

    /// The service's identity in the results of the write check.
    pub fn service(&self) -> &str {
        &self.access.service
    }

    /// Checks the lock table, if there is one.
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

    /// The service's time. Requires an earlier response.
    pub fn now(&self) -> Result<Timestamp, StoreError> {
        let now = self.access.clock.now().and_then(Timestamp::from_unix);
        now.ok_or_else(|| {
            error::backend("read the clock", &self.place, "the service's responses have no Date header")
        })
    }

    /// Whether writers that saw no object before this write can no longer write one.
    pub fn is_settled(&self, modified: i64) -> Result<bool, StoreError> {
        let late = modified.saturating_add_unsigned(self.limits.late.as_secs());
        Ok(self.now()?.unix() > late)
    }

    fn path(&self, key: &str) -> Path {
        if self.prefix.is_empty() {
            return Path::from(key);
        }
        let full = format!("{}/{key}", self.prefix);
        // Stored as shown; keys that were validated before are never encoded differently.
        Path::parse(&full).unwrap_or_else(|_| Path::from(full))
    }

    fn key(folder: &str, name: &str) -> String {
        format!("{folder}/{name}.json")
    }

    async fn limited<T>(&self, work: impl Future<Output = object_store::Result<T>>) -> Result<T, Seen> {
        let begun = Instant::now();
        let answer = match timeout(self.limits.request, work).await {
            Ok(answer) => answer.map_err(Seen::Error),
            Err(_) => Err(Seen::Silence(self.limits.request)),
        };
        let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(place = self.place, ok = answer.is_ok(), ms, "made a request to the bucket");
        answer
    }

    /// How long to retry a request with this result.
    fn patience(&self, seen: &Seen) -> Duration {
        if seen.is_nobody() { self.limits.request } else { self.limits.write }
    }

    /// Reads an object, with retries of transient failures up to the limit.
    pub async fn bytes(&self, key: &str) -> Result<Option<Got>, StoreError> {
        let path = self.path(key);
        match self.patiently(|| self.access.get(&path).boxed()).await {
            Ok(read) => Ok(Some(read)),
            Err(seen) if seen.is_absence() => Ok(None),
            Err(seen) => Err(seen.into_error(error::READ, &self.place)),
        }
    }

    /// Retries an idempotent request until it is answered.
    async fn patiently<'r, T>(
        &self,
        mut request: impl FnMut() -> BoxFuture<'r, object_store::Result<T>>,
    ) -> Result<T, Seen> {
        let begin = Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            match self.limited(request()).await {
                Err(seen) if seen.may_pass() && begin.elapsed() + wait < self.patience(&seen) => {
                    tracing::debug!(place = self.place, "repeating a request to the bucket");
                    sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                other => return other,
            }
        }
    }

    /// Reads an object. Some services show incomplete writes, so one that can't be parsed is read again
    /// until it can be, or stays the same.
    pub async fn read(&self, folder: &str, name: &str) -> Result<Option<Found>, StoreError> {
        self.read_patiently(folder, name, &AtomicU32::new(REREADS_MAX)).await
    }

    async fn read_patiently(
        &self,
        folder: &str,
        name: &str,
        rereads: &AtomicU32,
    ) -> Result<Option<Found>, StoreError> {
        let (key, end) = (Self::key(folder, name), Instant::now() + self.limits.request);
        let mut last = None;
        loop {
            let Some((bytes, version, modified)) = self.bytes(&key).await? else { return Ok(None) };
            let envelope = Envelope::parse(&bytes);
            let left = rereads.load(Ordering::Relaxed);
            if envelope.is_ok() || last.as_ref() == Some(&bytes) || Instant::now() > end || left == 0 {
                return Ok(Some(Found { envelope, version, modified }));
            }
            rereads.store(left - 1, Ordering::Relaxed);
            last = Some(bytes);
            sleep(HALF_WRITTEN).await;
        }
    }

    /// The objects in a folder that may belong to the store, sorted by name.
    pub async fn entries(&self, folder: &str) -> Result<Vec<Entry>, StoreError> {
        Ok(self.listed(folder).await?.entries)
    }

    /// All entries of a folder.
    pub async fn listed(&self, folder: &str) -> Result<Listed, StoreError> {
        let prefix = self.path(folder);
        let list = || {
            let pages = self.access.objects.list(Some(&prefix)).try_collect::<Vec<_>>();
            let all = async move { Ok((pages.await?, LISTING.with(ListRequests::odd_keys))) };
            LISTING.scope(ListRequests::default(), all).boxed()
        };
        let listed = self.patiently(list).await;
        let (objects, odd_keys) = listed.map_err(|seen| seen.into_error(error::LIST, &self.place))?;
        let entry = |meta: object_store::ObjectMeta| {
            let name = meta.location.filename()?.strip_suffix(".json")?.to_owned();
            // Deeper objects don't belong to the store.
            let ours = meta.location.prefix_match(&prefix)?.count() == 1;
            ours.then_some(Entry { name, bytes: meta.size })
        };
        let mut entries: Vec<_> = objects.into_iter().filter_map(entry).collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut broken = BrokenRecords::default();
        odd_keys.iter().for_each(|key| broken.push(odd_key::broken(&self.place, key)));
        Ok(Listed { entries, broken })
    }

    /// Reads many objects and passes each on in order, as soon as it is read; those deleted meanwhile are omitted.
    pub async fn read_each(
        &self,
        folder: &str,
        entries: Vec<Entry>,
        mut show: impl FnMut(String, Found),
    ) -> Result<(), StoreError> {
        let rereads = AtomicU32::new(REREADS_MAX);
        let reads = entries.into_iter().map(|entry| self.read_entry(folder, entry, &rereads).boxed());
        let mut reads = stream::iter(reads).buffered(READS_AT_ONCE);
        while let Some(read) = reads.try_next().await? {
            if let Some((name, found)) = read {
                show(name, found);
            }
        }
        Ok(())
    }

    async fn read_entry(
        &self,
        folder: &str,
        entry: Entry,
        rereads: &AtomicU32,
    ) -> Result<Option<(String, Found)>, StoreError> {
        if entry.bytes > OBJECT_MAX {
            let envelope = Err(format!("it is larger than {} MiB", OBJECT_MAX >> 20));
            let version = UpdateVersion { e_tag: None, version: None };
            return Ok(Some((entry.name, Found { envelope, version, modified: 0 })));
        }
        let found = self.read_patiently(folder, &entry.name, rereads).await?;
        Ok(found.map(|found| (entry.name, found)))
    }

    /// Writes `envelope` in place of the version `replaces`, or creates the object. Its `write` must
    /// be new.
    ///
    /// If the result is unknown the same bytes are sent again: at most one of the two finds the expected version.
    pub async fn write(
        &self,
        folder: &str,
        name: &str,
        envelope: &Envelope,
        replaces: Option<&UpdateVersion>,
    ) -> Result<UpdateVersion, WriteError> {
        self.swap(&Self::key(folder, name), envelope.to_bytes(), replaces).await
    }

    /// Like [`Self::write`], for any bytes that were never written before: they contain a new id.
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
            // A create can't fail because of a missing object.
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

    /// Makes one write request, whose result may remain unknown.
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

    /// Every write is conditional: a service without conditional writes answers 501 to all of them.
    pub fn write_failed(&self, seen: Seen) -> StoreError {
        match seen.unimplemented() {
            Some(said) => self.unsafe_writes(format!("it doesn't support conditional writes ({said})")),
            None => seen.into_error(error::WRITE, &self.place),
        }
    }

    /// Checks whether a write with unknown result succeeded; `None` if the version to replace is still stored.
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

    /// Removes an object if it still has this version and the service supports conditional deletion. It is only called
    /// for objects that may as well remain, so failures are ignored.
    pub async fn remove_empty(&self, folder: &str, name: &str, version: &UpdateVersion) {
        let Some(etag) = version.e_tag.clone().filter(|_| self.can_delete_conditionally()) else { return };
        let path = self.path(&Self::key(folder, name));
        let _ = self.limited(DELETE_IF.scope(etag, self.access.objects.delete(&path))).await;
    }

    /// Removes unneeded objects; failures are ignored.
    pub async fn remove_all(&self, keys: Vec<String>) {
        let paths: Vec<_> = keys.iter().map(|key| self.path(key)).collect();
        join_all(paths.iter().map(|path| self.limited(self.access.objects.delete(path)))).await;
    }

    /// How many seconds the service's object dates are behind its responses; 0 if they aren't. Rounded
    /// up, by the duration of the requests.
    pub async fn last_modified_lag(&self) -> Result<i64, StoreError> {
        let measured = self.lag.get_or_try_init(|| self.measure_lag()).await;
        measured.copied()
    }

    async fn measure_lag(&self) -> Result<i64, StoreError> {
        let key = format!("{}.json", probe::new_folder());
        match self.swap(&key, probe::content(0), None).await {
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
