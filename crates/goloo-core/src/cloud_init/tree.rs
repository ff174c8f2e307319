//! A YAML document as a tree whose nodes know their places in the text.

use std::collections::HashMap;

pub(super) use libyaml_safer::ScalarStyle;
use libyaml_safer::{Encoding, Event, EventData, Mark, Parser};

use super::problem;
use super::strict::{Readable, byte};
use crate::spec::{Problem, VALUES_MAX, position};

/// More levels than this PyYAML can't load either: it calls itself for each.
pub(super) const DEPTH_MAX: usize = 200;
/// The longest key, in bytes: libyaml's own limit for one without a question mark.
const KEY_MAX: usize = 1024;
/// How many merge keys are followed one through another.
const MERGES_MAX: usize = 8;

/// A text's document.
#[derive(Debug, Clone, Default)]
pub(super) struct Document {
    /// Its only value; `None` where there are only comments.
    pub root: Option<Node>,
    /// Where its `---` ends, in bytes.
    pub marked_until: Option<usize>,
    /// The anchors that aliases name.
    aliased: Vec<usize>,
}

/// A value. Two are equal when they mean the same and have the same anchors, wherever they are.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it begins, in bytes, with its anchor and tag.
    pub start: usize,
    /// Right behind a scalar or alias; for an empty one where it begins. A block text that the file's end cuts
    /// off counts as ended. For a list or mapping at its
    /// bracket, or at whatever comes next.
    pub end: usize,
    /// The anchor's number; 0 for none.
    pub anchor: usize,
    /// Its tag, written out.
    pub tag: Option<String>,
    /// What it is.
    pub content: Content,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        (self.anchor, &self.tag, &self.content) == (other.anchor, &other.tag, &other.content)
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Scalar(String, ScalarStyle),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    /// Stands for the node with this anchor.
    Alias(usize),
}

impl Node {
    /// A node of no text, without anchor and tag.
    pub fn new(content: Content) -> Self {
        Self { start: 0, end: 0, anchor: 0, tag: None, content }
    }

    /// Whether it stands for nothing (`runcmd:`, `~`, `!!null`).
    pub fn is_null(&self) -> bool {
        let words = ["", "~", "null", "Null", "NULL"];
        match (self.tag.as_deref(), &self.content) {
            (Some("tag:yaml.org,2002:null"), Content::Scalar(..)) => true,
            // PyYAML takes what has this tag for plain.
            (None, Content::Scalar(text, ScalarStyle::Plain)) | (Some("!"), Content::Scalar(text, _)) => {
                words.contains(&text.as_str())
            }
            _ => false,
        }
    }

    /// Its text, where it is a scalar.
    pub fn text(&self) -> Option<&str> {
        if let Content::Scalar(text, _) = &self.content { Some(text) } else { None }
    }

    /// The pairs of a mapping; none where it is none.
    pub fn pairs(&self) -> &[(Node, Node)] {
        if let Content::Map(pairs) = &self.content { pairs } else { &[] }
    }

    /// What is right inside of it.
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

/// Where a mapping has a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'d> {
    Nowhere,
    /// In the mapping itself: the last such pair's number.
    Own(usize),
    /// In a mapping that `<<` brings in; the value.
    Merged(&'d Node),
}

impl Document {
    /// Reads a text's document, or says where it isn't YAML as PyYAML has it, by which cloud-init
    /// reads.
    pub fn read(text: &str) -> Result<Self, Problem> {
        // The parser panics at tags in places where it has no answer. Most of them are found before, with words
        // of their own; what is left must be no end of goloo either.
        std::panic::catch_unwind(|| Self::parse(text)).unwrap_or_else(|_| {
            let message = "goloo's YAML parser has no answer to what is in this document";
            Err(problem_at(
                text,
                0,
                message,
                "look for tags (words that begin with !), and put blanks behind them",
            ))
        })
    }

    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
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

    /// Whether an alias names the node.
    pub fn is_aliased(&self, node: &Node) -> bool {
        node.anchor != 0 && self.aliased.contains(&node.anchor)
    }

    /// What a node stands for.
    pub fn resolved<'d>(&'d self, node: &'d Node) -> &'d Node {
        let Content::Alias(anchor) = node.content else { return node };
        self.root.as_ref().and_then(|root| root.anchored(anchor)).unwrap_or(node)
    }

    /// Where a mapping has a key.
    pub fn place<'d>(&'d self, map: &'d Node, name: &str) -> Place<'d> {
        let own = map.pairs().iter().rposition(|(key, _)| self.is_key(key, name));
        match own {
            Some(index) => Place::Own(index),
            None => self.merged(map, name, MERGES_MAX).map_or(Place::Nowhere, Place::Merged),
        }
    }

