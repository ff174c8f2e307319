//! The database file: opening, creating and locking it, and translating its errors.

use std::fs::{self, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use goloo_model::check::Check;
use goloo_model::database_error::{DatabaseDamage, UntrustedDatabase};
use goloo_model::store::StoreError;
use goloo_sys::lock::{self, LockTimeouts};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::{Access, access};
use thiserror::Error;

use super::connection::Open;
use super::failure::{Failure, untrusted};
use super::file_check;
use crate::dir::durable::{self, failed};
use crate::dir::fs::RealFs;
use crate::fs_check;
use crate::options::Options;

/// "golo": shown by `file` and SQLite's own tools.
const APPLICATION_ID: i32 = 0x676f_6c6f;

/// The version of the tables that this goloo writes (`PRAGMA user_version`).
pub(super) const VERSION: u32 = 1;

/// The pause between two attempts while another process blocks.
const PAUSE: Duration = Duration::from_millis(5);

const SCHEMA: &str = include_str!("schema.sql");

/// Why goloo itself refuses to touch a database.
#[derive(Debug, Error)]
enum Refusal {
    #[error("it is another program's database")]
    Foreign,
    #[error("it was written by a newer goloo (format {0}) and is read-only; update goloo")]
    Newer(u32),
    #[error(
        "the system's SQLite is {0}, but goloo needs 3.43 or newer; install a build of goloo with the feature bundled-sqlite"
    )]
    OldSqlite(&'static str),
    #[error("the file system can't do what SQLite's write-ahead log needs")]
    NoWal,
    #[error("another process has been writing for {} s", .0.as_secs())]
    Busy(Duration),
}

/// Whether a write must survive a power loss once it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// It must.
    Durable,
    /// It needn't: a lock's owner doesn't survive a power loss either.
    Volatile,
}

/// A database that was opened for reading.
enum Opened {
    /// It doesn't exist, or has no tables yet.
    Nothing,
    Open(Open),
    /// For this read only.
    Once(Open),
}

/// How long other processes have been waited for since the last progress.
#[derive(Default)]
struct Waited {
    spent: Duration,
    is_told: bool,
}

