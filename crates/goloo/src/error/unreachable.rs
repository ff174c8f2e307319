//! Machines that can't be connected to.

use std::io;

use goloo_model::name::VmName;

/// Why a machine can't be connected to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnreachableError {
    /// It has no address yet.
    #[error("\"{name}\" has no address yet")]
    NoAddress {
        /// The VM.
        name: VmName,
    },
    /// goloo has no key for it, and its provider has no session of its own.
    #[error("there is no SSH key for \"{name}\"")]
    NoKey {
        /// The VM.
        name: VmName,
    },
    /// It is off.
    #[error("\"{name}\" is stopped")]
    Stopped {
        /// The VM.
        name: VmName,
    },
    /// It is off, with its memory saved.
    #[error("\"{name}\" is suspended")]
    Suspended {
        /// The VM.
        name: VmName,
    },
    /// Its provider doesn't have it.
    #[error("the machine of \"{name}\" no longer exists; only its record is left")]
    Missing {
        /// The VM.
        name: VmName,
    },
    /// It has not finished booting for the first time.
    #[error("\"{name}\" is still booting: SSH does not answer yet")]
    Booting {
        /// The VM.
        name: VmName,
        /// Whether its provider shows its console.
        has_console: bool,
        /// Why SSH doesn't answer.
        #[source]
        source: io::Error,
    },
    /// The installed scp lets the machine choose the names of downloaded files.
    #[error(
        "this version of scp accepts any file name that the VM sends, so a VM could overwrite any of your files"
    )]
    UnsafeScp,
}

impl UnreachableError {
    /// The stable error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "not-found",
            _ => "failed",
        }
    }
}
