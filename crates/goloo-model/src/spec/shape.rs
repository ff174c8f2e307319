//! Checks a value's structure against the JSON Schema of its type, and removes what doesn't match,
//! so that the rest can still be checked.

use crate::hint::{Hint, NextStep};
use serde_json::{Map, Value};

use super::diagnostic::{Diagnostic, nearest};
use super::json::{Json, child};
use crate::provider_id::ProviderId;

/// A section of `config.json` that a provider owns. Its key is the provider's id.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigSection {
    /// The provider.
    pub provider: ProviderId,
    /// The section's JSON Schema; references in it count from its root.
    pub schema: Value,
}

pub(super) struct Checked {
    /// The parts that match the schema.
    pub value: Value,
    /// The problems with those that don't.
    pub diagnostics: Vec<Diagnostic>,
    /// Pointers to state of goloo v0, which is ignored.
    pub old_state: Vec<String>,
    /// Pointers to values that were removed because their type is wrong.
    pub cut_out: Vec<String>,
}

impl Checked {
    /// Whether a problem at this pointer follows from a value that was removed: it isn't reported again.
    pub fn follows(&self, pointer: &str) -> bool {
        let is_in = |removed: &String| {
            let rest = pointer.strip_prefix(removed.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.cut_out.iter().any(is_in)
    }
}

/// Whether a key below a pointer is state written by goloo v0.
pub(super) type IsOldState = fn(pointer: &str, key: &str) -> bool;

/// Checks a whole file.
pub(super) fn check(
    json: &Json,
    schema: &Value,
    sections: &[ConfigSection],
    is_old_state: IsOldState,
) -> Checked {
    let mut walk = Walk {
        json,
        root: schema,
        sections,
        is_old_state,
        diagnostics: Vec::new(),
        old_state: Vec::new(),
        cut_out: Vec::new(),
    };
    for (pointer, offset) in &json.doubles {
        let message = format!("the key \"{}\" appears twice", last(pointer));
        walk.diagnostics.push(json.diagnostic(pointer, *offset, message, "remove one of the two".into()));
    }
    for (pointer, number) in &json.too_large {
        let message = format!("{} is {number}, which is too large for a number", described(pointer));
        walk.diagnostics.push(json.at(pointer, message, "write a smaller one, or put it into quotes"));
        walk.cut_out.push(pointer.clone());
    }
    let value = walk.value(&json.value, schema, "").unwrap_or_else(|| Value::Object(Map::new()));
    Checked { value, diagnostics: walk.diagnostics, old_state: walk.old_state, cut_out: walk.cut_out }
}

struct Walk<'a> {
    json: &'a Json,
    root: &'a Value,
    sections: &'a [ConfigSection],
    is_old_state: IsOldState,
    diagnostics: Vec<Diagnostic>,
    old_state: Vec<String>,
    cut_out: Vec<String>,
}

impl<'a> Walk<'a> {
    /// The part of the value that matches; `None` if no part does, or if it is null, which is treated as
    /// absent.
    fn value(&mut self, value: &Value, schema: &'a Value, pointer: &str) -> Option<Value> {
        if value.is_null() && !pointer.is_empty() {
            return None;
        }
        let schema = self.resolved(schema);
        let wanted = wanted(schema, self.root);
        if !wanted.iter().any(|kind| kind.fits(value)) {
            let names: Vec<_> = wanted.iter().map(|kind| kind.name()).collect();
            let names = if names.is_empty() { "something else".to_owned() } else { names.join(" or ") };
            let message = format!("{} must be {names}, not {}", described(pointer), shown(value));
            let hint = wanted.first().map_or(Kind::Anything, |kind| *kind).hint();
            self.diagnostics.push(self.json.at(pointer, message, hint));
            self.cut_out.push(pointer.to_owned());
            return None;
        }
        if let Some(hint) = self.other_word(value, schema) {
            let message = format!("{} can't be {value}", described(pointer));
            self.diagnostics.push(self.json.at(pointer, message, hint));
            self.cut_out.push(pointer.to_owned());
            return None;
        }
        match value {
            Value::Object(object) => Some(self.object(object, schema, pointer)),
            Value::Array(array) => Some(self.array(array, schema, pointer)),
            _ => Some(value.clone()),
        }
    }

