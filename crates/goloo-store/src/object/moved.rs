//! The mark of a store that was moved, in an object of its own that is changed as records are: by
//! compare-and-swap, with an id that is looked for after a doubt.
//!
//! A mark that was taken back leaves an object that marks nothing: a request for that mark which is still on
//! its way somewhere must not find an empty place.

use goloo_core::name::VmName;
use goloo_core::store::{StoreError, check_mark};
use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::ACTIVE;
use super::bucket::{Bucket, WriteError};
use super::error::backend;
use super::held::break_lock;

const KEY: &str = "moved.json";

/// How often the mark is tried to be changed while others change it too.
const ATTEMPTS: usize = 16;

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// The new store's address; `None` when the mark was taken back.
    to: Option<String>,
    /// New with each write.
    #[serde(default)]
    write: String,
}

async fn find(bucket: &Bucket) -> Result<Option<(Mark, UpdateVersion)>, StoreError> {
    let Some((bytes, version, _)) = bucket.bytes(KEY).await? else { return Ok(None) };
    let mark = serde_json::from_slice(&bytes);
    let mark = mark.map_err(|error| backend("read moved.json", &bucket.place, error))?;
    Ok(Some((mark, version)))
}

/// Where the store was moved to, when it was.
pub(super) async fn read(bucket: &Bucket) -> Result<Option<String>, StoreError> {
    Ok(find(bucket).await?.and_then(|(mark, _)| mark.to))
}

pub(super) async fn refuse_moved(bucket: &Bucket) -> Result<(), StoreError> {
    match read(bucket).await? {
        Some(to) => Err(StoreError::Moved { place: bucket.place.clone(), to }),
        None => Ok(()),
    }
}

/// Changes the mark, and takes the locks from whoever took them before it was there.
pub(super) async fn set(bucket: &Bucket, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
    swap(bucket, replaces, to).await?;
    match to {
        // Also where the mark was there already: whoever put it may have died before they came to this.
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
    Err(backend("mark", &bucket.place, "its mark is written all the time"))
}

async fn break_all_locks(bucket: &Bucket) -> Result<(), StoreError> {
    for entry in bucket.entries(ACTIVE).await? {
        let Ok(name) = VmName::parse(&entry.name) else { continue };
        match break_lock(bucket, &name).await {
            // Nobody can have the lock of an object that can't be read.
            Err(StoreError::Broken(_)) => {}
            other => drop(other?),
        }
    }
    Ok(())
}
