//! Who did what to a VM, and when. It is part of the record, and so is written by the saves that an
//! operation makes anyway.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::extra::Extra;
use super::operation_kind::OperationKind;
use super::owner::Owner;
use super::word_enum::word_enum;
use crate::text::Label;
use crate::time::Timestamp;

/// The maximum number of entries; beyond it the oldest are dropped, which keeps the record of a long-lived VM small.
pub const HISTORY_MAX: usize = 100;

word_enum! {
    /// What was done.
    HistoryAction {
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
        Import = "import",
        /// An operation of this name.
        Apply = "apply",
        /// An operation of this name.
        DnsSwap = "dns-swap",
        /// An operation of this name.
        DnsRollback = "dns-rollback",
        /// An operation of this name.
        Rename = "rename",
        /// An operation of this name.
        Bake = "bake",
        /// An operation of this name.
        Replace = "replace",
        /// Continued the preceding operation.
        Resume = "resume",
        /// Read the first result of the provisioning.
        Wait = "wait",
        /// Created a record for an existing machine.
        Adopt = "adopt",
        /// Created a record from a goloo v0 config.
        Migrate = "migrate",
        /// Protected the VM from `delete`.
        Protect = "protect",
        /// Removed that protection.
        Unprotect = "unprotect",
        /// Turned its start at login on.
        Autostart = "autostart",
        /// Turned its start at login off.
        NoAutostart = "no-autostart",
        /// Changed its tags.
        Tag = "tag",
        /// Archived the record without deleting the machine.
        Forget = "forget",
        /// Took over a lock that was abandoned or broken.
        Takeover = "takeover",
    }
}

impl From<OperationKind> for HistoryAction {
    fn from(kind: OperationKind) -> Self {
        match kind {
            OperationKind::Create => Self::Create,
            OperationKind::Delete => Self::Delete,
            OperationKind::Start => Self::Start,
            OperationKind::Stop => Self::Stop,
            OperationKind::Restart => Self::Restart,
            OperationKind::Suspend => Self::Suspend,
            OperationKind::Clone => Self::Clone,
            OperationKind::Import => Self::Import,
            OperationKind::Apply => Self::Apply,
            OperationKind::DnsSwap => Self::DnsSwap,
            OperationKind::DnsRollback => Self::DnsRollback,
            OperationKind::Rename => Self::Rename,
            OperationKind::Bake => Self::Bake,
            OperationKind::Replace => Self::Replace,
        }
    }
}

word_enum! {
    /// Its result.
    Outcome {
        /// It succeeded.
        Done = "done",
        /// It failed.
        Failed = "failed",
        /// Another operation began before it ended.
        Interrupted = "interrupted",
    }
}

/// A value of this version, or of a later one: a history is read by people, so an unknown value doesn't make a record
/// invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Word<T> {
    /// A value that this version writes.
    Known(T),
    /// A value of a later version.
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

/// One action of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// When it began.
    pub at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The user's login name.
    pub user: Label,
    /// The host's name.
    pub host: Label,
    /// What was done.
    pub what: Word<HistoryAction>,
    /// Its result; absent while it is in progress, or if it was interrupted and hasn't been continued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Word<Outcome>>,
    /// Why it failed, or details of how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The actions on a VM, oldest first; only the last ones are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct History(Vec<HistoryEntry>);

/// Accepts any number of entries and keeps the newest.
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

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an action that is completed by the save that includes it.
    pub fn note(&mut self, what: HistoryAction, by: &Owner) {
        let mut entry = HistoryEntry::begun(what, by);
        entry.end(Outcome::Done, None);
        self.push(entry);
    }

    /// Adds the takeover of a lock, to be written by the next save.
    pub fn note_takeover(&mut self, by: &Owner, former: &Owner) {
        let mut entry = HistoryEntry::begun(HistoryAction::Takeover, by);
        entry.end(Outcome::Done, Some(format!("the lock was held by {former}")));
        self.push(entry);
    }

    pub(super) fn begin(&mut self, what: HistoryAction, by: &Owner) {
        for open in self.0.iter_mut().filter(|entry| entry.outcome.is_none()) {
            open.outcome = Some(Word::Known(Outcome::Interrupted));
        }
        self.push(HistoryEntry::begun(what, by));
    }

    pub(super) fn end(&mut self, outcome: Outcome, reason: Option<String>) {
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
    fn begun(what: HistoryAction, by: &Owner) -> Self {
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
    fn an_operation_is_open_until_it_ends_or_another_begins() {
        let mut history = History::default();
        history.begin(HistoryAction::Create, &by("ann"));
        assert_eq!(words(&history), ["ann create open"]);
        history.note(HistoryAction::Protect, &by("bob"));
        assert_eq!(words(&history), ["ann create open", "bob protect done"]);
        history.begin(HistoryAction::Resume, &by("bob"));
        history.end(Outcome::Done, None);
        assert_eq!(words(&history), ["ann create interrupted", "bob protect done", "bob resume done"]);
        let ends = history.entries().iter().map(|entry| entry.ended_at.is_some());
        assert_eq!(ends.collect::<Vec<_>>(), [false, true, true]);
    }

    #[test]
    fn the_oldest_entries_are_dropped_beyond_the_limit() {
        let mut history = History::default();
        history.note(HistoryAction::Create, &by("ann"));
        (0..HISTORY_MAX).for_each(|_| history.note(HistoryAction::Start, &by("bob")));
        assert_eq!(history.entries().len(), HISTORY_MAX);
        assert!(words(&history).iter().all(|line| line == "bob start done"), "{history:?}");
    }

    #[test]
    fn only_the_newest_entries_of_an_overlong_history_are_read() {
        let entry = |day: usize| serde_json::json!({"at": format!("2025-01-{day:02}T00:00:00Z"), "user": "ann", "host": "h", "what": "stop"});
        let long: Vec<_> = (0..HISTORY_MAX + 5).map(|place| entry(1 + place / 10)).collect();
        let read: History = serde_json::from_value(long.clone().into()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::Value::from(long[5..].to_vec()));
    }

    #[test]
    fn unknown_actions_and_fields_of_a_newer_version_are_kept() {
        let json = serde_json::json!([{
            "at": "2025-01-15T10:30:00Z", "user": "ann", "host": "laptop",
            "what": "hibernate", "outcome": "postponed", "until": "spring",
        }]);
        let history: History = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(words(&history), ["ann hibernate postponed"]);
        assert_eq!(serde_json::to_value(&history).unwrap(), json);
    }
}
