//! Whether a cloud-config document has the shape that cloud-init demands.
//!
//! [`keys`] describes the common keys in the words of [`shape`], [`known`] names the others. Anchors, merge
//! keys and tags count as what they stand for.

mod keys;
mod known;
mod shape;
mod view;

use std::collections::HashSet;

use super::tree::{Document, Node, problem_at};
use crate::spec::{Problem, child_pointer, nearest};
use shape::{List, Map, Shape, is_date};
use view::{Entry, Value, View};

/// What there is to say of a document's shape.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What cloud-init's schema refuses.
    pub problems: Vec<Problem>,
    /// What cloud-init passes over.
    pub warnings: Vec<Problem>,
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
    fn at(&self, node: &Node, pointer: &str, message: String, hint: impl Into<String>) -> Problem {
        Problem { pointer: pointer.to_owned(), ..problem_at(self.text, node.start, message, hint) }
    }

    fn top_level(&self, entry: &Entry<'d>, shape: &'static Shape, pointer: &str, findings: &mut Findings) {
        let problems = self.problems(entry.value, *shape, pointer);
        // What is left where all items are commented out: the modules of some versions fail at it, others don't.
        let target =
            if self.is_empty(entry.value, *shape) { &mut findings.warnings } else { &mut findings.problems };
        target.extend(problems);
        if matches!(entry.name, Some("users" | "user")) {
            findings.warnings.extend(self.sudo_true(entry.value, pointer));
        }
    }

    /// Whether a value has the right kind and nothing in it, or is no value.
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

    /// A key that no module knows; one that seems to be there for its anchor, or says that it isn't meant
    /// for cloud-init, is none.
    fn unknown(&self, entry: &Entry<'d>, pointer: &str) -> Option<Problem> {
        let name = entry.name.unwrap_or_default();
        let is_own = entry.value.anchor != 0 || name.starts_with("x-") || name.starts_with(['.', '_']);
        if is_own || known::KNOWN.contains(&name) {
            return None;
        }
        let all = keys::KEYS.iter().map(|(key, _)| *key).chain(known::KNOWN.iter().copied());
        let message =
            format!("cloud-init doesn't know the key \"{}\" and ignores it", self.written(entry.key));
        // Of a short word two letters are too many.
        let is_near = |near: &&str| 2 * strsim::damerau_levenshtein(name, near) <= name.len();
        let hint = nearest(name, all).filter(is_near).map_or_else(
            || "remove it, or begin it with x- to keep it".to_owned(),
            |near| format!("did you mean \"{near}\"?"),
        );
        Some(self.at(entry.key, pointer, message, hint))
    }

    /// cloud-init 22.4's schema takes it, and the module that makes the users fails at it.
    fn sudo_true(&self, users: &'d Node, pointer: &str) -> Vec<Problem> {
        let resolved = self.view.resolved(users);
        let list = self.view.items(resolved).iter().enumerate();
        let each = list.map(|(index, user)| (user, format!("{pointer}/{index}")));
        let all = each.chain([(users, pointer.to_owned())]);
        let sudo = all.filter_map(|(user, pointer)| {
            let entries = self.view.entries(self.view.resolved(user));
            let sudo = entries.iter().find(|entry| entry.name == Some("sudo"))?.value;
            (self.view.value(sudo) == Value::Bool(true)).then(|| {
                let message = "cloud-init fails at \"sudo: true\"".to_owned();
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

    fn problems(&self, node: &'d Node, shape: Shape, pointer: &str) -> Vec<Problem> {
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

    /// What is wrong with the nearest of several shapes.
    fn one_of(
        &self,
        node: &'d Node,
        value: Value<'d>,
        shapes: &'static [Shape],
        pointer: &str,
    ) -> Vec<Problem> {
        let is_same_kind = |shape: &Shape| {
            matches!((shape, value), (Shape::List(_), Value::List) | (Shape::Map(_), Value::Map))
        };
        let tried = shapes.iter().map(|shape| (is_same_kind(shape), self.problems(node, *shape, pointer)));
        let tried: Vec<_> = tried.collect();
        if tried.iter().any(|(_, problems)| problems.is_empty()) {
            return Vec::new();
        }
        let near =
            tried.into_iter().filter(|(is_same, _)| *is_same).min_by_key(|(_, problems)| problems.len());
        near.map_or_else(
            || vec![self.wrong(node, value, Shape::OneOf(shapes), pointer)],
            |(_, problems)| problems,
        )
    }

    fn list(&self, node: &'d Node, list: &'static List, pointer: &str) -> Vec<Problem> {
        let items = self.view.items(self.view.resolved(node));
        let mut problems = Vec::new();
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
            problems.push(self.at(node, pointer, message, hint));
        }
        let mut known = HashSet::new();
        // What an alias repeats is said once.
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            if seen.insert(std::ptr::from_ref(self.view.resolved(item))) {
                problems.extend(self.problems(item, list.items, &pointer));
            }
            if let (true, Value::Text(text)) = (list.is_unique, self.view.value(item))
                && !known.insert(text)
            {
                let message = format!("{} is there twice", described(&pointer));
                problems.push(self.at(item, &pointer, message, "remove one of the two"));
            }
        }
        problems
    }

    fn map(&self, node: &'d Node, map: &'static Map, pointer: &str) -> Vec<Problem> {
        let entries = self.view.entries(self.view.resolved(node));
        let mut problems = Vec::new();
        let names: Vec<String> =
            entries.iter().map(|entry| key_name(map, entry.name.unwrap_or_default())).collect();
        let has = |key: &&str| names.iter().any(|name| name == key);
        for key in map.required.iter().filter(|key| !has(key)) {
            let message = format!("{} has no \"{key}\"", described(pointer));
            problems.push(self.at(node, pointer, message, format!("add {key}: …")));
        }
        let of_one: Vec<_> = map.one_of.iter().filter(|key| has(key)).collect();
        if !map.one_of.is_empty() && of_one.len() != 1 {
            let (first, second) = (map.one_of[0], map.one_of[1]);
            let (message, hint) = if of_one.is_empty() {
                (format!("{} has no \"{first}\"", described(pointer)), format!("add {first}: …"))
            } else {
                let both = format!("{} has both \"{first}\" and \"{second}\"", described(pointer));
                (both, "remove one of the two".to_owned())
            };
            problems.push(self.at(node, pointer, message, hint));
        }
        if entries.len() < map.min {
            let message = format!("{} is empty", described(pointer));
            problems.push(self.at(node, pointer, message, "remove it, or add a key"));
        }
        for (entry, name) in std::iter::zip(&entries, &names) {
            problems.extend(self.entry(entry, name, map, pointer));
        }
        problems
    }

    fn entry(&self, entry: &Entry<'d>, name: &str, map: &'static Map, pointer: &str) -> Vec<Problem> {
        let place = child_pointer(pointer, self.view.key_text(entry));
        if let Some((_, shape)) = map.keys.iter().find(|(key, _)| entry.name.is_some() && *key == name) {
            return self.problems(entry.value, *shape, &place);
        }
        match map.others {
            Some(others) if entry.name.is_some_and(others.names) => {
                self.problems(entry.value, others.value, &place)
            }
            Some(others) if others.is_open && (others.names)("") => {
                self.problems(entry.value, others.value, &place)
            }
            Some(others) if others.is_open && entry.name.is_some() => Vec::new(),
            Some(others) => {
                let message =
                    format!("the key \"{}\" can't be in {}", self.written(entry.key), described(pointer));
                let is_text = entry.name.is_some();
                let hint = if is_text {
                    format!("a key here is like {}", others.form)
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
                    None => format!("the keys here are {}", known().collect::<Vec<_>>().join(", ")),
                };
                vec![self.at(entry.key, &place, message, hint)]
            }
        }
    }

    fn wrong(&self, node: &Node, value: Value<'_>, shape: Shape, pointer: &str) -> Problem {
        let written = self.written(self.view.resolved(node));
        let is = match value {
            Value::Text(text) => format!("the text \"{}\"", shortened(text)),
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
                    "a colon with a blank behind it makes a mapping; put the whole into quotes: '{}'",
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

    /// A scalar as it is written; another value's first line.
    fn written(&self, node: &Node) -> String {
        let end = if node.end > node.start { node.end } else { self.text.len() };
        shortened(self.text[node.start..end].lines().next().unwrap_or_default().trim_end())
    }
}

fn of_shape(shapes: &[Shape]) -> String {
    let hint = shapes.iter().find_map(|shape| match shape {
        Shape::List(_) => Some("write a list, each item on a line of its own behind \"- \""),
        Shape::Map(_) => Some("write a mapping: key: value"),
        Shape::Bool | Shape::False => Some("write true or false, without quotes"),
        Shape::Whole | Shape::Natural => Some("write a whole number, without quotes"),
        Shape::Text => Some("write one text"),
        Shape::Any | Shape::Null | Shape::Date | Shape::Form(..) | Shape::Words(_) | Shape::OneOf(_) => None,
    });
    hint.map_or_else(|| format!("write {}", shapes[0].name()), str::to_owned)
}

/// The name under which a mapping knows a key.
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
        format!("{}…", first.chars().take(MAX).collect::<String>())
    } else {
        first.to_owned()
    }
}
