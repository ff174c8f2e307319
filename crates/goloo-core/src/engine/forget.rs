//! Forget: archives the record of a VM whose host or state folder is lost. No provider is called; what is left of
//! the machine is left there.

use super::EngineError;
use crate::name::{ArchiveId, VmName};
use crate::record::{Deed, Here, Outcome, Owner, Phase};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// Archives the record of a VM that belongs elsewhere, unless it is protected. A VM that can be deleted from here
/// is refused: its machine would be lost.
pub async fn forget(
    store: &dyn Store,
    owner: &Owner,
    here: &Here,
    name: &VmName,
) -> Result<ArchiveId, EngineError> {
    let mut lock = store.lock(name, owner).await?;
    let record = super::record_under(&mut *lock).await?;
    let mut record = record.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
    if record.elsewhere(here).is_none() {
        return Err(EngineError::Refused {
            what: format!("\"{name}\" can be deleted from this host, so it isn't forgotten"),
            hint: format!("goloo delete {name}"),
        });
    }
    super::protect::refuse_protected(&record)?;
    if let Some(former) = lock.taken_over() {
        record.history.note_takeover(owner, former);
    }
    record.end(Outcome::Interrupted, None);
    record.history.note(Deed::Forget, owner);
    record.phase = Phase::Destroyed;
    Ok(lock.archive(&mut record, Timestamp::now()).await?)
}
