//! The resolved stack that a VM was made from, as its record keeps it: what a later version of the stack is compared
//! with.
//!
//! Left out are the files, which are in the snapshot, the variables of templates, which may be secrets, and what an
//! image's URL may hold of a password or a token.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Extra;
use crate::change::Setting;
use crate::provider_id::ProviderId;
use crate::spec::{
    Dns, ImageRef, KeySource, Mount, PortForward, Protocol, ResolvedStack, SshSource, is_domain,
    is_mount_target, ssh_source,
};
use crate::text::Label;

/// The largest one that is kept, in bytes of JSON.
const BYTES_MAX: usize = 32 << 10;

/// One line of text: a path, a URL or a key.
type Line = Label<8192>;

/// A stack as it was when a VM was created from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of ResolvedStack")]
pub struct RecordedStack {
    pub cpus: u32,
    /// In bytes.
    pub memory: u64,
    /// In bytes.
    pub disk: u64,
    pub image: Line,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_sha256: Option<Line>,
    pub os: Line,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<Line>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Line>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<Line>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<Line>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_instance_profile: Option<Line>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spot: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<RecordedUser>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<RecordedMount>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<RecordedPort>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_ports: bool,
    /// CIDR blocks, or `me`.
    #[serde(default)]
    pub ssh_cidr: Vec<Line>,
    /// In seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<RecordedDns>,
    /// The providers' own sections of `config.json`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sections: BTreeMap<ProviderId, Value>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An entry of `vm.users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "as in ResolvedStack")]
pub struct RecordedUser {
    pub username: Line,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<RecordedKey>,
}

/// Where a user's keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "as in ResolvedStack")]
pub enum RecordedKey {
    GitHub(Line),
    Inline(Line),
    File(Line),
}

/// An entry of `vm.mounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "as in ResolvedStack")]
pub struct RecordedMount {
    pub source: Line,
    pub target: Line,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
}

/// An entry of `vm.ports`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordedPort {
    /// The first port of the computer.
    pub host: u16,
    /// The first port of the machine.
    pub guest: u16,
    /// The last port of the computer, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_host: Option<u16>,
    /// The address of the computer that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "is_tcp")]
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// The section `dns`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordedDns {
    pub hostname: Line,
    pub domain: Line,
    pub ttl: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<Line>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_apex_domain: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cname_aliases: Vec<Line>,
}

impl RecordedStack {
    /// Of a stack; `None` where it is too large for a record.
    pub fn of(stack: &ResolvedStack) -> Option<Self> {
        let recorded = Self::whole(stack);
        let size = serde_json::to_vec(&recorded).map_or(usize::MAX, |json| json.len());
        (size <= BYTES_MAX).then_some(recorded)
    }

    pub(super) fn whole(stack: &ResolvedStack) -> Self {
        let line = |text: &Option<String>| text.as_deref().map(Line::from);
        let mount = |mount: &Mount| RecordedMount {
            source: mount.source.to_string_lossy().as_ref().into(),
            target: mount.target.as_str().into(),
            readonly: mount.readonly,
        };
        let user = |user: &crate::spec::User| RecordedUser {
            username: user.username.as_str().into(),
            keys: user.keys.iter().map(RecordedKey::of).collect(),
        };
        Self {
            cpus: stack.cpus,
            memory: stack.memory.as_bytes(),
            disk: stack.disk.as_bytes(),
            image: image_text(&stack.image).as_str().into(),
            image_sha256: line(&stack.image_sha256),
            os: stack.os.as_str().into(),
            instance_type: line(&stack.instance_type),
            region: line(&stack.region),
            vpc_id: line(&stack.vpc_id),
            subnet_id: line(&stack.subnet_id),
            iam_instance_profile: line(&stack.iam_instance_profile),
            spot: stack.spot,
            users: stack.users.iter().map(user).collect(),
            mounts: stack.mounts.iter().map(mount).collect(),
            ports: stack.ports.iter().map(RecordedPort::of).collect(),
            auto_ports: stack.auto_ports,
            ssh_cidr: stack.ssh_cidr.iter().map(|source| source.word().into()).collect(),
            ttl: stack.ttl,
            dns: stack.dns.as_ref().map(RecordedDns::of),
            sections: stack.sections.clone(),
            extra: Extra::new(),
        }
    }
}

