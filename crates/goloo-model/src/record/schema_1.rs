//! Records of schema 1: local machines' addresses were in a section `local`, and those in AWS had theirs with AWS's ids
//! in a section `aws`. There were three providers, and only AWS's machines belonged to no host.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::RecordError;
use super::{Endpoint, Extra, Record, SSH_PORT, checks};
use crate::access::Address;
use crate::provider_id::ProviderId;

/// Their number.
pub(super) const SCHEMA_1: u32 = 1;

const LOCAL: &str = "local";
const AWS: &str = "aws";
/// Of a machine in AWS; they are in [`Endpoint`] since.
const PUBLIC_IP: &str = "publicIP";
const FQDN: &str = "fqdn";
/// In this order a proof of that time had these fields of the section `aws`, before all others.
const AWS_FIRST: [&str; 5] = ["stackName", "stackID", "instanceID", PUBLIC_IP, FQDN];

/// Whether a machine of such a record belongs to one host.
pub fn is_host_bound_in_schema_1(provider: ProviderId) -> bool {
    provider != ProviderId::known(AWS)
}

/// What both sections say of the place where a machine is reached.
#[derive(Debug, Clone, Default)]
pub struct Schema1Place {
    /// `local`: address and SSH port.
    pub local: Option<(Address, u16)>,
    /// `aws`: address and DNS name.
    pub aws: Option<(Option<Address>, Option<String>)>,
}

/// Where such a record's machine is reached. The provider decides which section counts: an address in AWS is none of a
/// machine on this computer.
pub fn endpoint_of_schema_1(provider: ProviderId, place: Schema1Place) -> Endpoint {
    if is_host_bound_in_schema_1(provider) {
        return place.local.map_or_else(Endpoint::default, |(address, port)| Endpoint::new(address, port));
    }
    let in_aws =
        |(address, fqdn)| Endpoint { address, fqdn, ssh_port: Some(SSH_PORT), ..Endpoint::default() };
    place.aws.map_or_else(Endpoint::default, in_aws)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Local {
    ip: Address,
    #[serde(deserialize_with = "port")]
    ssh_port: u16,
    #[serde(flatten)]
    extra: Extra,
}

#[derive(Deserialize)]
struct Aws {
    #[serde(default, rename = "publicIP")]
    public_ip: Option<Address>,
    #[serde(default, deserialize_with = "checks::dns_name")]
    fqdn: Option<String>,
    #[serde(flatten)]
    rest: Extra,
}

fn port<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    checks::port(deserializer)?.ok_or_else(|| serde::de::Error::custom("sshPort is missing"))
}

/// Brings a record of schema 1 to the present form. A section of another provider's stays as it is, and means nothing.
pub(super) fn upgrade(record: &mut Record) -> Result<(), RecordError> {
    let local: Option<Local> = section(&record.extra, LOCAL)?;
    let aws: Option<Aws> = section(&record.extra, AWS)?;
    let is_local = is_host_bound_in_schema_1(record.provider);
    record.host_bound = is_local;
    if is_local {
        record.extra.shift_remove(LOCAL);
    } else {
        record.extra.shift_remove(AWS);
    }
    let mut place = Schema1Place::default();
    let (mut endpoint_extra, mut details) = (Extra::new(), Extra::new());
    match (is_local, local, aws) {
        (true, Some(local), _) => {
            place.local = Some((local.ip, local.ssh_port));
            endpoint_extra = local.extra;
        }
        (false, _, Some(aws)) => {
            place.aws = Some((aws.public_ip, aws.fqdn));
            details = aws.rest;
        }
        _ => {}
    }
    record.endpoint = Endpoint { extra: endpoint_extra, ..endpoint_of_schema_1(record.provider, place) };
    record.details = details;
    record.schema = super::format::SCHEMA;
    Ok(())
}

fn section<T: serde::de::DeserializeOwned>(extra: &Extra, key: &str) -> Result<Option<T>, RecordError> {
    let Some(value) = extra.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    serde_path_to_error::deserialize(value).map(Some).map_err(|error| {
        let is_whole = error.path().iter().len() == 0;
        let path = if is_whole { key.to_owned() } else { format!("{key}.{}", error.path()) };
        RecordError::Field { path, reason: error.into_inner() }
    })
}

/// Whether a record says of its machine only what an upgrade makes of schema 1: proofs of that time cover no more.
pub(super) fn is_as_upgraded(record: &Record) -> bool {
    let (endpoint, details) = (&record.endpoint, &record.details);
    let is_local = is_host_bound_in_schema_1(record.provider);
    let as_in_aws = || {
        let is_empty = endpoint.is_empty() && details.is_empty();
        let has_old_fields = details.contains_key(PUBLIC_IP) || details.contains_key(FQDN);
        endpoint.extra.is_empty()
            && endpoint.ports.is_empty()
            && !has_old_fields
            && (is_empty || endpoint.ssh_port == Some(SSH_PORT))
    };
    record.host_bound == is_local && record.resolved.is_none() && (is_local || as_in_aws())
}

/// The section `aws` as a proof of that time covers it: fields that it knew come first, in its order.
pub(super) fn proven_aws(record: &Record) -> Option<Map<String, Value>> {
    let mut rest = if is_host_bound_in_schema_1(record.provider) {
        record.extra.get(AWS)?.as_object()?.clone()
    } else {
        let Endpoint { address, fqdn, .. } = &record.endpoint;
        if record.endpoint.is_empty() && record.details.is_empty() {
            return None;
        }
        let mut section = record.details.clone();
        section.extend(address.as_ref().map(|address| (PUBLIC_IP.to_owned(), address.as_str().into())));
        section.extend(fqdn.as_ref().map(|fqdn| (FQDN.to_owned(), fqdn.as_str().into())));
        section
    };
    let mut ordered = Map::new();
    for key in AWS_FIRST {
        if let Some(value) = rest.shift_remove(key).filter(|value| !value.is_null()) {
            ordered.insert(key.to_owned(), value);
        }
    }
    ordered.extend(rest);
    Some(ordered)
}
