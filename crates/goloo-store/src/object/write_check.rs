//! Checks that a service honours conditional writes: one that ignores them, or compares and writes without
//! atomicity, loses records silently.
//!
//! The check runs before the store is first written to. Its result is kept in the store for each service that
//! people reach it through, so that it costs one request later.

use futures_util::future::join_all;
use goloo_core::finding::Finding;
use goloo_core::store::{StoreError, safe_writes_hint};
use goloo_core::time::Timestamp;
use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::bucket::{Bucket, WriteError};
use super::error;
use crate::rules::in_one_line;

/// The object that keeps the results.
const RESULTS: &str = "write-check.json";
/// The folder of the objects that the check writes and removes.
const FOLDER: &str = "write-check";
const FORMAT: u32 = 1;
/// More services than people use for one bucket; the oldest result goes first.
const RESULTS_MAX: usize = 16;
/// How often the results are written while others write them too.
const ATTEMPTS: usize = 4;

/// How often a service must refuse a write whose condition is met; once may be a conflict with nobody.
const REFUSALS: usize = 3;

/// How many write at once in a race, and how often that is decided.
const WRITERS: usize = 8;
const RACES: usize = 2;
/// How often a race is started that time-outs leave undecided.
const RACES_MAX: usize = 6;
/// A body of this many bytes takes a service some time between its comparison and its write.
const RACE_BYTES: usize = 32 * 1024;

/// Seconds between an object's date and that of the answer which are only the request's own time.
const LAG_MAX: i64 = 5;
/// With a larger difference no lock of somebody who died would end.
const LAG_LIMIT: i64 = 3_600;

/// All results.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Results {
    format: u32,
    /// New with each write.
    write: String,
    passed: Vec<Passed>,
}

/// A service that has passed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Passed {
    /// Its endpoint, and its lock table's.
    service: String,
    checked_at: Timestamp,
    /// The person, as in `ann on laptop`.
    checked_by: String,
}

/// Refuses a service that does not honour conditional writes, unless it is known to.
pub(super) async fn require(bucket: &Bucket, checked_by: &str) -> Result<(), StoreError> {
    if !bucket.needs_write_check() {
        return Ok(());
    }
    let (results, _) = read(bucket).await?;
    if results.passed.iter().any(|passed| passed.service == bucket.service()) {
        return Ok(());
    }
    run(bucket, checked_by).await
}

/// Checks the service, and keeps the result.
pub(super) async fn run(bucket: &Bucket, checked_by: &str) -> Result<(), StoreError> {
    let probe = Probe { bucket, folder: new_folder() };
    let result = probe.run().await;
    probe.clean_up().await;
    match &result {
        Ok(()) => save(bucket, Some(checked_by)).await?,
        Err(StoreError::UnsafeWrites { .. }) => forget(bucket).await,
        Err(_) => {}
    }
    result
}

/// What `goloo doctor` says of a service that passed, which dates what it stores so many seconds earlier than
/// its answers.
pub(super) fn passed(lag: i64) -> Finding {
    let what = "its service honours conditional writes".to_owned();
    if lag <= LAG_MAX {
        return Finding::sound(what);
    }
    let what = format!("{what}, and dates objects {lag} s before its answers");
    Finding { hint: "set the clocks of the service's hosts".to_owned(), ..Finding::sound(what) }
}

/// What `goloo doctor` says of one that failed.
pub(super) fn failed(seen: &str, lock_table: bool) -> Finding {
    Finding::wrong(format!("its service doesn't keep writers apart: {seen}"), safe_writes_hint(lock_table))
}

/// What it says where that couldn't be found out. Who may only read needs no write.
pub(super) fn unchecked(error: &StoreError) -> Finding {
    let what = format!("its service's conditional writes can't be checked: {}", in_one_line(error));
    match error {
        StoreError::Denied { .. } => Finding {
            hint: "let the credentials do s3:PutObject, unless they are to read alone".to_owned(),
            ..Finding::sound(what)
        },
        _ => Finding::wrong(what, "check the service and its address, then run goloo doctor again"),
    }
}

/// Makes the next writer check again: the service was seen to break the rules. Best effort, since the caller
/// reports that anyway.
pub(super) async fn forget(bucket: &Bucket) {
    let _ = save(bucket, None).await;
}

/// The results, and the version of the object that holds them. What can't be read counts as no result, and is
/// replaced by the next one.
async fn read(bucket: &Bucket) -> Result<(Results, Option<UpdateVersion>), StoreError> {
    let Some((bytes, version, _)) = bucket.bytes(RESULTS).await? else {
        return Ok((Results::default(), None));
    };
    let results = serde_json::from_slice::<Results>(&bytes).ok().filter(|results| results.format == FORMAT);
    Ok((results.unwrap_or_default(), Some(version)))
}

/// Replaces the result for this service by a new one, or by none.
async fn save(bucket: &Bucket, checked_by: Option<&str>) -> Result<(), StoreError> {
    let service = bucket.service();
    for _ in 0..ATTEMPTS {
        let (mut results, version) = read(bucket).await?;
        let known = results.passed.len();
        results.passed.retain(|passed| passed.service != service);
        if checked_by.is_none() && results.passed.len() == known {
            return Ok(());
        }
        if let Some(person) = checked_by {
            let (checked_at, checked_by) = (bucket.now()?, person.to_owned());
            results.passed.push(Passed { service: service.to_owned(), checked_at, checked_by });
        }
        let surplus = results.passed.len().saturating_sub(RESULTS_MAX);
        results.passed.drain(..surplus);
        let results = Results { format: FORMAT, write: Ulid::new().to_string(), ..results };
        let bytes = serde_json::to_vec(&results).expect("results have only string keys");
        match bucket.swap(RESULTS, bytes, version.as_ref()).await {
            Ok(_) => return Ok(()),
            Err(WriteError::Refused) => {}
            Err(WriteError::InDoubt(error)) => return Err(error),
        }
    }
    // Others keep it busy with results of their own: the next writer checks again.
    Ok(())
}

