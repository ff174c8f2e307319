//! A YAML document as a tree whose nodes know their places in the text.

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::problem;
use crate::spec::{Problem, position};

/// More levels than this PyYAML can't load either: it calls itself for each.
const DEPTH_MAX: usize = 200;
/// How many merge keys are followed one through another.
const MERGES_MAX: usize = 8;

/// The first document of a text.
#[derive(Debug, Clone, Default)]
pub(super) struct Document {
    /// Its only value; `None` where there are only comments.
    pub root: Option<Node>,
    /// Where its `---` ends, in bytes.
    pub marked_until: Option<usize>,
    /// Where a second document begins, in bytes.
    pub second: Option<usize>,
    /// The anchors that aliases name.
    aliased: Vec<usize>,
}

/// A value. Two are equal when they mean the same and have the same anchors, wherever they are.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it begins, in bytes, with its anchor and tag. For a block list this may be behind the
    /// first dash.
    pub start: usize,
    /// Right behind a scalar or alias. For a list or mapping where the parser saw that it is over:
    /// at its bracket (or a comma before it), or at whatever comes next.
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

    /// Whether it stands for nothing (`runcmd:`, `~`).
    pub fn is_null(&self) -> bool {
        let words = ["", "~", "null", "Null", "NULL"];
        matches!(&self.content, Content::Scalar(text, ScalarStyle::Plain) if words.contains(&text.as_str()))
    }

    /// Its text, where it is a scalar.
    pub fn text(&self) -> Option<&str> {
        if let Content::Scalar(text, _) = &self.content { Some(text) } else { None }
    }

    /// The pairs of a mapping; none where it is none.
    pub fn pairs(&self) -> &[(Node, Node)] {
        if let Content::Map(pairs) = &self.content { pairs } else { &[] }
    }

    fn children(&self) -> Box<dyn Iterator<Item = &Node> + '_> {
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
    /// Reads a text's first document, or says where it isn't YAML.
    pub fn read(text: &str) -> Result<Self, Problem> {
        let mut builder = Builder::new(text);
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                let at = error.marker();
                let message = format!("this isn't YAML: {}", error.info());
                problem(at.line(), at.col() + 1, message, "mend the YAML; goloo config validate looks again")
            })?;
            builder.check(&event, span.start.line(), span.start.col() + 1)?;
            builder.take(event, span.start.index(), span.end.index());
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
    lines: Vec<&'t str>,
    /// The byte at which each character begins, and the end.
    bytes: Vec<usize>,
    documents: usize,
    /// Nodes whose end hasn't come, with a key that waits for its value.
    open: Vec<(Node, Option<Node>)>,
    document: Document,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str) -> Self {
        let bytes = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let lines = text.lines().collect();
        Self { text, lines, bytes, documents: 0, open: Vec::new(), document: Document::default() }
    }

    fn check(&self, event: &Event<'_>, line: usize, column: usize) -> Result<(), Problem> {
        if !begins_value(event) {
            return Ok(());
        }
        let text = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        if follows_tab(text, column) {
            let message = "this isn't YAML to cloud-init: there is a tab before this";
            return Err(problem(line, column, message, "use blanks in place of tabs"));
        }
        let is_root = self.documents <= 1 && self.open.is_empty();
        if is_root && !matches!(event, Event::MappingStart(..)) && !is_nothing(event) {
            let message = "a #cloud-config document is a mapping of keys to values";
            return Err(problem(line, column, message, "begin with a key, as runcmd: or packages:"));
        }
        if self.open.len() >= DEPTH_MAX {
            let message =
                format!("values are nested more than {DEPTH_MAX} deep, which cloud-init can't load");
            return Err(problem(line, column, message, "nest them less deep"));
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, start: usize, end: usize) {
        let [start, end] = [start, end].map(|at| self.bytes.get(at).copied().unwrap_or(self.text.len()));
        let node = |anchor, tag: Option<std::borrow::Cow<'_, Tag>>, content| {
            let tag = tag.map(|tag| format!("{}{}", tag.handle, tag.suffix));
            Node { start, end, anchor, tag, content }
        };
        match event {
            Event::DocumentStart(is_marked) => {
                self.documents += 1;
                match self.documents {
                    1 => self.document.marked_until = is_marked.then_some(end),
                    2 => self.document.second = Some(start),
                    _ => {}
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let end = self.scalar_end(&text, style, start, end);
                let content = Content::Scalar(text.into_owned(), style);
                self.done(Node { end, ..node(anchor, tag, content) });
            }
            Event::SequenceStart(anchor, tag) => {
                self.open.push((node(anchor, tag, Content::List(Vec::new())), None));
            }
            Event::MappingStart(anchor, tag) => {
                self.open.push((node(anchor, tag, Content::Map(Vec::new())), None));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((node, _)) = self.open.pop() {
                    self.done(Node { end: start, ..node });
                }
            }
            Event::Alias(anchor) => {
                self.document.aliased.push(anchor);
                self.done(node(0, None, Content::Alias(anchor)));
            }
            _ => {}
        }
    }

    /// Right behind a scalar. The parser counts what follows quotes in, blanks and comments, and a comma
    /// behind nothing.
    fn scalar_end(&self, text: &str, style: ScalarStyle, start: usize, end: usize) -> usize {
        let whole = &self.text[start..end];
        match style {
            ScalarStyle::Plain if text.is_empty() => start,
            ScalarStyle::SingleQuoted => start + quoted_length(whole, '\'').unwrap_or(whole.len()),
            ScalarStyle::DoubleQuoted => start + quoted_length(whole, '"').unwrap_or(whole.len()),
            ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => end,
        }
    }

    fn done(&mut self, node: Node) {
        match self.open.last_mut() {
            None if self.documents > 1 => {}
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

fn begins_value(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_))
}

fn is_nothing(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(text, ScalarStyle::Plain, ..) if matches!(&**text, "" | "~" | "null"))
}

/// Up to the closing quote, with whatever is in front of the opening one.
fn quoted_length(text: &str, quote: char) -> Option<usize> {
    let mut characters =
        text.char_indices().skip_while(|(_, character)| *character != quote).skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        let is_escape = character == '\\' && quote == '"'
            || character == quote
                && quote == '\''
                && characters.peek().is_some_and(|(_, next)| *next == quote);
        if is_escape {
            characters.next();
        } else if character == quote {
            return Some(at + quote.len_utf8());
        }
    }
    None
}

/// PyYAML, by which cloud-init reads, takes no tab between tokens; the parser here does.
fn follows_tab(line: &str, column: usize) -> bool {
    let before: String = line.chars().take(column - 1).collect();
    before[before.trim_end_matches([' ', '\t']).len()..].contains('\t')
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
