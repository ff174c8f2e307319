//! The environment that a VM belongs to.

use std::fmt;
use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extra::Extra;
use crate::name::{EnvironmentId, VmName};

/// Which machine of which environment a VM is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// The environment's name.
    pub environment: VmName,
    /// The machine's name in goloo.json.
    pub machine: VmName,
    /// Which of several equal machines (`count`) it is, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u16>,
    /// Its address on the environment's private network, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<PrivateAddress>,
    /// The identity of an environment with a network, the same for all its VMs. Providers recognize its resources by it.
    #[serde(rename = "environmentID", default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<EnvironmentId>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Membership {
    /// Whether two VMs are the same machine of the same environment.
    pub fn is_same_machine(&self, other: &Self) -> bool {
        (&self.environment, &self.machine, self.number) == (&other.environment, &other.machine, other.number)
    }

    /// The word that means the machine on a command line: `shop/web-1`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.environment, self.short_name())
    }

    /// Whether its environment has a network.
    pub fn is_networked(&self) -> bool {
        self.network.is_some() || self.environment_id.is_some()
    }

    /// Adds what `planned` has of the network and this lacks; `false` if there is nothing.
    pub fn take_network(&mut self, planned: &Self) -> bool {
        let had = (self.network, self.environment_id.is_some());
        self.network = self.network.or(planned.network);
        if self.environment_id.is_none() {
            self.environment_id.clone_from(&planned.environment_id);
        }
        had != (self.network, self.environment_id.is_some())
    }

    /// The name by which the other machines of the environment know it: `db`, `web-1`.
    pub fn short_name(&self) -> String {
        match self.number {
            Some(number) => format!("{}-{number}", self.machine),
            None => self.machine.to_string(),
        }
    }
}

/// A machine's address on a private network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct PrivateAddress {
    address: Ipv4Addr,
    prefix: u8,
}

/// Why a text isn't a [`PrivateAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an address in a private network, such as \"10.88.0.5/24\"")]
pub struct PrivateAddressError(String);

impl PrivateAddress {
    /// An address of a machine in a private range (RFC 1918), in a network with a prefix of 16 to 29 bits. `None` if it is
    /// anything else, or the network's own or its broadcast address.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        if !address.is_private() || !(16..=29).contains(&prefix) {
            return None;
        }
        let hosts = u32::MAX >> prefix;
        let host = u32::from(address) & hosts;
        (host != 0 && host != hosts).then_some(Self { address, prefix })
    }

    /// The address.
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// How many leading bits all addresses of the network share.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The network that it is in.
    pub fn network(self) -> PrivateNetwork {
        let base = u32::from(self.address) & !(u32::MAX >> self.prefix);
        PrivateNetwork { base: base.into(), prefix: self.prefix }
    }

    /// The MAC address of the machine's network card: it follows from the address, so that both are unique or neither.
    pub fn mac(self) -> MacAddress {
        let [_, a, b, c] = self.address.octets();
        MacAddress([MAC_PREFIX[0], MAC_PREFIX[1], MAC_PREFIX[2], a, b, c])
    }
}

/// The first bytes of all MAC addresses in private networks: locally administered, then "gl".
const MAC_PREFIX: [u8; 3] = [0x02, 0x67, 0x6c];

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A private network, which is that of one environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PrivateNetwork {
    base: Ipv4Addr,
    prefix: u8,
}

impl PrivateNetwork {
    /// Reads what its `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = text.split_once('/')?;
        let (base, prefix): (Ipv4Addr, u8) = (base.parse().ok()?, prefix.parse().ok()?);
        // Every network has a first address for a machine.
        let first = PrivateAddress::new(u32::from(base).checked_add(1)?.into(), prefix)?;
        Some(first.network()).filter(|network| network.to_string() == text)
    }

    /// The address that all its addresses begin with.
    pub fn base(self) -> Ipv4Addr {
        self.base
    }

    /// A machine's address in this network; `None` if it is outside, or not one of a machine.
    pub fn member(self, address: Ipv4Addr) -> Option<PrivateAddress> {
        PrivateAddress::new(address, self.prefix).filter(|member| member.network() == self)
    }

    /// The address of the machine whose network card has this MAC address.
    pub fn member_with(self, mac: MacAddress) -> Option<PrivateAddress> {
        let [a, b, c] = mac.0.strip_prefix(&MAC_PREFIX)?.try_into().ok()?;
        self.member(Ipv4Addr::new(self.base.octets()[0], a, b, c))
    }

    /// Whether an address is in its range, also if it isn't one of a machine.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & !(u32::MAX >> self.prefix) == u32::from(self.base)
    }
}

