//! Checks that goloo's tables are plain tables: others may write to the file, and SQLite evaluates its schema. A
//! generated column, a virtual table, an index on an expression or a default would run foreign SQL here.

use goloo_model::database_error::UntrustedDatabase;
use rusqlite::Connection;

/// The tables of `schema.sql`.
pub(super) const TABLES: [&str; 6] = ["vms", "vm_files", "archive", "archive_files", "locks", "store"];

/// The column number of an expression in `PRAGMA index_xinfo`.
const EXPRESSION: i64 = -2;

/// Refuses a database in which one of goloo's tables is not a plain table.
pub(super) fn check(connection: &Connection) -> rusqlite::Result<Option<UntrustedDatabase>> {
    for table in TABLES {
        if let Some(fault) = fault(connection, table)? {
            return Ok(Some(UntrustedDatabase::Schema { table, fault }));
        }
    }
    Ok(None)
}

fn fault(connection: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    // First: querying the columns of a virtual table starts it.
    if !is_ordinary(connection, table)? {
        return Ok(Some("it is a view or a virtual table".to_owned()));
    }
    if let Some(fault) = column_fault(connection, table)? {
        return Ok(Some(fault.to_owned()));
    }
    index_fault(connection, table)
}

/// Whether a table is ordinary, or doesn't exist.
fn is_ordinary(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    // SQLite's names are case-insensitive.
    let query = "SELECT count(*) = 0 FROM sqlite_schema WHERE lower(name) = ?1
                 AND (type <> 'table' OR rootpage = 0 OR substr(sql, 1, 13) <> 'CREATE TABLE ')";
    connection.query_row(query, [table], |row| row.get(0))
}

fn column_fault(connection: &Connection, table: &str) -> rusqlite::Result<Option<&'static str>> {
    let mut fault = None;
    connection.pragma(None, "table_xinfo", table, |row| {
        if row.get::<_, i64>("hidden")? != 0 {
            fault = Some("it has a generated or hidden column");
        } else if row.get_ref("dflt_value")? != rusqlite::types::ValueRef::Null {
            fault = Some("it has a column with a default");
        }
        Ok(())
    })?;
    Ok(fault)
}

fn index_fault(connection: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    let mut indexes = Vec::new();
    connection.pragma(None, "index_list", table, |row| {
        indexes.push((row.get::<_, String>("name")?, row.get::<_, bool>("partial")?));
        Ok(())
    })?;
    for (index, is_partial) in indexes {
        let mut has_expression = is_partial;
        connection.pragma(None, "index_xinfo", &index, |row| {
            has_expression |= row.get::<_, i64>("cid")? == EXPRESSION;
            Ok(())
        })?;
        if has_expression {
            return Ok(Some(format!("its index {index} has an expression")));
        }
    }
    Ok(None)
}
