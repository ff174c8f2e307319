//! What makes machines: the contract that every provider keeps.
//!
//! The rules, each a case in the conformance suite (`goloo-testkit`):
//! - [`Provider::create`] called again with the same operation token makes no second machine: it
//!   finds or finishes the first. It may be called again after a crash at any point.
//! - [`Provider::delete`] of something that no longer exists, or was never created, is success.
//! - [`Provider::observe`] answers for all machines in one go and says *unknown* where it can't know;
//!   it never says *missing* because of a failure to ask.
//! - Nothing that goloo did not make is ever touched.
//! - Before anything is created, [`Work::record_resource`] is awaited with its reference.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use crate::access::PublicHostKey;
use crate::automatic_ports::AutomaticPorts;
use crate::change::Setting;
use crate::check::Check;
use crate::dns::{DnsChange, NameStatus, Previous, RecordSet};
use crate::events::{Event, Events};
use crate::hint::Hint;
use crate::name::{OperationId, VmId, VmName};
use crate::provider_id::ProviderId;
use crate::provider_info::ProviderInfo;
use crate::record::{
    Baking, DetailsError, Digest, Endpoint, Extra, MachineLocation, Membership, Record, RecordedStack,
    Resource, StackValueError, Trust,
};
use crate::spec::ResolvedStack;
use crate::store::StoreError;
use crate::time::Timestamp;
use crate::usage::{GuestUsage, MachineUsage};

/// All that a provider needs to create one machine.
#[derive(Clone)]
pub struct Machine {
    /// The VM's identity.
    pub id: VmId,
    /// The VM's name.
    pub name: VmName,
    /// The name that the provider is to know the machine by.
    pub machine_name: VmName,
    /// The create's token.
    pub token: OperationId,
    /// The stack that it is created from.
    pub stack: ResolvedStack,
    /// The user-data for cloud-init: the user's document combined with goloo's part.
    pub user_data: Vec<u8>,
    /// Makes the machine this one, as a script, where it doesn't boot: it continues from the memory of another.
    pub identity: String,
    /// The machine's public host key, which is unique to it.
    pub host_key: PublicHostKey,
    /// Whether the resources of a failed create are kept for inspection.
    pub keep_failed: bool,
    /// Whether its DNS names are taken over from any current owner.
    pub force_dns: bool,
    /// The key of the baked image that it is made from, instead of the stack's image.
    pub baked: Option<Digest>,
    /// The environment that it belongs to, if it is part of one.
    pub membership: Option<Membership>,
    /// Whether it is to replace another machine, which keeps its DNS names until then.
    pub is_replacement: bool,
    /// Whether it becomes a baked image: what its guest removes must not stay on its disk.
    pub is_for_baking: bool,
}

/// Omits the user-data and the script, which contain the private host key.
impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, machine_name, token, stack, user_data, host_key, .. } = self;
        let Self { keep_failed, force_dns, baked, membership, is_replacement, is_for_baking, .. } = self;
        f.debug_struct("Machine")
            .field("id", id)
            .field("name", name)
            .field("machine_name", machine_name)
            .field("token", token)
            .field("stack", stack)
            .field("user_data", &format_args!("{} bytes", user_data.len()))
            .field("host_key", host_key)
            .field("keep_failed", keep_failed)
            .field("force_dns", force_dns)
            .field("baked", baked)
            .field("membership", membership)
            .field("is_replacement", is_replacement)
            .field("is_for_baking", is_for_baking)
            .finish()
    }
}

/// What [`Provider::create`] would do; computed without side effects.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderPlan {
    /// What would be done, in order, one sentence each.
    pub steps: Vec<String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// The provider's own section of `--dry-run --json`: `{"argv": […]}` for qemu.
    pub detail: serde_json::Value,
}

/// Where a machine is reached, and what its provider keeps of it, as they go into the record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Its address, SSH port and DNS name.
    pub endpoint: Endpoint,
    /// The provider's section of the record.
    pub details: Extra,
}

impl Endpoints {
    /// Of a record.
    pub fn of(record: &Record) -> Self {
        Self { endpoint: record.endpoint.clone(), details: record.details.clone() }
    }

