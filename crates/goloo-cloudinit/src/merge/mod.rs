//! Merges goloo's part into the text of the user's document, for a provider that accepts only a single YAML
//! document.
//!
//! The text is never reformatted: [`changes`] decides what is added where, [`edits`] finds the positions in
//! the text, [`written`] formats the added text. The result is parsed again and must be the user's tree
//! with the additions and nothing else.

mod changes;
mod edits;
mod written;

use crate::diagnostic::diagnostic_at;
use serde_json::{Map, Value};

use self::changes::OTHER_WAY;
use super::tree::{Document, Node};
use goloo_model::spec::Diagnostic;

/// The user's cloud-config document with the additions: lists are appended to (goloo's `bootcmd` comes first), and
/// if both have a value for a key, the user's is kept.
pub(super) fn merge(text: &str, additions: &Map<String, Value>) -> Result<String, Vec<Diagnostic>> {
    let document = Document::read(text).map_err(|diagnostic| vec![diagnostic])?;
    one_meaning(text).map_err(|diagnostic| vec![diagnostic])?;
    let changes = changes::changes(text, &document, additions)?;
    let merged = edits::apply(text, &document, &changes)?;
    let expected = changes::applied(document.root.clone(), &changes);
    if is_read_as(&merged, &expected) {
        return Ok(merged);
    }
    let message = "goloo's part can't be added to this document without changing it";
    Err(vec![diagnostic_at(text, 0, message, format!("write it in a simpler form, {OTHER_WAY}"))])
}

/// Refuses line breaks that the two YAML versions involved interpret differently.
fn one_meaning(text: &str) -> Result<(), Diagnostic> {
    if let Some(at) = text.find(['\u{85}', '\u{2028}', '\u{2029}']) {
        let message = "cloud-init treats this character as a line ending, and Multipass doesn't";
        return Err(diagnostic_at(
            text,
            at,
            message,
            format!("write it as an escape in double quotes, {OTHER_WAY}"),
        ));
    }
    Ok(())
}

fn is_read_as(text: &str, expected: &Node) -> bool {
    Document::read(text).is_ok_and(|document| document.root.as_ref() == Some(expected))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn merged(text: &str, additions: &Value) -> String {
        merge(text, additions.as_object().unwrap()).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"))
    }

    #[test]
    fn additions_are_inserted_at_natural_positions() {
        let text = "#cloud-config\n# Tools\npackages: [git]\nruncmd: # once\n- a # first\n# Users\nusers:\n    - b\n";
        let additions =
            json!({"users": ["c"], "runcmd": ["d"], "packages": ["e"], "new": {"f": 1}, "g": true});
        assert_eq!(
            merged(text, &additions),
            "#cloud-config\n# from goloo:\nnew:\n  f: 1\ng: true\n\n# Tools\npackages: [git, \"e\"]\n\
             runcmd: # once\n- a # first\n# from goloo:\n- \"d\"\n# Users\nusers:\n    - b\n    # from goloo:\n    - \"c\"\n"
        );
    }

    #[test]
    fn added_boot_commands_come_first() {
        let added = json!({"bootcmd": ["g"]});
        for (text, expected) in [
            (
                "#cloud-config\nbootcmd:\n  - a\n",
                "#cloud-config\nbootcmd:\n  # from goloo:\n  - \"g\"\n  - a\n",
            ),
            ("#cloud-config\nbootcmd: [a]\n", "#cloud-config\nbootcmd: [\"g\", a]\n"),
            ("#cloud-config\nbootcmd: [ ]\n", "#cloud-config\nbootcmd: [\"g\" ]\n"),
            (
                "#cloud-config\nbootcmd: &x\n- - a\n",
                "#cloud-config\nbootcmd: &x\n# from goloo:\n- \"g\"\n- - a\n",
            ),
        ] {
            assert_eq!(merged(text, &added), expected);
        }
    }

    #[test]
    fn an_existing_scalar_value_is_kept() {
        let text = "#cloud-config\na: no\n";
        assert_eq!(merged(text, &json!({"a": true})), text);
    }

    #[test]
    fn the_final_check_accepts_only_the_expected_document() {
        let expected = Document::read("a: &x [b, 'c']\nd: *x\n").unwrap().root.unwrap();
        assert!(is_read_as("a: &x\n  - b # e\n  - 'c'\nd: *x\n", &expected));
        for text in [
            "a: &x [b, c]\nd: *x\n",
            "a: [b, 'c']\nd: [b, 'c']\n",
            "a: &x ['c', b]\nd: *x\n",
            "a: &x [b, 'c', ]\nd: !t *x\n",
            "a: &x [b, 'c']\nd: *x\ne:\n",
            "d: &x [b, 'c']\na: *x\n",
            "a: &x !!seq [b, 'c']\nd: *x\n",
            "a: &x [b, 'c']\nd: *x\n---\n",
            "a: &x [b, 'c'\nd: *x\n",
            "",
        ] {
            assert!(!is_read_as(text, &expected), "{text}");
        }
    }
}
