//! What a provider is called.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::ValueError;

/// The longest id, in bytes.
const ID_MAX: usize = 31;

/// Words that mean something else where a provider's id is a key: in a record and in `config.json`.
const RESERVED: [&str; 23] = [
    "dns",
    "endpoint",
    "history",
    "id",
    "local",
    "name",
    "operation",
    "origin",
    "phase",
    "proof",
    "protected",
    "provider",
    "provisioning",
    "resolved",
    "resources",
    "schema",
    "serial",
    "ssh",
    "stack",
    "steps",
    "tags",
    "vm",
    "warnings",
];

/// A provider's id: `^[a-z][a-z0-9-]{0,30}$`, and no word that records and configs use for something else.
///
/// The bytes are inline: a list of thousands of VMs needs no allocation for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderId {
    /// Padded with zeros, so the order is that of the texts.
    bytes: [u8; ID_MAX],
    length: u8,
}

impl ProviderId {
    /// An id that is known when the program is built.
    ///
    /// # Panics
    /// When it breaks the rule; in a constant, that is an error of the compiler.
    pub const fn known(text: &str) -> Self {
        match Self::of(text.as_bytes()) {
            Some(id) => id,
            None => panic!("not a provider's id"),
        }
    }

    /// Takes a text that keeps the rule.
    ///
    /// # Errors
    /// [`ValueError`] says what was expected.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let id = Self::of(text.as_bytes()).filter(|_| !RESERVED.contains(&text));
        id.ok_or_else(|| ValueError::new("a provider (lower-case letters, digits and \"-\")", text))
    }

    const fn of(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > ID_MAX || !text[0].is_ascii_lowercase() {
            return None;
        }
        let mut bytes = [0; ID_MAX];
        let mut at = 0;
        while at < text.len() {
            let byte = text[at];
            if !byte.is_ascii_lowercase() && !byte.is_ascii_digit() && byte != b'-' {
                return None;
            }
            bytes[at] = byte;
            at += 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "it is at most ID_MAX")]
        let length = text.len() as u8;
        Some(Self { bytes, length })
    }

    /// The word in files and on the command line.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).expect("it is ASCII")
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProviderId").field(&self.as_str()).finish()
    }
}

impl FromStr for ProviderId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::parse(text)
    }
}

impl Serialize for ProviderId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ProviderId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Id;
        impl serde::de::Visitor<'_> for Id {
            type Value = ProviderId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a provider")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ProviderId, E> {
                ProviderId::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Id)
    }
}

impl JsonSchema for ProviderId {
    fn schema_name() -> Cow<'static, str> {
        "ProviderId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[a-z][a-z0-9-]{0,30}$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_plain_word_that_has_no_other_meaning() {
        for good in ["qemu", "a", "null", "my-cloud-2", &"a".repeat(31)] {
            assert_eq!(ProviderId::parse(good).map(|id| id.to_string()).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "-a",
            "2a",
            "Qemu",
            "a b",
            "a_b",
            "ä",
            "a\n",
            "a/b",
            &"a".repeat(32),
            "local",
            "vm",
            "endpoint",
        ] {
            assert!(ProviderId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_in_the_order_of_their_texts() {
        let mut texts = ["multipass", "aws-2", "qemu", "aws", "a"];
        let mut ids = texts.map(ProviderId::known);
        texts.sort_unstable();
        ids.sort_unstable();
        assert_eq!(ids.map(|id| id.to_string()), texts);
    }
}
