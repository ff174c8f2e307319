//! Checks a cloud-config document against the structure that cloud-init requires.
//!
//! [`keys`] describes the common keys in terms of [`shape`], [`known`] lists the others. Anchors, merge
//! keys and tags are resolved first.

mod keys;
mod known;
mod shape;
mod view;

use crate::diagnostic::diagnostic_at;
use std::collections::HashSet;

use super::tree::{Document, Node};
use goloo_model::hint::Hint;
use goloo_model::spec::{DIAGNOSTICS_MAX, Diagnostic, child_pointer, nearest};
use shape::{List, Map, Shape, is_date};
use view::{Entry, Value, View};

/// The results of checking a document's structure.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Violations of cloud-init's schema.
    pub diagnostics: Vec<Diagnostic>,
    /// Things that cloud-init ignores.
    pub warnings: Vec<Diagnostic>,
}

/// Checks a document whose values can be loaded.
pub(super) fn findings(text: &str, document: &Document) -> Findings {
    let view = View::new(document);
    let walk = Walk { text, view: &view };
    let mut findings = Findings::default();
    let entries = document.root.as_ref().map(|root| view.entries(root)).unwrap_or_default();
    for entry in &entries {
        let pointer = child_pointer("", view.key_text(entry));
        match keys::KEYS.iter().find(|(key, _)| Some(*key) == entry.name) {
            Some((_, shape)) => walk.top_level(entry, shape, &pointer, &mut findings),
            None => findings.warnings.extend(walk.unknown(entry, &pointer)),
        }
    }
    findings
}

struct Walk<'d> {
    text: &'d str,
    view: &'d View<'d>,
}

impl<'d> Walk<'d> {
    fn at(&self, node: &Node, pointer: &str, message: String, hint: impl Into<Hint>) -> Diagnostic {
        Diagnostic { pointer: pointer.to_owned(), ..diagnostic_at(self.text, node.start, message, hint) }
    }

    fn top_level(&self, entry: &Entry<'d>, shape: &'static Shape, pointer: &str, findings: &mut Findings) {
        let diagnostics = self.diagnostics(entry.value, *shape, pointer);
        // Typical when all items are commented out: the modules of some versions fail, others don't.
        let target = if self.is_empty(entry.value, *shape) {
            &mut findings.warnings
        } else {
            &mut findings.diagnostics
        };
        target.extend(diagnostics);
        if matches!(entry.name, Some("users" | "user")) {
            findings.warnings.extend(self.sudo_true(entry.value, pointer));
        }
    }

    /// Whether a value is null, or is empty and of the right kind.
    fn is_empty(&self, node: &'d Node, shape: Shape) -> bool {
        let resolved = self.view.resolved(node);
        let shapes = if let Shape::OneOf(shapes) = shape { shapes } else { &[shape][..] };
        match self.view.value(node) {
            Value::Null => true,
            Value::List => {
                let is_list = shapes.iter().any(|shape| matches!(shape, Shape::List(_)));
                is_list && self.view.items(resolved).is_empty()
            }
            Value::Map => {
                let is_map = shapes.iter().any(|shape| matches!(shape, Shape::Map(map) if map.required.is_empty() && map.one_of.is_empty()));
                is_map && resolved.pairs().is_empty()
            }
            _ => false,
        }
    }

    /// Reports a key that no module knows, unless it seems to exist for its anchor, or is marked as not meant
    /// for cloud-init.
    fn unknown(&self, entry: &Entry<'d>, pointer: &str) -> Option<Diagnostic> {
        let name = entry.name.unwrap_or_default();
        let is_own = entry.value.anchor != 0 || name.starts_with("x-") || name.starts_with(['.', '_']);
        if is_own || known::KNOWN.contains(&name) {
            return None;
        }
        let all = keys::KEYS.iter().map(|(key, _)| *key).chain(known::KNOWN.iter().copied());
        let message =
            format!("cloud-init doesn't know the key \"{}\" and ignores it", self.written(entry.key));
        // In a short word two different letters are too many.
        let is_near = |near: &&str| 2 * strsim::damerau_levenshtein(name, near) <= name.len();
        let hint = nearest(name, all).filter(is_near).map_or_else(
            || "remove it, or begin it with x- to keep it".to_owned(),
            |near| format!("did you mean \"{near}\"?"),
        );
        Some(self.at(entry.key, pointer, message, hint))
    }

