//! `state.json`: what goloo knows about one VM.
//!
//! Fields that this version doesn't know are kept in `extra` and written back. A record with a newer
//! [`SCHEMA`] can be read, but writing it is refused (see [`upgrade`]).

mod applied_settings;
mod baking;
pub(crate) mod checks;
mod details;
mod digest;
mod endpoint;
mod error;
mod extra;
mod format;
mod history;
mod home;
mod membership;
mod name_change;
mod operation_kind;
mod output;
mod overrides;
mod owner;
mod progress;
mod proof;
mod proving;
mod recorded_stack;
mod rename;
mod replacement;
mod resource;
mod schema_1;
pub mod upgrade;
mod word_enum;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{Address, LoginName, PublicHostKey};
use crate::change::Setting;
use crate::dns::DnsChange;
use crate::name::{OperationId, StateId, VmId, VmName};
use crate::provider_id::ProviderId;
use crate::secret::PrivateKey;
use crate::text::{Label, SourcePath};
use crate::time::Timestamp;

pub use crate::spec::SSH_PORT;
pub use crate::spec::is_domain as is_dns_name;
pub use applied_settings::AppliedSettings;
pub use baking::Baking;
pub use checks::{SERIAL_MAX, is_block, is_resource_id};
pub use details::{DetailsError, read_details};
pub use digest::{Digest, Proof};
pub use endpoint::{Endpoint, ForwardedPort};
pub use error::RecordError;
pub use extra::Extra;
pub use format::{MAX_RECORD_BYTES, SCHEMA};
pub use history::{HISTORY_MAX, History, HistoryAction, HistoryEntry, Outcome, Word};
pub use home::{AllOpen, ForeignOwner, LocalContext, MachineLocation, OpenOperations};
pub use membership::{MacAddress, Membership, PrivateAddress, PrivateAddressError, PrivateNetwork};
pub use name_change::NameChange;
pub use operation_kind::OperationKind;
pub use overrides::{OverrideError, Overrides};
pub use owner::Owner;
pub use proof::{StateKey, Trust};
pub use recorded_stack::{
    RecordedKey, RecordedMount, RecordedPort, RecordedStack, RecordedUser, StackValueError,
};
pub use replacement::{Replacement, Replacing};
pub use resource::Resource;
pub use schema_1::{Schema1Place, endpoint_of_schema_1, is_host_bound_in_schema_1};
pub use upgrade::{from_json, to_json};
pub(crate) use word_enum::word_enum;

