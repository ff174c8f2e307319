//! What listens on a port of this host, for messages.

use std::fmt;

use crate::machine::MachineFile;
use crate::ports::Listener;

/// What has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A machine, running or not.
    Vm(String),
    /// A process whose descriptors this user may read.
    Process { name: String, pid: u32 },
    /// Another user's process, or the system doesn't tell.
    Unknown,
}

impl Holder {
    /// Of this listener.
    pub(crate) fn of(listener: &Listener, others: &[MachineFile]) -> Self {
        machine_of(listener, others)
            .map(|machine| Self::Vm(machine.name.clone()))
            .or_else(|| system::process_of(listener))
            .unwrap_or(Self::Unknown)
    }
}

/// The machine to which it belongs.
pub(crate) fn machine_of<'m>(listener: &Listener, others: &'m [MachineFile]) -> Option<&'m MachineFile> {
    others.iter().find(|machine| machine.listeners().any(|theirs| theirs.excludes(listener)))
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vm(name) => write!(f, "the VM \"{name}\""),
            Self::Process { name, pid } => write!(f, "{name} (process {pid})"),
            Self::Unknown => f.write_str("another program"),
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;
    use std::net::{IpAddr, Ipv4Addr};
    use std::path::Path;

    use goloo_model::spec::Protocol;

    use super::Holder;
    use crate::ports::Listener;
    use crate::proc_net::Socket;

    pub(super) fn process_of(listener: &Listener) -> Option<Holder> {
        let tables = match listener.protocol {
            Protocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
            Protocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        };
        let inode = tables.iter().find_map(|table| {
            let text = fs::read_to_string(table).ok()?;
            text.lines().find_map(|line| inode_of(line, listener)).map(str::to_owned)
        })?;
        let socket = format!("socket:[{inode}]");
        let mut processes = fs::read_dir("/proc").ok()?.flatten();
        processes.find_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
            descriptors
                .any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|to| to == Path::new(&socket)))
                .then(|| {
                    let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                    Holder::Process { name: name.trim_end().to_owned(), pid }
                })
        })
    }

    /// The inode of the socket of a line of such a table, if it excludes the listener. Only servers have no other end.
    pub(super) fn inode_of<'l>(line: &'l str, listener: &Listener) -> Option<&'l str> {
        let socket = Socket::of_line(line)?;
        let address = match socket.address {
            IpAddr::V4(four) => four,
            // It receives IPv4 as well, unless the program disabled that.
            IpAddr::V6(six) if six.is_unspecified() => Ipv4Addr::UNSPECIFIED,
            IpAddr::V6(six) => six.to_ipv4_mapped()?,
        };
        let theirs = Listener { address, port: socket.port, ..*listener };
        (socket.remote_port == 0 && theirs.excludes(listener)).then_some(socket.inode)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::Holder;
    use crate::ports::Listener;

    pub(super) fn process_of(_: &Listener) -> Option<Holder> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

    use goloo_model::spec::Protocol;

    use super::*;

    #[test]
    fn the_process_that_listens_on_a_port_is_named() {
        let places: [IpAddr; 4] = [
            Ipv4Addr::LOCALHOST.into(),
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
        ];
        for place in places {
            let Ok(listener) = TcpListener::bind((place, 0)) else { continue };
            let port = Listener::tcp(Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port());
            match Holder::of(&port, &[]) {
                Holder::Process { pid, name } => {
                    assert_eq!((pid, name.is_empty()), (std::process::id(), false), "{place}");
                }
                other => panic!("{place}: {other:?}"),
            }
            let elsewhere = Listener { address: Ipv4Addr::new(127, 0, 0, 2), ..port };
            let is_everywhere = place.is_unspecified();
            assert_eq!(Holder::of(&elsewhere, &[]) != Holder::Unknown, is_everywhere, "{place}");
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let udp = Listener { protocol: Protocol::Udp, ..Listener::tcp(Ipv4Addr::LOCALHOST, port) };
        assert!(matches!(Holder::of(&udp, &[]), Holder::Process { .. }));
        drop(socket);
        assert_eq!(Holder::of(&udp, &[]), Holder::Unknown);
    }
}
