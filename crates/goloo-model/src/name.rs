//! Names and identifiers: parsed once at the boundary, typed from there on.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The maximum length of a name, in characters: that of a DNS label.
pub const NAME_MAX: usize = 63;

/// Why a text isn't a valid VM name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name can't be empty")]
    Empty,
    /// Longer than [`NAME_MAX`].
    #[error("\"{name}\" has {length} characters; a name has at most {NAME_MAX}")]
    TooLong {
        /// The name as given.
        name: String,
        /// Its length in characters.
        length: usize,
    },
    /// Contains upper-case letters and is otherwise valid.
    #[error("\"{name}\" has upper-case letters; names are lower case: \"{lower}\"")]
    UpperCase {
        /// The name as given.
        name: String,
        /// The same in lower case, which is a valid name.
        lower: String,
    },
    /// Contains a character that isn't allowed, or isn't allowed in its place.
    #[error(
        "\"{name}\" is not a valid name: names are lower-case letters, digits and \"-\", begin with a letter and end with a letter or digit"
    )]
    Malformed {
        /// The name as given.
        name: String,
    },
}

/// The name of a VM: `^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct VmName(String);

impl VmName {
    /// Parses a text, or returns the rule that it violates.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if is_name(text) {
            return Ok(Self(text.to_owned()));
        }
        let length = text.chars().count();
        if length > NAME_MAX {
            return Err(NameError::TooLong { name: text.to_owned(), length });
        }
        let lower = text.to_ascii_lowercase();
        if is_name(&lower) {
            return Err(NameError::UpperCase { name: text.to_owned(), lower });
        }
        Err(NameError::Malformed { name: text.to_owned() })
    }

    /// A valid name that resembles a text, to propose in its place: `my-box` for `My_Box`.
    pub fn similar(text: &str) -> Option<Self> {
        let lower =
            text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
        let joined: String = lower.collect();
        let words = joined.split('-').filter(|word| !word.is_empty());
        let name = words.collect::<Vec<_>>().join("-");
        let name = name.trim_start_matches(|c: char| !c.is_ascii_lowercase());
        Self::parse(name.get(..NAME_MAX.min(name.len()))?.trim_end_matches('-')).ok()
    }

    /// A name to propose for another VM like this one: `web-2` for `web`.
    pub fn second(&self) -> Self {
        self.with_ending("-2")
    }

    /// The name with this ending, which begins with a hyphen and ends with a letter or digit. A long name is shortened.
    pub fn with_ending(&self, ending: &str) -> Self {
        let kept = &self.0[..self.0.len().min(NAME_MAX - ending.len())];
        Self(format!("{}{ending}", kept.trim_end_matches('-')))
    }

    /// The name of a lock that isn't for a VM. It begins with a dot, which [`Self::parse`] refuses.
    pub fn of_lock(purpose: &str) -> Self {
        Self(format!(".{purpose}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.len() <= NAME_MAX
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last().is_some_and(word)
        && bytes.iter().all(|b| word(b) || *b == b'-')
}

impl fmt::Display for VmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for VmName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for VmName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<VmName> for String {
    fn from(name: VmName) -> Self {
        name.0
    }
}

/// The label of a snapshot of a VM's disk, unique for the VM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotLabel(String);

/// A text that isn't a valid snapshot label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a valid snapshot label: at most 63 of a-z, 0-9, - and ., the first a letter or digit"
)]
pub struct LabelError(String);

impl SnapshotLabel {
    /// Parses a label.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let starts_well = text.bytes().next().is_some_and(alphanumeric);
        let is_sound = text.bytes().all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'.'));
        if starts_well && is_sound && text.len() <= 63 {
            return Ok(Self(text.to_owned()));
        }
        Err(LabelError(text.to_owned()))
    }

    /// The default label of a snapshot taken now: `at-20250115-103000`, UTC. It begins with
    /// a letter, as some providers require.
    pub fn of_now() -> Self {
        let digits = Timestamp::now().compact().to_ascii_lowercase().replace('t', "-").replace('z', "");
        Self(format!("at-{digits}"))
    }

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A text that isn't a ULID: 26 characters of Crockford's base 32.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an ID: an ID is a ULID, 26 characters")]
pub struct IdError(String);

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new id: 48 bits of time, 80 random bits.
            pub fn generate() -> Self {
                Self(ulid::Ulid::new().to_string())
            }

            /// Parses the text form, in either case.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                Self::try_from(text.to_owned())
            }

            /// The id as text, upper case.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                let Ok(id) = ulid::Ulid::from_string(&text) else { return Err(IdError(text)) };
                let mut buffer = [0; ulid::ULID_LEN];
                let upper: &str = id.array_to_str(&mut buffer);
                // Avoids a copy in lists of thousands of records: nearly all ids are already upper case.
                Ok(Self(if upper == text { text } else { upper.to_owned() }))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

ulid_id! {
    /// The identity of a VM: never reused, even if its name is.
    VmId
}
ulid_id! {
    /// The identity of an operation; also the token that makes a provider's create idempotent.
    OperationId
}

ulid_id! {
    /// The identity of a state folder, which moves with it.
    StateId
}

