//! The kind of a document, and the few facts that goloo needs about its content.

use super::tree::{Content, Document, Node};
use crate::diagnostic::diagnostic_at;
use goloo_model::spec::Diagnostic;

/// How cloud-init will interpret the document, according to its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// YAML for cloud-init's modules.
    CloudConfig,
    /// YAML after cloud-init has rendered it in the machine.
    Jinja,
    /// A MIME message containing several documents.
    Mime,
    /// Anything else, with its MIME type.
    Other(&'static str),
}

/// How strictly a header must be written to be accepted by the handler of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Upper or lower case, after blank lines and blanks.
    Any,
    /// Upper or lower case, in the first column of any line.
    FirstColumn,
    /// Upper or lower case, at the very start.
    FirstLine,
    /// Lower case, after blank lines.
    LowerCase,
    /// Lower case, at the very start.
    Exact,
}

/// Headers, their kinds (cloud-init's `INCLUSION_TYPES_MAP`), and their forms; a header precedes
/// those that are its prefixes.
const HEADERS: [(&str, Kind, Form); 9] = [
    ("#cloud-config-jsonp", Kind::Other("text/cloud-config-jsonp"), Form::LowerCase),
    ("#cloud-config-archive", Kind::Other("text/cloud-config-archive"), Form::Any),
    ("#cloud-config", Kind::CloudConfig, Form::Any),
    ("#cloud-boothook", Kind::Other("text/cloud-boothook"), Form::Exact),
    ("#include-once", Kind::Other("text/x-include-once-url"), Form::FirstColumn),
    ("#include", Kind::Other("text/x-include-url"), Form::FirstColumn),
    ("#part-handler", Kind::Other("text/part-handler"), Form::Any),
    ("#!", Kind::Other("text/x-shellscript"), Form::FirstLine),
    ("## template: jinja", Kind::Jinja, Form::FirstLine),
];

impl Kind {
    /// The kind of a document, or the problem with its first line.
    pub fn of(text: &str) -> Result<Self, Diagnostic> {
        let start = header_start(text);
        let rest = &text[start..];
        let begins_with = |header: &str| {
            rest.get(..header.len()).is_some_and(|written| written.eq_ignore_ascii_case(header))
        };
        if let Some((header, kind, form)) = HEADERS.iter().find(|(header, _, _)| begins_with(header)) {
            return form.check(text, start, header).map(|()| *kind);
        }
        if is_message(text) {
            return Ok(Self::Mime);
        }
        let first = rest.lines().next().unwrap_or_default().trim_end();
        let message = format!("cloud-init doesn't recognize the first line \"{}\"", shortened(first));
        Err(diagnostic_at(text, start, message, hint_for(first, start)))
    }

    /// Its type as a MIME part.
    pub fn mime_type(self) -> &'static str {
        match self {
            Self::CloudConfig => "text/cloud-config",
            Self::Jinja => "text/jinja2",
            Self::Mime => "multipart/mixed",
            Self::Other(name) => name,
        }
    }

    /// Whether cloud-init splits it into several documents, which may fail, before it runs any.
    pub fn is_taken_apart(self) -> bool {
        match self {
            Self::Mime => true,
            Self::Other(name) => {
                matches!(name, "text/x-include-url" | "text/x-include-once-url" | "text/cloud-config-archive")
            }
            Self::CloudConfig | Self::Jinja => false,
        }
    }
}

impl Form {
    fn check(self, text: &str, start: usize, header: &str) -> Result<(), Diagnostic> {
        let line_start = text[..start].rfind('\n').map_or(0, |line_end| line_end + 1);
        let is_lower = text[start..].starts_with(header);
        let (is_taken, what) = match self {
            Self::Any => (true, ""),
            Self::FirstColumn => (start == line_start, "without leading spaces"),
            Self::FirstLine => (start == 0, "at the very start of the file"),
            Self::LowerCase => (is_lower, "in lower case"),
            Self::Exact => (start == 0 && is_lower, "in lower case, at the very start of the file"),
        };
        if is_taken {
            return Ok(());
        }
        let message = format!("cloud-init accepts \"{header}\" only {what}");
        let hint =
            if is_lower { "remove the text before it".to_owned() } else { format!("write exactly {header}") };
        Err(diagnostic_at(text, start, message, hint))
    }
}

