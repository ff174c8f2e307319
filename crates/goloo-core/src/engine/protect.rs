//! Protect: a VM that must not be deleted by mistake. Only its record is written.

use super::EngineError;
use crate::name::VmName;
use crate::record::{Deed, Owner, Record};
use crate::store::{Store, StoreError};

/// Makes `delete` refuse a VM, or lets it again. Nothing is written when that is so already.
pub async fn protect(
    store: &dyn Store,
    owner: &Owner,
    name: &VmName,
    protected: bool,
) -> Result<Record, EngineError> {
    let mut lock = store.lock(name, owner).await?;
    let record = super::record_under(&mut *lock).await?;
    let mut record = record.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
    if record.protected != protected {
        if let Some(former) = lock.taken_over() {
            record.history.note_takeover(owner, former);
        }
        record.protected = protected;
        record.history.note(if protected { Deed::Protect } else { Deed::Unprotect }, owner);
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
        hint: format!("goloo unprotect {name}, when it may be deleted"),
    })
}
