//! The hosts entry of a VM, if its record asks for one.

use std::error::Error;

use super::work::LockedOperation;
use crate::error::EngineError;
use goloo_model::events::Event;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::host_names::HostNamesError;

impl LockedOperation<'_, '_> {
    /// Maps the name to the machine's address. The machine works without the entry, so a failure is only a
    /// warning.
    pub(super) fn name_host(&self) {
        let (name, engine) = (&self.record.name, self.engine);
        if !self.wants_host_name() {
            return;
        }
        if !self.is_ours && !engine.here.trust.is_trusted(&self.record) {
            engine.events.event(Event::Warning(format!(
                "no /etc/hosts entry for \"{name}\": its record doesn't prove that it was requested here"
            )));
            return;
        }
        let (problem, first) = match self.record.ip().and_then(|ip| ip.parse().ok()) {
            None => ("it has no address yet".to_owned(), "wait until it has one".to_owned()),
            Some(ip) => match engine.host_names.set(name, ip) {
                Ok(()) => return,
                Err(error) => (with_cause(&error), error.hint()),
            },
        };
        engine.events.event(Event::Warning(format!("no /etc/hosts entry for \"{name}\": {problem}")));
        let again = Hint::from(format!("{first}, then run ")).step(NextStep::Start(name.clone()));
        engine.events.event(Event::Hint(again));
    }

    /// Removes the entry. The record must be kept until then: it is the only reference to the entry.
    pub(super) fn forget_host(&self) -> Result<(), EngineError> {
        let name = &self.record.name;
        if !self.wants_host_name() {
            return Ok(());
        }
        let removed = self.engine.host_names.remove(name);
        removed.map_err(|source| EngineError::HostName { name: name.clone(), source })
    }

    fn wants_host_name(&self) -> bool {
        self.record.hosts_entry && self.record.host_bound
    }
}

fn with_cause(error: &HostNamesError) -> String {
    let cause = error.source().map_or_else(String::new, |source| format!(": {source}"));
    format!("{error}{cause}")
}
