//! Writes all that one store holds into another. Each step can be done again: who was stopped
//! anywhere begins anew and comes to the same end.

use std::collections::{BTreeMap, BTreeSet};

use goloo_core::record::{Owner, Record};
use goloo_core::store::{Snapshot, Store, StoreError};

use super::{Gone, Whole, all};

/// Writes `whole` where `there` is, which has no conflicts with it.
pub async fn write(whole: &Whole, there: &Whole, store: &dyn Store, owner: &Owner) -> Result<(), StoreError> {
    let active: BTreeSet<_> = there.vms.iter().map(|vm| &vm.record.id).collect();
    let archive = whole.archive.iter().map(|gone| {
        let is_active = active.contains(&gone.archived.record.id);
        put_archived(gone, is_active, store, owner)
    });
    all(archive).await?;
    remove_doubles(whole, store, owner).await?;
    all(whole.vms.iter().map(|vm| put(&vm.record, &vm.snapshot, store, owner))).await.map(drop)
}

async fn put_archived(
    gone: &Gone,
    is_active: bool,
    store: &dyn Store,
    owner: &Owner,
) -> Result<(), StoreError> {
    if is_active {
        retire(gone, store, owner).await?;
    }
    store.archive_put(&gone.archived, &gone.snapshot).await
}

async fn put(
    record: &Record,
    snapshot: &Snapshot,
    store: &dyn Store,
    owner: &Owner,
) -> Result<(), StoreError> {
    let mut lock = store.lock(&record.name, owner).await?;
    let put = lock.put(record, snapshot).await;
    lock.release().await;
    put
}

/// Lets a VM that is still active there go the way it went here: the next lock of its name moves a
/// destroyed one to the archive.
async fn retire(gone: &Gone, store: &dyn Store, owner: &Owner) -> Result<(), StoreError> {
    let record = &gone.archived.record;
    put(record, &gone.snapshot, store, owner).await?;
    store.lock(&record.name, owner).await?.release().await;
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