    /// Puts them into a record.
    pub fn write_to(self, record: &mut Record) {
        let kept = std::mem::take(&mut record.endpoint.extra);
        record.endpoint = self.endpoint;
        if record.endpoint.extra.is_empty() {
            record.endpoint.extra = kept;
        }
        // A provider without details keeps what a later version has written there.
        if !self.details.is_empty() {
            record.details = self.details;
        }
    }
}

impl From<Endpoint> for Endpoints {
    /// Of a provider that keeps nothing else.
    fn from(endpoint: Endpoint) -> Self {
        Self { endpoint, details: Extra::new() }
    }
}

/// The state of a machine, as its provider reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveState {
    /// Starting or running.
    Running,
    /// Off; its disk exists.
    Stopped,
    /// Off; its memory is saved, and the next start continues from there.
    Suspended,
    /// Doesn't exist.
    Missing,
    /// Can't be determined.
    Unknown,
}

impl LiveState {
    /// The value in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Suspended => "suspended",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for LiveState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The observed state of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Its state.
    pub state: LiveState,
    /// Its address, if it is running and has one.
    pub ip: Option<String>,
    /// Why the state is unknown; or details that the state leaves out.
    pub reason: Option<String>,
    /// What to do about that; may be empty.
    pub hint: Hint,
    /// Since when it has been running, if the provider knows it.
    pub started_at: Option<Timestamp>,
}

impl Observation {
    /// A machine in this state, of which nothing else is known.
    pub fn of(state: LiveState) -> Self {
        Self { state, ip: None, reason: None, hint: Hint::default(), started_at: None }
    }

    /// A machine whose state can't be told, and why.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..Self::of(LiveState::Unknown) }
    }

    /// Why the machine's state is unknown; `None` when it is known.
    pub fn unknown_reason(&self) -> Option<&str> {
        let reason = self.reason.as_deref().unwrap_or("the provider gave no reason");
        (self.state == LiveState::Unknown).then_some(reason)
    }
}

/// How a machine is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Ask the guest, wait up to a limit, then force power off.
    Graceful,
    /// Force power off at once.
    Force,
    /// Save the memory to disk and stop; the next start continues from there. A provider that can't
    /// do this returns [`ProviderError::Unsupported`] and leaves the machine as it is.
    Suspend,
}

/// A section of a console log; at most 1 MiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsolePiece {
    /// What the guest wrote.
    pub bytes: Vec<u8>,
    /// The offset of the next section.
    pub next: u64,
}

impl ConsolePiece {
    /// The section at `offset` of a log that is available as a whole.
    pub fn of(whole: &[u8], offset: u64) -> Self {
        let rest = usize::try_from(offset).ok().and_then(|start| whole.get(start..)).unwrap_or_default();
        let bytes = rest[..rest.len().min(1 << 20)].to_vec();
        Self { next: offset + bytes.len() as u64, bytes }
    }
}

/// The optional features of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Provides a console log.
    pub console: bool,
    /// Supports suspending ([`StopMode::Suspend`]).
    pub suspend: bool,
}

/// A machine at the provider that none of the given records refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its name at the provider.
    pub name: String,
    /// Its id there, as accepted by `adopt --id`.
    pub id: String,
    /// Its current state.
    pub state: LiveState,
    /// Whether it carries goloo's tags, so that its record was lost. Otherwise someone else created it.
    pub ours: bool,
}

/// A machine that a record is to be created for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The VM's id, if goloo created the machine and its record was lost.
    pub id: Option<VmId>,
    /// The name that the provider knows it by, if that is a valid one.
    pub name: Option<VmName>,
    /// Its reference: kind and id, as [`Work::record_resource`] would have noted them.
    pub resources: Vec<(String, String)>,
    /// Its endpoint and details, when it has any.
    pub endpoints: Option<Endpoints>,
}

/// The hostname that a guest has after its next boot, if the VM got another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostnameAtBoot {
    /// The VM's new name, unless its guest chooses one itself.
    New,
    /// The one that it has.
    Unchanged,
}

