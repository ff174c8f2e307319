//! What the fields of a record may hold that have no type of their own, and the check of those that the AWS
//! provider keeps in `aws`. Everything here is called while a record is read.

use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Aws, Extra, ProviderKind, Resource};
use crate::access::{Address, LoginName};
use crate::authorized_key::AuthorizedKey;
use crate::dns::Previous;
use crate::name::OperationId;
use crate::spec::{SshSource, is_domain, is_github_user, ssh_source};
use crate::text::{ValueError, deserialize, is_label};

/// More saves than this nobody makes; the largest integer that every JSON reader keeps exactly.
pub const SERIAL_MAX: u64 = (1 << 53) - 1;
/// The most seconds that DNS keeps a record (RFC 2181, section 8).
const DNS_TTL_MAX: u32 = (1 << 31) - 1;
/// The longest value of a DNS record, in characters.
const DNS_VALUE_MAX: usize = 4096;
/// The longest id of a resource, in characters: a path's.
const ID_MAX: usize = 4096;

pub(super) fn serial<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let serial = u64::deserialize(deserializer)?;
    if serial > SERIAL_MAX {
        return Err(D::Error::custom(format_args!("{serial} is not a count of saves")));
    }
    Ok(serial)
}

/// A TCP port.
pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let port = u16::deserialize(deserializer)?;
    if port == 0 {
        return Err(D::Error::custom("0 is not a port"));
    }
    Ok(port)
}

fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
    what: &'static str,
    rule: fn(&str) -> bool,
) -> Result<String, D::Error> {
    deserialize(deserializer, |text| expect(what, rule, text))
}

fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
    what: &'static str,
    rule: fn(&str) -> bool,
) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| expect(what, rule, text)).transpose().map_err(D::Error::custom)
}

fn list<'de, D: Deserializer<'de>>(
    deserializer: D,
    what: &'static str,
    rule: fn(&str) -> bool,
) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let checked = texts.into_iter().map(|text| expect(what, rule, text));
    checked.collect::<Result<_, _>>().map_err(D::Error::custom)
}

fn expect(what: &'static str, rule: fn(&str) -> bool, text: String) -> Result<String, ValueError> {
    if rule(&text) { Ok(text) } else { Err(ValueError::new(what, &text)) }
}

/// Deserializers of single fields, by what is expected there.
macro_rules! fields {
    ($($visibility:vis $name:ident($how:ident) -> $output:ty: $what:literal, $rule:expr;)+) => {
        $($visibility fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$output, D::Error> {
            $how(deserializer, $what, $rule)
        })+
    };
}

fields! {
    pub(super) login_name(checked) -> String: "a login name", |text| LoginName::parse(text).is_ok();
    pub(super) github_user(optional) -> Option<String>: "a GitHub user", is_github_user;
    pub(super) github_users(list) -> Vec<String>: "a GitHub user", is_github_user;
    pub(super) authorized_keys(list) -> Vec<String>: "a line of authorized_keys", is_authorized_key;
    pub(super) ssh_blocks(list) -> Vec<String>: "a CIDR block", is_block;
    pub(super) stack_name(optional) -> Option<String>: "the name of a CloudFormation stack", is_stack_name;
    pub(super) stack_id(optional) -> Option<String>: "the ARN of a CloudFormation stack", is_stack_arn;
    pub(super) instance_id(optional) -> Option<String>: "the id of an EC2 instance", |text| is_id(text, "i-");
    pub(super) dns_name(optional) -> Option<String>: "a DNS name", is_domain;
    region(optional) -> Option<String>: "a region of AWS", is_region;
    instance_type(optional) -> Option<String>: "an instance type of EC2", is_instance_type;
    ami_id(optional) -> Option<String>: "the id of an AMI", |text| is_id(text, "ami-");
    group_id(optional) -> Option<String>: "the id of a security group", |text| is_id(text, "sg-");
    vpc_id(optional) -> Option<String>: "the id of a VPC", |text| is_id(text, "vpc-");
    subnet_id(optional) -> Option<String>: "the id of a subnet", |text| is_id(text, "subnet-");
    zone_id(optional) -> Option<String>: "the id of a hosted zone", is_zone;
    pub(crate) zone(checked) -> String: "the id of a hosted zone", is_zone;
    pub(crate) record_name(checked) -> String: "a DNS name", is_domain;
    pub(crate) record_type(checked) -> String: "a type of DNS records", is_record_type;
    pub(crate) record_value(checked) -> String: "a value of a DNS record", is_record_value;
    pub(crate) record_values(list) -> Vec<String>: "a value of a DNS record", is_record_value;
}

