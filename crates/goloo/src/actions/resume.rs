//! Continues interrupted operations.

use goloo_cloudinit::ComposeInput;
use goloo_engine::plan::{self, MachineIdentity};
use goloo_engine::{Agreed, RebuildError, ResumeInputs, Resumed};
use goloo_model::events::EventContext;
use goloo_model::hint::Hint;
use goloo_model::host_key::HostKey;
use goloo_model::name::OperationId;
use goloo_model::provider::{Machine, Provider};
use goloo_model::record::{CreateInputs, ImportInputs, OperationKind, Record};
use goloo_model::spec::{ResolvedStack, SshSource, ssh_source};
use goloo_model::store::Snapshot;

use crate::error::Error;
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
        let client_key = self.keys.client_key()?.0.clone();
        let rebuild = |record: &Record, inputs: &CreateInputs, snapshot: &Snapshot| {
            self.rebuild(provider, record, inputs, snapshot)
        };
        let reopen = |_: &Record, inputs: &ImportInputs| self.reopen(inputs);
        let inputs = ResumeInputs { rebuild: &rebuild, reopen: &reopen, client_key: &client_key };
        let resumed = self.operate(EventContext::of(name, kind), provider, run, async |engine| {
            engine.resume(name, agreed, inputs).await
        })??;
        if let Resumed::Renamed(renamed) = &resumed {
            self.rename_docker_context(&renamed.record);
        }
        Ok(resumed)
    }

    /// The stack of the snapshot that an interrupted create started with.
    ///
    /// # Errors
    /// When its files don't validate.
    pub fn stack_of_snapshot(&self, record: &Record, snapshot: &Snapshot) -> Result<ResolvedStack, Error> {
        let found = Found::of_record(snapshot.clone(), record);
        let stack = found.resolve(self, &record.stack, Some(&record.name))?;
        Ok(goloo_model::spec::with_github_users(stack, &record.github_users))
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
            host_key: &host_key,
            provider: provider.info(),
            renderer: &ProcessRenderer,
        };
        let token = record.operation.as_ref().map(|operation| operation.token.clone());
        let machine = MachineIdentity {
            id: record.id.clone(),
            token: token.unwrap_or_else(OperationId::generate),
            name: record.machine_name().clone(),
        };
        let plan = plan::create(&input, provider, machine).map_err(|error| failed(error.into()))?;
        Ok(Machine { force_dns: inputs.force_dns, ..plan.machine })
    }
}

/// Replaces "me" with the CIDR blocks that an earlier create used. Blocks in the format of a later version are skipped.
pub(super) fn known_sources(known: &[String]) -> Vec<SshSource> {
    known.iter().filter_map(|block| ssh_source(block)).collect()
}