/// What the user wants to do in a machine that goloo has no key for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestRequest<'a> {
    /// A shell.
    Shell,
    /// Run a program with its arguments.
    Run(&'a [String]),
    /// Copy files from this host to the machine; folders too if `recursive`.
    Upload {
        /// Path on this host.
        from: &'a str,
        /// Path in the machine.
        to: &'a str,
        /// Includes the contents of folders.
        recursive: bool,
    },
    /// Copy files from the machine to this host.
    Download {
        /// Path in the machine.
        from: &'a str,
        /// Path on this host.
        to: &'a str,
        /// Includes the contents of folders.
        recursive: bool,
    },
}

/// A snapshot of a machine's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSnapshot {
    /// Its label, unique for the machine.
    pub label: String,
    /// When it was taken, if the provider reports it.
    pub created_at: Option<Timestamp>,
}

/// Snapshots of disks. Taking and restoring require a stopped machine: for a running one they return
/// [`ProviderError::Unsupported`] with the command that stops it, and nothing is changed.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// All of a machine's snapshots, oldest first.
    async fn list(&self, record: &Record) -> Result<Vec<DiskSnapshot>, ProviderError>;

    /// Takes a snapshot. An existing label is refused.
    async fn take(&self, record: &Record, label: &str) -> Result<(), ProviderError>;

    /// Restores the disk from a snapshot, discarding later changes. The snapshot is kept.
    async fn restore(&self, record: &Record, label: &str) -> Result<(), ProviderError>;

    /// Removes a snapshot; succeeds if it no longer exists.
    async fn remove(&self, record: &Record, label: &str) -> Result<(), ProviderError>;
}

/// Copies of whole machines.
#[async_trait]
pub trait Clones: Send + Sync {
    /// Whether a machine can be copied with its memory: a running one pauses meanwhile, and its copy is suspended.
    fn with_memory(&self) -> bool {
        false
    }

    /// Creates a copy of a machine that is stopped, or has its memory copied too. `copy` is the new machine's record, which
    /// has no addresses yet. If called again after a crash, it finds or finishes the first copy. Whatever it returns, a
    /// source that was running runs again.
    async fn clone_machine(
        &self,
        source: &Record,
        copy: &Record,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError>;

    /// Lets a machine continue that is paused because goloo was killed while it made a copy.
    async fn release(&self, _source: &Record) -> Result<(), ProviderError> {
        Ok(())
    }
}

/// An image that was made of a provisioned machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BakedImage {
    /// Its key.
    pub key: Digest,
    /// The size of its disk, in bytes: a machine that is made from it can't have a smaller one.
    pub disk: u64,
    /// Its size where it is kept, in bytes, without the memory; the most that it can be where the provider doesn't say.
    pub size: u64,
    /// The machine's memory, if it was kept too.
    pub memory: Option<BakedMemory>,
}

/// The saved memory of a baked machine, from which others continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BakedMemory {
    /// Its size where it is kept, in bytes.
    pub size: u64,
    /// Why it can't be used for this machine here, if it can't.
    pub unusable: Option<String>,
}

/// Whose identity a machine has that continues from saved memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryTemplate {
    /// The VM that was baked.
    pub id: VmId,
    /// Its name at the provider.
    pub name: VmName,
    /// What its SSH server proves itself with.
    pub host_key: PublicHostKey,
}

/// The state of a baked image that its provider keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptImageState {
    /// Machines can be made from it.
    Available,
    /// The provider is still making it.
    Pending,
    /// The provider couldn't make it.
    Failed,
    /// Its removal was interrupted: no machine can be made from what is left.
    Leftover,
}

impl KeptImageState {
    /// The value in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Leftover => "leftover",
        }
    }
}

/// A baked image that its provider keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptImage {
    /// Its id at the provider.
    pub id: String,
    /// The stack that it was made of.
    pub stack: String,
    /// Its key; `None` if what the provider says is none.
    pub key: Option<Digest>,
    /// The VM that it was made of.
    pub vm: Option<VmId>,
    /// Its state.
    pub state: KeptImageState,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When a machine was last made from it, as far as the provider knows.
    pub last_used: Option<Timestamp>,
    /// The size of its disk, in bytes.
    pub disk: u64,
    /// Its size where it is kept, as in [`BakedImage::size`].
    pub size: u64,
    /// The ids of the snapshots that it consists of.
    pub snapshots: Vec<String>,
    /// Where it is, for a provider with regions.
    pub region: Option<String>,
}

