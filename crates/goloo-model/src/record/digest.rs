//! 256 bits as text, and the proof that consists of two of them.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::text::{ValueError, deserialize};

/// The length in bytes.
pub(super) const LENGTH: usize = 32;

/// 256 bits in hexadecimal: a SHA-256 digest, or an HMAC based on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The digits, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SHA-256 digest of these parts, which are told apart by their lengths.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self::of(&hash.finalize())
    }

    /// Of these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(hex(bytes))
    }

    /// The SHA-256 of a text.
    pub(super) fn sha256(text: &[u8]) -> Self {
        Self::of(&Sha256::digest(text))
    }

    /// Of a finished SHA-256.
    pub fn of_sha256(hash: [u8; 32]) -> Self {
        Self(hex(&hash))
    }

    /// Reads 64 hexadecimal digits in lower case; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        is_digest(text).then(|| Self(text.to_owned()))
    }

    pub(super) fn bytes(&self) -> Option<[u8; LENGTH]> {
        parse(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer, |text| {
            if is_digest(&text) {
                Ok(Self(text))
            } else {
                Err(ValueError::new("64 hexadecimal digits", &text))
            }
        })
    }
}

/// Proof that a VM was created with a state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// The SHA-256 of the files that the VM was created from.
    pub snapshot: Digest,
    /// The HMAC-SHA-256 of the record's authenticated fields with the folder's key.
    pub mac: Digest,
    /// Which fields of the record `mac` covers; absent for form 1, as in records of schema 1.
    #[serde(default = "first_form", skip_serializing_if = "is_first_form")]
    pub form: u8,
}

/// What a proof of schema 1 covers: nothing of a local VM's address.
pub(super) const FIRST_FORM: u8 = 1;
/// What a proof of this version covers.
pub(super) const FORM: u8 = 2;

fn first_form() -> u8 {
    FIRST_FORM
}

fn is_first_form(form: &u8) -> bool {
    *form == FIRST_FORM
}

/// The bytes of 64 hexadecimal digits; `None` for any other text.
pub(super) fn parse(text: &str) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    if !is_digest(text) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn is_digest(text: &str) -> bool {
    text.len() == 2 * LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
