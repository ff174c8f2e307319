//! Parses the part of a record that a list shows, directly into its summary.
//!
//! Of the other fields, the SSH access is validated too; the rest only has to be valid JSON:
//! a record damaged there is still listed, and [`load`](goloo_model::store::Store::load) reports the damage.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;

use goloo_model::access::{Address, LoginName, PublicHostKey};
use goloo_model::name::{VmId, VmName};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{
    Endpoint, MAX_RECORD_BYTES, Membership, NameChange, OperationKind, Phase, ProvisioningResult, SCHEMA,
    Schema1Place, endpoint_of_schema_1, is_dns_name, is_host_bound_in_schema_1,
};
use goloo_model::store::{CreatedBy, Summary};
use goloo_model::tags;
use goloo_model::text::{LABEL_MAX, Label, SourcePath, is_label};
use goloo_model::time::Timestamp;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A record in a list.
// Boxing would cost a list of thousands more than the space wasted on deleted ones.
#[expect(clippy::large_enum_variant)]
pub(crate) enum DecodedSummary {
    /// An active VM.
    Active(Summary),
    /// A deleted VM whose move to the archive is incomplete.
    HalfArchived,
}

/// Parses `state.json` for a list; `None` if only a full parse can tell what it is, or what is wrong.
pub(crate) fn read(name: &str, bytes: &[u8]) -> Option<DecodedSummary> {
    if bytes.len() > MAX_RECORD_BYTES {
        return None;
    }
    // Text that is validated as a whole is parsed a sixth faster than bytes.
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
    provider: ProviderId,
    #[serde(default = "host_bound")]
    host_bound: bool,
    phase: Phase,
    #[serde(borrow)]
    created_at: Cow<'a, str>,
    #[serde(borrow)]
    created_by: CreatorLine<'a>,
    #[serde(default)]
    ends_at: Option<Timestamp>,
    #[serde(default)]
    provisioning: Option<ProvisioningLine>,
    #[serde(default)]
    operation: Option<OperationLine>,
    #[serde(default)]
    restart_pending: Option<IgnoredAny>,
    #[serde(default)]
    source_config_path: Option<SourcePath>,
    #[serde(default)]
    membership: Option<Box<Membership>>,
    #[serde(default, deserialize_with = "pairs")]
    tags: Vec<(String, String)>,
    #[serde(default, borrow)]
    ssh: Option<SshLine<'a>>,
    #[serde(default)]
    endpoint: EndpointLine,
    /// Of schema 1, as the next one; in later schemas anything may be called so.
    #[serde(default)]
    local: Option<LocalLine>,
    #[serde(default)]
    aws: Option<AwsLine>,
}

fn host_bound() -> bool {
    true
}

/// Where the machine is reached.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct EndpointLine {
    address: Option<Address>,
    ssh_port: Option<NonZeroU16>,
    fqdn: Option<String>,
}

/// Only a change of its name gives a VM more than one.
#[derive(Deserialize)]
struct OperationLine {
    kind: OperationKind,
    #[serde(default)]
    rename: Option<NameChange>,
}

#[derive(Deserialize)]
struct ProvisioningLine {
    result: ProvisioningResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreatorLine<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    host: Cow<'a, str>,
    #[serde(borrow)]
    host_id: Cow<'a, str>,
}

/// The SSH access; it is only validated.
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

/// A JSON object as sorted pairs; for duplicate keys the last one is used, as in a map.
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

/// Whether the fields without a type of their own satisfy their rules.
fn is_valid(line: &Text<'_>) -> bool {
    let by = &line.created_by;
    let in_aws = line.aws.as_ref().and_then(|aws| aws.fqdn.as_deref());
    let fqdns = in_aws.into_iter().chain(line.endpoint.fqdn.as_deref());
    let has_way = |ssh: &SshLine<'_>| {
        let SshLine { user, host_key, .. } = ssh;
        LoginName::is_valid(user) && PublicHostKey::is_valid(host_key)
    };
    line.ssh.as_ref().is_none_or(has_way)
        && is_label(&by.user, LABEL_MAX)
        && is_label(&by.host, LABEL_MAX)
        && is_label(&by.host_id, LABEL_MAX)
        && fqdns.into_iter().all(is_dns_name)
        && tags::check_count(line.tags.len()).is_ok()
        && line.tags.iter().all(|(key, value)| tags::check(key, value).is_ok())
}

