//! What the store and its locks share: the file, its locks, and what both read and write there.

use goloo_model::check::Check;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{Record, SCHEMA};
use goloo_model::store::{
    Archived, Broken, HeldLock, Listing, Loaded, Snapshot, StoreError, Summary, check_mark,
};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::database::{Database, Durability};
use super::failure::Failure;
use super::lock_rows::Locks;
use super::row_limit::RowLimit;
use super::rows::{self, Found, Place};
use super::schema_check::TABLES;
use crate::rules::{BrokenRecords, check_schema, is_half_archived, odd_file, other_name};
use crate::summary_decode::{self, DecodedSummary};

const MOVED_TO: &str = "moved_to";

pub(super) struct Inner {
    pub database: Database,
    pub locks: Locks,
}

impl Inner {
    /// See [`rows::refused`].
    pub fn refused(&self, text: String) -> StoreError {
        rows::refused(&self.database, text)
    }

    pub fn check_files(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        odd_file(snapshot).map_or(Ok(()), |odd| Err(self.refused(odd)))
    }

    /// Whether SQLite's integrity check passes. `None` if the file is unreadable: reading records reports that.
    pub fn integrity(&self) -> Option<Check> {
        let shown = self.database.file().display().to_string();
        // No SQL is run on tables that others have modified.
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
            return Some(Check::ok(format!("records are stored in {shown}, which is intact")));
        }
        Some(self.database.damaged(said))
    }

    pub fn find(&self, place: Place<'_>) -> Result<Found, StoreError> {
        self.database.read(|transaction| rows::find(&self.database, transaction, place))
    }

    /// The active record under a name, except one that is to be archived.
    pub fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
        let record = self.find(Place::Active(name))?.readable()?;
        let record = record.filter(|record| !is_half_archived(record));
        Ok(record.map(|record| Loaded { record, recovered: None }))
    }

    pub fn files(&self, place: Place<'_>) -> Result<Option<Snapshot>, StoreError> {
        self.database.read(|transaction| rows::files(&self.database, transaction, place))
    }

    pub fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError> {
        self.files(Place::Active(name))?.ok_or_else(|| StoreError::NotFound { name: name.clone() })
    }

    /// Passes every row of a table to `show`, sorted by key: the key, and the stored record.
    pub fn each_row(
        &self,
        key: &str,
        table: &'static str,
        mut show: impl FnMut(String, &[u8]),
    ) -> Result<(), StoreError> {
        let (shown_key, record) = (rows::bounded_key(key), rows::bounded("record"));
        let query = format!("SELECT {shown_key}, {record} FROM {table} ORDER BY {key}");
        self.database.read(|transaction| {
            let mut statement = transaction.prepare(&query)?;
            let (mut rows, mut limit) =
                (statement.query([])?, RowLimit::of_rows(self.database.file(), table));
            while let Some(row) = rows.next()? {
                limit.count()?;
                show(rows::text_of(row.get_ref(0)?), rows::bytes(row.get_ref(1)?));
            }
            Ok(())
        })
    }

    pub fn list(&self) -> Result<Listing<Summary>, StoreError> {
        let (mut entries, mut broken) = (Vec::new(), BrokenRecords::default());
        self.each_row("name", "vms", |name, kept| match self.line(&name, kept) {
            Ok(DecodedSummary::Active(summary)) => entries.push(summary),
            Ok(DecodedSummary::HalfArchived) => {}
            Err(one) => broken.push(one),
        })?;
        Ok(Listing { entries, broken: broken.in_place(&self.table("vms")) })
    }

    pub fn line(&self, name: &str, kept: &[u8]) -> Result<DecodedSummary, Broken> {
        let opened = self.database.options().seal.open(kept);
        if let Some(line) = opened.ok().and_then(|document| summary_decode::read(name, &document)) {
            return Ok(line);
        }
        match rows::judge(&self.database, "vms", name, name, kept) {
            Found::Sound(record) if is_half_archived(&record) => Ok(DecodedSummary::HalfArchived),
            Found::Sound(record) => Ok(DecodedSummary::Active(Summary::from(&*record))),
            Found::Broken(broken) | Found::Newer(broken, _) => Err(broken),
            Found::Absent => unreachable!("a document is judged"),
        }
    }

    pub fn records(&self) -> Result<Listing<Loaded>, StoreError> {
        let (mut entries, mut broken) = (Vec::new(), BrokenRecords::default());
        self.each_row("name", "vms", |name, kept| {
            match rows::judge(&self.database, "vms", &name, &name, kept) {
                Found::Sound(record) if is_half_archived(&record) => {}
                Found::Sound(record) => entries.push(Loaded { record: *record, recovered: None }),
                Found::Broken(one) | Found::Newer(one, _) => broken.push(one),
                Found::Absent => {}
            }
        })?;
        Ok(Listing { entries, broken: broken.in_place(&self.table("vms")) })
    }

    pub fn archive_list(&self) -> Result<Listing<Archived>, StoreError> {
        let (mut entries, mut broken) = (Vec::new(), BrokenRecords::default());
        self.each_row("archive_id", "archive", |key, kept| {
            let id = ArchiveId::parse(&key);
            let name = id.as_ref().map_or("", ArchiveId::name);
            match (rows::judge(&self.database, "archive", &key, name, kept), id) {
                (Found::Sound(record), Ok(id)) => entries.push(archived(id, *record)),
                (Found::Broken(one) | Found::Newer(one, _), Ok(_)) => broken.push(one),
                (_, Err(error)) => {
                    let path = format!("{}/{key}", self.table("archive"));
                    broken.push(Broken { name: key, path, error: error.to_string() });
                }
                (Found::Absent, Ok(_)) => {}
            }
        })?;
        entries.sort_by(|a, b| (b.deleted_at, &b.id).cmp(&(a.deleted_at, &a.id)));
        Ok(Listing { entries, broken: broken.in_place(&self.table("archive")) })
    }

    /// The location of a table in errors, next to a record's key.
    pub fn table(&self, table: &str) -> String {
        format!("{}#{table}", self.database.file().display())
    }

    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        let query = format!("SELECT {} FROM vms ORDER BY name", rows::bounded_key("name"));
        self.database.read(|transaction| {
            let mut statement = transaction.prepare(&query)?;
            let (mut rows, mut limit) =
                (statement.query([])?, RowLimit::of_rows(self.database.file(), "vms"));
            let mut names = Vec::new();
            while let Some(row) = rows.next()? {
                limit.count()?;
                names.push(rows::text_of(row.get_ref(0)?));
            }
            names.retain(|name| VmName::parse(name).is_ok());
            Ok(names)
        })
    }

    pub fn held_locks(&self) -> Result<Vec<HeldLock>, StoreError> {
        self.database.read(|transaction| self.locks.held(self.database.file(), transaction))
    }

    /// Changes the archive, unless the store was moved.
    pub fn change_archive(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<(), Failure>,
    ) -> Result<(), StoreError> {
        self.database.write(Durability::Durable, |transaction| {
            self.check_not_moved(transaction)?;
            work(transaction)
        })
    }

    pub fn archive_delete(&self, id: &ArchiveId) -> Result<(), StoreError> {
        let (place, gone) = (Place::Archived(id), StoreError::NotArchived { id: id.clone() });
        if matches!(self.find(place)?, Found::Absent) {
            return Err(gone);
        }
        self.change_archive(|transaction| {
            match rows::find(&self.database, transaction, place)? {
                Found::Sound(record) => check_schema(&record)?,
                Found::Newer(_, found) => {
                    let name = VmName::parse(id.name()).expect("an archive id begins with a name");
                    return Err(StoreError::Newer { name, found, known: SCHEMA }.into());
                }
                Found::Absent | Found::Broken(_) => {}
            }
            if rows::remove(transaction, place)? { Ok(()) } else { Err(gone.into()) }
        })
    }

    pub fn archive_put(&self, archived: &Archived, snapshot: &Snapshot) -> Result<(), StoreError> {
        let (record, place) = (&archived.record, Place::Archived(&archived.id));
        check_schema(record)?;
        self.check_files(snapshot)?;
        if record.name.as_str() != archived.id.name() {
            return Err(self.refused(other_name(record.name.as_str(), archived.id.name())));
        }
        self.change_archive(|transaction| {
            if let Some(stored) = rows::find(&self.database, transaction, place)?.readable()? {
                if (&stored.id, stored.serial) == (&record.id, record.serial) {
                    return Ok(());
                }
                if stored.serial >= record.serial {
                    let (name, expected, found) = (record.name.clone(), record.serial, stored.serial);
                    return Err(StoreError::Stale { name, expected, found }.into());
                }
                check_schema(&stored)?;
            }
            rows::put(&self.database, transaction, place, record)?;
            rows::put_files(&self.database, transaction, place, snapshot)
        })
    }

    pub fn check_not_moved(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        match moved_to(transaction)? {
            Some(to) => Err(StoreError::Moved { place: self.location(), to }.into()),
            None => Ok(()),
        }
    }

    pub fn set_moved(&self, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
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

    pub fn location(&self) -> String {
        self.database.file().display().to_string()
    }
}

pub(super) fn moved_to(transaction: &Transaction<'_>) -> Result<Option<String>, Failure> {
    let value = |row: &Row<'_>| row.get_ref(0).map(rows::text_of);
    let query = format!("SELECT {} FROM store WHERE key = ?1", rows::bounded_text("value"));
    let mut look = transaction.prepare_cached(&query)?;
    let found = look.query_row([MOVED_TO], value);
    Ok(found.optional()?)
}

pub(super) fn archived(id: ArchiveId, record: Record) -> Archived {
    Archived { deleted_at: id.deleted_at(), id, record }
}
