//! How a VM differs from what its stack and its overrides say, and what each change takes. Pure: `--dry-run` prints
//! it, the engine carries it out.

mod cost;
mod diff;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cost::{ChangeCosts, Cost};
pub use diff::{Documents, changes};

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the values are named as in config.json")]
pub enum Setting {
    Cpus,
    Memory,
    InstanceType,
    Disk,
    Ports,
    AutoPorts,
    SshCidr,
    Mounts,
    Users,
    Ttl,
    Dns,
    Image,
    Os,
    Region,
    VpcId,
    SubnetId,
    IamInstanceProfile,
    Spot,
    /// A section of config.json that a provider owns.
    ProviderSection,
    /// What templates get: `cloud_init` in config.json.
    Variables,
    /// The file cloud-init.yaml.
    CloudInit,
    /// The file configure.sh.
    Configure,
}

impl Setting {
    /// Its key in config.json, or its file.
    pub fn key(self) -> &'static str {
        match self {
            Self::Cpus => "vm.cpus",
            Self::Memory => "vm.memory",
            Self::InstanceType => "vm.instance_type",
            Self::Disk => "vm.disk",
            Self::Ports => "vm.ports",
            Self::AutoPorts => "vm.auto_ports",
            Self::SshCidr => "vm.ssh_cidr",
            Self::Mounts => "vm.mounts",
            Self::Users => "vm.users",
            Self::Ttl => "vm.ttl",
            Self::Dns => "dns",
            Self::Image => "vm.image",
            Self::Os => "vm.os",
            Self::Region => "vm.region",
            Self::VpcId => "vm.vpc_id",
            Self::SubnetId => "vm.subnet_id",
            Self::IamInstanceProfile => "vm.iam_instance_profile",
            Self::Spot => "vm.spot",
            Self::ProviderSection => "the provider's section",
            Self::Variables => "cloud_init",
            Self::CloudInit => "cloud-init.yaml",
            Self::Configure => "configure.sh",
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.key())
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What is changed.
    pub setting: Setting,
    /// What the VM has, for people: the entries that are removed if it is a list. `None` if it has nothing there.
    pub before: Option<String>,
    /// What it is to have.
    pub after: Option<String>,
    /// What it takes.
    pub cost: Cost,
}
