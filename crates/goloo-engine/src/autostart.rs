//! Autostart: whether a VM is started when the user logs in. Only its record is changed.

use crate::engine::refuse_elsewhere;
use crate::error::EngineError;
use crate::label::change_record;
use goloo_model::name::VmName;
use goloo_model::record::{HistoryAction, LocalContext, Owner, Record};
use goloo_model::store::Store;

/// Marks a VM as one to start at login, or removes the mark. Nothing is written if that is already so.
pub async fn set_autostart(
    store: &dyn Store,
    owner: &Owner,
    here: &LocalContext,
    name: &VmName,
    is_on: bool,
) -> Result<Record, EngineError> {
    let action = if is_on { HistoryAction::Autostart } else { HistoryAction::NoAutostart };
    change_record(store, owner, here, name, action, |record| {
        refuse_elsewhere(record, here)?;
        // The proof covers it: others must not choose what is started here.
        record.autostart = is_on;
        Ok(())
    })
    .await
}
