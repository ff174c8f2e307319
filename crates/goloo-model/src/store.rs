//! Stores of records: the contract that every back end fulfils.
//!
//! The rules, each a case in the conformance suite (`goloo-testkit`):
//! - Every write requires a [`VmLock`]; only the lock has the writing methods.
//! - Every write names the serial that it replaces; a stale one is refused and changes nothing.
//! - When a write returns `Ok` it is durable. When it returns an error the store contains the old state,
//!   or (a lost reply) the new one; never a mixture.
//! - Reads take no lock and see a record before or after a write, never in between.
//! - A broken record doesn't affect any other, is reported with its location, and is left where it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::database_error::{DatabaseDamage, UntrustedDatabase};
use crate::hint::{Hint, NextStep};
use crate::lock_table_error::LockTableError;
use crate::name::{ArchiveId, VmId, VmName};
use crate::provider_id::ProviderId;
use crate::record::{Membership, Owner, Phase, ProvisioningResult, Record};
use crate::time::Timestamp;

/// The files of a stack that a snapshot may contain, in display order.
pub const SNAPSHOT_FILES: [&str; 3] = ["config.json", "cloud-init.yaml", "configure.sh"];

/// Byte-for-byte copies of the stack's files that a VM was last provisioned with, by file name
/// (one of [`SNAPSHOT_FILES`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// File name → content.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// What `list` shows about one VM; cheap to read for thousands of VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The VM's name.
    pub name: VmName,
    /// The VM's id.
    pub id: VmId,
    /// The provider of its machine.
    pub provider: ProviderId,
    /// Whether its machine belongs to one host, as its record says.
    pub host_bound: bool,
    /// The phase of its life cycle.
    pub phase: Phase,
    /// The result of its provisioning, if there is one.
    pub provisioning: Option<ProvisioningResult>,
    /// Whether an operation is in progress or was interrupted.
    pub operation: bool,
    /// Whether something has been changed for the machine's next start.
    pub restart_pending: bool,
    /// The name under which it may still be stored too, because its rename isn't finished.
    pub renamed_from: Option<VmName>,
    /// Name of the stack that the VM was created from.
    pub stack: String,
    /// When its record was created.
    pub created_at: Timestamp,
    /// Who created it.
    pub created_by: CreatedBy,
    /// When it terminates itself, if it does.
    pub ends_at: Option<Timestamp>,
    /// Its address, if it has one.
    pub ip: Option<String>,
    /// The port of its SSH server, if known.
    pub ssh_port: Option<u16>,
    /// Its DNS name, if it has one.
    pub fqdn: Option<String>,
    /// The stack's folder at creation.
    pub source_config_path: Option<PathBuf>,
    /// The environment that it belongs to, if it is part of one.
    pub membership: Option<Box<Membership>>,
    /// The user's own labels, sorted; one map per VM would be half of a list's cost.
    pub tags: Vec<(String, String)>,
}

/// The creator of a VM, as far as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedBy {
    /// The user's login name.
    pub user: Box<str>,
    /// The host's name.
    pub host: Box<str>,
    /// The host's identity, which survives a rename.
    pub host_id: Box<str>,
}

impl From<&Record> for Summary {
    fn from(record: &Record) -> Self {
        Self {
            name: record.name.clone(),
            id: record.id.clone(),
            provider: record.provider,
            host_bound: record.host_bound,
            phase: record.phase,
            provisioning: record.provisioning.as_ref().map(|provisioning| provisioning.result),
            operation: record.operation.is_some(),
            restart_pending: !record.restart_pending.is_empty(),
            renamed_from: record.renamed_from().cloned(),
            stack: record.stack.to_string(),
            created_at: record.created_at,
            created_by: CreatedBy {
                user: record.created_by.user.as_str().into(),
                host: record.created_by.host.as_str().into(),
                host_id: record.created_by.host_id.as_str().into(),
            },
            ends_at: record.ends_at,
            ip: record.ip().map(str::to_owned),
            ssh_port: record.ssh_port(),
            fqdn: record.fqdn().map(str::to_owned),
            source_config_path: record.source_config_path.as_deref().map(Path::to_owned),
            membership: record.membership.clone().map(Box::new),
            tags: record.tags.clone().into_iter().collect(),
        }
    }
}