impl fmt::Display for PrivateNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl fmt::Display for PrivateAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl From<PrivateAddress> for String {
    fn from(value: PrivateAddress) -> Self {
        value.to_string()
    }
}

impl TryFrom<String> for PrivateAddress {
    type Error = PrivateAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            // The canonical form only: "+24" and "024" parse as numbers too.
            Self::new(address.parse().ok()?, prefix.parse().ok()?).filter(|value| value.to_string() == text)
        });
        parsed.ok_or(PrivateAddressError(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PrivateAddress, PrivateAddressError> {
        text.to_owned().try_into()
    }

    #[test]
    fn a_member_takes_what_it_lacks_of_the_network_and_keeps_what_it_has() {
        let name = |text| VmName::parse(text).unwrap_or_else(|error| panic!("{error}"));
        let member = |network: Option<&str>, environment_id: Option<&EnvironmentId>| Membership {
            environment: name("shop"),
            machine: name("db"),
            number: None,
            network: network.and_then(|text| read(text).ok()),
            environment_id: environment_id.cloned(),
            extra: Extra::new(),
        };
        let (own, other) = (EnvironmentId::generate(), EnvironmentId::generate());
        let (first, second) = (Some("10.88.0.2/24"), Some("10.88.0.9/24"));
        for (has, planned, then) in [
            ((None, None), (None, Some(&own)), (None, Some(&own))),
            ((None, None), (first, None), (first, None)),
            ((first, None), (second, Some(&own)), (first, Some(&own))),
            ((None, Some(&own)), (first, Some(&other)), (first, Some(&own))),
            ((first, Some(&own)), (second, Some(&other)), (first, Some(&own))),
            ((first, Some(&own)), (None, None), (first, Some(&own))),
        ] {
            let mut changed = member(has.0, has.1);
            let is_changed = changed.take_network(&member(planned.0, planned.1));
            assert_eq!((changed, is_changed), (member(then.0, then.1), has != then));
        }
    }

    #[test]
    fn reads_what_it_writes() {
        for text in ["10.88.0.5/24", "192.168.7.1/29", "172.16.255.254/16"] {
            assert_eq!(read(text).map(String::from), Ok(text.to_owned()));
        }
    }

    #[test]
    fn an_address_its_network_and_its_mac_address_follow_from_each_other() {
        for (text, network, mac) in [
            ("10.88.3.5/24", "10.88.3.0/24", "02:67:6c:58:03:05"),
            ("172.31.255.254/16", "172.31.0.0/16", "02:67:6c:1f:ff:fe"),
            ("192.168.7.9/29", "192.168.7.8/29", "02:67:6c:a8:07:09"),
        ] {
            let address = read(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(address.network().to_string(), network);
            assert_eq!(PrivateNetwork::parse(network), Some(address.network()));
            assert_eq!(address.mac().to_string(), mac);
            assert_eq!(address.network().member_with(address.mac()), Some(address));
            assert_eq!(address.network().member(address.address()), Some(address));
        }
    }

    #[test]
    fn other_networks_addresses_and_macs_are_no_members() {
        let network = PrivateNetwork::parse("10.88.3.0/24").unwrap_or_else(|| panic!("it is one"));
        for (last, other) in [(0, true), (255, true), (5, false)] {
            let address = Ipv4Addr::new(10, 88, 3, last);
            assert_eq!(network.member(address).is_none(), other, "{address}");
            assert!(network.contains(address));
        }
        assert_eq!(network.member(Ipv4Addr::new(10, 88, 4, 5)), None);
        assert!(!network.contains(Ipv4Addr::new(10, 88, 4, 5)));
        for mac in [[0x52, 0x54, 0, 0x12, 0x34, 0x56], [0x02, 0x67, 0x6c, 88, 4, 5], [0xff; 6]] {
            assert_eq!(network.member_with(MacAddress(mac)), None);
        }
        for text in
            ["10.88.3.1/24", "10.88.3.0", "10.88.3.0/8", "8.8.8.0/24", "255.255.255.255/16", "10.88.3.0/+24"]
        {
            assert_eq!(PrivateNetwork::parse(text), None, "{text}");
        }
    }

    #[test]
    fn refuses_other_addresses() {
        for text in [
            "",
            "10.88.0.5",
            "10.88.0.5/+24",
            "10.88.0.5/024",
            "10.88.0.0/24",
            "10.88.0.255/24",
            "10.88.0.5/8",
            "10.88.0.5/31",
            "8.8.8.8/24",
            "127.0.0.1/24",
            "169.254.169.254/16",
            "fd00::1/64",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
