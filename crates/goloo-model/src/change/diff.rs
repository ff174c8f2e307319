//! Compares what a VM has with what it is to have.

use std::collections::BTreeMap;

use serde_json::Value;

use super::cost::Cost;
use super::setting::Setting;
use crate::provider_info::{ImageKey, ProviderInfo};
use crate::record::{RecordedKey, RecordedMount, RecordedPort, RecordedStack, RecordedUser};
use crate::spec::{PortForward, ResolvedStack, Size};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    /// What is changed.
    pub setting: Setting,
    /// What the VM has, for people: the entries that are removed if it is a list. `None` if it has nothing there.
    pub before: Option<String>,
    /// What it is to have.
    pub after: Option<String>,
    /// What it takes.
    pub cost: Cost,
}

/// What provisioning gets from a stack: a change of it takes cloud-init.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Documents {
    /// The file cloud-init.yaml.
    pub cloud_init: Option<Vec<u8>>,
    /// The file configure.sh.
    pub configure: Option<Vec<u8>>,
    packages: Vec<String>,
    working_dir: String,
    vars: BTreeMap<String, Value>,
}

impl Documents {
    /// Of a stack.
    pub fn of(stack: &ResolvedStack) -> Self {
        Self {
            cloud_init: stack.cloud_init.clone(),
            configure: stack.configure.clone(),
            packages: stack.packages.clone(),
            working_dir: stack.working_dir.clone(),
            vars: stack.vars.clone(),
        }
    }

    fn changes(&self, after: &Self, add: &mut impl FnMut(Setting, Option<String>, Option<String>)) {
        let has_other_variables = (&self.packages, &self.working_dir, &self.vars)
            != (&after.packages, &after.working_dir, &after.vars);
        // Their values may be secrets.
        let changed = || Some("changed".to_owned());
        if has_other_variables {
            add(Setting::Variables, None, changed());
        }
        for (setting, before, after) in [
            (Setting::CloudInit, &self.cloud_init, &after.cloud_init),
            (Setting::Configure, &self.configure, &after.configure),
        ] {
            let words = match (before, after) {
                (Some(_), None) => (Some("present".to_owned()), None),
                (None, Some(_)) => (None, Some("added".to_owned())),
                (before, after) if before != after => (None, changed()),
                _ => continue,
            };
            add(setting, words.0, words.1);
        }
    }
}

/// All differences between what a VM has and what it is to have, in the order of [`Setting`].
pub fn changes(
    provider: &ProviderInfo,
    before: (&RecordedStack, &Documents),
    after: (&RecordedStack, &Documents),
) -> Vec<SettingChange> {
    let ((had, documents), (wanted, new_documents)) = (before, after);
    let mut found = Vec::new();
    let mut add = |setting, before, after| {
        let cost = provider.changes.of(setting, had, wanted);
        found.push(SettingChange { setting, before, after, cost });
    };
    scalars(provider, had, wanted, &mut add);
    for (setting, (before, after)) in [
        (Setting::Ports, lists(&had.ports, &wanted.ports, port)),
        (Setting::SshCidr, lists(&had.ssh_cidr, &wanted.ssh_cidr, |block| block.to_string())),
        (Setting::Mounts, lists(&had.mounts, &wanted.mounts, mount)),
        (Setting::Users, lists(&had.users, &wanted.users, user)),
    ] {
        if before != after {
            add(setting, before, after);
        }
    }
    if had.dns != wanted.dns {
        let names = |stack: &RecordedStack| {
            let dns = stack.dns.as_ref()?;
            Some(format!("{}.{} (TTL {} s)", dns.hostname.as_str(), dns.domain.as_str(), dns.ttl))
        };
        let (before, after) = (names(had), names(wanted));
        let same = before == after;
        add(
            Setting::Dns,
            if same { None } else { before },
            if same { Some("changed".to_owned()) } else { after },
        );
    }
    if had.sections.get(&provider.id) != wanted.sections.get(&provider.id) {
        add(Setting::ProviderSection, None, Some("changed".to_owned()));
    }
    documents.changes(new_documents, &mut add);
    found.sort_by_key(|change| change.setting);
    found
}

