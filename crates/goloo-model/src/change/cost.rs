//! What changes take, as data of each provider.

use super::setting::Setting;
use crate::record::RecordedStack;
use crate::record::word_enum;

word_enum! {
    /// What a change takes.
    Cost {
        /// Nothing: the provider has no such setting.
        Ignored = "ignored",
        /// It is made while the machine runs.
        Now = "now",
        /// The machine is stopped and started.
        Restart = "restart",
        /// cloud-init runs again in the machine.
        Reprovision = "reprovision",
        /// A new machine.
        Replace = "replace",
    }
}

impl Cost {
    /// Whether the machine stays, with what it was provisioned with.
    pub fn keeps_machine(self) -> bool {
        self <= Self::Restart
    }
}

/// What a provider's changes take, for the settings in which providers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeCosts {
    /// Of `cpus` and `memory`.
    pub size: Cost,
    /// Of a larger disk.
    pub disk: Cost,
    /// Of `ports`.
    pub ports: Cost,
    /// Of `auto_ports`.
    pub auto_ports: Cost,
    /// Of `ssh_cidr`.
    pub ssh_cidr: Cost,
    /// Of `mounts`.
    pub mounts: Cost,
    /// Of `dns`.
    pub dns: Cost,
    /// Of `instance_type`.
    pub instance_type: Cost,
    /// Of settings that only a cloud has, and that its machines keep for life: `region`, `vpc_id`, `subnet_id`,
    /// `iam_instance_profile`, `spot`.
    pub cloud: Cost,
    /// Whether the provider takes part in a change of `ttl`, besides the guest, which ends itself.
    pub ttl_of_provider: bool,
    /// Whether a change that takes a restart can be noted while the machine runs, for its next start.
    pub restart_can_wait: bool,
}

impl ChangeCosts {
    /// Of a provider that can't change its machines.
    pub const NONE: Self = Self {
        size: Cost::Replace,
        disk: Cost::Replace,
        ports: Cost::Replace,
        auto_ports: Cost::Ignored,
        ssh_cidr: Cost::Ignored,
        mounts: Cost::Replace,
        dns: Cost::Ignored,
        instance_type: Cost::Ignored,
        cloud: Cost::Ignored,
        ttl_of_provider: false,
        restart_can_wait: false,
    };

    /// Of a change from one stack to another.
    pub fn of(&self, setting: Setting, before: &RecordedStack, after: &RecordedStack) -> Cost {
        match setting {
            // A type that is named decides both.
            Setting::Cpus | Setting::Memory
                if self.instance_type != Cost::Ignored && after.instance_type.is_some() =>
            {
                Cost::Ignored
            }
            Setting::Cpus | Setting::Memory => self.size,
            Setting::Disk if after.disk < before.disk => Cost::Replace,
            Setting::Disk => self.disk,
            Setting::Ports => self.ports,
            Setting::AutoPorts => self.auto_ports,
            Setting::SshCidr => self.ssh_cidr,
            Setting::Mounts => self.mounts,
            Setting::Dns => self.dns,
            Setting::InstanceType => self.instance_type,
            Setting::Users | Setting::Ttl => Cost::Now,
            Setting::Region
            | Setting::VpcId
            | Setting::SubnetId
            | Setting::IamInstanceProfile
            | Setting::Spot => self.cloud,
            Setting::Image | Setting::Os | Setting::ProviderSection => Cost::Replace,
            Setting::Variables | Setting::CloudInit | Setting::Configure => Cost::Reprovision,
        }
    }
}
