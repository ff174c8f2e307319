//! Continues interrupted operations.

use goloo_cloudinit::ComposeInput;
use goloo_engine::plan::{self, MachineIdentity};
use goloo_engine::{Agreed, GuestInputs, RebuildError, ResumeInputs, Resumed};
use goloo_model::events::EventContext;
use goloo_model::hint::Hint;
use goloo_model::host_key::HostKey;
use goloo_model::name::OperationId;
use goloo_model::provider::{Machine, Provider};
use goloo_model::record::{AppliedSettings, CreateInputs, ImportInputs, OperationKind, Record};
use goloo_model::spec::{ResolvedStack, SshSource, ssh_source};
use goloo_model::store::Snapshot;

use super::bake::for_baking;
use crate::error::{Error, RequestError};
use crate::operation::{ManagedVm, RunOptions};
use crate::render::ProcessRenderer;
use crate::session::Session;
use crate::stack::Found;

impl Session {
    /// What the user has to agree to before a VM's operation is resumed, because nothing proves that it was started
    /// with this state folder: somebody else may have written it. `None` when no agreement is needed.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn needs_agreement(&self, record: &Record) -> Result<Option<Agreed>, Error> {
        let here = self.here();
        let Some(operation) = &record.operation else { return Ok(None) };
        let is_create = operation.kind == OperationKind::Create;
        let snapshot =
            if is_create { self.local(self.store.snapshot(&record.name))? } else { Snapshot::default() };
        if here.started_operation(record) && (!is_create || here.created_from(record, &snapshot)) {
            return Ok(None);
        }
        Ok(Some(Agreed { record: record.clone(), snapshot }))
    }

    /// Continues an interrupted operation. `agreed` is what the user agreed to, see [`Self::needs_agreement`]; a record
    /// that has changed since is refused.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operation.
    pub fn resume(
        &self,
        vm: &ManagedVm,
        agreed: Option<&Agreed>,
        run: &RunOptions<'_>,
    ) -> Result<Resumed, Error> {
        let (name, provider) = (&vm.record.name, &*vm.provider);
        let kind = vm.record.operation.as_ref().map(|operation| operation.kind);
        let client_key = &self.keys.client_key()?.0;
        let reprovision = self.reprovision_again(vm)?;
        let guest = GuestInputs { client_key, reprovision: reprovision.as_ref() };
        let rebuild = |record: &Record, inputs: &CreateInputs, snapshot: &Snapshot| {
            self.rebuild(provider, record, inputs, snapshot)
        };
        let reopen = |_: &Record, inputs: &ImportInputs| self.reopen(inputs);
        let inputs = ResumeInputs { rebuild: &rebuild, reopen: &reopen, guest };
        let resumed = self.operate(EventContext::of(name, kind), provider, run, async |engine| {
            engine.resume(name, agreed, inputs).await
        })??;
        if let Resumed::Renamed(renamed) = &resumed {
            self.rename_docker_context(&renamed.record);
        }
        Ok(resumed)
    }

    /// The stack that an interrupted create started with: that of its snapshot, with the settings that a recreated VM has
    /// in place of those.
    ///
    /// # Errors
    /// When its files or these settings aren't valid.
    pub fn stack_of_snapshot(&self, record: &Record, snapshot: &Snapshot) -> Result<ResolvedStack, Error> {
        let found = Found::of_record(snapshot.clone(), record);
        // A VM for baking has a name that the document doesn't have in it.
        let name = record.baking.is_none().then(|| record.guest_name());
        let mut stack = found.resolve(self, &record.stack, name)?;
        stack.is_copy |= record.replacing.is_some();
        let mut stack = goloo_model::spec::with_github_users(stack, &record.github_users);
        if let Some(vm) = record.resolved.as_deref().filter(|_| record.baking.is_none()) {
            AppliedSettings::between(&stack, vm).give_to(&mut stack).map_err(RequestError::from)?;
        }
        Ok(stack)
    }

    /// Rebuilds the machine of an interrupted create from its snapshot, its keys and its host key.
    fn rebuild(
        &self,
        provider: &dyn Provider,
        record: &Record,
        inputs: &CreateInputs,
        snapshot: &Snapshot,
    ) -> Result<Machine, RebuildError> {
        let failed = |error: Error| {
            let problems = error.problems().iter().map(ToString::to_string);
            let what = std::iter::once(error.in_one_line()).chain(problems).collect::<Vec<_>>().join(": ");
            let hint = error.problems().first().map(|problem| problem.hint.clone()).unwrap_or_default();
            RebuildError { what, hint }
        };
        let mut stack = self.stack_of_snapshot(record, snapshot).map_err(failed)?;
        if record.baking.is_some() {
            stack.ttl = None;
        }
        let sources = known_sources(&inputs.ssh_cidr);
        if !sources.is_empty() {
            stack.ssh_cidr = sources;
        }
        let host_key = HostKey::from_private(&inputs.host_key)
            .map_err(|error| RebuildError { what: error.to_string(), hint: Hint::default() })?;
        let client_key = self.keys.client_key().map_err(failed)?;
        let input = ComposeInput {
            stack: &stack,
            users: &inputs.users,
            client_key: &client_key.0,
            host_key: None,
            provider: provider.info(),
            network: provider
                .networks()
                .and(record.membership.as_ref())
                .and_then(|membership| membership.network),
            renderer: &ProcessRenderer,
        };
        let token = record.operation.as_ref().map(|operation| operation.token.clone());
        let machine = MachineIdentity {
            id: record.id.clone(),
            token: token.unwrap_or_else(OperationId::generate),
            name: record.machine_name().clone(),
        };
        let plan =
            plan::create(&input, &host_key, provider, machine).map_err(|error| failed(error.into()))?;
        let mut machine = Machine {
            force_dns: inputs.force_dns,
            is_replacement: record.replacing.is_some(),
            is_for_baking: record.baking.is_some(),
            baked: record.baked_from.clone(),
            membership: record.membership.clone(),
            ..plan.machine
        };
        if machine.is_for_baking {
            machine.name = record.name.clone();
            for_baking(&mut machine.stack);
        }
        Ok(machine)
    }
}

/// Replaces "me" with the CIDR blocks that an earlier create used. Blocks in the format of a later version are skipped.
pub(super) fn known_sources(known: &[String]) -> Vec<SshSource> {
    known.iter().filter_map(|block| ssh_source(block)).collect()
}