/// A value in a record that no stack can have: somebody else has written it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} in the record is invalid: {value}")]
pub struct StackValueError {
    /// The key in config.json.
    pub key: &'static str,
    /// The value.
    pub value: String,
}

impl RecordedStack {
    /// The entries of `vm.ports`.
    ///
    /// # Errors
    /// [`StackValueError`] for one that no stack can have.
    pub fn port_forwards(&self) -> Result<Vec<PortForward>, StackValueError> {
        self.ports.iter().map(PortForward::try_from).collect()
    }

    /// The entries of `vm.mounts`.
    ///
    /// # Errors
    /// As [`Self::port_forwards`].
    pub fn shared_folders(&self) -> Result<Vec<Mount>, StackValueError> {
        let mount = |mount: &RecordedMount| {
            let (source, target) = (PathBuf::from(mount.source.as_str()), mount.target.to_string());
            if source.is_absolute() && is_mount_target(&target) {
                return Ok(Mount { source, target, readonly: mount.readonly });
            }
            let value = format!("{} at {target}", source.display());
            Err(StackValueError { key: "vm.mounts", value })
        };
        self.mounts.iter().map(mount).collect()
    }

    /// The entries of `vm.ssh_cidr`.
    ///
    /// # Errors
    /// As [`Self::port_forwards`].
    pub fn ssh_sources(&self) -> Result<Vec<SshSource>, StackValueError> {
        let source = |word: &str| {
            ssh_source(word).ok_or_else(|| StackValueError { key: "vm.ssh_cidr", value: word.to_owned() })
        };
        self.ssh_cidr.iter().map(|line| source(line.as_str())).collect()
    }

    /// The section `dns`.
    ///
    /// # Errors
    /// As [`Self::port_forwards`].
    pub fn dns_section(&self) -> Result<Option<Dns>, StackValueError> {
        let Some(dns) = self.dns.as_ref().map(RecordedDns::section) else { return Ok(None) };
        match dns.names().into_iter().find(|(name, _)| !is_domain(name)) {
            Some((value, _)) => Err(StackValueError { key: "dns", value }),
            None => Ok(Some(dns)),
        }
    }

    /// Takes one setting from another stack. What templates and cloud-init get isn't part of it.
    pub fn take(&mut self, setting: Setting, from: &Self) {
        match setting {
            Setting::Cpus => self.cpus = from.cpus,
            Setting::Memory => self.memory = from.memory,
            Setting::Disk => self.disk = from.disk,
            Setting::InstanceType => self.instance_type.clone_from(&from.instance_type),
            Setting::Ports => self.ports.clone_from(&from.ports),
            Setting::AutoPorts => self.auto_ports = from.auto_ports,
            Setting::SshCidr => self.ssh_cidr.clone_from(&from.ssh_cidr),
            Setting::Mounts => self.mounts.clone_from(&from.mounts),
            Setting::Users => self.users.clone_from(&from.users),
            Setting::Ttl => self.ttl = from.ttl,
            Setting::Dns => self.dns.clone_from(&from.dns),
            Setting::Image => {
                self.image.clone_from(&from.image);
                self.image_sha256.clone_from(&from.image_sha256);
            }
            Setting::Os => self.os.clone_from(&from.os),
            Setting::Region => self.region.clone_from(&from.region),
            Setting::VpcId => self.vpc_id.clone_from(&from.vpc_id),
            Setting::SubnetId => self.subnet_id.clone_from(&from.subnet_id),
            Setting::IamInstanceProfile => self.iam_instance_profile.clone_from(&from.iam_instance_profile),
            Setting::Spot => self.spot = from.spot,
            Setting::ProviderSection => self.sections.clone_from(&from.sections),
            Setting::Variables | Setting::CloudInit | Setting::Configure => {}
        }
    }
}

