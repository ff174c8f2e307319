//! What makes machines: the contract that every provider keeps.
//!
//! The rules, each a case in the conformance suite (`goloo-testkit`):
//! - [`Provider::create`] called again with the same operation token makes no second machine: it
//!   finds or finishes the first. It may be called again after a crash at any point.
//! - [`Provider::delete`] of something that is gone, or was never made, is success.
//! - [`Provider::observe`] answers for all machines in one go and says *unknown* where it can't know;
//!   it never says *missing* because of a failure to ask.
//! - Nothing that goloo did not make is ever touched.
//! - Before anything is made, [`Work::made`] is awaited with what leads to it.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;

use crate::access::PublicHostKey;
use crate::dns::{DnsChange, NameNow, Previous, RecordSet};
use crate::events::{Event, Events};
use crate::name::{OperationId, VmId, VmName};
use crate::record::{Aws, Local, ProviderKind, Record, Resource};
use crate::spec::ResolvedStack;
use crate::store::StoreError;
use crate::time::Timestamp;

/// All that a provider needs to make one machine.
#[derive(Clone)]
pub struct Machine {
    /// The VM's identity.
    pub id: VmId,
    /// The VM's name.
    pub name: VmName,
    /// The create's token.
    pub token: OperationId,
    /// What it is made from.
    pub stack: ResolvedStack,
    /// What cloud-init gets: the user's document and goloo's part, composed.
    pub user_data: Vec<u8>,
    /// The machine's public host key: no other machine has it.
    pub host_key: PublicHostKey,
    /// Whether what is there of a create that fails stays, to be looked at.
    pub keep_failed: bool,
    /// Whether its DNS names are taken over from whoever has them.
    pub force_dns: bool,
}

/// The user-data has the private host key in it, and is left out.
impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, token, stack, user_data, host_key, keep_failed, force_dns } = self;
        f.debug_struct("Machine")
            .field("id", id)
            .field("name", name)
            .field("token", token)
            .field("stack", stack)
            .field("user_data", &format_args!("{} bytes", user_data.len()))
            .field("host_key", host_key)
            .field("keep_failed", keep_failed)
            .field("force_dns", force_dns)
            .finish()
    }
}

/// A pure account of what [`Provider::create`] would do.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderPlan {
    /// What would be done, in order, a sentence each.
    pub steps: Vec<String>,
    /// What a person should know before.
    pub warnings: Vec<String>,
    /// The provider's own section of `--dry-run --json`: `{"argv": […]}` for qemu.
    pub detail: serde_json::Value,
}

/// The addresses of a machine, as they go into the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// On this machine.
    Local(Local),
    /// In AWS.
    Aws(Aws),
}

/// What a provider says of a machine now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveState {
    /// On its way up, or up.
    Running,
    /// Off; its disk is there.
    Stopped,
    /// Not there.
    Missing,
    /// Can't be told.
    Unknown,
}

impl LiveState {
    /// The word in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
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

/// One machine, observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Its state.
    pub state: LiveState,
    /// Its address, when it runs and has one.
    pub ip: Option<String>,
    /// Why the state is unknown, when it is; or what the word for it leaves out.
    pub reason: Option<String>,
}

/// How a machine is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Ask the guest, wait for a limit, then cut the power.
    Graceful,
    /// Cut the power at once.
    Force,
    /// Keep the memory on disk and stop; the next start goes on from there. A provider that can't
    /// says [`ProviderError::Unsupported`] and leaves the machine as it is.
    Suspend,
}

/// A piece of a console's log; at most 1 MiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsolePiece {
    /// What the guest wrote.
    pub bytes: Vec<u8>,
    /// Where the next piece begins.
    pub next: u64,
}

impl ConsolePiece {
    /// The piece from `offset` on of a log that is there as a whole.
    pub fn of(whole: &[u8], offset: u64) -> Self {
        let rest = usize::try_from(offset).ok().and_then(|start| whole.get(start..)).unwrap_or_default();
        let bytes = rest[..rest.len().min(1 << 20)].to_vec();
        Self { next: offset + bytes.len() as u64, bytes }
    }
}

/// What a provider can do beyond the trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Has a console log.
    pub console: bool,
    /// Suspends machines ([`StopMode::Suspend`]).
    pub suspend: bool,
}

/// A machine at the provider that none of the records in question leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// What the provider calls it.
    pub name: String,
    /// Its id there, as `adopt --id` takes it.
    pub id: String,
    /// Its state now.
    pub state: LiveState,
    /// Whether it carries goloo's marks: a record of it was lost. Otherwise someone else made it.
    pub ours: bool,
}

/// A machine that a record is to be made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The VM's id, where goloo made the machine and its record was lost.
    pub id: Option<VmId>,
    /// What leads to it: kind and id, as [`Work::made`] would have noted them.
    pub resources: Vec<(String, String)>,
    /// Its addresses, when it has any.
    pub made: Option<Made>,
}

