//! The hosts entry of a VM, if its record asks for one.

use super::work::LockedOperation;
use crate::error::EngineError;
use goloo_model::events::Event;
use goloo_model::hint::{Hint, NextStep};
use goloo_sys::error_chain::in_one_line;

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
                Err(error) => (in_one_line(&error), error.hint()),
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

    /// Removes the entry of a VM that gets another name. It keeps working, so a failure is only a warning.
    pub(super) fn rename_host(&self) {
        let Err(EngineError::HostName { name, source }) = self.forget_host() else { return };
        let engine = self.engine;
        engine.events.event(Event::Warning(format!(
            "the /etc/hosts entry for \"{name}\" remains: {}",
            in_one_line(&source)
        )));
        engine.events.event(Event::Hint(source.hint().into()));
    }

    fn wants_host_name(&self) -> bool {
        // Until a VM replaces another one, nobody looks for it by its name.
        let waits = self.record.replacing.is_some() && self.record.guest_name() != &self.record.name;
        self.record.hosts_entry && self.record.host_bound && !waits
    }
}
