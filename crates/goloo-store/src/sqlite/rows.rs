//! The rows of the two tables of records, and of the two tables of their snapshots' files.

use std::borrow::Cow;
use std::io::{self, ErrorKind};

use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::RecordError;
use goloo_model::record::{self, Record};
use goloo_model::store::{Broken, Snapshot, StoreError};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{OptionalExtension, Transaction, params, params_from_iter};

use super::database::Database;
use super::failure::Failure;
use crate::dir::durable::failed;
use crate::rules::{KEPT_MAX, check_file, other_name, readable_document};

/// The columns that both tables have.
const COLUMNS: [&str; 18] = [
    "name",
    "id",
    "serial",
    "provider",
    "phase",
    "operation",
    "stack",
    "ip",
    "ssh_port",
    "fqdn",
    "created_at",
    "updated_at",
    "ends_at",
    "tags",
    "created_by",
    "created_on",
    "source_config_path",
    "record",
];

/// The place of a record.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    Active(&'a VmName),
    Archived(&'a ArchiveId),
}

impl Place<'_> {
    fn table(self) -> &'static str {
        match self {
            Self::Active(_) => "vms",
            Self::Archived(_) => "archive",
        }
    }

    fn files(self) -> &'static str {
        match self {
            Self::Active(_) => "vm_files",
            Self::Archived(_) => "archive_files",
        }
    }

    fn key_column(self) -> &'static str {
        match self {
            Self::Active(_) => "name",
            Self::Archived(_) => "archive_id",
        }
    }

    fn key(&self) -> &str {
        match self {
            Self::Active(name) => name.as_str(),
            Self::Archived(id) => id.as_str(),
        }
    }

    /// The name that the record in this place must have.
    fn name(&self) -> &str {
        match self {
            Self::Active(name) => name.as_str(),
            Self::Archived(id) => id.name(),
        }
    }
}

/// The content of a place.
#[derive(Default)]
pub(super) enum Found {
    #[default]
    Absent,
    Sound(Box<Record>),
    Broken(Broken),
    /// A newer format, with its number, that can't be read here.
    Newer(Broken, u32),
}

impl Found {
    /// The record, if there is a readable one.
    pub fn readable(self) -> Result<Option<Record>, StoreError> {
        match self {
            Self::Absent => Ok(None),
            Self::Sound(record) => Ok(Some(*record)),
            Self::Broken(broken) | Self::Newer(broken, _) => Err(StoreError::Broken(broken)),
        }
    }
}

/// Reads the record in a place.
pub(super) fn find(
    database: &Database,
    transaction: &Transaction<'_>,
    place: Place<'_>,
) -> Result<Found, Failure> {
    let (record, table, key) = (bounded("record"), place.table(), place.key_column());
    let query = format!("SELECT {record} FROM {table} WHERE {key} = ?1");
    let found = transaction.prepare_cached(&query)?.query_row([place.key()], |row| {
        row.get_ref(0).map(|kept| judge(database, place.table(), place.key(), place.name(), bytes(kept)))
    });
    Ok(found.optional()?.unwrap_or(Found::Absent))
}

/// An SQL expression for a column's value, unless it is too large: others can write to the file too. SQLite
/// determines the length without reading the value, and reads a value only as a whole.
pub(super) fn bounded(column: &str) -> String {
    format!("iif(octet_length({column}) > {KEPT_MAX}, zeroblob({KEPT_MAX} + 1), {column})")
}

/// Like [`bounded`], for a column of short text: a file, an address, an owner.
pub(super) fn bounded_text(column: &str) -> String {
    shorter_than(TEXT_MAX, column)
}

/// Like [`bounded`], for a column of names or archive ids, which a list of broken records keeps.
pub(super) fn bounded_key(column: &str) -> String {
    shorter_than(KEY_MAX, column)
}

fn shorter_than(max: usize, column: &str) -> String {
    format!("iif(octet_length({column}) > {max}, '(' || octet_length({column}) || ' bytes)', {column})")
}

/// More than the longest name and the longest archive id, in bytes.
const KEY_MAX: usize = 255;

