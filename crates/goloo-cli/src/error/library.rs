//! Hints for errors of the stack library.

use goloo::library::LibraryError;

use crate::exit;

/// The exit code and the hint.
pub(super) fn explain(error: &LibraryError) -> (u8, String) {
    match error {
        LibraryError::NotFound { name, .. } => (
            exit::NOT_FOUND,
            format!(
                "run `goloo config list` to see all stacks, or `goloo config import {name} DIR` to import one"
            ),
        ),
        LibraryError::NameTaken { name } => (
            exit::NOT_FOUND,
            format!(
                "use another name, or replace it with --force; `goloo config export {name} DIR` saves a copy first"
            ),
        ),
        LibraryError::OtherFiles { .. } => (exit::FAILED, "move them elsewhere first".to_owned()),
        LibraryError::Changed { name, .. } => (exit::LOCKED, format!("run `goloo config edit {name}` again")),
        _ => (exit::FAILED, "goloo doctor".to_owned()),
    }
}
