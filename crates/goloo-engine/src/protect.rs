//! Protect: prevents a VM from being deleted by mistake. Only its record is changed.

use crate::error::EngineError;
use crate::label::change_record;
use goloo_model::hint::NextStep;
use goloo_model::name::VmName;
use goloo_model::record::{HistoryAction, LocalContext, Owner, Record};
use goloo_model::store::Store;

/// Makes `delete` refuse a VM, or allows it again. Nothing is written if that is already so.
pub async fn protect(
    store: &dyn Store,
    owner: &Owner,
    here: &LocalContext,
    name: &VmName,
    protected: bool,
) -> Result<Record, EngineError> {
    let action = if protected { HistoryAction::Protect } else { HistoryAction::Unprotect };
    change_record(store, owner, here, name, action, |record| {
        record.protected = protected;
        Ok(())
    })
    .await
}

/// Refuses a VM that is protected.
///
/// # Errors
/// [`EngineError::Refused`].
pub fn refuse_protected(record: &Record) -> Result<(), EngineError> {
    if !record.protected {
        return Ok(());
    }
    let name = &record.name;
    Err(EngineError::Refused {
        what: format!("\"{name}\" is protected"),
        hint: NextStep::Unprotect(name.clone()).text(" allows deleting it"),
    })
}
