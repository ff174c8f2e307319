//! A YAML document as a tree whose nodes have positions in the text.

use crate::diagnostic::diagnostic_at;
use crate::limits::DEPTH_MAX;
use std::collections::HashMap;

pub(super) use libyaml_safer::ScalarStyle;
use libyaml_safer::{Encoding, Event, EventData, Mark, Parser};

use super::strict::{Readable, byte};
use goloo_model::hint::{Hint, NextStep};
use goloo_model::spec::{Diagnostic, VALUES_MAX};

/// The maximum length of a key, in bytes: libyaml's own limit for one without a question mark.
const KEY_MAX: usize = 1024;
/// The maximum number of chained merge keys.
const MERGES_MAX: usize = 8;

/// A text's document.
#[derive(Debug, Clone, Default)]
pub(super) struct Document {
    /// Its only value; `None` if there are only comments.
    pub root: Option<Node>,
    /// The end of its `---`, in bytes.
    pub marked_until: Option<usize>,
    /// The anchors that aliases refer to.
    aliased: Vec<usize>,
}

/// A value. Two are equal if they have the same meaning and the same anchors, regardless of position.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The start, in bytes, including its anchor and tag.
    pub start: usize,
    /// Directly after a scalar or alias; for an empty one its start. A block scalar that is cut off by the end of the
    /// file counts as ended. For a list or mapping the position of its bracket, or of whatever comes next.
    pub end: usize,
    /// The anchor's number; 0 for none.
    pub anchor: usize,
    /// Its tag, expanded.
    pub tag: Option<String>,
    /// Its content.
    pub content: Content,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        (self.anchor, &self.tag, &self.content) == (other.anchor, &other.tag, &other.content)
    }
}

/// The content of a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Scalar(String, ScalarStyle),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    /// A reference to the node with this anchor.
    Alias(usize),
}

impl Node {
    /// A synthetic node, without anchor and tag.
    pub fn new(content: Content) -> Self {
        Self { start: 0, end: 0, anchor: 0, tag: None, content }
    }

    /// Whether it is null (`runcmd:`, `~`, `!!null`).
    pub fn is_null(&self) -> bool {
        let words = ["", "~", "null", "Null", "NULL"];
        match (self.tag.as_deref(), &self.content) {
            (Some("tag:yaml.org,2002:null"), Content::Scalar(..)) => true,
            // PyYAML treats a scalar with this tag as plain.
            (None, Content::Scalar(text, ScalarStyle::Plain)) | (Some("!"), Content::Scalar(text, _)) => {
                words.contains(&text.as_str())
            }
            _ => false,
        }
    }

    /// Its text, if it is a scalar.
    pub fn text(&self) -> Option<&str> {
        if let Content::Scalar(text, _) = &self.content { Some(text) } else { None }
    }

    /// The pairs of a mapping; empty if it isn't one.
    pub fn pairs(&self) -> &[(Node, Node)] {
        if let Content::Map(pairs) = &self.content { pairs } else { &[] }
    }

    /// Its direct children.
    pub fn children(&self) -> Box<dyn Iterator<Item = &Node> + '_> {
        match &self.content {
            Content::List(items) => Box::new(items.iter()),
            Content::Map(pairs) => Box::new(pairs.iter().flat_map(|(key, value)| [key, value])),
            Content::Scalar(..) | Content::Alias(_) => Box::new(std::iter::empty()),
        }
    }

    fn anchored(&self, anchor: usize) -> Option<&Node> {
        if self.anchor == anchor {
            return Some(self);
        }
        self.children().find_map(|child| child.anchored(anchor))
    }
}

/// Where a key is defined in a mapping.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'d> {
    Nowhere,
    /// In the mapping itself: the index of the last such pair.
    Own(usize),
    /// In a mapping merged by `<<`: the value.
    Merged(&'d Node),
}

impl Document {
    /// Parses a document, or reports where it isn't valid YAML according to PyYAML, which cloud-init
    /// uses.
    pub fn read(text: &str) -> Result<Self, Diagnostic> {
        // The parser panics at some unexpected tags. Most of them are detected before, with a specific
        // message; the remaining ones must not crash goloo.
        std::panic::catch_unwind(|| Self::parse(text)).unwrap_or_else(|_| {
            let message = "goloo's YAML parser can't handle this document";
            Err(diagnostic_at(
                text,
                0,
                message,
                "look for tags (words that begin with !), and put a space after each",
            ))
        })
    }

