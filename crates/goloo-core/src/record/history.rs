//! Who did what to a VM, and when. It is part of the record, and so is written by the saves that an
//! operation makes anyway.
//!
//! Operations begin and end here alone: [`Record::begin`] and [`Record::end`] keep the operation under way
//! and the history in step.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Extra, Operation, OperationKind, Owner, Record, word_enum};
use crate::text::Label;
use crate::time::Timestamp;

/// More entries than this push the oldest out: a record stays small, however long its VM lives.
pub const HISTORY_MAX: usize = 100;
/// The most of an error that an entry keeps, in characters.
const REASON_MAX: usize = 200;

word_enum! {
    /// What was done.
    Deed {
        /// An operation of this name.
        Create = "create",
        /// An operation of this name.
        Delete = "delete",
        /// An operation of this name.
        Start = "start",
        /// An operation of this name.
        Stop = "stop",
        /// An operation of this name.
        Restart = "restart",
        /// An operation of this name.
        Suspend = "suspend",
        /// An operation of this name.
        Clone = "clone",
        /// An operation of this name.
        DnsSwap = "dns-swap",
        /// An operation of this name.
        DnsRollback = "dns-rollback",
        /// Went on with the operation before it.
        Resume = "resume",
        /// Read the first verdict of the provisioning.
        Wait = "wait",
        /// Made a record for a machine that was there.
        Adopt = "adopt",
        /// Made a record from an old config.
        Migrate = "migrate",
        /// Made `delete` refuse the VM.
        Protect = "protect",
        /// Let `delete` remove it again.
        Unprotect = "unprotect",
        /// Archived the record without its machine.
        Forget = "forget",
        /// Took the lock from someone who had left it, or from whom it was taken.
        Takeover = "takeover",
    }
}

impl From<OperationKind> for Deed {
    fn from(kind: OperationKind) -> Self {
        match kind {
            OperationKind::Create => Self::Create,
            OperationKind::Delete => Self::Delete,
            OperationKind::Start => Self::Start,
            OperationKind::Stop => Self::Stop,
            OperationKind::Restart => Self::Restart,
            OperationKind::Suspend => Self::Suspend,
            OperationKind::Clone => Self::Clone,
            OperationKind::DnsSwap => Self::DnsSwap,
            OperationKind::DnsRollback => Self::DnsRollback,
        }
    }
}

word_enum! {
    /// What came of it.
    Outcome {
        /// It is done.
        Done = "done",
        /// It failed.
        Failed = "failed",
        /// Something else was begun before it came to an end.
        Interrupted = "interrupted",
    }
}

/// A word of this version, or of a later one: a history is read by people, and breaks no record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Word<T> {
    /// One that this version writes.
    Known(T),
    /// One of a later version.
    Other(Label),
}

impl<T: fmt::Display> fmt::Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(word) => word.fmt(f),
            Self::Other(word) => f.pad(word),
        }
    }
}

/// One thing that somebody did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// When it began.
    pub at: Timestamp,
    /// When it came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The user's login name.
    pub user: Label,
    /// The host's name.
    pub host: Label,
    /// What it was.
    pub what: Word<Deed>,
    /// What came of it; `None` while it is under way, or when nobody has dealt with it since it was
    /// interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Word<Outcome>>,
    /// Why it failed, or what to know of how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What was done to a VM, oldest first; the last [`HISTORY_MAX`] of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct History(Vec<HistoryEntry>);

/// However many there are, the newest are kept.
impl<'de> Deserialize<'de> for History {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut history = Self(Vec::deserialize(deserializer)?);
        history.drop_surplus();
        Ok(history)
    }
}

impl History {
    /// The entries, oldest first.
    pub fn entries(&self) -> &[HistoryEntry] {
        &self.0
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes something that is over with the save that it comes with.
    pub fn note(&mut self, what: Deed, by: &Owner) {
        let mut entry = HistoryEntry::begun(what, by);
        entry.end(Outcome::Done, None);
        self.push(entry);
    }

    /// Notes whose lock it was that somebody took over, with the save that comes next.
    pub fn note_takeover(&mut self, by: &Owner, former: &Owner) {
        let mut entry = HistoryEntry::begun(Deed::Takeover, by);
        entry.end(Outcome::Done, Some(format!("the lock was of {former}")));
        self.push(entry);
    }

    fn begin(&mut self, what: Deed, by: &Owner) {
        for open in self.0.iter_mut().filter(|entry| entry.outcome.is_none()) {
            open.outcome = Some(Word::Known(Outcome::Interrupted));
        }
        self.push(HistoryEntry::begun(what, by));
    }

    fn end(&mut self, outcome: Outcome, reason: Option<String>) {
        if let Some(open) = self.0.iter_mut().rev().find(|entry| entry.outcome.is_none()) {
            open.end(outcome, reason);
        }
    }

    fn push(&mut self, entry: HistoryEntry) {
        self.0.push(entry);
        self.drop_surplus();
    }

    fn drop_surplus(&mut self) {
        let surplus = self.0.len().saturating_sub(HISTORY_MAX);
        self.0.drain(..surplus);
    }
}

impl HistoryEntry {
    fn begun(what: Deed, by: &Owner) -> Self {
        Self {
            at: Timestamp::now(),
            ended_at: None,
            user: by.user.clone(),
            host: by.host.clone(),
            what: Word::Known(what),
            outcome: None,
            reason: None,
            extra: Extra::new(),
        }
    }

