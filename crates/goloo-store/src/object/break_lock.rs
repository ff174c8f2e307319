//! Ends locks against their holders' will.

use goloo_model::name::VmName;
use goloo_model::store::{HeldLock, StoreError};

use super::bucket::{Bucket, WriteError};
use super::error::backend;
use super::place::ACTIVE;

/// How often it is tried while others write the same object.
const ATTEMPTS: usize = 16;

/// Breaks the lock on a name and returns its holder. A lock that is acquired in the meantime is kept.
pub(super) async fn break_one(bucket: &Bucket, name: &VmName) -> Result<Option<HeldLock>, StoreError> {
    let mut meant = None;
    for _ in 0..ATTEMPTS {
        let Some(found) = bucket.read(ACTIVE, name.as_str()).await? else { return Ok(None) };
        let broken = |error| StoreError::Broken(bucket.broken(ACTIVE, name.as_str(), error));
        let stored = found.envelope.map_err(broken)?;
        let held = stored.lease.clone().map(|holder| (stored.epoch, holder, found.modified));
        let Some((epoch, holder, modified)) = meant.get_or_insert(held) else { return Ok(None) };
        // A different epoch belongs to the next holder, who came after the lock had ended, perhaps by our own write.
        let ended = stored.lease.is_none() || stored.epoch != *epoch;
        let lock = holder.lock(name.clone(), *modified);
        if ended {
            return Ok(Some(lock));
        }
        match bucket.write(ACTIVE, name.as_str(), &stored.broken_open(), Some(&found.version)).await {
            Ok(_) => return Ok(Some(lock)),
            Err(WriteError::Refused) => {}
            Err(WriteError::InDoubt(error)) => return Err(error),
        }
    }
    Err(backend("break the lock", &bucket.place, format!("\"{name}\" is being changed continuously")))
}
