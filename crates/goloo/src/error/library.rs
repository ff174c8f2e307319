//! Failed changes of the library of stacks.

use std::path::PathBuf;

use goloo_model::name::VmName;

/// Why a library operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// It has no stack of this name.
    #[error("the library has no stack \"{name}\" in {}", folder.display())]
    NotFound {
        /// The name.
        name: VmName,
        /// The library's folder.
        folder: PathBuf,
    },
    /// It has a stack of this name.
    #[error("the library already has a stack \"{name}\"")]
    NameTaken {
        /// The name.
        name: VmName,
    },
    /// A folder that would be replaced contains more than a stack.
    #[error("{} also has {}, which would be lost", folder.display(), others.join(", "))]
    OtherFiles {
        /// The folder.
        folder: PathBuf,
        /// The other files in it.
        others: Vec<String>,
    },
    /// A file was changed after it was read.
    #[error("{} was changed by another process", path.display())]
    Changed {
        /// The stack.
        name: VmName,
        /// The file.
        path: PathBuf,
    },
}

impl LibraryError {
    /// The stable error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not-found",
            Self::NameTaken { .. } => "name-taken",
            Self::OtherFiles { .. } => "failed",
            Self::Changed { .. } => "stale",
        }
    }
}