/// Baked images that the provider keeps, rather than the image cache.
#[async_trait]
pub trait KeptImages: Send + Sync {
    /// All of them that this user may see, in the current region and in every region named by a record; oldest first.
    async fn list(&self, known: &[&Record]) -> Result<Vec<KeptImage>, ProviderError>;

    /// Removes one; succeeds if it no longer exists. If called again after a crash, it removes what is left.
    async fn remove(&self, image: &KeptImage) -> Result<(), ProviderError>;
}

/// Images of provisioned machines, from which others are made.
#[async_trait]
pub trait Bakes: Send + Sync {
    /// What a machine of this stack would begin with: a digest or an id of its image. `None` if the image would have to
    /// be fetched to know it, or if there are no baked images at all.
    async fn base(&self, stack: &ResolvedStack) -> Result<Option<String>, ProviderError>;

    /// The same, for which the image is fetched if need be.
    async fn fetch_base(
        &self,
        stack: &ResolvedStack,
        events: &dyn Events,
        interrupted: &(dyn Fn() -> bool + Sync),
    ) -> Result<String, ProviderError>;

    /// The baked image with this key, if there is one that can be used, as it serves a machine of this stack.
    async fn find(&self, key: &Digest, stack: &ResolvedStack) -> Result<Option<BakedImage>, ProviderError>;

    /// Whether the memory of a machine of this stack can be saved.
    fn check_memory(&self, stack: &ResolvedStack) -> Result<(), ProviderError>;

    /// Makes a baked image of a machine from which everything that belongs to one machine was removed. It is stopped, or
    /// suspended if its memory is kept too. If called again after a crash, it finds or finishes the first. Once it
    /// returns, the image is durable.
    async fn keep(
        &self,
        record: &Record,
        baking: &Baking,
        work: &mut dyn Work,
    ) -> Result<BakedImage, ProviderError>;

    /// The images, if the provider keeps them itself.
    fn kept(&self) -> Option<&dyn KeptImages> {
        None
    }

    /// Whose identity a machine still has that continued from saved memory; `None` once it has its own, and for all
    /// others. Until then nothing of it is reachable but SSH.
    async fn template(&self, _: &Record) -> Result<Option<MemoryTemplate>, ProviderError> {
        Ok(None)
    }

    /// Opens a machine that has got its own identity to others. May be called again.
    async fn open(&self, _: &Record, _: &mut dyn Work) -> Result<(), ProviderError> {
        Ok(())
    }
}

/// What an export keeps of a machine besides its record and its disk.
#[derive(Clone, PartialEq)]
pub struct MachineExport {
    /// What the provider itself needs to build the machine again.
    pub machine: serde_json::Value,
    /// The user-data that the machine reads at each boot. It has the private host key.
    pub user_data: Vec<u8>,
}

/// Omits the user-data, which contains the private host key.
impl fmt::Debug for MachineExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, user_data } = self;
        f.debug_struct("MachineExport")
            .field("machine", machine)
            .field("user_data", &format_args!("{} bytes", user_data.len()))
            .finish()
    }
}

/// A disk inside a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedDisk {
    /// The file.
    pub file: PathBuf,
    /// Where the disk begins in it, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// A machine that another computer has exported. Somebody else may have written all of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportSource {
    /// The machine. Its user-data already has this computer's client key.
    pub export: MachineExport,
    /// Its disk, a qcow2.
    pub disk: EmbeddedDisk,
}

/// Machines that can be taken to another computer in a file.
#[async_trait]
pub trait Exports: Send + Sync {
    /// What an import needs of a stopped machine.
    async fn describe(&self, record: &Record) -> Result<MachineExport, ProviderError>;

    /// The most that [`Exports::write_disk`] may write, in bytes: the disk's data, uncompressed.
    async fn largest_disk(&self, record: &Record) -> Result<u64, ProviderError>;

