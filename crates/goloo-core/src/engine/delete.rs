//! Delete: write down the intent, remove the machine, archive the record as the last step.

use super::work::UnderWay;
use super::{Engine, EngineError};
use crate::name::{ArchiveId, VmName};
use crate::record::{OperationKind, Outcome, Phase, Record};

impl Engine<'_> {
    /// Deletes a VM in whatever state it is, unless it is protected; on failure the record stays. `agreed` is the
    /// record that the user agreed to delete: another one under its name is refused.
    pub async fn delete(&self, name: &VmName, agreed: Option<&Record>) -> Result<ArchiveId, EngineError> {
        let mut under_way = self.take(name).await?;
        if agreed.is_some_and(|agreed| !under_way.record.is_same_vm(&under_way.as_taken(agreed))) {
            return Err(super::changed_meanwhile(name));
        }
        super::protect::refuse_protected(&under_way.record)?;
        under_way.record.begin(self.operation(OperationKind::Delete));
        under_way.record.phase = Phase::Deleting;
        under_way.save_intent().await?;
        under_way.remove().await
    }
}

impl UnderWay<'_, '_> {
    /// From the durable intent to the archive; also what `resume` goes on with.
    pub(super) async fn remove(&mut self) -> Result<ArchiveId, EngineError> {
        self.stop_if_interrupted(OperationKind::Delete)?;
        let provider = self.engine.provider;
        let (record, mut work) = self.lend();
        if let Err(error) = provider.delete(&record, &mut work).await {
            return Err(self.failed(OperationKind::Delete, error));
        }
        self.forget_host()?;
        self.record.phase = Phase::Destroyed;
        self.record.end(Outcome::Done, None);
        self.archive_result().await
    }
}
