//! Login names, addresses and host keys. They reach ssh's command line, its configuration and `known_hosts`, so none
//! of them can be an option, a second word or a second line.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::text::{self, ValueError, checked_text};

/// The maximum length of a login name, in characters.
const LOGIN_MAX: usize = 64;
/// The maximum length of a key, in characters: a 16,384-bit RSA key has 2,800.
const KEY_MAX: usize = 8192;

checked_text! {
    /// The user that ssh logs in as. Less strict than what a config may define (`^[a-z_][a-z0-9_-]{0,31}$`), since
    /// images and documents have users of their own; excludes everything that is special to ssh or a shell.
    LoginName, "a login name (letters, digits, \"_\", \"-\" and \".\", the first a letter, digit or \"_\")", is_login_name
}

fn is_login_name(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let rest = |byte: u8| first(byte) || matches!(byte, b'-' | b'.');
    text.len() <= LOGIN_MAX && text.bytes().next().is_some_and(first) && text.bytes().all(rest)
}

checked_text! {
    /// The address of a machine: an IP address or a host name.
    Address, "an IP address or a host name", is_address
}

fn is_address(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with(['-', '_'])
            && !label.ends_with('-')
    };
    text.parse::<IpAddr>().is_ok()
        || (text.len() <= 253 && text.split('.').all(label) && !ends_in_number(text))
}

/// Whether resolvers take a name for an IPv4 address in an old form: `2`, `0x7f.1` (inet_aton(3); the WHATWG's URL
/// standard calls it "ends in a number").
fn ends_in_number(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let hex = last.strip_prefix("0x").filter(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex.is_some() || last.bytes().all(|byte| byte.is_ascii_digit())
}

impl Address {
    /// Whether this is a loopback address, which never refers to another host.
    pub fn is_loopback(&self) -> bool {
        self.as_str().parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self(ip.to_string())
    }
}

/// A machine's public host key in the form of `known_hosts`: its type and the key in base64, on one line, without
/// options and comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct PublicHostKey(String);

impl PublicHostKey {
    /// Parses a key of a known type whose data matches that type. A comment is refused.
    ///
    /// # Errors
    /// [`ValueError`] if the text isn't such a key.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        if Self::is_valid(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError::new("a public SSH host key (its type and its base64, in one line)", text))
    }

    /// Whether a text is a valid host key.
    pub fn is_valid(text: &str) -> bool {
        if is_ed25519(text) {
            return true;
        }
        let is_one_line =
            text.len() <= KEY_MAX && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        let mut words = text.split(' ');
        let (kind, body, more) = (words.next().unwrap_or_default(), words.next(), words.next());
        let is_key = is_one_line && more.is_none() && body.is_some() && HOST_KEY_KINDS.contains(&kind);
        is_key && ssh_key::PublicKey::from_openssh(text).is_ok_and(|key| key.algorithm().as_str() == kind)
    }

    /// The key as one line of text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether this is an Ed25519 key, as all of goloo's are; a fast path for lists of thousands of records. In base64 the
/// type and the key's length (RFC 8709, section 4: 4 + 11 + 4 bytes) are 25 fixed characters and the upper bits of the
/// next one; the key's 32 bytes make up the rest of the 68.
fn is_ed25519(text: &str) -> bool {
    const HEAD: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI";
    let rest = text.strip_prefix(HEAD).unwrap_or_default().as_bytes();
    rest.len() == 43
        && matches!(rest[0], b'A'..=b'P')
        && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// The types of host keys that OpenSSH's client accepts by default, without certificates and tokens.
const HOST_KEY_KINDS: [&str; 5] =
    ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];

impl Deref for PublicHostKey {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicHostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for PublicHostKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, |text| Self::parse(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_key::HostKey;

    #[test]
    fn a_login_name_is_one_word_and_not_an_option() {
        for good in ["ubuntu", "ec2-user", "_svc", "Ann", "ann.smith", "1st", &"a".repeat(64)] {
            assert!(LoginName::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-oProxyCommand=x",
            ".ann",
            "a b",
            "a\nb",
            "a\tb",
            "a%h",
            "${HOME}",
            "a@b",
            "a:b",
            "a/b",
            "a;b",
            "ä",
            "a\0",
            &"a".repeat(65),
        ] {
            assert!(LoginName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_is_an_ip_or_a_host_name() {
        for good in [
            "127.0.0.1",
            "::1",
            "2001:db8::5",
            "web",
            "web-1.example.com",
            "ec2-1-2-3-4.compute.amazonaws.com",
        ] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-oProxyCommand=x",
            "a b",
            "1.2.3.4\n",
            "a%b",
            "fe80::1%eth0",
            "a..b",
            ".",
            "a-",
            "-a.b",
            "a/b",
            "[::1]",
            "u@h",
            "h:22",
            "ssh://h",
            "2",
            "127.1",
            "0x7f.1",
            "1.2.3.0X4",
            "*",
            "a\u{1b}",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_fast_ed25519_check_accepts_only_keys_that_the_parser_accepts() {
        for _ in 0..3 {
            let key = HostKey::generate().public_openssh;
            assert!(is_ed25519(&key));
            for at in 12..key.len() {
                for byte in *b"AQgw+/=- " {
                    let mut changed = key.as_bytes().to_vec();
                    changed[at] = byte;
                    let changed = String::from_utf8(changed).expect("ASCII");
                    assert!(
                        !is_ed25519(&changed) || ssh_key::PublicKey::from_openssh(&changed).is_ok(),
                        "{changed}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_host_key_is_a_single_key_on_one_line() {
        let key = HostKey::generate().public_openssh;
        let line = key.as_str();
        assert_eq!(PublicHostKey::parse(line).expect("a key"), key);
        let body = &line[12..];
        for bad in [
            String::new(),
            line.to_owned() + " comment",
            line.to_owned() + "\n* ssh-ed25519 AAAA",
            line.to_owned() + "\n",
            format!("@cert-authority {line}"),
            format!("no-pty {line}"),
            format!("ssh-rsa {body}"),
            format!("ssh-ed25519  {body}"),
            line[..line.len() - 4].to_owned(),
            line.to_owned() + "AAAA",
            format!("ssh-ed25519-cert-v01@openssh.com {body}"),
            "ssh-dss AAAAB3NzaC1kc3M=".to_owned(),
            format!("ssh-ed25519 {}", "A".repeat(KEY_MAX)),
        ] {
            assert!(PublicHostKey::parse(&bad).is_err(), "{bad:?}");
        }
    }
}