/// One VM's record.
// The derived functions read and write all but the provider's section, whose key is the provider's id: see `upgrade`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", remote = "Self")]
#[schemars(rename = "Record")]
pub struct Record {
    /// The format of this file.
    pub schema: u32,
    /// The VM's identity.
    pub id: VmId,
    /// The number of saves, from 1; 0 before the first.
    #[serde(deserialize_with = "checks::serial")]
    pub serial: u64,
    /// The VM's name.
    pub name: VmName,
    /// The name that the provider knows the machine by; absent if it is the VM's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_name: Option<VmName>,
    /// The name of the stack that it was created from.
    pub stack: Label,
    /// The provider of the machine.
    pub provider: ProviderId,
    /// Whether the machine belongs to one host, as its provider reported when it was created.
    #[serde(default = "host_bound")]
    pub host_bound: bool,
    /// The phase of its life cycle.
    pub phase: Phase,
    /// When the record was created.
    pub created_at: Timestamp,
    /// When it was last saved.
    pub updated_at: Timestamp,
    /// Who created it.
    pub created_by: Creator,
    /// The stack's folder at creation; informational, and the last place where `create` looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_config_path: Option<SourcePath>,
    /// The record's origin if `create` didn't create it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Whether this host's /etc/hosts should contain the VM's name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hosts_entry: bool,
    /// Whether `delete` is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
    /// Whether it is started when its creator logs in to this computer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub autostart: bool,
    /// When the VM terminates itself (`vm.ttl`), accurate to the few minutes that its first boot takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// Tags set by the user.
    #[serde(default, deserialize_with = "crate::tags::deserialize")]
    pub tags: BTreeMap<String, String>,
    /// GitHub users given with `-u`; they are part of the VM's definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "checks::github_users")]
    pub github_users: Vec<String>,
    /// How goloo logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshAccess>,
    /// cloud-init's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning: Option<Provisioning>,
    /// The operation in progress, or the one that was interrupted.
    pub operation: Option<Operation>,
    /// What the provider created, or was about to create, in order.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// Where the machine can be reached.
    #[serde(default, skip_serializing_if = "Endpoint::is_empty")]
    pub endpoint: Endpoint,
    /// What the provider keeps in the section under its id; only the provider gives these fields types and checks them.
    #[serde(skip)]
    pub details: Extra,
    /// The resolved stack that the VM was created from; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Box<RecordedStack>>,
    /// What `goloo set` changed in the stack for this VM alone.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// The digest of its users' public keys as they were last installed; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_keys: Option<Digest>,
    /// The config.json whose settings the machine has, if it isn't the one that it was created from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_config: Option<Digest>,
    /// The environment that it belongs to, if it is part of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<Membership>,
    /// That the VM exists only to become a baked image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baking: Option<Baking>,
    /// The key of the baked image that the machine was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baked_from: Option<Digest>,
    /// What the machine was last provisioned with, if that isn't what it was created from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reprovisioned: Option<Reprovisioned>,
    /// What has been changed for the next start of the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart_pending: Vec<Word<Setting>>,
    /// The VM that this one is to replace, until that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacing: Option<Replacing>,
    /// The VM that this one has replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<VmId>,
    /// The VM that has replaced this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<VmId>,
    /// The history of actions on the VM.
    #[serde(default, skip_serializing_if = "History::is_empty")]
    pub history: History,
    /// Lets the creator verify that the VM is theirs; absent in records of earlier versions and in some others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

fn host_bound() -> bool {
    true
}

/// What every record begins with.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// The VM's identity.
    pub id: VmId,
    /// The VM's name.
    pub name: VmName,
    /// The name of the stack that it was created from.
    pub stack: Label,
    /// The provider of the machine.
    pub provider: ProviderId,
    /// Whether the machine belongs to one host.
    pub host_bound: bool,
    /// The phase of its life cycle.
    pub phase: Phase,
    /// Who created it.
    pub created_by: Creator,
}

impl Record {
    /// A record that isn't saved yet, made now, with nothing but this in it.
    pub fn new(new: NewRecord) -> Self {
        let NewRecord { id, name, stack, provider, host_bound, phase, created_by } = new;
        let now = Timestamp::now();
        Self {
            schema: SCHEMA,
            id,
            serial: 0,
            name,
            machine_name: None,
            stack,
            provider,
            host_bound,
            phase,
            created_at: now,
            updated_at: now,
            created_by,
            source_config_path: None,
            origin: None,
            hosts_entry: false,
            protected: false,
            autostart: false,
            ends_at: None,
            tags: BTreeMap::new(),
            github_users: Vec::new(),
            ssh: None,
            provisioning: None,
            operation: None,
            resources: Vec::new(),
            endpoint: Endpoint::default(),
            details: Extra::new(),
            resolved: None,
            overrides: Overrides::default(),
            user_keys: None,
            applied_config: None,
            membership: None,
            baking: None,
            baked_from: None,
            reprovisioned: None,
            restart_pending: Vec::new(),
            replacing: None,
            replaces: None,
            replaced_by: None,
            history: History::default(),
            proof: None,
            extra: Extra::new(),
        }
    }

    /// The machine's address, if it has one.
    pub fn ip(&self) -> Option<&str> {
        self.address().map(Address::as_str)
    }

    /// The machine's address, typed.
    pub fn address(&self) -> Option<&Address> {
        self.endpoint.address.as_ref()
    }

    /// The port where SSH answers, when the machine has one.
    pub fn ssh_port(&self) -> Option<u16> {
        self.endpoint.ssh_port
    }

