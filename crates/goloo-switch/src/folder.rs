//! The folder of one network, `STATE/net/NAME/`, and the sockets in it.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use goloo_model::name::VmName;
use goloo_model::record::{PrivateAddress, PrivateNetwork};
use goloo_sys::socket_path::SocketPath;
use goloo_sys::{durable, private};

/// The socket by which goloo tells the switch that a machine was started or deleted.
pub(crate) const SWITCH_SOCKET: &str = "switch";

/// The name of a machine's socket.
pub fn member_socket(address: PrivateAddress) -> String {
    address.address().to_string()
}

/// The name of the socket that a machine sends its frames to.
pub fn switch_end(address: PrivateAddress) -> String {
    format!("{}.sw", address.address())
}

/// Held by the switch for as long as it runs.
pub(crate) const LOCK: &str = "switch.lock";

/// The folder of an environment's network. Two environments of the same name, in two stores, have different networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFolder {
    path: PathBuf,
    network: PrivateNetwork,
}

impl NetworkFolder {
    /// In the folder of all networks. Nothing is read.
    pub fn new(networks: &Path, environment: &VmName, network: PrivateNetwork) -> Self {
        Self { path: networks.join(format!("{environment}-{}", network.base())), network }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The network.
    pub fn network(&self) -> PrivateNetwork {
        self.network
    }

    /// Creates it for this user only: anyone who can enter it can send frames.
    ///
    /// # Errors
    /// Those of the system.
    pub fn create(&self) -> io::Result<()> {
        private::create_folders(&self.path)?;
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700))
    }

    /// Whether a switch is running.
    pub fn has_switch(&self) -> bool {
        is_bound(&self.path, SWITCH_SOCKET)
    }

    /// Whether a machine with this address is running and connected.
    pub fn has_member(&self, address: PrivateAddress) -> bool {
        is_bound(&self.path, &member_socket(address))
    }

    /// Removes the socket of a machine that isn't running.
    ///
    /// # Errors
    /// Those of the system.
    pub fn remove_member(&self, address: PrivateAddress) -> io::Result<()> {
        for name in [member_socket(address), switch_end(address)] {
            durable::remove_if_there(&self.path.join(name))?;
        }
        Ok(())
    }

    /// Tells the switch that a machine was started.
    ///
    /// # Errors
    /// Those of the system; there may be no switch.
    pub fn tell_switch(&self) -> io::Result<()> {
        tell(&connected(&self.path, SWITCH_SOCKET)?)
    }

    /// Removes the folder of a network without machines. Its switch ends.
    ///
    /// # Errors
    /// Those of the system.
    pub fn remove(&self) -> io::Result<()> {
        let switch = connected(&self.path, SWITCH_SOCKET);
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // It notices by itself after a while.
        let _ = switch.and_then(|switch| tell(&switch));
        Ok(())
    }
}

/// If its queue is full, it is about to look anyway.
fn tell(switch: &UnixDatagram) -> io::Result<()> {
    match switch.send(&[]) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// What distinguishes a file from a later one of the same name.
pub(crate) type FileIdentity = (u64, u64);

pub(crate) fn identity(path: &Path) -> io::Result<FileIdentity> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// The machine whose socket has this name.
fn member_named(name: &str, network: PrivateNetwork) -> Option<PrivateAddress> {
    let address: Ipv4Addr = name.parse().ok()?;
    network.member(address)
}

/// The machines with a socket in a folder, whether or not they are running.
pub(crate) fn members_in(folder: &Path, network: PrivateNetwork) -> io::Result<Vec<PrivateAddress>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let names = entries.iter().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(|name| member_named(&name, network)).collect())
}

/// Whether a process has this socket; a file alone remains of one that ended.
pub(crate) fn is_bound(folder: &Path, name: &str) -> bool {
    connected(folder, name).is_ok()
}

fn connected(folder: &Path, name: &str) -> io::Result<UnixDatagram> {
    let path = SocketPath::of(folder, name)?;
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(&path)?;
    Ok(socket)
}
