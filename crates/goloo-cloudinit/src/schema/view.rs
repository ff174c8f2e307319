//! A document as Python sees it after loading: types resolved, aliases followed, `<<` merged.

use std::collections::{HashMap, HashSet};

use super::super::scalar::{Scalar, Tag};
use super::super::tree::{Content, Document, Node};

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'d> {
    Null,
    Bool(bool),
    Whole(i128),
    Number,
    Moment,
    Text(&'d str),
    Bytes,
    List,
    Map,
    /// `!!set`, `!!omap`, `!!pairs`.
    Other,
}

/// A key of a mapping, and its value.
#[derive(Debug)]
pub(super) struct Entry<'d> {
    /// The key, if it is a text.
    pub name: Option<&'d str>,
    /// The key as written.
    pub key: &'d Node,
    /// The value as written.
    pub value: &'d Node,
}

/// The document.
#[derive(Debug)]
pub(super) struct View<'d> {
    anchors: HashMap<usize, &'d Node>,
}

impl<'d> View<'d> {
    pub fn new(document: &'d Document) -> Self {
        let mut anchors = HashMap::new();
        let mut open: Vec<&Node> = document.root.iter().collect();
        while let Some(node) = open.pop() {
            if node.anchor != 0 {
                anchors.insert(node.anchor, node);
            }
            open.extend(node.children());
        }
        Self { anchors }
    }

    /// The node that a node refers to.
    pub fn resolved(&self, node: &'d Node) -> &'d Node {
        let Content::Alias(anchor) = node.content else { return node };
        self.anchors.get(&anchor).copied().unwrap_or(node)
    }

    pub fn value(&self, node: &'d Node) -> Value<'d> {
        let node = self.resolved(node);
        let tag = Tag::of(node);
        let text = match &node.content {
            Content::Scalar(text, _) => Some(text.as_str()),
            // A mapping with a scalar tag has the value of its key "=".
            Content::Map(pairs) if !tag.is_collection() => {
                let value = pairs.iter().find(|(key, _)| Tag::of(self.resolved(key)) == Tag::Value);
                value.and_then(|(_, value)| self.resolved(value).text())
            }
            _ => None,
        };
        match (tag, text.map(|text| Scalar::new(tag, text))) {
            (Tag::Seq, _) => Value::List,
            (Tag::Map, _) => Value::Map,
            (_, Some(Ok(scalar))) => match scalar {
                Scalar::Null => Value::Null,
                Scalar::Bool(value) => Value::Bool(value),
                Scalar::Int(value) => Value::Whole(value),
                Scalar::Float(_) => Value::Number,
                Scalar::Bytes => Value::Bytes,
                Scalar::Moment => Value::Moment,
                Scalar::Text(text) => Value::Text(text),
            },
            _ => Value::Other,
        }
    }

    /// A key's text, whatever its type.
    pub fn key_text(&self, entry: &Entry<'d>) -> &'d str {
        self.resolved(entry.key).text().unwrap_or_default()
    }

    /// A list's items; empty if it isn't a list.
    pub fn items(&self, node: &'d Node) -> &'d [Node] {
        if let Content::List(items) = &node.content { items } else { &[] }
    }

    /// A mapping's entries without duplicate keys: its own take precedence over merged ones, later over earlier.
    pub fn entries(&self, node: &'d Node) -> Vec<Entry<'d>> {
        let mut entries = Vec::new();
        self.collect(node, &mut Known::default(), &mut entries);
        entries
    }

    fn collect(&self, node: &'d Node, known: &mut Known, entries: &mut Vec<Entry<'d>>) {
        // A mapping that was merged already adds nothing new.
        if !known.mappings.insert(std::ptr::from_ref(node)) {
            return;
        }
        let is_merge = |key: &'d Node| Tag::of(self.resolved(key)) == Tag::Merge;
        let (merged, own): (Vec<_>, Vec<_>) = node.pairs().iter().partition(|(key, _)| is_merge(key));
        let first = entries.len();
        for (key, value) in own.into_iter().rev() {
            let resolved = self.resolved(key);
            let name = match (Tag::of(resolved), self.value(key)) {
                (Tag::Value, _) => Some("="),
                (_, Value::Text(text)) => Some(text),
                _ => None,
            };
            if known.keys.insert(format!("{name:?} {:?}", resolved.text())) {
                entries.push(Entry { name, key, value });
            }
        }
        entries[first..].reverse();
        for (_, value) in merged {
            let value = self.resolved(value);
            let sources =
                if let Content::List(items) = &value.content { items } else { std::slice::from_ref(value) };
            for source in sources {
                self.collect(self.resolved(source), known, entries);
            }
        }
    }
}

/// The entries that were collected so far.
#[derive(Default)]
struct Known {
    keys: HashSet<String>,
    mappings: HashSet<*const Node>,
}
