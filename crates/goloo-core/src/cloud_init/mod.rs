//! What reaches cloud-init: the user's document, and goloo's part beside it.
//!
//! The document passes through [`template`] and [`placeholders`], is looked at by [`document`], and
//! travels byte for byte as the first part of what [`compose`] makes. Multipass takes no parts: for it
//! [`merge`] writes goloo's part into the document's text.

mod check;
mod compose;
mod construct;
mod document;
mod host_key;
mod limits;
mod merge;
mod part;
mod placeholders;
mod scalar;
mod schema;
mod strict;
mod targets;
mod template;
mod tree;

use crate::spec::Problem;

pub use compose::{ComposeInput, Composed, compose};
pub use host_key::{HostKey, HostKeyError};
pub use part::SSHD_DROP_IN;

/// The document's name in a stack.
pub const FILE: &str = "cloud-init.yaml";

/// A problem with the document; line and column count from 1.
fn problem(line: usize, column: usize, message: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem {
        file: FILE.to_owned(),
        pointer: String::new(),
        line,
        column,
        message: message.into(),
        hint: hint.into(),
    }
}
