//! Operations begin and end here alone, so that the operation in progress and the history are in step.

use std::error::Error;

use super::history::{HistoryAction, Outcome};
use super::owner::Owner;
use super::{Operation, Record};

/// The maximum length of an error in an entry, in characters.
const REASON_MAX: usize = 200;

impl Record {
    /// Begins an operation.
    pub fn begin(&mut self, operation: Operation) {
        self.history.begin(operation.kind.into(), &operation.owner);
        self.operation = Some(operation);
    }

    /// Continues the interrupted operation, if there is one.
    pub fn begin_again(&mut self, by: &Owner) -> Option<&Operation> {
        let operation = self.operation.as_mut()?;
        operation.owner = by.clone();
        self.history.begin(HistoryAction::Resume, by);
        Some(operation)
    }

    /// Ends the operation in progress.
    pub fn end(&mut self, outcome: Outcome, reason: Option<String>) {
        self.operation = None;
        self.history.end(outcome, reason);
    }

    /// Ends the operation in progress as failed.
    pub fn fail(&mut self, why: &dyn Error) {
        let text = why.to_string();
        let line = text.lines().next().unwrap_or_default();
        self.end(Outcome::Failed, Some(line.chars().take(REASON_MAX).collect()));
    }
}
