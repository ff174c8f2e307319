//! Register: makes a record for a machine that goloo didn't make. The machine is there already, so the
//! record is all that is written, and it appears in one step.

use super::create::taken;
use super::{Engine, EngineError};
use crate::record::{Deed, Here, Origin, OriginKind, Owner, Record};
use crate::store::{Snapshot, Store};

impl Engine<'_> {
    /// Makes a record for a machine that is there already; see [`register`].
    pub async fn register(&self, record: Record, snapshot: &Snapshot) -> Result<Record, EngineError> {
        register(self.store, self.owner, self.here, record, snapshot).await
    }
}

/// Makes a record for a machine that is there already. The name must be free, and what was migrated
/// and then deleted doesn't come back: its old config stays where it is, and would be met again.
///
/// A function of its own, since a record can be made where its provider can't be asked.
pub async fn register(
    store: &dyn Store,
    owner: &Owner,
    here: &Here,
    mut record: Record,
    snapshot: &Snapshot,
) -> Result<Record, EngineError> {
    let mut lock = store.lock(&record.name, owner).await?;
    if let Some(other) = super::record_under(&mut *lock).await? {
        return Err(taken(&other));
    }
    if is_migrated(&record) {
        // Under the lock: a delete of this very VM can't come between.
        refuse_deleted(store, &record).await?;
    }
    if let Some(deed) = record.origin.as_ref().and_then(|origin| deed_of(origin.how)) {
        record.history.note(deed, owner);
    }
    record.prove(here, snapshot.digest());
    lock.create(&mut record, snapshot).await?;
    Ok(record)
}

fn deed_of(how: OriginKind) -> Option<Deed> {
    match how {
        OriginKind::Migrated => Some(Deed::Migrate),
        OriginKind::Adopted => Some(Deed::Adopt),
        OriginKind::Cloned => None,
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
        what: format!("\"{}\" was migrated before and is deleted", record.name),
        hint: format!("goloo archive show {}", deleted.id),
    })
}

/// Whether an archived record is what became of an old config's VM.
pub fn was_migrated_as(archived: &Record, record: &Record) -> bool {
    let from = |record: &Record| match &record.origin {
        Some(Origin { how: OriginKind::Migrated, from, .. }) => Some(from.clone()),
        _ => None,
    };
    // A local machine's id is a name, which can be used again: there the config counts too.
    let same_place = !record.provider.is_local() || from(archived) == from(record);
    from(archived).is_some() && same_place && same_machine(archived, record)
}

/// Whether two records lead to one machine. A resource's kind is one provider's.
pub fn same_machine(a: &Record, b: &Record) -> bool {
    let same_host = !a.provider.is_local() || a.created_by.host_id == b.created_by.host_id;
    let leads_to =
        |id: &str, kind: &str| b.resources.iter().any(|other| other.id == id && other.kind == kind);
    same_host && a.resources.iter().any(|own| leads_to(&own.id, &own.kind))
}