    fn end(&mut self, outcome: Outcome, reason: Option<String>) {
        self.ended_at = Some(Timestamp::now());
        self.outcome = Some(Word::Known(outcome));
        self.reason = reason;
    }
}

impl Record {
    /// An operation begins.
    pub fn begin(&mut self, operation: Operation) {
        self.history.begin(operation.kind.into(), &operation.owner);
        self.operation = Some(operation);
    }

    /// Somebody goes on with the operation that was interrupted, if there is one.
    pub fn begin_again(&mut self, by: &Owner) -> Option<&Operation> {
        let operation = self.operation.as_mut()?;
        operation.owner = by.clone();
        self.history.begin(Deed::Resume, by);
        Some(operation)
    }

    /// The operation under way is over.
    pub fn end(&mut self, outcome: Outcome, reason: Option<String>) {
        self.operation = None;
        self.history.end(outcome, reason);
    }

    /// The operation under way is over, and came to nothing.
    pub fn fail(&mut self, why: &dyn Error) {
        let text = why.to_string();
        let line = text.lines().next().unwrap_or_default();
        self.end(Outcome::Failed, Some(line.chars().take(REASON_MAX).collect()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn by(user: &str) -> Owner {
        Owner { user: user.into(), host: "laptop".into(), pid: 1, pid_start: 1, extra: Extra::new() }
    }

    fn words(history: &History) -> Vec<String> {
        let word = |entry: &HistoryEntry| {
            let outcome = entry.outcome.as_ref().map_or("open".to_owned(), Word::to_string);
            format!("{} {} {outcome}", entry.user, entry.what)
        };
        history.entries().iter().map(word).collect()
    }

    #[test]
    fn what_was_begun_is_open_until_it_ends_or_something_else_begins() {
        let mut history = History::default();
        history.begin(Deed::Create, &by("ann"));
        assert_eq!(words(&history), ["ann create open"]);
        history.note(Deed::Protect, &by("bob"));
        assert_eq!(words(&history), ["ann create open", "bob protect done"]);
        history.begin(Deed::Resume, &by("bob"));
        history.end(Outcome::Done, None);
        assert_eq!(words(&history), ["ann create interrupted", "bob protect done", "bob resume done"]);
        let ends = history.entries().iter().map(|entry| entry.ended_at.is_some());
        assert_eq!(ends.collect::<Vec<_>>(), [false, true, true]);
    }

    #[test]
    fn the_oldest_entries_go_when_there_are_too_many() {
        let mut history = History::default();
        history.note(Deed::Create, &by("ann"));
        (0..HISTORY_MAX).for_each(|_| history.note(Deed::Start, &by("bob")));
        assert_eq!(history.entries().len(), HISTORY_MAX);
        assert!(words(&history).iter().all(|line| line == "bob start done"), "{history:?}");
    }

    #[test]
    fn of_a_history_that_is_too_long_the_newest_entries_are_read() {
        let entry = |day: usize| serde_json::json!({"at": format!("2025-01-{day:02}T00:00:00Z"), "user": "ann", "host": "h", "what": "stop"});
        let long: Vec<_> = (0..HISTORY_MAX + 5).map(|place| entry(1 + place / 10)).collect();
        let read: History = serde_json::from_value(long.clone().into()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::Value::from(long[5..].to_vec()));
    }

    #[test]
    fn words_and_fields_of_a_later_version_are_kept() {
        let json = serde_json::json!([{
            "at": "2025-01-15T10:30:00Z", "user": "ann", "host": "laptop",
            "what": "hibernate", "outcome": "postponed", "until": "spring",
        }]);
        let history: History = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(words(&history), ["ann hibernate postponed"]);
        assert_eq!(serde_json::to_value(&history).unwrap(), json);
    }
}
