//! Handles a lock that was taken over: its former holder may have started an operation that never finished, or is still
//! running.

use crate::engine::Engine;
use crate::error::EngineError;
use goloo_model::events::Event;
use goloo_model::hint::NextStep;
use goloo_model::provider::LiveState;
use goloo_model::record::{Owner, Record};

impl Engine<'_> {
    /// Reports the former holder, and inspects the machine before anything is done to it. The former holder's operation
    /// is in the record, and is treated as interrupted.
    pub(super) async fn reconcile(&self, record: &Record, former: &Owner) -> Result<(), EngineError> {
        let name = &record.name;
        let begun = record.operation.as_ref().map_or_else(String::new, |operation| {
            format!("; the {} in progress is treated as interrupted", operation.kind)
        });
        let warning = format!("the lock of \"{name}\" was taken over from {former}{begun}");
        self.events.event(Event::Warning(warning));
        let state = self.state_of(record).await;
        if state == LiveState::Unknown {
            let what = format!(
                "can't determine the state of \"{name}\" after {former}: its provider doesn't report it"
            );
            return Err(EngineError::Refused { what, hint: NextStep::Status(name.clone()).into() });
        }
        self.events.event(Event::Note(format!("\"{name}\" is {state}")));
        Ok(())
    }
}