/// The position of the first word, in bytes: cloud-init ignores leading blanks.
pub(super) fn header_start(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

/// Whether a text is a MIME message: it begins with headers, at least one of which is specific to messages, or with the
/// line of an envelope. Inside goloo's own message it doesn't need a `MIME-Version`.
fn is_message(text: &str) -> bool {
    let lines = text.lines().skip_while(|line| line.starts_with("From "));
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    let is_header = |line: &&str| {
        line.starts_with([' ', '\t']) || line.split_once(':').is_some_and(|(name, _)| is_name(name))
    };
    let of_message = |line: &str| line.starts_with("mime-version:") || line.starts_with("content-type:");
    lines.take_while(is_header).any(|line| of_message(&line.to_ascii_lowercase()))
}

fn shortened(line: &str) -> String {
    line.chars().take(40).collect()
}

fn hint_for(first: &str, start: usize) -> String {
    let squeezed: String = first.to_ascii_lowercase().replace(['_', ' '], "-");
    if squeezed.starts_with("#cloud-config")
        || squeezed.starts_with("#-cloud-config")
        || squeezed.starts_with("cloud-config")
    {
        return "write exactly #cloud-config".to_owned();
    }
    if start > 0 && squeezed.starts_with("##-template:-goloo") {
        return "remove the text before it".to_owned();
    }
    if squeezed.starts_with("##-template:") || squeezed.starts_with("#template") {
        return "write ## template: goloo, or ## template: jinja".to_owned();
    }
    if squeezed.starts_with("mime-version:") || squeezed.starts_with("content-type:") {
        return "remove the blank lines before the message".to_owned();
    }
    "begin the file with #cloud-config, or with #! for a script".to_owned()
}

/// What goloo needs to know about a cloud-config document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The names in `users`; `None` if there is no such list.
    pub users: Option<Vec<String>>,
    /// Whether `users` keeps the image's own user.
    pub keeps_default_user: bool,
    /// The document's name for the image's own user.
    pub default_user: Option<String>,
    /// Whether `ssh_keys` sets an Ed25519 host key.
    pub sets_host_key: bool,
}

/// Parses a cloud-config document, or reports where it isn't valid YAML.
pub(super) fn read(text: &str) -> Result<Facts, Diagnostic> {
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
    facts.default_user = default_user(document, root);
    // A user in this old form is added to every list.
    facts.keeps_default_user |= document.get(root, "user").is_some_and(|user| !user.is_null());
    let has = |keys: &Node, name| document.get(keys, name).is_some();
    facts.sets_host_key = document
        .get(root, "ssh_keys")
        .is_some_and(|keys| has(keys, "ed25519_private") || has(keys, "ed25519_public"));
    facts
}

/// `user`, a name or a mapping, takes precedence over `system_info.default_user`.
fn default_user(document: &Document, root: &Node) -> Option<String> {
    let in_system_info = || document.get(document.get(root, "system_info")?, "default_user");
    let named = |user: &Node| {
        let name = user.text().or_else(|| document.get(user, "name").and_then(Node::text));
        name.map(str::to_owned)
    };
    document.get(root, "user").and_then(named).or_else(|| in_system_info().and_then(named))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_line_determines_the_kind_of_document() {
        for (text, kind) in [
            ("#cloud-config", Kind::CloudConfig),
            ("#cloud-config  ", Kind::CloudConfig),
            ("#Cloud-Config", Kind::CloudConfig),
            ("\n \n  #cloud-config", Kind::CloudConfig),
            ("#cloud-config-archive", Kind::Other("text/cloud-config-archive")),
            ("\n#Cloud-Config-Archive", Kind::Other("text/cloud-config-archive")),
            ("#!/bin/bash", Kind::Other("text/x-shellscript")),
            ("## template: jinja", Kind::Jinja),
            ("## Template: Jinja", Kind::Jinja),
            ("Content-Type: multipart/mixed; boundary=x", Kind::Mime),
            ("Subject: x\nMIME-Version: 1.0\nContent-Type: text/x-shellscript", Kind::Mime),
            ("From nobody Sat Apr  1 00:00:00 2023\nX-A: b\nmime-version: 1.0", Kind::Mime),
            ("Content-Type: multipart/mixed;\n boundary=x\nX: y\n\n--x\nMIME-Version: 1.0", Kind::Mime),
            ("#include-once", Kind::Other("text/x-include-once-url")),
            ("\n#Include\nhttps://example.com", Kind::Other("text/x-include-url")),
        ] {
            assert_eq!(Kind::of(&format!("{text}\nx\n")).unwrap(), kind, "{text}");
        }
        for text in [
            "# cloud-config",
            "#cloud_config",
            "packages: [a]",
            "",
            "\n\n",
            "cloud-config",
            "runcmd: [x]\n# MIME-Version: 1.0",
            "\nMIME-Version: 1.0\nContent-Type: text/cloud-config",
            "\n#!/bin/sh",
            " ## template: jinja",
            "\n## template: goloo",
            "#Cloud-Boothook",
            "\n#cloud-boothook",
            "#CLOUD-CONFIG-JSONP",
            "  #include https://example.com",
        ] {
            assert!(Kind::of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn users_are_read_in_every_form() {
        let facts =
            read("#cloud-config\nusers:\n  - default\n  - name: ann\n    groups: [a, b]\n  - bob\n").unwrap();
        assert_eq!(facts.users.unwrap(), ["ann", "bob"]);
        assert!(facts.keeps_default_user);
        assert_eq!(read("#cloud-config\npackages: [x]\n").unwrap(), Facts::default());
        assert_eq!(read("#cloud-config\n").unwrap(), Facts::default());
        assert!(read("#cloud-config\nssh_keys: {ed25519_private: x}\n").unwrap().sets_host_key);
    }

    #[test]
    fn invalid_yaml_is_reported_with_its_position() {
        let error = read("#cloud-config\nruncmd:\n  - a\n bad: [\n").unwrap_err();
        assert!(error.message.starts_with("invalid YAML: "), "{error}");
        assert!(error.line >= 3, "{error}");
        let error = read("#cloud-config\n- a\n").unwrap_err();
        assert_eq!((error.line, error.column), (2, 1));
    }
}
