//! VMs, active and deleted.

use std::borrow::Cow;
use std::collections::BTreeMap;

use goloo::actions::{self, ArchivedFiles, Incarnation, ListedVm, VmStatus};
use goloo_engine::plan::CreatePlan;
use goloo_engine::{GuestHostname, Renamed};
use goloo_model::automatic_ports::AutomaticPorts;
use goloo_model::name::{ArchiveId, VmId, VmName};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{ForwardedPort, HistoryAction, HistoryEntry, Origin, Outcome, Phase, Record, Word};
use goloo_model::store::{Archived, Broken, Listing, Summary};
use goloo_model::time::Timestamp;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use serde_json::Value;

use super::error::ErrorBody;
use crate::error::CliError;
use crate::output::{diagnostic_line, hint};

/// See [`Record::to_output`].
pub(super) fn as_output<S: Serializer>(record: &&Record, serializer: S) -> Result<S::Ok, S::Error> {
    record.to_output().serialize(serializer)
}

/// A VM that was created or changed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChangedVm<'a> {
    /// The record, without private keys
    #[serde(serialize_with = "as_output")]
    pub vm: &'a Record,
}

/// A VM that was renamed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RenamedVm<'a> {
    /// The record, without private keys
    #[serde(serialize_with = "as_output")]
    vm: &'a Record,
    /// Its old name
    from: &'a VmName,
    /// The hostname of its guest: "new", "own" if the VM's name never decided it, "new-at-boot", or "unchanged"
    hostname: &'static str,
}

impl<'a> From<&'a Renamed> for RenamedVm<'a> {
    fn from(renamed: &'a Renamed) -> Self {
        let hostname = match &renamed.hostname {
            GuestHostname::New => "new",
            GuestHostname::Own => "own",
            GuestHostname::NewAtBoot => "new-at-boot",
            GuestHostname::Unchanged { .. } => "unchanged",
        };
        Self { vm: &renamed.record, from: &renamed.from, hostname }
    }
}

/// Several VMs that were created or changed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChangedVms<'a> {
    pub vms: Vec<ChangedVm<'a>>,
    /// VMs for which it failed
    pub errors: Vec<VmFailure<'a>>,
}

/// A VM for which a command failed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VmFailure<'a> {
    name: &'a VmName,
    #[serde(flatten)]
    error: ErrorBody<'a>,
}

impl<'a> VmFailure<'a> {
    pub fn new(name: &'a VmName, error: &'a CliError) -> Self {
        Self { name, error: error.into() }
    }
}

/// What a create would do.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CreatePlanned<'a> {
    plan: Plan<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Plan<'a> {
    name: &'a VmName,
    provider: ProviderId,
    stack: &'a str,
    /// What would be done, in order
    steps: &'a [String],
    warnings: Vec<Cow<'a, str>>,
    user_data: Cow<'a, str>,
    /// The provider's own details, by the provider's name
    #[serde(flatten)]
    detail: BTreeMap<&'a str, &'a Value>,
}

impl<'a> From<&'a CreatePlan> for CreatePlanned<'a> {
    fn from(plan: &'a CreatePlan) -> Self {
        let CreatePlan { machine, kind, provider, warnings, diagnostics, .. } = plan;
        let diagnostics = diagnostics.iter().map(|diagnostic| diagnostic_line(diagnostic).into());
        let warnings = warnings.iter().chain(&provider.warnings).map(|text| text.as_str().into());
        Self {
            plan: Plan {
                name: &machine.name,
                provider: *kind,
                stack: &machine.stack.stack,
                steps: &provider.steps,
                warnings: diagnostics.chain(warnings).collect(),
                user_data: String::from_utf8_lossy(&machine.user_data),
                detail: BTreeMap::from([(kind.as_str(), &provider.detail)]),
            },
        }
    }
}

/// A resumed operation that neither created a VM nor moved DNS names.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Resumed<'a> {
    /// What was done, as a sentence
    pub resumed: &'a str,
}