/// The settings with one value each.
fn scalars(
    provider: &ProviderInfo,
    had: &RecordedStack,
    wanted: &RecordedStack,
    add: &mut impl FnMut(Setting, Option<String>, Option<String>),
) {
    let size = |bytes: u64| Some(Size::bytes(bytes).to_string());
    let line = |text: &Option<crate::text::Label<8192>>| text.as_ref().map(|text| text.as_str().to_owned());
    let image = |stack: &RecordedStack| match &stack.image_sha256 {
        Some(digest) => format!("{} ({:.12})", stack.image.as_str(), digest.as_str()),
        None => stack.image.as_str().to_owned(),
    };
    let ttl = |stack: &RecordedStack| stack.ttl.map(ttl_text);
    let mut compare = |setting, before: Option<String>, after: Option<String>| {
        if before != after {
            add(setting, before, after);
        }
    };
    compare(Setting::Cpus, Some(had.cpus.to_string()), Some(wanted.cpus.to_string()));
    compare(Setting::Memory, size(had.memory), size(wanted.memory));
    compare(Setting::Disk, size(had.disk), size(wanted.disk));
    let auto_ports = |stack: &RecordedStack| Some(stack.auto_ports.to_string());
    compare(Setting::AutoPorts, auto_ports(had), auto_ports(wanted));
    compare(Setting::InstanceType, line(&had.instance_type), line(&wanted.instance_type));
    compare(Setting::Ttl, ttl(had), ttl(wanted));
    match provider.image_key {
        ImageKey::Image => compare(Setting::Image, Some(image(had)), Some(image(wanted))),
        ImageKey::Os => compare(Setting::Os, Some(had.os.to_string()), Some(wanted.os.to_string())),
    }
    compare(Setting::Region, line(&had.region), line(&wanted.region));
    compare(Setting::VpcId, line(&had.vpc_id), line(&wanted.vpc_id));
    compare(Setting::SubnetId, line(&had.subnet_id), line(&wanted.subnet_id));
    let profile = |stack: &RecordedStack| line(&stack.iam_instance_profile);
    compare(Setting::IamInstanceProfile, profile(had), profile(wanted));
    compare(Setting::Spot, Some(had.spot.to_string()), Some(wanted.spot.to_string()));
}

/// The entries that only one of two lists has, as texts; both are `None` for the same list.
fn lists<T: PartialEq>(
    before: &[T],
    after: &[T],
    text: fn(&T) -> String,
) -> (Option<String>, Option<String>) {
    let only = |these: &[T], those: &[T]| {
        let texts: Vec<_> = these.iter().filter(|one| !those.contains(one)).map(text).collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    };
    match (only(before, after), only(after, before)) {
        // The order counts: of users the first is the login user.
        (None, None) if before != after => (None, Some("reordered".to_owned())),
        entries => entries,
    }
}

/// In the largest unit that divides it, as a config has it.
fn ttl_text(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds.is_multiple_of(*length));
    unit.map_or_else(|| format!("{seconds}s"), |(length, unit)| format!("{}{unit}", seconds / length))
}

fn port(port: &RecordedPort) -> String {
    PortForward::try_from(port)
        .map_or_else(|_| format!("{}:{}", port.host, port.guest), |port| port.to_string())
}

fn mount(mount: &RecordedMount) -> String {
    let readonly = if mount.readonly { " (read-only)" } else { "" };
    format!("{} at {}{readonly}", mount.source.as_str(), mount.target.as_str())
}

fn user(user: &RecordedUser) -> String {
    let key = |key: &RecordedKey| match key {
        RecordedKey::GitHub(name) => format!("github:{}", name.as_str()),
        RecordedKey::Inline(_) => "a key".to_owned(),
        RecordedKey::File(path) => path.as_str().to_owned(),
    };
    let keys: Vec<_> = user.keys.iter().map(key).collect();
    match keys.is_empty() {
        true => user.username.as_str().to_owned(),
        false => format!("{} ({})", user.username.as_str(), keys.join(", ")),
    }
}
