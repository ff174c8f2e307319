//! Where records live: the contract that every back end keeps.
//!
//! The rules, each a case in the conformance suite (`goloo-testkit`):
//! - Nobody writes without a [`VmLock`]; the lock alone has the writing methods.
//! - Every write names the serial that it replaces; a stale one is refused and changes nothing.
//! - When a write returns `Ok` it is durable. When it returns an error the old state is still there,
//!   or (a lost reply) the new one; never a mixture.
//! - Reads take no lock and see a record before or after a write, never between.
//! - A broken record breaks no other, is shown with its place, and is left where it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::name::{ArchiveId, VmId, VmName};
use crate::record::{Owner, Phase, ProviderKind, Record};
use crate::time::Timestamp;

/// The files of a stack that a snapshot may hold, in the order in which they are shown.
pub const SNAPSHOT_FILES: [&str; 3] = ["config.json", "cloud-init.yaml", "configure.sh"];

/// Byte-for-byte copies of the stack's files that a VM was made from, by file name
/// (one of [`SNAPSHOT_FILES`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// File name → content.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// What `list` shows of one VM; cheap to read by the thousand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The VM's name.
    pub name: VmName,
    /// The VM's id.
    pub id: VmId,
    /// Who made it.
    pub provider: ProviderKind,
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether an operation is under way or was interrupted.
    pub operation: bool,
    /// Name of the stack that it was made from.
    pub stack: String,
    /// When its record was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: CreatedBy,
    /// When it ends itself, if it does.
    pub ends_at: Option<Timestamp>,
    /// Its address, when it has one.
    pub ip: Option<String>,
    /// The port where SSH answers, when known.
    pub ssh_port: Option<u16>,
    /// Its DNS name, when it has one.
    pub fqdn: Option<String>,
    /// The stack's folder at the time.
    pub source_config_path: Option<PathBuf>,
    /// The user's own labels, sorted; a map of its own for each VM would be half of what a list takes.
    pub tags: Vec<(String, String)>,
}

/// Who made a VM, as far as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedBy {
    /// The user's login name.
    pub user: Box<str>,
    /// The host's name.
    pub host: Box<str>,
}

impl From<&Record> for Summary {
    fn from(record: &Record) -> Self {
        Self {
            name: record.name.clone(),
            id: record.id.clone(),
            provider: record.provider,
            phase: record.phase,
            operation: record.operation.is_some(),
            stack: record.stack.to_string(),
            created_at: record.created_at,
            created_by: CreatedBy {
                user: record.created_by.user.as_str().into(),
                host: record.created_by.host.as_str().into(),
            },
            ends_at: record.ends_at,
            ip: record.ip().map(str::to_owned),
            ssh_port: record.ssh_port(),
            fqdn: record.fqdn().map(str::to_owned),
            source_config_path: record.source_config_path.as_deref().map(Path::to_owned),
            tags: record.tags.clone().into_iter().collect(),
        }
    }
}

/// A record that can't be read: shown, never moved or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The name under which it lies (a folder's or key's name; not checked).
    pub name: String,
    /// Where it lies.
    pub path: String,
    /// What is wrong with it.
    pub error: String,
}

/// All that lies in one part of the store, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// What could be read.
    pub entries: Vec<T>,
    /// What couldn't.
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
    /// Its id there.
    pub id: ArchiveId,
    /// When it was deleted.
    pub deleted_at: Timestamp,
    /// The record as it was last saved.
    pub record: Record,
}

/// A record as read, and whether it had to be taken from the copy before the last save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The record.
    pub record: Record,
    /// Why `state.json` itself couldn't be used, when the previous one was.
    pub recovered: Option<Broken>,
}

