//! Names of local VMs on their host, as in /etc/hosts.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::name::VmName;

/// The VM names in this host's name service. Only VMs whose record asks for it
/// ([`hosts_entry`](crate::record::Record::hosts_entry)) are named; entries of others are never touched.
///
/// Both calls block only on a file, or on a password prompt if there is a terminal.
pub trait HostNames: Send + Sync {
    /// Maps the name to this address, replacing its previous one.
    fn set(&self, name: &VmName, ip: IpAddr) -> Result<(), HostNamesError>;

    /// Removes the mapping; succeeds if there is none.
    fn remove(&self, name: &VmName) -> Result<(), HostNamesError>;
}

/// Why a name couldn't be set or removed; the file is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum HostNamesError {
    /// The name is already used for something else.
    #[error("{} has an entry for \"{name}\" that goloo didn't add", place.display())]
    Taken {
        /// The file.
        place: PathBuf,
        /// The name.
        name: VmName,
    },
    /// This user may not change the file, and sudo failed.
    #[error("{} can't be changed: {reason}", place.display())]
    Denied {
        /// The file.
        place: PathBuf,
        /// The error message of the system or of sudo.
        reason: String,
    },
    /// The operating system returned an error.
    #[error("can't {action} {}", place.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file concerned.
        place: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl HostNamesError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Taken { .. } => "remove that entry".to_owned(),
            Self::Denied { place, .. } => {
                format!("run sudo -v, so that goloo may use sudo, or edit {} manually", place.display())
            }
            // A container's hosts file is mounted into it, and a mount point can't be replaced.
            Self::Io { place, source, .. } if source.kind() == io::ErrorKind::ResourceBusy => {
                format!("edit {} manually: it is a mount point", place.display())
            }
            Self::Io { place, .. } => format!("check it: ls -l {}", place.display()),
        }
    }
}
