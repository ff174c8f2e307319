//! Tags: the user's own labels on a VM.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::text::is_label;

/// The maximum length of a key, in characters.
const KEY_MAX: usize = 63;
/// The maximum length of a value, in characters.
const VALUE_MAX: usize = 255;
/// The maximum number of tags per VM.
pub const COUNT_MAX: usize = 100;

/// Why a text isn't a valid tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// No `=`.
    #[error("a tag looks like team=web")]
    NoValue,
    /// A key with invalid characters, or too long.
    #[error("a tag's key has 1 to {KEY_MAX} letters, digits and any of . _ - / :")]
    Key,
    /// A value that is too long or can't be shown on one line.
    #[error("a tag's value has at most {VALUE_MAX} characters, and no invisible ones")]
    Value,
    /// More tags than a VM can have.
    #[error("a VM has at most {COUNT_MAX} tags")]
    Count,
}

/// Parses `key=value`; the value may be empty.
///
/// # Errors
/// [`TagError`] if the text isn't a tag.
pub fn parse(text: &str) -> Result<(String, String), TagError> {
    let (key, value) = text.split_once('=').ok_or(TagError::NoValue)?;
    check(key, value)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Whether a VM may have this tag.
///
/// # Errors
/// [`TagError::Key`] and [`TagError::Value`] if not.
pub fn check(key: &str, value: &str) -> Result<(), TagError> {
    check_key(key)?;
    is_label(value, VALUE_MAX).then_some(()).ok_or(TagError::Value)
}

/// Whether a VM may have this many tags.
///
/// # Errors
/// [`TagError::Count`] if not.
pub fn check_count(count: usize) -> Result<(), TagError> {
    (count <= COUNT_MAX).then_some(()).ok_or(TagError::Count)
}

/// Deserializes the tags of a record.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let tags = BTreeMap::<String, String>::deserialize(deserializer)?;
    check_count(tags.len()).map_err(serde::de::Error::custom)?;
    for (key, value) in &tags {
        check(key, value).map_err(serde::de::Error::custom)?;
    }
    Ok(tags)
}

/// Whether a tag may have this key.
///
/// # Errors
/// [`TagError::Key`] if not.
pub fn check_key(key: &str) -> Result<(), TagError> {
    let fits = |c: char| c.is_alphanumeric() || ['.', '_', '-', '/', ':'].contains(&c);
    let sound = (1..=KEY_MAX).contains(&key.chars().count()) && key.chars().all(fits);
    sound.then_some(()).ok_or(TagError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_valid_key_and_a_one_line_value() {
        let tag = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(parse("team=web"), tag("team", "web"));
        assert_eq!(parse("a/b:c.d_e-1="), tag("a/b:c.d_e-1", ""));
        assert_eq!(parse("expr=a=b, c"), tag("expr", "a=b, c"));
        assert_eq!(parse("team"), Err(TagError::NoValue));
        assert_eq!(parse("=web"), Err(TagError::Key));
        assert_eq!(parse("te am=web"), Err(TagError::Key));
        assert_eq!(parse(&format!("{}=", "k".repeat(64))), Err(TagError::Key));
        assert_eq!(parse("team=we\nb"), Err(TagError::Value));
        assert_eq!(parse(&format!("k={}", "v".repeat(256))), Err(TagError::Value));
    }
}