/// What a person wants in a machine that goloo has no key for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand<'a> {
    /// A shell.
    Shell,
    /// A program with its arguments.
    Run(&'a [String]),
    /// Files from here to there; folders too where `recursive`.
    Upload {
        /// Path here.
        from: &'a str,
        /// Path there.
        to: &'a str,
        /// With all that is in folders.
        recursive: bool,
    },
    /// Files from there to here.
    Download {
        /// Path there.
        from: &'a str,
        /// Path here.
        to: &'a str,
        /// With all that is in folders.
        recursive: bool,
    },
}

/// A snapshot of a machine's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSnapshot {
    /// What it is called, unique for the machine.
    pub label: String,
    /// When it was taken, where the provider tells.
    pub created_at: Option<Timestamp>,
}

/// Snapshots of disks. Taking and restoring wants a stopped machine: a running one is
/// [`ProviderError::Unsupported`] with the command that stops it, and nothing is changed.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// All of a machine's snapshots, oldest first.
    async fn list(&self, record: &Record) -> Result<Vec<DiskSnapshot>, ProviderError>;

    /// Takes one. A label that is there already is refused.
    async fn take(&self, record: &Record, label: &str) -> Result<(), ProviderError>;

    /// Puts the disk back as it was; what came after is lost. The snapshot stays.
    async fn restore(&self, record: &Record, label: &str) -> Result<(), ProviderError>;

    /// Removes one; gone already is success.
    async fn remove(&self, record: &Record, label: &str) -> Result<(), ProviderError>;
}

/// Copies of whole machines.
#[async_trait]
pub trait Clones: Send + Sync {
    /// Makes a stopped copy of a stopped machine. `copy` is the new machine's record, which has no
    /// addresses yet. Called again after a crash it finds or finishes the first copy.
    async fn clone_machine(
        &self,
        source: &Record,
        copy: &Record,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError>;
}

/// A VM whose names are to move, and where it is reached now.
#[derive(Debug, Clone, Copy)]
pub struct NamedVm<'r> {
    /// Its record.
    pub record: &'r Record,
    /// Its address as the provider sees it; `None` where it isn't up.
    pub live: Option<&'r str>,
}

/// DNS names that can move from one machine to another. What it reads of records is pure; only
/// [`DnsNames::carry_out`] changes anything.
#[async_trait]
pub trait DnsNames: Send + Sync {
    /// Whether `holder` has, by its record, a name that `record` asks for.
    fn shares(&self, record: &Record, holder: &Record) -> bool;

    /// Who had the VM's names before it got them.
    fn previous(&self, record: &Record) -> Option<Previous>;

    /// The names that a VM has or asks for, and whose they are now; `others` are the VMs that they may
    /// lead to.
    async fn names(&self, record: &Record, others: &[Record]) -> Result<Vec<NameNow>, ProviderError>;

    /// How all names that `taker` asks for come to lead to it. What is neither VM's is refused, with what it
    /// leads to, unless `force`.
    async fn swap(
        &self,
        taker: NamedVm<'_>,
        giver: Option<NamedVm<'_>>,
        force: bool,
    ) -> Result<DnsChange, ProviderError>;

    /// How the names that `giver` got go back to who had them before: the taker, at its address now, and
    /// others, as it was. `previous` is what [`DnsNames::previous`] gave.
    async fn rollback(
        &self,
        giver: NamedVm<'_>,
        taker: Option<NamedVm<'_>>,
        previous: &Previous,
        force: bool,
    ) -> Result<DnsChange, ProviderError>;

    /// Does all of it at once, or nothing: also where the names aren't as they were any more. After an
    /// error [`DnsNames::live`] tells which.
    async fn carry_out(&self, change: &DnsChange) -> Result<(), ProviderError>;

    /// All that the names of a change have now.
    async fn live(&self, change: &DnsChange) -> Result<Vec<RecordSet>, ProviderError>;

    /// Notes in the record of one of both VMs which names are about to move, so that a delete finds them
    /// however that ends.
    fn note(&self, change: &DnsChange, operation: &OperationId, record: &mut Record);

    /// Writes into the record of one of both VMs what came of a change: `live` is all that its names have.
    fn settle(&self, change: &DnsChange, live: &[RecordSet], record: &mut Record);
}

/// Why a provider could not do it. `hint` is a command or an action, in every variant.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The provider isn't installed or doesn't run.
    #[error("{what}")]
    Unavailable {
        /// What is missing.
        what: String,
        /// How to get it.
        hint: String,
    },
    /// The stack asks for something that this provider can't do.
    #[error("{what}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What to write instead.
        hint: String,
    },
    /// Credentials are missing or lack a permission.
    #[error("{what}")]
    Permission {
        /// What was refused.
        what: String,
        /// How to get the permission.
        hint: String,
    },
    /// The call failed.
    #[error("{what}")]
    Failed {
        /// What was being done, and the first cause.
        what: String,
        /// What to do.
        hint: String,
        /// What lies beneath.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The machine is there, or still being made, and isn't what was asked for. Nothing is undone: the
    /// same operation can go on with it later.
    #[error("{what}")]
    Unfinished {
        /// What was waited for in vain.
        what: String,
        /// What to do before going on.
        hint: String,
    },
    /// Interrupted by the user between two calls; what was made has been reported.
    #[error("interrupted")]
    Interrupted,
    /// What was made couldn't be recorded, so nothing more was made.
    #[error("the record can't be saved")]
    Record(#[from] StoreError),
}

impl ProviderError {
    /// A failed call without a deeper cause.
    pub fn failed(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), hint: hint.into(), source: None }
    }

    /// A failed call with its cause.
    pub fn caused(
        what: impl Into<String>,
        hint: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed { what: what.into(), hint: hint.into(), source: Some(source.into()) }
    }
}