    /// cloud-init 22.4's schema accepts it, but the module that creates the users fails.
    fn sudo_true(&self, users: &'d Node, pointer: &str) -> Vec<Diagnostic> {
        let resolved = self.view.resolved(users);
        let list = self.view.items(resolved).iter().enumerate();
        let each = list.map(|(index, user)| (user, format!("{pointer}/{index}")));
        let all = each.chain([(users, pointer.to_owned())]);
        let sudo = all.filter_map(|(user, pointer)| {
            let entries = self.view.entries(self.view.resolved(user));
            let sudo = entries.iter().find(|entry| entry.name == Some("sudo"))?.value;
            (self.view.value(sudo) == Value::Bool(true)).then(|| {
                let message = "cloud-init fails on \"sudo: true\"".to_owned();
                self.at(
                    sudo,
                    &child_pointer(&pointer, "sudo"),
                    message,
                    "write sudo: \"ALL=(ALL) NOPASSWD:ALL\"",
                )
            })
        });
        sudo.collect()
    }

    fn diagnostics(&self, node: &'d Node, shape: Shape, pointer: &str) -> Vec<Diagnostic> {
        let value = self.view.value(node);
        match (shape, value) {
            (Shape::Any, _)
            | (Shape::Null, Value::Null)
            | (Shape::Bool, Value::Bool(_))
            | (Shape::False, Value::Bool(false))
            | (Shape::Whole, Value::Whole(_))
            | (Shape::Natural, Value::Whole(0..))
            | (Shape::Text, Value::Text(_) | Value::Bytes)
            | (Shape::Date, Value::Bytes) => Vec::new(),
            (Shape::Date, Value::Text(text)) if is_date(text) => Vec::new(),
            (Shape::Form(is_right, _), Value::Text(text)) if is_right(text) => Vec::new(),
            (Shape::Words(words), Value::Text(text)) if words.contains(&text) => Vec::new(),
            (Shape::List(list), Value::List) => self.list(node, list, pointer),
            (Shape::Map(map), Value::Map) => self.map(node, map, pointer),
            (Shape::OneOf(shapes), _) => self.one_of(node, value, shapes, pointer),
            _ => vec![self.wrong(node, value, shape, pointer)],
        }
    }

    /// The problems with the best match among several shapes.
    fn one_of(
        &self,
        node: &'d Node,
        value: Value<'d>,
        shapes: &'static [Shape],
        pointer: &str,
    ) -> Vec<Diagnostic> {
        let is_same_kind = |shape: &Shape| {
            matches!((shape, value), (Shape::List(_), Value::List) | (Shape::Map(_), Value::Map))
        };
        let tried = shapes.iter().map(|shape| (is_same_kind(shape), self.diagnostics(node, *shape, pointer)));
        let tried: Vec<_> = tried.collect();
        if tried.iter().any(|(_, diagnostics)| diagnostics.is_empty()) {
            return Vec::new();
        }
        let near = tried
            .into_iter()
            .filter(|(is_same, _)| *is_same)
            .min_by_key(|(_, diagnostics)| diagnostics.len());
        near.map_or_else(
            || vec![self.wrong(node, value, Shape::OneOf(shapes), pointer)],
            |(_, diagnostics)| diagnostics,
        )
    }

