//! Compare-and-swap for stores without conditional writes: a row of a lock table excludes others while an object is
//! compared and replaced. No request to the store has a condition.
//!
//! Failures and how they are handled:
//! - A process that dies leaves the row, which expires ([`Times::row`]).
//! - A write with unknown result (a timeout, a broken connection) may arrive later and undo what was written
//!   meanwhile. So the row isn't released then: nobody else writes before it expires. This process may send
//!   the same bytes again at once, and other bytes when the row under which it wrote has expired, or when the
//!   write is known to have arrived.
//! - A write is only sent while the row's remaining time is at least three times the write timeout. A write that
//!   takes longer to arrive isn't excluded; conditional writes would do that.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use goloo_model::lock_table_error::LockTableError;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout};
use ulid::Ulid;

use super::error::{NoAnswer, is_refusal};
use super::table::Table;
use super::table_error::TableError;

/// The part of a row's time that is lost to clocks with whole seconds.
const ROUNDING: Duration = Duration::from_secs(3);

/// Times, derived from the timeout of one response.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Of a row, from taking it to its expiry.
    row: u32,
    /// The timeout of a write.
    put: Duration,
    /// The row's minimum remaining time when a write is sent.
    left: Duration,
}

impl Times {
    /// With a response timeout of 10 s: 23 s for a row, 5 s for a write, 15 s remaining when it is sent; so 5 s are
    /// left for taking the row and comparing.
    fn new(answer: Duration) -> Self {
        let (put, left) = (answer / 2, answer * 3 / 2);
        let row = (left + put + ROUNDING).as_secs_f32().ceil();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some seconds")]
        Self { row: row as u32, put, left }
    }
}

/// A store whose conditional writes are implemented with a lock table.
#[derive(Debug)]
pub(super) struct LockTableStore {
    objects: Arc<dyn ObjectStore>,
    table: Arc<Table>,
    bucket: String,
    times: Times,
    rows: Mutex<HashMap<Path, Arc<AsyncMutex<Row>>>>,
}

/// What this process knows about the row of one object.
#[derive(Debug, Default)]
struct Row {
    /// The ids under which we may hold it, the current one last; and their latest expiry.
    ours: Vec<(String, Instant)>,
    /// Writes with unknown result.
    late: Vec<Late>,
}

/// A write that may still arrive.
#[derive(Debug)]
struct Late {
    bytes: Vec<u8>,
    until: Instant,
    /// No other write had these bytes: if they are stored, this one has arrived.
    alone: bool,
}

impl Row {
    fn forget_the_past(&mut self) {
        let now = Instant::now();
        self.ours.retain(|(_, until)| *until > now);
        self.late.retain(|late| late.until > now);
    }

    /// Removes the write that has arrived.
    fn seen(&mut self, stored: &[u8]) {
        self.late.retain(|late| !(late.alone && late.bytes == stored));
    }

    /// Until when writes of other bytes may arrive.
    fn others_until(&self, bytes: &[u8]) -> Option<Instant> {
        self.late.iter().filter(|late| late.bytes != bytes).map(|late| late.until).max()
    }

    /// Adds a write before it is sent: if the process is suspended after this, it may have been sent.
    fn sends(&mut self, bytes: Vec<u8>, until: Instant) {
        let mut alone = true;
        for late in self.late.iter_mut().filter(|late| late.bytes == bytes) {
            late.alone = false;
            alone = false;
        }
        self.late.push(Late { bytes, until, alone });
    }

    /// Removes the write that was sent last, since its result is known.
    fn ended(&mut self) {
        self.late.pop();
    }
}

impl LockTableStore {
    /// Uses the table for the bucket `bucket` of `objects`, whose response timeout is `answer`.
    pub fn new(objects: Arc<dyn ObjectStore>, bucket: &str, table: Arc<Table>, answer: Duration) -> Self {
        let (bucket, times) = (bucket.to_owned(), Times::new(answer));
        Self { objects, table, bucket, times, rows: Mutex::default() }
    }

    fn key(&self, path: &Path) -> String {
        format!("{}/{path}", self.bucket)
    }

    async fn swap(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let row = self.rows.lock().expect("no holder panics").entry(path.clone()).or_default().clone();
        // Serializes the tasks of this process, which the table can't distinguish.
        let mut row = row.lock().await;
        row.forget_the_past();
        let until = self.take(path, &mut row).await?;
        let swapped = self.swap_within(path, &mut row, until, payload, options).await;
        self.give_back(path, &mut row).await;
        swapped
    }

    /// Takes the row, and returns until when we hold it.
    async fn take(&self, path: &Path, row: &mut Row) -> Result<Instant> {
        let id = Ulid::new().to_string();
        let ours: Vec<String> = row.ours.iter().map(|(id, _)| id.clone()).collect();
        let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
        // Before it is sent: it may arrive without a response reaching us.
        row.ours.push((id.clone(), Instant::now() + Duration::from_secs(self.times.row.into()) * 2));
        Ok(self.table.take(&self.key(path), &id, &ours, self.times.row).await?)
    }

