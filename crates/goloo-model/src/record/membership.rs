//! The environment that a VM belongs to.

use std::fmt;
use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extra::Extra;
use crate::name::VmName;

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
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Membership {
    /// Whether two VMs are the same machine of the same environment.
    pub fn is_same_machine(&self, other: &Self) -> bool {
        (&self.environment, &self.machine, self.number) == (&other.environment, &other.machine, other.number)
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
    fn reads_what_it_writes() {
        for text in ["10.88.0.5/24", "192.168.7.1/29", "172.16.255.254/16"] {
            assert_eq!(read(text).map(String::from), Ok(text.to_owned()));
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
