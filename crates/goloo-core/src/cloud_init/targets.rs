//! What goloo's lists meet in the user's document.
//!
//! Where cloud-init merges the two, of a value that is no list it keeps the user's and drops goloo's without a
//! word: an empty value is replaced before, and all else is refused.

use super::tree::{Content, Document, Node, Place, problem_at};
use crate::spec::Problem;

/// Why nothing can be added to a value that is no list to PyYAML.
pub(super) fn not_a_list(text: &str, name: &str, value: &Node) -> Problem {
    let message = format!("{name} isn't a list, and goloo must add to it");
    problem_at(text, value.start, message, "make it a list".to_owned())
}

/// Which of these keys a cloud-config document leaves empty. All to which nothing can be added are found
/// at once.
pub(super) fn emptied<'k>(text: &str, keys: &'k [String]) -> Result<Vec<&'k str>, Vec<Problem>> {
    let document = Document::read(text).map_err(|problem| vec![problem])?;
    let Some(root) = &document.root else { return Ok(Vec::new()) };
    let (mut emptied, mut problems) = (Vec::new(), Vec::new());
    for name in keys {
        match document.get(root, name) {
            Some(value) if value.is_null() => emptied.push(name.as_str()),
            Some(value) if !matches!(value.content, Content::List(_)) => {
                problems.push(not_a_list(text, name, value));
            }
            _ => {}
        }
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    if problems.is_empty() { Ok(emptied) } else { Err(problems) }
}

/// Which of these keys a template of cloud-init's own leaves empty, whatever it is rendered with: as far
/// as it reads as YAML before that, and nothing is rendered between the key and the next.
pub(super) fn emptied_in_jinja<'k>(text: &str, keys: &'k [String]) -> Vec<&'k str> {
    let Ok(document) = Document::read(text) else { return Vec::new() };
    let Some(root) = &document.root else { return Vec::new() };
    let is_emptied = |name: &str| {
        let Place::Own(pair) = document.place(root, name) else { return false };
        let (key, value) = &root.pairs()[pair];
        let end = root.pairs().get(pair + 1).map_or(text.len(), |(next, _)| next.start);
        let is_there_once = root.pairs().iter().filter(|(key, _)| document.is_key(key, name)).count() == 1;
        let is_rendered = ["{{", "{%", "{#"].iter().any(|tag| text[key.start..end].contains(tag));
        is_there_once && value.is_null() && !is_rendered
    };
    keys.iter().map(String::as_str).filter(|name| is_emptied(name)).collect()
}
