//! What a look at the machine and the records gave.

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether all is well as far as this is concerned.
    pub ok: bool,
    /// What was found.
    pub what: String,
    /// What to do; may be empty where all is well.
    pub hint: String,
}

impl Finding {
    /// All is well.
    pub fn sound(what: impl Into<String>) -> Self {
        Self { ok: true, what: what.into(), hint: String::new() }
    }

    /// Something is to be mended.
    pub fn wrong(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { ok: false, what: what.into(), hint: hint.into() }
    }
}
