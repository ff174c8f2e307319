//! Types for texts from users and other programs, and their rules: one line, no control characters, a
//! bounded length.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::printable::is_printable;

/// The default maximum length of a [`Label`], in characters.
pub const LABEL_MAX: usize = 255;
/// The maximum length of a path, in bytes: Linux's `PATH_MAX`.
const PATH_MAX: usize = 4096;
/// The maximum length of a rejected text in an error, in characters.
const SHOWN_MAX: usize = 60;

/// The text, truncated if it has more characters.
pub(crate) fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// A text that breaks the rule for its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found} is not {what}")]
pub struct ValueError {
    /// What was expected, including its rule.
    what: &'static str,
    /// The start of the text, quoted, with control characters escaped.
    found: String,
}

impl ValueError {
    /// The error for this text.
    pub fn new(what: &'static str, found: &str) -> Self {
        let start: String = found.chars().take(SHOWN_MAX).collect();
        let more = if start.len() < found.len() { "..." } else { "" };
        Self { what, found: format!("{start:?}{more}") }
    }
}

/// Deserializes a text and checks its rule.
pub fn deserialize<'de, D, T>(
    deserializer: D,
    parse: impl FnOnce(String) -> Result<T, ValueError>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    parse(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// Deserializers of single fields, by what is expected there: `name(how) -> Type: "what", rule;`, where `how` is
/// `checked`, `optional` or `list`.
#[macro_export]
macro_rules! field_rules {
    ($($visibility:vis $name:ident($how:ident) -> $output:ty: $what:literal, $rule:expr;)+) => {
        $($visibility fn $name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<$output, D::Error> {
            $crate::text::$how(deserializer, $what, $rule)
        })+
    };
}

/// A text that keeps a rule.
pub fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
    what: &'static str,
    rule: fn(&str) -> bool,
) -> Result<String, D::Error> {
    deserialize(deserializer, |text| expect(what, rule, text))
}

/// The same, or nothing.
pub fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
    what: &'static str,
    rule: fn(&str) -> bool,
) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| expect(what, rule, text)).transpose().map_err(serde::de::Error::custom)
}

/// Several of them.
pub fn list<'de, D: Deserializer<'de>>(
    deserializer: D,
    what: &'static str,
    rule: fn(&str) -> bool,
) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let checked = texts.into_iter().map(|text| expect(what, rule, text));
    checked.collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}

fn expect(what: &'static str, rule: fn(&str) -> bool, text: String) -> Result<String, ValueError> {
    if rule(&text) { Ok(text) } else { Err(ValueError::new(what, &text)) }
}

/// Defines a text type with a rule: `parse` is the only constructor.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $what:expr, $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Parses a text that satisfies the rule.
            ///
            /// # Errors
            /// [`ValueError`](crate::text::ValueError) describes what was expected.
            pub fn parse(text: &str) -> Result<Self, crate::text::ValueError> {
                Self::of(text.to_owned())
            }

            fn of(text: String) -> Result<Self, crate::text::ValueError> {
                if Self::is_valid(&text) { Ok(Self(text)) } else { Err(crate::text::ValueError::new($what, &text)) }
            }

            /// Whether a text satisfies the rule.
            pub fn is_valid(text: &str) -> bool {
                let rule: fn(&str) -> bool = $rule;
                rule(text)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::text::ValueError;
            fn from_str(text: &str) -> Result<Self, crate::text::ValueError> {
                Self::parse(text)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::text::deserialize(deserializer, Self::of)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
    };
}

pub(crate) use checked_text;

/// One line for display: names of users, hosts and stacks. At most `MAX` characters, no control characters. Parsed
/// strictly from a record; converted leniently from whatever the system reports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Label<const MAX: usize = LABEL_MAX>(String);

