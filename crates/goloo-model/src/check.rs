//! The results of checks of this host and the records.

use crate::hint::Hint;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// How good or bad it is.
    pub level: CheckLevel,
    /// What was found.
    pub what: String,
    /// What to do; may be empty for a check that passed.
    pub hint: Hint,
}

/// How good or bad the result of a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckLevel {
    /// It is as it should be.
    Good,
    /// It isn't there, which is wrong only if something needs it.
    Absent,
    /// Nothing is wrong, but it is worth knowing.
    Notice,
    /// Something has to be fixed.
    Wrong,
}

impl CheckLevel {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Absent => "absent",
            Self::Notice => "notice",
            Self::Wrong => "wrong",
        }
    }
}

impl Check {
    /// It is as it should be.
    pub fn ok(what: impl Into<String>) -> Self {
        Self { level: CheckLevel::Good, what: what.into(), hint: Hint::default() }
    }

    /// It isn't there.
    pub fn absent(what: impl Into<String>, hint: impl Into<Hint>) -> Self {
        Self { level: CheckLevel::Absent, what: what.into(), hint: hint.into() }
    }

    /// Nothing is wrong, but it is worth knowing.
    pub fn notice(what: impl Into<String>, hint: impl Into<Hint>) -> Self {
        Self { level: CheckLevel::Notice, what: what.into(), hint: hint.into() }
    }

    /// A check that found something to fix.
    pub fn failed(what: impl Into<String>, hint: impl Into<Hint>) -> Self {
        Self { level: CheckLevel::Wrong, what: what.into(), hint: hint.into() }
    }

    /// Whether nothing has to be fixed.
    pub fn is_ok(&self) -> bool {
        self.level != CheckLevel::Wrong
    }

    /// The same for something that is needed: its absence is wrong.
    #[must_use]
    pub fn needed(self) -> Self {
        let level = if self.level == CheckLevel::Absent { CheckLevel::Wrong } else { self.level };
        Self { level, ..self }
    }
}
