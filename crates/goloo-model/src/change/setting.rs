//! What can differ between a VM and its stack.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// All of them.
    const ALL: [Self; 22] = [
        Self::Cpus,
        Self::Memory,
        Self::InstanceType,
        Self::Disk,
        Self::Ports,
        Self::AutoPorts,
        Self::SshCidr,
        Self::Mounts,
        Self::Users,
        Self::Ttl,
        Self::Dns,
        Self::Image,
        Self::Os,
        Self::Region,
        Self::VpcId,
        Self::SubnetId,
        Self::IamInstanceProfile,
        Self::Spot,
        Self::ProviderSection,
        Self::Variables,
        Self::CloudInit,
        Self::Configure,
    ];

    /// The one that a key of config.json belongs to, by the path of the key: `vm.cpus`, `dns.ttl`. `None` for what no
    /// existing VM has, such as its name in the stack.
    pub fn of_key(path: &str) -> Option<Self> {
        let is_in =
            |key: &str| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let alias = if is_in("vm.image_sha256") { Some(Self::Image) } else { None };
        alias.or_else(|| Self::ALL.into_iter().find(|setting| is_in(setting.key())))
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_the_setting_of_its_path() {
        for (path, setting) in [
            ("vm.cpus", Some(Setting::Cpus)),
            ("vm.image_sha256", Some(Setting::Image)),
            ("dns.ttl", Some(Setting::Dns)),
            ("vm.ttl", Some(Setting::Ttl)),
            ("cloud_init.vars.a", Some(Setting::Variables)),
            ("vm.name", None),
            ("vm.cpus_max", None),
        ] {
            assert_eq!(Setting::of_key(path), setting, "{path}");
        }
    }
}
