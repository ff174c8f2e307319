//! Replaces VMs by new ones, for changes that a machine can't get.

use goloo_engine::{Created, EngineError, Replaced, ReplacementRequest, free_name, refuse_protected};
use goloo_model::change::SettingChange;
use goloo_model::events::EventContext;
use goloo_model::name::VmName;
use goloo_model::record::{OperationKind, Overrides, Record};
use goloo_model::spec::SshSource;
use goloo_model::store::StoreError;

use super::apply::PlannedApply;
use super::create::{CreateOptions, PlannedCreate};
use crate::error::{Error, RequestError};
use crate::operation::{ManagedVm, RunOptions};
use crate::session::Session;

/// A planned replacement; nothing has been created yet.
pub struct PlannedReplacement {
    /// The new VM.
    pub create: PlannedCreate,
    /// All differences between the old VM and its stack.
    pub changes: Vec<SettingChange>,
    /// The overrides that the new VM has.
    pub overrides: Overrides,
    /// The old VM.
    pub old: Record,
    /// The new VM's name until it is ready.
    pub name: VmName,
    /// The snapshots of the old VM, which are deleted with it.
    pub snapshots: Vec<String>,
}

impl PlannedReplacement {
    /// The addresses that may connect to port 22 of the old VM, where its stack left them to goloo.
    pub fn known_ssh_sources(&self, session: &Session) -> Vec<String> {
        let is_left_open =
            self.old.resolved.as_deref().is_some_and(|stack| {
                stack.ssh_sources().is_ok_and(|sources| sources.contains(&SshSource::Me))
            });
        let factory = session.providers.get(self.old.provider).filter(|_| is_left_open);
        factory.map(|factory| factory.ssh_blocks(&self.old)).unwrap_or_default()
    }
}

/// How a replacement ended.
#[derive(Debug)]
pub enum ReplaceOutcome {
    /// The new VM has the name, and the old one is deleted.
    Done(Box<Replaced>),
    /// The new VM isn't ready. The old one is as it was.
    NotReady(Box<Created>),
}

impl Session {
    /// Plans the replacement of a VM by one that is made from its stack as it is now, with its overrides. Nothing is
    /// changed or written; keys of users are fetched.
    ///
    /// # Errors
    /// When the VM is protected, has no stack, or is being replaced already, and when its provider can't create the new one.
    pub fn plan_replacement(&self, planned: PlannedApply) -> Result<PlannedReplacement, Error> {
        let PlannedApply { changes, overrides, vm: ManagedVm { record, provider }, source, .. } = planned;
        refuse_protected(&record)?;
        if !source.is_own {
            return Err(RequestError::NoRecordedFiles { name: record.name }.into());
        }
        if let Some(new) = self.pending(|replacing| replacing.id == record.id)? {
            let (name, new, phase) = (record.name, new.name, new.phase);
            return Err(EngineError::ReplacementExists { name, new, phase }.into());
        }
        let name = free_name(&record.name, "new", &self.local(self.store.names())?);
        let snapshots = provider.snapshots().map(|snapshots| self.wait_for(snapshots.list(&record)));
        // Only for the question: a provider that can't list them is no reason against a new VM.
        let snapshots = snapshots.transpose()?.and_then(Result::ok).unwrap_or_default();
        let options = CreateOptions {
            github_users: record.github_users.clone(),
            tags: record.tags.clone(),
            hosts_entry: record.hosts_entry,
            membership: record.membership.clone(),
            overrides: overrides.clone(),
            // With overrides, the snapshot's config.json isn't the user's.
            applied_config: source.found.config_digest().filter(|_| !overrides.is_empty()),
            ..CreateOptions::new(record.provider)
        };
        // As for a copy: the old machine still has its ports.
        let stack = goloo_model::spec::ResolvedStack { is_copy: true, ..source.stack };
        let mut create = self.plan_stack(provider, &source.found, stack, options)?;
        create.plan.machine.is_replacement = true;
        create.snapshot = source.found.snapshot_with(&overrides)?;
        create.replacement = Some(ReplacementRequest { old: record.clone(), name: name.clone() });
        let snapshots = snapshots.into_iter().map(|snapshot| snapshot.label).collect();
        Ok(PlannedReplacement { create, changes, overrides, old: record, name, snapshots })
    }

    /// Creates the new VM of a plan, and once it is ready gives it the name of the old one, which is deleted.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operation. An interrupted replacement is continued by [`Self::resume`].
    pub fn replace(
        &self,
        planned: PlannedReplacement,
        run: &RunOptions<'_>,
    ) -> Result<ReplaceOutcome, Error> {
        let created = self.create(planned.create, run)?;
        if created.verdict.as_ref().is_none_or(|verdict| !verdict.result.is_good()) {
            return Ok(ReplaceOutcome::NotReady(Box::new(created)));
        }
        let provider = self.provider_of(&created.record)?;
        let name = &created.record.name;
        let context = EventContext::of(name, Some(OperationKind::Replace));
        let replaced =
            self.operate(context, &*provider, run, async |engine| engine.finish_replacement(name).await)??;
        Ok(ReplaceOutcome::Done(Box::new(replaced)))
    }

    /// The VM whose operation is to be resumed: the one of this name, or the one that is to replace it.
    ///
    /// # Errors
    /// As [`Self::managed`].
    pub fn to_resume(&self, name: &VmName) -> Result<ManagedVm, Error> {
        let (new, found) = match self.managed(name) {
            Ok(vm) if vm.record.operation.is_none() && vm.record.replacing.is_none() => {
                (self.pending(|replacing| replacing.id == vm.record.id)?, Ok(vm))
            }
            Err(Error::Store(StoreError::NotFound { name })) => {
                (self.pending(|replacing| replacing.name == name)?, Err(StoreError::NotFound { name }.into()))
            }
            found => (None, found),
        };
        match new {
            Some(new) => self.managed(&new.name),
            None => found,
        }
    }

    /// The VM that is to replace such a VM.
    fn pending(
        &self,
        is_it: impl Fn(&goloo_model::record::Replacing) -> bool,
    ) -> Result<Option<Record>, Error> {
        let records = self.local(self.store.records())?.entries.into_iter().map(|loaded| loaded.record);
        Ok(records.into_iter().find(|record| record.replacing.as_ref().is_some_and(&is_it)))
    }
}
