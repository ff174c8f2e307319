//! Resume: continues an interrupted operation, based on the record.

use crate::apply::Applied;
use crate::bake::Baked;
use crate::clone::Cloned;
use crate::create::Created;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::rebuild::{Rebuild, ResumeInputs};
use crate::rename::Renamed;
use crate::replace::Replaced;
use crate::work::LockedOperation;
use goloo_model::dns::DnsChange;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::provider::{Machine, StopMode};
use goloo_model::record::{CreateInputs, Operation, OperationKind, Phase, Record};
use goloo_model::store::Snapshot;

/// What was finished.
#[derive(Debug)]
pub enum Resumed {
    /// Nothing; no operation had been interrupted.
    Nothing,
    /// A create.
    Created(Box<Created>),
    /// A delete.
    Deleted(ArchiveId),
    /// A clone.
    Cloned(Box<Cloned>),
    /// An import.
    Imported(Box<Record>),
    /// A start, stop, suspend or restart.
    Power(OperationKind),
    /// An apply.
    Applied(Box<Applied>),
    /// A move of DNS names.
    Names(Box<DnsChange>),
    /// A rename.
    Renamed(Box<Renamed>),
    /// A bake.
    Baked(Box<Baked>),
    /// A replacement of a VM by another one.
    Replaced(Box<Replaced>),
}

/// What the user has confirmed, although there is no proof that it was started with this state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// The record with its operation.
    pub record: Record,
    /// The files that the VM is created from.
    pub snapshot: Snapshot,
}

impl Engine<'_> {
    /// Finishes the interrupted operation in the record, if it was started with this state folder or
    /// confirmed by the user, and then the replacement that the VM is a part of.
    pub async fn resume(
        &self,
        name: &VmName,
        agreed: Option<&Agreed>,
        inputs: ResumeInputs<'_>,
    ) -> Result<Resumed, EngineError> {
        // On the heap: with the futures of all operations in it, it is too large for the stacks of some threads.
        let resumed = Box::pin(self.resume_operation(name, agreed, inputs)).await?;
        let goes_on = match &resumed {
            Resumed::Created(created) => {
                created.record.replacing.is_some() && created.record.phase == Phase::Ready
            }
            Resumed::Nothing | Resumed::Names(_) => true,
            _ => false,
        };
        match goes_on {
            true => Ok(Box::pin(self.replacement_after_resume(name))
                .await?
                .map_or(resumed, |replaced| Resumed::Replaced(Box::new(replaced)))),
            false => Ok(resumed),
        }
    }

    async fn resume_operation(
        &self,
        name: &VmName,
        agreed: Option<&Agreed>,
        inputs: ResumeInputs<'_>,
    ) -> Result<Resumed, EngineError> {
        let deadline = self.deadline();
        let mut locked = self.take(name).await?;
        let snapshot = locked.expect_begun_here(agreed).await?;
        locked.limits.deadline = Some(deadline);
        let Some(operation) = locked.record.begin_again(self.owner).cloned() else {
            return Ok(Resumed::Nothing);
        };
        let ResumeInputs { rebuild, reopen, guest } = inputs;
        let (kind, inputs) = (operation.kind, operation.inputs.clone());
        locked.save_intent().await?;
        match kind {
            OperationKind::Create => {
                let machine = self.machine_again(&locked.record, inputs, &snapshot, rebuild)?;
                let created = Box::pin(locked.make(&machine)).await?;
                if locked.record.baking.is_some() {
                    return Ok(Resumed::Baked(Box::new(Box::pin(locked.end_bake(created)).await?)));
                }
                Ok(Resumed::Created(Box::new(created)))
            }
            OperationKind::Bake => Ok(Resumed::Baked(Box::new(Box::pin(locked.keep_baked(deadline)).await?))),
            OperationKind::Delete => {
                let archived = locked.remove().await?;
                Box::pin(self.end_replacement_of(&locked.record)).await;
                Ok(Resumed::Deleted(archived))
            }
            OperationKind::Clone => Ok(Resumed::Cloned(Box::new(Box::pin(locked.copy_again()).await?))),
            OperationKind::Import => {
                Ok(Resumed::Imported(Box::new(Box::pin(locked.build_again(reopen)).await?)))
            }
            OperationKind::Apply => {
                Ok(Resumed::Applied(Box::new(Box::pin(locked.change(guest, deadline)).await?)))
            }
            OperationKind::Stop | OperationKind::Suspend => {
                locked.power_off(mode_of(&operation)).await?;
                locked.finish_power().await?;
                Ok(Resumed::Power(kind))
            }
            OperationKind::Start => {
                locked.power_on(deadline).await?;
                Ok(Resumed::Power(kind))
            }
            OperationKind::DnsSwap | OperationKind::DnsRollback => {
                // Two locks will be taken, in their order.
                drop(locked);
                Ok(Resumed::Names(Box::new(Box::pin(self.move_names_again(name, &operation)).await?)))
            }
            OperationKind::Rename => {
                drop(locked);
                Ok(Resumed::Renamed(Box::new(Box::pin(self.rename_again(name, &operation)).await?)))
            }
            OperationKind::Replace => {
                drop(locked);
                Ok(Resumed::Replaced(Box::new(Box::pin(self.replace(&operation)).await?)))
            }
            OperationKind::Restart => {
                locked.power_off(mode_of(&operation)).await?;
                locked.power_on(deadline).await?;
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
        let refused =
            |what: String| EngineError::Refused { what, hint: NextStep::Delete(name.clone()).into() };
        let inputs = inputs
            .ok_or_else(|| refused(format!("the record of \"{name}\" lacks the inputs of its create")))?;
        rebuild(record, &inputs, snapshot).map_err(|error| error.refused(OperationKind::Create, name))
    }
}

impl LockedOperation<'_, '_> {
    /// Refuses an operation that another writer of a shared store may have forged. Returns the files of a create.
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
                record.agrees_with(&self.engine.as_taken(&agreed.record)) && same_files(agreed)
            })
        };
        if is_ours || is_agreed() {
            return Ok(snapshot);
        }
        let name = &record.name;
        Err(EngineError::Refused {
            what: format!(
                "the {} of \"{name}\" wasn't started with this state folder, or its record has been changed since then",
                operation.kind
            ),
            hint: Hint::from("check it with ")
                .step(NextStep::Status(name.clone()))
                .text(", then run ")
                .step(NextStep::Resume(name.clone()))
                .text(", which asks for confirmation"),
        })
    }
}

/// The stop mode of the interrupted operation.
fn mode_of(operation: &Operation) -> StopMode {
    match operation.kind {
        OperationKind::Suspend => StopMode::Suspend,
        _ if operation.force => StopMode::Force,
        _ => StopMode::Graceful,
    }
}
