//! Machines that goloo doesn't log in to, and files that `ssh` needs.

use std::ffi::OsString;
use std::path::PathBuf;

use goloo_model::access::Address;
use goloo_model::name::VmName;

/// Why goloo doesn't log in to a machine, or can't set up `ssh` for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// A record names a different host key than before.
    #[error(
        "Host key verification failed: the record of the machine at {host} names a different host key than before"
    )]
    HostKeyChanged {
        /// The VM.
        name: VmName,
        /// Its address.
        host: Address,
        /// The file with the previous host key.
        path: PathBuf,
    },
    /// The record belongs to a different VM than the one previously reached under its name.
    #[error(
        "the record of \"{name}\" belongs to a different VM than the one that goloo logged in to before, and that one was not deleted"
    )]
    OtherVm {
        /// The VM's name.
        name: VmName,
        /// The file with the host key of the VM that was reached before.
        path: PathBuf,
    },
    /// The file of the client key is not a key.
    #[error("{} is not an SSH key", path.display())]
    InvalidClientKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ssh_key::Error,
    },
    /// A path that can't be passed to `ssh`.
    #[error("ssh can't use the path {}, which contains {what}", path.display())]
    UnusablePath {
        /// The path.
        path: PathBuf,
        /// What it contains: "a line break".
        what: &'static str,
    },
    /// A file of the user that goloo doesn't change.
    #[error("{} is not changed: {reason}", path.display())]
    UserConfig {
        /// The file.
        path: PathBuf,
        /// Why not: "it is not a regular file".
        reason: String,
        /// The line that goloo adds and removes.
        line: String,
    },
    /// A VM that `~/.ssh/config` doesn't get, since someone else may have written its record.
    #[error(
        "~/.ssh/config has no entry for \"{name}\": nothing proves that it was created with this state folder"
    )]
    NoHostBlock {
        /// The VM.
        name: VmName,
    },
    /// A path that can't be written into a text.
    #[error("the path {} is not UTF-8", path.to_string_lossy())]
    NotUtf8 {
        /// The path, in quotes.
        path: OsString,
    },
}

impl SshError {
    /// The stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HostKeyChanged { .. } | Self::OtherVm { .. } => "host-key-changed",
            Self::UserConfig { .. } | Self::NoHostBlock { .. } => "refused",
            Self::InvalidClientKey { .. } | Self::UnusablePath { .. } | Self::NotUtf8 { .. } => "failed",
        }
    }
}
