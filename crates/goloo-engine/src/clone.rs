//! Clone: claim the new name, copy the machine, save the result.
//!
//! Both VMs are locked throughout: the source must not be started or deleted while it is copied. Where the provider copies
//! memory too, the source may run: it is paused for the copy. If goloo is killed then, resuming or deleting the unfinished
//! clone also unpauses the source.

use super::create::taken;
use super::work::{LockedOperation, leaves_work};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::machine_name::free_machine_name;
use crate::power::refuse_pending;
use goloo_model::events::Event;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::{VmId, VmName};
use goloo_model::provider::{Clones, LiveState, ProviderError};
use goloo_model::record::{
    Creator, NewRecord, Operation, OperationKind, Origin, OriginKind, Outcome, Phase, Record,
};
use goloo_model::store::StoreError;

/// A VM that was cloned.
#[derive(Debug)]
pub struct Cloned {
    /// The copy's record.
    pub record: Record,
    /// Whether the copy has the memory of its source, and so continues where that was. Otherwise it boots.
    pub is_suspended: bool,
}

impl<'a> Engine<'a> {
    /// Creates `copy` as a copy of the VM `source`. The copy is stopped, or suspended if the source isn't stopped.
    pub async fn clone_vm(
        &self,
        source: &VmName,
        copy: &VmName,
        created_by: &Creator,
    ) -> Result<Cloned, EngineError> {
        let clones = self.clones(source)?;
        if source == copy {
            return Err(taken(&self.take(source).await?.record));
        }
        let (from, mut lock) = self.lock_both(source, copy).await?;
        let mut from = self.take_under(from).await?;
        crate::engine::refuse_unfinished(&from.record)?;
        if let Some(other) = crate::engine::record_under(&mut *lock).await? {
            return Err(taken(&other));
        }
        self.expect_clonable(&from.record, clones).await?;
        let snapshot = from.lock.snapshot().await?;
        let mut record = self.copy_of(&from.record, copy, created_by);
        record.set_machine_name(free_machine_name(self.store, copy, &record.id).await?);
        // A copy of a foreign VM, or of changed files, isn't trusted either.
        let is_ours = self.here.created_from(&from.record, &snapshot);
        if is_ours {
            record.prove(self.here, snapshot.digest());
        }
        self.ready(&mut record, is_ours, &*lock);
        lock.create(&mut record, &snapshot).await?;
        LockedOperation::new(self, lock, record, is_ours).copy_from(&from.record).await
    }

    fn clones(&self, source: &VmName) -> Result<&'a dyn Clones, EngineError> {
        let provider = self.provider.id();
        self.provider.clones().ok_or_else(|| EngineError::Provider {
            name: source.clone(),
            kind: OperationKind::Clone,
            source: ProviderError::Unsupported {
                what: format!("{provider} doesn't support cloning"),
                hint: NextStep::Recreate { vm: source.clone(), name: source.second() }
                    .text(" creates another VM from the same files"),
            },
        })
    }

    /// Checks the state of the source before the name is claimed, so that nothing has to be rolled back.
    async fn expect_clonable(&self, source: &Record, clones: &dyn Clones) -> Result<(), EngineError> {
        let name = &source.name;
        let refused = |what: String, hint: Hint| {
            let source = ProviderError::Unsupported { what, hint };
            Err(EngineError::Provider { name: name.clone(), kind: OperationKind::Clone, source })
        };
        match self.state_of(source).await {
            LiveState::Running if clones.with_memory() => refuse_pending(source, "cloned"),
            LiveState::Suspended if clones.with_memory() => Ok(()),
            LiveState::Running => refused(
                format!("\"{name}\" is running and must be stopped before it can be cloned"),
                NextStep::stop(name).into(),
            ),
            LiveState::Suspended => refused(
                format!("\"{name}\" is suspended and must be shut down before it can be cloned"),
                NextStep::Start(name.clone()).text(", then ").step(NextStep::stop(name)),
            ),
            LiveState::Missing => Err(EngineError::Refused {
                what: format!("the machine of \"{name}\" no longer exists"),
                hint: NextStep::Delete(name.clone()).text(" archives its record"),
            }),
            _ => Ok(()),
        }
    }

    fn copy_of(&self, source: &Record, copy: &VmName, created_by: &Creator) -> Record {
        let origin = Origin {
            how: OriginKind::Cloned,
            from: source.name.as_str().into(),
            checked: true,
            export: None,
            extra: serde_json::Map::new(),
        };
        let operation = Operation { source: Some(source.id.clone()), ..self.operation(OperationKind::Clone) };
        let mut record = Record::new(NewRecord {
            id: VmId::generate(),
            name: copy.clone(),
            stack: source.stack.clone(),
            provider: source.provider,
            host_bound: source.host_bound,
            phase: Phase::Creating,
            created_by: created_by.clone(),
        });
        record.source_config_path.clone_from(&source.source_config_path);
        record.origin = Some(origin);
        record.tags.clone_from(&source.tags);
        record.github_users.clone_from(&source.github_users);
        record.ssh.clone_from(&source.ssh);
        record.provisioning.clone_from(&source.provisioning);
        record.resolved.clone_from(&source.resolved);
        record.overrides.clone_from(&source.overrides);
        record.user_keys.clone_from(&source.user_keys);
        record.applied_config.clone_from(&source.applied_config);
        record.reprovisioned.clone_from(&source.reprovisioned);
        record.extra.clone_from(&source.extra);
        record.begin(operation);
        record
    }
}

