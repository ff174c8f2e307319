//! Environments.

use goloo::environment::graph::TaskEnd;
use goloo::environment::{EnvironmentError, MemberAction, MemberDone, PlannedDown, PlannedUp};
use goloo_model::change::Setting;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::Record;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::error::ErrorBody;
use super::vm::{Deleted, VmFailure};
use crate::error::CliError;

type MachineResult<T> = TaskEnd<Result<T, CliError>>;

/// What `up` would do.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EnvironmentPlanned<'a> {
    environment: &'a VmName,
    /// Each after those that it waits for
    machines: Vec<PlannedMachine<'a>>,
    /// VMs that the file no longer has; they are left alone
    removed: &'a [VmName],
    warnings: &'a [String],
}

#[derive(Debug, Serialize, JsonSchema)]
struct PlannedMachine<'a> {
    /// The VM's name
    name: &'a VmName,
    /// Its name among the machines of the environment
    machine: String,
    provider: ProviderId,
    /// "create", "resume", "apply", "replace", "start", "check", "nothing" or "refused"
    action: &'static str,
    /// The keys in config.json that are changed, or the files
    changes: Vec<&'static str>,
    restarts: bool,
    /// Whether changed cloud-init.yaml and configure.sh run in the machine again
    reprovisions: bool,
    /// What differs and stays, since it needs a new VM or provisioning again
    left: Vec<&'static str>,
    /// Why it is left alone
    refusal: Option<String>,
    /// The VMs that come before
    after: Vec<&'a VmName>,
}

impl<'a> EnvironmentPlanned<'a> {
    pub fn new(planned: &'a PlannedUp) -> Self {
        let machines = planned.steps.iter().map(|step| PlannedMachine {
            name: &step.name,
            machine: step.member.short_name(),
            provider: step.provider,
            action: word(&step.action),
            changes: match &step.action {
                MemberAction::Apply { settings, .. } | MemberAction::Replace { settings } => {
                    settings.iter().copied().map(Setting::key).collect()
                }
                _ => Vec::new(),
            },
            restarts: step.restarts(),
            reprovisions: step.reprovisions(),
            left: step.left.iter().map(|change| change.setting.key()).collect(),
            refusal: match &step.action {
                MemberAction::Refused(refusal) => {
                    let (name, refusal) = (step.name.clone(), refusal.clone());
                    Some(EnvironmentError::Refused { name, refusal }.to_string())
                }
                _ => None,
            },
            after: step.after.iter().map(|place| &planned.steps[*place].name).collect(),
        });
        Self {
            environment: &planned.environment.name,
            machines: machines.collect(),
            removed: &planned.removed,
            warnings: &planned.warnings,
        }
    }
}

fn word(action: &MemberAction) -> &'static str {
    match action {
        MemberAction::Create => "create",
        MemberAction::Resume(_) => "resume",
        MemberAction::Apply { .. } => "apply",
        MemberAction::Replace { .. } => "replace",
        MemberAction::Start => "start",
        MemberAction::Check => "check",
        MemberAction::Nothing => "nothing",
        MemberAction::Refused(_) => "refused",
    }
}

/// What `up` has done.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BroughtUp<'a> {
    environment: &'a VmName,
    machines: Vec<MachineEnd<'a>>,
    /// VMs that the file no longer has; they are left alone
    removed: &'a [VmName],
}

#[derive(Debug, Serialize, JsonSchema)]
struct MachineEnd<'a> {
    /// The VM's name
    name: &'a VmName,
    /// What was planned: "create", "resume", "apply", "replace", "start", "check", "nothing" or "refused"
    action: &'static str,
    /// "ready", "degraded", "failed", "skipped", since a machine that it waits for isn't ready, or "not-started", after an
    /// interrupt
    result: &'static str,
    /// The record, without private keys
    #[serde(serialize_with = "record_as_output")]
    vm: Option<&'a Record>,
    error: Option<ErrorBody<'a>>,
}

fn record_as_output<S: Serializer>(record: &Option<&Record>, serializer: S) -> Result<S::Ok, S::Error> {
    record.map(Record::to_output).serialize(serializer)
}

impl<'a> BroughtUp<'a> {
    pub fn new(
        environment: &'a VmName,
        machines: impl Iterator<Item = ((&'a VmName, &'a MemberAction), &'a MachineResult<MemberDone>)>,
        removed: &'a [VmName],
    ) -> Self {
        let machines = machines.map(|((name, action), end)| {
            let (result, vm, error) = match end {
                TaskEnd::Ran(Ok(done)) if done.is_good() => ("ready", Some(done.record()), None),
                TaskEnd::Ran(Ok(done)) => ("degraded", Some(done.record()), None),
                TaskEnd::Ran(Err(error)) => ("failed", None, Some(error.into())),
                TaskEnd::Skipped(_) => ("skipped", None, None),
                TaskEnd::NotStarted => ("not-started", None, None),
            };
            MachineEnd { name, action: word(action), result, vm, error }
        });
        Self { environment, machines: machines.collect(), removed }
    }
}

/// What `down` has done.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TakenDown<'a> {
    #[serde(flatten)]
    deleted: Deleted<'a>,
    /// VMs that stay, since they are protected
    protected: &'a [VmName],
    /// VMs that stay, since the user said so
    kept: &'a [VmName],
}

impl<'a> TakenDown<'a> {
    pub fn new(planned: &'a PlannedDown, ends: &'a [MachineResult<ArchiveId>]) -> Self {
        let ended = || planned.vms.iter().map(|record| &record.name).zip(ends);
        let deleted = ended().filter_map(|(name, end)| match end {
            TaskEnd::Ran(Ok(id)) => Some((name, id)),
            _ => None,
        });
        let errors = ended().filter_map(|(name, end)| match end {
            TaskEnd::Ran(Err(error)) => Some(VmFailure::new(name, error)),
            _ => None,
        });
        Self {
            deleted: Deleted::new(deleted, errors.collect()),
            protected: &planned.protected,
            kept: &planned.kept,
        }
    }
}
