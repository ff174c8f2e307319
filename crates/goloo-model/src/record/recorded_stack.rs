//! The resolved stack that a VM was made from, as its record keeps it: what a later version of the stack is compared
//! with.
//!
//! Left out are the files, which are in the snapshot, the variables of templates, which may be secrets, and what an
//! image's URL may hold of a password or a token.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Extra;
use crate::provider_id::ProviderId;
use crate::spec::{Dns, ImageRef, KeySource, PortForward, Protocol, ResolvedStack};
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
pub struct RecordedUser {
    pub username: Line,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<RecordedKey>,
}

/// Where a user's keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RecordedKey {
    GitHub(Line),
    Inline(Line),
    File(Line),
}

/// An entry of `vm.mounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

    fn whole(stack: &ResolvedStack) -> Self {
        let line = |text: &Option<String>| text.as_deref().map(Line::from);
        let mount = |mount: &crate::spec::Mount| RecordedMount {
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
