//! What a VM of a stack gets: of this computer, of the user's cloud account, and who gets into it. For stacks that
//! somebody else may have written, so that the user can decide.

use std::path::PathBuf;

use goloo_model::provider_info::{MachinePlace, ProviderInfo};
use goloo_model::record::Record;
use goloo_model::spec::{Dns, ImageRef, KeySource, PortForward, ResolvedStack};

/// One thing that a VM gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// This image runs.
    Image(String),
    /// The stack's commands run as root in the VM.
    Commands,
    /// Access to a folder.
    Folder {
        /// The folder.
        path: PathBuf,
        /// Whether the VM can only read it.
        readonly: bool,
    },
    /// Ports of this computer are forwarded to the VM.
    ForwardedPort(PortForward),
    /// So are those that its guest chooses by listening on them, at the VM's own address.
    AutomaticPorts,
    /// An instance that costs money.
    Instance {
        /// Its type, if the stack names one.
        instance_type: Option<String>,
        /// The region, if the stack names one.
        region: Option<String>,
    },
    /// Access to an existing network.
    Network(String),
    /// Access to an existing subnet.
    Subnet(String),
    /// These CIDR blocks may connect to port 22.
    SshFrom(Vec<String>),
    /// Everyone may connect to the VM's side of it.
    OpenPort(PortForward),
    /// A DNS name.
    DnsName(String),
    /// Its DNS names are taken over from their current owners.
    TakenDnsNames,
    /// The permissions of an instance profile.
    InstanceProfile(String),
    /// Logins with the keys of a GitHub user.
    LoginOfGitHubUser {
        /// The login name.
        username: String,
        /// The GitHub user.
        github: String,
    },
    /// Logins with the keys in a file.
    LoginWithKeyFile {
        /// The login name.
        username: String,
        /// The file.
        path: PathBuf,
    },
    /// Logins with a key that the stack contains.
    LoginWithInlineKey {
        /// The login name.
        username: String,
    },
    /// Logins with keys that were found when the create began.
    LoginWithKeys {
        /// The login name.
        username: String,
        /// How many keys.
        count: usize,
    },
    /// The VM's name in this computer's hosts file.
    HostsEntry(String),
}

/// What a VM of this stack gets.
pub fn of_stack(stack: &ResolvedStack, provider: &ProviderInfo) -> Vec<Grant> {
    let mut grants = vec![Grant::Image(match &stack.image {
        ImageRef::Path(path) => path.display().to_string(),
        _ => stack.image_text.clone(),
    })];
    if stack.cloud_init.is_some() || stack.configure.is_some() {
        grants.push(Grant::Commands);
    }
    if provider.is_host_bound() {
        let folders = stack.mounts.iter();
        grants.extend(
            folders.map(|mount| Grant::Folder { path: mount.source.clone(), readonly: mount.readonly }),
        );
        grants.extend(stack.ports.iter().copied().map(Grant::ForwardedPort));
        let has_automatic_ports = stack.auto_ports && provider.place == MachinePlace::Loopback;
        grants.extend(has_automatic_ports.then_some(Grant::AutomaticPorts));
    } else {
        grants.extend(in_aws(stack));
    }
    for user in &stack.users {
        let username = || user.username.clone();
        grants.extend(user.keys.iter().map(|source| match source {
            KeySource::GitHub(github) => {
                Grant::LoginOfGitHubUser { username: username(), github: github.clone() }
            }
            KeySource::File(path) => Grant::LoginWithKeyFile { username: username(), path: path.clone() },
            KeySource::Inline(_) => Grant::LoginWithInlineKey { username: username() },
        }));
    }
    grants
}

/// What costs money, who can connect to the VM, and what the VM can access.
fn in_aws(stack: &ResolvedStack) -> Vec<Grant> {
    let mut grants =
        vec![Grant::Instance { instance_type: stack.instance_type.clone(), region: stack.region.clone() }];
    grants.extend(stack.vpc_id.iter().cloned().map(Grant::Network));
    grants.extend(stack.subnet_id.iter().cloned().map(Grant::Subnet));
    grants.push(Grant::SshFrom(stack.ssh_cidr.iter().map(ToString::to_string).collect()));
    grants.extend(stack.ports.iter().copied().map(Grant::OpenPort));
    grants.extend(stack.dns.iter().flat_map(Dns::names).map(|(name, _)| Grant::DnsName(name)));
    grants.extend(stack.iam_instance_profile.iter().cloned().map(Grant::InstanceProfile));
    grants
}

/// What an interrupted create gives to its VM, in addition to what its stack says.
pub fn of_operation(record: &Record) -> Vec<Grant> {
    let mut grants = Vec::new();
    if let Some(inputs) = record.operation.as_ref().and_then(|operation| operation.inputs.as_ref()) {
        grants.extend(
            inputs
                .users
                .iter()
                .map(|user| Grant::LoginWithKeys { username: user.username.clone(), count: user.keys.len() }),
        );
        grants.extend(inputs.force_dns.then_some(Grant::TakenDnsNames));
        grants.extend((!inputs.ssh_cidr.is_empty()).then(|| Grant::SshFrom(inputs.ssh_cidr.clone())));
    }
    grants.extend(record.hosts_entry.then(|| Grant::HostsEntry(record.name.to_string())));
    grants
}
