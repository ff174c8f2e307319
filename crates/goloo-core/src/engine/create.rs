//! Create: claim the name, make the machine, wait for its provisioning.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::work::{UnderWay, leaves_work, note_lease};
use super::{Engine, EngineError, Verdict, provision, set_addresses};
use crate::name::OperationId;
use crate::plan::CreatePlan;
use crate::provider::{Machine, Made, ProviderError};
use crate::record::{
    CreateInputs, Creator, History, Operation, OperationKind, Outcome, Phase, Provisioning,
    ProvisioningResult, Record, SCHEMA, Step,
};
use crate::store::Snapshot;
use crate::time::Timestamp;

/// What a create is asked to do.
pub struct CreateRequest {
    /// The plan that `--dry-run` would have shown.
    pub plan: CreatePlan,
    /// The stack's files as they were read.
    pub snapshot: Snapshot,
    /// Who asks.
    pub created_by: Creator,
    /// GitHub users given on the command line.
    pub github_users: Vec<String>,
    /// The user's own labels.
    pub tags: BTreeMap<String, String>,
    /// Whether to wait until the machine is provisioned.
    pub wait: bool,
    /// Whether this computer is to know the VM by its name.
    pub hosts_entry: bool,
}

/// What a create made.
#[derive(Debug)]
pub struct Created {
    /// The record as it was last saved.
    pub record: Record,
    /// What cloud-init said; `None` when it wasn't waited for.
    pub verdict: Option<Verdict>,
}

impl Engine<'_> {
    /// Makes a VM. The name is claimed before the provider is called.
    pub async fn create(&self, request: CreateRequest) -> Result<Created, EngineError> {
        let name = &request.plan.machine.name;
        let mut lock = self.store.lock(name, self.owner).await?;
        if let Some(other) = super::record_under(&mut *lock).await? {
            return Err(taken(&other));
        }
        let mut record = self.first_record(&request);
        note_lease(&mut record, &*lock);
        lock.create(&mut record, &request.snapshot).await?;
        let mut under_way = UnderWay { engine: self, lock, record };
        under_way.make(&request.plan.machine).await
    }

    fn first_record(&self, request: &CreateRequest) -> Record {
        let plan = &request.plan;
        let stack = &plan.machine.stack;
        let now = Timestamp::now();
        let mut record = Record {
            schema: SCHEMA,
            id: plan.machine.id.clone(),
            serial: 0,
            name: plan.machine.name.clone(),
            stack: stack.stack.clone(),
            provider: self.provider.kind(),
            phase: Phase::Creating,
            created_at: now,
            updated_at: now,
            created_by: request.created_by.clone(),
            source_config_path: Some(PathBuf::from(&stack.folder)),
            origin: None,
            hosts_entry: request.hosts_entry,
            protected: false,
            ends_at: stack.ttl.and_then(|seconds| now.plus_seconds(seconds)),
            tags: request.tags.clone(),
            github_users: request.github_users.clone(),
            ssh: Some(plan.ssh.clone()),
            provisioning: None,
            operation: None,
            resources: Vec::new(),
            local: None,
            aws: None,
            history: History::default(),
            extra: serde_json::Map::new(),
        };
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
            }),
            ..self.operation(OperationKind::Create)
        }
    }
}

impl UnderWay<'_, '_> {
    /// From the durable intent to the durable result; also what `resume` goes on with.
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
        let verdict = if waits { Some(self.await_provisioning().await?) } else { None };
        self.finish_create(verdict.as_ref()).await?;
        Ok(Created { record: self.record.clone(), verdict })
    }

    async fn note_made(&mut self, made: Made) -> Result<(), EngineError> {
        set_addresses(&mut self.record, made);
        if let Some(operation) = &mut self.record.operation {
            operation.step = Step::Provisioning;
        }
        self.save_result().await
    }

    async fn await_provisioning(&mut self) -> Result<Verdict, EngineError> {
        match provision::verdict(self.engine, &self.record).await {
            Some(verdict) => Ok(verdict),
            None => Err(self.midway(OperationKind::Create, ProviderError::Interrupted)),
        }
    }

    async fn finish_create(&mut self, verdict: Option<&Verdict>) -> Result<(), EngineError> {
        self.record.provisioning = Some(match verdict {
            Some(verdict) => verdict.provisioning(),
            None => Provisioning {
                result: ProvisioningResult::Unknown,
                finished_at: None,
                errors: Vec::new(),
                extra: serde_json::Map::new(),
            },
        });
        self.record.phase = phase_after(self.record.provisioning.as_ref());
        self.record.end(Outcome::Done, verdict.and_then(Verdict::trouble));
        self.save_result().await
    }

    /// A create or clone that failed leaves nothing: what was made is removed and the record archived. When
    /// that fails too, the record stays and leads to what is left.
    pub(super) async fn undo(&mut self, kind: OperationKind, error: ProviderError) -> EngineError {
        let provider = self.engine.provider;
        let (record, mut work) = self.lend();
        crate::provider::Work::step(&work, "removing what was made");
        // An earlier attempt may have come as far as the name.
        if provider.delete(&record, &mut work).await.is_err() || self.forget_host().is_err() {
            return self.midway(kind, error);
        }
        self.record.phase = Phase::Destroyed;
        self.record.fail(&error);
        match self.archive_result().await {
            Ok(_) => EngineError::CreateFailed { name: self.record.name.clone(), source: error },
            Err(not_saved) => not_saved,
        }
    }
}

/// Why a name can't be used for a new VM: another one has it, finished or not.
pub fn taken(record: &Record) -> EngineError {
    super::refuse_unfinished(record)
        .err()
        .unwrap_or_else(|| EngineError::NameTaken { name: record.name.clone(), phase: record.phase })
}

/// A machine is ready when its provisioning is known to be done.
pub(super) fn phase_after(provisioning: Option<&Provisioning>) -> Phase {
    match provisioning.map(|provisioning| provisioning.result) {
        Some(ProvisioningResult::Done | ProvisioningResult::DoneWithWarnings) => Phase::Ready,
        _ => Phase::Degraded,
    }
}