impl TryFrom<&RecordedPort> for PortForward {
    type Error = StackValueError;

    fn try_from(port: &RecordedPort) -> Result<Self, StackValueError> {
        let last = port.last_host.unwrap_or(port.host);
        let guest_last = last.checked_sub(port.host).and_then(|more| port.guest.checked_add(more));
        let bind = port.bind.map(|address| format!("{address}:")).unwrap_or_default();
        let (host, guest) = (port.host, port.guest);
        let text =
            format!("{bind}{host}-{last}:{guest}-{}{}", guest_last.unwrap_or(0), port.protocol.suffix());
        text.parse().map_err(|_| StackValueError { key: "vm.ports", value: text })
    }
}

impl RecordedKey {
    fn of(source: &KeySource) -> Self {
        match source {
            KeySource::GitHub(user) => Self::GitHub(user.as_str().into()),
            KeySource::Inline(key) => Self::Inline(key.as_str().into()),
            KeySource::File(path) => Self::File(path.to_string_lossy().as_ref().into()),
        }
    }
}

impl RecordedPort {
    fn of(port: &PortForward) -> Self {
        let (host, guest) = (port.host(), port.guest());
        Self {
            host: host.first(),
            guest: guest.first(),
            last_host: (host.count() > 1).then_some(host.last()),
            bind: port.bind(),
            protocol: port.protocol(),
        }
    }
}

fn is_tcp(protocol: &Protocol) -> bool {
    *protocol == Protocol::Tcp
}

impl RecordedDns {
    fn of(dns: &Dns) -> Self {
        Self {
            hostname: dns.hostname.as_str().into(),
            domain: dns.domain.as_str().into(),
            ttl: dns.ttl,
            zone_id: dns.zone_id.as_deref().map(Line::from),
            is_apex_domain: dns.is_apex_domain,
            cname_aliases: dns.cname_aliases.iter().map(|alias| alias.as_str().into()).collect(),
        }
    }

    fn section(&self) -> Dns {
        Dns {
            hostname: self.hostname.to_string(),
            domain: self.domain.to_string(),
            ttl: self.ttl,
            zone_id: self.zone_id.as_ref().map(ToString::to_string),
            is_apex_domain: self.is_apex_domain,
            cname_aliases: self.cname_aliases.iter().map(ToString::to_string).collect(),
        }
    }
}

fn image_text(image: &ImageRef) -> String {
    match image {
        ImageRef::Alias(name) => name.clone(),
        ImageRef::Path(path) => path.to_string_lossy().into_owned(),
        ImageRef::Url(url) => without_credentials(url),
    }
}

/// A URL without what stands before its host, and without what may be a signature.
fn without_credentials(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else { return plain.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_an_earlier_version_is_read_and_written_as_it_was() {
        let old = r#"{"host":8080,"guest":80}"#;
        let read: RecordedPort = serde_json::from_str(old).expect("a port");
        assert_eq!((read.protocol, read.bind, read.last_host), (Protocol::Tcp, None, None));
        assert_eq!(serde_json::to_string(&read).ok().as_deref(), Some(old));
    }

    #[test]
    fn an_image_s_url_is_kept_without_its_secrets() {
        for (url, kept) in [
            ("https://example.com/a.img", "https://example.com/a.img"),
            ("https://ann:pw@example.com:8443/a@b.img?sig=x#y", "https://example.com:8443/a@b.img"),
            ("https://example.com?sig=x", "https://example.com"),
        ] {
            assert_eq!(without_credentials(url), kept);
        }
    }
}
