//! What kind of document it is, and the few things that goloo must know of what is in it.

use super::problem;
use super::tree::{Content, Document, Node};
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

/// Reads a cloud-config document, or says where it isn't YAML.
pub(super) fn read(text: &str) -> Result<Facts, Problem> {
    let document = Document::read(text)?;
    Ok(document.root.as_ref().map(|root| facts(&document, root)).unwrap_or_default())
}

fn facts(document: &Document, root: &Node) -> Facts {
    let mut facts = Facts::default();
    if let Some(users) = document.get(root, "users").filter(|users| !users.is_null()) {
        let list = if let Content::List(list) = &users.content { list } else { std::slice::from_ref(users) };
        let mut names = Vec::new();
        for user in list.iter().map(|user| document.resolved(user)) {
            match user.text().or_else(|| document.get(user, "name").and_then(Node::text)) {
                Some("default") => facts.keeps_default_user = true,
                Some(name) => names.push(name.to_owned()),
                None => {}
            }
        }
        facts.users = Some(names);
    }
    let has = |keys: &Node, name| document.get(keys, name).is_some();
    facts.sets_host_key = document
        .get(root, "ssh_keys")
        .is_some_and(|keys| has(keys, "ed25519_private") || has(keys, "ed25519_public"));
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
