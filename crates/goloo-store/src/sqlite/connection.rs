//! A connection to a file that others may write to: it runs only goloo's own SQL, with limits on time and memory.

use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use goloo_model::database_error::UntrustedDatabase;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::schema_check;
use crate::rules::KEPT_MAX;

/// The maximum size of a value in bytes: a document and, in one expression, its replacement, with room for the rest.
const VALUE_MAX: i32 = 4 << 20;

const _: () = assert!(KEPT_MAX * 3 < VALUE_MAX as u64);

/// The maximum that SQLite may allocate in bytes, for all connections: an index key is read whole, whatever its size.
const MEMORY_MAX: u64 = 64 << 20;

/// The number of steps between two checks of the deadline; about 20 µs.
const STEPS: i32 = 1000;

/// An open database.
pub(super) struct Open {
    connection: Connection,
    deadline: Arc<Mutex<Instant>>,
    /// The version of the schema that passed the check.
    checked: Cell<Option<i64>>,
}

impl Open {
    /// Opens the file without reading it.
    pub fn new(file: impl AsRef<Path>, flags: OpenFlags) -> rusqlite::Result<Self> {
        let mut connection = Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(Duration::ZERO)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_MAX)?;
        let deadline = Arc::new(Mutex::new(Instant::now()));
        let ends = deadline.clone();
        let is_over = move || Instant::now() > *ends.lock().unwrap_or_else(PoisonError::into_inner);
        // Uses a stronger sync if the system has one (macOS). Constraints and foreign keys may be foreign SQL too.
        connection.execute_batch(&format!(
            "PRAGMA fullfsync = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;
             PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON; PRAGMA hard_heap_limit = {MEMORY_MAX};"
        ))?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
        connection.progress_handler(STEPS, Some(is_over))?;
        Ok(Self { connection, deadline, checked: Cell::new(None) })
    }

    /// The connection, with a time limit from now on.
    pub fn for_at_most(&self, limit: Duration) -> &Connection {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + limit;
        &self.connection
    }

    /// Checks the tables at the beginning of a transaction, unless this version was already checked.
    pub fn check_schema(&self) -> rusqlite::Result<Option<UntrustedDatabase>> {
        let version = self.connection.pragma_query_value(None, "schema_version", |row| row.get(0))?;
        if self.checked.get() == Some(version) {
            return Ok(None);
        }
        let found = schema_check::check(&self.connection)?;
        if found.is_none() {
            self.checked.set(Some(version));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn statements_are_limited_in_time_and_memory() {
        let folder = tempfile::tempdir().unwrap();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let open = Open::new(folder.path().join("a.db"), flags).unwrap();
        let endless =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let failed = |query| {
            let connection = open.for_at_most(Duration::from_millis(50));
            connection.query_row(query, [], |_| Ok(())).unwrap_err().sqlite_error_code().unwrap()
        };
        assert_eq!(failed(endless), rusqlite::ErrorCode::OperationInterrupted);
        assert_eq!(failed("SELECT hex(zeroblob(4000000))"), rusqlite::ErrorCode::TooBig);
        let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100)
                    SELECT group_concat(x) FROM (SELECT hex(zeroblob(1000000)) AS x FROM n)";
        assert_eq!(failed(many), rusqlite::ErrorCode::TooBig);
    }
}
