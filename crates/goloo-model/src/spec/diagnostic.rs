//! Diagnostics: what is wrong with a user's file, where, and what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hint::Hint;

/// How many diagnostics of one stack are shown. A check that finds more in one file stops there.
pub const DIAGNOSTICS_MAX: usize = 100;

/// A problem in a file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file's name in the stack: `config.json`, `cloud-init.yaml`.
    pub file: String,
    /// The location as a JSON pointer; empty if the file isn't JSON or the whole file is meant.
    pub pointer: String,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do; never empty.
    pub hint: Hint,
}

/// The place and the message, without the hint: only a front end can word that.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// The line and the column of a byte offset.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The known word closest to a mistyped one, if it is close enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Computing the distance takes time proportional to both lengths, and no known word is that long.
    if word.len() > 100 {
        return None;
    }
    let word = word.to_lowercase();
    let scored = known.into_iter().map(|known| (strsim::damerau_levenshtein(&word, known), known));
    let (distance, best) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(best.len() / 3)).then_some(best)
}
