//! What a record says of a VM in AWS: where it is reached, and the section `aws`, with types and rules for its fields.
//!
//! Others may have written the record. [`Details::of`] is the only way to its section, so no field reaches a request or a
//! person unchecked.

use std::net::Ipv4Addr;

use crate::record_type::RecordType;
use goloo_model::access::Address;
use goloo_model::aws_ids;
use goloo_model::dns::{Previous, RecordSet, dns_ttl, is_record_type, is_record_value};
use goloo_model::hint::{Hint, NextStep};
use goloo_model::provider::{Endpoints, ProviderError};
use goloo_model::record::{
    DetailsError, Endpoint, Extra, Record, SSH_PORT, is_block, is_dns_name, read_details,
};
use goloo_model::spec::DNS_TTL;
use serde::{Deserialize, Deserializer, Serialize};

goloo_model::field_rules! {
    stack_name(optional) -> Option<String>: "the name of a CloudFormation stack", aws_ids::is_stack_name;
    stack_id(optional) -> Option<String>: "the ARN of a CloudFormation stack", aws_ids::is_stack_arn;
    instance_id(optional) -> Option<String>: "the id of an EC2 instance", |text| aws_ids::is_id(text, "i-");
    region(optional) -> Option<String>: "a region of AWS", aws_ids::is_region;
    instance_type(optional) -> Option<String>: "an instance type of EC2", aws_ids::is_instance_type;
    ami_id(optional) -> Option<String>: "the id of an AMI", |text| aws_ids::is_id(text, "ami-");
    group_id(optional) -> Option<String>: "the id of a security group", |text| aws_ids::is_id(text, "sg-");
    vpc_id(optional) -> Option<String>: "the id of a VPC", |text| aws_ids::is_id(text, "vpc-");
    subnet_id(optional) -> Option<String>: "the id of a subnet", |text| aws_ids::is_id(text, "subnet-");
    zone_id(optional) -> Option<String>: "the id of a hosted zone", aws_ids::is_zone;
    blocks(list) -> Vec<String>: "a CIDR block", is_block;
    record_name(checked) -> String: "a DNS name", is_dns_name;
    record_type(checked) -> String: "a DNS record type", is_record_type;
    record_value(checked) -> String: "a DNS record value", is_record_value;
}

/// A TTL in a record has 32 bits.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<u32>::deserialize(deserializer)?.map(u64::from))
}

fn usual_ttl() -> u32 {
    DNS_TTL
}
/// A record set in Route 53 that points to the VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecord {
    /// The name, without a trailing dot.
    #[serde(deserialize_with = "record_name")]
    pub name: String,
    /// `A` or `CNAME`.
    #[serde(rename = "type", deserialize_with = "record_type")]
    pub kind: String,
    /// The address or name it points to.
    #[serde(deserialize_with = "record_value")]
    pub value: String,
    /// Seconds. Records of goloo v0 may have none.
    #[serde(default = "usual_ttl", deserialize_with = "dns_ttl")]
    pub ttl: u32,
    /// Whether it was withdrawn when the VM was stopped: it is then unassigned and set again on start. `value` is its
    /// last value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

impl DnsRecord {
    /// Converts it to a record set with a single value.
    pub fn set(&self) -> RecordSet {
        let Self { name, kind, value, ttl, withdrawn: _ } = self.clone();
        RecordSet { name, kind, values: vec![value], ttl }
    }

    /// Converts from a record set; `None` unless it has a single value.
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

    /// The address the name points to; `None` for an alias, and while it is withdrawn.
    pub fn address(&self) -> Option<&str> {
        (self.kind == RecordType::A.as_str() && !self.withdrawn).then_some(&self.value)
    }
}