/// A record that can't be read: reported, never moved or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The name under which it is stored (a folder's or key's name; not checked).
    pub name: String,
    /// Where it is stored.
    pub path: String,
    /// What is wrong with it.
    pub error: String,
}

/// All entries in one part of the store, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// The readable entries.
    pub entries: Vec<T>,
    /// The unreadable entries.
    pub broken: Vec<Broken>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), broken: Vec::new() }
    }
}

/// A record in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Its archive id.
    pub id: ArchiveId,
    /// When it was deleted.
    pub deleted_at: Timestamp,
    /// The record as it was last saved.
    pub record: Record,
}

/// A record as read, and whether it was recovered from the copy before the last save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The record.
    pub record: Record,
    /// Why `state.json` itself was unusable, if the previous copy was used.
    pub recovered: Option<Broken>,
}

/// Errors of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name belongs to an active VM.
    #[error("the name \"{name}\" is taken by an active VM")]
    NameTaken {
        /// The name.
        name: VmName,
    },
    /// No active VM has that name.
    #[error("no VM is called \"{name}\"")]
    NotFound {
        /// The name.
        name: VmName,
    },
    /// The archive has no record with that id.
    #[error("the archive has no record \"{id}\"")]
    NotArchived {
        /// The id.
        id: ArchiveId,
    },
    /// The lock is held by someone else.
    #[error("\"{name}\" is locked by {}", holder.as_deref().unwrap_or("another process"))]
    Locked {
        /// The name.
        name: VmName,
        /// The holder, as far as known: "ann on laptop (pid 4711)".
        holder: Option<String>,
        /// When the lease expires without a heartbeat; `None` if the lock ends with its process.
        lease_end: Option<Timestamp>,
    },
    /// The record has changed since it was read.
    #[error("\"{name}\" was changed in the meantime: the stored serial is {found}, not {expected}")]
    Stale {
        /// The name.
        name: VmName,
        /// The serial that the writer had read.
        expected: u64,
        /// The serial that is stored.
        found: u64,
    },
    /// The record can't be read.
    #[error("the record at {} can't be read: {}", .0.path, .0.error)]
    Broken(Broken),
    /// The record was written by a newer goloo and is read-only here.
    #[error(
        "the record of \"{name}\" has format {found}; this version of goloo writes format {known} and can read the record but not change it"
    )]
    Newer {
        /// The name.
        name: VmName,
        /// The record's format.
        found: u32,
        /// The newest format that this goloo writes.
        known: u32,
    },
    /// The store is on a file system that can't provide its guarantees.
    #[error("{path} is on {filesystem}, where locks and renames are unreliable")]
    Unsuitable {
        /// The store's path.
        path: PathBuf,
        /// The file system's name.
        filesystem: String,
    },
    /// The store was moved: this one is read-only.
    #[error("{place} was moved to {to} and is now read-only")]
    Moved {
        /// This store's location.
        place: String,
        /// The new store's location, as given to `goloo state move`.
        to: String,
    },
    /// The move marker to be replaced has been removed: the store is in use.
    #[error("{place} is no longer marked as moved")]
    NotMoved {
        /// The store's location.
        place: String,
    },
    /// The lock was lost: its lease expired, and someone else took it over. Nothing was written.
    #[error("the lock of \"{name}\" was lost{}", taken_by(by))]
    LockLost {
        /// The name.
        name: VmName,
        /// The current holder, as far as known.
        by: Option<String>,
    },
    /// Locks of this store are released when their process ends; they can't be broken.
    #[error("the lock of \"{name}\" is held until its process exits: {holder}")]
    Unbreakable {
        /// The name.
        name: VmName,
        /// The holder.
        holder: String,
    },
    /// The store's service is unreachable, or doesn't answer in time.
    #[error("{place} can't be reached")]
    Unreachable {
        /// The store's location.
        place: String,
        /// The underlying error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store's bucket doesn't exist.
    #[error("there is no bucket for {place}")]
    NoBucket {
        /// The store's location.
        place: String,
    },
    /// The store's service denies access: credentials are missing, wrong, or lack a permission.
    #[error("no permission to {action} in {place}")]
    Denied {
        /// The store's location.
        place: String,
        /// The action, with the name of the permission if known: "write (s3:PutObject)".
        action: String,
        /// The underlying error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The settings or the environment contain an invalid value.
    #[error("{place} can't be opened: {message}")]
    Misconfigured {
        /// The store's location.
        place: String,
        /// What is wrong, and where it is set.
        message: String,
        /// How to set it.
        hint: Hint,
    },
    /// The store's service rejects every request, for a reason that the user can fix.
    #[error("{place} is unavailable: {problem}")]
    Service {
        /// The store's place.
        place: String,
        /// The reason.
        problem: ServiceProblem,
        /// The underlying error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store's service doesn't support conditional writes: concurrent changes could be lost silently.
    #[error("records in {place} would not be safe: {seen}")]
    UnsafeWrites {
        /// The store's location.
        place: String,
        /// What the service did, such as "it created an object twice".
        seen: String,
        /// Whether a lock table can replace conditional writes.
        lock_table: bool,
    },
    /// The program was built without what the settings ask for.
    #[error("this build of goloo does not include {what}")]
    NotInBuild {
        /// What it lacks: an address, or "lock tables".
        what: String,
        /// The Cargo feature that a build needs for it.
        feature: &'static str,
    },
    /// The store's database is damaged.
    #[error("can't {action} in {}", source.file.display())]
    Damaged {
        /// What was being done: "read", "lock", …
        action: &'static str,
        /// The damage.
        source: DatabaseDamage,
    },
    /// The store's database holds something that others may have put there, and isn't used.
    #[error("can't {action} in {}", file.display())]
    Untrusted {
        /// What was being done: "read", "lock", …
        action: &'static str,
        /// The database.
        file: PathBuf,
        /// What was found.
        source: UntrustedDatabase,
    },
    /// The lock table of a bucket gives no row.
    #[error("can't {action} in {place}")]
    LockTable {
        /// What was being done: "write", …
        action: &'static str,
        /// The store's place.
        place: String,
        /// The reason.
        source: LockTableError,
    },
    /// The store's service or database failed.
    #[error("can't {action} in {place}")]
    Backend {
        /// The action: "write", "lock", …
        action: &'static str,
        /// The store's location.
        place: String,
        /// The underlying error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The operating system returned an error.
    #[error("can't {action} {path}")]
    Io {
        /// The action: "write", "rename", …
        action: &'static str,
        /// The path concerned.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

/// A reason for which a service rejects every request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceProblem {
    /// Requests are dated, and the service rejects those with a wrong date.
    #[error("this computer's clock and the service's differ by minutes")]
    ClockSkew,
    /// The single sign-on session has expired, or was never started.
    #[error("the single sign-on session has expired")]
    SsoSession {
        /// Its profile, if the environment names one.
        profile: Option<String>,
    },
    /// The service's certificate isn't signed by an authority that this host trusts.
    #[error("its certificate is signed by an unknown authority")]
    UnknownAuthority,
    /// The bucket is in another region than configured.
    #[error("the bucket is in {}", region.as_deref().unwrap_or("another region"))]
    WrongRegion {
        /// The bucket's region, if the service names it.
        region: Option<String>,
    },
}

impl ServiceProblem {
    /// What to do, starting with a verb.
    pub fn hint(&self) -> Hint {
        match self {
            Self::ClockSkew => {
                "set the clock of this computer, for example with timedatectl set-ntp true".into()
            }
            Self::SsoSession { profile: Some(profile) } => {
                format!("run aws sso login --profile {profile}").into()
            }
            Self::SsoSession { profile: None } => "run aws sso login".into(),
            Self::UnknownAuthority => {
                "name a file with the authority's certificate: export AWS_CA_BUNDLE=FILE".into()
            }
            Self::WrongRegion { region } => {
                let region = region.as_deref().unwrap_or("REGION");
                let (key, value) = ("stateBackend.region".to_owned(), region.to_owned());
                Hint::from(format!("set region={region} in the address; in the settings: "))
                    .step(NextStep::SettingsSet { key, value })
            }
        }
    }
}

/// What to do about a service without conditional writes.
pub fn safe_writes_hint(lock_table: bool) -> Hint {
    let change = if lock_table {
        "add a lock table to the address (&lockTable=TABLE; docs/state.md shows how to create one), or use another \
         service: "
    } else {
        "use a service that honors conditional writes: "
    };
    Hint::from(change).step(NextStep::StateMove).text(" moves the records too")
}

fn taken_by(by: &Option<String>) -> String {
    by.as_ref().map_or_else(String::new, |by| format!(" to {by}"))
}

/// A held lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLock {
    /// The name that is locked.
    pub name: VmName,
    /// Its holder, if readable.
    pub owner: Option<Owner>,
    /// When the lease expires without a heartbeat, by the store's clock; `None` if the
    /// lock ends with its process.
    pub lease_end: Option<Timestamp>,
}

impl HeldLock {
    /// The error for anyone else who requests the lock.
    pub fn refusal(self) -> StoreError {
        let holder = self.owner.map(|owner| owner.to_string());
        StoreError::Locked { name: self.name, holder, lease_end: self.lease_end }
    }
}

/// A store of records. See the [module](self) for the rules.
#[async_trait]
pub trait Store: Send + Sync {
    /// The location, as users name it: a path or a URL.
    fn location(&self) -> String;

    /// Where the record of a VM or an archived record is, for error messages. `key` is a name or an archive id.
    fn record_location(&self, key: &str) -> String {
        format!("{}#{key}", self.location())
    }

    /// The names of all active VMs, sorted, without opening any record.
    async fn names(&self) -> Result<Vec<String>, StoreError>;

    /// All active VMs. A missing store is treated as empty; reading creates nothing.
    async fn list(&self) -> Result<Listing<Summary>, StoreError>;

    /// One active VM's record; `None` if no VM has the name.
    async fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError>;

    /// The files that an active VM was created from, or last provisioned with.
    async fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError>;

    /// Takes the lock of a name, whether a VM has it or not. Doesn't wait: a held lock
    /// returns [`StoreError::Locked`]. The lock is released when the value is dropped or the process ends.
    async fn lock(&self, name: &VmName, owner: &Owner) -> Result<Box<dyn VmLock>, StoreError>;

    /// The archive, newest first.
    async fn archive_list(&self) -> Result<Listing<Archived>, StoreError>;

    /// The archive's records of VMs that had this name, newest first.
    async fn archive_of(&self, name: &VmName) -> Result<Listing<Archived>, StoreError> {
        let mut archive = self.archive_list().await?;
        archive.entries.retain(|archived| archived.record.name == *name);
        Ok(archive)
    }

    /// One archived record; `None` if the archive has no such id.
    async fn archive_load(&self, id: &ArchiveId) -> Result<Option<Archived>, StoreError>;

    /// The same of an archived VM.
    async fn archive_snapshot(&self, id: &ArchiveId) -> Result<Snapshot, StoreError>;

    /// Removes one record from the archive permanently; if it no longer exists, [`StoreError::NotArchived`]. `by` is
    /// the caller: an unfinished move to the archive is completed first under its lock.
    async fn archive_delete(&self, id: &ArchiveId, by: &Owner) -> Result<(), StoreError>;

    /// Copies a record from another store into the archive, unchanged: id, serial and bytes. If the same
    /// record is already there (by id and serial), this succeeds and changes nothing; another one under that id
    /// is [`StoreError::Stale`] if its serial is higher and is replaced if it is lower.
    async fn archive_put(&self, archived: &Archived, snapshot: &Snapshot) -> Result<(), StoreError>;

    /// The complete records of all active VMs, sorted by name; broken ones are reported as in [`Store::list`].
    async fn records(&self) -> Result<Listing<Loaded>, StoreError>;

    /// The currently held locks, sorted by name. Takes and breaks none.
    async fn locks(&self) -> Result<Vec<HeldLock>, StoreError>;

    /// Breaks a lock: its holder's next write is refused with [`StoreError::LockLost`]. `None` if it wasn't
    /// held; [`StoreError::Unbreakable`] if a lock ends with its process.
    async fn break_lock(&self, name: &VmName) -> Result<Option<HeldLock>, StoreError>;

    /// Checks that the store supports conditional writes, if that can't be assumed. Every write of a store
    /// does this first; this is for callers who need to know before they change anything else.
    ///
    /// # Errors
    /// [`StoreError::UnsafeWrites`] if it doesn't; others if it can't be determined.
    async fn require_safe_writes(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Where the store was moved to, if it was: then every lock and every change of the archive is
    /// refused with [`StoreError::Moved`]; reads still work.
    async fn moved_to(&self) -> Result<Option<String>, StoreError>;

    /// Replaces an existing move marker by another; `None` means no marker, that is, a store in use. Durable on
    /// return. If the new marker is already set, this succeeds; any other one is [`StoreError::Moved`], and a missing
    /// one that was to be replaced [`StoreError::NotMoved`]: of several callers that replace the same marker, one
    /// succeeds. A lock that is held meanwhile must not be able to write to a marked store.
    async fn set_moved(&self, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError>;
}

/// The rule of [`Store::set_moved`], for back ends: whether the marker found allows that change.
///
/// # Errors
/// [`StoreError::Moved`] and [`StoreError::NotMoved`], as described there.
pub fn check_mark(
    place: &str,
    found: Option<&str>,
    replaces: Option<&str>,
    to: Option<&str>,
) -> Result<(), StoreError> {
    let place = place.to_owned();
    match found {
        found if found == to || found == replaces => Ok(()),
        Some(other) => Err(StoreError::Moved { place, to: other.to_owned() }),
        None => Err(StoreError::NotMoved { place }),
    }
}

/// The right to write one VM's record. Taking it first completes the unfinished work of a dead owner
/// (an incomplete claim is removed, an incomplete move to the archive is completed).
#[async_trait]
pub trait VmLock: Send + Sync {
    /// The name that is locked.
    fn name(&self) -> &VmName;

    /// The current record, read under the lock.
    async fn load(&mut self) -> Result<Option<Loaded>, StoreError>;

    /// The snapshot, read under the lock.
    async fn snapshot(&mut self) -> Result<Snapshot, StoreError>;

    /// Claims the name: record and snapshot appear together or not at all. `record.serial` must be
    /// 0 and is 1 afterwards. [`StoreError::NameTaken`] if the name is active.
    async fn create(&mut self, record: &mut Record, snapshot: &Snapshot) -> Result<(), StoreError>;

    /// Replaces the record. On success `record.serial` is one higher and `record.updated_at` is now;
    /// on failure both are as they were.
    async fn save(&mut self, record: &mut Record) -> Result<(), StoreError>;

    /// Replaces the record and its snapshot, together or not at all; otherwise as [`Self::save`].
    /// `record.reprovisioned` must name these files.
    async fn save_with_snapshot(
        &mut self,
        record: &mut Record,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError>;

    /// Copies a record from another store under this name, unchanged: id, serial and bytes. If the
    /// same record is already there (by id and serial), this succeeds and changes nothing; one of the same id with
    /// a higher serial is [`StoreError::Stale`], one with a lower serial is replaced; one of another id is
    /// [`StoreError::NameTaken`].
    async fn put(&mut self, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError>;

    /// The former owner, if the lock was taken over after their lease had expired or was broken: what they started
    /// at the provider may still be in progress, and must be inspected before anything else.
    fn taken_over(&self) -> Option<&Owner>;

    /// When the lock expires after a write that is made now, without a later heartbeat:
    /// by the store's clock; `None` if it ends with its process.
    fn lease_end(&self) -> Option<Timestamp>;

    /// Moves record and snapshot to the archive: saves the record (which must have phase
    /// `destroyed`) and then moves it in one step. The name is free afterwards.
    async fn archive(&mut self, record: &mut Record, at: Timestamp) -> Result<ArchiveId, StoreError>;

    /// Removes record and snapshot without an entry in the archive, for a VM whose record is under another name by now.
    /// The stored record must be this one, by id and serial. The name is free afterwards.
    async fn remove(&mut self, record: &Record) -> Result<(), StoreError>;

    /// Releases the lock, as dropping it does, but without blocking the thread: many locks of a remote store can be
    /// released concurrently. A lease that can't be released expires.
    async fn release(self: Box<Self>) {}
}
