//! The part of a record that a list shows, parsed straight into it.
//!
//! Of the fields that a list doesn't show the way into the machine is checked, too; the others only for being JSON:
//! a record whose damage lies there is listed, and [`load`](goloo_core::store::Store::load) tells of the damage.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;

use goloo_core::access::{Address, LoginName, PublicHostKey};
use goloo_core::name::{VmId, VmName};
use goloo_core::record::{
    MAX_RECORD_BYTES, Phase, ProviderKind, SCHEMA, SSH_PORT, is_dns_name, is_local_address,
};
use goloo_core::store::{CreatedBy, Summary};
use goloo_core::tags;
use goloo_core::text::{LABEL_MAX, Label, SourcePath, is_label};
use goloo_core::time::Timestamp;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A record, as a list sees it.
// Boxing would cost a list of thousands more than the one that is gone takes.
#[expect(clippy::large_enum_variant)]
pub(crate) enum Line {
    /// An active VM.
    Active(Summary),
    /// A VM that is gone, on its way to the archive.
    HalfArchived,
}

/// Reads `state.json` for a list; `None` where it takes a whole look to say what it is, or what is wrong.
pub(crate) fn read(name: &str, bytes: &[u8]) -> Option<Line> {
    if bytes.len() > MAX_RECORD_BYTES {
        return None;
    }
    // Checked as a whole, text is parsed a sixth faster than bytes.
    let text = std::str::from_utf8(bytes).ok()?;
    let line = serde_json::from_str::<Text<'_>>(text).ok()?;
    if line.name != name || line.schema == 0 {
        return None;
    }
    summary(line)
}

/// The part of `state.json` that a list shows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text<'a> {
    schema: u32,
    #[serde(rename = "serial")]
    _serial: u64,
    id: VmId,
    #[serde(borrow)]
    name: Cow<'a, str>,
    stack: Label,
    provider: ProviderKind,
    phase: Phase,
    #[serde(borrow)]
    created_at: Cow<'a, str>,
    #[serde(borrow)]
    created_by: CreatorLine<'a>,
    #[serde(default)]
    ends_at: Option<Timestamp>,
    #[serde(default)]
    operation: Option<IgnoredAny>,
    #[serde(default)]
    source_config_path: Option<SourcePath>,
    #[serde(default, deserialize_with = "pairs")]
    tags: Vec<(String, String)>,
    #[serde(default, borrow)]
    ssh: Option<SshLine<'a>>,
    #[serde(default)]
    local: Option<LocalLine>,
    #[serde(default)]
    aws: Option<AwsLine>,
}

#[derive(Deserialize)]
struct CreatorLine<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    host: Cow<'a, str>,
}

/// The way into the machine; it is only checked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SshLine<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(default, rename = "account")]
    _account: Option<LoginName>,
    #[serde(borrow)]
    host_key: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LocalLine {
    ip: Address,
    ssh_port: NonZeroU16,
}

#[derive(Deserialize)]
struct AwsLine {
    #[serde(default, rename = "publicIP")]
    public_ip: Option<Address>,
    #[serde(default)]
    fqdn: Option<String>,
}

/// A JSON object as sorted pairs; of two with one key the last counts, as in a map.
fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs: Self::Value = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, String>()? {
                match pairs.binary_search_by(|(known, _)| known.cmp(&key)) {
                    Ok(place) => pairs[place].1 = value,
                    Err(place) => pairs.insert(place, (key, value)),
                }
            }
            Ok(pairs)
        }
    }
    deserializer.deserialize_map(Pairs)
}

/// Whether the fields keep their rules that have no type of their own here.
fn is_valid(line: &Text<'_>) -> bool {
    let by = &line.created_by;
    let fqdn = line.aws.as_ref().and_then(|aws| aws.fqdn.as_deref());
    let has_way = |ssh: &SshLine<'_>| {
        let SshLine { user, host_key, .. } = ssh;
        LoginName::is_valid(user) && PublicHostKey::is_valid(host_key)
    };
    line.ssh.as_ref().is_none_or(has_way)
        && line.local.as_ref().is_none_or(|local| is_local_address(line.provider, &local.ip))
        && is_label(&by.user, LABEL_MAX)
        && is_label(&by.host, LABEL_MAX)
        && fqdn.is_none_or(is_dns_name)
        && tags::check_count(line.tags.len()).is_ok()
        && line.tags.iter().all(|(key, value)| tags::check(key, value).is_ok())
}

fn summary(line: Text<'_>) -> Option<Line> {
    if !is_valid(&line) {
        return None;
    }
    if line.phase == Phase::Destroyed && line.schema <= SCHEMA {
        return Some(Line::HalfArchived);
    }
    let ssh_port = match (&line.local, &line.aws) {
        (Some(local), _) => Some(local.ssh_port.get()),
        (None, Some(_)) => Some(SSH_PORT),
        (None, None) => None,
    };
    let (public_ip, fqdn) = line.aws.map_or((None, None), |aws| (aws.public_ip, aws.fqdn));
    Some(Line::Active(Summary {
        name: VmName::parse(&line.name).ok()?,
        id: line.id,
        provider: line.provider,
        phase: line.phase,
        operation: line.operation.is_some(),
        stack: line.stack.into(),
        created_at: Timestamp::parse(&line.created_at).ok()?,
        created_by: CreatedBy { user: line.created_by.user.into(), host: line.created_by.host.into() },
        ends_at: line.ends_at,
        ip: line.local.map(|local| local.ip).or(public_ip).map(String::from),
        ssh_port,
        fqdn,
        source_config_path: line.source_config_path.map(PathBuf::from),
        tags: line.tags,
    }))
}
