//! Register: creates a record for an existing machine that goloo didn't create. The record is
//! all that is written, and it appears atomically.

use super::create::taken;
use crate::engine::Engine;
use crate::error::EngineError;
use goloo_model::hint::NextStep;
use goloo_model::record::{HistoryAction, LocalContext, Origin, OriginKind, Owner, Record};
use goloo_model::store::{Snapshot, Store};

impl Engine<'_> {
    /// Creates a record for an existing machine; see [`register`].
    pub async fn register(&self, record: Record, snapshot: &Snapshot) -> Result<Record, EngineError> {
        register(self.store, self.owner, self.here, record, snapshot).await
    }
}

/// Creates a record for an existing machine. The name must be free, and a VM that was migrated
/// and then deleted isn't migrated again: its old config remains in place, and would be found again.
///
/// A free function, since a record can be created even if its provider is unavailable.
pub async fn register(
    store: &dyn Store,
    owner: &Owner,
    here: &LocalContext,
    mut record: Record,
    snapshot: &Snapshot,
) -> Result<Record, EngineError> {
    let mut lock = store.lock(&record.name, owner).await?;
    if let Some(other) = crate::engine::record_under(&mut *lock).await? {
        return Err(taken(&other));
    }
    if is_migrated(&record) {
        // Under the lock, so that this VM can't be deleted in between.
        refuse_deleted(store, &record).await?;
    }
    if let Some(deed) = record.origin.as_ref().and_then(|origin| deed_of(origin.how)) {
        record.history.note(deed, owner);
    }
    record.prove(here, snapshot.digest());
    lock.create(&mut record, snapshot).await?;
    Ok(record)
}

fn deed_of(how: OriginKind) -> Option<HistoryAction> {
    match how {
        OriginKind::Migrated => Some(HistoryAction::Migrate),
        OriginKind::Adopted => Some(HistoryAction::Adopt),
        OriginKind::Cloned | OriginKind::Imported => None,
    }
}

fn is_migrated(record: &Record) -> bool {
    record.origin.as_ref().is_some_and(|origin| origin.how == OriginKind::Migrated)
}

async fn refuse_deleted(store: &dyn Store, record: &Record) -> Result<(), EngineError> {
    let archive = store.archive_list().await?;
    let deleted = archive.entries.iter().find(|entry| was_migrated_as(&entry.record, record));
    let Some(deleted) = deleted else { return Ok(()) };
    Err(EngineError::Refused {
        what: format!("\"{}\" was migrated before and has been deleted", record.name),
        hint: NextStep::ArchiveShow(deleted.id.clone()).into(),
    })
}

/// Whether an archived record was created from the same old config.
pub fn was_migrated_as(archived: &Record, record: &Record) -> bool {
    let from = |record: &Record| match &record.origin {
        Some(Origin { how: OriginKind::Migrated, from, .. }) => Some(from.clone()),
        _ => None,
    };
    // A local machine's id is a name, which can be reused, so the config is compared too.
    let same_place = !record.host_bound || from(archived) == from(record);
    from(archived).is_some() && same_place && same_machine(archived, record)
}

/// Whether two records refer to the same machine. A resource's kind identifies its provider.
pub fn same_machine(a: &Record, b: &Record) -> bool {
    let same_host = !a.host_bound || a.created_by.host_id == b.created_by.host_id;
    let leads_to =
        |id: &str, kind: &str| b.resources.iter().any(|other| other.id == id && other.kind == kind);
    same_host && a.resources.iter().any(|own| leads_to(&own.id, &own.kind))
}