    /// Writes a stopped machine's disk into a file, from `offset` to its end: one compressed qcow2, without a backing
    /// file or snapshots. Nothing else is written anywhere, and the machine isn't changed.
    async fn write_disk(
        &self,
        record: &Record,
        file: &Path,
        offset: u64,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError>;

    /// Checks that a machine can be built from what somebody else may have written, apart from the disk's checksum.
    /// Changes nothing. Returns the size of the disk for the guest, in bytes.
    async fn check_source(&self, source: &ImportSource) -> Result<u64, ProviderError>;

    /// Builds a stopped machine. `record` is the new VM's, without addresses. If called again after a crash, it finds or
    /// finishes the first one. A disk that differs from its checksum is refused.
    async fn import_machine(
        &self,
        record: &Record,
        source: &ImportSource,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError>;
}

/// When a change is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeTime {
    /// Now, whether or not the machine is running: the settings that cost [`Cost::Now`](crate::change::Cost::Now).
    Now,
    /// For the next start: those that cost [`Cost::Restart`](crate::change::Cost::Restart). The machine is off, unless
    /// the provider can note them while it runs ([`ChangeCosts::restart_can_wait`](crate::change::ChangeCosts)).
    NextStart,
}

/// Some settings of a machine that are to be changed.
#[derive(Debug, Clone, Copy)]
pub struct MachineChange<'a> {
    /// Which ones.
    pub settings: &'a [Setting],
    /// What they are to be. Its other settings may differ from the machine's, and are left as they are.
    pub target: &'a RecordedStack,
    /// When.
    pub time: ChangeTime,
}

impl MachineChange<'_> {
    /// Whether this setting is to be changed.
    pub fn has(&self, setting: Setting) -> bool {
        self.settings.contains(&setting)
    }
}

/// Changes of existing machines, without a new one.
#[async_trait]
pub trait Changes: Send + Sync {
    /// Changes a machine. If called again after a crash, or for what is already so, it does what is left. After an
    /// error other than an interruption the machine works as before. Returns its current addresses.
    async fn change(
        &self,
        record: &Record,
        change: MachineChange<'_>,
        work: &mut dyn Work,
    ) -> Result<Endpoints, ProviderError>;
}

/// Private networks between the machines of an environment.
#[async_trait]
pub trait Networks: Send + Sync {
    /// Whether goloo chooses a machine's address before the machine is made; otherwise the provider does.
    fn takes_addresses(&self) -> bool;

    /// The address at which the other machines reach this one, as far as its record has it.
    fn address(&self, record: &Record) -> Option<IpAddr>;

    /// Connects a running machine to its environment's network, if it isn't yet; starts what the network needs. May be
    /// called again at any time.
    async fn connect(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError>;
}

/// A VM whose names are to be moved, and its current address.
#[derive(Debug, Clone, Copy)]
pub struct NamedVm<'r> {
    /// Its record.
    pub record: &'r Record,
    /// Its address as reported by the provider; `None` if it isn't running.
    pub live: Option<&'r str>,
}

/// DNS names that can be moved from one machine to another. Methods that only read records have no side effects;
/// only [`DnsNames::carry_out`] changes anything.
#[async_trait]
pub trait DnsNames: Send + Sync {
    /// Whether `holder`, according to its record, has a name that `record` asks for.
    fn shares(&self, record: &Record, holder: &Record) -> bool;

    /// The previous owners of the VM's names.
    fn previous(&self, record: &Record) -> Option<Previous>;

    /// The names that a VM has or asks for, and their current owners; `others` are the VMs that they may
    /// point to.
    async fn names(&self, record: &Record, others: &[Record]) -> Result<Vec<NameStatus>, ProviderError>;

    /// Plans how to point all names that `taker` asks for to it. Record sets that belong to neither VM are refused,
    /// with their target, unless `force`.
    async fn swap(
        &self,
        taker: NamedVm<'_>,
        giver: Option<NamedVm<'_>>,
        force: bool,
    ) -> Result<DnsChange, ProviderError>;

    /// Plans how to return the names that `giver` got to their previous owners: the taker, at its current address, and
    /// others, as they were. `previous` is the result of [`DnsNames::previous`].
    async fn rollback(
        &self,
        giver: NamedVm<'_>,
        taker: Option<NamedVm<'_>>,
        previous: &Previous,
        force: bool,
    ) -> Result<DnsChange, ProviderError>;

