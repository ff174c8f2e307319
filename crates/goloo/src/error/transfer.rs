//! Transfers that can't be done.

use std::path::PathBuf;

use goloo_model::store::Broken;

use crate::transfer::compare::Conflict;

/// Why records can't be moved, exported or imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Records of a document conflict with the store.
    #[error("nothing was written: some records conflict with the store")]
    DocumentConflicts {
        /// The conflicts.
        conflicts: Vec<Conflict>,
    },
    /// Records of a backup conflict with the store.
    #[error("nothing was written: some records in the store are newer or different")]
    BackupConflicts {
        /// The conflicts.
        conflicts: Vec<Conflict>,
    },
    /// The new store has other records.
    #[error("{location} is not empty and has other records")]
    TargetConflicts {
        /// The store.
        location: String,
        /// The conflicts.
        conflicts: Vec<Conflict>,
    },
    /// Records that would be moved can't be read.
    #[error("records in {location} are broken")]
    BrokenRecords {
        /// The store.
        location: String,
        /// The records.
        broken: Vec<Broken>,
    },
    /// VMs have operations in progress, which would finish in a store that accepts no result any more.
    #[error("nothing was moved: some VMs have operations in progress")]
    InUse {
        /// What is in progress, one for each VM or lock.
        operations: Vec<String>,
    },
    /// The user interrupted the move; the marks were removed.
    #[error("the move was interrupted; {location} is in use as before")]
    Interrupted {
        /// The store in use.
        location: String,
        /// The address of the new store.
        address: String,
    },
    /// Both addresses name the same store.
    #[error("{from} and {to} are the same store")]
    SameStore {
        /// The store in use.
        from: String,
        /// The new store.
        to: String,
        /// The address of the new store.
        address: String,
    },
    /// The new store doesn't have what was written to it.
    #[error("{location} does not have the records that were copied into it")]
    NotCopied {
        /// The new store.
        location: String,
        /// Its address.
        address: String,
        /// The records that differ.
        different: Vec<String>,
    },
    /// Another process of this user moves the records.
    #[error("another move is in progress")]
    AnotherMove,
    /// A backup can't be made of the records.
    #[error("no backup was made: {reason}")]
    NoBackup {
        /// Why not.
        reason: String,
    },
    /// A file is no backup that can be restored.
    #[error("{} can't be restored: {reason}", file.display())]
    NotABackup {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file is no document with records.
    #[error("{} is not a goloo document: {reason}", file.display())]
    NotADocument {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl TransferError {
    /// The stable error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DocumentConflicts { .. } | Self::BackupConflicts { .. } | Self::TargetConflicts { .. } => {
                "conflict"
            }
            Self::BrokenRecords { .. } => "broken",
            Self::InUse { .. } | Self::AnotherMove => "locked",
            Self::Interrupted { .. } => "interrupted",
            Self::SameStore { .. } | Self::NotADocument { .. } => "usage",
            Self::NotCopied { .. } | Self::NoBackup { .. } | Self::NotABackup { .. } => "failed",
        }
    }
}
