//! `state.json`: what goloo knows of one VM.
//!
//! Fields that this version doesn't know are kept in `extra` and written back. A record of a newer
//! [`SCHEMA`] can be read and is refused on writes (see [`upgrade`]).

pub(crate) mod checks;
mod history;
mod home;
mod proof;
pub mod upgrade;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::access::{Address, LoginName, PublicHostKey};
use crate::dns::DnsChange;
use crate::name::{OperationId, StateId, VmId, VmName};
use crate::secret::PrivateKey;
use crate::text::{Label, SourcePath};
use crate::time::Timestamp;

pub use crate::spec::is_domain as is_dns_name;
pub use checks::{SERIAL_MAX, is_local_address, is_resource_id};
pub use history::{Deed, HISTORY_MAX, History, HistoryEntry, Outcome, Word};
pub use home::{AllOpen, Elsewhere, Here, OpenOperations, Sight};
pub use proof::{Digest, Proof, StateKey, Trust};
pub use upgrade::{MAX_RECORD_BYTES, RecordError, SCHEMA, from_json, to_json};

/// Where machines listen for SSH themselves.
pub const SSH_PORT: u16 = 22;

/// Fields of a section that this version doesn't know.
pub type Extra = Map<String, Value>;

/// One VM's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The format of this file.
    pub schema: u32,
    /// The VM's identity.
    pub id: VmId,
    /// Counts the saves, from 1; 0 before the first.
    #[serde(deserialize_with = "checks::serial")]
    pub serial: u64,
    /// The VM's name.
    pub name: VmName,
    /// Name of the stack that it was made from.
    pub stack: Label,
    /// Who made the machine.
    pub provider: ProviderKind,
    /// Where it is in its life.
    pub phase: Phase,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When it was last saved.
    pub updated_at: Timestamp,
    /// By whom it was made.
    pub created_by: Creator,
    /// The stack's folder at the time; information, and where `create` looks last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_config_path: Option<SourcePath>,
    /// How the record came to be, when it wasn't by `create`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Whether /etc/hosts of this machine is to have the VM's name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hosts_entry: bool,
    /// Whether `delete` is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
    /// When the VM ends itself (`vm.ttl`), within the minutes that its first boot takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// The user's own labels.
    #[serde(default, deserialize_with = "crate::tags::deserialize")]
    pub tags: BTreeMap<String, String>,
    /// GitHub users given with `-u`: part of what the VM was made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "checks::github_users")]
    pub github_users: Vec<String>,
    /// How goloo logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshAccess>,
    /// cloud-init's first verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning: Option<Provisioning>,
    /// The operation under way, or the one that was interrupted.
    pub operation: Option<Operation>,
    /// What the provider made, or was about to make, in order.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// A local VM's addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    /// An AWS VM's addresses and ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<Aws>,
    /// Who did what to it.
    #[serde(default, skip_serializing_if = "History::is_empty")]
    pub history: History,
    /// Shows those who made the VM that it was them; `None` in records of earlier versions, and of some others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Record {
    /// The machine's address, when it has one.
    pub fn ip(&self) -> Option<&str> {
        self.address().map(Address::as_str)
    }

    /// The same, by its type.
    pub fn address(&self) -> Option<&Address> {
        let in_aws = || self.aws.as_ref().and_then(|aws| aws.public_ip.as_ref());
        self.local.as_ref().map(|local| &local.ip).or_else(in_aws)
    }

    /// The port where SSH answers, when the machine has an address.
    pub fn ssh_port(&self) -> Option<u16> {
        self.local.as_ref().map(|local| local.ssh_port).or_else(|| self.aws.as_ref().map(|_| SSH_PORT))
    }

    /// The id of the last resource of this kind.
    pub fn resource(&self, kind: &str) -> Option<&str> {
        self.resources.iter().rev().find(|known| known.kind == kind).map(|known| known.id.as_str())
    }

    /// The machine's DNS name, when it has one.
    pub fn fqdn(&self) -> Option<&str> {
        self.aws.as_ref().and_then(|aws| aws.fqdn.as_deref())
    }
}

macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in files and on the command line.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

use word_enum;

