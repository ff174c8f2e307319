//! Where a machine is reached, in one form for all providers.

use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Extra, checks};
use crate::access::Address;
use crate::spec::Protocol;

/// Where a machine can be reached. Any part may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The port where SSH answers; absent if there is no SSH.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "checks::port")]
    pub ssh_port: Option<u16>,
    /// Its DNS name.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "checks::dns_name")]
    pub fqdn: Option<String>,
    /// The ports of this host that are forwarded to the machine, without that of SSH.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ForwardedPort>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A port of this host that is forwarded to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForwardedPort {
    /// The address of this host.
    pub address: IpAddr,
    /// The port of this host.
    pub port: u16,
    /// The port of the machine.
    pub guest_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl Endpoint {
    /// A machine with an address and an SSH server.
    pub fn new(address: Address, ssh_port: u16) -> Self {
        Self { address: Some(address), ssh_port: Some(ssh_port), ..Self::default() }
    }

    /// A machine behind a forwarded port of 127.0.0.1.
    pub fn loopback(ssh_port: u16) -> Self {
        Self::new(IpAddr::from(Ipv4Addr::LOCALHOST).into(), ssh_port)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
