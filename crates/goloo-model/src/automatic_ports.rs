//! Ports that a provider forwards by itself, because the guest listens on them (`vm.auto_ports`).

use crate::record::ForwardedPort;

/// Those of a running machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AutomaticPorts {
    /// Forwarded now, in order.
    pub forwarded: Vec<ForwardedPort>,
    /// Not forwarded although the guest listens on them, in order.
    pub refused: Vec<RefusedPort>,
    /// Whether the provider still notices what changes in the guest.
    pub is_followed: bool,
}

/// A port of the guest that isn't forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedPort {
    /// The port.
    pub guest_port: u16,
    /// Why.
    pub reason: String,
}
