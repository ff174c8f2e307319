//! What kind of document it is, and the few things that goloo must know of what is in it.

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::problem;
use crate::spec::Problem;

/// What cloud-init will take the document for, by its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// YAML for cloud-init's modules.
    CloudConfig,
    /// YAML once cloud-init has rendered it in the machine.
    Jinja,
    /// A MIME message: several documents in one.
    Mime,
    /// Anything else; its MIME type.
    Other(&'static str),
}

/// First lines and what they mean (cloud-init's `INCLUSION_TYPES_MAP`).
const HEADERS: [(&str, Kind); 9] = [
    ("#cloud-config-jsonp", Kind::Other("text/cloud-config-jsonp")),
    ("#cloud-config-archive", Kind::Other("text/cloud-config-archive")),
    ("#cloud-config", Kind::CloudConfig),
    ("#cloud-boothook", Kind::Other("text/cloud-boothook")),
    ("#include-once", Kind::Other("text/x-include-once-url")),
    ("#include", Kind::Other("text/x-include-url")),
    ("#part-handler", Kind::Other("text/part-handler")),
    ("#!", Kind::Other("text/x-shellscript")),
    ("## template: jinja", Kind::Jinja),
];

impl Kind {
    /// The kind of a document, or what is wrong with its first line.
    pub fn of(text: &str) -> Result<Self, Problem> {
        let first = text.lines().next().unwrap_or_default().trim_end();
        let is_mime =
            |name: &str| first.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        if is_mime("content-type:") || is_mime("mime-version:") {
            return Ok(Self::Mime);
        }
        let found = HEADERS.iter().find(|(header, _)| first.starts_with(header));
        found.map(|(_, kind)| *kind).ok_or_else(|| {
            problem(
                1,
                1,
                format!("cloud-init doesn't know the first line \"{}\"", shortened(first)),
                hint_for(first),
            )
        })
    }

    /// Its type as a MIME part; a MIME message brings its own.
    pub fn mime_type(self) -> Option<&'static str> {
        match self {
            Self::CloudConfig => Some("text/cloud-config"),
            Self::Jinja => Some("text/jinja2"),
            Self::Mime => None,
            Self::Other(name) => Some(name),
        }
    }
}

fn shortened(line: &str) -> String {
    line.chars().take(40).collect()
}

fn hint_for(first: &str) -> String {
    let squeezed: String = first.to_ascii_lowercase().replace(['_', ' '], "-");
    if squeezed.starts_with("#cloud-config")
        || squeezed.starts_with("#-cloud-config")
        || squeezed.starts_with("cloud-config")
    {
        return "write exactly #cloud-config".to_owned();
    }
    if squeezed.starts_with("##-template:") || squeezed.starts_with("#template") {
        return "write ## template: goloo, or ## template: jinja".to_owned();
    }
    "begin the file with #cloud-config, or with #! for a script".to_owned()
}

/// What goloo must know of a cloud-config document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The names in `users`; `None` when there is no such list.
    pub users: Option<Vec<String>>,
    /// Whether `users` keeps the image's own user.
    pub keeps_default_user: bool,
    /// Whether `ssh_keys` sets an Ed25519 host key.
    pub sets_host_key: bool,
}

/// As much of YAML's tree as is looked at.
#[derive(Debug, Clone)]
enum Node {
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    fn get(&self, key: &str) -> Option<&Node> {
        let Self::Map(pairs) = self else { return None };
        pairs
            .iter()
            .rev()
            .find(|(name, _)| matches!(name, Self::Text(text) if text == key))
            .map(|(_, value)| value)
    }

    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// Reads a cloud-config document, or says where it isn't YAML.
pub(super) fn read(text: &str) -> Result<Facts, Problem> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = error.marker();
            problem(
                at.line(),
                at.col() + 1,
                format!("this isn't YAML: {}", error.info()),
                "mend the YAML; goloo config validate looks again",
            )
        })?;
        let (line, column) = (span.start.line(), span.start.col() + 1);
        if begins_value(&event) && follows_tab(text, line, column) {
            let message = "this isn't YAML to cloud-init: there is a tab before this";
            return Err(problem(line, column, message, "use blanks in place of tabs"));
        }
        if builder.is_at_root()
            && begins_value(&event)
            && !matches!(event, Event::MappingStart(..))
            && !is_nothing(&event)
        {
            let message = "a #cloud-config document is a mapping of keys to values";
            return Err(problem(line, column, message, "begin with a key, as runcmd: or packages:"));
        }
        builder.take(event);
    }
    Ok(builder.root.as_ref().map(facts).unwrap_or_default())
}

