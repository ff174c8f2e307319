//! What goloo's lists and mappings meet in the user's document.
//!
//! Where cloud-init merges the two, of a value that is neither it keeps the user's and drops goloo's
//! without a word: an empty value is replaced before, and all else is refused.

use serde_json::{Map, Value};

use super::tree::{Content, Document, Node, Place, problem_at};
use crate::spec::Problem;

/// What a value must be for goloo to add to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collection {
    List,
    Mapping,
}

impl Collection {
    /// What an addition goes into; `None` for a single value, of which the user's stays.
    pub fn of(addition: &Value) -> Option<Self> {
        match addition {
            Value::Array(_) => Some(Self::List),
            Value::Object(_) => Some(Self::Mapping),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        }
    }

    /// Whether a value is one to PyYAML.
    pub fn is(self, value: &Node) -> bool {
        match (&value.content, self) {
            (Content::List(_), Self::List) => true,
            (Content::Map(_), Self::Mapping) => value.tag.as_deref() != Some("tag:yaml.org,2002:set"),
            _ => false,
        }
    }

    /// One of nothing.
    pub fn empty(self) -> Value {
        match self {
            Self::List => Value::Array(Vec::new()),
            Self::Mapping => Value::Object(Map::new()),
        }
    }

    /// Why nothing can be added to a value that is none.
    pub fn refusal(self, text: &str, name: &str, value: &Node) -> Problem {
        let kind = match self {
            Self::List => "list",
            Self::Mapping => "mapping",
        };
        let message = format!("{name} isn't a {kind}, and goloo must add to it");
        problem_at(text, value.start, message, format!("make it a {kind}"))
    }
}

/// Keys that a document leaves empty, with what goloo's part makes of them.
pub(super) type Emptied<'k> = Vec<(&'k str, Collection)>;

/// Which of these keys a cloud-config document leaves empty. All to which nothing can be added are found
/// at once.
pub(super) fn emptied<'k>(text: &str, keys: &'k [(String, Collection)]) -> Result<Emptied<'k>, Vec<Problem>> {
    let document = Document::read(text).map_err(|problem| vec![problem])?;
    let Some(root) = &document.root else { return Ok(Vec::new()) };
    let (mut emptied, mut problems) = (Vec::new(), Vec::new());
    for (name, collection) in keys {
        match document.get(root, name) {
            Some(value) if value.is_null() => emptied.push((name.as_str(), *collection)),
            Some(value) if !collection.is(value) => problems.push(collection.refusal(text, name, value)),
            _ => {}
        }
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    if problems.is_empty() { Ok(emptied) } else { Err(problems) }
}

/// Which of these keys a template of cloud-init's own leaves empty, whatever it is rendered with: as far
/// as it reads as YAML before that, and nothing is rendered between the key and the next.
pub(super) fn emptied_in_jinja<'k>(text: &str, keys: &'k [(String, Collection)]) -> Emptied<'k> {
    let Ok(document) = Document::read(text) else { return Vec::new() };
    let Some(root) = &document.root else { return Vec::new() };
    let is_emptied = |name: &str| {
        let Place::Own(pair) = document.place(root, name) else { return false };
        let (key, value) = &root.pairs()[pair];
        let end = root.pairs().get(pair + 1).map_or(text.len(), |(next, _)| next.start);
        let is_there_once = root.pairs().iter().filter(|(key, _)| document.is_key(key, name)).count() == 1;
        let is_rendered = ["{{", "{%", "{#"].iter().any(|tag| text[key.start..end].contains(tag));
        is_there_once && value.is_null() && !is_rendered
    };
    keys.iter()
        .filter(|(name, _)| is_emptied(name))
        .map(|(name, collection)| (name.as_str(), *collection))
        .collect()
}
