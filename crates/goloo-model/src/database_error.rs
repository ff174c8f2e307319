//! What is wrong with a database file that holds records.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::hint::{Hint, NextStep};

/// The file isn't a readable database: it is damaged, or something else.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the file is damaged: {detail}")]
pub struct DatabaseDamage {
    /// The file.
    pub file: PathBuf,
    /// What SQLite says.
    pub detail: String,
}

impl DatabaseDamage {
    /// What to do about it.
    pub fn hint(&self) -> Hint {
        let (file, repaired) = (in_shell(&self.file), in_shell(&with_suffix(&self.file, ".repaired")));
        Hint::from(format!(
            "save what can be read: sqlite3 {file} .recover | sqlite3 {repaired}, check it, then replace the file with it; or restore a backup with "
        ))
        .step(NextStep::StateRestore)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A path as one word for a shell.
fn in_shell(path: &Path) -> String {
    let text = path.to_string_lossy();
    shlex::try_quote(&text).map_or_else(|_| text.clone().into_owned(), Cow::into_owned)
}

/// Something in the database, or in place of one of its files, that others may have put there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UntrustedDatabase {
    /// Other users can change the file or its folder.
    #[error("{what}")]
    Exposed {
        /// What they can change.
        what: String,
        /// The command or the step that ends it.
        fix: String,
    },
    /// A path of the database is no regular file.
    #[error("{} is {kind}, not a regular file", path.display())]
    SpecialFile {
        /// The path.
        path: PathBuf,
        /// What it is: "a named pipe".
        kind: &'static str,
    },
    /// The database is a link that another user has made.
    #[error("{} is a symbolic link of another user (uid {uid}) and isn't followed", path.display())]
    ForeignLink {
        /// The link.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// A rollback journal names a file that SQLite would open.
    #[error("{} names a file that SQLite would open, but goloo didn't write it", path.display())]
    SuperJournal {
        /// The journal.
        path: PathBuf,
    },
    /// A table holds SQL, not only rows.
    #[error("the table {table} doesn't have goloo's schema: {fault}")]
    Schema {
        /// The table.
        table: &'static str,
        /// What it has: "it has a column with a default".
        fault: String,
    },
    /// A table has more rows than are read.
    #[error("its table {table} has more than {max} {rows}")]
    TooManyRows {
        /// The table.
        table: &'static str,
        /// What is counted: "rows".
        rows: &'static str,
        /// The limit.
        max: usize,
    },
    /// Reading took too long.
    #[error("it took longer than {seconds} s")]
    Endless {
        /// The limit.
        seconds: u64,
    },
    /// A value is larger than any that goloo writes.
    #[error("it holds values that goloo never writes ({detail})")]
    OversizedValue {
        /// What SQLite says.
        detail: String,
    },
}