/// VMs were deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Deleted<'a> {
    deleted: Vec<DeletedVm<'a>>,
    /// VMs that were not deleted
    errors: Vec<VmFailure<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedVm<'a> {
    name: &'a VmName,
    /// The id of the archived record
    archive_id: &'a ArchiveId,
}

impl<'a> DeletedVm<'a> {
    pub fn new(name: &'a VmName, archive_id: &'a ArchiveId) -> Self {
        Self { name, archive_id }
    }
}

impl<'a> Deleted<'a> {
    pub fn new(
        deleted: impl Iterator<Item = (&'a VmName, &'a ArchiveId)>,
        errors: Vec<VmFailure<'a>>,
    ) -> Self {
        let deleted = deleted.map(|(name, id)| DeletedVm::new(name, id));
        Self { deleted: deleted.collect(), errors }
    }
}

/// Details of a VM.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VmDetails<'a> {
    /// The record, without private keys
    #[serde(serialize_with = "as_output")]
    vm: &'a Record,
    live: Live<'a>,
    usage: Usage,
    /// Ports that are forwarded because the machine listens on them (vm.auto_ports); null if it isn't running or has none
    automatic_ports: Option<AutomaticPortsOfVm<'a>>,
    /// How its stack differs from the files that it was created from: "none", "changed", "gone" or "unknown"
    drift: &'a str,
    /// Whether it has a record; false for a VM of goloo v0 that is only defined in a config
    imported: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Live<'a> {
    /// "running", "stopped", "suspended", "missing" or "unknown"
    state: &'a str,
    ip: Option<&'a str>,
    /// Why the state is unknown, or a remark on it
    reason: Option<String>,
    /// Since when it has been running, if its provider tells that
    started_at: Option<Timestamp>,
}

/// What the machine uses of this computer, in bytes; null if it isn't known
#[derive(Debug, Serialize, JsonSchema)]
struct Usage {
    memory: Option<u64>,
    /// Space allocated for its disk, without its base image
    disk: Option<u64>,
}

/// Automatic ports of a running machine
#[derive(Debug, Serialize, JsonSchema)]
struct AutomaticPortsOfVm<'a> {
    /// Forwarded now
    forwarded: &'a [ForwardedPort],
    /// Not forwarded although the machine listens on them
    refused: Vec<RefusedPort<'a>>,
    /// Whether changes in the machine are still noticed
    followed: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RefusedPort<'a> {
    guest_port: u16,
    reason: &'a str,
}

impl<'a> From<&'a AutomaticPorts> for AutomaticPortsOfVm<'a> {
    fn from(ports: &'a AutomaticPorts) -> Self {
        let refused = ports.refused.iter();
        Self {
            forwarded: &ports.forwarded,
            refused: refused
                .map(|port| RefusedPort { guest_port: port.guest_port, reason: &port.reason })
                .collect(),
            followed: ports.is_followed,
        }
    }
}

impl<'a> From<&'a VmStatus> for VmDetails<'a> {
    fn from(status: &'a VmStatus) -> Self {
        let live = &status.live;
        Self {
            vm: &status.record,
            live: Live {
                state: live.state.as_str(),
                ip: live.ip.as_deref(),
                reason: hint::reason(live),
                started_at: live.started_at,
            },
            usage: Usage { memory: status.usage.memory, disk: status.usage.disk },
            automatic_ports: status.automatic_ports.as_ref().map(Into::into),
            drift: status.drift.as_str(),
            imported: status.is_imported,
        }
    }
}

/// A list of VMs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VmList<'a> {
    vms: Vec<VmInList<'a>>,
    /// Records that can't be read
    broken: Vec<BrokenRecord<'a>>,
    /// Deleted VMs, when they are listed
    #[serde(skip_serializing_if = "Option::is_none")]
    archived: Option<Vec<ArchivedVm<'a>>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct VmInList<'a> {
    #[serde(flatten)]
    vm: VmSummary<'a>,
    #[serde(flatten)]
    unimported: Option<Unimported<'a>>,
    #[serde(flatten)]
    live: Option<LiveInList<'a>>,
    #[serde(flatten)]
    state: StateInList,
}