/// What the engine lends to a provider for the length of one operation.
#[async_trait]
pub trait Work: Send {
    /// Writes durably that the resource exists or is about to. Only after `Ok` may the provider
    /// make it. A resource of the same kind and id is noted once.
    async fn made(&mut self, kind: &str, id: &str) -> Result<(), ProviderError>;

    /// Writes durably where the machine is reached now, where that changes in the middle of an operation.
    async fn save_addresses(&mut self, made: Made) -> Result<(), ProviderError>;

    /// The id that was noted under this kind, by this operation or by an earlier one on the same VM.
    fn noted(&self, kind: &str) -> Option<&str>;

    /// Where progress goes.
    fn events(&self) -> &dyn Events;

    /// Whether the user asked to stop: looked at between two calls, never within one. The provider
    /// then returns [`ProviderError::Interrupted`].
    fn interrupted(&self) -> bool;

    /// Waits until the user asks to stop; for `select!` beside a wait or a download.
    async fn interruption(&self);

    /// How long the guest may take to power off before its power is cut: what the user said, else `usual`.
    fn power_down_limit(&self, usual: Duration) -> Duration {
        usual
    }

    /// How long a wait may last that is `usual`ly this long: no longer than the operation's own limit.
    fn time_left(&self, usual: Duration) -> Duration {
        usual
    }

    /// Says what is being done.
    fn step(&self, what: &str) {
        self.events().event(Event::Step { what: what.to_owned() });
    }
}

/// A provider. See the [module](self) for the rules.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Which one this is.
    fn kind(&self) -> ProviderKind;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// What `create` would do; touches nothing, asks nobody.
    fn plan(&self, machine: &Machine) -> Result<ProviderPlan, ProviderError>;

    /// This computer's public address, where the provider opens ports to addresses; `None` where it doesn't.
    async fn public_address(&self) -> Result<Option<IpAddr>, ProviderError> {
        Ok(None)
    }

    /// Makes the machine and starts it; returns when it has an address (not when it is booted).
    async fn create(&self, machine: &Machine, work: &mut dyn Work) -> Result<Made, ProviderError>;

    /// Removes all that was made for this VM, and nothing else.
    async fn delete(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError>;

    /// Starts a stopped machine; a running one is left as it is. Returns its addresses now.
    async fn start(&self, record: &Record, work: &mut dyn Work) -> Result<Made, ProviderError>;

    /// Stops a machine and returns when it is off; a stopped one is left as it is.
    async fn stop(&self, record: &Record, mode: StopMode, work: &mut dyn Work) -> Result<(), ProviderError>;

    /// Looks at all of these machines at once; one observation each, in their order.
    async fn observe(&self, records: &[&Record]) -> Vec<Observation>;

    /// Reads a piece of the console's log. `offset` is in bytes from the beginning of the console. The piece is empty if
    /// there is no more output yet. Logs are bounded: a range that has been removed is skipped.
    async fn console(&self, record: &Record, offset: u64) -> Result<ConsolePiece, ProviderError>;

    /// All machines there that none of `known` leads to, as far as this user may see them.
    async fn strays(&self, known: &[&Record]) -> Result<Vec<Stray>, ProviderError>;

    /// Looks up a machine that goloo didn't make, so that a record of it can be made. Changes nothing
    /// at the provider. `id` is the provider's own; without it the VM's name counts.
    async fn adopt(&self, name: &VmName, id: Option<&str>) -> Result<Adopted, ProviderError>;

    /// The provider's own way into a machine, for one without an SSH key of goloo's: a program and its
    /// arguments, which this process becomes. `None` when there is only SSH.
    fn own_way_in(&self, _: &Record, _: Errand<'_>) -> Option<Vec<OsString>> {
        None
    }

    /// Runs goloo's part of the user-data in a machine that doesn't know goloo's account, by a way in that needs
    /// no key of goloo's. `false` where the provider has none.
    async fn restore_access(&self, _: &Record) -> Result<bool, ProviderError> {
        Ok(false)
    }

    /// Snapshots of disks, where the provider has them.
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }

    /// DNS names of machines, where the provider keeps them.
    fn dns(&self) -> Option<&dyn DnsNames> {
        None
    }

    /// Copies of machines, where the provider can make them.
    fn clones(&self) -> Option<&dyn Clones> {
        None
    }
}

/// A resource as a provider reports it, for the record.
pub fn resource(kind: &str, id: &str, operation: &OperationId) -> Resource {
    Resource {
        kind: kind.to_owned(),
        id: id.to_owned(),
        operation: operation.clone(),
        extra: serde_json::Map::new(),
    }
}
