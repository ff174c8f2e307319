//! Create: claim the name, make the machine, wait for its provisioning.

use std::collections::BTreeMap;

use super::work::{UnderWay, leaves_work};
use super::{Engine, EngineError, Verdict, provision, set_addresses};
use crate::name::OperationId;
use crate::plan::CreatePlan;
use crate::provider::{Machine, Made, ProviderError, Work};
use crate::record::{
    CreateInputs, Creator, History, Operation, OperationKind, Outcome, Phase, Provisioning,
    ProvisioningResult, Record, SCHEMA, Step,
};
use crate::store::Snapshot;
use crate::text::SourcePath;
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
        record.prove(self.here, request.snapshot.digest());
        self.ready(&mut record, true, &*lock);
        lock.create(&mut record, &request.snapshot).await?;
        let mut under_way = UnderWay::new(self, lock, record, true);
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
            stack: stack.stack.as_str().into(),
            provider: self.provider.kind(),
            phase: Phase::Creating,
            created_at: now,
            updated_at: now,
            created_by: request.created_by.clone(),
            // A path that can't stand in a record is information that is lost, and no more.
            source_config_path: SourcePath::parse(&stack.folder).ok(),
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
            proof: None,
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
                ssh_cidr: request.plan.machine.stack.ssh_blocks().unwrap_or_default(),
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
        // An image that takes its time to come takes none of the machine's.
        let deadline = self.limits.deadline.unwrap_or_else(|| self.engine.deadline());
        match provision::verdict(self.engine, &self.record, deadline).await {
            Some(verdict) => Ok(verdict),
            None => Err(self.midway(OperationKind::Create, ProviderError::Interrupted)),
        }
    }

    async fn finish_create(&mut self, verdict: Option<&Verdict>) -> Result<(), EngineError> {
        match verdict {
            Some(verdict) => self.record.note_verdict(verdict),
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
        self.save_result().await
    }

    /// A create or clone that failed leaves nothing: what was made is removed and the record archived. When
    /// that fails too, the record stays and leads to what is left.
    pub(super) async fn undo(&mut self, kind: OperationKind, error: ProviderError) -> EngineError {
        // An earlier attempt may have come as far as the name.
        if self.remove_what_was_made().await.is_err() || self.forget_host().is_err() {
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

impl Record {
    /// Keeps what is known of the provisioning now.
    pub(super) fn note_verdict(&mut self, verdict: &Verdict) {
        self.provisioning = Some(verdict.provisioning());
        self.note_login(verdict);
    }

    /// Keeps whether the login user can log in, where the machine said; whether that is news.
    pub(super) fn note_login(&mut self, verdict: &Verdict) -> bool {
        let Some(ssh) = self.ssh.as_mut().filter(|_| verdict.is_reported) else { return false };
        let is_news = ssh.login_problem != verdict.login_problem;
        ssh.login_problem.clone_from(&verdict.login_problem);
        is_news
    }
}

impl UnderWay<'_, '_> {
    /// Without a resource on record nothing was made: [`Work::made`] is awaited before.
    async fn remove_what_was_made(&mut self) -> Result<(), ProviderError> {
        if self.record.resources.is_empty() {
            return Ok(());
        }
        let provider = self.engine.provider;
        let (record, mut work) = self.lend();
        work.step("removing what was made");
        provider.delete(&record, &mut work).await
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
    let is_good = provisioning.is_some_and(|provisioning| provisioning.result.is_good());
    if is_good { Phase::Ready } else { Phase::Degraded }
}
