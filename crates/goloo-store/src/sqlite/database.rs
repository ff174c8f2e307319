//! The file: how it is opened, made and locked for a moment, and what its errors mean.

use std::fs::{self, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use goloo_core::finding::Finding;
use goloo_core::store::StoreError;
use goloo_os::lock::{self, LockTimeouts};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use thiserror::Error;

use super::connection::Open;
use super::file_check;
use super::untrusted::Untrusted;
use crate::Options;
use crate::dir::durable::{self, failed};
use crate::dir::fs::RealFs;
use crate::suitable;

/// "golo": what `file` and SQLite's own tools show of the database.
const APPLICATION_ID: i32 = 0x676f_6c6f;

/// The version of the tables that this goloo writes (`PRAGMA user_version`).
pub(super) const VERSION: u32 = 1;

/// Between two attempts while another process is in the way.
const PAUSE: Duration = Duration::from_millis(5);

const SCHEMA: &str = include_str!("schema.sql");

/// A failure of work on the database, before it is said what was being done.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The database can't be read as one: its file is damaged, or it is something else.
#[derive(Debug, Error)]
#[error("{what}")]
pub struct Damaged {
    what: String,
    file: PathBuf,
}

impl Damaged {
    /// What a person can do about it.
    pub fn way_out(&self) -> String {
        let file = self.file.display();
        format!(
            "save what can be read: sqlite3 {file} .recover | sqlite3 {file}.mended, look at it, then put it in the file's place; or goloo state restore a backup"
        )
    }
}

/// Why goloo itself refuses to touch a database.
#[derive(Debug, Error)]
enum Refusal {
    #[error("it is a database of another program")]
    Foreign,
    #[error("it has format {0}, of a newer goloo, and is only read; update goloo")]
    Newer(u32),
    #[error("the file system can't do what SQLite's write-ahead log needs")]
    NoWal,
    #[error("another process has been writing for {} s", .0.as_secs())]
    Busy(Duration),
}

/// Whether a write must outlive a power loss when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// It must.
    Durable,
    /// It needn't: a lock's owner doesn't outlive a power loss either.
    Volatile,
}

/// A database that was opened to be read.
enum Opened {
    /// It isn't there, or has no tables yet.
    Nothing,
    Open(Open),
    /// For this read alone.
    Once(Open),
}

/// How long other processes have been waited for since anything was done.
#[derive(Default)]
struct Waited {
    spent: Duration,
    is_told: bool,
}

/// The database file; opened when it is first needed.
pub(super) struct Database {
    file: PathBuf,
    options: Options,
    open: Mutex<Option<Open>>,
    waited: Mutex<Waited>,
}

impl Database {
    pub fn new(file: &Path, options: Options) -> Self {
        Self { file: file.to_owned(), options, open: Mutex::default(), waited: Mutex::default() }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Reads at one moment. A database that isn't there holds nothing, and isn't made.
    pub fn read<T: Default>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let mut open = self.opened();
        let once;
        let open = match &mut *open {
            Some(known) => known,
            none => match self.open_to_read()? {
                Opened::Nothing => return Ok(T::default()),
                Opened::Open(open) => none.insert(open),
                Opened::Once(open) => {
                    once = open;
                    &once
                }
            },
        };
        let done = self.begin_to_read(open).and_then(|transaction| work(&transaction));
        done.map_err(|failure| self.told("read", failure))
    }

