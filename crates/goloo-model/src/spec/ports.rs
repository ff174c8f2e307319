//! An entry of `vm.ports`: how it is written, and which entries exclude each other.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The port on which machines themselves listen for SSH.
pub const SSH_PORT: u16 = 22;

/// The largest number of ports of one stack. QEMU holds up to two descriptors for each, and a process has 1024 of them.
pub const FORWARDED_PORTS_MAX: usize = 256;

/// A transport protocol.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[expect(missing_docs, reason = "the name says it")]
    #[default]
    Tcp,
    #[expect(missing_docs, reason = "the name says it")]
    Udp,
}

impl Protocol {
    /// In lower case, as in a config.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Follows a port in a config; TCP is the default and isn't written.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Tcp => "",
            Self::Udp => "/udp",
        }
    }
}

/// Consecutive ports, at least one; 0 isn't among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The port of SSH.
    pub const SSH: Self = Self { first: SSH_PORT, last: SSH_PORT };

    /// One port; `None` for 0.
    pub fn one(port: u16) -> Option<Self> {
        (port > 0).then_some(Self { first: port, last: port })
    }

    /// The first port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    pub fn last(self) -> u16 {
        self.last
    }

    /// How many ports there are.
    pub fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// The first port that is in both.
    pub fn overlap(self, other: Self) -> Option<u16> {
        let first = self.first.max(other.first);
        (first <= self.last.min(other.last)).then_some(first)
    }

    /// `80`, or `8000-8010`.
    fn parse(text: &str) -> Result<Self, PortForwardError> {
        let port = |text: &str| text.trim().parse().ok().filter(|port: &u16| *port > 0);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Some(first), Some(last)) = (port(first), port(last)) else {
            return Err(PortForwardError::NotAPort);
        };
        if last < first {
            return Err(PortForwardError::Backward { first, last });
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { first, last } if first == last => write!(f, "{first}"),
            Self { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

/// An entry of `vm.ports`: ports of this host, each forwarded to the one of the guest at the same place in its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortForward {
    bind: Option<Ipv4Addr>,
    host: PortRange,
    guest: PortRange,
    protocol: Protocol,
}

/// Why a text isn't an entry of `vm.ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortForwardError {
    /// It isn't of the form.
    NotAPort,
    /// A range ends before it begins.
    Backward {
        #[expect(missing_docs, reason = "the name says it")]
        first: u16,
        #[expect(missing_docs, reason = "the name says it")]
        last: u16,
    },
    /// The two ranges differ in length.
    Lengths {
        /// On this host.
        host: usize,
        /// In the guest.
        guest: usize,
    },
    /// QEMU forwards ports of IPv4 addresses only.
    Ipv6,
    /// What precedes the ports isn't an address.
    Address(String),
    /// It ends with another protocol.
    Protocol(String),
}

impl PortForward {
    /// The address of this host to listen on; `None` for the VM's own.
    pub fn bind(&self) -> Option<Ipv4Addr> {
        self.bind
    }

    /// The ports of this host (local providers).
    pub fn host(&self) -> PortRange {
        self.host
    }

    /// The ports in the guest; AWS opens these.
    pub fn guest(&self) -> PortRange {
        self.guest
    }

    #[expect(missing_docs, reason = "the name says it")]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether other computers can connect.
    pub fn is_open_to_network(&self) -> bool {
        self.bind.is_some_and(|address| !address.is_loopback())
    }

    /// Each port of this host, with that of the guest.
    pub fn pairs(&self) -> impl Iterator<Item = (u16, u16)> + use<> {
        (self.host.first..=self.host.last).zip(self.guest.first..=self.guest.last)
    }

    /// A port of this host that both would listen on. An entry without an address may have to share 127.0.0.1, which is
    /// the only loopback address of some systems.
    pub fn conflict(&self, other: &Self) -> Option<u16> {
        let (a, b) = (self.bind.unwrap_or(Ipv4Addr::LOCALHOST), other.bind.unwrap_or(Ipv4Addr::LOCALHOST));
        let same_address = a == b || a.is_unspecified() || b.is_unspecified();
        (same_address && self.protocol == other.protocol).then(|| self.host.overlap(other.host)).flatten()
    }
}

impl FromStr for PortForward {
    type Err = PortForwardError;

    /// `[ADDRESS:]HOST[:GUEST][/tcp|/udp]`, where HOST and GUEST are ports or ranges.
    fn from_str(text: &str) -> Result<Self, PortForwardError> {
        let (text, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((text, "tcp")) => (text, Protocol::Tcp),
            Some((text, "udp")) => (text, Protocol::Udp),
            Some((_, other)) => return Err(PortForwardError::Protocol(other.to_owned())),
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (bind, host, guest) = match parts[..] {
            _ if text.starts_with('[') => return Err(PortForwardError::Ipv6),
            [both] => (None, both, both),
            [host, guest] => (None, host, guest),
            [bind, host, guest] => (Some(bind), host, guest),
            _ => return Err(PortForwardError::Ipv6),
        };
        let (host, guest) = (PortRange::parse(host)?, PortRange::parse(guest)?);
        if host.count() != guest.count() {
            return Err(PortForwardError::Lengths { host: host.count(), guest: guest.count() });
        }
        let address = |text: &str| text.parse().map_err(|_| PortForwardError::Address(text.to_owned()));
        Ok(Self { bind: bind.map(address).transpose()?, host, guest, protocol })
    }
}

impl From<PortRange> for PortForward {
    /// The same TCP ports on both sides.
    fn from(ports: PortRange) -> Self {
        Self { bind: None, host: ports, guest: ports, protocol: Protocol::Tcp }
    }
}

impl fmt::Display for PortForward {
    /// As a config has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.bind {
            write!(f, "{address}:")?;
        }
        write!(f, "{}:{}{}", self.host, self.guest, self.protocol.suffix())
    }
}