    /// A mapping's value for a key, wherever it comes from.
    pub fn get<'d>(&'d self, map: &'d Node, name: &str) -> Option<&'d Node> {
        match self.place(map, name) {
            Place::Nowhere => None,
            Place::Own(index) => Some(self.resolved(&map.pairs()[index].1)),
            Place::Merged(value) => Some(self.resolved(value)),
        }
    }

    /// Whether a key is this name.
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
    /// The numbers of the anchors so far.
    anchors: HashMap<String, usize>,
    /// Nodes whose end hasn't come, with a key that waits for its value.
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

    fn not_yaml(&self, error: &libyaml_safer::Error) -> Problem {
        let at = error.problem_mark().map_or(0, |mark| self.place(mark));
        // What isn't over at the end is looked for where it begins.
        let begin = error.context_mark().filter(|_| at == self.text.len()).map(|mark| self.place(mark));
        let context = error.context().map(|context| format!("{context}, ")).unwrap_or_default();
        let message = format!("this isn't YAML: {context}{}", error.problem());
        problem_at(
            self.text,
            begin.unwrap_or(at),
            message,
            "mend the YAML; goloo config validate looks again",
        )
    }

    fn take(&mut self, event: Event) -> Result<(), Problem> {
        let (start, end) = (self.place(event.start_mark), self.place(event.end_mark));
        match event.data {
            EventData::DocumentStart { implicit, .. } => self.begin(start, (!implicit).then_some(end))?,
            EventData::Scalar { anchor, tag, value, style, .. } => {
                // Not where a tag or anchor of nothing ends.
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

    fn begin(&mut self, start: usize, marked_until: Option<usize>) -> Result<(), Problem> {
        self.documents += 1;
        if self.documents > 1 {
            let message = "a second document begins here, and cloud-init takes one";
            return Err(problem_at(self.text, start, message, "make one document of them"));
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
    ) -> Result<Node, Problem> {
        let anchor = anchor.map_or(Ok(0), |name| self.anchor(name, start))?;
        let node = Node { start, end: start, anchor, tag, content };
        self.check(&node)?;
        Ok(node)
    }

    fn anchor(&mut self, name: String, at: usize) -> Result<usize, Problem> {
        let number = self.anchors.len() + 1;
        let message = format!("this isn't YAML to cloud-init: the anchor &{name} is there twice");
        match self.anchors.insert(name, number) {
            None => Ok(number),
            Some(_) => Err(problem_at(self.text, at, message, "give one of them another name")),
        }
    }

    fn named(&self, anchor: &str, at: usize) -> Result<usize, Problem> {
        self.anchors.get(anchor).copied().ok_or_else(|| {
            let message = format!("this isn't YAML: the alias *{anchor} names no anchor before it");
            problem_at(self.text, at, message, format!("put &{anchor} before the value that it stands for"))
        })
    }

    fn check(&mut self, node: &Node) -> Result<(), Problem> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(too_many_values(self.text, node.start));
        }
        let is_key = matches!(self.open.last(), Some((Node { content: Content::Map(_), .. }, None)));
        if is_key && node.text().is_some_and(|key| key.len() > KEY_MAX) {
            let message = format!("the key is longer than {KEY_MAX} bytes");
            return Err(problem_at(self.text, node.start, message, "take a shorter key"));
        }
        let is_root = self.open.is_empty();
        if is_root && !matches!(node.content, Content::Map(_)) && !node.is_null() {
            let message = "a #cloud-config document is a mapping of keys to values";
            let hint = "begin with a key, as runcmd: or packages:";
            return Err(problem_at(self.text, node.start, message, hint));
        }
        if self.open.len() >= DEPTH_MAX {
            let message =
                format!("values are nested more than {DEPTH_MAX} deep, which cloud-init can't load");
            return Err(problem_at(self.text, node.start, message, "nest them less deep"));
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

/// More than cloud-init would get through in reasonable time, either.
pub(super) fn too_many_values(text: &str, at: usize) -> Problem {
    let message = format!("the document holds more than {VALUES_MAX} values");
    problem_at(text, at, message, "fetch what is large from cloud-init instead of writing it into it")
}

/// The line and column of a byte, with what is wrong there.
pub(super) fn problem_at(
    text: &str,
    at: usize,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Problem {
    let (line, column) = position(text, at);
    problem(line, column, message, hint)
}
