//! Finds values that PyYAML's safe loader, which cloud-init uses, can't construct although it can parse them:
//! cloud-init then drops the whole document. Also finds duplicate keys, of which it takes the last.

use crate::diagnostic::diagnostic_at;
use std::collections::HashMap;

use super::scalar::{Scalar, Tag};
use super::template;
use super::tree::{Content, Document, Node};
use goloo_model::hint::Hint;
use goloo_model::spec::{DIAGNOSTICS_MAX, Diagnostic, child_pointer};

/// The problems with a document's values.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Values that can't be constructed.
    pub diagnostics: Vec<Diagnostic>,
    /// Duplicate keys.
    pub repeated: Vec<Repeated>,
}

/// A duplicate key in a mapping.
#[derive(Debug)]
pub(super) struct Repeated {
    /// The value, as a JSON pointer.
    pub pointer: String,
    /// The key as written.
    pub key: String,
    /// The positions of its first and second occurrence, in bytes.
    pub places: [usize; 2],
}

/// Checks all values of a document.
pub(super) fn findings(text: &str, document: &Document) -> Findings {
    let mut walk = Walk { text, document, open: Vec::new(), found: Findings::default() };
    if let Some(root) = &document.root {
        walk.value(root, "");
        if !matches!(Tag::of(root), Tag::Map | Tag::Null | Tag::Unknown(_)) {
            walk.refuse(root.start, "", "the document's tag is not a mapping tag", "remove the tag");
        }
    }
    walk.found
}

/// The identity of a key: keys that are equal in Python have the same one.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key<'d> {
    Null,
    /// True equals 1, and 1.0 equals 1.
    Number(i128),
    Float(u64),
    Text(&'d str),
    Other(&'d str),
}

impl<'d> Key<'d> {
    fn of(node: &'d Node) -> Option<Self> {
        let text = node.text()?;
        Some(match Scalar::new(Tag::of(node), text).ok()? {
            Scalar::Null => Self::Null,
            Scalar::Bool(value) => Self::Number(value.into()),
            Scalar::Int(value) => Self::Number(value),
            Scalar::Float(value) => Self::Float(value.to_bits()),
            Scalar::Bytes | Scalar::Moment => Self::Other(text),
            Scalar::Text(text) => Self::Text(text),
        })
    }
}

struct Walk<'d> {
    text: &'d str,
    document: &'d Document,
    /// The anchors of the values that are being visited.
    open: Vec<usize>,
    found: Findings,
}

impl<'d> Walk<'d> {
    fn refuse(&mut self, at: usize, pointer: &str, what: &str, hint: impl Into<Hint>) {
        // No more are shown, and finding each takes time.
        if self.found.diagnostics.len() >= DIAGNOSTICS_MAX {
            return;
        }
        let diagnostic = diagnostic_at(self.text, at, format!("cloud-init can't load this: {what}"), hint);
        self.found.diagnostics.push(Diagnostic { pointer: pointer.to_owned(), ..diagnostic });
    }

    fn value(&mut self, node: &'d Node, pointer: &str) {
        if let Content::Alias(anchor) = node.content {
            if self.open.contains(&anchor) {
                self.refuse(node.start, pointer, "the value contains itself", "write the value in full");
            }
            return;
        }
        self.open.push(node.anchor);
        match (Tag::of(node), &node.content) {
            (Tag::Unknown(tag), _) => {
                let what = format!("the tag {} is unknown", Tag::written(tag));
                self.refuse(node.start, pointer, &what, "remove the tag, or put the text into quotes");
            }
            (tag, Content::Scalar(text, _)) => self.scalar(node, tag, text, pointer),
            (Tag::Seq, Content::List(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(item, &format!("{pointer}/{index}"));
                }
            }
            (Tag::Pairs, Content::List(items)) => self.pairs(node, items, pointer),
            (Tag::Map | Tag::Set, Content::Map(pairs)) => self.mapping(pairs, pointer),
            (tag, Content::Map(pairs)) if !tag.is_collection() => self.scalar_in(node, tag, pairs, pointer),
            _ => self.wrong_kind(node, pointer),
        }
        self.open.pop();
    }

    fn wrong_kind(&mut self, node: &Node, pointer: &str) {
        let what = "its tag is for another type of value";
        self.refuse(node.start, pointer, what, "remove the tag");
    }

