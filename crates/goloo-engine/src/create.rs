//! Create: claims the name, creates the machine, waits for its provisioning.

use std::collections::BTreeMap;

use super::work::{LockedOperation, leaves_work};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::network_names;
use crate::plan::CreatePlan;
use crate::provision;
use crate::verdict::Verdict;
use goloo_model::name::{OperationId, VmName};
use goloo_model::provider::{Endpoints, Machine, ProviderError, Work};
use goloo_model::record::{
    Baking, CreateInputs, Creator, Digest, NewRecord, Operation, OperationKind, Outcome, Overrides, Phase,
    Provisioning, ProvisioningResult, Record, RecordedStack, Replacing, Step, UserKeys,
};
use goloo_model::store::Snapshot;
use goloo_model::text::SourcePath;
use tokio::time::Instant;

/// The parameters of a create.
pub struct CreateRequest {
    /// The plan that `--dry-run` would have shown.
    pub plan: CreatePlan,
    /// The stack's files as read.
    pub snapshot: Snapshot,
    /// The user who creates it.
    pub created_by: Creator,
    /// GitHub users given on the command line.
    pub github_users: Vec<String>,
    /// The user's own labels.
    pub tags: BTreeMap<String, String>,
    /// Whether to wait until the machine is provisioned.
    pub wait: bool,
    /// Whether this host's /etc/hosts should contain the VM's name.
    pub hosts_entry: bool,
    /// The image that is to be made of it, if it exists only for that.
    pub baking: Option<Baking>,
    /// The overrides that its stack has.
    pub overrides: Overrides,
    /// The config.json whose settings its stack has, if it isn't the one in the snapshot.
    pub applied_config: Option<Digest>,
    /// The VM that it is to replace, if it is for that.
    pub replacement: Option<ReplacementRequest>,
}

/// Which VM a new one is to replace.
pub struct ReplacementRequest {
    /// The other one, as the user confirmed it.
    pub old: Record,
    /// The new VM's name until it replaces the old one.
    pub name: VmName,
}

impl CreateRequest {
    /// The name of the VM in the store.
    pub fn name(&self) -> &VmName {
        self.replacement.as_ref().map_or(&self.plan.machine.name, |replacement| &replacement.name)
    }
}

/// The result of a create.
#[derive(Debug)]
pub struct Created {
    /// The record as it was last saved.
    pub record: Record,
    /// The result of provisioning; `None` if it wasn't waited for.
    pub verdict: Option<Verdict>,
}

impl Engine<'_> {
    /// Creates a VM. The name is claimed before the provider is called.
    pub async fn create(&self, request: CreateRequest) -> Result<Created, EngineError> {
        let mut locked = self.claim(&request).await?;
        locked.make(&request.plan.machine).await
    }

    /// Claims the name, durably.
    pub(super) async fn claim(
        &self,
        request: &CreateRequest,
    ) -> Result<LockedOperation<'_, '_>, EngineError> {
        let name = request.name();
        let (old, mut lock) = match &request.replacement {
            Some(replacement) => {
                let (old, lock) = self.lock_for_replacement(replacement).await?;
                (Some(old), lock)
            }
            None => (None, self.store.lock(name, self.owner).await?),
        };
        if let Some(other) = crate::engine::record_under(&mut *lock).await? {
            return Err(taken(&other));
        }
        let mut record = self.first_record(request);
        record.prove(self.here, request.snapshot.digest());
        self.ready(&mut record, true, &*lock);
        tracing::debug!(vm = %name, provider = %record.provider, "claiming the name");
        lock.create(&mut record, &request.snapshot).await?;
        drop(old);
        Ok(LockedOperation::new(self, lock, record, true))
    }

    fn first_record(&self, request: &CreateRequest) -> Record {
        let plan = &request.plan;
        let stack = &plan.machine.stack;
        let mut record = Record::new(NewRecord {
            id: plan.machine.id.clone(),
            name: request.name().clone(),
            stack: stack.stack.as_str().into(),
            provider: self.provider.id(),
            host_bound: self.provider.info().is_host_bound(),
            phase: Phase::Creating,
            created_by: request.created_by.clone(),
        });
        record.set_machine_name(plan.machine.machine_name.clone());
        // A path that can't stand in a record is information that is lost, and no more.
        record.source_config_path = SourcePath::parse(&stack.folder).ok();
        record.hosts_entry = request.hosts_entry;
        record.ends_at = stack.ttl.and_then(|seconds| record.created_at.plus_seconds(seconds));
        record.tags.clone_from(&request.tags);
        record.github_users.clone_from(&request.github_users);
        record.ssh = Some(plan.ssh.clone());
        record.resolved = RecordedStack::of(stack).map(Box::new);
        record.baking.clone_from(&request.baking);
        record.baked_from.clone_from(&plan.machine.baked);
        record.membership.clone_from(&plan.machine.membership);
        record.user_keys = Some(UserKeys::digest(&plan.users));
        record.overrides.clone_from(&request.overrides);
        record.applied_config.clone_from(&request.applied_config);
        let replaced = request.replacement.as_ref();
        record.replacing = replaced
            .map(|replaced| Replacing { id: replaced.old.id.clone(), name: plan.machine.name.clone() });
        record.begin(self.create_operation(request));
        record
    }

    fn create_operation(&self, request: &CreateRequest) -> Operation {
        let token: &OperationId = &request.plan.machine.token;
        Operation {
            id: token.clone(),
            token: token.clone(),
            inputs: Some(CreateInputs {
                host_key: request.plan.host_key_private.clone(),
                users: request.plan.users.clone(),
                wait: request.wait,
                force_dns: request.plan.machine.force_dns,
                ssh_cidr: request.plan.machine.stack.ssh_blocks().unwrap_or_default(),
            }),
            ..self.operation(OperationKind::Create)
        }
    }
}