    /// The suggested alternative, if only certain words are allowed and this isn't one of them.
    fn other_word(&self, value: &Value, schema: &Value) -> Option<String> {
        let word = value.as_str()?;
        let words = words(schema, self.root);
        if words.is_empty() || words.contains(&word) {
            return None;
        }
        Some(match nearest(word, words.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write \"{}\"", words.join("\" or \"")),
        })
    }

    fn object(&mut self, object: &Map<String, Value>, schema: &'a Value, pointer: &str) -> Value {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return self.map(object, schema, pointer);
        };
        let mut kept = Map::new();
        for (key, value) in object {
            let place = child(pointer, key);
            if let Some(schema) = properties.get(key) {
                if let Some(value) = self.value(value, schema, &place) {
                    kept.insert(key.clone(), value);
                }
            } else if let Some(section) = self.section(pointer, key) {
                if let Some(value) = self.in_section(value, section, &place) {
                    kept.insert(key.clone(), value);
                }
            } else if (self.is_old_state)(pointer, key) {
                self.old_state.push(place);
            } else {
                self.unknown(key, pointer, properties);
            }
        }
        Value::Object(kept)
    }

    /// An object with keys of the user's own, whose values may have a schema.
    fn map(&mut self, object: &Map<String, Value>, schema: &'a Value, pointer: &str) -> Value {
        let Some(values) = schema.get("additionalProperties").filter(|schema| schema.is_object()) else {
            return Value::Object(object.clone());
        };
        let mut kept = Map::new();
        for (key, value) in object {
            if let Some(value) = self.value(value, values, &child(pointer, key)) {
                kept.insert(key.clone(), value);
            }
        }
        Value::Object(kept)
    }

    /// The section of a provider that has this key.
    fn section(&self, pointer: &str, key: &str) -> Option<&'a ConfigSection> {
        self.sections_at(pointer).iter().find(|section| section.provider.as_str() == key)
    }

    /// Providers' sections are at the top of the file.
    fn sections_at(&self, pointer: &str) -> &'a [ConfigSection] {
        if pointer.is_empty() { self.sections } else { &[] }
    }

    /// The same check by the section's own schema.
    fn in_section(&mut self, value: &Value, section: &'a ConfigSection, pointer: &str) -> Option<Value> {
        let root = std::mem::replace(&mut self.root, &section.schema);
        let kept = self.value(value, &section.schema, pointer);
        self.root = root;
        kept
    }

    fn unknown(&mut self, key: &str, parent: &str, properties: &Map<String, Value>) {
        let pointer = &child(parent, key);
        let sections = self.sections_at(parent);
        let known =
            || properties.keys().map(String::as_str).chain(sections.iter().map(|s| s.provider.as_str()));
        let hint = match nearest(key, known()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!(
                "valid keys: {}",
                known().filter(|key| *key != "$schema").collect::<Vec<_>>().join(", ")
            ),
        };
        self.diagnostics.push(self.json.at_key(pointer, format!("unknown key \"{key}\""), hint));
    }

    fn array(&mut self, array: &[Value], schema: &'a Value, pointer: &str) -> Value {
        let Some(items) = items(schema, self.root) else { return Value::Array(array.to_vec()) };
        let elements = array.iter().enumerate().map(|(index, element)| {
            let pointer = format!("{pointer}/{index}");
            // In a list, null isn't treated as absent.
            if element.is_null() && !self.json.too_large.iter().any(|(place, _)| *place == pointer) {
                self.diagnostics.push(self.json.at(
                    &pointer,
                    format!("{} is null", described(&pointer)),
                    "remove it",
                ));
                self.cut_out.push(pointer.clone());
            }
            // A removed element leaves a placeholder, so that the others keep their indices.
            self.value(element, items, &pointer).unwrap_or_else(|| blank(items, self.root))
        });
        elements.collect()
    }

    fn resolved(&self, schema: &'a Value) -> &'a Value {
        resolved(schema, self.root)
    }
}

