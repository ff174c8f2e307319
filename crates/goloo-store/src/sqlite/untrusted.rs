//! Why goloo doesn't use what stands in a database or in its place.

use thiserror::Error;

/// Something in the database, or in the place of one of its files, that others may have put there.
#[derive(Debug, Error)]
#[error("{what}")]
pub struct Untrusted {
    what: String,
    hint: String,
}

impl Untrusted {
    pub(super) fn new(what: String, hint: String) -> Self {
        Self { what, hint }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}
