//! A lock that was taken from someone: they may have begun what they never finished, and it may still go on.

use super::{Engine, EngineError};
use crate::events::Event;
use crate::provider::LiveState;
use crate::record::{Owner, Record};

impl Engine<'_> {
    /// Says whose lock it was, and looks at the machine before anything is done to it. An operation of theirs
    /// is in the record, and counts as interrupted.
    pub(super) async fn reconcile(&self, record: &Record, former: &Owner) -> Result<(), EngineError> {
        let name = &record.name;
        let begun = record.operation.as_ref().map_or_else(String::new, |operation| {
            format!("; their {} was under way and counts as interrupted", operation.kind)
        });
        let warning = format!("the lock of \"{name}\" was taken over from {former}{begun}");
        self.events.event(Event::Warning(warning));
        let seen = self.provider.observe(&[record]).await;
        let state = seen.first().map_or(LiveState::Unknown, |seen| seen.state);
        if state == LiveState::Unknown {
            let what = format!("can't see what {former} left of \"{name}\": its provider doesn't say");
            return Err(EngineError::Refused { what, hint: format!("goloo status {name}") });
        }
        self.events.event(Event::Note(format!("\"{name}\" is {state}")));
        Ok(())
    }
}