ulid_id! {
    /// The identity of an environment, as long as it has VMs: two users may give theirs the same name.
    EnvironmentId
}

impl VmId {
    /// The last four characters, in lower case: random, and short enough to read aloud.
    pub fn short(&self) -> String {
        self.0[self.0.len() - 4..].to_ascii_lowercase()
    }
}

/// A record's name in the archive: `devbox-20250115T103000Z-3f9c`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct ArchiveId {
    text: String,
    name_length: usize,
}

/// A text that isn't an archive id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an archive ID; archive IDs look like devbox-20250115T103000Z-3f9c")]
pub struct ArchiveIdError(String);

impl ArchiveId {
    /// The id of the VM's record if it is archived at `at`.
    pub fn new(name: &VmName, at: Timestamp, id: &VmId) -> Self {
        Self { text: format!("{name}-{}-{}", at.compact(), id.short()), name_length: name.as_str().len() }
    }

    /// Parses the text form and checks each part.
    pub fn parse(text: &str) -> Result<Self, ArchiveIdError> {
        let error = || ArchiveIdError(text.to_owned());
        let (rest, short) = text.rsplit_once('-').ok_or_else(error)?;
        let (name, time) = rest.rsplit_once('-').ok_or_else(error)?;
        let name = VmName::parse(name).map_err(|_| error())?;
        Timestamp::parse_compact(time).ok_or_else(error)?;
        let short_is_sound =
            short.len() == 4 && short.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        if !short_is_sound {
            return Err(error());
        }
        Ok(Self { text: text.to_owned(), name_length: name.as_str().len() })
    }

    /// The id as text, which is also the folder's name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name that the VM had.
    pub fn name(&self) -> &str {
        &self.text[..self.name_length]
    }

    /// When the VM's record was archived.
    pub fn deleted_at(&self) -> Timestamp {
        let time = self.text[self.name_length + 1..].split('-').next();
        time.and_then(Timestamp::parse_compact).expect("the constructors have checked it")
    }
}

impl fmt::Display for ArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl TryFrom<String> for ArchiveId {
    type Error = ArchiveIdError;
    fn try_from(text: String) -> Result<Self, ArchiveIdError> {
        Self::parse(&text)
    }
}

impl From<ArchiveId> for String {
    fn from(id: ArchiveId) -> Self {
        id.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_vms_are_validated() {
        for good in ["a", "devbox", "web-1", "a1", &"a".repeat(63)] {
            assert_eq!(VmName::parse(good).expect("a name").as_str(), good);
        }
        for bad in ["1a", "-a", "a-", "a_b", "a.b", "ä", "a b", "../x"] {
            assert!(matches!(VmName::parse(bad), Err(NameError::Malformed { .. })), "{bad}");
        }
        assert_eq!(VmName::parse(""), Err(NameError::Empty));
        assert!(matches!(VmName::parse(&"a".repeat(64)), Err(NameError::TooLong { length: 64, .. })));
    }

    #[test]
    fn a_similar_name_is_valid_whatever_the_text() {
        let long = "A_".repeat(80);
        for (text, similar) in [
            ("My_Box", Some("my-box")),
            ("web.example.com", Some("web-example-com")),
            ("42 towels", Some("towels")),
            ("-a-", Some("a")),
            ("Grün", Some("gr-n")),
            ("", None),
            ("4711", None),
            ("___", None),
        ] {
            assert_eq!(VmName::similar(text).as_ref().map(VmName::as_str), similar, "{text}");
        }
        assert!(VmName::similar(&long).is_some_and(|name| name.as_str().len() <= NAME_MAX));
    }

    #[test]
    fn snapshot_labels_are_validated() {
        for good in ["a", "1", "before-upgrade", "v1.2", &"a".repeat(63), SnapshotLabel::of_now().as_str()] {
            assert_eq!(SnapshotLabel::parse(good).expect("a label").as_str(), good);
        }
        for bad in ["", "-c", ".a", "A", "a b", "a/b", "ä", &"a".repeat(64)] {
            assert!(SnapshotLabel::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_upper_case_name_is_refused_with_the_lower_case_form() {
        let error = VmName::parse("DevBox").expect_err("upper case");
        assert_eq!(error.to_string(), "\"DevBox\" has upper-case letters; names are lower case: \"devbox\"");
    }

    #[test]
    fn an_archive_id_survives_a_round_trip() {
        let name = VmName::parse("web-blue").expect("a name");
        let at = Timestamp::parse("2025-01-15T10:30:00Z").expect("a time");
        let id = VmId::parse("01JHN3W1T3K9Q2Z8F6B4C7D5E0").expect("an id");
        let archive = ArchiveId::new(&name, at, &id);
        assert_eq!(archive.as_str(), "web-blue-20250115T103000Z-d5e0");
        assert_eq!(ArchiveId::parse(archive.as_str()), Ok(archive.clone()));
        assert_eq!(archive.name(), "web-blue");
        assert_eq!(archive.deleted_at(), at);
        for bad in ["web", "web-20250115T103000Z", "web-2025-3f9c", "web-20250115T103000Z-3F9C"] {
            assert!(ArchiveId::parse(bad).is_err(), "{bad}");
        }
    }
}