/// The maximum size of goloo's texts other than documents, in bytes; the address of a bucket may have some thousands.
const TEXT_MAX: usize = 16 << 10;

/// A text column, regardless of the actual type of its value.
pub(super) fn text_of(value: ValueRef<'_>) -> String {
    String::from_utf8_lossy(bytes(value)).into_owned()
}

/// The bytes of a document, regardless of the actual type of its value.
pub(super) fn bytes(value: ValueRef<'_>) -> &[u8] {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        _ => &[],
    }
}

/// Classifies a stored document, which must be the record of `name`.
pub(super) fn judge(database: &Database, table: &str, key: &str, name: &str, kept: &[u8]) -> Found {
    let broken = |error: String| {
        let path = format!("{}#{table}/{key}", database.file().display());
        Broken { name: key.to_owned(), path, error }
    };
    if kept.len() as u64 > KEPT_MAX {
        return Found::Broken(broken(format!("it is larger than {} KiB", KEPT_MAX >> 10)));
    }
    let document = match database.options().seal.open(kept) {
        Ok(document) => document,
        Err(error) => return Found::Broken(broken(error.to_string())),
    };
    match record::from_json(&document) {
        Ok(record) if record.name.as_str() == name => Found::Sound(Box::new(record)),
        Ok(record) => Found::Broken(broken(other_name(record.name.as_str(), name))),
        Err(error @ RecordError::Newer { schema, .. }) => Found::Newer(broken(error.to_string()), schema),
        Err(error) => Found::Broken(broken(error.to_string())),
    }
}

/// Puts a record in a place, replacing the existing one.
pub(super) fn put(
    database: &Database,
    transaction: &Transaction<'_>,
    place: Place<'_>,
    record: &Record,
) -> Result<(), Failure> {
    let document = readable_document(record).map_err(|text| refused(database, text))?;
    let document = sealed(database, document)?;
    let mut values = columns(record, document, database.options().seal.seals());
    let mut names = COLUMNS.to_vec();
    if let Place::Archived(id) = place {
        names.extend(["archive_id", "deleted_at"]);
        values.extend([text(id.as_str()), text(&id.deleted_at().to_string())]);
    }
    let slots = vec!["?"; names.len()].join(", ");
    // Setting the key, even to the same value, would also write a page of its index.
    let changes = names.iter().filter(|name| **name != place.key_column());
    let changes = changes.map(|name| format!("{name} = excluded.{name}")).collect::<Vec<_>>().join(", ");
    let statement = format!(
        "INSERT INTO {} ({}) VALUES ({slots}) ON CONFLICT ({}) DO UPDATE SET {changes}",
        place.table(),
        names.join(", "),
        place.key_column(),
    );
    transaction.prepare_cached(&statement)?.execute(params_from_iter(values))?;
    Ok(())
}