impl LockedOperation<'_, '_> {
    /// From the durable intent to the durable result.
    async fn copy_from(&mut self, source: &Record) -> Result<Cloned, EngineError> {
        self.stop_if_interrupted(OperationKind::Clone)?;
        let clones = self.engine.clones(&source.name)?;
        let (copy, mut work) = self.lend();
        match clones.clone_machine(source, &copy, &mut work).await {
            Ok(()) => {}
            Err(error) if leaves_work(&error) => return Err(self.midway(OperationKind::Clone, error)),
            Err(error) => {
                let undone = self.undo(OperationKind::Clone, error).await;
                // It may not have been able to continue because the copy had filled the disk.
                self.release(clones, source).await;
                return Err(undone);
            }
        }
        self.record.phase = source.phase;
        self.record.end(Outcome::Done, None);
        self.save_result().await?;
        Ok(Cloned { record: self.record.clone(), is_suspended: self.is_suspended().await })
    }

    /// Continues an interrupted clone.
    pub(super) async fn copy_again(&mut self) -> Result<Cloned, EngineError> {
        let engine = self.engine;
        let from = engine.take_source(&self.record).await?;
        engine.expect_clonable(&from.record, engine.clones(&from.record.name)?).await?;
        self.copy_from(&from.record).await
    }

    /// Unpauses the source of an unfinished clone. If the source is locked, the operation that holds the lock does it.
    pub(super) async fn release_source(&self) {
        let wanted = self.record.operation.as_ref().and_then(|operation| operation.source.as_ref());
        let Some(clones) = self.engine.provider.clones().filter(|_| wanted.is_some()) else { return };
        if let Ok(source) = self.engine.take_source(&self.record).await {
            self.release(clones, &source.record).await;
        }
    }

    async fn release(&self, clones: &dyn Clones, source: &Record) {
        if let Err(error) = clones.release(source).await {
            let text = format!("\"{}\" is still paused: {error}", source.name);
            self.engine.events.event(Event::Warning(text));
        }
    }
}

impl<'a> Engine<'a> {
    /// Locks the source of a clone; refuses a VM that has got its name since.
    async fn take_source(&self, copy: &Record) -> Result<LockedOperation<'_, 'a>, EngineError> {
        let from = copy.origin.as_ref().map_or("", |origin| origin.from.as_str());
        let gone = || EngineError::Refused {
            what: format!(
                "the VM \"{from}\", from which \"{}\" was being cloned, no longer exists",
                copy.name
            ),
            hint: NextStep::Delete(copy.name.clone()).into(),
        };
        let name = VmName::parse(from).map_err(|_| gone())?;
        let source = match self.take(&name).await {
            Err(EngineError::Store(StoreError::NotFound { .. })) => return Err(gone()),
            taken => taken?,
        };
        let wanted = copy.operation.as_ref().and_then(|operation| operation.source.as_ref());
        if wanted != Some(&source.record.id) {
            return Err(gone());
        }
        crate::engine::refuse_unfinished(&source.record)?;
        Ok(source)
    }
}
