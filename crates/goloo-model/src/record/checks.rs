//! What the fields of a record may hold that have no type of their own. Everything here is called while a record is
//! read.

use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::access::LoginName;
use crate::authorized_key::AuthorizedKey;
use crate::aws_ids::{is_id, is_stack_arn, is_zone};
use crate::spec::{SshSource, is_domain, is_github_user, ssh_source};
use crate::text::is_label;

/// A serial that no record reaches; the largest integer that every JSON reader represents exactly.
pub const SERIAL_MAX: u64 = (1 << 53) - 1;
/// The maximum TTL of a DNS record, in seconds (RFC 2181, section 8).
const DNS_TTL_MAX: u32 = (1 << 31) - 1;
/// The maximum length of a DNS record's value, in characters.
const DNS_VALUE_MAX: usize = 4096;
/// The maximum length of a resource id, in characters: that of a path.
const ID_MAX: usize = 4096;

pub(super) fn serial<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let serial = u64::deserialize(deserializer)?;
    if serial > SERIAL_MAX {
        return Err(D::Error::custom(format_args!("{serial} is not a valid serial number")));
    }
    Ok(serial)
}

/// A TCP port, or none.
pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let port = Option::<u16>::deserialize(deserializer)?;
    if port == Some(0) {
        return Err(D::Error::custom("0 is not a port"));
    }
    Ok(port)
}

crate::field_rules! {
    pub(super) login_name(checked) -> String: "a login name", |text| LoginName::parse(text).is_ok();
    pub(super) github_user(optional) -> Option<String>: "a GitHub user", is_github_user;
    pub(super) github_users(list) -> Vec<String>: "a GitHub user", is_github_user;
    pub(super) authorized_keys(list) -> Vec<String>: "a line of authorized_keys", is_authorized_key;
    pub(super) ssh_blocks(list) -> Vec<String>: "a CIDR block", is_block;
    pub(super) dns_name(optional) -> Option<String>: "a DNS name", is_domain;
    pub(crate) zone(checked) -> String: "the id of a hosted zone", is_zone;
    pub(crate) record_name(checked) -> String: "a DNS name", is_domain;
    pub(crate) record_type(checked) -> String: "a DNS record type", is_record_type;
    pub(crate) record_values(list) -> Vec<String>: "a DNS record value", is_record_value;
}

/// A TTL of DNS records, in seconds.
pub fn dns_ttl<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let ttl = u32::deserialize(deserializer)?;
    if ttl > DNS_TTL_MAX {
        return Err(D::Error::custom(format_args!("a TTL of {ttl} seconds is too long for a DNS record")));
    }
    Ok(ttl)
}

fn is_authorized_key(text: &str) -> bool {
    is_label(text, usize::MAX) && AuthorizedKey::parse(text).is_ok()
}

/// Whether a text is a CIDR block.
pub fn is_block(text: &str) -> bool {
    matches!(ssh_source(text), Some(SshSource::Cidr(_)))
}

/// Whether a text is a type of DNS records, such as `CNAME`.
pub fn is_record_type(text: &str) -> bool {
    (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether a text can be the value of a DNS record.
pub fn is_record_value(text: &str) -> bool {
    is_label(text, DNS_VALUE_MAX)
}

/// Whether this id is allowed for a resource of this kind: it can never be an option or a second line. Kinds of a
/// later version may have any single-line text.
pub fn is_resource_id(kind: &str, id: &str) -> bool {
    match kind {
        "qemu-directory" => Path::new(id).is_absolute() && is_label(id, ID_MAX),
        "multipass-instance" | "multipass-launch" | "multipass-clone" => is_instance_name(id),
        "cloudformation-stack" => is_stack_arn(id),
        "ec2-instance" => is_id(id, "i-"),
        _ => is_label(id, ID_MAX) && !id.is_empty() && !id.starts_with('-'),
    }
}

/// The rule of Multipass itself, see its `src/utils/utils.cpp`.
fn is_instance_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.len() <= 253
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

pub(super) fn is_kind(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_ids_are_validated_by_kind() {
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