    pub(super) fn parse(text: &str) -> Result<Self, Diagnostic> {
        let readable = Readable::new(text)?;
        let mut builder = Builder::new(text, &readable);
        let mut parser = Parser::new();
        parser.set_encoding(Encoding::Utf8);
        parser.set_input(readable.text.as_bytes());
        for event in parser {
            builder.take(event.map_err(|error| builder.not_yaml(&error))?)?;
        }
        Ok(builder.document)
    }

    /// Whether an alias refers to the node.
    pub fn is_aliased(&self, node: &Node) -> bool {
        node.anchor != 0 && self.aliased.contains(&node.anchor)
    }

    /// The node that a node refers to.
    pub fn resolved<'d>(&'d self, node: &'d Node) -> &'d Node {
        let Content::Alias(anchor) = node.content else { return node };
        self.root.as_ref().and_then(|root| root.anchored(anchor)).unwrap_or(node)
    }

    /// Where a key is defined in a mapping.
    pub fn place<'d>(&'d self, map: &'d Node, name: &str) -> Place<'d> {
        let own = map.pairs().iter().rposition(|(key, _)| self.is_key(key, name));
        match own {
            Some(index) => Place::Own(index),
            None => self.merged(map, name, MERGES_MAX).map_or(Place::Nowhere, Place::Merged),
        }
    }

    /// A mapping's value for a key, its own or a merged one.
    pub fn get<'d>(&'d self, map: &'d Node, name: &str) -> Option<&'d Node> {
        match self.place(map, name) {
            Place::Nowhere => None,
            Place::Own(index) => Some(self.resolved(&map.pairs()[index].1)),
            Place::Merged(value) => Some(self.resolved(value)),
        }
    }

    /// Whether a key has this name.
    pub fn is_key(&self, key: &Node, name: &str) -> bool {
        self.resolved(key).text() == Some(name)
    }

    fn merged<'d>(&'d self, map: &'d Node, name: &str, depth: usize) -> Option<&'d Node> {
        let depth = depth.checked_sub(1)?;
        let is_merge =
            |key: &Node| matches!(&key.content, Content::Scalar(text, ScalarStyle::Plain) if text == "<<");
        map.pairs().iter().filter(|(key, _)| is_merge(key)).find_map(|(_, value)| {
            let value = self.resolved(value);
            let sources =
                if let Content::List(items) = &value.content { items } else { std::slice::from_ref(value) };
            sources.iter().map(|source| self.resolved(source)).find_map(|source| {
                let own = source.pairs().iter().rev().find(|(key, _)| self.is_key(key, name));
                own.map(|(_, value)| value).or_else(|| self.merged(source, name, depth))
            })
        })
    }
}

