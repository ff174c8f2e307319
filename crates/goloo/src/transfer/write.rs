//! Writes the contents of one store into another. Each step can be repeated: an interrupted transfer starts again and
//! has the same result.

use std::collections::{BTreeMap, BTreeSet};

use goloo_model::record::{Owner, Record};
use goloo_model::store::{Snapshot, Store, StoreError};

use super::contents::{ArchivedVm, StoreContents, all};

/// Writes `contents` to a store that contains `there`, with which it has no conflicts.
pub async fn write(
    contents: &StoreContents,
    there: &StoreContents,
    store: &dyn Store,
    owner: &Owner,
) -> Result<(), StoreError> {
    let active: BTreeSet<_> = there.vms.iter().map(|vm| &vm.record.id).collect();
    let archive = contents.archive.iter().map(|gone| {
        let is_active = active.contains(&gone.archived.record.id);
        put_archived(gone, is_active, store, owner)
    });
    all(archive).await?;
    remove_doubles(contents, store, owner).await?;
    all(contents.vms.iter().map(|vm| put(&vm.record, &vm.snapshot, store, owner))).await.map(drop)
}

async fn put_archived(
    gone: &ArchivedVm,
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

/// Archives a VM that is still active there, as it was archived here: the next lock of its name moves a destroyed VM to
/// the archive.
async fn retire(gone: &ArchivedVm, store: &dyn Store, owner: &Owner) -> Result<(), StoreError> {
    let record = &gone.archived.record;
    put(record, &gone.snapshot, store, owner).await?;
    store.lock(&record.name, owner).await?.release().await;
    Ok(())
}

/// Removes duplicate archive entries: when a lock archives a VM, the archive id contains the time of its last save,
/// which may differ from the one here.
async fn remove_doubles(
    contents: &StoreContents,
    store: &dyn Store,
    owner: &Owner,
) -> Result<(), StoreError> {
    let mut ids: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for gone in &contents.archive {
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

/// Overwrites a newer record of the same VM with an older one, as its next save.
pub async fn overwrite(record: &Record, store: &dyn Store, owner: &Owner) -> Result<(), StoreError> {
    let mut lock = store.lock(&record.name, owner).await?;
    let stored = lock.load().await?.ok_or_else(|| StoreError::NotFound { name: record.name.clone() })?;
    let mut next = Record { serial: stored.record.serial, ..record.clone() };
    lock.save(&mut next).await
}