word_enum! {
    /// What makes machines.
    ProviderKind {
        /// QEMU on this machine.
        Qemu = "qemu",
        /// Multipass on this machine.
        Multipass = "multipass",
        /// EC2.
        Aws = "aws",
    }
}

impl ProviderKind {
    /// Whether its machines belong to one host.
    pub fn is_local(self) -> bool {
        self != Self::Aws
    }
}

word_enum! {
    /// Where a VM is in its life. Whether it runs isn't stored: that is asked of the provider.
    Phase {
        /// The name is claimed; the machine may or may not exist.
        Creating = "creating",
        /// The machine is there and provisioned.
        Ready = "ready",
        /// The machine is there; its provisioning failed or its result isn't known.
        Degraded = "degraded",
        /// Being deleted; parts may be gone.
        Deleting = "deleting",
        /// Gone at the provider.
        Destroyed = "destroyed",
    }
}

word_enum! {
    /// What an operation does.
    OperationKind {
        /// Makes the VM.
        Create = "create",
        /// Removes it.
        Delete = "delete",
        /// Starts it.
        Start = "start",
        /// Stops it.
        Stop = "stop",
        /// Stops and starts it.
        Restart = "restart",
        /// Keeps its memory on disk and stops it.
        Suspend = "suspend",
        /// Makes it as a copy of another VM.
        Clone = "clone",
        /// Gives DNS names of another VM to it.
        DnsSwap = "dns-swap",
        /// Gives its DNS names back to who had them before.
        DnsRollback = "dns-rollback",
    }
}

impl OperationKind {
    /// Whether the machine isn't to be counted on until the operation is finished.
    pub fn makes_or_ends(self) -> bool {
        matches!(self, Self::Create | Self::Clone | Self::Delete)
    }
}

word_enum! {
    /// What became of the provisioning.
    ProvisioningResult {
        /// cloud-init is done without errors.
        Done = "done",
        /// cloud-init is done; it reported errors that it could get over.
        DoneWithWarnings = "done-with-warnings",
        /// cloud-init, or a script that it ran, failed.
        Failed = "failed",
        /// cloud-init ignored the document or a part of it, whatever its status says.
        Dropped = "dropped",
        /// The machine powered off before it was done.
        Ended = "ended",
        /// Nobody has asked, or there was no answer in time.
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
    /// How a record came to be, when it wasn't by `create`.
    OriginKind {
        /// Read from an old goloo's config.
        Migrated = "migrated",
        /// Made for a machine that goloo didn't make.
        Adopted = "adopted",
        /// A copy of another VM.
        Cloned = "cloned",
    }
}

impl OperationKind {
    /// Whether DNS names move.
    pub fn moves_names(self) -> bool {
        matches!(self, Self::DnsSwap | Self::DnsRollback)
    }
}

/// Where a record comes from that `create` didn't make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// How it came to be.
    pub how: OriginKind,
    /// From what: the old config's path, the machine's id at its provider, or the other VM's name.
    pub from: Label<4096>,
    /// Whether the provider was seen to have the machine.
    pub checked: bool,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Who made a record, and with which goloo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Creator {
    /// The user's login name.
    pub user: Label,
    /// The host's name.
    pub host: Label,
    /// The host's identity, which a rename doesn't change.
    pub host_id: Label,
    /// The state folder; records of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_id: Option<StateId>,
    /// goloo's version.
    pub goloo: Label,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A process that does an operation. A pid alone proves nothing: pids are used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The user's login name.
    pub user: Label,
    /// The host's name.
    pub host: Label,
    /// The process.
    pub pid: u32,
    /// When it started, in the kernel's ticks since boot.
    pub pid_start: u64,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} (pid {})", self.user, self.host, self.pid)
    }
}

