//! Rename: gives a VM another name. Only its record moves; the machine keeps the name that its provider knows it by.
//!
//! Both names are locked throughout. The record is put under the new name before it is removed from the old one, and both
//! contain the intent: after a crash at any point, either one tells what is left to do.

use crate::engine::{Engine, changed_meanwhile, record_under, refuse_unfinished};
use crate::error::EngineError;
use crate::hostname::{self, GuestHostname};
use crate::work::LockedOperation;
use goloo_model::events::Event;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::VmName;
use goloo_model::provider::{HostnameAtBoot, LiveState, ProviderError};
use goloo_model::record::{NameChange, Operation, OperationKind, Outcome, Record};
use goloo_model::store::VmLock;
use goloo_model::time::Timestamp;

use super::create::taken;

/// A VM that has another name now.
#[derive(Debug)]
pub struct Renamed {
    /// Its record.
    pub record: Record,
    /// Its old name.
    pub from: VmName,
    /// The hostname of its guest.
    pub hostname: GuestHostname,
}

/// What is stored under one of the two names of an interrupted rename.
enum Half<'e, 'a> {
    /// The VM, with the operation.
    Vm(Box<LockedOperation<'e, 'a>>),
    /// Nothing.
    Free(Box<dyn VmLock>),
    /// Another VM, or this one without the operation.
    Other(Box<Record>),
}

impl<'a> Engine<'a> {
    /// Gives a VM another name, which must be free.
    pub async fn rename(&self, old: &VmName, new: &VmName) -> Result<Renamed, EngineError> {
        if old == new {
            return Err(EngineError::Refused {
                what: format!("\"{old}\" already has that name"),
                hint: NextStep::Status(old.clone()).into(),
            });
        }
        let (from, mut to) = self.lock_both(old, new).await?;
        let mut from = self.take_under(from).await?;
        refuse_unfinished(&from.record)?;
        if let Some(operation) = &from.record.operation {
            return Err(EngineError::Unfinished { name: old.clone(), kind: operation.kind });
        }
        self.expect_own_machine_name(&from.record)?;
        if let Some(other) = record_under(&mut *to).await? {
            return Err(taken(&other));
        }
        let change = NameChange { from: old.clone(), to: new.clone() };
        let operation = Operation { rename: Some(change.clone()), ..self.operation(OperationKind::Rename) };
        from.record.begin(operation);
        from.save_intent().await?;
        let (renamed, _) = self.move_record(from, to, new).await?;
        self.finish_rename(renamed, &change).await
    }

    /// Continues an interrupted rename; `name` is either of the two names.
    pub(super) async fn rename_again(
        &self,
        name: &VmName,
        operation: &Operation,
    ) -> Result<Renamed, EngineError> {
        let change = operation.rename.as_ref().ok_or_else(|| EngineError::Refused {
            what: format!("the record of \"{name}\" doesn't contain its new name"),
            hint: Hint::from("replace it by an older copy: ").step(NextStep::StatePushOlder),
        })?;
        let (from, to) = self.lock_both(&change.from, &change.to).await?;
        let halves = (self.half(from, operation).await?, self.half(to, operation).await?);
        let renamed = match halves {
            (Half::Vm(from), Half::Free(to)) => self.move_record(*from, to, &change.to).await?.0,
            (Half::Vm(mut from), Half::Vm(to)) => {
                self.remove_old(&mut from).await?;
                *to
            }
            (Half::Free(_) | Half::Other(_), Half::Vm(to)) => *to,
            // It took the new name meanwhile.
            (Half::Vm(mut from), Half::Other(other)) => {
                let error = taken(&other);
                from.record.fail(&error);
                from.save_result().await?;
                return Err(error);
            }
            _ => return Err(changed_meanwhile(name)),
        };
        self.finish_rename(renamed, change).await
    }

    /// What is stored under one of the names.
    async fn half(
        &self,
        mut lock: Box<dyn VmLock>,
        operation: &Operation,
    ) -> Result<Half<'_, 'a>, EngineError> {
        let is_it = |record: &Record| record.operation.as_ref().is_some_and(|found| found.id == operation.id);
        Ok(match record_under(&mut *lock).await? {
            None => Half::Free(lock),
            Some(record) if is_it(&record) => Half::Vm(Box::new(self.take_under(lock).await?)),
            Some(other) => Half::Other(Box::new(other)),
        })
    }