#[derive(Debug, Serialize, JsonSchema)]
struct StateInList {
    /// "running", "stopped", "suspended", "missing", "unknown", "creating", "deleting", "failed" or "unverified"; "ready" if its
    /// provider wasn't asked
    state: &'static str,
    /// Whether its provider has told the state of its machine; otherwise "state" is what the record says
    checked: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Unimported<'a> {
    /// Present when it is false: a VM of goloo v0 that is only defined in a config
    imported: bool,
    origin: Option<&'a Origin>,
}

// Where the provider has answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct LiveInList<'a> {
    /// "running", "stopped", "suspended", "missing" or "unknown"
    live: &'a str,
    /// Why it is unknown
    live_reason: Option<&'a str>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VmSummary<'a> {
    name: &'a VmName,
    id: &'a VmId,
    provider: ProviderId,
    phase: Phase,
    stack: &'a str,
    created_at: Timestamp,
    created_by: Creator<'a>,
    /// When its TTL expires
    ends_at: Option<Timestamp>,
    ip: Option<&'a str>,
    ssh_port: Option<u16>,
    fqdn: Option<&'a str>,
    source_config_path: Option<Cow<'a, str>>,
    /// The environment that it belongs to
    environment: Option<&'a VmName>,
    /// Its name among the machines of the environment
    machine: Option<String>,
    tags: BTreeMap<&'a str, &'a str>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Creator<'a> {
    user: &'a str,
    host: &'a str,
}

impl<'a> From<&'a Summary> for VmSummary<'a> {
    fn from(vm: &'a Summary) -> Self {
        Self {
            name: &vm.name,
            id: &vm.id,
            provider: vm.provider,
            phase: vm.phase,
            stack: &vm.stack,
            created_at: vm.created_at,
            created_by: Creator { user: &vm.created_by.user, host: &vm.created_by.host },
            ends_at: vm.ends_at,
            ip: vm.ip.as_deref(),
            ssh_port: vm.ssh_port,
            fqdn: vm.fqdn.as_deref(),
            source_config_path: vm.source_config_path.as_deref().map(|path| path.to_string_lossy()),
            environment: vm.membership.as_ref().map(|membership| &membership.environment),
            machine: vm.membership.as_ref().map(|membership| membership.short_name()),
            tags: vm.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        }
    }
}

impl<'a> From<ListedVm<'a>> for VmInList<'a> {
    fn from(vm: ListedVm<'a>) -> Self {
        let unimported = vm.unimported.map(|vm| Unimported { imported: false, origin: vm.origin.as_ref() });
        let live =
            vm.live.map(|live| LiveInList { live: live.state.as_str(), live_reason: live.unknown_reason() });
        let state = StateInList { state: vm.state().as_str(), checked: vm.is_checked() };
        Self { vm: vm.summary.into(), unimported, live, state }
    }
}

impl<'a> VmList<'a> {
    /// `with_archive`: also deleted VMs, even if there are none.
    pub fn new(list: &'a actions::VmList, with_archive: bool) -> Self {
        Self {
            vms: list.active().map(VmInList::from).collect(),
            broken: list.broken.iter().map(BrokenRecord::from).collect(),
            archived: with_archive.then(|| list.archived.iter().map(ArchivedVm::from).collect()),
        }
    }
}

/// A record that can't be read.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BrokenRecord<'a> {
    /// The name under which it is stored
    name: &'a str,
    path: &'a str,
    error: &'a str,
}

impl<'a> From<&'a Broken> for BrokenRecord<'a> {
    fn from(Broken { name, path, error }: &'a Broken) -> Self {
        Self { name, path, error }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct ArchivedVm<'a> {
    #[serde(flatten)]
    vm: VmSummary<'a>,
    #[serde(flatten)]
    archive: InArchive<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct InArchive<'a> {
    archive_id: &'a ArchiveId,
    deleted_at: Timestamp,
}