    /// Applies the change atomically; does nothing if the names have changed in the meantime. After an
    /// error [`DnsNames::live`] tells whether it was applied.
    async fn carry_out(&self, change: &DnsChange) -> Result<(), ProviderError>;

    /// All current record sets of the names of a change.
    async fn live(&self, change: &DnsChange) -> Result<Vec<RecordSet>, ProviderError>;

    /// Adds the names that are about to be moved to the record of one of the two VMs, so that a delete finds them
    /// regardless of the outcome.
    fn note(&self, change: &DnsChange, operation: &OperationId, record: &mut Record);

    /// Writes the result of a change to the record of one of the two VMs: `live` is all record sets of its names.
    fn settle(&self, change: &DnsChange, live: &[RecordSet], record: &mut Record);
}

/// The resource usage of machines, as far as a provider knows it.
#[async_trait]
pub trait ResourceUsage: Send + Sync {
    /// What each of these machines uses of this computer, in their order. Contacts no guest, and is cheap enough to be
    /// repeated every second.
    async fn machines(&self, records: &[&Record]) -> Vec<MachineUsage> {
        vec![MachineUsage::default(); records.len()]
    }

    /// What the guest of a running machine reports, by a method that requires no key of goloo's; `None` if the provider
    /// has none.
    async fn guest(&self, _: &Record) -> Result<Option<GuestUsage>, ProviderError> {
        Ok(None)
    }
}