/// The database file; opened on first use.
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

    /// Reads a consistent snapshot. A missing database is treated as empty, and isn't created.
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

    /// Runs work in an exclusive write transaction.
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
        // If work panicked, its transaction was rolled back.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_to_read(&self) -> Result<Opened, StoreError> {
        match fs::metadata(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Opened::Nothing),
            other => other.map_err(failed("access", &self.file))?,
        };
        let opened = self.patiently("open", || self.opened_to_read());
        opened.map_err(|failure| self.told("open", failure))
    }

    fn opened_to_read(&self) -> Result<Opened, Failure> {
        let open = self.connect()?;
        match self.version(open.for_at_most(self.options.timeouts.limit)) {
            // A process is just creating it, or died before completing that.
            Ok(0) => Ok(Opened::Nothing),
            Ok(_) => Ok(Opened::Open(open)),
            Err(Failure::Sql(error)) if self.is_all_there_is(&error) => self.connect_immutable(),
            Err(failure) => Err(failure),
        }
    }

    /// Whether SQLite only lacks permission to create its log next to the file, and there is none: then the file
    /// is complete.
    fn is_all_there_is(&self, error: &rusqlite::Error) -> bool {
        let log = fs::symlink_metadata(file_check::beside(&self.file, "-wal"));
        let no_log = log.is_err_and(|error| error.kind() == ErrorKind::NotFound);
        no_log && matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
    }

    /// Without log and locks, so only for a single read: concurrent writers go unnoticed.
    fn connect_immutable(&self) -> Result<Opened, Failure> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let open = Open::new(immutable_uri(&self.file), flags)?;
        let version = self.version(open.for_at_most(self.options.timeouts.limit))?;
        Ok(if version == 0 { Opened::Nothing } else { Opened::Once(open) })
    }

    fn open_to_write(&self) -> Result<Open, StoreError> {
        fs_check::check(&RealFs::default(), &self.file, self.options.allow_network)?;
        if let Some(folder) = self.file.parent() {
            durable::ensure_folder(&RealFs::default(), folder)?;
        }
        self.create_file()?;
        self.made().map_err(|failure| self.told("open", failure))
    }

    /// Creates the file if it doesn't exist. It is closed again before SQLite opens it: closing any descriptor of a
    /// file releases all locks that this process has on it (fcntl(2)), and SQLite's own show that its log is in use.
    fn create_file(&self) -> Result<(), StoreError> {
        // SQLite creates its other files with the mode of this one.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file) {
            Ok(file) if self.is_for_a_group() => {
                let shared = file.set_permissions(Permissions::from_mode(0o660));
                shared.map_err(failed("share", &self.file))
            }
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(failed("create", &self.file)(error))
            }
            _ => Ok(()),
        }
    }

    /// Whether the folder is shared by a group.
    pub fn is_for_a_group(&self) -> bool {
        self.file.parent().is_some_and(file_check::is_for_a_group)
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
        check_library(rusqlite::version_number()).map_err(|refusal| self.failed("open", refusal))?;
        file_check::check(&self.file).map_err(|found| untrusted("open", &self.file, found))?;
        Ok(Open::new(&self.file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?)
    }

    /// The version of the tables; 0 if there are none yet. Read in one transaction: a process may
    /// just be creating them.
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

    /// Creates the tables, unless another process is faster. A process that dies here leaves a database
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

    /// Begins a read transaction on the current state.
    fn begin_to_read<'c>(&self, open: &'c Open) -> Result<Transaction<'c>, Failure> {
        self.begin(open, TransactionBehavior::Deferred)
    }

    /// Begins as soon as no other process blocks, and checks the tables.
    fn begin<'c>(&self, open: &'c Open, behavior: TransactionBehavior) -> Result<Transaction<'c>, Failure> {
        let limit = self.options.timeouts.limit;
        let (transaction, found) = self.patiently("lock", || {
            let connection = open.for_at_most(limit);
            connection.busy_timeout(Duration::ZERO)?;
            let transaction = Transaction::new_unchecked(connection, behavior)?;
            // This is the first read: a read-only transaction begins here.
            let found = open.check_schema()?;
            Ok((transaction, found))
        })?;
        if let Some(found) = found {
            return Err(untrusted("use", &self.file, found).into());
        }
        // If someone has disabled the write-ahead log, a commit waits for readers.
        open.for_at_most(limit).busy_timeout(limit)?;
        Ok(transaction)
    }

    /// Retries while another process blocks. The wait is reported once, and has one limit for all
    /// consecutive attempts without progress.
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

    /// Translates SQLite's errors.
    fn translated(&self, action: &'static str, error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => failed(action, &self.file)(ErrorKind::StorageFull.into()),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                self.closed(action)
            }
            Some(ErrorCode::DatabaseBusy) => self.failed(action, Refusal::Busy(self.options.timeouts.limit)),
            // Others have made it so that a limit of [`Open`] was met.
            Some(ErrorCode::OperationInterrupted) => {
                let seconds = self.options.timeouts.limit.as_secs();
                untrusted(action, &self.file, UntrustedDatabase::Endless { seconds })
            }
            Some(ErrorCode::OutOfMemory | ErrorCode::TooBig) => {
                let detail = error.to_string();
                untrusted(action, &self.file, UntrustedDatabase::OversizedValue { detail })
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Damaged { action, source: self.damage(error.to_string()) }
            }
            _ => self.failed(action, error),
        }
    }

    /// SQLite doesn't pass on the system's error, so access is checked again, without opening the file
    /// ([`create_file`](Self::create_file)).
    fn closed(&self, action: &'static str) -> StoreError {
        match access(&self.file, Access::READ_OK | Access::WRITE_OK) {
            Err(error) => failed(action, &self.file)(error.into()),
            // The file is writable, but its log and its index next to it can't be created.
            Ok(_) => {
                let folder = self.file.parent().unwrap_or(&self.file);
                failed("write in", folder)(ErrorKind::PermissionDenied.into())
            }
        }
    }

    /// The result of a failed integrity check.
    pub fn damaged(&self, said: String) -> Check {
        let what = format!("{} is damaged: {said}", self.file.display());
        Check::failed(what, self.damage(said).hint())
    }

    fn damage(&self, detail: String) -> DatabaseDamage {
        DatabaseDamage { file: self.file.clone(), detail }
    }

    /// The store's error for any other cause.
    pub fn failed(
        &self,
        action: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> StoreError {
        let place = self.file.display().to_string();
        StoreError::Backend { action, place, source: Box::new(source) }
    }
}

/// Older ones lack `octet_length`, by which a value's size is known without reading it.
const SQLITE_MIN: i32 = 3_043_000;

/// The library may be the system's.
fn check_library(version: i32) -> Result<(), Refusal> {
    if version < SQLITE_MIN { Err(Refusal::OldSqlite(rusqlite::version())) } else { Ok(()) }
}

/// The file as an immutable database, in SQLite's URI form.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_lacks_what_goloo_needs_is_refused() {
        assert!(check_library(3_040_001).is_err() && check_library(SQLITE_MIN).is_ok());
        assert!(check_library(rusqlite::version_number()).is_ok());
    }
}
