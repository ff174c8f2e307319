//! One SQLite file on this computer.
//!
//! Every change is one transaction, so a process that dies leaves all of it or nothing; also the move to
//! the archive, which other back ends do in two steps. The record is kept whole, as `state.json` would
//! hold it, and is what goloo reads; the columns beside it are for people (`schema.sql`).
//!
//! Every method works inline, with blocking calls, and needs no runtime: a caller may drive the
//! futures with whatever polls once.

mod connection;
mod database;
mod file_check;
mod lease;
mod lock;
mod machine;
mod schema_check;
mod shelf;
mod untrusted;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use goloo_core::finding::Finding;
use goloo_core::name::{ArchiveId, VmName};
use goloo_core::record::{Owner, SCHEMA};
use goloo_core::store::{
    Archived, Broken, HeldLock, Listing, Loaded, Snapshot, Store, StoreError, Summary, VmLock, check_mark,
};
use rusqlite::{OptionalExtension, Row, Transaction, params};

pub use database::Damaged;
pub use lease::Lease;
pub use machine::{Machine, Process, ThisMachine};
pub use untrusted::Untrusted;

use crate::Options;
use crate::line::{self, Line};
use crate::rules::{is_half_archived, other_name};
use database::{Database, Durability, Failure};
use lease::Locks;
use lock::{SqliteLock, check_schema};
use schema_check::TABLES;
use shelf::{Found, Place};

/// The store in a SQLite file. Clones share it.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    locks: Locks,
}

const MOVED_TO: &str = "moved_to";

impl SqliteStore {
    /// The store in `file`. Touches nothing: a file that isn't there is an empty store until something
    /// is written.
    pub fn open(file: &Path, options: Options) -> Self {
        Self::with_machine(file, options, Arc::new(ThisMachine), Lease::default())
    }

    /// The same on another computer, or with another lease.
    pub fn with_machine(file: &Path, options: Options, machine: Arc<dyn Machine>, lease: Lease) -> Self {
        let (database, locks) = (Database::new(file, options), Locks { machine, lease });
        Self { inner: Arc::new(Inner { database, locks }) }
    }
}

impl SqliteStore {
    /// What is to be said of the file beyond its records: where it is, whether it is whole, and who can read it.
    pub fn examine(&self) -> Vec<Finding> {
        let file = self.inner.database.file();
        let shown = file.display();
        let mode = match fs::metadata(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return vec![Finding::sound(format!(
                    "records will be kept in {shown}, which is made on first use"
                ))];
            }
            Err(error) => {
                let hint = format!("check who owns it: ls -ld {shown}");
                return vec![Finding::wrong(format!("{shown} can't be read: {error}"), hint)];
            }
            Ok(metadata) => metadata.permissions().mode(),
        };
        let mut findings = Vec::from_iter(self.inner.integrity());
        let strangers = if self.inner.database.is_for_a_group() { 0o007 } else { 0o077 };
        if mode & strangers != 0 {
            findings.push(Finding::wrong(
                format!("{shown} can be read by others, and cloud-init files hold secrets"),
                format!("chmod 600 {shown}*"),
            ));
        }
        findings
    }
}