    fn scalar(&mut self, node: &Node, tag: Tag<'_>, text: &str, pointer: &str) {
        match (tag, Scalar::new(tag, text)) {
            (Tag::Merge | Tag::Value, _) => {
                let what = format!("\"{text}\" alone has a special meaning in YAML");
                self.refuse(node.start, pointer, &what, format!("put it into quotes: \"{text}\""));
            }
            (tag, _) if tag.is_collection() => self.wrong_kind(node, pointer),
            (_, Err(what)) => {
                let hint = if node.tag.is_some() {
                    "remove the tag"
                } else {
                    "put it into quotes to make it a string"
                };
                self.refuse(node.start, pointer, &what, hint);
            }
            _ => {}
        }
    }

    /// A mapping with a scalar tag: PyYAML uses the value of its key `=`.
    fn scalar_in(&mut self, node: &Node, tag: Tag<'_>, pairs: &'d [(Node, Node)], pointer: &str) {
        let is_value = |key: &Node| Tag::of(self.document.resolved(key)) == Tag::Value;
        let value =
            pairs.iter().find(|(key, _)| is_value(key)).map(|(_, value)| self.document.resolved(value));
        match value.map(|value| (value, value.text())) {
            Some((value, Some(text))) => self.scalar(value, tag, text, pointer),
            _ => self.wrong_kind(node, pointer),
        }
    }

    /// The items of `!!omap` and `!!pairs`.
    fn pairs(&mut self, node: &Node, items: &'d [Node], pointer: &str) {
        for (index, item) in items.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            match self.document.resolved(item).pairs() {
                [(key, value)] => {
                    self.value(key, &pointer);
                    self.value(value, &pointer);
                }
                _ => {
                    let what = "each item of this list must be a mapping with one key";
                    self.refuse(item.start.max(node.start), &pointer, what, "write \"- key: value\"");
                }
            }
        }
    }

    fn mapping(&mut self, pairs: &'d [(Node, Node)], pointer: &str) {
        let mut known: HashMap<Key<'d>, usize> = HashMap::new();
        for (key, value) in pairs {
            let resolved = self.document.resolved(key);
            let name = child_pointer(pointer, resolved.text().unwrap_or_default());
            match Tag::of(resolved) {
                Tag::Merge => {
                    self.merged(key, value, &name);
                    continue;
                }
                Tag::Value => {}
                // An unknown tag is reported for the value.
                tag if !tag.is_collection() => self.value(key, &name),
                _ => self.unhashable(key, pointer),
            }
            let first = Key::of(resolved).and_then(|key_value| known.insert(key_value, key.start));
            if let Some(first) = first {
                let text = resolved.text().unwrap_or_default().to_owned();
                let places = [first, key.start];
                self.found.repeated.push(Repeated { pointer: name.clone(), key: text, places });
            }
            self.value(value, &name);
        }
    }

    /// The entries that `<<` merges.
    fn merged(&mut self, key: &Node, value: &'d Node, pointer: &str) {
        let resolved = self.document.resolved(value);
        let sources =
            if let Content::List(items) = &resolved.content { items } else { std::slice::from_ref(resolved) };
        let is_mapping = |source: &Node| matches!(self.document.resolved(source).content, Content::Map(_));
        if !sources.iter().all(is_mapping) {
            let what = "<< needs a mapping or a list of mappings";
            self.refuse(
                key.start,
                pointer,
                what,
                "write \"<<: *name\" with &name at a mapping, or quote the key: \"<<\"",
            );
            return;
        }
        // The target of an alias is checked where it is defined.
        if !matches!(value.content, Content::Alias(_)) {
            for source in sources {
                self.mapping(source.pairs(), pointer);
            }
        }
    }

    fn unhashable(&mut self, key: &'d Node, pointer: &str) {
        let is_braced =
            self.text[..key.start].trim_end().ends_with('{') && self.text[key.start..].starts_with('{');
        if is_braced {
            let end = self.text[key.start..].find("}}").map_or(self.text.len(), |end| key.start + end + 2);
            let braces = format!("{{{}", &self.text[key.start..end]);
            let new = template::old_forms(&braces).pop().map_or(braces.clone(), |(_, new)| new);
            let what = format!("{braces} is a mapping used as a key");
            let hint = format!(
                "begin the file with \"## template: goloo\" to have {new} rendered, or put it into quotes to keep it as text"
            );
            self.refuse(key.start - 1, pointer, &what, hint);
            return;
        }
        let what = "the key is a list or a mapping";
        self.refuse(key.start, pointer, what, "use a string as the key; quote it if it begins with [ or {");
    }
}