/// Builds the tree.
struct Builder<'t> {
    text: &'t str,
    readable: &'t Readable,
    documents: usize,
    values: usize,
    /// The numbers of the known anchors.
    anchors: HashMap<String, usize>,
    /// Nodes that haven't ended, each with a key that waits for its value.
    open: Vec<(Node, Option<Node>)>,
    document: Document,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str, readable: &'t Readable) -> Self {
        Self {
            text,
            readable,
            documents: 0,
            values: 0,
            anchors: HashMap::new(),
            open: Vec::new(),
            document: Document::default(),
        }
    }

    fn place(&self, mark: Mark) -> usize {
        byte(mark.index).min(self.text.len())
    }

    fn not_yaml(&self, error: &libyaml_safer::Error) -> Diagnostic {
        let at = error.problem_mark().map_or(0, |mark| self.place(mark));
        // Something unterminated at the end of the text is reported where it begins.
        let begin = error.context_mark().filter(|_| at == self.text.len()).map(|mark| self.place(mark));
        let context = error.context().map(|context| format!("{context}, ")).unwrap_or_default();
        let message = format!("invalid YAML: {context}{}", error.problem());
        diagnostic_at(
            self.text,
            begin.unwrap_or(at),
            message,
            Hint::from("fix the YAML, then run ").step(NextStep::ConfigValidate),
        )
    }

    fn take(&mut self, event: Event) -> Result<(), Diagnostic> {
        let (start, end) = (self.place(event.start_mark), self.place(event.end_mark));
        match event.data {
            EventData::DocumentStart { implicit, .. } => self.begin(start, (!implicit).then_some(end))?,
            EventData::Scalar { anchor, tag, value, style, .. } => {
                // Not at the end of the tag or anchor of an empty value.
                let end = if style == ScalarStyle::Plain && value.is_empty() { start } else { end };
                let value = self.readable.original(value, start, end);
                let node = self.node(start, anchor, tag, Content::Scalar(value, style))?;
                self.done(Node { end, ..node });
            }
            EventData::SequenceStart { anchor, tag, .. } => {
                let node = self.node(start, anchor, tag, Content::List(Vec::new()))?;
                self.open.push((node, None));
            }
            EventData::MappingStart { anchor, tag, .. } => {
                let node = self.node(start, anchor, tag, Content::Map(Vec::new()))?;
                self.open.push((node, None));
            }
            EventData::SequenceEnd | EventData::MappingEnd => {
                if let Some((node, _)) = self.open.pop() {
                    self.done(Node { end: start, ..node });
                }
            }
            EventData::Alias { anchor } => {
                let anchor = self.named(&anchor, start)?;
                let node = self.node(start, None, None, Content::Alias(anchor))?;
                self.document.aliased.push(anchor);
                self.done(Node { end, ..node });
            }
            EventData::StreamStart { .. } | EventData::StreamEnd | EventData::DocumentEnd { .. } => {}
        }
        Ok(())
    }

    fn begin(&mut self, start: usize, marked_until: Option<usize>) -> Result<(), Diagnostic> {
        self.documents += 1;
        if self.documents > 1 {
            let message = "a second document begins here, and cloud-init accepts only one";
            return Err(diagnostic_at(self.text, start, message, "merge them into one document"));
        }
        self.document.marked_until = marked_until;
        Ok(())
    }

    fn node(
        &mut self,
        start: usize,
        anchor: Option<String>,
        tag: Option<String>,
        content: Content,
    ) -> Result<Node, Diagnostic> {
        let anchor = anchor.map_or(Ok(0), |name| self.anchor(name, start))?;
        let node = Node { start, end: start, anchor, tag, content };
        self.check(&node)?;
        Ok(node)
    }

    fn anchor(&mut self, name: String, at: usize) -> Result<usize, Diagnostic> {
        let number = self.anchors.len() + 1;
        let message = format!("cloud-init can't parse this YAML: the anchor &{name} appears twice");
        match self.anchors.insert(name, number) {
            None => Ok(number),
            Some(_) => Err(diagnostic_at(self.text, at, message, "rename one of them")),
        }
    }

    fn named(&self, anchor: &str, at: usize) -> Result<usize, Diagnostic> {
        self.anchors.get(anchor).copied().ok_or_else(|| {
            let message = format!("invalid YAML: the alias *{anchor} refers to no anchor before it");
            diagnostic_at(self.text, at, message, format!("put &{anchor} before the value that it refers to"))
        })
    }

    fn check(&mut self, node: &Node) -> Result<(), Diagnostic> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(too_many_values(self.text, node.start));
        }
        let is_key = matches!(self.open.last(), Some((Node { content: Content::Map(_), .. }, None)));
        if is_key && node.text().is_some_and(|key| key.len() > KEY_MAX) {
            let message = format!("the key is longer than {KEY_MAX} bytes");
            return Err(diagnostic_at(self.text, node.start, message, "use a shorter key"));
        }
        let is_root = self.open.is_empty();
        if is_root && !matches!(node.content, Content::Map(_)) && !node.is_null() {
            let message = "a #cloud-config document is a mapping of keys to values";
            let hint = "begin with a key, such as runcmd: or packages:";
            return Err(diagnostic_at(self.text, node.start, message, hint));
        }
        if self.open.len() >= DEPTH_MAX {
            let message =
                format!("values are nested more than {DEPTH_MAX} levels deep, which cloud-init can't load");
            return Err(diagnostic_at(self.text, node.start, message, "reduce the nesting"));
        }
        Ok(())
    }

    fn done(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.document.root = Some(node),
            Some((Node { content: Content::List(items), .. }, _)) => items.push(node),
            Some((Node { content: Content::Map(pairs), .. }, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => pairs.push((key, node)),
            },
            Some(_) => unreachable!("only lists and mappings are left open"),
        }
    }
}

/// More values than cloud-init could process in reasonable time.
pub(super) fn too_many_values(text: &str, at: usize) -> Diagnostic {
    let message = format!("the document holds more than {VALUES_MAX} values");
    diagnostic_at(text, at, message, "have cloud-init download large content instead of writing it here")
}
