//! Names of local VMs on the computer that they run on, as /etc/hosts gives them.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::name::VmName;

/// The names that this computer has for VMs. Only VMs whose record wants it
/// ([`hosts_entry`](crate::record::Record::hosts_entry)) are named; what others wrote is never touched.
///
/// Both calls wait for a file only, or for a person who gives a password where there is a terminal.
pub trait HostNames: Send + Sync {
    /// Makes the name stand for this address, and no more for the one before.
    fn set(&self, name: &VmName, ip: IpAddr) -> Result<(), HostNamesError>;

    /// Makes the name stand for nothing; gone already is success.
    fn remove(&self, name: &VmName) -> Result<(), HostNamesError>;
}

/// Why a name couldn't be set or removed; the file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum HostNamesError {
    /// Somebody else has given this name to something.
    #[error("{} has a line for \"{name}\" that isn't goloo's", place.display())]
    Taken {
        /// The file.
        place: PathBuf,
        /// The name.
        name: VmName,
    },
    /// This user may not change the file, and sudo didn't help.
    #[error("{} can't be changed: {reason}", place.display())]
    Denied {
        /// The file.
        place: PathBuf,
        /// Who said no, in their words.
        reason: String,
    },
    /// The operating system said no.
    #[error("can't {action} {}", place.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        place: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl HostNamesError {
    /// What a person can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Taken { .. } => "remove that line".to_owned(),
            Self::Denied { place, .. } => {
                format!("run sudo -v, so that goloo may use sudo, or edit {} by hand", place.display())
            }
            // A container's hosts file is mounted into it, and a mount point can't be replaced.
            Self::Io { place, source, .. } if source.kind() == io::ErrorKind::ResourceBusy => {
                format!("{} is a mount point: edit it by hand", place.display())
            }
            Self::Io { place, .. } => format!("look at it: ls -l {}", place.display()),
        }
    }
}