fn summary(line: Text<'_>) -> Option<DecodedSummary> {
    if !is_valid(&line) {
        return None;
    }
    if line.phase == Phase::Destroyed && line.schema <= SCHEMA {
        return Some(DecodedSummary::HalfArchived);
    }
    let (provider, schema) = (line.provider, line.schema);
    let endpoint = match schema {
        1 => {
            let local = line.local.map(|local| (local.ip, local.ssh_port.get()));
            let aws = line.aws.map(|aws| (aws.public_ip, aws.fqdn));
            endpoint_of_schema_1(provider, Schema1Place { local, aws })
        }
        _ => {
            let EndpointLine { address, ssh_port, fqdn } = line.endpoint;
            let ssh_port = ssh_port.map(NonZeroU16::get);
            Endpoint { address, ssh_port, fqdn, ..Endpoint::default() }
        }
    };
    let name = VmName::parse(&line.name).ok()?;
    let is_in_progress = line.operation.is_some();
    let rename = line.operation.filter(|operation| operation.kind.renames());
    let renamed_from = rename.and_then(|operation| operation.rename).map(|change| change.from);
    Some(DecodedSummary::Active(Summary {
        renamed_from: renamed_from.filter(|from| *from != name),
        name,
        id: line.id,
        provider,
        host_bound: if schema == 1 { is_host_bound_in_schema_1(provider) } else { line.host_bound },
        phase: line.phase,
        provisioning: line.provisioning.map(|provisioning| provisioning.result),
        operation: is_in_progress,
        restart_pending: line.restart_pending.is_some(),
        stack: line.stack.into(),
        created_at: Timestamp::parse(&line.created_at).ok()?,
        created_by: CreatedBy {
            user: line.created_by.user.into(),
            host: line.created_by.host.into(),
            host_id: line.created_by.host_id.into(),
        },
        ends_at: line.ends_at,
        ip: endpoint.address.map(String::from),
        ssh_port: endpoint.ssh_port,
        fqdn: endpoint.fqdn,
        source_config_path: line.source_config_path.map(PathBuf::from),
        membership: line.membership,
        tags: line.tags,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::record::{from_json, to_json};
    use goloo_testkit::samples::{creating, in_aws, name, ready};

    use super::*;

    /// What the short way shows, which is what the whole record shows.
    fn shown(bytes: &[u8]) -> Summary {
        let record = from_json(bytes).unwrap();
        let Some(DecodedSummary::Active(summary)) = read(record.name.as_str(), bytes) else {
            panic!("it takes the long way: {}", record.name)
        };
        assert_eq!(summary, Summary::from(&record));
        summary
    }

    #[test]
    fn records_of_both_schemas_are_shown_by_the_short_way() {
        for record in [ready(&name("web")), in_aws(&name("api"))] {
            shown(&to_json(&record));
        }
        let mut renamed = ready(&name("web")).with_name(&name("shop"));
        let rename = NameChange { from: name("web"), to: name("shop") };
        renamed.operation = creating(&name("web")).operation;
        for (kind, expected) in [
            (OperationKind::Rename, Some(name("web"))),
            (OperationKind::Replace, Some(name("web"))),
            (OperationKind::Stop, None),
        ] {
            let operation = renamed.operation.as_mut().unwrap();
            (operation.kind, operation.rename) = (kind, Some(rename.clone()));
            assert_eq!(shown(&to_json(&renamed)).renamed_from, expected);
        }
        let qemu = shown(include_bytes!("../../goloo-model/src/record/fixtures/schema-1-qemu.json"));
        assert_eq!(
            (qemu.ip.as_deref(), qemu.ssh_port, qemu.host_bound),
            (Some("127.0.0.1"), Some(40_022), true)
        );
        let aws = shown(include_bytes!("../../goloo-model/src/record/fixtures/schema-1-aws.json"));
        assert_eq!((aws.ip.as_deref(), aws.ssh_port), (Some("54.210.33.100"), Some(22)));
        assert_eq!((aws.fqdn.as_deref(), aws.host_bound), (Some("web.example.com"), false));
        shown(include_bytes!("../../goloo-model/src/record/fixtures/schema-1-migrated.json"));
        // Of both sections of schema 1 the provider's counts.
        let text = include_str!("../../goloo-model/src/record/fixtures/schema-1-qemu.json");
        let both = text.replace(
            "\"local\": {",
            "\"aws\": {\"publicIP\": \"192.0.2.1\", \"fqdn\": \"a.example\"}, \"local\": {",
        );
        assert_eq!(shown(both.as_bytes()).ip.as_deref(), Some("127.0.0.1"));
        let other = ProviderId::known("my-cloud");
        let unknown =
            goloo_model::record::Record { provider: other, host_bound: false, ..in_aws(&name("web")) };
        assert_eq!(
            (shown(&to_json(&unknown)).provider, shown(&to_json(&unknown)).host_bound),
            (other, false)
        );
    }
}
