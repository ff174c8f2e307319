//! Small files in the state folder that can't be used.

use std::path::PathBuf;

/// The kind of a small file in the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFile {
    /// The folder's id.
    Id,
    /// The folder's key.
    Key,
    /// The ids of VMs whose records were imported without proof.
    Imported,
}

/// What is wrong with a small file in the state folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateFileError {
    /// Its content can't be used.
    #[error("{} is damaged{}", path.display(), if *file == StateFile::Imported { ", so nothing is imported" } else { "" })]
    Damaged {
        /// Its path.
        path: PathBuf,
        /// What it should hold.
        file: StateFile,
    },
    /// It was removed by another process after it was written.
    #[error("{} was removed by another process", path.display())]
    Removed {
        /// Where it was.
        path: PathBuf,
    },
    /// More records are imported than it can list.
    #[error("nothing was imported: {} would list {records} records", path.display())]
    TooMany {
        /// Its path.
        path: PathBuf,
        /// How many it would list.
        records: usize,
    },
}

impl StateFileError {
    /// The stable word for it.
    pub fn code(&self) -> &'static str {
        "failed"
    }
}
