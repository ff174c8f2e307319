//! The settings in which a VM differs from the files that it was created from: those that `apply` and `set` have changed.

use std::path::PathBuf;

use super::{RecordedKey, RecordedStack, RecordedUser, StackValueError};
use crate::access::LoginName;
use crate::change::Setting;
use crate::spec::{KeySource, ResolvedStack, Size, User, is_github_user};

/// What `apply` can change in a VM's settings.
const CHANGEABLE: [Setting; 11] = [
    Setting::Cpus,
    Setting::Memory,
    Setting::InstanceType,
    Setting::Disk,
    Setting::Ports,
    Setting::AutoPorts,
    Setting::SshCidr,
    Setting::Mounts,
    Setting::Users,
    Setting::Ttl,
    Setting::Dns,
];

/// Settings of a VM that differ from those of the files that it was created from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedSettings {
    settings: Vec<Setting>,
    values: RecordedStack,
}

impl AppliedSettings {
    /// What a VM has, where it differs from the stack of its files; both with the same name.
    pub fn between(files: &ResolvedStack, vm: &RecordedStack) -> Self {
        let before = RecordedStack::whole(files);
        let differs = |setting: &Setting| {
            let mut changed = before.clone();
            changed.take(*setting, vm);
            changed != before
        };
        Self { settings: CHANGEABLE.into_iter().filter(differs).collect(), values: vm.clone() }
    }

    /// Gives a stack of the same files these settings.
    ///
    /// # Errors
    /// [`StackValueError`] for a value that no stack can have; the stack has some of the settings then.
    pub fn give_to(&self, stack: &mut ResolvedStack) -> Result<(), StackValueError> {
        let Self { settings, values } = self;
        for setting in settings {
            match setting {
                Setting::Cpus => stack.cpus = values.cpus,
                Setting::Memory => stack.memory = Size::bytes(values.memory),
                Setting::Disk => stack.disk = Size::bytes(values.disk),
                Setting::InstanceType => {
                    stack.instance_type = values.instance_type.as_ref().map(ToString::to_string);
                }
                Setting::Ports => stack.ports = values.port_forwards()?,
                Setting::AutoPorts => stack.auto_ports = values.auto_ports,
                Setting::SshCidr => stack.ssh_cidr = values.ssh_sources()?,
                Setting::Mounts => stack.mounts = values.shared_folders()?,
                Setting::Users => stack.users = values.login_users()?,
                Setting::Ttl => stack.ttl = values.ttl,
                Setting::Dns => stack.dns = values.dns_section()?,
                Setting::Image
                | Setting::Os
                | Setting::Region
                | Setting::VpcId
                | Setting::SubnetId
                | Setting::IamInstanceProfile
                | Setting::Spot
                | Setting::ProviderSection
                | Setting::Variables
                | Setting::CloudInit
                | Setting::Configure => {}
            }
        }
        Ok(())
    }
}

impl RecordedStack {
    /// The entries of `vm.users`.
    fn login_users(&self) -> Result<Vec<User>, StackValueError> {
        self.users.iter().map(user).collect()
    }
}

fn user(user: &RecordedUser) -> Result<User, StackValueError> {
    let invalid = |value: &str| StackValueError { key: "vm.users", value: value.to_owned() };
    let username = user.username.to_string();
    LoginName::parse(&username).map_err(|_| invalid(&username))?;
    let key = |key: &RecordedKey| match key {
        RecordedKey::GitHub(name) if !is_github_user(name.as_str()) => Err(invalid(name.as_str())),
        RecordedKey::GitHub(name) => Ok(KeySource::GitHub(name.to_string())),
        RecordedKey::Inline(key) => Ok(KeySource::Inline(key.to_string())),
        RecordedKey::File(path) => Ok(KeySource::File(PathBuf::from(path.as_str()))),
    };
    Ok(User { username, keys: user.keys.iter().map(key).collect::<Result<_, _>>()? })
}
