//! Forget: archives the record of a VM whose host or state folder is lost. No provider is called; any remains of
//! the machine are left in place.

use crate::error::EngineError;
use goloo_model::hint::NextStep;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{HistoryAction, LocalContext, Outcome, Owner, Phase};
use goloo_model::store::{Store, StoreError};
use goloo_model::time::Timestamp;

/// Archives the record of a VM that belongs elsewhere, or whose provider this program lacks (`has_provider`), unless it
/// is protected. Refuses a VM that can be deleted from here: its machine would become an orphan.
pub async fn forget(
    store: &dyn Store,
    owner: &Owner,
    here: &LocalContext,
    name: &VmName,
    has_provider: bool,
) -> Result<ArchiveId, EngineError> {
    let mut lock = store.lock(name, owner).await?;
    let record = crate::engine::record_under(&mut *lock).await?;
    let mut record = record.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
    if has_provider && record.elsewhere(here).is_none() {
        return Err(EngineError::Refused {
            what: format!("\"{name}\" can be deleted from this host, so --forget is refused"),
            hint: NextStep::Delete(name.clone()).into(),
        });
    }
    super::protect::refuse_protected(&record)?;
    if let Some(former) = lock.taken_over() {
        record.history.note_takeover(owner, former);
    }
    record.end(Outcome::Interrupted, None);
    record.history.note(HistoryAction::Forget, owner);
    record.phase = Phase::Destroyed;
    Ok(lock.archive(&mut record, Timestamp::now()).await?)
}