    /// The id of the last resource of this kind.
    pub fn resource(&self, kind: &str) -> Option<&str> {
        self.resources.iter().rev().find(|known| known.kind == kind).map(|known| known.id.as_str())
    }

    /// The machine's DNS name, if it has one.
    pub fn fqdn(&self) -> Option<&str> {
        self.endpoint.fqdn.as_deref()
    }
}

word_enum! {
    /// The phase of a VM's life cycle. Whether it is running isn't stored; the provider is asked for that.
    Phase {
        /// The name is claimed; the machine may or may not exist.
        Creating = "creating",
        /// The machine exists and is provisioned.
        Ready = "ready",
        /// The machine exists; its provisioning failed, or the result is unknown.
        Degraded = "degraded",
        /// Being deleted; some resources may no longer exist.
        Deleting = "deleting",
        /// No longer exists at the provider.
        Destroyed = "destroyed",
    }
}

word_enum! {
    /// The result of provisioning.
    ProvisioningResult {
        /// cloud-init finished without errors.
        Done = "done",
        /// cloud-init finished and reported recoverable errors.
        DoneWithWarnings = "done-with-warnings",
        /// cloud-init, or a script run by it, failed.
        Failed = "failed",
        /// cloud-init ignored the document or a part of it, regardless of its reported status.
        Dropped = "dropped",
        /// The machine powered off before cloud-init finished.
        Ended = "ended",
        /// Not queried yet, or no answer in time.
        Unknown = "unknown",
    }
}

impl ProvisioningResult {
    /// Whether everything was applied.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Done | Self::DoneWithWarnings)
    }
}

word_enum! {
    /// How a record was created, if not by `create`.
    OriginKind {
        /// Read from a goloo v0 config.
        Migrated = "migrated",
        /// Created for an existing machine that goloo didn't create.
        Adopted = "adopted",
        /// A copy of another VM.
        Cloned = "cloned",
        /// Read from a file that another computer wrote.
        Imported = "imported",
    }
}

/// The origin of a record that `create` didn't create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// How the record was created.
    pub how: OriginKind,
    /// The source: the old config's path, the machine's id at its provider, or the other VM's name.
    pub from: Label<4096>,
    /// Whether the provider confirmed that the machine exists.
    pub checked: bool,
    /// The export that an imported VM is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportOrigin>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Origin {
    /// Which export an imported VM is from, in words.
    pub fn of_export(&self) -> Option<String> {
        let ExportOrigin { id, at, user, host } = self.export.as_ref()?;
        Some(format!("{} ({id}), exported at {at} by {user} on {host}", self.from))
    }
}

/// An export, as its file describes it. Nothing proves that this is true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportOrigin {
    /// The id of the VM that was exported.
    pub id: VmId,
    /// When.
    pub at: Timestamp,
    /// The login name of the user who exported it.
    pub user: Label,
    /// The host's name.
    pub host: Label,
}