/// One run of the check, in a folder of its own.
struct Probe<'b> {
    bucket: &'b Bucket,
    folder: String,
}

impl Probe<'_> {
    async fn run(&self) -> Result<(), StoreError> {
        // First: under its rows this process would keep its own writers apart, whatever the table does.
        self.bucket.check_table(&self.key("row")).await?;
        self.in_turn().await?;
        let lag = self.bucket.last_modified_lag().await?;
        if lag > LAG_LIMIT {
            return Err(self.failed(format!("it dates what it stores {lag} s before its answers")));
        }
        let (mut decided, mut started) = (0, 0);
        while decided < RACES {
            if started == RACES_MAX {
                let text = "writers at the same time got no clear answers";
                return Err(error::backend("check conditional writes", &self.bucket.place, text));
            }
            started += 1;
            let key = self.key(&format!("race-{started}"));
            let Some(created) = self.race(&key, None).await? else { continue };
            if self.race(&key, Some(&created)).await?.is_some() {
                decided += 1;
            }
        }
        Ok(())
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}.json", self.folder)
    }

    fn failed(&self, seen: impl Into<String>) -> StoreError {
        self.bucket.unsafe_writes(seen.into())
    }

    /// One write after the other: each condition must hold a write up, and none that is met.
    async fn in_turn(&self) -> Result<(), StoreError> {
        let (key, other) = (self.key("one"), self.key("other"));
        let refused = "it refused to create an object (If-None-Match: *)";
        let first = self.write_met(&key, None, refused).await?;
        if first.e_tag.is_none() {
            return Err(self.failed("its answers to writes have no ETag"));
        }
        if self.write(&key, content(0), None).await?.is_some() {
            return Err(self.failed("it created an object twice (it ignores If-None-Match)"));
        }
        let refused = "it refused to replace an object by its ETag (If-Match)";
        self.write_met(&key, Some(&first), refused).await?;
        if self.write(&key, content(0), Some(&first)).await?.is_some() {
            return Err(self.failed("it replaced an object that had changed (it ignores If-Match)"));
        }
        if self.write(&other, content(0), Some(&first)).await?.is_some() {
            return Err(self.failed("it replaced an object that did not exist (it ignores If-Match)"));
        }
        Ok(())
    }

    /// A write whose condition is met.
    async fn write_met(
        &self,
        key: &str,
        replaces: Option<&UpdateVersion>,
        refused: &str,
    ) -> Result<UpdateVersion, StoreError> {
        let bytes = content(0);
        for _ in 0..REFUSALS {
            match self.bucket.put(key, bytes.clone(), replaces).await {
                Ok(version) => return Ok(version),
                Err(seen) if seen.is_unmet_condition() => {}
                // It isn't known whether these bytes arrived.
                Err(_) => return self.write(key, bytes, replaces).await?.ok_or_else(|| self.failed(refused)),
            }
        }
        Err(self.failed(refused))
    }

    /// The new version; `None` when the condition was not met.
    async fn write(
        &self,
        key: &str,
        bytes: Vec<u8>,
        replaces: Option<&UpdateVersion>,
    ) -> Result<Option<UpdateVersion>, StoreError> {
        match self.bucket.swap(key, bytes, replaces).await {
            Ok(version) => Ok(Some(version)),
            Err(WriteError::Refused) => Ok(None),
            Err(WriteError::InDoubt(error)) => Err(error),
        }
    }

    /// Several writers at once, of which one may succeed; `None` when the answers don't tell.
    async fn race(
        &self,
        key: &str,
        replaces: Option<&UpdateVersion>,
    ) -> Result<Option<UpdateVersion>, StoreError> {
        let contents: Vec<_> = (0..WRITERS).map(|_| content(RACE_BYTES)).collect();
        let puts = contents.iter().map(|bytes| self.bucket.put(key, bytes.clone(), replaces));
        let mut won = Vec::new();
        for (answer, bytes) in join_all(puts).await.into_iter().zip(&contents) {
            match answer {
                Ok(version) => won.push((version, bytes)),
                Err(seen) if seen.is_final() => return Err(seen.into_error(error::WRITE, &self.bucket.place)),
                Err(_) => {}
            }
        }
        match &won[..] {
            [] => Ok(None),
            [(version, bytes)] => match self.bucket.bytes(key).await? {
                Some((stored, ..)) if stored == **bytes => Ok(Some(version.clone())),
                _ => Err(self.failed("a write that it had accepted was gone afterwards")),
            },
            several => Err(self.failed(format!(
                "it accepted {} of {WRITERS} writes that exclude each other",
                several.len()
            ))),
        }
    }

    /// What can't be removed stays: it is small, and no record.
    async fn clean_up(&self) {
        let names = (1..=RACES_MAX).map(|number| format!("race-{number}"));
        let keys = names.chain(["one".to_owned(), "other".to_owned()]).map(|name| self.key(&name));
        self.bucket.remove_all(keys.collect()).await;
    }
}

/// A place below the store that nothing else uses.
pub(super) fn new_folder() -> String {
    format!("{FOLDER}/{}", Ulid::new())
}

/// Bytes that nobody has written before.
pub(super) fn content(padding: usize) -> Vec<u8> {
    let mut bytes = format!("{{\"write\": \"{}\"}}\n", Ulid::new()).into_bytes();
    bytes.resize(bytes.len() + padding, b' ');
    bytes
}
