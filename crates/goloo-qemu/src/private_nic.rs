//! A machine's network card in the private network of its environment, as QEMU gets it.

use std::path::Path;

use goloo_model::name::VmName;
use goloo_model::record::{Membership, PrivateAddress};
use goloo_switch::NetworkFolder;
use serde::{Deserialize, Serialize};

/// A machine's network card in a private network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateNic {
    /// Whose network it is.
    pub environment: VmName,
    /// The machine's address, which its MAC address follows from.
    pub address: PrivateAddress,
}

impl PrivateNic {
    pub(crate) fn of(membership: &Membership) -> Option<Self> {
        let environment = membership.environment.clone();
        membership.network.map(|address| Self { environment, address })
    }

    pub(crate) fn folder(&self, networks: &Path) -> NetworkFolder {
        NetworkFolder::new(networks, &self.environment, self.address.network())
    }

    /// A socket in the network's folder as QEMU gets it: relative to the machine's folder, because a socket's path is
    /// limited to 107 bytes.
    pub(crate) fn socket(&self, name: &str) -> String {
        format!("{}/{name}", self.folder(Path::new("../../net")).path().display())
    }

    /// For a plan.
    pub(crate) fn step(&self) -> String {
        let Self { environment, address } = self;
        format!("connect it to the private network of {environment} as {}", address.address())
    }
}