/// Who created a record, and with which version of goloo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Creator {
    /// The user's login name.
    pub user: Label,
    /// The host's name.
    pub host: Label,
    /// The host's identity, which survives a rename.
    pub host_id: Label,
    /// The state folder; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_id: Option<StateId>,
    /// goloo's version.
    pub goloo: Label,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How goloo reaches the machine over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SshAccess {
    /// The login name for interactive sessions.
    pub user: LoginName,
    /// The account that goloo's own commands use; machines of earlier versions have none, and the login user is used
    /// instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<LoginName>,
    /// Why the login user couldn't log in when the machine was provisioned; absent if it could, or if this was never
    /// checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_problem: Option<String>,
    /// The machine's public host key, in OpenSSH's form, without a comment.
    pub host_key: PublicHostKey,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The stack that a machine was provisioned with again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reprovisioned {
    /// The digest of its files, which are the VM's snapshot.
    pub files: Digest,
    /// The overrides that it had then.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What cloud-init reported when it last finished provisioning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Provisioning {
    /// The result.
    pub result: ProvisioningResult,
    /// When it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// cloud-init's own error messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An operation, from the durable intent to the durable result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Its identity.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// Which step is in progress.
    pub step: Step,
    /// Makes the provider's call idempotent; the id of the operation that first made the call.
    pub token: OperationId,
    /// Who runs it.
    pub owner: Owner,
    /// When the owner's lock expires as of this save; set only where a lock outlives its process.
    /// Later heartbeats are known to the store only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_end: Option<Timestamp>,
    /// What a create needs to continue after a crash; removed with the operation. It contains a private key, so only
    /// [`to_json`] writes it.
    #[serde(default, skip_serializing)]
    #[schemars(skip)]
    pub inputs: Option<CreateInputs>,
    /// Whether a stop or restart forces power off instead of asking the guest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// The VM that a clone copies: by the time of a resume its name may belong to another VM. Also of a delete that gives
    /// such a clone up, which may have left its source paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<VmId>,
    /// The DNS names to move; identical in the records of both VMs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsChange>,
    /// What an apply is to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply: Option<Box<ApplyInputs>>,
    /// The change of the VM's name; identical in the record under either name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rename: Option<NameChange>,
    /// The replacement that changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<Box<Replacement>>,
    /// The file that an import reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<ImportInputs>,
    /// Lets its initiator verify that the operation is theirs: an HMAC-SHA-256 with their state folder's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Digest>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

word_enum! {
    /// The progress of an operation.
    Step {
        /// Recorded; the provider hasn't been called yet, or its answer is unknown.
        Intent = "intent",
        /// The machine exists; waiting for its provisioning.
        Provisioning = "provisioning",
        /// The provider has finished; only the record has to be completed.
        Recording = "recording",
    }
}

/// What can't be derived from the snapshot again when a create continues.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateInputs {
    /// The machine's private host key.
    pub host_key: PrivateKey,
    /// The users with the keys that were found for them.
    pub users: Vec<UserKeys>,
    /// Whether the create waits for provisioning.
    pub wait: bool,
    /// Whether its DNS names are taken over from any current owner.
    #[serde(default)]
    pub force_dns: bool,
    /// The addresses that may connect to port 22, with this host's address at that time; empty if none were set.
    #[serde(default, deserialize_with = "checks::ssh_blocks")]
    pub ssh_cidr: Vec<String>,
}

/// What an import needs to continue after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportInputs {
    /// The file, by its absolute path.
    pub file: SourcePath,
    /// The SHA-256 of its disk, which identifies its content.
    pub sha256: Digest,
}

/// What an apply needs to continue after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplyInputs {
    /// What the machine is to be like.
    pub target: RecordedStack,
    /// What is left to be changed.
    pub settings: Vec<Setting>,
    /// All users with their keys, if they are changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserKeys>,
    /// The overrides that the target has.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// The config.json that the target is from, if nothing in it is left to be changed afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Digest>,
    /// The login user that the target has.
    pub login_user: LoginName,
    /// Whether the machine may be restarted.
    pub restart: bool,
    /// The digest of the files that the machine is to be provisioned with again, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reprovision: Option<Digest>,
    /// Whether the machine was running, and so is in the end.
    #[serde(default)]
    pub running: bool,
}

impl UserKeys {
    /// The digest of the keys of all users, in whatever order a server lists them.
    pub fn digest(users: &[Self]) -> Digest {
        let keys = users.iter().map(|user| (&user.username, user.keys.iter().collect::<BTreeSet<_>>()));
        let text = serde_json::to_vec(&keys.collect::<Vec<_>>()).expect("it has no keys but strings");
        Digest::sha256(&text)
    }
}

/// One user of the machine, with public keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserKeys {
    /// The login name.
    #[serde(deserialize_with = "checks::login_name")]
    pub username: String,
    /// The GitHub user whose keys are in `keys`, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "checks::github_user")]
    pub github_username: Option<String>,
    /// Public keys in OpenSSH's form, in order, without duplicates.
    #[serde(deserialize_with = "checks::authorized_keys")]
    pub keys: Vec<String>,
}
