//! Writes all that one store holds into another. Each step can be done again: who was stopped
//! anywhere begins anew and comes to the same end.

use std::collections::{BTreeMap, BTreeSet};

use goloo_core::record::{Owner, Record};
use goloo_core::store::{Store, StoreError};

use super::{Gone, Vm, Whole};

/// Writes `whole` where `there` is, which has no conflicts with it.
pub async fn write(whole: &Whole, there: &Whole, store: &dyn Store, owner: &Owner) -> Result<(), StoreError> {
    let active: BTreeSet<_> = there.vms.iter().map(|vm| &vm.record.id).collect();
    for gone in &whole.archive {
        if active.contains(&gone.archived.record.id) {
            retire(gone, store, owner).await?;
        }
        store.archive_put(&gone.archived, &gone.snapshot).await?;
    }
    remove_doubles(whole, store, owner).await?;
    for Vm { record, snapshot } in &whole.vms {
        store.lock(&record.name, owner).await?.put(record, snapshot).await?;
    }
    Ok(())
}

/// Lets a VM that is still active there go the way it went here: the next lock of its name moves a
/// destroyed one to the archive.
async fn retire(gone: &Gone, store: &dyn Store, owner: &Owner) -> Result<(), StoreError> {
    let record = &gone.archived.record;
    store.lock(&record.name, owner).await?.put(record, &gone.snapshot).await?;
    drop(store.lock(&record.name, owner).await?);
    Ok(())
}

/// What came to the archive by a lock has the time of its last save in its id, which may be another one
/// than here.
async fn remove_doubles(whole: &Whole, store: &dyn Store, owner: &Owner) -> Result<(), StoreError> {
    let mut ids: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for gone in &whole.archive {
        ids.entry(&gone.archived.record.id).or_default().insert(&gone.archived.id);
    }
    for archived in store.archive_list().await?.entries {
        if ids.get(&archived.record.id).is_some_and(|ids| !ids.contains(&archived.id)) {
            match store.archive_delete(&archived.id, owner).await {
                Err(StoreError::NotArchived { .. }) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// Writes an older record over a newer one of the same VM, as its next save.
pub async fn overwrite(record: &Record, store: &dyn Store, owner: &Owner) -> Result<(), StoreError> {
    let mut lock = store.lock(&record.name, owner).await?;
    let stored = lock.load().await?.ok_or_else(|| StoreError::NotFound { name: record.name.clone() })?;
    let mut next = Record { serial: stored.record.serial, ..record.clone() };
    lock.save(&mut next).await
}