    fn list(&self, node: &'d Node, list: &'static List, pointer: &str) -> Vec<Diagnostic> {
        let items = self.view.items(self.view.resolved(node));
        let mut diagnostics = Vec::new();
        if items.len() < list.min || items.len() > list.max {
            let wanted = match (list.min, list.max) {
                (min, max) if min == max => format!("exactly {min} items"),
                (1, usize::MAX) => "at least one item".to_owned(),
                (min, usize::MAX) => format!("at least {min} items"),
                (min, max) => format!("{min} to {max} items"),
            };
            let message = format!("{} must have {wanted}, not {}", described(pointer), items.len());
            let hint =
                if items.is_empty() { "remove the key, or add an item" } else { "add or remove items" };
            diagnostics.push(self.at(node, pointer, message, hint));
        }
        let mut known = HashSet::new();
        // A problem in an aliased value is reported once.
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            // No more are shown, and finding each takes time.
            if diagnostics.len() >= DIAGNOSTICS_MAX {
                break;
            }
            let pointer = format!("{pointer}/{index}");
            if seen.insert(std::ptr::from_ref(self.view.resolved(item))) {
                diagnostics.extend(self.diagnostics(item, list.items, &pointer));
            }
            if let (true, Value::Text(text)) = (list.is_unique, self.view.value(item))
                && !known.insert(text)
            {
                let message = format!("{} appears twice", described(&pointer));
                diagnostics.push(self.at(item, &pointer, message, "remove one of the two"));
            }
        }
        diagnostics
    }

    fn map(&self, node: &'d Node, map: &'static Map, pointer: &str) -> Vec<Diagnostic> {
        let entries = self.view.entries(self.view.resolved(node));
        let mut diagnostics = Vec::new();
        let names: Vec<String> =
            entries.iter().map(|entry| key_name(map, entry.name.unwrap_or_default())).collect();
        let has = |key: &&str| names.iter().any(|name| name == key);
        for key in map.required.iter().filter(|key| !has(key)) {
            let message = format!("{} has no \"{key}\"", described(pointer));
            diagnostics.push(self.at(node, pointer, message, format!("add {key}: ...")));
        }
        let of_one: Vec<_> = map.one_of.iter().filter(|key| has(key)).collect();
        if !map.one_of.is_empty() && of_one.len() != 1 {
            let (first, second) = (map.one_of[0], map.one_of[1]);
            let (message, hint) = if of_one.is_empty() {
                (format!("{} has no \"{first}\"", described(pointer)), format!("add {first}: ..."))
            } else {
                let both = format!("{} has both \"{first}\" and \"{second}\"", described(pointer));
                (both, "remove one of the two".to_owned())
            };
            diagnostics.push(self.at(node, pointer, message, hint));
        }
        if entries.len() < map.min {
            let message = format!("{} is empty", described(pointer));
            diagnostics.push(self.at(node, pointer, message, "remove it, or add a key"));
        }
        for (entry, name) in std::iter::zip(&entries, &names) {
            if diagnostics.len() >= DIAGNOSTICS_MAX {
                break;
            }
            diagnostics.extend(self.entry(entry, name, map, pointer));
        }
        diagnostics
    }

    fn entry(&self, entry: &Entry<'d>, name: &str, map: &'static Map, pointer: &str) -> Vec<Diagnostic> {
        let place = child_pointer(pointer, self.view.key_text(entry));
        if let Some((_, shape)) = map.keys.iter().find(|(key, _)| entry.name.is_some() && *key == name) {
            return self.diagnostics(entry.value, *shape, &place);
        }
        match map.others {
            Some(others) if entry.name.is_some_and(others.names) => {
                self.diagnostics(entry.value, others.value, &place)
            }
            Some(others) if others.is_open && (others.names)("") => {
                self.diagnostics(entry.value, others.value, &place)
            }
            Some(others) if others.is_open && entry.name.is_some() => Vec::new(),
            Some(others) => {
                let message = format!(
                    "the key \"{}\" isn't allowed in {}",
                    self.written(entry.key),
                    described(pointer)
                );
                let is_text = entry.name.is_some();
                let hint = if is_text {
                    format!("keys here look like {}", others.form)
                } else {
                    "put the key into quotes".to_owned()
                };
                vec![self.at(entry.key, &place, message, hint)]
            }
            None => {
                let message =
                    format!("unknown key \"{}\" in {}", self.written(entry.key), described(pointer));
                let known = || map.keys.iter().map(|(key, _)| *key);
                let hint = match nearest(name, known()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("valid keys: {}", known().collect::<Vec<_>>().join(", ")),
                };
                vec![self.at(entry.key, &place, message, hint)]
            }
        }
    }

    fn wrong(&self, node: &Node, value: Value<'_>, shape: Shape, pointer: &str) -> Diagnostic {
        let written = self.written(self.view.resolved(node));
        let is = match value {
            Value::Text(text) => format!("the string \"{}\"", shortened(text)),
            Value::Bytes => "bytes".to_owned(),
            Value::Null => "empty".to_owned(),
            Value::Bool(value) => format!("{value} (written {written})"),
            Value::Whole(_) | Value::Number => format!("the number {written}"),
            Value::Moment => format!("the date {written}"),
            Value::List => "a list".to_owned(),
            Value::Map => "a mapping".to_owned(),
            Value::Other => "a set or a list of pairs".to_owned(),
        };
        let message = format!("{} must be {}, not {is}", described(pointer), shape.name());
        self.at(node, pointer, message, self.hint(node, value, shape, &written))
    }

    fn hint(&self, node: &Node, value: Value<'_>, shape: Shape, written: &str) -> String {
        let shapes = if let Shape::OneOf(shapes) = shape { shapes } else { &[shape][..] };
        let takes = |is_it: fn(&Shape) -> bool| shapes.iter().any(is_it);
        let is_scalar = matches!(value, Value::Bool(_) | Value::Whole(_) | Value::Number | Value::Moment);
        let words =
            shapes.iter().find_map(|shape| if let Shape::Words(words) = shape { Some(*words) } else { None });
        match value {
            _ if is_scalar && takes(|shape| matches!(shape, Shape::Text | Shape::Form(..) | Shape::Date)) => {
                format!("put it into quotes: \"{written}\"")
            }
            Value::Map if takes(|shape| matches!(shape, Shape::Text)) => {
                let line = self.text[node.start..].lines().next().unwrap_or_default().trim_end();
                format!(
                    "a colon followed by a space makes a mapping; put the whole value into quotes: '{}'",
                    line.replace('\'', "''")
                )
            }
            Value::Null => "remove it, or give it a value".to_owned(),
            Value::Text(text) => match words.map(|words| (words, nearest(text, words.iter().copied()))) {
                Some((_, Some(near))) => format!("did you mean \"{near}\"?"),
                Some((_, None)) => format!("write {}", shape.name()),
                None => of_shape(shapes),
            },
            _ => of_shape(shapes),
        }
    }

    /// A scalar as written; for other values the first line.
    fn written(&self, node: &Node) -> String {
        let end = if node.end > node.start { node.end } else { self.text.len() };
        shortened(self.text[node.start..end].lines().next().unwrap_or_default().trim_end())
    }
}