impl LockedOperation<'_, '_> {
    /// From the durable intent to the durable result; also what `resume` continues.
    pub(super) async fn make(&mut self, machine: &Machine) -> Result<Created, EngineError> {
        self.stop_if_interrupted(OperationKind::Create)?;
        let provider = self.engine.provider;
        let (_, mut work) = self.lend();
        match provider.create(machine, &mut work).await {
            Ok(made) => self.note_made(made).await?,
            Err(error) if leaves_work(&error) || machine.keep_failed => {
                return Err(self.midway(OperationKind::Create, error));
            }
            Err(error) => return Err(self.undo(OperationKind::Create, error).await),
        }
        self.name_host();
        let waits = self.record.operation.as_ref().and_then(|op| op.inputs.as_ref()).is_none_or(|i| i.wait);
        let identity = self.give_identity(machine, self.deadline()).await?;
        // Not as the machine whose memory it continues from.
        let connected = self.connect_network().await;
        connected.map_err(|error| self.midway(OperationKind::Create, error))?;
        let verdict = match identity {
            Some(verdict) => {
                network_names::write_or_warn(self.engine, &self.record).await;
                Some(verdict)
            }
            None if waits => Some(self.await_provisioning().await?),
            None => None,
        };
        self.finish_create(verdict.as_ref()).await?;
        Ok(Created { record: self.record.clone(), verdict })
    }

    async fn note_made(&mut self, endpoints: Endpoints) -> Result<(), EngineError> {
        endpoints.write_to(&mut self.record);
        if let Some(operation) = &mut self.record.operation {
            operation.step = Step::Provisioning;
        }
        self.save_result().await
    }

    /// The time for downloading an image doesn't count against the machine's limit.
    fn deadline(&self) -> Instant {
        self.limits.deadline.unwrap_or_else(|| self.engine.deadline())
    }

    async fn await_provisioning(&mut self) -> Result<Verdict, EngineError> {
        let deadline = self.deadline();
        self.say_names(deadline).await;
        match provision::verdict(self.engine, &self.record, deadline).await {
            Some(verdict) => Ok(verdict),
            None => Err(self.midway(OperationKind::Create, ProviderError::Interrupted)),
        }
    }

    /// Its provisioning may need the other machines of its environment.
    async fn say_names(&self, deadline: Instant) {
        let is_reachable = network_names::has_names(self.engine, &self.record).await
            && provision::reach(self.engine, &self.record, deadline).await.is_ok();
        if is_reachable {
            network_names::write_or_warn(self.engine, &self.record).await;
        }
    }

    async fn finish_create(&mut self, verdict: Option<&Verdict>) -> Result<(), EngineError> {
        match verdict {
            Some(verdict) => verdict.save_to(&mut self.record),
            None => {
                self.record.provisioning = Some(Provisioning {
                    result: ProvisioningResult::Unknown,
                    finished_at: None,
                    errors: Vec::new(),
                    extra: serde_json::Map::new(),
                });
            }
        }
        self.record.phase = phase_after(self.record.provisioning.as_ref());
        self.record.end(Outcome::Done, verdict.and_then(Verdict::trouble));
        if self.record.baking.is_some() {
            self.begin_bake();
        }
        self.save_result().await
    }

    /// Rolls back a failed create or clone: what was created is removed and the record archived, or only the name
    /// released where nothing was created. If that fails too, the record is kept and refers to what is left.
    pub(super) async fn undo(&mut self, kind: OperationKind, error: ProviderError) -> EngineError {
        // An earlier attempt may already have added the hosts entry.
        if self.remove_what_was_made().await.is_err() || self.forget_host().is_err() {
            return self.midway(kind, error);
        }
        let made_nothing = self.record.resources.is_empty();
        self.record.phase = Phase::Destroyed;
        self.record.fail(&error);
        let archived = self.archive_result().await;
        self.forget_guest().await;
        if let Ok(id) = &archived
            && made_nothing
        {
            // There is nothing to look up later. An entry that stays says so by itself.
            let _ = self.engine.store.archive_delete(id, self.engine.owner).await;
        }
        match archived {
            Ok(_) => EngineError::CreateFailed { name: self.record.name.clone(), source: error },
            Err(not_saved) => not_saved,
        }
    }
}

impl LockedOperation<'_, '_> {
    /// Without a resource on record nothing was made: [`Work::record_resource`] is awaited before.
    async fn remove_what_was_made(&mut self) -> Result<(), ProviderError> {
        if self.record.resources.is_empty() {
            return Ok(());
        }
        let provider = self.engine.provider;
        let (record, mut work) = self.lend();
        work.step("removing the resources that were created");
        provider.delete(&record, &mut work).await
    }
}

/// Why a name can't be used for a new VM: it belongs to another one, finished or not.
pub fn taken(record: &Record) -> EngineError {
    crate::engine::refuse_unfinished(record)
        .err()
        .unwrap_or_else(|| EngineError::NameTaken { name: record.name.clone(), phase: record.phase })
}

/// The phase after a create: ready only if provisioning is known to have succeeded.
pub(super) fn phase_after(provisioning: Option<&Provisioning>) -> Phase {
    let is_good = provisioning.is_some_and(|provisioning| provisioning.result.is_good());
    if is_good { Phase::Ready } else { Phase::Degraded }
}
