//! The `aws` section of a record, with types for all that core leaves to this crate.

use goloo_core::dns::{Previous, RecordSet};
use goloo_core::record::{Aws, Extra};
use serde::{Deserialize, Serialize};

use crate::dns::Kind;

/// A record in Route 53 that leads to the VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecord {
    /// The name, without a dot at its end.
    pub name: String,
    /// `A` or `CNAME`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address or the name that it leads to.
    pub value: String,
    /// Seconds.
    pub ttl: u32,
    /// Whether it was withdrawn when the VM was stopped: nobody's then, and set again at the start. `value` is
    /// what it had.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

impl DnsRecord {
    /// As a set of one.
    pub fn set(&self) -> RecordSet {
        let Self { name, kind, value, ttl, withdrawn: _ } = self.clone();
        RecordSet { name, kind, values: vec![value], ttl }
    }

    /// Of a set of one.
    pub fn of(set: &RecordSet) -> Option<Self> {
        let [value] = &set.values[..] else { return None };
        Some(Self {
            name: set.name.clone(),
            kind: set.kind.clone(),
            value: value.clone(),
            ttl: set.ttl,
            withdrawn: false,
        })
    }

    /// The address that the name points to; `None` for an alias, and while it is withdrawn.
    pub fn address(&self) -> Option<&str> {
        (self.kind == Kind::A.as_str() && !self.withdrawn).then_some(&self.value)
    }
}

/// What the section holds beside core's own fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// The region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The instance's type.
    #[serde(rename = "instanceType", skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// The AMI, looked up.
    #[serde(rename = "amiID", skip_serializing_if = "Option::is_none")]
    pub ami_id: Option<String>,
    /// The security group.
    #[serde(rename = "securityGroupID", skip_serializing_if = "Option::is_none")]
    pub security_group_id: Option<String>,
    /// The VPC.
    #[serde(rename = "vpcID", skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    /// The subnet.
    #[serde(rename = "subnetID", skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
    /// Whether the VM is in the network that goloo made.
    #[serde(rename = "createdVPC")]
    pub created_vpc: bool,
    /// Whether it is a Spot Instance of a one-time request, which can't be stopped.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spot: bool,
    /// After how many seconds the VM ends itself.
    #[serde(rename = "ttlSeconds", skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Who may reach port 22, as it was when the VM was made: CIDR blocks.
    #[serde(rename = "sshCIDR", skip_serializing_if = "Vec::is_empty")]
    pub ssh_cidr: Vec<String>,
    /// The hosted zone of its names.
    #[serde(rename = "zoneID", skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// Its records there.
    #[serde(rename = "dnsRecords", skip_serializing_if = "Vec::is_empty")]
    pub dns_records: Vec<DnsRecord>,
    /// Who had them before.
    #[serde(rename = "previousDNS", skip_serializing_if = "Option::is_none")]
    pub previous_dns: Option<Previous>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Details {
    /// Of a section. What can't be read counts as absent and stays as it is.
    pub fn of(aws: &Aws) -> Self {
        let value = serde_json::Value::Object(aws.extra.clone());
        serde_json::from_value(value).unwrap_or_else(|_| Self { extra: aws.extra.clone(), ..Self::default() })
    }

    /// As the section keeps them.
    pub fn into_extra(self) -> Extra {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => unreachable!("a structure of plain fields becomes an object"),
        }
    }
}

#[cfg(test)]
mod tests {
    use goloo_testkit::samples;

    use super::*;

    #[test]
    fn what_a_record_holds_is_read_and_written_alike() {
        let record = samples::in_aws(&samples::name("web"));
        let mut aws = record.aws.expect("the sample is in AWS");
        aws.extra.insert("later".into(), 1.into());
        let details = Details::of(&aws);
        assert_eq!(details.region.as_deref(), Some("us-east-1"));
        let mut written = details.into_extra();
        assert_eq!(written.remove("createdVPC"), Some(false.into()));
        assert_eq!(written.len(), aws.extra.len());
        assert!(aws.extra.iter().all(|(key, value)| written.get(key) == Some(value)));
    }
}
