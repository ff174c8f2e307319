//! What reaches cloud-init: the user's document, and goloo's part beside it.
//!
//! The document passes through [`template`] and [`placeholders`], is checked by [`document`], and travels byte
//! for byte beside goloo's two parts: [`identity`], which needs nothing of it, and [`provision`], which is merged
//! behind it. Multipass takes no parts: for it [`merge`] writes both into the document's text.

mod check;
mod compose;
mod construct;
mod document;
mod host_key;
mod identity;
mod limits;
mod merge;
mod placeholders;
mod provision;
mod scalar;
mod schema;
mod strict;
mod targets;
mod template;
mod tree;

use crate::spec::Problem;

pub use compose::{ComposeInput, Composed, compose, compose_any_shape};
pub use host_key::{HostKey, HostKeyError};
pub use identity::{ACCOUNT, KEY_FOLDER, account};

/// The document's name in a stack.
pub const FILE: &str = "cloud-init.yaml";

pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A shell script without its comments and indentation: user-data has a limit on EC2.
pub(crate) fn squeezed(script: &str) -> String {
    let is_comment = |line: &str| line.starts_with('#') && !line.starts_with("#!");
    let lines = script.lines().map(str::trim_start).filter(|line| !line.is_empty() && !is_comment(line));
    lines.map(|line| format!("{line}\n")).collect()
}

/// A problem with the document; line and column count from 1.
fn problem(line: usize, column: usize, message: impl Into<String>, hint: impl Into<String>) -> Problem {
    let (message, hint) = (message.into(), hint.into());
    Problem { file: FILE.to_owned(), pointer: String::new(), line, column, message, hint }.shortened()
}