fn begins_value(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_))
}

fn is_nothing(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(text, ScalarStyle::Plain, ..) if matches!(&**text, "" | "~" | "null"))
}

/// PyYAML, by which cloud-init reads, takes no tab between tokens; the parser here does.
fn follows_tab(text: &str, line: usize, column: usize) -> bool {
    let line: String =
        text.lines().nth(line.saturating_sub(1)).unwrap_or_default().chars().take(column - 1).collect();
    line.trim_end_matches([' ', '\t']).len() < line.len()
        && line[line.trim_end_matches([' ', '\t']).len()..].contains('\t')
}

/// Builds the tree of the first document.
#[derive(Default)]
struct Builder {
    /// Nodes whose end hasn't come, with the numbers of their anchors, and a key that waits for its value.
    open: Vec<(Node, usize, Option<Node>)>,
    /// What anchors stand for.
    anchors: std::collections::HashMap<usize, Node>,
    root: Option<Node>,
}

impl Builder {
    fn is_at_root(&self) -> bool {
        self.root.is_none() && self.open.is_empty()
    }

    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Scalar(text, _, anchor, _) => self.done(Node::Text(text.into_owned()), anchor),
            Event::SequenceStart(anchor, _) => self.open.push((Node::List(Vec::new()), anchor, None)),
            Event::MappingStart(anchor, _) => self.open.push((Node::Map(Vec::new()), anchor, None)),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((node, anchor, _)) = self.open.pop() {
                    self.done(node, anchor);
                }
            }
            // One that stands for what it is in can't be followed.
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                self.done(node.unwrap_or(Node::Text(String::new())), 0);
            }
            _ => {}
        }
    }

    fn done(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = self.root.take().or(Some(node)),
            Some((Node::List(list), ..)) => list.push(node),
            Some((Node::Map(pairs), _, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => pairs.push((key, node)),
            },
            Some((Node::Text(_), ..)) => {}
        }
    }
}

fn facts(root: &Node) -> Facts {
    let mut facts = Facts::default();
    if let Some(users) = root.get("users") {
        let list = if let Node::List(list) = users { list.as_slice() } else { std::slice::from_ref(users) };
        let mut names = Vec::new();
        for user in list {
            match user.text().or_else(|| user.get("name").and_then(Node::text)) {
                Some("default") => facts.keeps_default_user = true,
                Some(name) => names.push(name.to_owned()),
                None => {}
            }
        }
        facts.users = Some(names);
    }
    facts.sets_host_key = root
        .get("ssh_keys")
        .is_some_and(|keys| keys.get("ed25519_private").is_some() || keys.get("ed25519_public").is_some());
    facts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_line_says_what_it_is() {
        for (line, kind) in [
            ("#cloud-config", Kind::CloudConfig),
            ("#cloud-config  ", Kind::CloudConfig),
            ("#cloud-config-archive", Kind::Other("text/cloud-config-archive")),
            ("#!/bin/bash", Kind::Other("text/x-shellscript")),
            ("## template: jinja", Kind::Jinja),
            ("Content-Type: multipart/mixed; boundary=x", Kind::Mime),
            ("#include-once", Kind::Other("text/x-include-once-url")),
        ] {
            assert_eq!(Kind::of(&format!("{line}\nx\n")).unwrap(), kind, "{line}");
        }
        for line in ["# cloud-config", "#cloud_config", "packages: [a]", "", "cloud-config"] {
            assert!(Kind::of(line).is_err(), "{line}");
        }
    }

    #[test]
    fn users_are_seen_in_every_form() {
        let facts =
            read("#cloud-config\nusers:\n  - default\n  - name: ann\n    groups: [a, b]\n  - bob\n").unwrap();
        assert_eq!(facts.users.unwrap(), ["ann", "bob"]);
        assert!(facts.keeps_default_user);
        assert_eq!(read("#cloud-config\npackages: [x]\n").unwrap(), Facts::default());
        assert_eq!(read("#cloud-config\n").unwrap(), Facts::default());
        assert!(read("#cloud-config\nssh_keys: {ed25519_private: x}\n").unwrap().sets_host_key);
    }

    #[test]
    fn broken_yaml_is_named_with_its_place() {
        let error = read("#cloud-config\nruncmd:\n  - a\n bad: [\n").unwrap_err();
        assert!(error.message.starts_with("this isn't YAML: "), "{error}");
        assert!(error.line >= 3, "{error}");
        let error = read("#cloud-config\n- a\n").unwrap_err();
        assert_eq!((error.line, error.column), (2, 1));
    }
}