impl Inner {
    /// Whether SQLite finds its file whole. Nothing where it can't be read at all: whoever reads records says it.
    fn integrity(&self) -> Option<Finding> {
        let shown = self.database.file().display().to_string();
        // Of tables that others have put there nothing is run.
        let check = |transaction: &Transaction<'_>| {
            for table in TABLES {
                let query = format!("PRAGMA quick_check({table})");
                let said: String = transaction.query_row(&query, [], |row| row.get(0))?;
                if said != "ok" {
                    return Ok(said);
                }
            }
            Ok(String::new())
        };
        let said = self.database.read(check).ok()?;
        // A file without tables is an empty store.
        if said.is_empty() {
            return Some(Finding::sound(format!("records are kept in {shown}, which is whole")));
        }
        Some(self.database.damaged(said))
    }

    fn find(&self, place: Place<'_>) -> Result<Found, StoreError> {
        self.database.read(|transaction| shelf::find(&self.database, transaction, place))
    }

    /// The active record under a name, not counting one that is to go to the archive.
    fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
        let record = self.find(Place::Active(name))?.readable()?;
        let record = record.filter(|record| !is_half_archived(record));
        Ok(record.map(|record| Loaded { record, recovered: None }))
    }

    fn files(&self, place: Place<'_>) -> Result<Option<Snapshot>, StoreError> {
        self.database.read(|transaction| shelf::files(&self.database, transaction, place))
    }

    fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError> {
        self.files(Place::Active(name))?.ok_or_else(|| StoreError::NotFound { name: name.clone() })
    }

    /// Shows every row of a table to `show`, sorted by its key: the key, and the record as it is kept.
    fn each_row(
        &self,
        key: &str,
        table: &str,
        mut show: impl FnMut(String, &[u8]),
    ) -> Result<(), StoreError> {
        let (shown_key, record) = (shelf::bounded_text(key), shelf::bounded("record"));
        let query = format!("SELECT {shown_key}, {record} FROM {table} ORDER BY {key}");
        self.database.read(|transaction| {
            let mut statement = transaction.prepare(&query)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                show(shelf::text_of(row.get_ref(0)?), shelf::bytes(row.get_ref(1)?));
            }
            Ok(())
        })
    }

    fn list(&self) -> Result<Listing<Summary>, StoreError> {
        let mut listing = Listing::default();
        self.each_row("name", "vms", |name, kept| match self.line(&name, kept) {
            Ok(Line::Active(summary)) => listing.entries.push(summary),
            Ok(Line::HalfArchived) => {}
            Err(broken) => listing.broken.push(broken),
        })?;
        Ok(listing)
    }

    fn line(&self, name: &str, kept: &[u8]) -> Result<Line, Broken> {
        let opened = self.database.options().seal.open(kept);
        if let Some(line) = opened.ok().and_then(|document| line::read(name, &document)) {
            return Ok(line);
        }
        match shelf::judge(&self.database, "vms", name, name, kept) {
            Found::Sound(record) if is_half_archived(&record) => Ok(Line::HalfArchived),
            Found::Sound(record) => Ok(Line::Active(Summary::from(&*record))),
            Found::Broken(broken) | Found::Newer(broken, _) => Err(broken),
            Found::Absent => unreachable!("a document is judged"),
        }
    }

    fn records(&self) -> Result<Listing<Loaded>, StoreError> {
        let mut listing = Listing::default();
        self.each_row("name", "vms", |name, kept| {
            match shelf::judge(&self.database, "vms", &name, &name, kept) {
                Found::Sound(record) if is_half_archived(&record) => {}
                Found::Sound(record) => {
                    listing.entries.push(Loaded { record: *record, recovered: None });
                }
                Found::Broken(broken) | Found::Newer(broken, _) => listing.broken.push(broken),
                Found::Absent => {}
            }
        })?;
        Ok(listing)
    }

    fn archive_list(&self) -> Result<Listing<Archived>, StoreError> {
        let mut listing = Listing::default();
        self.each_row("archive_id", "archive", |key, kept| {
            let id = ArchiveId::parse(&key);
            let name = id.as_ref().map_or("", ArchiveId::name);
            match (shelf::judge(&self.database, "archive", &key, name, kept), id) {
                (Found::Sound(record), Ok(id)) => listing.entries.push(archived(id, *record)),
                (Found::Broken(broken) | Found::Newer(broken, _), Ok(_)) => listing.broken.push(broken),
                (_, Err(error)) => {
                    let path = format!("{}#archive/{key}", self.database.file().display());
                    listing.broken.push(Broken { name: key, path, error: error.to_string() });
                }
                (Found::Absent, Ok(_)) => {}
            }
        })?;
        listing.entries.sort_by(|a, b| (b.deleted_at, &b.id).cmp(&(a.deleted_at, &a.id)));
        Ok(listing)
    }

    /// Changes the archive, unless the store was moved.
    fn change_archive(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<(), Failure>,
    ) -> Result<(), StoreError> {
        self.database.write(Durability::Durable, |transaction| {
            self.check_not_moved(transaction)?;
            work(transaction)
        })
    }

    fn archive_delete(&self, id: &ArchiveId) -> Result<(), StoreError> {
        let (place, gone) = (Place::Archived(id), StoreError::NotArchived { id: id.clone() });
        if matches!(self.find(place)?, Found::Absent) {
            return Err(gone);
        }
        self.change_archive(|transaction| {
            match shelf::find(&self.database, transaction, place)? {
                Found::Sound(record) => check_schema(&record)?,
                Found::Newer(_, found) => {
                    let name = VmName::parse(id.name()).expect("an archive id begins with a name");
                    return Err(StoreError::Newer { name, found, known: SCHEMA }.into());
                }
                Found::Absent | Found::Broken(_) => {}
            }
            if shelf::remove(transaction, place)? { Ok(()) } else { Err(gone.into()) }
        })
    }

    fn archive_put(&self, archived: &Archived, snapshot: &Snapshot) -> Result<(), StoreError> {
        let (record, place) = (&archived.record, Place::Archived(&archived.id));
        check_schema(record)?;
        self.check_files(snapshot)?;
        if record.name.as_str() != archived.id.name() {
            return Err(self.refused(other_name(record.name.as_str(), archived.id.name())));
        }
        self.change_archive(|transaction| {
            if let Some(stored) = shelf::find(&self.database, transaction, place)?.readable()? {
                if (&stored.id, stored.serial) == (&record.id, record.serial) {
                    return Ok(());
                }
                if stored.serial >= record.serial {
                    let (name, expected, found) = (record.name.clone(), record.serial, stored.serial);
                    return Err(StoreError::Stale { name, expected, found }.into());
                }
                check_schema(&stored)?;
            }
            shelf::put(&self.database, transaction, place, record)?;
            shelf::put_files(&self.database, transaction, place, snapshot)
        })
    }

    fn check_not_moved(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        match moved_to(transaction)? {
            Some(to) => Err(StoreError::Moved { place: self.location(), to }.into()),
            None => Ok(()),
        }
    }

    fn set_moved(&self, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
        self.database.write(Durability::Durable, |transaction| {
            check_mark(&self.location(), moved_to(transaction)?.as_deref(), replaces, to)?;
            match to {
                Some(to) => transaction.execute(
                    "INSERT INTO store (key, value) VALUES (?1, ?2)
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    params![MOVED_TO, to],
                )?,
                None => transaction.execute("DELETE FROM store WHERE key = ?1", [MOVED_TO])?,
            };
            Ok(())
        })
    }

    fn location(&self) -> String {
        self.database.file().display().to_string()
    }
}