impl<const MAX: usize> Label<MAX> {
    /// Parses a label.
    ///
    /// # Errors
    /// [`ValueError`] if it is too long or has control characters.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        Self::of(text.to_owned())
    }

    fn of(text: String) -> Result<Self, ValueError> {
        if is_label(&text, MAX) {
            return Ok(Self(text));
        }
        Err(ValueError::new("a single line of text without control characters", &text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text is one line of at most `max` characters.
pub fn is_label(text: &str, max: usize) -> bool {
    // Fast path: nearly all labels are short ASCII, and a list of thousands of records checks several of each.
    let is_plain = text.len() <= max && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    is_plain || (text.chars().all(is_printable) && text.chars().count() <= max)
}

impl<const MAX: usize> From<Label<MAX>> for String {
    fn from(label: Label<MAX>) -> Self {
        label.0
    }
}

/// Converts any text: control characters become U+FFFD, and the text is truncated.
impl<const MAX: usize> From<&str> for Label<MAX> {
    fn from(text: &str) -> Self {
        let kept =
            text.chars().take(MAX).map(|c| if is_printable(c) { c } else { char::REPLACEMENT_CHARACTER });
        Self(kept.collect())
    }
}

impl<const MAX: usize> From<String> for Label<MAX> {
    fn from(text: String) -> Self {
        if is_label(&text, MAX) { Self(text) } else { text.as_str().into() }
    }
}

impl<const MAX: usize> Deref for Label<MAX> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Display for Label<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<const MAX: usize> PartialEq<str> for Label<MAX> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl<const MAX: usize> PartialEq<&str> for Label<MAX> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl<const MAX: usize> PartialEq<String> for Label<MAX> {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Label<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer, Self::of)
    }
}

/// A folder as stored in a record: absolute, in UTF-8, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct SourcePath(PathBuf);

impl SourcePath {
    /// Converts a path that a record can store.
    ///
    /// # Errors
    /// [`ValueError`] if it is relative, too long, not UTF-8 or has control characters.
    pub fn parse(path: &Path) -> Result<Self, ValueError> {
        Self::of(path.to_owned())
    }

    fn of(path: PathBuf) -> Result<Self, ValueError> {
        let is_shown = |text: &str| text.len() <= PATH_MAX && is_label(text, PATH_MAX);
        if path.is_absolute() && path.to_str().is_some_and(is_shown) {
            return Ok(Self(path));
        }
        Err(ValueError::new("an absolute path without control characters", &path.to_string_lossy()))
    }
}

impl From<SourcePath> for PathBuf {
    fn from(path: SourcePath) -> Self {
        path.0
    }
}

impl Deref for SourcePath {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl<'de> Deserialize<'de> for SourcePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer, |text| Self::of(text.into()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_label_has_one_line_and_no_control_characters() {
        for good in ["", "ann", "Ännchen von Tharau", "日本", &"x".repeat(255)] {
            assert_eq!(Label::<255>::parse(good).unwrap(), *good);
        }
        for bad in ["a\nb", "a\u{1b}[2J", "\u{7f}", "\u{9b}31m", "\u{202e}x", "\u{2028}", &"x".repeat(256)] {
            assert!(Label::<255>::parse(bad).is_err(), "{bad:?}");
            let kept = Label::<255>::from(bad);
            assert_eq!(Label::<255>::parse(&kept).unwrap(), kept, "{bad:?}");
        }
    }

    #[test]
    fn an_error_shows_a_bounded_excerpt_without_control_characters() {
        let error = ValueError::new("a port", &format!("\u{1b}[2J\u{202e}{}", "x".repeat(100)));
        let text = error.to_string();
        assert!(text.starts_with("\"\\u{1b}[2J\\u{202e}xx") && text.ends_with("... is not a port"), "{text}");
        assert!(text.chars().all(is_printable) && text.len() < 120, "{text}");
    }

    #[test]
    fn a_source_path_is_absolute_and_printable() {
        assert!(SourcePath::parse(Path::new("/home/ann/stacks/web box")).is_ok());
        for bad in ["", "stacks/web", "./web", "/a\nb", "/a\u{1b}[2Jb", "/a\0b"] {
            assert!(SourcePath::parse(Path::new(bad)).is_err(), "{bad:?}");
        }
    }
}
