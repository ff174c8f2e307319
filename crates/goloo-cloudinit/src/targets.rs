//! The values in the user's document that goloo's lists are added to.
//!
//! When merging, cloud-init keeps the user's value if it isn't a list and silently drops goloo's:
//! an empty value is replaced before, and any other value is refused.

use super::tree::{Content, Document, Node, Place};
use crate::diagnostic::diagnostic_at;
use goloo_model::spec::Diagnostic;

/// Why nothing can be added to a value that PyYAML doesn't load as a list.
pub(super) fn not_a_list(text: &str, name: &str, value: &Node) -> Diagnostic {
    let message = format!("{name} isn't a list, and goloo must add to it");
    diagnostic_at(text, value.start, message, "make it a list".to_owned())
}

/// Which of these keys are empty in a cloud-config document. All values that nothing can be added to are reported
/// at once.
pub(super) fn emptied<'k>(text: &str, keys: &'k [String]) -> Result<Vec<&'k str>, Vec<Diagnostic>> {
    let document = Document::read(text).map_err(|diagnostic| vec![diagnostic])?;
    let Some(root) = &document.root else { return Ok(Vec::new()) };
    let (mut emptied, mut diagnostics) = (Vec::new(), Vec::new());
    for name in keys {
        match document.get(root, name) {
            Some(value) if value.is_null() => emptied.push(name.as_str()),
            Some(value) if !matches!(value.content, Content::List(_)) => {
                diagnostics.push(not_a_list(text, name, value));
            }
            _ => {}
        }
    }
    diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    if diagnostics.is_empty() { Ok(emptied) } else { Err(diagnostics) }
}

/// Which of these keys are certainly empty in a cloud-init template: as far as it
/// is valid YAML before rendering, and contains no expression between the key and the next.
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
