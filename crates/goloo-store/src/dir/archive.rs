//! Changes of the archive that may first have to bring a record there, under its lock.

use std::io::ErrorKind;
use std::sync::Arc;

use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::Owner;
use goloo_model::store::{Archived, Snapshot, StoreError};

use super::durable::{self, failed, refused};
use super::inner::Inner;
use super::lock::{DirLock, to_json};
use super::put::{Place, stale};
use super::read::Found;
use crate::rules::{check_schema, newer, other_name};

/// Removes a record for good.
pub(super) fn delete(store: &Arc<Inner>, id: &ArchiveId, by: &Owner) -> Result<(), StoreError> {
    store.check_suitable()?;
    if let Some(half) = store.half_archived_as(id)? {
        // Taking the lock moves it.
        DirLock::acquire(store, &half.record.name, &to_json(by))?;
    }
    let gone = || StoreError::NotArchived { id: id.clone() };
    let archive = store.layout.archive();
    if store.fs.folder_id(&archive).map_err(failed("access", &archive))?.is_none() {
        return Err(gone());
    }
    let _entered = store.enter_archive()?;
    store.remove_leftovers()?;
    match store.reader().find(&store.layout.archived(id), id.name())? {
        Found::Absent => return Err(gone()),
        Found::Sound(record, _) | Found::Recovered(record, _) => check_schema(&record)?,
        Found::Newer(_, schema) => {
            let name = VmName::parse(id.name()).expect("an archive id begins with a name");
            return Err(newer(&name, schema));
        }
        Found::Broken(_) => {}
    }
    let trash = store.layout.trash(id);
    match durable::move_folder(store.fs(), &store.layout.archived(id), &trash) {
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Err(gone()),
        other => other?,
    };
    durable::remove_tree(store.fs(), &trash)
}

/// Puts a record from another store there.
pub(super) fn put(store: &Arc<Inner>, archived: &Archived, snapshot: &Snapshot) -> Result<(), StoreError> {
    let (id, record) = (&archived.id, &archived.record);
    let folder = store.layout.archived(id);
    if record.name.as_str() != id.name() {
        return Err(refused(&folder, other_name(record.name.as_str(), id.name())));
    }
    if store.half_archived_as(id)?.is_some() {
        // Taking the lock moves it.
        DirLock::acquire(store, &record.name, b"")?;
    }
    let _entered = store.enter_archive()?;
    durable::ensure_folder(store.fs(), &store.layout.archive())?;
    let place = Place { folder, staged: store.layout.staged_archive(id) };
    store.put(&place, record, snapshot, |stored| stale(record, stored.serial))
}
