//! Resume: goes on with what was interrupted, from what the record says.

use super::{Created, Engine, EngineError, UnderWay};
use crate::dns::DnsChange;
use crate::name::{ArchiveId, VmName};
use crate::provider::{Machine, StopMode};
use crate::record::{CreateInputs, Operation, OperationKind, Record};
use crate::store::Snapshot;

/// What was finished.
#[derive(Debug)]
pub enum Resumed {
    /// Nothing had been interrupted.
    Nothing,
    /// A create.
    Created(Box<Created>),
    /// A delete.
    Deleted(ArchiveId),
    /// A clone.
    Cloned(Box<Record>),
    /// A start, stop, suspend or restart.
    Power(OperationKind),
    /// A move of DNS names.
    Names(Box<DnsChange>),
}

/// What somebody has seen and agreed to, though it can't be shown that it was begun with this state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// The record with its operation.
    pub record: Record,
    /// The files that the VM is made from.
    pub snapshot: Snapshot,
}

/// Why the machine of an interrupted create can't be worked out again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RebuildError(pub String);

/// Works out the machine of an interrupted create again, from its record, its inputs and its snapshot.
pub type Rebuild<'f> = dyn Fn(&Record, &CreateInputs, &Snapshot) -> Result<Machine, RebuildError> + 'f;

impl Engine<'_> {
    /// Finishes the operation that the record says was interrupted: one that was begun with this state folder, or that
    /// was agreed to.
    pub async fn resume(
        &self,
        name: &VmName,
        agreed: Option<&Agreed>,
        rebuild: &Rebuild<'_>,
    ) -> Result<Resumed, EngineError> {
        let deadline = self.deadline();
        let mut under_way = self.take(name).await?;
        let snapshot = under_way.expect_begun_here(agreed).await?;
        under_way.limits.deadline = Some(deadline);
        let Some(operation) = under_way.record.begin_again(self.owner).cloned() else {
            return Ok(Resumed::Nothing);
        };
        let (kind, inputs) = (operation.kind, operation.inputs.clone());
        under_way.save_intent().await?;
        match kind {
            OperationKind::Create => {
                let machine = self.machine_again(&under_way.record, inputs, &snapshot, rebuild)?;
                Ok(Resumed::Created(Box::new(under_way.make(&machine).await?)))
            }
            OperationKind::Delete => Ok(Resumed::Deleted(under_way.remove().await?)),
            OperationKind::Clone => Ok(Resumed::Cloned(Box::new(under_way.copy_again().await?))),
            OperationKind::Stop | OperationKind::Suspend => {
                under_way.power_off(mode_of(&operation)).await?;
                under_way.finish_power().await?;
                Ok(Resumed::Power(kind))
            }
            OperationKind::Start => {
                under_way.power_on(deadline).await?;
                Ok(Resumed::Power(kind))
            }
            OperationKind::DnsSwap | OperationKind::DnsRollback => {
                // Two locks are taken, in their order.
                drop(under_way);
                Ok(Resumed::Names(Box::new(self.move_names_again(name, &operation).await?)))
            }
            OperationKind::Restart => {
                under_way.power_off(mode_of(&operation)).await?;
                under_way.power_on(deadline).await?;
                Ok(Resumed::Power(kind))
            }
        }
    }

    fn machine_again(
        &self,
        record: &Record,
        inputs: Option<CreateInputs>,
        snapshot: &Snapshot,
        rebuild: &Rebuild<'_>,
    ) -> Result<Machine, EngineError> {
        let name = &record.name;
        let refused = |what: String| EngineError::Refused { what, hint: format!("goloo delete {name}") };
        let inputs = inputs
            .ok_or_else(|| refused(format!("the record of \"{name}\" lacks what its create began with")))?;
        rebuild(record, &inputs, snapshot)
            .map_err(|error| refused(format!("the create of \"{name}\" can't go on: {error}")))
    }
}

impl UnderWay<'_, '_> {
    /// Anyone who can write to a shared store can write an operation into a record. Returns the files of a create.
    async fn expect_begun_here(&mut self, agreed: Option<&Agreed>) -> Result<Snapshot, EngineError> {
        let record = &self.record;
        let Some(operation) = &record.operation else { return Ok(Snapshot::default()) };
        if operation.kind == OperationKind::Delete {
            super::protect::refuse_protected(record)?;
        }
        let here = self.engine.here;
        let is_create = operation.kind == OperationKind::Create;
        let snapshot = if is_create { self.lock.snapshot().await? } else { Snapshot::default() };
        let is_ours =
            here.started_operation(record) && (!is_create || (self.is_ours && record.is_from(&snapshot)));
        let is_agreed = || {
            let same_files = |agreed: &Agreed| !is_create || agreed.snapshot == snapshot;
            agreed.is_some_and(|agreed| {
                record.agrees_with(&self.as_taken(&agreed.record)) && same_files(agreed)
            })
        };
        if is_ours || is_agreed() {
            return Ok(snapshot);
        }
        let name = &record.name;
        Err(EngineError::Refused {
            what: format!(
                "the {} of \"{name}\" wasn't begun with this state folder, or its record was changed since",
                operation.kind
            ),
            hint: format!("goloo status {name}; then goloo resume {name} asks"),
        })
    }
}

/// How the interrupted operation was stopping the machine.
fn mode_of(operation: &Operation) -> StopMode {
    match operation.kind {
        OperationKind::Suspend => StopMode::Suspend,
        _ if operation.force => StopMode::Force,
        _ => StopMode::Graceful,
    }
}