/// Why a provider could not do it. Every variant with a `hint` says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The provider isn't installed or isn't running.
    #[error("{what}")]
    Unavailable {
        /// What is missing.
        what: String,
        /// How to install or start it.
        hint: Hint,
    },
    /// The stack requires something that this provider doesn't support.
    #[error("{what}")]
    Unsupported {
        /// What was requested.
        what: String,
        /// What to use instead.
        hint: Hint,
    },
    /// Credentials are missing or lack a permission.
    #[error("{what}")]
    Permission {
        /// What was refused.
        what: String,
        /// How to get the permission.
        hint: Hint,
    },
    /// The call failed.
    #[error("{what}")]
    Failed {
        /// The action that failed, and the first cause.
        what: String,
        /// What to do.
        hint: Hint,
        /// The underlying error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The machine exists, or is still being created, but isn't as requested. Nothing is rolled back: the
    /// same operation can continue with it later.
    #[error("{what}")]
    Unfinished {
        /// What wasn't reached in time.
        what: String,
        /// What to do before continuing.
        hint: Hint,
    },
    /// Interrupted by the user between two calls; everything created has been reported.
    #[error("interrupted")]
    Interrupted,
    /// A created resource couldn't be recorded, so nothing more was created.
    #[error("the record can't be saved")]
    Record(#[from] StoreError),
}

impl ProviderError {
    /// A failed call without an underlying error.
    pub fn failed(what: impl Into<String>, hint: impl Into<Hint>) -> Self {
        Self::Failed { what: what.into(), hint: hint.into(), source: None }
    }

    /// What to do, where the error says it.
    pub fn hint(&self) -> Option<&Hint> {
        match self {
            Self::Unavailable { hint, .. }
            | Self::Unsupported { hint, .. }
            | Self::Permission { hint, .. }
            | Self::Failed { hint, .. }
            | Self::Unfinished { hint, .. } => Some(hint),
            Self::Interrupted | Self::Record(_) => None,
        }
    }

    /// A failed call with its underlying error.
    pub fn caused(
        what: impl Into<String>,
        hint: impl Into<Hint>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed { what: what.into(), hint: hint.into(), source: Some(source.into()) }
    }
}

impl From<StackValueError> for ProviderError {
    /// Of what a machine is to be changed to: only another program can have written it.
    fn from(error: StackValueError) -> Self {
        Self::failed(error.to_string(), "apply the stack again, which reads its values from config.json")
    }
}

/// What the engine provides to a provider for the duration of one operation.
#[async_trait]
pub trait Work: Send {
    /// Saves durably that the resource exists or is about to. Only after `Ok` may the provider
    /// create it. A resource of the same kind and id is recorded once.
    async fn record_resource(&mut self, kind: &str, id: &str) -> Result<(), ProviderError>;

    /// Records durably the machine's current addresses, if they change during an operation.
    async fn save_addresses(&mut self, endpoints: Endpoints) -> Result<(), ProviderError>;

    /// The id that was recorded under this kind, by this operation or by an earlier one on the same VM.
    fn recorded_resource(&self, kind: &str) -> Option<&str>;

    /// The sink for progress events.
    fn events(&self) -> &dyn Events;

    /// Whether the user asked to stop: checked between two calls, never within one. The provider
    /// then returns [`ProviderError::Interrupted`].
    fn interrupted(&self) -> bool;

    /// Waits until the user asks to stop; for `select!` together with a wait or a download.
    async fn interruption(&self);

    /// How long the guest may take to power off before power off is forced: the user's setting, else `usual`.
    fn power_down_limit(&self, usual: Duration) -> Duration {
        usual
    }

    /// How long a wait that is `usual`ly this long may last: no longer than the operation's own limit.
    fn time_left(&self, usual: Duration) -> Duration {
        usual
    }

    /// Reports a step.
    fn step(&self, what: &str) {
        self.events().event(Event::Step { what: what.to_owned() });
    }
}

/// A provider. See the [module](self) for the rules.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What it is.
    fn info(&self) -> &'static ProviderInfo;

    /// The kind of this provider.
    fn id(&self) -> ProviderId {
        self.info().id
    }

    /// The features that it supports.
    fn capabilities(&self) -> Capabilities;

    /// What `create` would do; changes nothing and sends no requests.
    fn plan(&self, machine: &Machine) -> Result<ProviderPlan, ProviderError>;

    /// This host's public address, if the provider opens ports to addresses; `None` otherwise.
    async fn public_address(&self) -> Result<Option<IpAddr>, ProviderError> {
        Ok(None)
    }

    /// Creates the machine and starts it; returns when it has an address (not when it is booted).
    async fn create(&self, machine: &Machine, work: &mut dyn Work) -> Result<Endpoints, ProviderError>;

    /// Removes everything that was created for this VM, and nothing else.
    async fn delete(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError>;

    /// Starts a stopped machine; a running one is left as it is. Returns its current addresses.
    async fn start(&self, record: &Record, work: &mut dyn Work) -> Result<Endpoints, ProviderError>;

    /// Stops a machine and returns when it is off; a stopped one is left as it is.
    async fn stop(&self, record: &Record, mode: StopMode, work: &mut dyn Work) -> Result<(), ProviderError>;

    /// Observes all of these machines at once; one observation each, in their order.
    async fn observe(&self, records: &[&Record]) -> Vec<Observation>;

    /// Like [`Self::observe`], for a list that can't wait: a machine that doesn't answer within `limit` is *unknown*, and
    /// doesn't delay the answers about others. The caller has a limit of its own, so a provider that asks about all
    /// machines at once needs nothing here.
    async fn observe_soon(&self, records: &[&Record], _limit: Duration) -> Vec<Observation> {
        self.observe(records).await
    }

    /// Reads a section of the console log. `offset` is in bytes from the beginning of the console. The section is empty
    /// if there is no more output yet. Logs are bounded: a range that has been removed is skipped.
    async fn console(&self, record: &Record, offset: u64) -> Result<ConsolePiece, ProviderError>;

    /// All machines at the provider that none of `known` refers to, as far as this user may see them.
    async fn orphans(&self, known: &[&Record]) -> Result<Vec<Orphan>, ProviderError>;

    /// Looks up a machine that goloo didn't create, so that a record can be made for it. Changes nothing
    /// at the provider. `id` is the provider's own id; without it the VM's name is used.
    async fn adopt(&self, name: &VmName, id: Option<&str>) -> Result<Adopted, ProviderError>;

    /// Shows a VM's new name to people at the provider, and to its guest at the next boot, where the provider can. The
    /// record has the old name; the machine keeps the one that it is known by. May be called again.
    async fn show_new_name(&self, _: &Record, _: &VmName) -> Result<HostnameAtBoot, ProviderError> {
        Ok(HostnameAtBoot::Unchanged)
    }

    /// The provider's own command to access a machine that has no SSH key of goloo's: a program and its
    /// arguments, which this process is replaced by. `None` if there is only SSH.
    fn native_session_command(&self, _: &Record, _: GuestRequest<'_>) -> Option<Vec<OsString>> {
        None
    }

    /// Runs goloo's part of the user-data in a machine that lacks goloo's account, by a method that requires
    /// no key of goloo's. `false` if the provider has none.
    async fn restore_access(&self, _: &Record) -> Result<bool, ProviderError> {
        Ok(false)
    }

    /// The ports that a running machine has without `vm.ports`, because its guest listens on them; `None` if this isn't
    /// wanted (`vm.auto_ports`) or the provider can't tell.
    async fn automatic_ports(&self, _: &Record) -> Option<AutomaticPorts> {
        None
    }

    /// Private networks, if the provider makes them; if it doesn't, its machines may reach each other anyway.
    fn networks(&self) -> Option<&dyn Networks> {
        None
    }

    /// Snapshots of disks, if the provider supports them.
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }

    /// DNS names of machines, if the provider manages them.
    fn dns(&self) -> Option<&dyn DnsNames> {
        None
    }

    /// Copies of machines, if the provider supports them.
    fn clones(&self) -> Option<&dyn Clones> {
        None
    }

    /// Images of provisioned machines, if the provider supports them.
    fn bakes(&self) -> Option<&dyn Bakes> {
        None
    }

    /// Machines as files, if the provider supports them.
    fn exports(&self) -> Option<&dyn Exports> {
        None
    }

    /// Changes of machines, if the provider supports them.
    fn changes(&self) -> Option<&dyn Changes> {
        None
    }

    /// The resource usage of machines, if the provider knows it.
    fn usage(&self) -> Option<&dyn ResourceUsage> {
        None
    }
}

