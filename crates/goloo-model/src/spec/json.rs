//! JSON with positions: every value and key can be located by its JSON pointer.

use crate::hint::Hint;
use std::collections::BTreeMap;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, CommentCollectionStrategy, ParseOptions, parse_to_ast};
use serde_json::{Map, Value};

use super::diagnostic::{Diagnostic, position};
use super::limits;

#[derive(Debug)]
pub(super) struct Json {
    pub value: Value,
    /// Where each value begins, by pointer.
    places: BTreeMap<String, usize>,
    /// Where each key begins, by its value's pointer.
    keys: BTreeMap<String, usize>,
    /// Duplicate keys: pointer and position of the second one.
    pub doubles: Vec<(String, usize)>,
    /// Numbers that exceed every numeric type: pointer and text.
    pub too_large: Vec<(String, String)>,
    file: String,
    text: String,
}

impl Json {
    /// Parses strict JSON; `file` is its name in diagnostics.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Diagnostic> {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => {
                let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
                return Err(diagnostic(
                    file,
                    &before,
                    before.len(),
                    "the file isn't UTF-8",
                    "save it as UTF-8",
                ));
            }
        };
        if let Some((at, message, hint)) = limits::beyond(text) {
            return Err(diagnostic(file, text, at, &message, hint));
        }
        let options = CollectOptions { comments: CommentCollectionStrategy::Off, tokens: false };
        let parsed = parse_to_ast(text, &options, &strict()).map_err(|error| {
            let message = format!("invalid JSON: {}", lower_first(&error.kind().to_string()));
            diagnostic(
                file,
                text,
                error.range().start,
                &message,
                "fix the JSON: comments, trailing commas and single quotes are not allowed",
            )
        })?;
        let root = parsed
            .value
            .ok_or_else(|| diagnostic(file, text, 0, "the file is empty", "write at least {}"))?;
        // serde_json detects the remaining errors, such as numbers like 01 and unpaired surrogates.
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
            let at =
                text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
            let message = error.to_string();
            let message = format!("invalid JSON: {}", message.split(" at line ").next().unwrap_or(&message));
            let offset = at + error.column().saturating_sub(1);
            return Err(diagnostic(file, text, offset, &message, "fix the number or the string here"));
        }
        let mut json = Self {
            value: Value::Null,
            places: BTreeMap::new(),
            keys: BTreeMap::new(),
            doubles: Vec::new(),
            too_large: Vec::new(),
            file: file.to_owned(),
            text: text.to_owned(),
        };
        json.value = json.take(&root, String::new());
        Ok(json)
    }

    fn take(&mut self, node: &ast::Value<'_>, pointer: String) -> Value {
        self.places.insert(pointer.clone(), node.start());
        match node {
            ast::Value::StringLit(text) => Value::String(text.value.to_string()),
            ast::Value::NumberLit(number) => serde_json::from_str(number.value).unwrap_or_else(|_| {
                self.too_large.push((pointer, number.value.to_owned()));
                Value::Null
            }),
            ast::Value::BooleanLit(boolean) => Value::Bool(boolean.value),
            ast::Value::NullKeyword(_) => Value::Null,
            ast::Value::Array(array) => {
                let elements = array.elements.iter().enumerate();
                elements.map(|(index, element)| self.take(element, format!("{pointer}/{index}"))).collect()
            }
            ast::Value::Object(object) => {
                let mut map = Map::new();
                for property in &object.properties {
                    let key = property.name.as_str();
                    let child = child(&pointer, key);
                    let place = property.name.start();
                    let value = self.take(&property.value, child.clone());
                    if map.insert(key.to_owned(), value).is_some() {
                        self.doubles.push((child.clone(), place));
                    }
                    self.keys.insert(child, place);
                }
                Value::Object(map)
            }
        }
    }

    /// A diagnostic about the value at a pointer, or with the nearest one above it that is there.
    pub fn at(&self, pointer: &str, message: impl Into<String>, hint: impl Into<Hint>) -> Diagnostic {
        let mut near = pointer;
        let offset = loop {
            match (self.places.get(near), near.rfind('/')) {
                (Some(offset), _) => break *offset,
                (None, Some(slash)) => near = &near[..slash],
                (None, None) => break 0,
            }
        };
        self.diagnostic(pointer, offset, message.into(), hint.into())
    }

    /// A diagnostic about a key.
    pub fn at_key(&self, pointer: &str, message: impl Into<String>, hint: impl Into<Hint>) -> Diagnostic {
        let offset = self.keys.get(pointer).copied().unwrap_or_default();
        self.diagnostic(pointer, offset, message.into(), hint.into())
    }

    /// A diagnostic about a place.
    pub fn diagnostic(&self, pointer: &str, offset: usize, message: String, hint: Hint) -> Diagnostic {
        let diagnostic = diagnostic(&self.file, &self.text, offset, &message, hint);
        Diagnostic { pointer: pointer.to_owned(), ..diagnostic }.shortened()
    }
}

/// The pointer of a key below a pointer (RFC 6901).
pub fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn diagnostic(file: &str, text: &str, offset: usize, message: &str, hint: impl Into<Hint>) -> Diagnostic {
    let (line, column) = position(text, offset);
    let (message, hint) = (message.to_owned(), hint.into());
    Diagnostic { file: file.to_owned(), pointer: String::new(), line, column, message, hint }.shortened()
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

fn strict() -> ParseOptions {
    ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}
/// The content of a `config.json`, of which only the syntax is checked.
///
/// # Errors
/// A [`Diagnostic`] where it isn't JSON.
pub fn read_config(bytes: &[u8]) -> Result<Value, Diagnostic> {
    Json::parse("config.json", bytes).map(|json| json.value)
}