    /// Compares and replaces while holding the row.
    async fn swap_within(
        &self,
        path: &Path,
        row: &mut Row,
        until: Instant,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let stored = self.stored(path).await?;
        if let Some(stored) = &stored {
            row.seen(&stored.bytes);
        }
        compare(path, &options.mode, stored.as_ref())?;
        let bytes = payload.iter().flatten().copied().collect::<Vec<u8>>();
        let now = Instant::now();
        if let Some(over) = row.others_until(&bytes) {
            let seconds = i64::try_from((over - now).as_secs()).unwrap_or(i64::MAX);
            return Err(TableError::from(LockTableError::Late { key: self.key(path), seconds }).into());
        }
        if until < now + self.times.left {
            return Err(self
                .table
                .failed("the row was obtained too late to write under it".to_owned())
                .into());
        }
        row.sends(bytes, until);
        let put = PutOptions { mode: PutMode::Overwrite, ..options };
        match timeout(self.times.put, self.objects.put_opts(path, payload, put)).await {
            Ok(Err(error)) if !is_refusal(&error) => Err(error),
            Ok(answer) => {
                row.ended();
                answer
            }
            Err(_) => Err(no_answer(self.times.put)),
        }
    }

    async fn stored(&self, path: &Path) -> Result<Option<Stored>> {
        match self.objects.get_opts(path, GetOptions::default()).await {
            Ok(found) => {
                let etag = found.meta.e_tag.clone();
                Ok(Some(Stored { bytes: found.bytes().await?.into(), etag }))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Releases the row, unless one of our writes may still arrive. Failures are ignored, since the row expires.
    async fn give_back(&self, path: &Path, row: &mut Row) {
        if !row.late.is_empty() {
            return;
        }
        if let Some((id, _)) = row.ours.last()
            && self.table.give_back(&self.key(path), id).await
        {
            row.ours.pop();
        }
    }
}

/// The content of an object.
struct Stored {
    bytes: Vec<u8>,
    etag: Option<String>,
}

/// Refuses the write if the stored version isn't the one to be replaced.
fn compare(path: &Path, mode: &PutMode, stored: Option<&Stored>) -> Result<()> {
    let (path, changed) = (path.to_string(), "it has changed".into());
    match (mode, stored) {
        (PutMode::Create, Some(_)) => Err(Error::AlreadyExists { path, source: changed }),
        (PutMode::Update(_), None) => Err(Error::Precondition { path, source: changed }),
        (PutMode::Update(version), Some(stored)) if version.e_tag != stored.etag => {
            Err(Error::Precondition { path, source: changed })
        }
        _ => Ok(()),
    }
}

fn no_answer(limit: Duration) -> Error {
    let source = Box::new(HttpError::new(HttpErrorKind::Timeout, NoAnswer(limit)));
    Error::Generic { store: "S3", source }
}

impl fmt::Display for LockTableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for LockTableStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match options.mode {
            PutMode::Overwrite => self.objects.put_opts(path, payload, options).await,
            PutMode::Create | PutMode::Update(_) => self.swap(path, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.objects.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = b"a";
    const B: &[u8] = b"b";

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_row_lives_longer_than_the_writes_it_protects() {
        for answer in [1, 2, 10, 60].map(Duration::from_secs) {
            let times = Times::new(answer);
            let row = Duration::from_secs(times.row.into());
            assert!(times.left >= times.put * 3 && row >= times.left + times.put + ROUNDING, "{times:?}");
        }
        assert_eq!(Times::new(Duration::from_secs(10)).row, 23);
    }

    #[test]
    fn different_content_waits_for_a_write_with_unknown_outcome() {
        let (mut row, until) = (Row::default(), later());
        row.sends(A.to_vec(), until);
        assert_eq!((row.others_until(A), row.others_until(B)), (None, Some(until)));
        row.seen(B);
        assert_eq!(row.others_until(B), Some(until));
        row.seen(A);
        assert_eq!(row.others_until(B), None);
    }

    #[test]
    fn a_repeated_write_is_not_over_when_its_content_is_seen() {
        let (mut row, until) = (Row::default(), later());
        row.sends(A.to_vec(), until);
        row.sends(A.to_vec(), later());
        row.ended();
        row.seen(A);
        assert_eq!(row.others_until(B), Some(until));
    }

    #[test]
    fn a_write_is_over_when_its_row_expires() {
        let mut row = Row::default();
        row.sends(A.to_vec(), Instant::now());
        row.forget_the_past();
        assert_eq!(row.others_until(B), None);
    }
}