    /// Does all of the work or nothing of it, with no other writer beside.
    pub fn write<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let mut open = self.opened();
        let open = match &mut *open {
            Some(known) => known,
            none => none.insert(self.open_to_write()?),
        };
        let done = self.transact(open, durability, |transaction| match self.version(transaction)? {
            VERSION => work(transaction),
            newer => Err(self.failed("write", Refusal::Newer(newer)).into()),
        });
        done.map_err(|failure| self.told("write", failure))
    }

    fn opened(&self) -> MutexGuard<'_, Option<Open>> {
        // Work that panicked has rolled its transaction back.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_to_read(&self) -> Result<Opened, StoreError> {
        match fs::metadata(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Opened::Nothing),
            other => other.map_err(failed("look at", &self.file))?,
        };
        let opened = self.patiently("open", || self.opened_to_read());
        opened.map_err(|failure| self.told("open", failure))
    }

    fn opened_to_read(&self) -> Result<Opened, Failure> {
        let open = self.connect()?;
        match self.version(open.for_at_most(self.options.timeouts.limit)) {
            // A process is just making it, or died before it had.
            Ok(0) => Ok(Opened::Nothing),
            Ok(_) => Ok(Opened::Open(open)),
            Err(Failure::Sql(error)) if self.is_all_there_is(&error) => self.connect_immutable(),
            Err(failure) => Err(failure),
        }
    }

    /// Whether SQLite only lacks the right to make its log beside the file, and there is none: then the file
    /// holds everything.
    fn is_all_there_is(&self, error: &rusqlite::Error) -> bool {
        let log = fs::symlink_metadata(file_check::beside(&self.file, "-wal"));
        let no_log = log.is_err_and(|error| error.kind() == ErrorKind::NotFound);
        no_log && matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
    }

    /// Without log and locks, so for one look alone: whoever may write here isn't noticed.
    fn connect_immutable(&self) -> Result<Opened, Failure> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let open = Open::new(immutable_uri(&self.file), flags)?;
        let version = self.version(open.for_at_most(self.options.timeouts.limit))?;
        Ok(if version == 0 { Opened::Nothing } else { Opened::Once(open) })
    }

    fn open_to_write(&self) -> Result<Open, StoreError> {
        suitable::check(&RealFs, &self.file, self.options.allow_network)?;
        if let Some(folder) = self.file.parent() {
            durable::ensure_folder(&RealFs, folder)?;
        }
        // SQLite gives its other files the mode of this one.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file);
        match made {
            Ok(file) if self.is_for_a_group() => {
                let shared = file.set_permissions(Permissions::from_mode(0o660));
                shared.map_err(failed("share", &self.file))?;
            }
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(failed("create", &self.file)(error));
            }
            _ => {}
        }
        self.made().map_err(|failure| self.told("open", failure))
    }

    /// Whether the folder was made for a group to share: its members write there, and what they make is the group's
    /// (`chmod 2770`).
    pub fn is_for_a_group(&self) -> bool {
        let folder = self.file.parent().and_then(|folder| fs::metadata(folder).ok());
        folder.is_some_and(|folder| folder.permissions().mode() & 0o2070 == 0o2070)
    }

    fn made(&self) -> Result<Open, Failure> {
        let (open, version) = self.patiently("open", || {
            let open = self.connect()?;
            let version = self.version(open.for_at_most(self.options.timeouts.limit))?;
            Ok((open, version))
        })?;
        if version == 0 {
            self.make(&open)?;
        }
        Ok(open)
    }

    fn connect(&self) -> Result<Open, Failure> {
        file_check::check(&self.file).map_err(|untrusted| self.failed("open", untrusted))?;
        Ok(Open::new(&self.file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?)
    }

    /// The version of the tables; 0 when there are none yet. All of it is read at one moment: a process may
    /// just be making them.
    fn version(&self, connection: &Connection) -> Result<u32, Failure> {
        let _moment = connection.is_autocommit().then(|| connection.unchecked_transaction()).transpose()?;
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
        let version = number("user_version")?;
        let ours = number("application_id")? == APPLICATION_ID;
        let empty = || {
            connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get::<_, bool>(0))
        };
        match u32::try_from(version) {
            Ok(version) if ours && version > 0 => Ok(version),
            Ok(0) if empty()? => Ok(0),
            _ => Err(self.failed("use", Refusal::Foreign).into()),
        }
    }

    /// Makes the tables, unless someone else is faster. A process that dies here leaves a database
    /// without tables, which is an empty store.
    fn make(&self, open: &Open) -> Result<(), Failure> {
        let connection = open.for_at_most(self.options.timeouts.limit);
        let mode: String = self.patiently("open", || {
            Ok(connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?)
        })?;
        if mode != "wal" {
            return Err(self.failed("write", Refusal::NoWal).into());
        }
        self.transact(open, Durability::Durable, |transaction| {
            if self.version(transaction)? == 0 {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
            }
            Ok(())
        })
    }

    fn transact<T>(
        &self,
        open: &Open,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let synchronous = match durability {
            Durability::Durable => "FULL",
            Durability::Volatile => "NORMAL",
        };
        open.for_at_most(self.options.timeouts.limit).pragma_update(None, "synchronous", synchronous)?;
        let transaction = self.begin(open, TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Begins to see the file as it is now.
    fn begin_to_read<'c>(&self, open: &'c Open) -> Result<Transaction<'c>, Failure> {
        self.begin(open, TransactionBehavior::Deferred)
    }

    /// Begins as soon as no other process is in the way, and checks the tables.
    fn begin<'c>(&self, open: &'c Open, behavior: TransactionBehavior) -> Result<Transaction<'c>, Failure> {
        let limit = self.options.timeouts.limit;
        let (transaction, untrusted) = self.patiently("lock", || {
            let connection = open.for_at_most(limit);
            connection.busy_timeout(Duration::ZERO)?;
            let transaction = Transaction::new_unchecked(connection, behavior)?;
            // The first that is read: a transaction that only reads begins here.
            let untrusted = open.check_schema(&self.file)?;
            Ok((transaction, untrusted))
        })?;
        if let Some(untrusted) = untrusted {
            return Err(self.failed("use", untrusted).into());
        }
        // Where somebody has switched the log off, a commit waits for readers.
        open.for_at_most(limit).busy_timeout(limit)?;
        Ok(transaction)
    }

    /// Makes an attempt again as long as another process is in the way. The wait is told of once, and has one limit for all
    /// attempts that come to nothing one after the other.
    fn patiently<T>(
        &self,
        action: &'static str,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        let (timeouts, start) = (self.options.timeouts, Instant::now());
        let left = LockTimeouts {
            notice: timeouts.notice.saturating_sub(waited.spent),
            limit: timeouts.limit.saturating_sub(waited.spent),
        };
        let is_told = &mut waited.is_told;
        let tell = || {
            if !std::mem::replace(is_told, true) {
                self.options.on_wait.tell(&self.file);
            }
        };
        let exceeded = |_| self.failed(action, Refusal::Busy(timeouts.limit)).into();
        let done = lock::wait(left, PAUSE, tell, exceeded, || match attempt() {
            Err(Failure::Sql(error)) if is_busy(&error) => Ok(None),
            other => other.map(Some),
        });
        match &done {
            Ok(_) => *waited = Waited::default(),
            Err(_) => waited.spent += start.elapsed(),
        }
        done
    }

    fn told(&self, action: &'static str, failure: Failure) -> StoreError {
        match failure {
            Failure::Store(error) => error,
            Failure::Sql(error) => self.translated(action, error),
        }
    }

    /// SQLite's words in ours.
    fn translated(&self, action: &'static str, error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => failed(action, &self.file)(ErrorKind::StorageFull.into()),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                self.closed(action)
            }
            Some(ErrorCode::DatabaseBusy) => self.failed(action, Refusal::Busy(self.options.timeouts.limit)),
            Some(ErrorCode::OperationInterrupted | ErrorCode::OutOfMemory | ErrorCode::TooBig) => {
                self.failed(action, self.without_end(&error))
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                let what = format!("the file is damaged: {error}");
                self.failed(action, Damaged { what, file: self.file.clone() })
            }
            _ => self.failed(action, error),
        }
    }

    /// Others have made it so that a limit of [`Open`] was met.
    fn without_end(&self, error: &rusqlite::Error) -> Untrusted {
        let what = match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => {
                format!("it took longer than {} s", self.options.timeouts.limit.as_secs())
            }
            _ => format!("it holds values that goloo never writes ({error})"),
        };
        let hint = format!(
            "sqlite3 {} shows what is there; ask who may write there, and remove what isn't goloo's",
            self.file.display()
        );
        Untrusted::new(what, hint)
    }

    /// SQLite doesn't hand on what the system said: the system is asked again.
    fn closed(&self, action: &'static str) -> StoreError {
        match OpenOptions::new().read(true).write(true).open(&self.file) {
            Err(error) => failed(action, &self.file)(error),
            // The file could be written; its log and its index beside it can't.
            Ok(_) => {
                let folder = self.file.parent().unwrap_or(&self.file);
                failed("write in", folder)(ErrorKind::PermissionDenied.into())
            }
        }
    }

    /// What SQLite's own check has found.
    pub fn damaged(&self, said: String) -> Finding {
        let damaged = Damaged { what: said, file: self.file.clone() };
        Finding::wrong(format!("{} is damaged: {damaged}", self.file.display()), damaged.way_out())
    }

    /// The store's error for anything else.
    pub fn failed(
        &self,
        action: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> StoreError {
        let place = self.file.display().to_string();
        StoreError::Backend { action, place, source: Box::new(source) }
    }
}

/// The file as one that nobody changes, in SQLite's form of an URI.
fn immutable_uri(file: &Path) -> String {
    let mut uri = "file:".to_owned();
    for &byte in file.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri + "?immutable=1"
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
