//! Positions of the changes in the text.
//!
//! Keys are inserted before a mapping's first, and items before a list's first or after its last, so that the ends
//! of documents, block scalars and comments don't have to be parsed.

use crate::diagnostic::diagnostic_at;
use serde_json::Value;

use super::super::document::header_start;
use super::super::tree::{Content, Document, Node, ScalarStyle};
use super::changes::{Change, OTHER_WAY, Side};
use super::written;
use goloo_model::spec::Diagnostic;

/// Marks the added lines as goloo's.
const NOTE: &str = "# from goloo:";

/// A replacement of a range of bytes.
struct Edit {
    from: usize,
    to: usize,
    text: String,
}

/// The text with the changes applied.
pub(super) fn apply(
    text: &str,
    document: &Document,
    changes: &[Change<'_>],
) -> Result<String, Vec<Diagnostic>> {
    let page = Page::new(text);
    let edits: Vec<Result<Edit, Diagnostic>> =
        changes.iter().map(|change| page.edit(document, change)).collect();
    let (edits, diagnostics): (Vec<_>, Vec<_>) = edits.into_iter().partition(Result::is_ok);
    if !diagnostics.is_empty() {
        return Err(diagnostics.into_iter().filter_map(Result::err).collect());
    }
    let mut edits: Vec<Edit> = edits.into_iter().filter_map(Result::ok).collect();
    // Backwards, so that no edit shifts another's position.
    edits.sort_by_key(|edit| std::cmp::Reverse(edit.from));
    let mut text = text.to_owned();
    for edit in edits {
        text.replace_range(edit.from..edit.to, &edit.text);
    }
    Ok(text)
}

/// The document's text.
struct Page<'t> {
    text: &'t str,
    line_end: &'static str,
}

impl<'t> Page<'t> {
    fn new(text: &'t str) -> Self {
        let first = text.split_inclusive('\n').next().unwrap_or_default();
        Self { text, line_end: if first.ends_with("\r\n") { "\r\n" } else { "\n" } }
    }

    fn edit(&self, document: &Document, change: &Change<'_>) -> Result<Edit, Diagnostic> {
        let pair = |pair: usize| {
            let root = document.root.as_ref().expect("it has a pair");
            &root.pairs()[pair]
        };
        match change {
            Change::Keys(keys) => self.document_keys(document, keys),
            Change::ItemsOf(number, items, side) => {
                let (key, value) = pair(*number);
                self.items_of(key, value, items, *side)
            }
            Change::ValueOf(number, new) => {
                let (key, value) = pair(*number);
                self.value_of(key, value, new).ok_or_else(|| self.unclear(key))
            }
        }
    }

    fn document_keys(&self, document: &Document, keys: &[(&str, &Value)]) -> Result<Edit, Diagnostic> {
        let Some(root) = document.root.as_ref().filter(|root| !root.is_null()) else {
            return self.first_keys(document, keys);
        };
        let begin = if root.anchor == 0 { root.start } else { self.behind_anchor(root.start) };
        if self.byte(begin) == Some(b'{') {
            return Ok(self.keys_in_braces(root, begin, keys));
        }
        let indent = self.indent(begin).ok_or_else(|| self.unclear(root))?;
        let at = self.behind_content(begin, self.behind_header());
        let lines = self.noted(indent, &written::keys(keys, indent, self.line_end));
        Ok(self.insert(at, format!("{lines}{}", self.line_end)))
    }

    /// Keys for a document without any: after the header, or after the document start marker.
    fn first_keys(&self, document: &Document, keys: &[(&str, &Value)]) -> Result<Edit, Diagnostic> {
        if let Some(root) = document.root.as_ref().filter(|root| root.text() != Some("") || root.anchor != 0)
        {
            return Err(self.unclear(root));
        }
        let at = document.marked_until.map_or_else(|| self.behind_header(), |mark| self.behind_line(mark));
        let break_line = if self.text[..at].ends_with('\n') { "" } else { self.line_end };
        let lines = self.noted("", &written::keys(keys, "", self.line_end));
        Ok(self.insert(at, format!("{break_line}{lines}")))
    }

    fn keys_in_braces(&self, map: &Node, begin: usize, keys: &[(&str, &Value)]) -> Edit {
        let comma = if map.pairs().is_empty() { "" } else { ", " };
        self.insert(begin + 1, format!("{}{comma}", written::flow_keys(keys.iter().copied())))
    }

    fn items_of(&self, key: &Node, list: &Node, items: &[Value], side: Side) -> Result<Edit, Diagnostic> {
        let begin = self.begin_of(key, list).ok_or_else(|| self.unclear(key))?;
        match self.byte(begin) {
            Some(b'[') if side == Side::Front => {
                let comma = if std::ptr::eq(last_leaf(list), list) { "" } else { ", " };
                Ok(self.insert(begin + 1, format!("{}{comma}", written::flow_items(items))))
            }
            Some(b'[') => self.items_in_brackets(list, begin, items).ok_or_else(|| self.unclear(key)),
            Some(b'-') => {
                let indent = self.indent(begin).ok_or_else(|| self.unclear(key))?;
                let lines = self.noted(indent, &written::items(items, indent, self.line_end));
                match side {
                    Side::Front => Ok(self.insert(begin - indent.len(), lines)),
                    Side::Back => self.lines_behind(list, lines),
                }
            }
            _ => Err(self.unclear(key)),
        }
    }

