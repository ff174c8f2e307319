//! Requests that can't be met: nothing was changed.

use std::io;
use std::path::PathBuf;

use goloo_model::name::VmName;
use goloo_model::provider_id::ProviderId;
use goloo_model::record::OverrideError;
use goloo_model::spec::Diagnostic;

/// Why a request can't be met.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No active or archived VM has the name.
    #[error("no active or archived VM is called \"{name}\"")]
    NoVm {
        /// The name.
        name: VmName,
    },
    /// goloo has no files that the VM was created from.
    #[error("\"{name}\" was not created by goloo, so its record has no stack files")]
    NoRecordedFiles {
        /// The VM.
        name: VmName,
    },
    /// The record has a value that no stack can have.
    #[error(transparent)]
    RecordedValue(#[from] goloo_model::record::StackValueError),
    /// The stack that a VM was created from can't be read.
    #[error("the stack of \"{name}\" no longer exists or can't be read")]
    StackMissing {
        /// The VM.
        name: VmName,
    },
    /// Somebody else may have written the path of the stack into the record, so it isn't read.
    #[error(
        "the stack folder {} in the record of \"{name}\" may have been set by someone else, so it is not read",
        folder.display()
    )]
    UntrustedStack {
        /// The VM.
        name: VmName,
        /// The folder that the record names.
        folder: PathBuf,
    },
    /// The registry has no stack of this name.
    #[error("no VM was created from a stack \"{name}\"")]
    UnregisteredStack {
        /// The stack.
        name: String,
        /// The folder that it was to have.
        folder: PathBuf,
    },
    /// A file in the target folder would become part of the exported stack.
    #[error("{} isn't a file of the stack \"{name}\" and would become part of it", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// The stack.
        name: VmName,
    },
    /// A file of the stack exists in the target folder.
    #[error("{} already exists", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
        /// Whether the request may be repeated with permission to replace it.
        can_replace: bool,
        /// The stack.
        name: VmName,
    },
    /// The working directory was removed.
    #[error("the current folder no longer exists")]
    NoWorkingDirectory(#[source] io::Error),
    /// A text isn't an override.
    #[error(transparent)]
    Override(#[from] OverrideError),
    /// Somebody else may have written the overrides into the record, so they aren't used.
    #[error(
        "the overrides in the record of \"{name}\" may have been set by someone else, so they are not used"
    )]
    UntrustedOverrides {
        /// The VM.
        name: VmName,
    },
    /// A VM's apply was interrupted while it provisioned the machine again.
    #[error("\"{name}\" was being provisioned again, and this must be completed first")]
    UnfinishedReprovision {
        /// The VM.
        name: VmName,
    },
    /// A VM has no override of this key.
    #[error("\"{name}\" has no override of {key}")]
    NoOverride {
        /// The VM.
        name: VmName,
        /// The key.
        key: String,
    },
    /// The stack has too much in it for a record.
    #[error("the stack of \"{name}\" is too large: a record keeps at most 32 KiB of it")]
    StackTooLarge {
        /// The VM.
        name: VmName,
    },
    /// The provider makes no images of machines.
    #[error("{provider} can't make a baked image of a stack")]
    NoBaking {
        /// The provider.
        provider: ProviderId,
    },
    /// The provider keeps no baked images.
    #[error("{provider} keeps no baked images")]
    NoKeptImages {
        /// The provider.
        provider: ProviderId,
    },
    /// The provider keeps no image of this name or id.
    #[error("there is no baked image \"{name}\"")]
    NoSuchKeptImage {
        /// The name.
        name: String,
        /// The names of those that exist.
        known: Vec<String>,
    },
    /// A VM was made from the image, or is being baked into it.
    #[error("a VM uses the baked image \"{name}\"")]
    KeptImageInUse {
        /// The name.
        name: String,
    },
    /// The text names no image.
    #[error("{}", .0.message)]
    InvalidImage(Box<Diagnostic>),
}

impl RequestError {
    /// The stable error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoVm { .. }
            | Self::StackMissing { .. }
            | Self::UnregisteredStack { .. }
            | Self::NoSuchKeptImage { .. } => "not-found",
            Self::InvalidImage(_)
            | Self::NoBaking { .. }
            | Self::NoKeptImages { .. }
            | Self::Override(_)
            | Self::NoOverride { .. } => "usage",
            _ => "failed",
        }
    }
}