/// How goloo reaches the machine over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SshAccess {
    /// Whom a person logs in as.
    pub user: LoginName,
    /// The account that goloo's own commands use; machines of earlier versions have none, and there the login
    /// user serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<LoginName>,
    /// Why the login user couldn't log in when the machine was provisioned; `None` where it could, or where
    /// nobody has asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_problem: Option<String>,
    /// The machine's public host key, in OpenSSH's form, without a comment.
    pub host_key: PublicHostKey,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What cloud-init said when it was first done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provisioning {
    /// The verdict.
    pub result: ProvisioningResult,
    /// When it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// cloud-init's own words on what failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An operation, from the durable intent to the durable result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Its identity.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// Which step is under way.
    pub step: Step,
    /// Makes the provider's call idempotent; the id of the operation that first made it.
    pub token: OperationId,
    /// Who does it.
    pub owner: Owner,
    /// Until when the owner's lock lasted as of this save; only where a lock doesn't end with its process.
    /// The store knows of signs of life since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_end: Option<Timestamp>,
    /// What a create needs to go on after a crash; removed with the operation. It holds a private key, so only
    /// [`to_json`] writes it.
    #[serde(default, skip_serializing)]
    pub inputs: Option<CreateInputs>,
    /// Whether a stop or restart cuts the power instead of asking the guest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// The VM that a clone copies: a name alone may be another VM's by the time when it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<VmId>,
    /// The names that move, the same in the records of both VMs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsChange>,
    /// Shows those who began it that it was them: an HMAC-SHA-256 with their state folder's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Digest>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

word_enum! {
    /// How far an operation is.
    Step {
        /// Written down; the provider hasn't been called, or its answer isn't known.
        Intent = "intent",
        /// The machine is there; its provisioning is waited for.
        Provisioning = "provisioning",
        /// The provider has done its part; only the record is left to finish.
        Recording = "recording",
    }
}

/// What can't be worked out again from the snapshot when a create goes on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateInputs {
    /// The machine's private host key.
    pub host_key: PrivateKey,
    /// The users with the keys that were found for them.
    pub users: Vec<UserKeys>,
    /// Whether the create waits for provisioning.
    pub wait: bool,
    /// Whether its DNS names are taken over from whoever has them.
    #[serde(default)]
    pub force_dns: bool,
    /// Who may reach port 22, with this computer's address as it was; empty where nobody asked for it.
    #[serde(default, deserialize_with = "checks::ssh_blocks")]
    pub ssh_cidr: Vec<String>,
}

/// One user of the machine, with public keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserKeys {
    /// The login name.
    #[serde(deserialize_with = "checks::login_name")]
    pub username: String,
    /// The GitHub user whose keys are among `keys`, when one was given.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "checks::github_user")]
    pub github_username: Option<String>,
    /// Public keys in OpenSSH's form, in order, without doubles.
    #[serde(deserialize_with = "checks::authorized_keys")]
    pub keys: Vec<String>,
}

/// Something that a provider made or was about to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// What it is: `qemu-directory`, `cloudformation-stack`, …
    pub kind: String,
    /// Its id at the provider, of a form that [`is_resource_id`] knows.
    pub id: String,
    /// The operation that made it.
    pub operation: OperationId,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Addresses of a VM on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Local {
    /// Where it is reached.
    pub ip: Address,
    /// The port where SSH answers.
    #[serde(deserialize_with = "checks::port")]
    pub ssh_port: u16,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Local {
    /// A machine behind a forwarded port of this computer.
    pub fn loopback(ssh_port: u16) -> Self {
        Self { ip: IpAddr::from(Ipv4Addr::LOCALHOST).into(), ssh_port, extra: Extra::new() }
    }
}

/// Addresses and ids of a VM in AWS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Aws {
    /// The CloudFormation stack's name.
    #[serde(
        rename = "stackName",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "checks::stack_name"
    )]
    pub stack_name: Option<String>,
    /// Its ARN.
    #[serde(
        rename = "stackID",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "checks::stack_id"
    )]
    pub stack_id: Option<String>,
    /// The EC2 instance.
    #[serde(
        rename = "instanceID",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "checks::instance_id"
    )]
    pub instance_id: Option<String>,
    /// Its address.
    #[serde(rename = "publicIP", skip_serializing_if = "Option::is_none")]
    pub public_ip: Option<Address>,
    /// Its DNS name.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "checks::dns_name")]
    pub fqdn: Option<String>,
    /// All else that belongs to it; the AWS provider gives these fields types, and [`from_json`] has checked them.
    #[serde(flatten)]
    pub extra: Extra,
}