pub(crate) fn dns_ttl<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let ttl = u32::deserialize(deserializer)?;
    if ttl > DNS_TTL_MAX {
        return Err(D::Error::custom(format_args!("{ttl} seconds are more than a DNS record is kept")));
    }
    Ok(ttl)
}

fn is_authorized_key(text: &str) -> bool {
    is_label(text, usize::MAX) && AuthorizedKey::parse(text).is_ok()
}

fn is_block(text: &str) -> bool {
    matches!(ssh_source(text), Some(SshSource::Cidr(_)))
}

fn is_id(text: &str, prefix: &str) -> bool {
    let rest = text.strip_prefix(prefix).unwrap_or_default();
    (1..=64).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A region's name decides which host is asked, so it is no more than words and a number: `us-gov-west-1`.
fn is_region(text: &str) -> bool {
    let words: Vec<&str> = text.split('-').collect();
    let Some((number, names)) = words.split_last() else { return false };
    let is_name =
        |name: &&str| (2..=12).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase());
    (2..=4).contains(&names.len())
        && names.iter().all(is_name)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_stack_name(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// `arn:PARTITION:cloudformation:REGION:ACCOUNT:stack/NAME/UNIQUE`; the last part may be missing.
fn is_stack_arn(text: &str) -> bool {
    let fields: Vec<&str> = text.split(':').collect();
    let ["arn", partition, "cloudformation", region, account, stack] = fields[..] else { return false };
    let Some(path) = stack.strip_prefix("stack/") else { return false };
    let (name, unique) = path.split_once('/').unwrap_or((path, "1"));
    let is_partition = partition.starts_with("aws")
        && partition.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let is_unique = |text: &str| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_account = (1..=12).contains(&account.len()) && account.bytes().all(|byte| byte.is_ascii_digit());
    is_partition && is_region(region) && is_account && is_stack_name(name) && is_unique(unique)
}

fn is_instance_type(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= 64 && text.split_once('.').is_some_and(|(family, size)| is_word(family) && is_word(size))
}

fn is_zone(text: &str) -> bool {
    let id = text.trim_start_matches('/').strip_prefix("hostedzone/").unwrap_or(text);
    (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_record_type(text: &str) -> bool {
    (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn is_record_value(text: &str) -> bool {
    is_label(text, DNS_VALUE_MAX)
}

/// Whether a resource of this kind may have this id: none of them can be an option or a second line. Kinds of a
/// later version may have any text of one line.
pub fn is_resource_id(kind: &str, id: &str) -> bool {
    match kind {
        "qemu-directory" => Path::new(id).is_absolute() && is_label(id, ID_MAX),
        "multipass-instance" | "multipass-launch" | "multipass-clone" => is_instance_name(id),
        "cloudformation-stack" => is_stack_arn(id),
        "ec2-instance" => is_id(id, "i-"),
        _ => is_label(id, ID_MAX) && !id.is_empty() && !id.starts_with('-'),
    }
}

/// The rule of Multipass itself, `src/utils/utils.cpp`.
fn is_instance_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.len() <= 253
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_kind(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Text {
            kind: String,
            id: String,
            operation: OperationId,
            #[serde(flatten)]
            extra: Extra,
        }
        let Text { kind, id, operation, extra } = Text::deserialize(deserializer)?;
        if !is_kind(&kind) {
            return Err(D::Error::custom(ValueError::new("a kind of resources", &kind)));
        }
        if !is_resource_id(&kind, &id) {
            let error = ValueError::new("the id of such a resource", &id);
            return Err(D::Error::custom(format_args!("{kind}: {error}")));
        }
        Ok(Self { kind, id, operation, extra })
    }
}

/// The fields of `aws` that core leaves to the AWS provider, as this version writes them. Nothing is kept of them:
/// reading them is the check.
#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be checked")]
struct AwsFields {
    #[serde(default, deserialize_with = "region")]
    region: Option<String>,
    #[serde(default, rename = "instanceType", deserialize_with = "instance_type")]
    instance_type: Option<String>,
    #[serde(default, rename = "amiID", deserialize_with = "ami_id")]
    ami_id: Option<String>,
    #[serde(default, rename = "securityGroupID", deserialize_with = "group_id")]
    security_group_id: Option<String>,
    #[serde(default, rename = "vpcID", deserialize_with = "vpc_id")]
    vpc_id: Option<String>,
    #[serde(default, rename = "subnetID", deserialize_with = "subnet_id")]
    subnet_id: Option<String>,
    #[serde(default, rename = "createdVPC")]
    created_vpc: bool,
    #[serde(default)]
    spot: bool,
    #[serde(default, rename = "ttlSeconds")]
    ttl_seconds: Option<u32>,
    #[serde(default, rename = "sshCIDR", deserialize_with = "ssh_blocks")]
    ssh_cidr: Vec<String>,
    #[serde(default, rename = "zoneID", deserialize_with = "zone_id")]
    zone_id: Option<String>,
    #[serde(default, rename = "dnsRecords")]
    dns_records: Vec<DnsRecord>,
    #[serde(default, rename = "previousDNS")]
    previous_dns: Option<Previous>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be checked")]
struct DnsRecord {
    #[serde(deserialize_with = "record_name")]
    name: String,
    #[serde(rename = "type", deserialize_with = "record_type")]
    kind: String,
    #[serde(deserialize_with = "record_value")]
    value: String,
    // Records of goloo v0 may have none.
    #[serde(default, deserialize_with = "dns_ttl")]
    ttl: u32,
    #[serde(default)]
    withdrawn: bool,
}

/// Checks what the AWS provider keeps in the section. The error has the field's path within `aws`.
pub(super) fn check_aws(aws: &Aws) -> Result<(), serde_path_to_error::Error<serde_json::Error>> {
    let fields = Value::Object(aws.extra.clone());
    serde_path_to_error::deserialize::<_, AwsFields>(&fields).map(drop)
}

/// Whether a provider's machines can have this address: QEMU's are reached on a forwarded port of this computer.
pub fn is_local_address(provider: ProviderKind, ip: &Address) -> bool {
    provider != ProviderKind::Qemu || ip.is_loopback()
}

pub(super) fn check_local(provider: ProviderKind, ip: &Address) -> Result<(), ValueError> {
    let what = "an address of this computer's loopback, where QEMU's machines are";
    if is_local_address(provider, ip) { Ok(()) } else { Err(ValueError::new(what, ip.as_str())) }
}

/// Whether a text can be a field of `aws` under this key; what this version doesn't know may be anything.
pub(crate) fn is_aws_field(key: &str, value: &Value) -> bool {
    let section = Value::Object([(key.to_owned(), value.clone())].into_iter().collect());
    serde_json::from_value::<Aws>(section).is_ok_and(|aws| check_aws(&aws).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_words_and_a_number() {
        for good in
            ["us-east-1", "us-gov-west-1", "ap-southeast-12", "us-isob-east-1", "cn-north-1", "il-central-1"]
        {
            assert!(is_region(good), "{good}");
        }
        for bad in [
            "",
            "us",
            "us-east",
            "us-east-1.evil.example",
            "us-east-1/x",
            "evil.example#",
            "US-EAST-1",
            "us--1",
            "1-us-1",
            "us-east-1\n",
        ] {
            assert!(!is_region(bad), "{bad:?}");
        }
    }

    #[test]
    fn ids_of_resources_are_no_options_and_no_lines() {
        for (kind, id) in [
            ("qemu-directory", "/home/ann/.local/share/goloo/vms/01JHN3W1T3K9Q2Z8F6B4C7D5E0"),
            ("multipass-instance", "primary"),
            (
                "cloudformation-stack",
                "arn:aws-cn:cloudformation:cn-north-1:123456789012:stack/goloo-web/5a1f-22",
            ),
            ("cloudformation-stack", "arn:aws:cloudformation:eu-west-1:123456789012:stack/goloo-web"),
            ("ec2-instance", "i-0abc"),
            ("of-later", "any text"),
        ] {
            assert!(is_resource_id(kind, id), "{kind} {id}");
        }
        for (kind, id) in [
            ("qemu-directory", "vms/x"),
            ("qemu-directory", "/a\nb"),
            ("multipass-instance", "--all"),
            ("multipass-launch", "a b"),
            ("multipass-clone", ""),
            ("cloudformation-stack", "arn:aws:cloudformation:evil.example/:1:stack/x/1"),
            ("cloudformation-stack", "arn:x"),
            ("ec2-instance", "i-"),
            ("of-later", "-x"),
            ("of-later", "a\u{1b}b"),
        ] {
            assert!(!is_resource_id(kind, id), "{kind} {id:?}");
        }
    }
}