/// What the section holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// The CloudFormation stack's name.
    #[serde(rename = "stackName", skip_serializing_if = "Option::is_none", deserialize_with = "stack_name")]
    pub stack_name: Option<String>,
    /// Its ARN.
    #[serde(rename = "stackID", skip_serializing_if = "Option::is_none", deserialize_with = "stack_id")]
    pub stack_id: Option<String>,
    /// The EC2 instance.
    #[serde(
        rename = "instanceID",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "instance_id"
    )]
    pub instance_id: Option<String>,
    /// The region.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "region")]
    pub region: Option<String>,
    /// The instance type.
    #[serde(
        rename = "instanceType",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "instance_type"
    )]
    pub instance_type: Option<String>,
    /// The id of the AMI in use.
    #[serde(rename = "amiID", skip_serializing_if = "Option::is_none", deserialize_with = "ami_id")]
    pub ami_id: Option<String>,
    /// The security group.
    #[serde(
        rename = "securityGroupID",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "group_id"
    )]
    pub security_group_id: Option<String>,
    /// The VPC.
    #[serde(rename = "vpcID", skip_serializing_if = "Option::is_none", deserialize_with = "vpc_id")]
    pub vpc_id: Option<String>,
    /// The subnet.
    #[serde(rename = "subnetID", skip_serializing_if = "Option::is_none", deserialize_with = "subnet_id")]
    pub subnet_id: Option<String>,
    /// Whether the VM is in the shared network created by goloo.
    #[serde(rename = "createdVPC")]
    pub created_vpc: bool,
    /// Whether it is a Spot Instance with a one-time request, which can't be stopped.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spot: bool,
    /// The time after which the VM terminates itself, in seconds.
    #[serde(rename = "ttlSeconds", skip_serializing_if = "Option::is_none", deserialize_with = "seconds")]
    pub ttl_seconds: Option<u64>,
    /// The CIDR blocks that may reach port 22, as goloo last set them.
    #[serde(rename = "sshCIDR", skip_serializing_if = "Vec::is_empty", deserialize_with = "blocks")]
    pub ssh_cidr: Vec<String>,
    /// The address in the VPC, which the other machines of the VM's environment know.
    #[serde(rename = "privateIP", skip_serializing_if = "Option::is_none")]
    pub private_ip: Option<Ipv4Addr>,
    /// The security group of that environment, once the instance is in it.
    #[serde(
        rename = "environmentGroupID",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "group_id"
    )]
    pub environment_group_id: Option<String>,
    /// The hosted zone of the VM's names.
    #[serde(rename = "zoneID", skip_serializing_if = "Option::is_none", deserialize_with = "zone_id")]
    pub zone_id: Option<String>,
    /// The VM's record sets in that zone.
    #[serde(rename = "dnsRecords", skip_serializing_if = "Vec::is_empty")]
    pub dns_records: Vec<DnsRecord>,
    /// The previous owner of the names.
    #[serde(rename = "previousDNS", skip_serializing_if = "Option::is_none")]
    pub previous_dns: Option<Previous>,
    /// Fields from later versions.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Details {
    /// Of a record.
    pub fn of(record: &Record) -> Result<Self, ProviderError> {
        Self::read(&record.details).map_err(|error| {
            ProviderError::failed(
                format!("the record of \"{}\" can't be used: {}.{error}", record.name, record.provider),
                Hint::from("correct that field in the record; ")
                    .step(NextStep::Doctor)
                    .text(" shows where it is stored"),
            )
        })
    }

    pub(crate) fn read(section: &Extra) -> Result<Self, DetailsError> {
        read_details(section)
    }

    fn into_section(self) -> Extra {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => unreachable!("a structure of plain fields becomes an object"),
        }
    }
}

/// All that a record says of its VM in AWS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedVm {
    /// Its address.
    pub public_ip: Option<Address>,
    /// Its DNS name.
    pub fqdn: Option<String>,
    /// The section `aws`.
    pub details: Details,
    /// Fields of the endpoint of a later version.
    extra: Extra,
}

impl RecordedVm {
    /// Of a record.
    pub fn of(record: &Record) -> Result<Self, ProviderError> {
        let Endpoint { address, ssh_port: _, fqdn, ports: _, extra } = record.endpoint.clone();
        Ok(Self { public_ip: address, fqdn, details: Details::of(record)?, extra })
    }

