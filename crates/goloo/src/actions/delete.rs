//! Deletes VMs, and archives the records of those whose host is lost.

use goloo_model::events::EventContext;
use goloo_model::name::ArchiveId;
use goloo_model::record::{ForeignOwner, OperationKind, Record};

use crate::error::Error;
use crate::identity;
use crate::operation::RunOptions;
use crate::session::Session;

/// A record that was archived without its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The record's id in the archive.
    pub id: ArchiveId,
    /// Where the machine belonged; `None` for this state folder.
    pub place: Option<ForeignOwner>,
}

impl Session {
    /// Deletes a VM permanently and archives its record. `record` is what the user has agreed to: a VM whose record has
    /// changed since is refused.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operation.
    pub fn delete(&self, record: &Record, run: &RunOptions<'_>) -> Result<ArchiveId, Error> {
        let provider = self.provider_of(record)?;
        let name = &record.name;
        let context = EventContext::of(name, Some(OperationKind::Delete));
        let deleted =
            self.operate(context, &*provider, run, async |engine| engine.delete(name, Some(record)).await)??;
        self.forget_docker_context(record);
        Ok(deleted)
    }

    /// Archives the record of a VM whose host or state folder is lost. Its machine is left as it is.
    ///
    /// # Errors
    /// Errors of the store; a VM that belongs here is refused.
    pub fn forget(&self, record: &Record) -> Result<Forgotten, Error> {
        let (owner, here) = (identity::owner(), self.here());
        let id = pollster::block_on(goloo_engine::forget(
            &*self.store,
            &owner,
            &here,
            &record.name,
            self.providers.get(record.provider).is_some(),
        ))?;
        Ok(Forgotten { id, place: record.elsewhere(&here) })
    }
}