    fn items_in_brackets(&self, list: &Node, begin: usize, items: &[Value]) -> Option<Edit> {
        let last = last_leaf(list);
        let is_empty = std::ptr::eq(last, list);
        let (at, comma) = if is_empty { (begin + 1, "") } else { self.behind_last(last.end, list.end)? };
        Some(self.insert(at, format!("{comma}{}", written::flow_items(items))))
    }

    fn lines_behind(&self, list: &Node, lines: String) -> Result<Edit, Diagnostic> {
        let last = last_leaf(list);
        if list.end < self.text.len() || self.text.ends_with('\n') {
            return Ok(self.insert(self.behind_content(list.end, last.end), lines));
        }
        if is_block_text(last) && last.end == self.text.len() {
            let message =
                "the file's last line has no line ending, and goloo can't append to it without changing it";
            return Err(diagnostic_at(
                self.text,
                last.end,
                message,
                format!("add a line ending, {OTHER_WAY}"),
            ));
        }
        Ok(self.insert(self.text.len(), format!("{}{lines}", self.line_end)))
    }

    fn value_of(&self, key: &Node, nothing: &Node, value: &Value) -> Option<Edit> {
        let text = format!(" {}", written::flow(value));
        match nothing.text() {
            Some("") if nothing.anchor == 0 => Some(self.insert(self.colon_of(key)? + 1, text)),
            Some(word) if nothing.anchor == 0 => {
                let (from, to) = (nothing.start, nothing.end);
                (&self.text[from..to] == word).then(|| Edit { from, to, text: written::flow(value) })
            }
            _ => None,
        }
    }

    /// The position after the last item of a list in brackets, and the separator needed there. Between the last scalar
    /// and the closing bracket there are only blanks, comments, commas, brackets, and the properties of an empty item.
    fn behind_last(&self, last: usize, bracket: usize) -> Option<(usize, &'static str)> {
        let (mut at, mut comma) = (last, ", ");
        loop {
            let next = self.skipped(at);
            match self.text[next..].chars().next()? {
                ']' if next == bracket => return Some((at, comma)),
                character => {
                    at = next + character.len_utf8();
                    comma = match character {
                        ',' => " ",
                        ']' | '}' => ", ",
                        // The end of a tag or anchor of an empty item, to which PyYAML would add a comma.
                        _ => " , ",
                    };
                }
            }
        }
    }

    /// The start of a key's value, after its anchor.
    fn begin_of(&self, key: &Node, value: &Node) -> Option<usize> {
        let begin = self.skipped(self.colon_of(key)? + 1);
        Some(if value.anchor == 0 { begin } else { self.behind_anchor(begin) })
    }

    fn colon_of(&self, key: &Node) -> Option<usize> {
        let at = self.skipped(key.end);
        (self.byte(at) == Some(b':')).then_some(at)
    }

    fn behind_anchor(&self, at: usize) -> usize {
        let length = self.text[at..].find([' ', '\t', '\r', '\n', '[', '{']).unwrap_or(self.text.len() - at);
        self.skipped(at + length)
    }

    /// The next position that is not blank, a line break or a comment.
    fn skipped(&self, from: usize) -> usize {
        let mut at = from;
        loop {
            at += self.text[at..].len() - self.text[at..].trim_start_matches([' ', '\t', '\r', '\n']).len();
            if self.byte(at) != Some(b'#') {
                return at;
            }
            at = self.behind_line(at);
        }
    }

    /// The first line before `at` that is followed only by comments and blank lines; not
    /// before `content`.
    fn behind_content(&self, at: usize, content: usize) -> usize {
        let mut begin = self.line_start(at);
        while begin > content {
            let previous = self.line_start(begin - 1);
            let line = self.text[previous..begin].trim();
            if previous < content || !(line.is_empty() || line.starts_with('#')) {
                break;
            }
            begin = previous;
        }
        begin
    }

    /// The text before `at` on its line, if it is only spaces.
    fn indent(&self, at: usize) -> Option<&'t str> {
        let before = &self.text[self.line_start(at)..at];
        before.bytes().all(|byte| byte == b' ').then_some(before)
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |line_end| line_end + 1)
    }

    /// The start of the line after the header, which blank lines may precede.
    fn behind_header(&self) -> usize {
        self.behind_line(header_start(self.text))
    }

    /// The start of the next line, or the end of the text.
    fn behind_line(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |length| at + length + 1)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn noted(&self, indent: &str, lines: &str) -> String {
        format!("{indent}{NOTE}{}{lines}", self.line_end)
    }

    fn insert(&self, at: usize, text: String) -> Edit {
        Edit { from: at, to: at, text }
    }

    fn unclear(&self, node: &Node) -> Diagnostic {
        let message = "goloo's part can't be added to a value in this form";
        let way = format!("write it as \"key: [value]\" or with one \"- value\" a line, {OTHER_WAY}");
        diagnostic_at(self.text, node.start, message, way)
    }
}

/// The last scalar or alias in a list; the list itself if it is empty.
fn last_leaf(node: &Node) -> &Node {
    let last = match &node.content {
        Content::List(items) => items.last(),
        Content::Map(pairs) => pairs.last().map(|(_, value)| value),
        Content::Scalar(..) | Content::Alias(_) => None,
    };
    last.map_or(node, last_leaf)
}

fn is_block_text(node: &Node) -> bool {
    use ScalarStyle::{Folded, Literal};
    matches!(&node.content, Content::Scalar(text, Literal | Folded) if text.ends_with('\n'))
}
