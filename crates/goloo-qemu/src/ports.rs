//! The ports of this host on which QEMU listens, so that no two machines share one. A machine keeps its SSH port over
//! stop and start, so the port belongs to it even while nothing is bound. goloo holds the ports lock while it reads what
//! other machines have recorded, picks a port and records it. Whether a port is really free shows when QEMU binds it; if
//! that fails, the next one is picked.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use goloo_model::record::ForwardedPort;
use goloo_model::spec::Protocol;
use serde::{Deserialize, Serialize};

/// Below the ephemeral port ranges (Linux: from 32768, macOS: from 49152), so that a stopped machine's port isn't taken
/// by chance.
const FIRST: u16 = 20000;
/// How many ports there are to pick from.
const COUNT: u16 = 10000;

/// A port of an address of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// The protocol.
    pub protocol: Protocol,
    /// The address.
    pub address: Ipv4Addr,
    /// The port.
    pub port: u16,
}

impl Listener {
    /// For SSH at this address.
    pub fn tcp(address: Ipv4Addr, port: u16) -> Self {
        Self { protocol: Protocol::Tcp, address, port }
    }

    /// Whether it can be bound now; the error is the reason if not.
    pub fn check(&self) -> io::Result<()> {
        let place = (self.address, self.port);
        match self.protocol {
            Protocol::Tcp => TcpListener::bind(place).map(drop),
            Protocol::Udp => UdpSocket::bind(place).map(drop),
        }
    }

    /// Whether only one of the two can be bound.
    pub fn excludes(&self, other: &Self) -> bool {
        let same_address =
            self.address == other.address || self.address.is_unspecified() || other.address.is_unspecified();
        same_address && (self.protocol, self.port) == (other.protocol, other.port)
    }

    /// As QEMU names it.
    pub fn place(&self) -> String {
        format!("{}:{}:{}", self.protocol.as_str(), self.address, self.port)
    }

    /// QEMU's rule that forwards it, a value of `hostfwd`.
    pub fn rule(&self, guest: u16) -> String {
        format!("{}-:{guest}", self.place())
    }

    /// Of a rule.
    pub fn of_rule(rule: &str) -> Option<Self> {
        let (place, _) = rule.split_once("-:")?;
        let (protocol, place) = place.split_once(':')?;
        let (address, port) = place.split_once(':')?;
        let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|known| known.as_str() == protocol)?;
        Some(Self { protocol, address: address.parse().ok()?, port: port.parse().ok()? })
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.address, self.port, self.protocol.suffix())
    }
}

/// Whether a machine can do without a forward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Necessity {
    /// The machine doesn't start without it.
    #[default]
    Required,
    /// Left out of a start where another program has the port.
    Optional,
    /// Left out of the last start.
    Skipped,
}

/// A forward, as stored in `machine.json`. Those of earlier versions have two ports only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The port of this host.
    pub host: u16,
    /// The port in the guest.
    pub guest: u16,
    /// The address of this host.
    #[serde(default = "localhost")]
    pub address: Ipv4Addr,
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Whether the machine can do without it.
    #[serde(default)]
    pub necessity: Necessity,
}

impl Forward {
    /// A required one.
    pub fn new(listener: Listener, guest: u16) -> Self {
        let Listener { protocol, address, port } = listener;
        Self { host: port, guest, address, protocol, necessity: Necessity::Required }
    }

    /// Where QEMU listens.
    pub fn listener(&self) -> Listener {
        Listener { protocol: self.protocol, address: self.address, port: self.host }
    }

    /// Whether QEMU has it since the last start.
    pub fn is_active(&self) -> bool {
        self.necessity != Necessity::Skipped
    }
}

impl From<&Forward> for ForwardedPort {
    fn from(forward: &Forward) -> Self {
        Self {
            address: forward.address.into(),
            port: forward.host,
            guest_port: forward.guest,
            protocol: forward.protocol,
        }
    }
}

fn localhost() -> Ipv4Addr {
    Ipv4Addr::LOCALHOST
}

/// The first free port of this address that isn't in `taken`. `seed` determines where the search starts, so that
/// machines spread out.
pub fn pick(seed: &str, protocol: Protocol, address: Ipv4Addr, taken: &BTreeSet<u16>) -> Option<Listener> {
    let hash = seed.bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let begin = u16::try_from(hash % u32::from(COUNT)).unwrap_or(0);
    (0..COUNT)
        .map(|step| FIRST + (begin + step) % COUNT)
        .filter(|port| !taken.contains(port))
        .map(|port| Listener { protocol, address, port })
        .find(|listener| listener.check().is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pick_tcp(taken: &BTreeSet<u16>) -> Option<u16> {
        pick("01J", Protocol::Tcp, Ipv4Addr::LOCALHOST, taken).map(|listener| listener.port)
    }

    #[test]
    fn bound_and_reserved_ports_are_skipped() {
        let first = pick_tcp(&BTreeSet::new()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        let second = pick_tcp(&BTreeSet::new()).unwrap();
        assert_ne!(first, second);
        let third = pick_tcp(&BTreeSet::from([second])).unwrap();
        assert!(![first, second].contains(&third));
        assert!((FIRST..FIRST + COUNT).contains(&third));
        drop(listener);
    }

    #[test]
    fn no_port_is_picked_when_all_are_reserved() {
        assert_eq!(pick_tcp(&(FIRST..FIRST + COUNT).collect()), None);
    }

    #[test]
    fn a_bound_udp_port_is_taken_for_udp_only() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let udp = Listener {
            protocol: Protocol::Udp,
            ..Listener::tcp(Ipv4Addr::LOCALHOST, socket.local_addr().unwrap().port())
        };
        assert_eq!(udp.check().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(!Listener { protocol: Protocol::Tcp, ..udp }.excludes(&udp));
    }

    #[test]
    fn a_listener_is_read_from_its_rule() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let listener = Listener { protocol, ..Listener::tcp([127, 66, 1, 2].into(), 8080) };
            assert_eq!(Listener::of_rule(&listener.rule(80)), Some(listener));
        }
        assert_eq!(Listener::of_rule("tcp::8080-:80"), None);
    }

    #[test]
    fn a_forward_of_an_earlier_version_is_at_the_loopback_address() {
        let read: Forward = serde_json::from_str(r#"{"host": 8080, "guest": 80}"#).unwrap();
        assert_eq!(read, Forward::new(Listener::tcp(Ipv4Addr::LOCALHOST, 8080), 80));
        let written = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Forward>(&written).unwrap(), read);
    }
}