fn of_shape(shapes: &[Shape]) -> String {
    let hint = shapes.iter().find_map(|shape| match shape {
        Shape::List(_) => Some("write a list, each item on its own line after \"- \""),
        Shape::Map(_) => Some("write a mapping: key: value"),
        Shape::Bool | Shape::False => Some("write true or false, without quotes"),
        Shape::Whole | Shape::Natural => Some("write a whole number, without quotes"),
        Shape::Text => Some("write one string"),
        Shape::Any | Shape::Null | Shape::Date | Shape::Form(..) | Shape::Words(_) | Shape::OneOf(_) => None,
    });
    hint.map_or_else(|| format!("write {}", shapes[0].name()), str::to_owned)
}

/// The name under which a mapping defines a key.
fn key_name(map: &Map, name: &str) -> String {
    if map.takes_hyphens { name.replace('-', "_") } else { name.to_owned() }
}

fn described(pointer: &str) -> String {
    pointer[1..].replace('/', ".").replace("~1", "/").replace("~0", "~")
}

fn shortened(text: &str) -> String {
    const MAX: usize = 40;
    let first = text.lines().next().unwrap_or_default();
    if first.chars().count() > MAX || first.len() < text.trim_end().len() {
        format!("{}...", first.chars().take(MAX).collect::<String>())
    } else {
        first.to_owned()
    }
}
