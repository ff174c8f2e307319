//! The marker of a moved store, in a separate object that is changed like records: by
//! compare-and-swap, with an id that is checked if the result is unknown.
//!
//! A marker that was withdrawn leaves an object without effect: a delayed request to set that marker
//! must not find an empty place.

use goloo_model::name::VmName;
use goloo_model::store::{StoreError, check_mark};
use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::break_lock;
use super::bucket::{Bucket, WriteError};
use super::error::backend;
use super::place::ACTIVE;

const KEY: &str = "moved.json";

/// How often changing the marker is attempted while others change it too.
const ATTEMPTS: usize = 16;

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// The new store's location; `None` if the marker was withdrawn.
    to: Option<String>,
    /// Unique for each write.
    #[serde(default)]
    write: String,
}

async fn find(bucket: &Bucket) -> Result<Option<(Mark, UpdateVersion)>, StoreError> {
    let Some((bytes, version, _)) = bucket.bytes(KEY).await? else { return Ok(None) };
    let mark = serde_json::from_slice(&bytes);
    let mark = mark.map_err(|error| backend("read moved.json", &bucket.place, error))?;
    Ok(Some((mark, version)))
}

/// Where the store was moved to, if it was.
pub(super) async fn read(bucket: &Bucket) -> Result<Option<String>, StoreError> {
    Ok(find(bucket).await?.and_then(|(mark, _)| mark.to))
}

pub(super) async fn refuse_moved(bucket: &Bucket) -> Result<(), StoreError> {
    match read(bucket).await? {
        Some(to) => Err(StoreError::Moved { place: bucket.place.clone(), to }),
        None => Ok(()),
    }
}

/// Changes the marker, and breaks the locks that were taken before it was set.
pub(super) async fn set(bucket: &Bucket, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
    swap(bucket, replaces, to).await?;
    match to {
        // Even if the marker was already set: its writer may have died before this step.
        Some(_) => break_all_locks(bucket).await,
        None => Ok(()),
    }
}

async fn swap(bucket: &Bucket, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS {
        let (found, version) = find(bucket).await?.map_or((None, None), |(mark, at)| (mark.to, Some(at)));
        check_mark(&bucket.place, found.as_deref(), replaces, to)?;
        if found.as_deref() == to {
            return Ok(());
        }
        let mark = Mark { to: to.map(str::to_owned), write: Ulid::new().to_string() };
        let bytes = serde_json::to_vec(&mark).expect("a mark has only string keys");
        match bucket.swap(KEY, bytes, version.as_ref()).await {
            Ok(_) => return Ok(()),
            Err(WriteError::Refused) => {}
            Err(WriteError::InDoubt(error)) => return Err(error),
        }
    }
    Err(backend("mark", &bucket.place, "its mark is being changed continuously"))
}

async fn break_all_locks(bucket: &Bucket) -> Result<(), StoreError> {
    for entry in bucket.entries(ACTIVE).await? {
        let Ok(name) = VmName::parse(&entry.name) else { continue };
        match break_lock::break_one(bucket, &name).await {
            // An object that can't be read can't be locked either.
            Err(StoreError::Broken(_)) => {}
            other => drop(other?),
        }
    }
    Ok(())
}
