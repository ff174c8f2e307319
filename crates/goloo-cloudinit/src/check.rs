//! Checks of a cloud-config document before a machine is created.

use super::construct::{self, Repeated};
use super::document::Kind;
use super::schema;
use super::tree::Document;
use crate::diagnostic::diagnostic_at;
use goloo_model::spec::{DIAGNOSTICS_MAX, Diagnostic};

/// The extent of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checks {
    /// Whether cloud-init can load it.
    Loading,
    /// Also whether its values have the structure that cloud-init requires.
    All,
}

/// Checks the document as sent to the machine. Returns warnings; `origins` are the lines of
/// the file that its lines come from.
pub(super) fn check(
    text: &str,
    kind: Kind,
    checks: Checks,
    origins: Option<&[usize]>,
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    // The others are templates of cloud-init's own, which only the machine can render, and documents that aren't
    // YAML.
    if kind != Kind::CloudConfig {
        return Ok(Vec::new());
    }
    let document = Document::read(text).map_err(|diagnostic| vec![diagnostic])?;
    let found = construct::findings(text, &document);
    if !found.diagnostics.is_empty() {
        return Err(sorted(found.diagnostics));
    }
    let shape = match checks {
        Checks::Loading => schema::Findings::default(),
        Checks::All => schema::findings(text, &document),
    };
    if !shape.diagnostics.is_empty() {
        return Err(sorted(shape.diagnostics));
    }
    let twice =
        found.repeated.iter().take(DIAGNOSTICS_MAX).map(|repeated| written_twice(text, repeated, origins));
    Ok(sorted(twice.chain(shape.warnings).collect()))
}

/// In the order of the file.
fn sorted(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    diagnostics
}

fn written_twice(text: &str, repeated: &Repeated, origins: Option<&[usize]>) -> Diagnostic {
    let [first, again] = repeated.places;
    let line = text[..first].matches('\n').count() + 1;
    let line = origins.and_then(|origins| origins.get(line - 1).copied()).unwrap_or(line);
    let key = &repeated.key;
    let message = format!("duplicate key {key}: cloud-init ignores the one in line {line}");
    let diagnostic = diagnostic_at(text, again, message, "merge the two");
    Diagnostic { pointer: repeated.pointer.clone(), ..diagnostic }
}
