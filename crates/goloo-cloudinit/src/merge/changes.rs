//! Where additions go, and which values can't be added to.

use crate::diagnostic::diagnostic_at;
use serde_json::{Map, Value};

use super::super::targets;
use super::super::tree::{Content, Document, Node, Place};
use super::written;
use goloo_model::spec::Diagnostic;

/// The alternative in hints about values that can't be merged.
pub(super) const OTHER_WAY: &str = "or use --provider qemu";

/// A single addition.
#[derive(Debug)]
pub(super) enum Change<'a> {
    /// Keys inserted before the document's own.
    Keys(Vec<(&'a str, &'a Value)>),
    /// Items added to the list that is this pair's value.
    ItemsOf(usize, &'a [Value], Side),
    /// A value for this pair, which has an empty one.
    ValueOf(usize, &'a Value),
}

/// Whether goloo's items come before or after the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Front,
    Back,
}

impl Side {
    /// What a machine needs in any case runs first.
    fn of(name: &str) -> Self {
        if name == "bootcmd" { Self::Front } else { Self::Back }
    }
}

/// The changes for the additions. All obstacles are reported at once.
pub(super) fn changes<'a>(
    text: &str,
    document: &Document,
    additions: &'a Map<String, Value>,
) -> Result<Vec<Change<'a>>, Vec<Diagnostic>> {
    let nothing = Node::new(Content::Map(Vec::new()));
    let root = document.root.as_ref().unwrap_or(&nothing);
    let target = Target { text, document, root };
    target.open("the document", root).map_err(|diagnostic| vec![diagnostic])?;
    let (mut new, mut changes, mut diagnostics) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in additions {
        match target.change(name, value) {
            Ok(Outcome::New) => new.push((name.as_str(), value)),
            Ok(Outcome::Changed(change)) => changes.push(change),
            Ok(Outcome::UserS) => {}
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    if !new.is_empty() {
        changes.push(Change::Keys(new));
    }
    diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    if diagnostics.is_empty() { Ok(changes) } else { Err(diagnostics) }
}

/// The tree with the changes applied.
pub(super) fn applied(root: Option<Node>, changes: &[Change<'_>]) -> Node {
    let mut root = root.unwrap_or_else(|| Node::new(Content::Map(Vec::new())));
    // New keys are inserted last, since they shift the indices of the pairs.
    for change in changes {
        match change {
            Change::Keys(keys) => put_first(&mut root, keys),
            Change::ItemsOf(pair, items, side) => {
                if let Content::List(list) = &mut value_of(&mut root, *pair).content {
                    let at = if *side == Side::Front { 0 } else { list.len() };
                    list.splice(at..at, items.iter().map(written::node));
                }
            }
            Change::ValueOf(pair, value) => *value_of(&mut root, *pair) = written::node(value),
        }
    }
    root
}

fn value_of(root: &mut Node, pair: usize) -> &mut Node {
    let Content::Map(pairs) = &mut root.content else { unreachable!("a pair's number comes from a mapping") };
    &mut pairs[pair].1
}

fn put_first(map: &mut Node, keys: &[(&str, &Value)]) {
    let new = keys.iter().map(|(name, value)| (written::key_node(name), written::node(value)));
    let own = std::mem::replace(&mut map.content, Content::Map(Vec::new()));
    let own = if let Content::Map(pairs) = own { pairs } else { Vec::new() };
    map.content = Content::Map(new.chain(own).collect());
}

enum Outcome<'a> {
    /// The document doesn't have the key.
    New,
    Changed(Change<'a>),
    /// The user's value is kept.
    UserS,
}

struct Target<'d> {
    text: &'d str,
    document: &'d Document,
    root: &'d Node,
}

impl Target<'_> {
    fn change<'a>(&self, name: &str, addition: &'a Value) -> Result<Outcome<'a>, Diagnostic> {
        let pair = match (self.document.place(self.root, name), addition) {
            (Place::Nowhere, _) => return Ok(Outcome::New),
            (Place::Merged(value), Value::Array(_)) => {
                let message =
                    format!("{name} comes from a merge key (<<), and what goloo adds would replace it");
                return Err(self.refusal(
                    value,
                    message,
                    "write the value in full where it is used".to_owned(),
                ));
            }
            (Place::Own(pair), Value::Array(_)) => pair,
            _ => return Ok(Outcome::UserS),
        };
        let (key, value) = &self.root.pairs()[pair];
        self.once(name, key)?;
        self.open(name, value)?;
        let change = match (addition, &value.content) {
            _ if value.is_null() => Change::ValueOf(pair, addition),
            (Value::Array(items), Content::List(_)) => Change::ItemsOf(pair, items, Side::of(name)),
            _ => return Err(targets::not_a_list(self.text, name, value)),
        };
        Ok(Outcome::Changed(change))
    }

    /// Refuses a duplicate key: it is undefined which value takes effect.
    fn once(&self, name: &str, key: &Node) -> Result<(), Diagnostic> {
        let keys = self.root.pairs().iter().filter(|(key, _)| self.document.is_key(key, name));
        if keys.count() > 1 {
            let message = format!("{name} appears twice, and only this one takes effect");
            return Err(self.refusal(key, message, "merge them into one".to_owned()));
        }
        if key.tag.is_some() {
            return Err(self.refusal(key, format!("the key {name} has a tag"), "remove the tag".to_owned()));
        }
        Ok(())
    }

    /// Refuses a value if adding to it would change something else.
    fn open(&self, name: &str, value: &Node) -> Result<(), Diagnostic> {
        let own = || "write the value in full in each place".to_owned();
        if matches!(value.content, Content::Alias(_)) {
            let message =
                format!("{name} is an alias, and what goloo adds to it would end up in both places");
            return Err(self.refusal(value, message, own()));
        }
        if self.document.is_aliased(value) {
            let message = format!(
                "{name} is used by an alias, too, and what goloo adds to it would end up in both places"
            );
            return Err(self.refusal(value, message, own()));
        }
        if value.tag.is_some() {
            let message = format!("{name} has a tag, and what goloo adds to it could change its meaning");
            return Err(self.refusal(value, message, "remove the tag".to_owned()));
        }
        Ok(())
    }

    fn refusal(&self, node: &Node, message: String, way: String) -> Diagnostic {
        diagnostic_at(self.text, node.start, message, format!("{way}, {OTHER_WAY}"))
    }
}
