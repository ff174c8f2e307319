//! goloo's part written into the text of the user's document, for a provider that takes one YAML
//! document and nothing else.
//!
//! The text is never written anew: [`changes`] says what is added where, [`edits`] finds the places in
//! the text, [`written`] gives the added text. What comes out is read again and must be the user's tree
//! with the additions in it and nothing else.

mod changes;
mod edits;
mod written;

use serde_json::{Map, Value};

use super::tree::{Document, Node, problem_at};
use crate::spec::Problem;

/// What to do about whatever can't be merged.
const OTHER_WAY: &str = "or use --provider qemu";

/// The user's cloud-config document with the additions: lists are appended to (goloo's `bootcmd` comes first), and
/// of two values for one key the user's stays.
pub(super) fn merge(text: &str, additions: &Map<String, Value>) -> Result<String, Vec<Problem>> {
    let document = Document::read(text).map_err(|problem| vec![problem])?;
    one_meaning(text).map_err(|problem| vec![problem])?;
    let changes = changes::changes(text, &document, additions)?;
    let merged = edits::apply(text, &document, &changes)?;
    let expected = changes::applied(document.root.clone(), &changes);
    if is_read_as(&merged, &expected) {
        return Ok(merged);
    }
    let message = "goloo can't add its part to this document without changing it";
    Err(vec![problem_at(text, 0, message, format!("write it in a simpler form, {OTHER_WAY}"))])
}

/// The two versions of YAML on the way don't agree on all line ends.
fn one_meaning(text: &str) -> Result<(), Problem> {
    if let Some(at) = text.find(['\u{85}', '\u{2028}', '\u{2029}']) {
        let message = "this character ends a line for cloud-init, and not for Multipass";
        return Err(problem_at(
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
        merge(text, additions.as_object().unwrap()).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    #[test]
    fn additions_stand_where_a_person_would_write_them() {
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
    fn boot_commands_of_goloo_s_come_first() {
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
    fn a_value_for_one_key_stays_the_user_s() {
        let text = "#cloud-config\na: no\n";
        assert_eq!(merged(text, &json!({"a": true})), text);
    }

    #[test]
    fn nothing_but_the_expected_passes_the_last_check() {
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
