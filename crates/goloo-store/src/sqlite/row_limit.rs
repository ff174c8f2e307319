//! Limits on the rows that are read from one table: others may have written millions.

use std::path::Path;

use goloo_model::database_error::UntrustedDatabase;

use super::failure::{Failure, untrusted};

/// The maximum number of rows of a table: the same as for objects in the listing of a bucket.
pub(super) const ROWS_MAX: usize = 200_000;

/// The maximum number of locks that are held concurrently.
pub(super) const LOCKS_MAX: usize = 10_000;

/// Counts the rows that are read from a table.
pub(super) struct RowLimit<'f> {
    file: &'f Path,
    table: &'static str,
    rows: &'static str,
    max: usize,
    count: usize,
}

impl<'f> RowLimit<'f> {
    /// For the rows of a table.
    pub fn of_rows(file: &'f Path, table: &'static str) -> Self {
        Self { file, table, rows: "rows", max: ROWS_MAX, count: 0 }
    }

    /// For the locks that are held.
    pub fn of_locks(file: &'f Path) -> Self {
        Self { file, table: "locks", rows: "locks that are held", max: LOCKS_MAX, count: 0 }
    }

    /// Counts one row, or fails if the limit is exceeded.
    pub fn count(&mut self) -> Result<(), Failure> {
        self.count += 1;
        if self.count <= self.max {
            return Ok(());
        }
        let Self { file, table, rows, max, .. } = *self;
        Err(untrusted("read", file, UntrustedDatabase::TooManyRows { table, rows, max }).into())
    }
}