/// The error for a caller who asks for something that must not be written.
pub(super) fn refused(database: &Database, text: String) -> StoreError {
    failed("write", database.file())(io::Error::new(ErrorKind::InvalidInput, text))
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn optional(value: Option<impl ToString>) -> Value {
    value.map_or(Value::Null, |value| Value::Text(value.to_string()))
}

/// The values of [`COLUMNS`]. For an encrypted record, only those that reveal nothing more than the existence of a VM
/// are filled.
fn columns(record: &Record, document: Vec<u8>, sealed: bool) -> Vec<Value> {
    let shown = |value: Value| if sealed { Value::Null } else { value };
    let tags = serde_json::to_string(&record.tags).expect("tags have only string keys");
    let path = record.source_config_path.as_ref().map(|path| path.display());
    vec![
        text(record.name.as_str()),
        text(record.id.as_str()),
        Value::Integer(i64::try_from(record.serial).unwrap_or(i64::MAX)),
        text(record.provider.as_str()),
        text(record.phase.as_str()),
        optional(record.operation.as_ref().map(|operation| operation.kind)),
        shown(text(&record.stack)),
        shown(optional(record.ip())),
        shown(record.ssh_port().map_or(Value::Null, |port| Value::Integer(port.into()))),
        shown(optional(record.fqdn())),
        text(&record.created_at.to_string()),
        text(&record.updated_at.to_string()),
        optional(record.ends_at),
        shown(text(&tags)),
        shown(text(&record.created_by.user)),
        shown(text(&record.created_by.host)),
        shown(optional(path)),
        String::from_utf8(document).map_or_else(|blob| Value::Blob(blob.into_bytes()), Value::Text),
    ]
}

/// The document as stored.
fn sealed(database: &Database, document: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let sealed = database.options().seal.seal(document);
    sealed.map_err(|error| database.failed("encrypt a document", error).into())
}

/// Puts the files of a snapshot in a place, replacing the existing ones.
pub(super) fn put_files(
    database: &Database,
    transaction: &Transaction<'_>,
    place: Place<'_>,
    snapshot: &Snapshot,
) -> Result<(), Failure> {
    remove_files(transaction, place)?;
    let statement = format!("INSERT INTO {} (vm, file, content) VALUES (?1, ?2, ?3)", place.files());
    let mut statement = transaction.prepare(&statement)?;
    for (file, content) in &snapshot.files {
        statement.execute(params![place.key(), file, sealed(database, content.clone())?])?;
    }
    Ok(())
}

/// The files of a place's snapshot; `None` if the place is empty.
pub(super) fn files(
    database: &Database,
    transaction: &Transaction<'_>,
    place: Place<'_>,
) -> Result<Option<Snapshot>, Failure> {
    let query = format!("SELECT 1 FROM {} WHERE {} = ?1", place.table(), place.key_column());
    if !transaction.prepare(&query)?.exists([place.key()])? {
        return Ok(None);
    }
    let (file, content) = (bounded_text("file"), bounded("content"));
    let query = format!("SELECT {file}, {content} FROM {} WHERE vm = ?1", place.files());
    let mut statement = transaction.prepare(&query)?;
    let mut rows = statement.query([place.key()])?;
    let mut snapshot = Snapshot::default();
    while let Some(row) = rows.next()? {
        let opened = database.options().seal.open(bytes(row.get_ref(1)?));
        let content =
            opened.map(Cow::into_owned).map_err(|error| database.failed("read a snapshot", error))?;
        let file = text_of(row.get_ref(0)?);
        check_file(&file, &content).map_err(|what| {
            database.failed("read a snapshot", io::Error::new(ErrorKind::InvalidData, what))
        })?;
        snapshot.files.insert(file, content);
    }
    Ok(Some(snapshot))
}

/// Empties a place; `false` if it was empty.
pub(super) fn remove(transaction: &Transaction<'_>, place: Place<'_>) -> Result<bool, Failure> {
    remove_files(transaction, place)?;
    let statement = format!("DELETE FROM {} WHERE {} = ?1", place.table(), place.key_column());
    Ok(transaction.execute(&statement, [place.key()])? > 0)
}

fn remove_files(transaction: &Transaction<'_>, place: Place<'_>) -> Result<(), Failure> {
    transaction.execute(&format!("DELETE FROM {} WHERE vm = ?1", place.files()), [place.key()])?;
    Ok(())
}

/// Moves a record and its snapshot to the archive, under the first free id.
pub(super) fn archive(
    database: &Database,
    transaction: &Transaction<'_>,
    record: &Record,
    ids: impl Iterator<Item = ArchiveId>,
) -> Result<Option<ArchiveId>, Failure> {
    for id in ids {
        let (from, to) = (Place::Active(&record.name), Place::Archived(&id));
        if !matches!(find(database, transaction, to)?, Found::Absent) {
            continue;
        }
        put(database, transaction, to, record)?;
        // Others may have guessed the id and put files there.
        remove_files(transaction, to)?;
        transaction.execute(
            "INSERT INTO archive_files SELECT ?2, file, content FROM vm_files WHERE vm = ?1",
            params![from.key(), to.key()],
        )?;
        remove(transaction, from)?;
        return Ok(Some(id));
    }
    Ok(None)
}
