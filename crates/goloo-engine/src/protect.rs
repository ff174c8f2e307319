//! Protect: prevents a VM from being deleted by mistake. Only its record is changed.

use crate::error::EngineError;
use goloo_model::hint::NextStep;
use goloo_model::name::VmName;
use goloo_model::record::{HistoryAction, Owner, Record};
use goloo_model::store::{Store, StoreError};

/// Makes `delete` refuse a VM, or allows it again. Nothing is written if that is already so.
pub async fn protect(
    store: &dyn Store,
    owner: &Owner,
    name: &VmName,
    protected: bool,
) -> Result<Record, EngineError> {
    let mut lock = store.lock(name, owner).await?;
    let record = crate::engine::record_under(&mut *lock).await?;
    let mut record = record.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
    crate::engine::refuse_full(&record)?;
    if record.protected != protected {
        if let Some(former) = lock.taken_over() {
            record.history.note_takeover(owner, former);
        }
        record.protected = protected;
        record.history.note(if protected { HistoryAction::Protect } else { HistoryAction::Unprotect }, owner);
        lock.save(&mut record).await?;
    }
    Ok(record)
}

pub(super) fn refuse_protected(record: &Record) -> Result<(), EngineError> {
    if !record.protected {
        return Ok(());
    }
    let name = &record.name;
    Err(EngineError::Refused {
        what: format!("\"{name}\" is protected"),
        hint: NextStep::Unprotect(name.clone()).text(" allows deleting it"),
    })
}
