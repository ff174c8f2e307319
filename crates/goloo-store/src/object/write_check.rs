//! Checks that a service honors conditional writes: one that ignores them, or whose compare-and-write isn't
//! atomic, loses records silently.
//!
//! The check runs before the first write to the store. Its result is kept in the store for each service through which
//! users access it, so that later it costs only one request.

use futures_util::future::join_all;
use goloo_model::check::Check;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::store::{StoreError, safe_writes_hint};
use goloo_model::time::Timestamp;
use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::bucket::{Bucket, WriteError};
use super::{error, probe};
use goloo_sys::error_chain::in_one_line;

/// The object with the results.
const RESULTS: &str = "write-check.json";
const FORMAT: u32 = 1;
/// More services than are used for one bucket; the oldest result is dropped first.
const RESULTS_MAX: usize = 16;
/// How often writing the results is attempted while others write them too.
const ATTEMPTS: usize = 4;

/// How often a service must refuse a write whose condition is met; a single refusal may be a spurious conflict.
const REFUSALS: usize = 3;

/// The number of concurrent writers in a race, and the number of decided races.
const WRITERS: usize = 8;
const RACES: usize = 2;
/// The maximum number of races, including those left undecided by timeouts.
const RACES_MAX: usize = 6;
/// A body large enough that a service takes some time between comparing and writing.
const RACE_BYTES: usize = 32 * 1024;

/// The maximum lag in seconds of an object's date behind the response that the request's duration explains.
const LAG_MAX: i64 = 5;
/// With a larger difference the lock of a dead process would never expire.
const LAG_LIMIT: i64 = 3_600;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Results {
    format: u32,
    /// Unique for each write.
    write: String,
    passed: Vec<Passed>,
}

/// A service that passed the check.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Passed {
    /// Its endpoint, and that of its lock table.
    service: String,
    checked_at: Timestamp,
    /// The user, such as `ann on laptop`.
    checked_by: String,
}

/// Refuses a service that does not honor conditional writes, unless it is known to.
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

/// Checks the service, and stores the result.
pub(super) async fn run(bucket: &Bucket, checked_by: &str) -> Result<(), StoreError> {
    let probe = Probe { bucket, folder: probe::new_folder() };
    let result = probe.run().await;
    probe.clean_up().await;
    match &result {
        Ok(()) => save(bucket, Some(checked_by)).await?,
        Err(StoreError::UnsafeWrites { .. }) => forget(bucket).await,
        Err(_) => {}
    }
    result
}

/// The result in `goloo doctor` for a service that passed, whose object dates are this many seconds behind
/// its responses.
pub(super) fn passed(lag: i64) -> Check {
    let what = "its service honors conditional writes".to_owned();
    if lag <= LAG_MAX {
        return Check::ok(what);
    }
    let what = format!("{what}, but dates objects {lag} s before its responses");
    Check::notice(what, "set the clocks of the service's hosts")
}

/// The result in `goloo doctor` for one that failed.
pub(super) fn failed(seen: &str, lock_table: bool) -> Check {
    Check::failed(
        format!("its service doesn't protect against concurrent writes: {seen}"),
        safe_writes_hint(lock_table),
    )
}

/// The result if it couldn't be determined. A user with read access only needs no writes.
pub(super) fn unchecked(error: &StoreError) -> Check {
    let what = format!("its service's conditional writes can't be checked: {}", in_one_line(error));
    match error {
        StoreError::Denied { .. } => Check::notice(
            what,
            "allow s3:PutObject for the credentials, unless they are meant to be read-only",
        ),
        _ => Check::failed(
            what,
            Hint::from("check the service and its address, then run ").step(NextStep::Doctor).text(" again"),
        ),
    }
}

/// Makes the next writer check again, because the service was seen to break the rules. Best effort, since the caller
/// reports that anyway.
pub(super) async fn forget(bucket: &Bucket) {
    let _ = save(bucket, None).await;
}

/// The results, and the version of the object that holds them. An unreadable object is treated as empty, and is
/// replaced by the next result.
async fn read(bucket: &Bucket) -> Result<(Results, Option<UpdateVersion>), StoreError> {
    let Some((bytes, version, _)) = bucket.bytes(RESULTS).await? else {
        return Ok((Results::default(), None));
    };
    let results = serde_json::from_slice::<Results>(&bytes).ok().filter(|results| results.format == FORMAT);
    Ok((results.unwrap_or_default(), Some(version)))
}

/// Replaces the result for this service by a new one, or removes it.
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
    // Others keep writing results of their own: the next writer checks again.
    Ok(())
}

/// One run of the check, in its own folder.
struct Probe<'b> {
    bucket: &'b Bucket,
    folder: String,
}

impl Probe<'_> {
    async fn run(&self) -> Result<(), StoreError> {
        // First: while it holds rows this process would serialize its own writers, regardless of the table.
        self.bucket.check_table(&self.key("row")).await?;
        self.in_turn().await?;
        let lag = self.bucket.last_modified_lag().await?;
        if lag > LAG_LIMIT {
            return Err(self.failed(format!("it dates objects {lag} s before its responses")));
        }
        let (mut decided, mut started) = (0, 0);
        while decided < RACES {
            if started == RACES_MAX {
                let text = "concurrent writers got ambiguous responses";
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

    /// Sequential writes: each unmet condition must prevent a write, and a met one must not.
    async fn in_turn(&self) -> Result<(), StoreError> {
        let (key, other) = (self.key("one"), self.key("other"));
        let refused = "it refused to create an object (If-None-Match: *)";
        let first = self.write_met(&key, None, refused).await?;
        if first.e_tag.is_none() {
            return Err(self.failed("its responses to writes have no ETag"));
        }
        if self.write(&key, probe::content(0), None).await?.is_some() {
            return Err(self.failed("it created an object twice (it ignores If-None-Match)"));
        }
        let refused = "it refused to replace an object by its ETag (If-Match)";
        self.write_met(&key, Some(&first), refused).await?;
        if self.write(&key, probe::content(0), Some(&first)).await?.is_some() {
            return Err(self.failed("it replaced an object that had changed (it ignores If-Match)"));
        }
        if self.write(&other, probe::content(0), Some(&first)).await?.is_some() {
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
        let bytes = probe::content(0);
        for _ in 0..REFUSALS {
            match self.bucket.put(key, bytes.clone(), replaces).await {
                Ok(version) => return Ok(version),
                Err(seen) if seen.is_unmet_condition() => {}
                // It is unknown whether these bytes arrived.
                Err(_) => return self.write(key, bytes, replaces).await?.ok_or_else(|| self.failed(refused)),
            }
        }
        Err(self.failed(refused))
    }

    /// The new version; `None` if the condition was not met.
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

    /// Several concurrent writers, of which only one may succeed; `None` if the responses are inconclusive.
    async fn race(
        &self,
        key: &str,
        replaces: Option<&UpdateVersion>,
    ) -> Result<Option<UpdateVersion>, StoreError> {
        let contents: Vec<_> = (0..WRITERS).map(|_| probe::content(RACE_BYTES)).collect();
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
                _ => Err(self.failed("a write that it had accepted was lost afterwards")),
            },
            several => {
                Err(self.failed(format!("it accepted {} of {WRITERS} conflicting writes", several.len())))
            }
        }
    }

    /// Anything that can't be removed remains: it is small, and not a record.
    async fn clean_up(&self) {
        let names = (1..=RACES_MAX).map(|number| format!("race-{number}"));
        let keys = names.chain(["one".to_owned(), "other".to_owned()]).map(|name| self.key(&name));
        self.bucket.remove_all(keys.collect()).await;
    }
}