impl PortForwardError {
    /// What is wrong with the text.
    pub fn message(&self, text: &str) -> String {
        match self {
            Self::NotAPort => format!("\"{text}\" is not a port"),
            Self::Backward { first, last } => format!("the range {first}-{last} ends before it begins"),
            Self::Lengths { host, guest } => {
                format!("\"{text}\" forwards {host} ports of this computer to {guest} of the machine")
            }
            Self::Ipv6 => {
                format!("\"{text}\" has an IPv6 address, but only ports of IPv4 addresses can be forwarded")
            }
            Self::Address(address) => format!("\"{address}\" is not an IPv4 address"),
            Self::Protocol(other) => format!("\"{other}\" is neither tcp nor udp"),
        }
    }

    /// What to write.
    pub fn hint(&self) -> String {
        match self {
            Self::NotAPort => {
                "write 80, or \"8080:80\" for port 8080 of this computer; ports are from 1 to 65535"
                    .to_owned()
            }
            Self::Backward { first, last } => format!("write {last}-{first}"),
            Self::Lengths { .. } => "give both ranges the same length".to_owned(),
            Self::Ipv6 | Self::Address(_) => "write \"127.0.0.1:8080:80\"".to_owned(),
            Self::Protocol(_) => "write \"53:53/udp\" for UDP; without a protocol it is TCP".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<String, PortForwardError> {
        text.parse::<PortForward>().map(|port| port.to_string())
    }

    #[test]
    fn an_entry_has_ports_ranges_a_protocol_and_an_address() {
        for (text, read) in [
            ("80", "80:80"),
            ("8080:80", "8080:80"),
            ("8080:80/tcp", "8080:80"),
            ("53:53/udp", "53:53/udp"),
            ("53/udp", "53:53/udp"),
            ("8000-8010", "8000-8010:8000-8010"),
            ("8000-8010:9000-9010/udp", "8000-8010:9000-9010/udp"),
            ("8000-8000:1-1", "8000:1"),
            ("127.0.0.2:8080:80", "127.0.0.2:8080:80"),
            ("0.0.0.0:65535:65535", "0.0.0.0:65535:65535"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_told_apart() {
        use PortForwardError as E;
        for text in [
            "",
            "0",
            "65536",
            "80:",
            ":80",
            "a:b",
            "80-",
            "-80",
            "1-2-3",
            "127.0.0.1:80",
            "0-5",
            "127.0.0.1::80",
        ] {
            assert_eq!(parse(text), Err(E::NotAPort), "{text}");
        }
        assert_eq!(parse("9-8"), Err(E::Backward { first: 9, last: 8 }));
        assert_eq!(parse("1-5:1-4"), Err(E::Lengths { host: 5, guest: 4 }));
        assert_eq!(parse("8000-8001:80"), Err(E::Lengths { host: 2, guest: 1 }));
        for text in ["[::1]:8080:80", "::1:8080:80", "[::]:80"] {
            assert_eq!(parse(text), Err(E::Ipv6), "{text}");
        }
        assert_eq!(parse("1:2:3"), Err(E::Address("1".to_owned())));
        assert_eq!(parse("localhost:2:3"), Err(E::Address("localhost".to_owned())));
        assert_eq!(parse("80/sctp"), Err(E::Protocol("sctp".to_owned())));
    }

    #[test]
    fn entries_conflict_where_both_would_listen() {
        let conflict = |a: &str, b: &str| {
            let (a, b): (PortForward, PortForward) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(a.conflict(&b), b.conflict(&a));
            a.conflict(&b)
        };
        assert_eq!(conflict("8080:80", "8080:90"), Some(8080));
        assert_eq!(conflict("8000-8010", "8005-8020"), Some(8005));
        assert_eq!(conflict("0.0.0.0:80:80", "127.0.0.9:80:81"), Some(80));
        assert_eq!(conflict("127.0.0.1:80:80", "80"), Some(80), "the only loopback address of some systems");
        assert_eq!(conflict("8000-8010", "8011-8020"), None);
        assert_eq!(conflict("53", "53/udp"), None);
        assert_eq!(conflict("127.0.0.2:80:80", "127.0.0.3:80:80"), None);
        assert_eq!(conflict("127.0.0.2:80:80", "80"), None);
    }

    #[test]
    fn only_a_loopback_address_is_closed_to_the_network() {
        let is_open = |text: &str| text.parse::<PortForward>().unwrap().is_open_to_network();
        assert!(is_open("0.0.0.0:80:80") && is_open("192.0.2.1:80:80"));
        assert!(!is_open("80") && !is_open("127.3.2.1:80:80"));
    }

    proptest! {
        #[test]
        fn an_entry_survives_a_round_trip(
            bind in any::<Option<Ipv4Addr>>(), host in 1_u16.., guest in 1_u16.., length in 0_u16..300, udp: bool,
        ) {
            let length = length.min(u16::MAX - host.max(guest));
            let range = |first: u16| PortRange { first, last: first + length };
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let port = PortForward { bind, host: range(host), guest: range(guest), protocol };
            prop_assert_eq!(port.to_string().parse(), Ok(port));
            prop_assert_eq!(port.pairs().count(), port.host().count());
        }

        #[test]
        fn any_text_is_an_entry_or_an_error(text in "[0-9:./a-z\\[\\]-]{0,20}") {
            if let Err(error) = text.parse::<PortForward>() {
                prop_assert!(!error.message(&text).is_empty() && !error.hint().is_empty());
            }
        }
    }
}
