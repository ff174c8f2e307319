//! Compare-and-swap for stores that have none: a row of a lock table keeps others out while an object is
//! compared and replaced. No request to the store carries a condition.
//!
//! What can go wrong, and what is done about it:
//! - Whoever dies leaves the row, which ends by itself ([`Times::row`]).
//! - A write whose end isn't known (a time-out, a line that was cut) may arrive later and undo what was written
//!   meanwhile. So the row isn't given back then: nobody else writes before it ends. This process may send
//!   the same bytes again at once, and other bytes when the row that it wrote under is over, or when the
//!   write is seen to have arrived.
//! - A write is only sent while the row has three times the time left that its answer is waited for. One that
//!   takes longer to arrive isn't kept out; conditional writes would be.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
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

/// What is lost of a row's time to clocks that tell whole seconds only.
const ROUNDING: Duration = Duration::from_secs(3);

/// How long things take, in terms of how long one answer is waited for.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// For a row, from its taking to its end.
    row: u32,
    /// For a write's answer.
    put: Duration,
    /// What the row must have left when a write is sent.
    left: Duration,
}

impl Times {
    /// With 10 s for an answer: 23 s for a row, 5 s for a write, 15 s left when it is sent; so 5 s remain for
    /// the taking and the comparison.
    fn new(answer: Duration) -> Self {
        let (put, left) = (answer / 2, answer * 3 / 2);
        let row = (left + put + ROUNDING).as_secs_f32().ceil();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some seconds")]
        Self { row: row as u32, put, left }
    }
}

/// A store whose conditional writes go through a lock table.
#[derive(Debug)]
pub(super) struct Tabled {
    objects: Arc<dyn ObjectStore>,
    table: Arc<Table>,
    bucket: String,
    times: Times,
    rows: Mutex<HashMap<Path, Arc<AsyncMutex<Row>>>>,
}

/// What this process knows of the row of one object.
#[derive(Debug, Default)]
struct Row {
    /// Under which ids it may be ours, the current one last; and how long at the most.
    ours: Vec<(String, Instant)>,
    /// Writes whose end isn't known.
    late: Vec<Late>,
}

/// A write that may still arrive.
#[derive(Debug)]
struct Late {
    bytes: Vec<u8>,
    until: Instant,
    /// No other write had these bytes: where they are seen, this one has arrived.
    alone: bool,
}

impl Row {
    fn forget_the_past(&mut self) {
        let now = Instant::now();
        self.ours.retain(|(_, until)| *until > now);
        self.late.retain(|late| late.until > now);
    }

    /// Strikes out the write that has arrived.
    fn seen(&mut self, stored: &[u8]) {
        self.late.retain(|late| !(late.alone && late.bytes == stored));
    }

    /// Until when writes of other bytes may arrive.
    fn others_until(&self, bytes: &[u8]) -> Option<Instant> {
        self.late.iter().filter(|late| late.bytes != bytes).map(|late| late.until).max()
    }

    /// Notes a write before it is sent: whoever is stopped from then on has perhaps sent it.
    fn sends(&mut self, bytes: Vec<u8>, until: Instant) {
        let mut alone = true;
        for late in self.late.iter_mut().filter(|late| late.bytes == bytes) {
            late.alone = false;
            alone = false;
        }
        self.late.push(Late { bytes, until, alone });
    }

    /// The write that was sent last has come to its end.
    fn ended(&mut self) {
        self.late.pop();
    }
}

impl Tabled {
    /// Puts the table before the bucket `bucket` of `objects`, on whose line an answer is waited for so long.
    pub fn new(objects: Arc<dyn ObjectStore>, bucket: &str, table: Arc<Table>, answer: Duration) -> Self {
        let (bucket, times) = (bucket.to_owned(), Times::new(answer));
        Self { objects, table, bucket, times, rows: Mutex::default() }
    }

    fn key(&self, path: &Path) -> String {
        format!("{}/{path}", self.bucket)
    }

    async fn swap(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let row = self.rows.lock().expect("no holder panics").entry(path.clone()).or_default().clone();
        // Of two tasks of this process one waits here: the table can't tell them apart.
        let mut row = row.lock().await;
        row.forget_the_past();
        let until = self.take(path, &mut row).await?;
        let swapped = self.swap_within(path, &mut row, until, payload, options).await;
        self.give_back(path, &mut row).await;
        swapped
    }

    /// Takes the row, and says until when it is ours.
    async fn take(&self, path: &Path, row: &mut Row) -> Result<Instant> {
        let id = Ulid::new().to_string();
        let ours: Vec<String> = row.ours.iter().map(|(id, _)| id.clone()).collect();
        let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
        // Before it is sent: it may arrive without our hearing of it.
        row.ours.push((id.clone(), Instant::now() + Duration::from_secs(self.times.row.into()) * 2));
        Ok(self.table.take(&self.key(path), &id, &ours, self.times.row).await?)
    }

    /// Compares and replaces under the row.
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
            return Err(TableError::Late { key: self.key(path), seconds }.into());
        }
        if until < now + self.times.left {
            return Err(self.table.failed("the row was had too late to write under it".to_owned()).into());
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

    /// Gives the row back, unless a write of ours may still arrive. What fails is no matter: the row ends.
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

/// What an object holds.
struct Stored {
    bytes: Vec<u8>,
    etag: Option<String>,
}

/// Refuses where what is stored isn't what is to be replaced.
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

impl fmt::Display for Tabled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Tabled {
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
    fn a_row_outlives_what_is_written_under_it() {
        for answer in [1, 2, 10, 60].map(Duration::from_secs) {
            let times = Times::new(answer);
            let row = Duration::from_secs(times.row.into());
            assert!(times.left >= times.put * 3 && row >= times.left + times.put + ROUNDING, "{times:?}");
        }
        assert_eq!(Times::new(Duration::from_secs(10)).row, 23);
    }

    #[test]
    fn other_bytes_wait_for_a_write_whose_end_is_unknown() {
        let (mut row, until) = (Row::default(), later());
        row.sends(A.to_vec(), until);
        assert_eq!((row.others_until(A), row.others_until(B)), (None, Some(until)));
        row.seen(B);
        assert_eq!(row.others_until(B), Some(until));
        row.seen(A);
        assert_eq!(row.others_until(B), None);
    }

    #[test]
    fn a_write_that_was_repeated_isn_t_over_when_its_bytes_are_seen() {
        let (mut row, until) = (Row::default(), later());
        row.sends(A.to_vec(), until);
        row.sends(A.to_vec(), later());
        row.ended();
        row.seen(A);
        assert_eq!(row.others_until(B), Some(until));
    }

    #[test]
    fn a_write_is_over_when_its_row_is() {
        let mut row = Row::default();
        row.sends(A.to_vec(), Instant::now());
        row.forget_the_past();
        assert_eq!(row.others_until(B), None);
    }
}
