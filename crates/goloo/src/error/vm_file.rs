//! Files of exported VMs.

use std::path::PathBuf;

use goloo_model::name::VmName;

/// Why a VM can't be exported to a file, or imported from one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmFileError {
    /// There is a file of that name, which isn't replaced.
    #[error("{} already exists", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// Another process is exporting to it.
    #[error("another process is writing {}", file.display())]
    Busy {
        /// The file.
        file: PathBuf,
    },
    /// The machine is from an earlier version, whose user-data can't get another client key.
    #[error("the machine of \"{name}\" was created by a version of goloo whose machines can't be exported")]
    TooOld {
        /// The VM.
        name: VmName,
    },
    /// It isn't a file that this version of goloo imports.
    #[error("{} can't be imported: {reason}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A record can't have this path, which a resume needs.
    #[error("the path {} isn't UTF-8, or has control characters", file.display())]
    Unrecordable {
        /// The file.
        file: PathBuf,
    },
    /// An interrupted import had begun with another content.
    #[error("{} has changed since the import began", file.display())]
    Changed {
        /// The file.
        file: PathBuf,
    },
}

impl VmFileError {
    /// The stable error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "exists",
            Self::Busy { .. } => "locked",
            Self::TooOld { .. } => "unsupported",
            Self::Invalid { .. } => "invalid-export",
            Self::Unrecordable { .. } => "usage",
            Self::Changed { .. } => "changed",
        }
    }
}
