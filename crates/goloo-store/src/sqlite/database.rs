//! The file: how it is opened, made and locked for a moment, and what its errors mean.

use std::fs::{self, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use goloo_core::finding::Finding;
use goloo_core::store::StoreError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use thiserror::Error;

use crate::Options;
use crate::dir::durable::{self, failed};
use crate::dir::fs::RealFs;
use crate::suitable;

/// "golo": what `file` and SQLite's own tools show of the database.
const APPLICATION_ID: i32 = 0x676f_6c6f;

/// The version of the tables that this goloo writes (`PRAGMA user_version`).
pub(super) const VERSION: u32 = 1;

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
    Connection(Connection),
    /// For this read alone.
    Once(Connection),
}

/// The database file; opened when it is first needed.
pub(super) struct Database {
    file: PathBuf,
    options: Options,
    open: Mutex<Option<Connection>>,
}

impl Database {
    pub fn new(file: &Path, options: Options) -> Self {
        Self { file: file.to_owned(), options, open: Mutex::new(None) }
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
        let mut once;
        let connection = match &mut *open {
            Some(known) => known,
            none => match self.open_to_read()? {
                Opened::Nothing => return Ok(T::default()),
                Opened::Connection(connection) => none.insert(connection),
                Opened::Once(connection) => {
                    once = connection;
                    &mut once
                }
            },
        };
        let done = connection
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(Failure::Sql)
            .and_then(|transaction| work(&transaction));
        done.map_err(|failure| self.told("read", failure))
    }

    /// Does all of the work or nothing of it, with no other writer beside.
    pub fn write<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let mut open = self.opened();
        let connection = match &mut *open {
            Some(known) => known,
            none => none.insert(self.open_to_write()?),
        };
        let done = self.transact(connection, durability, |transaction| match self.version(transaction)? {
            VERSION => work(transaction),
            newer => Err(self.failed("write", Refusal::Newer(newer)).into()),
        });
        done.map_err(|failure| self.told("write", failure))
    }

    fn opened(&self) -> MutexGuard<'_, Option<Connection>> {
        // Work that panicked has rolled its transaction back.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_to_read(&self) -> Result<Opened, StoreError> {
        match fs::metadata(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Opened::Nothing),
            other => other.map_err(failed("look at", &self.file))?,
        };
        self.opened_to_read().map_err(|failure| self.told("open", failure))
    }

    fn opened_to_read(&self) -> Result<Opened, Failure> {
        let connection = self.connect()?;
        match self.version(&connection) {
            // A process is just making it, or died before it had.
            Ok(0) => Ok(Opened::Nothing),
            Ok(_) => Ok(Opened::Connection(connection)),
            Err(Failure::Sql(error)) if self.is_all_there_is(&error) => self.connect_immutable(),
            Err(failure) => Err(failure),
        }
    }

    /// Whether SQLite only lacks the right to make its log beside the file, and there is none: then the file
    /// holds everything.
    fn is_all_there_is(&self, error: &rusqlite::Error) -> bool {
        let mut log = self.file.clone().into_os_string();
        log.push("-wal");
        let no_log = fs::symlink_metadata(log).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        no_log && matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
    }

    /// Without log and locks, so for one look alone: whoever may write here isn't noticed.
    fn connect_immutable(&self) -> Result<Opened, Failure> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(immutable_uri(&self.file), flags)?;
        Ok(if self.version(&connection)? == 0 { Opened::Nothing } else { Opened::Once(connection) })
    }

    fn open_to_write(&self) -> Result<Connection, StoreError> {
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

    fn made(&self) -> Result<Connection, Failure> {
        let mut connection = self.connect()?;
        if self.version(&connection)? == 0 {
            self.make(&mut connection)?;
        }
        Ok(connection)
    }

    fn connect(&self) -> Result<Connection, Failure> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.file, flags)?;
        connection.busy_timeout(self.options.timeouts.limit)?;
        // Where the system has a stronger sync (macOS), it is meant.
        connection.execute_batch(
            "PRAGMA fullfsync = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
        )?;
        // Others may write to the file: nothing of theirs runs when it is read or written here.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
        Ok(connection)
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
    fn make(&self, connection: &mut Connection) -> Result<(), Failure> {
        let end = Instant::now() + self.options.timeouts.limit;
        // SQLite doesn't wait by itself for this switch.
        let mode: String = loop {
            match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)) {
                Err(error) if is_busy(&error) && Instant::now() < end => {
                    thread::sleep(Duration::from_millis(5));
                }
                other => break other?,
            }
        };
        if mode != "wal" {
            return Err(self.failed("write", Refusal::NoWal).into());
        }
        self.transact(connection, Durability::Durable, |transaction| {
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
        connection: &Connection,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let synchronous = match durability {
            Durability::Durable => "FULL",
            Durability::Volatile => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        let transaction = self.begin(connection)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Begins to write as soon as no other process does; a wait is told of, and has a limit.
    fn begin<'c>(&self, connection: &'c Connection) -> Result<Transaction<'c>, rusqlite::Error> {
        let timeouts = self.options.timeouts;
        let begin = |limit| {
            connection.busy_timeout(limit)?;
            Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
        };
        let begun = match begin(timeouts.notice) {
            Err(error) if is_busy(&error) => {
                self.options.on_wait.tell(&self.file);
                begin(timeouts.limit.saturating_sub(timeouts.notice))
            }
            begun => begun,
        };
        connection.busy_timeout(timeouts.limit)?;
        begun
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
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                let what = format!("the file is damaged: {error}");
                self.failed(action, Damaged { what, file: self.file.clone() })
            }
            _ => self.failed(action, error),
        }
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