    /// Puts a VM's record under a name that is free and locked, with its operation, and removes it from the old one, whose
    /// lock is returned.
    pub(super) async fn move_record<'e>(
        &'e self,
        mut from: LockedOperation<'e, 'a>,
        mut to: Box<dyn VmLock>,
        name: &VmName,
    ) -> Result<(LockedOperation<'e, 'a>, Box<dyn VmLock>), EngineError> {
        let snapshot = from.lock.snapshot().await;
        let midway = |error| from.midway(kind_of(&from.record), ProviderError::Record(error));
        let snapshot = snapshot.map_err(midway)?;
        let mut record = from.record.with_name(name);
        record.serial += 1;
        record.updated_at = Timestamp::now();
        self.ready(&mut record, from.is_ours, &*to);
        tracing::debug!(vm = %from.record.name, %name, "putting the record under its new name");
        to.put(&record, &snapshot).await.map_err(midway)?;
        self.remove_old(&mut from).await?;
        Ok((LockedOperation::new(self, to, record, from.is_ours), from.lock))
    }

    /// Removes the record from the old name, and everything here that is called by it.
    pub(super) async fn remove_old(&self, from: &mut LockedOperation<'_, 'a>) -> Result<(), EngineError> {
        // Before the record, which is the only reference to the entry.
        from.rename_host();
        let removed = from.remove_record().await;
        removed.map_err(|error| from.midway(kind_of(&from.record), ProviderError::Record(error)))
    }

    /// What follows a VM's name, and the end of the operation.
    async fn finish_rename(
        &self,
        mut renamed: LockedOperation<'_, 'a>,
        change: &NameChange,
    ) -> Result<Renamed, EngineError> {
        renamed.name_host();
        let at_boot = self.show_new_name(&renamed.record, change).await;
        renamed.record.end(Outcome::Done, Some(format!("from {} to {}", change.from, change.to)));
        renamed.save_result().await?;
        let record = renamed.record.clone();
        // The lock isn't needed for what only concerns the guest.
        drop(renamed);
        let hostname = match (self.change_hostname(&record, change, at_boot).await, at_boot) {
            (GuestHostname::Unchanged { .. }, HostnameAtBoot::New) => GuestHostname::NewAtBoot,
            (hostname, _) => hostname,
        };
        Ok(Renamed { record, from: change.from.clone(), hostname })
    }

    /// A failure is only a warning: the label isn't what the provider knows the machine by.
    async fn show_new_name(&self, record: &Record, change: &NameChange) -> HostnameAtBoot {
        let before = record.with_name(&change.from);
        match self.provider.show_new_name(&before, &change.to).await {
            Ok(at_boot) => at_boot,
            Err(error) => {
                let what = goloo_sys::error_chain::in_one_line(&error);
                self.events.event(Event::Warning(format!("{} shows the old name: {what}", record.provider)));
                if let Some(hint) = error.hint() {
                    self.events.event(Event::Hint(hint.clone()));
                }
                HostnameAtBoot::Unchanged
            }
        }
    }

    /// Changes the hostname of a running guest, if it is the VM's old name.
    async fn change_hostname(
        &self,
        record: &Record,
        change: &NameChange,
        at_boot: HostnameAtBoot,
    ) -> GuestHostname {
        if self.state_of(record).await != LiveState::Running {
            return GuestHostname::Unchanged { reason: "it isn't running".to_owned() };
        }
        hostname::set(self, record, &change.from, at_boot).await
    }

    /// Refuses a VM whose machine is only recognized by the VM's own name, because others can write its record.
    pub(super) fn expect_own_machine_name(&self, record: &Record) -> Result<(), EngineError> {
        if !record.host_bound || self.here.trust.is_trusted(record) || self.here.created(record) {
            return Ok(());
        }
        let name = &record.name;
        Err(EngineError::Refused {
            what: format!(
                "\"{name}\" can't get another name: its record doesn't prove that it was created with this state folder"
            ),
            hint: NextStep::Status(name.clone()).text(" shows who created it"),
        })
    }
}

/// What gives the VM another name.
fn kind_of(record: &Record) -> OperationKind {
    record.operation.as_ref().map_or(OperationKind::Rename, |operation| operation.kind)
}