    /// A VM that has no name yet.
    pub fn new(public_ip: Option<Address>, details: Details) -> Self {
        Self { public_ip, details, ..Self::default() }
    }
}

impl From<RecordedVm> for Endpoints {
    fn from(vm: RecordedVm) -> Self {
        let RecordedVm { public_ip, fqdn, details, extra } = vm;
        Self {
            endpoint: Endpoint {
                address: public_ip,
                ssh_port: Some(SSH_PORT),
                fqdn,
                ports: Vec::new(),
                extra,
            },
            details: details.into_section(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_testkit::samples;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_details_of_a_record_survive_a_round_trip() {
        let mut record = samples::in_aws(&samples::name("web"));
        record.details.insert("later".into(), 1.into());
        let vm = RecordedVm::of(&record).unwrap();
        assert_eq!(vm.details.region.as_deref(), Some("us-east-1"));
        let mut written = Endpoints::from(vm);
        assert_eq!(written.endpoint, record.endpoint);
        assert_eq!(written.details.remove("createdVPC"), Some(false.into()));
        assert_eq!(written.details.len(), record.details.len());
        assert!(record.details.iter().all(|(key, value)| written.details.get(key) == Some(value)));
    }

    /// A record of a colleague's, with one field of its section changed.
    fn with(pointer: &str, value: Value) -> Record {
        let mut record = samples::in_aws(&samples::name("web"));
        let mut section = Value::Object(record.details);
        section["instanceType"] = json!("t3.micro");
        section["environmentGroupID"] = json!("sg-1");
        section["privateIP"] = json!("10.0.0.1");
        section["zoneID"] = json!("Z123");
        section["sshCIDR"] = json!(["10.0.0.0/8"]);
        section["dnsRecords"] =
            json!([{"name": "a.example.com", "type": "A", "value": "192.0.2.1", "ttl": 60}]);
        section["previousDNS"] = json!({"at": "2025-01-15T10:30:00Z", "records":
            [{"name": "a.example.com", "type": "A", "values": ["192.0.2.1"], "ttl": 60}]});
        if let Some(field) = section.pointer_mut(pointer) {
            *field = value;
        }
        record.details = section.as_object().unwrap().clone();
        record
    }

    #[test]
    fn a_field_that_breaks_its_rule_makes_the_section_unusable_and_is_named() {
        Details::of(&with("/none", json!(null))).unwrap();
        let hostile =
            ["-oProxyCommand=x", "a b\nc", "a\u{1b}]0;x\u{7}", "a\u{202e}b", "a\0b", "evil.example/#\n"];
        for (pointer, path) in [
            ("/stackName", "stackName"),
            ("/stackID", "stackID"),
            ("/instanceID", "instanceID"),
            ("/region", "region"),
            ("/instanceType", "instanceType"),
            ("/amiID", "amiID"),
            ("/securityGroupID", "securityGroupID"),
            ("/vpcID", "vpcID"),
            ("/subnetID", "subnetID"),
            ("/environmentGroupID", "environmentGroupID"),
            ("/zoneID", "zoneID"),
            ("/sshCIDR/0", "sshCIDR"),
            ("/dnsRecords/0/name", "dnsRecords[0].name"),
            ("/dnsRecords/0/type", "dnsRecords[0].type"),
            ("/previousDNS/records/0/name", "previousDNS.records[0].name"),
        ] {
            for text in hostile {
                let record = with(pointer, json!(text));
                let error = Details::of(&record).unwrap_err().to_string();
                assert!(error.contains(&format!(": aws.{path}: ")), "{pointer} {text:?}: {error}");
                assert!(!error.contains(char::is_control), "{error:?}");
            }
        }
        for (pointer, value) in [
            ("/region", json!("us-east-1.evil.example")),
            ("/dnsRecords/0/value", json!("192.0.2.1\n")),
            ("/dnsRecords/0/ttl", json!(u32::MAX)),
            ("/privateIP", json!("10.0.0.1\n")),
            ("/region", json!(1)),
        ] {
            Details::of(&with(pointer, value)).unwrap_err();
        }
    }
}