/// What a provider is opened with.
#[derive(Debug, Clone)]
pub struct ProviderContext {
    /// The state folder; a provider keeps its own files in a folder of it.
    pub state: PathBuf,
    /// The cache folder: what can be fetched again.
    pub cache: PathBuf,
    /// Which records are trusted.
    pub trust: Trust,
    /// goloo's public client key, when there is one.
    pub client_key: Option<String>,
}

/// A provider as a program registers it.
#[async_trait]
pub trait ProviderFactory: Send + Sync {
    /// What it is.
    fn info(&self) -> &'static ProviderInfo;

    /// Checks the provider's section of a record that others may have written. A record that fails is shown as broken.
    ///
    /// # Errors
    /// [`DetailsError`] names the first field that breaks its rule.
    fn check_details(&self, details: &Extra) -> Result<(), DetailsError>;

    /// The JSON Schema of the provider's own section of `config.json`, under its id; `None` where it has none.
    fn config_schema(&self) -> Option<serde_json::Value> {
        None
    }

    /// Whether its program is installed here: asked before [`LocalChoice::IfInstalled`](crate::provider_info::LocalChoice)
    /// chooses it. It may not work for all that.
    fn is_installed(&self, _: &ProviderContext) -> bool {
        true
    }

    /// Whether this user has ever set it up: otherwise nobody looks there for machines without a record.
    fn is_set_up(&self) -> bool {
        true
    }

    /// What the state folder shows of a record's machine; `None` where the provider keeps nothing there.
    fn locate(&self, _: &ProviderContext, _: &Record) -> Option<MachineLocation> {
        None
    }

    /// Who could reach port 22 of a record's machine, as CIDR blocks; none where the provider doesn't decide that.
    fn ssh_blocks(&self, _: &Record) -> Vec<String> {
        Vec::new()
    }

    /// Diagnoses what it needs on this computer.
    ///
    /// # Errors
    /// When its settings can't be used.
    async fn doctor(&self, _: &ProviderContext) -> Result<Vec<Check>, ProviderError> {
        Ok(Vec::new())
    }

    /// Opens the provider, with its settings from the environment.
    ///
    /// # Errors
    /// When they can't be used.
    async fn open(&self, context: &ProviderContext) -> Result<Box<dyn Provider>, ProviderError>;
}

/// A resource as reported by a provider, for the record.
pub fn resource(kind: &str, id: &str, operation: &OperationId) -> Resource {
    Resource {
        kind: kind.to_owned(),
        id: id.to_owned(),
        operation: operation.clone(),
        extra: serde_json::Map::new(),
    }
}