impl<'a> From<&'a Archived> for ArchivedVm<'a> {
    fn from(archived: &'a Archived) -> Self {
        let archive = InArchive { archive_id: &archived.id, deleted_at: archived.deleted_at };
        Self { vm: VmSummary::from(&archived.record), archive }
    }
}

impl<'a> From<&'a Record> for VmSummary<'a> {
    fn from(record: &'a Record) -> Self {
        let by = &record.created_by;
        Self {
            name: &record.name,
            id: &record.id,
            provider: record.provider,
            phase: record.phase,
            stack: record.stack.as_str(),
            created_at: record.created_at,
            created_by: Creator { user: by.user.as_str(), host: by.host.as_str() },
            ends_at: record.ends_at,
            ip: record.ip(),
            ssh_port: record.ssh_port(),
            fqdn: record.fqdn(),
            source_config_path: record.source_config_path.as_deref().map(|path| path.to_string_lossy()),
            environment: record.membership.as_ref().map(|membership| &membership.environment),
            machine: record.membership.as_ref().map(|membership| membership.short_name()),
            tags: record.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        }
    }
}

/// The archive of deleted VMs, newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ArchiveList<'a> {
    archived: Vec<ArchivedVm<'a>>,
    broken: Vec<BrokenFile<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct BrokenFile<'a> {
    path: &'a str,
    error: &'a str,
}

impl<'a> From<&'a Listing<Archived>> for ArchiveList<'a> {
    fn from(archive: &'a Listing<Archived>) -> Self {
        let broken = archive.broken.iter().map(|Broken { path, error, .. }| BrokenFile { path, error });
        Self { archived: archive.entries.iter().map(ArchivedVm::from).collect(), broken: broken.collect() }
    }
}

/// A deleted VM, and the files that it was created from.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchivedRecord<'a> {
    archive_id: &'a ArchiveId,
    deleted_at: Timestamp,
    /// The record, without private keys
    #[serde(serialize_with = "as_output")]
    vm: &'a Record,
    /// The files as text, by name
    files: BTreeMap<&'a str, Cow<'a, str>>,
}

impl<'a> From<&'a ArchivedFiles> for ArchivedRecord<'a> {
    fn from(ArchivedFiles { archived, snapshot }: &'a ArchivedFiles) -> Self {
        let files = snapshot.files.iter();
        Self {
            archive_id: &archived.id,
            deleted_at: archived.deleted_at,
            vm: &archived.record,
            files: files.map(|(file, text)| (file.as_str(), String::from_utf8_lossy(text))).collect(),
        }
    }
}

/// The history of all VMs that had a name, oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct History<'a> {
    history: Vec<Action<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Action<'a> {
    at: Timestamp,
    /// null while it is unfinished
    ended_at: Option<Timestamp>,
    user: &'a str,
    host: &'a str,
    what: &'a Word<HistoryAction>,
    /// null while it is unfinished
    outcome: Option<&'a Word<Outcome>>,
    reason: Option<&'a str>,
    /// The id of the VM
    id: &'a VmId,
    /// The id of the archived record, or "active"
    record: &'a str,
}

impl<'a> From<&'a [Incarnation]> for History<'a> {
    fn from(incarnations: &'a [Incarnation]) -> Self {
        let actions = |vm: &'a Incarnation| vm.record.history.entries().iter().map(|entry| action(vm, entry));
        Self { history: incarnations.iter().flat_map(actions).collect() }
    }
}

fn action<'a>(vm: &'a Incarnation, entry: &'a HistoryEntry) -> Action<'a> {
    Action {
        at: entry.at,
        ended_at: entry.ended_at,
        user: entry.user.as_str(),
        host: entry.host.as_str(),
        what: &entry.what,
        outcome: entry.outcome.as_ref(),
        reason: entry.reason.as_deref(),
        id: &vm.record.id,
        record: vm.place(),
    }
}