/// Follows a reference, and unwraps "this or null".
fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let found = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return found.map_or(schema, |found| resolved(found, root));
    }
    let branches = schema.get("anyOf").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut meant = branches.iter().filter(|branch| branch.get("type").is_none_or(|name| name != "null"));
    match (meant.next(), meant.next()) {
        (Some(one), None) => resolved(one, root),
        _ => schema,
    }
}

/// The schema of a list's elements, even if a list is only one of the allowed types.
fn items<'a>(schema: &'a Value, root: &'a Value) -> Option<&'a Value> {
    if let Some(items) = schema.get("items") {
        return Some(resolved(items, root));
    }
    let branches = schema.get("anyOf")?.as_array()?;
    branches.iter().find_map(|branch| items(resolved(branch, root), root))
}

/// The types of values that a schema can require here.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Whole,
    Boolean,
    List,
    Object,
    Anything,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        match name {
            "string" => Some(Self::Text),
            "integer" => Some(Self::Whole),
            "boolean" => Some(Self::Boolean),
            "array" => Some(Self::List),
            "object" => Some(Self::Object),
            _ => None,
        }
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Whole => value.is_u64(),
            Self::Boolean => value.is_boolean(),
            Self::List => value.is_array(),
            Self::Object => value.is_object(),
            Self::Anything => true,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Whole => "a whole number",
            Self::Boolean => "true or false",
            Self::List => "a list",
            Self::Object => "an object",
            Self::Anything => "anything",
        }
    }

    fn hint(self) -> Hint {
        let words = match self {
            Self::Text => "put it into double quotes",
            Self::Whole => "write the number without quotes, sign or fraction",
            Self::Boolean => "write true or false without quotes",
            Self::List => "put it into [ ]",
            Self::Object => "put it into { } with keys",
            Self::Anything => return NextStep::ConfigSchema.text(" shows the format"),
        };
        words.into()
    }
}

fn wanted(schema: &Value, root: &Value) -> Vec<Kind> {
    if let Some(branches) = schema.get("anyOf").and_then(Value::as_array) {
        return branches.iter().flat_map(|branch| wanted(resolved(branch, root), root)).collect();
    }
    match schema.get("type") {
        Some(Value::String(name)) => Kind::named(name).into_iter().collect(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).filter_map(Kind::named).collect(),
        _ => vec![Kind::Anything],
    }
}

/// The words that a schema allows; empty if it allows any.
fn words<'a>(schema: &'a Value, root: &'a Value) -> Vec<&'a str> {
    let branches = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    let beneath = branches.flat_map(|branch| words(resolved(branch, root), root));
    listed.filter_map(Value::as_str).chain(beneath).collect()
}

/// The placeholder for a removed element.
fn blank(schema: &Value, root: &Value) -> Value {
    match wanted(schema, root).first() {
        Some(Kind::Object) => Value::Object(Map::new()),
        Some(Kind::Whole) => Value::from(0),
        _ => Value::String(String::new()),
    }
}

fn described(pointer: &str) -> String {
    match pointer {
        "" => "the file".to_owned(),
        pointer => pointer[1..].replace('/', ".").replace("~1", "/").replace("~0", "~"),
    }
}

fn last(pointer: &str) -> String {
    pointer.rsplit('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the string \"{text}\""),
        Value::Number(number) => format!("the number {number}"),
        Value::Bool(boolean) => boolean.to_string(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Null => "null".to_owned(),
    }
}
