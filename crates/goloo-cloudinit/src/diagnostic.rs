//! Diagnostics about the document.

use goloo_model::hint::Hint;
use goloo_model::spec::{Diagnostic, position};

/// The document's name in a stack.
pub const FILE: &str = "cloud-init.yaml";

/// A diagnostic about the document; line and column count from 1.
pub(super) fn diagnostic(
    line: usize,
    column: usize,
    message: impl Into<String>,
    hint: impl Into<Hint>,
) -> Diagnostic {
    let (message, hint) = (message.into(), hint.into());
    Diagnostic { file: FILE.to_owned(), pointer: String::new(), line, column, message, hint }.shortened()
}

/// A problem at the line and column of a byte.
pub(super) fn diagnostic_at(
    text: &str,
    at: usize,
    message: impl Into<String>,
    hint: impl Into<Hint>,
) -> Diagnostic {
    let (line, column) = position(text, at);
    diagnostic(line, column, message, hint)
}