/// What can go wrong in a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name belongs to an active VM.
    #[error("the name \"{name}\" is taken by an active VM")]
    NameTaken {
        /// The name.
        name: VmName,
    },
    /// Nothing active has that name.
    #[error("no VM is called \"{name}\"")]
    NotFound {
        /// The name.
        name: VmName,
    },
    /// Nothing in the archive has that id.
    #[error("the archive has no \"{id}\"")]
    NotArchived {
        /// The id.
        id: ArchiveId,
    },
    /// Someone else holds the lock.
    #[error("\"{name}\" is locked by {}", holder.as_deref().unwrap_or("another process"))]
    Locked {
        /// The name.
        name: VmName,
        /// Who, as well as can be said: "ann on laptop (pid 4711)".
        holder: Option<String>,
        /// When it ends without a sign of life of theirs; `None` where it ends with its process.
        lease_end: Option<Timestamp>,
    },
    /// The record has changed since it was read.
    #[error("\"{name}\" has changed meanwhile: serial {found} is stored, {expected} was to be replaced")]
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
        "the record of \"{name}\" has format {found}; this goloo writes format {known} and only reads newer ones"
    )]
    Newer {
        /// The name.
        name: VmName,
        /// The record's format.
        found: u32,
        /// The newest format that this goloo writes.
        known: u32,
    },
    /// The store lies where its promises can't be kept.
    #[error("{path} is on {filesystem}, where locks and renames can't be relied on")]
    Unsuitable {
        /// The store's place.
        path: PathBuf,
        /// The file system's name.
        filesystem: String,
    },
    /// The store was moved: this one is only read.
    #[error("{place} was moved to {to}, and is only read")]
    Moved {
        /// This store's place.
        place: String,
        /// The new one's, as `goloo state move` was told it.
        to: String,
    },
    /// The mark of a move was to be replaced, and somebody has taken it back: the store is in use.
    #[error("{place} isn't marked as moved any more")]
    NotMoved {
        /// The store's place.
        place: String,
    },
    /// The lock was lost: its lease ended, and someone else took it over. Nothing was written.
    #[error("the lock of \"{name}\" was lost{}", taken_by(by))]
    LockLost {
        /// The name.
        name: VmName,
        /// Who has it now, as well as can be said.
        by: Option<String>,
    },
    /// Locks of this store end with their process; they can't be broken.
    #[error("the lock of \"{name}\" ends with its process: {holder}")]
    Unbreakable {
        /// The name.
        name: VmName,
        /// Who holds it.
        holder: String,
    },
    /// The store's service can't be reached, or doesn't answer in time.
    #[error("{place} can't be reached")]
    Unreachable {
        /// The store's place.
        place: String,
        /// What was seen.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The bucket that the store is to lie in isn't there.
    #[error("there is no bucket for {place}")]
    NoBucket {
        /// The store's place.
        place: String,
    },
    /// The store's service doesn't let us: credentials are missing, wrong, or may not do this.
    #[error("{place} doesn't let us {action}")]
    Denied {
        /// The store's place.
        place: String,
        /// What was being done, with the name of the permission where it is known: "write (s3:PutObject)".
        action: String,
        /// What was said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The settings or the environment name something that no store has.
    #[error("{place} can't be opened: {message}")]
    Misconfigured {
        /// The store's place.
        place: String,
        /// What is wrong, and where it is said.
        message: String,
        /// How to write it.
        hint: String,
    },
    /// The store's service serves no request, for a reason that the person can remove.
    #[error("{place} is unavailable: {problem}")]
    Service {
        /// The store's place.
        place: String,
        /// The reason.
        problem: ServiceProblem,
        /// What was said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store's service cannot keep two writers apart: what one writes could be lost without a word.
    #[error("records in {place} would not be safe: {seen}")]
    UnsafeWrites {
        /// The store's place.
        place: String,
        /// What the service did, as in "it created an object twice".
        seen: String,
        /// Whether a lock table can take the place of conditional writes.
        lock_table: bool,
    },
    /// The store's service or database failed.
    #[error("can't {action} in {place}")]
    Backend {
        /// What was being done: "write", "lock", …
        action: &'static str,
        /// The store's place.
        place: String,
        /// What was said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The operating system said no.
    #[error("can't {action} {path}")]
    Io {
        /// What was being done: "write", "rename", …
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// A reason for which a service serves no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceProblem {
    /// Requests are dated, and the service refuses those that are dated wrongly.
    #[error("this computer's clock and the service's differ by minutes")]
    ClockSkew,
    /// The session that single sign-on began has ended, or was never begun.
    #[error("the single sign-on session has expired")]
    SsoSession {
        /// The profile that it is of, where the environment names one.
        profile: Option<String>,
    },
    /// The service's certificate leads to no authority that this computer knows.
    #[error("its certificate is signed by an unknown authority")]
    UnknownAuthority,
    /// The bucket is in another region than was said.
    #[error("the bucket is in {}", region.as_deref().unwrap_or("another region"))]
    WrongRegion {
        /// The bucket's region, where the service names it.
        region: Option<String>,
    },
}

impl ServiceProblem {
    /// What to do, beginning with a verb.
    pub fn hint(&self) -> String {
        match self {
            Self::ClockSkew => {
                "set the clock of this computer, for example with timedatectl set-ntp true".to_owned()
            }
            Self::SsoSession { profile: Some(profile) } => format!("run aws sso login --profile {profile}"),
            Self::SsoSession { profile: None } => "run aws sso login".to_owned(),
            Self::UnknownAuthority => {
                "name a file with the authority's certificate: export AWS_CA_BUNDLE=FILE".to_owned()
            }
            Self::WrongRegion { region } => {
                let region = region.as_deref().unwrap_or("REGION");
                format!(
                    "set region={region} in the address; in the settings: goloo settings set stateBackend.region {region}"
                )
            }
        }
    }
}

/// What to do about a service that doesn't keep writers apart.
pub fn safe_writes_hint(lock_table: bool) -> &'static str {
    if lock_table {
        "add a lock table to the address (&lockTable=TABLE; docs/state.md shows how to make one), or use another \
         service: goloo state move ADDRESS takes records along"
    } else {
        "use a service that honours conditional writes: goloo state move ADDRESS takes records along"
    }
}

fn taken_by(by: &Option<String>) -> String {
    by.as_ref().map_or_else(String::new, |by| format!(" to {by}"))
}

/// A lock that someone holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLock {
    /// Whose lock it is.
    pub name: VmName,
    /// Who holds it, when that can be read.
    pub owner: Option<Owner>,
    /// Until when the holder's word counts without a sign of life, by the store's clock; `None` where a
    /// lock ends with its process.
    pub lease_end: Option<Timestamp>,
}

impl HeldLock {
    /// The refusal of the lock to anyone else.
    pub fn refusal(self) -> StoreError {
        let holder = self.owner.map(|owner| owner.to_string());
        StoreError::Locked { name: self.name, holder, lease_end: self.lease_end }
    }
}

/// A place where records live. See the [module](self) for the rules.
#[async_trait]
pub trait Store: Send + Sync {
    /// The place, as a person would name it: a path or an URL.
    fn location(&self) -> String;

    /// The names of all active VMs, sorted, without opening any record.
    async fn names(&self) -> Result<Vec<String>, StoreError>;

    /// All active VMs. A missing store is an empty one; nothing is created by reading.
    async fn list(&self) -> Result<Listing<Summary>, StoreError>;

    /// One active VM's record; `None` when no VM has the name.
    async fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError>;

    /// The files that an active VM was made from.
    async fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError>;

    /// Takes the lock of a name, whether a VM has it or not. Doesn't wait: a lock that is
    /// held gives [`StoreError::Locked`]. The lock ends with the value, and with the process.
    async fn lock(&self, name: &VmName, owner: &Owner) -> Result<Box<dyn VmLock>, StoreError>;

    /// The archive, newest first.
    async fn archive_list(&self) -> Result<Listing<Archived>, StoreError>;

    /// The archive's records of VMs that had this name, newest first.
    async fn archive_of(&self, name: &VmName) -> Result<Listing<Archived>, StoreError> {
        let mut archive = self.archive_list().await?;
        archive.entries.retain(|archived| archived.record.name == *name);
        Ok(archive)
    }

    /// One archived record; `None` when the archive has no such id.
    async fn archive_load(&self, id: &ArchiveId) -> Result<Option<Archived>, StoreError>;

    /// The files that an archived VM was made from.
    async fn archive_snapshot(&self, id: &ArchiveId) -> Result<Snapshot, StoreError>;

    /// Removes one record from the archive for good; gone already is [`StoreError::NotArchived`]. `by` is
    /// who does it: what is still on its way to the archive is brought there under its lock.
    async fn archive_delete(&self, id: &ArchiveId, by: &Owner) -> Result<(), StoreError>;

    /// Puts a record from another store into the archive, as it is there: id, serial and bytes. The same
    /// record there already (by id and serial) is success and changes nothing; another one under that id
    /// is [`StoreError::Stale`] when its serial is higher and is replaced when it is lower.
    async fn archive_put(&self, archived: &Archived, snapshot: &Snapshot) -> Result<(), StoreError>;

    /// All active VMs' whole records, sorted by name; what is broken is told as in [`Store::list`].
    async fn records(&self) -> Result<Listing<Loaded>, StoreError>;

    /// The locks that are held now, sorted by name. It takes and breaks none.
    async fn locks(&self) -> Result<Vec<HeldLock>, StoreError>;

    /// Ends someone's lock: their next write is refused with [`StoreError::LockLost`]. `None` when nobody
    /// held it; [`StoreError::Unbreakable`] where a lock ends with its process.
    async fn break_lock(&self, name: &VmName) -> Result<Option<HeldLock>, StoreError>;

    /// Checks that the store keeps writers apart, where that can't be taken for granted. Every write of a store
    /// does it first; this is for callers who want to know before they change anything else.
    ///
    /// # Errors
    /// [`StoreError::UnsafeWrites`] when it doesn't; others when it can't be found out.
    async fn require_safe_writes(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Where the store was moved to, when it was: then every lock and every change of the archive is
    /// refused with [`StoreError::Moved`]; reads go on.
    async fn moved_to(&self) -> Result<Option<String>, StoreError>;

    /// Puts a mark of a move in the place of another, which must be there; `None` is no mark, of a store in
    /// use. Durable when it returns. The new mark there already is success; any other one is
    /// [`StoreError::Moved`], and none where one was to be replaced [`StoreError::NotMoved`]: of several who
    /// replace one mark, one does. A lock that is held meanwhile must not be able to write to a marked store.
    async fn set_moved(&self, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError>;
}

/// The rule of [`Store::set_moved`], for back ends: whether the mark that was found lets that change be made.
///
/// # Errors
/// [`StoreError::Moved`] and [`StoreError::NotMoved`], as it says.
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

/// The right to write one VM's record. Taking it first finishes what a dead owner left half done
/// (a half-made claim is removed, a half-done move to the archive is completed).
#[async_trait]
pub trait VmLock: Send + Sync {
    /// Whose lock this is.
    fn name(&self) -> &VmName;

    /// The record as it is now, read under the lock.
    async fn load(&mut self) -> Result<Option<Loaded>, StoreError>;

    /// The snapshot, read under the lock.
    async fn snapshot(&mut self) -> Result<Snapshot, StoreError>;

    /// Claims the name: record and snapshot appear together or not at all. `record.serial` must be
    /// 0 and is 1 afterwards. [`StoreError::NameTaken`] when the name is active.
    async fn create(&mut self, record: &mut Record, snapshot: &Snapshot) -> Result<(), StoreError>;

    /// Replaces the record. On success `record.serial` is one higher and `record.updated_at` is now;
    /// on failure both are as they were.
    async fn save(&mut self, record: &mut Record) -> Result<(), StoreError>;

    /// Puts a record from another store in this name's place, as it is there: id, serial and bytes. The
    /// same record there already (by id and serial) is success and changes nothing; one of the same id with
    /// a higher serial is [`StoreError::Stale`], with a lower one it is replaced; one of another id is
    /// [`StoreError::NameTaken`].
    async fn put(&mut self, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError>;

    /// From whom the lock was taken over after their lease had ended, or was broken: what they had begun
    /// at the provider may still be under way, and is looked at before anything is done.
    fn taken_over(&self) -> Option<&Owner>;

    /// Until when the lock lasts after a write that is made now, if that is its holder's last sign of life:
    /// by the store's clock; `None` where it ends with its process.
    fn lease_end(&self) -> Option<Timestamp>;

    /// Moves record and snapshot to the archive: saves the record (which must have phase
    /// `destroyed`) and then moves it in one step. The name is free afterwards.
    async fn archive(&mut self, record: &mut Record, at: Timestamp) -> Result<ArchiveId, StoreError>;

    /// Releases the lock, as dropping it does, but without blocking the thread: many locks of a remote store can be
    /// released concurrently. A lease that can't be released expires.
    async fn release(self: Box<Self>) {}
}
