//! The results of checks of this host and the records.

use crate::hint::Hint;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub what: String,
    /// What to do; may be empty for a check that passed.
    pub hint: Hint,
}

impl Check {
    /// It is as it should be.
    pub fn ok(what: impl Into<String>) -> Self {
        Self { ok: true, what: what.into(), hint: Hint::default() }
    }

    /// A check that found something to fix.
    pub fn failed(what: impl Into<String>, hint: impl Into<Hint>) -> Self {
        Self { ok: false, what: what.into(), hint: hint.into() }
    }
}
