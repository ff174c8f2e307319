//! Delete: saves the intent, removes the machine, and archives the record as the last step.

use super::work::LockedOperation;
use crate::engine::Engine;
use crate::error::EngineError;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{Operation, OperationKind, Outcome, Phase, Record};

impl Engine<'_> {
    /// Deletes a VM in any state, unless it is protected; on failure the record is kept. `agreed` is the
    /// record that the user confirmed: a different one under its name is refused.
    pub async fn delete(&self, name: &VmName, agreed: Option<&Record>) -> Result<ArchiveId, EngineError> {
        let mut locked = self.take(name).await?;
        self.expect_agreed(&locked.record, agreed)?;
        crate::engine::refuse_half_renamed(&locked.record)?;
        super::protect::refuse_protected(&locked.record)?;
        self.refuse_taken_names(&locked.record)?;
        let source = locked.record.operation.as_ref().and_then(|unfinished| unfinished.source.clone());
        locked.record.begin(Operation { source, ..self.operation(OperationKind::Delete) });
        locked.record.phase = Phase::Deleting;
        locked.save_intent().await?;
        let archived = locked.remove().await?;
        self.end_replacement_of(&locked.record).await;
        Ok(archived)
    }
}

impl LockedOperation<'_, '_> {
    /// From the durable intent to the archive; also what `resume` continues.
    pub(super) async fn remove(&mut self) -> Result<ArchiveId, EngineError> {
        self.stop_if_interrupted(OperationKind::Delete)?;
        self.release_source().await;
        let provider = self.engine.provider;
        let (record, mut work) = self.lend();
        if let Err(error) = provider.delete(&record, &mut work).await {
            return Err(self.failed(OperationKind::Delete, error));
        }
        self.forget_host()?;
        self.record.phase = Phase::Destroyed;
        self.record.end(Outcome::Done, None);
        let archived = self.archive_result().await?;
        self.forget_guest().await;
        Ok(archived)
    }

    /// Ends the connections to a machine that no longer exists, and removes its host key.
    pub(super) async fn forget_guest(&self) {
        self.engine.guest.end_connections(&self.record).await;
        self.engine.guest.unpin(&self.record);
    }
}