fn moved_to(transaction: &Transaction<'_>) -> Result<Option<String>, Failure> {
    let value = |row: &Row<'_>| row.get_ref(0).map(shelf::text_of);
    let query = format!("SELECT {} FROM store WHERE key = ?1", shelf::bounded_text("value"));
    let mut look = transaction.prepare_cached(&query)?;
    let found = look.query_row([MOVED_TO], value);
    Ok(found.optional()?)
}

fn archived(id: ArchiveId, record: goloo_core::record::Record) -> Archived {
    Archived { deleted_at: id.deleted_at(), id, record }
}

#[async_trait]
impl Store for SqliteStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn names(&self) -> Result<Vec<String>, StoreError> {
        self.inner.database.read(|transaction| {
            let query = format!("SELECT {} FROM vms ORDER BY name", shelf::bounded_text("name"));
            let mut statement = transaction.prepare(&query)?;
            let names = statement.query_map([], |row| row.get_ref(0).map(shelf::text_of))?;
            let mut names: Vec<String> = names.collect::<Result<_, _>>()?;
            names.retain(|name| VmName::parse(name).is_ok());
            Ok(names)
        })
    }

    async fn list(&self) -> Result<Listing<Summary>, StoreError> {
        self.inner.list()
    }

    async fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
        self.inner.load(name)
    }

    async fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError> {
        self.inner.snapshot(name)
    }

    async fn lock(&self, name: &VmName, owner: &Owner) -> Result<Box<dyn VmLock>, StoreError> {
        Ok(Box::new(SqliteLock::take(self.inner.clone(), name, owner)?))
    }

    async fn archive_list(&self) -> Result<Listing<Archived>, StoreError> {
        self.inner.archive_list()
    }

    async fn archive_load(&self, id: &ArchiveId) -> Result<Option<Archived>, StoreError> {
        let record = self.inner.find(Place::Archived(id))?.readable()?;
        Ok(record.map(|record| archived(id.clone(), record)))
    }

    async fn archive_snapshot(&self, id: &ArchiveId) -> Result<Snapshot, StoreError> {
        let files = self.inner.files(Place::Archived(id))?;
        files.ok_or_else(|| StoreError::NotArchived { id: id.clone() })
    }

    async fn archive_delete(&self, id: &ArchiveId, _by: &Owner) -> Result<(), StoreError> {
        self.inner.archive_delete(id)
    }

    async fn archive_put(&self, archived: &Archived, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.inner.archive_put(archived, snapshot)
    }

    async fn records(&self) -> Result<Listing<Loaded>, StoreError> {
        self.inner.records()
    }

    async fn locks(&self) -> Result<Vec<HeldLock>, StoreError> {
        self.inner.database.read(|transaction| self.inner.locks.held(transaction))
    }

    async fn break_lock(&self, name: &VmName) -> Result<Option<HeldLock>, StoreError> {
        let inner = &self.inner;
        if inner.database.read(|transaction| inner.locks.held(transaction))?.is_empty() {
            return Ok(None);
        }
        inner.database.write(Durability::Durable, |transaction| inner.locks.break_lock(transaction, name))
    }

    async fn moved_to(&self) -> Result<Option<String>, StoreError> {
        self.inner.database.read(moved_to)
    }

    async fn set_moved(&self, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
        self.inner.set_moved(replaces, to)
    }
}
