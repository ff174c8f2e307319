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

/// The user's cloud-config document with the additions: lists are appended to, mappings get the keys
/// that they lack, and of two values for one key the user's stays.
pub(super) fn merge(text: &str, additions: &Map<String, Value>) -> Result<String, Vec<Problem>> {
    let document = Document::read(text).map_err(|problem| vec![problem])?;
    one_meaning(text, &document).map_err(|problem| vec![problem])?;
    let changes = changes::changes(text, &document, additions)?;
    let merged = edits::apply(text, &document, &changes)?;
    let expected = changes::applied(document.root.clone(), &changes);
    if is_read_as(&merged, &expected) {
        return Ok(merged);
    }
    let message = "goloo can't add its part to this document without changing it";
    Err(vec![problem_at(text, 0, message, format!("write it in a simpler form, {OTHER_WAY}"))])
}

/// Multipass would silently take the first of several documents, and the two versions of YAML on the way
/// don't agree on all line ends.
fn one_meaning(text: &str, document: &Document) -> Result<(), Problem> {
    if let Some(at) = document.second {
        let message = "a second document begins here, and Multipass takes one";
        return Err(problem_at(text, at, message, format!("make one document of them, {OTHER_WAY}")));
    }
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
    Document::read(text)
        .is_ok_and(|document| document.second.is_none() && document.root.as_ref() == Some(expected))
}
