//! The VM's name on this computer, where its record wants one.

use std::error::Error;

use super::EngineError;
use super::work::UnderWay;
use crate::events::Event;
use crate::host_names::HostNamesError;

impl UnderWay<'_, '_> {
    /// Makes the name stand for the machine's address. The machine is fine without: a failure is a
    /// warning.
    pub(super) fn name_host(&self) {
        let (name, engine) = (&self.record.name, self.engine);
        if !self.wants_host_name() {
            return;
        }
        if !self.is_ours && !engine.here.trust.is_trusted(&self.record) {
            engine.events.event(Event::Warning(format!(
                "\"{name}\" gets no line in the hosts file: its record doesn't prove that it was asked for here"
            )));
            return;
        }
        let problem = match self.record.ip().and_then(|ip| ip.parse().ok()) {
            None => "it has no address yet; wait until it has one".to_owned(),
            Some(ip) => match engine.host_names.set(name, ip) {
                Ok(()) => return,
                Err(error) => in_words(&error),
            },
        };
        let warning =
            format!("this computer doesn't know \"{name}\" by its name: {problem}, then: goloo start {name}");
        engine.events.event(Event::Warning(warning));
    }

    /// Takes the name away again. Only then may the record go: it alone leads to the line.
    pub(super) fn forget_host(&self) -> Result<(), EngineError> {
        let name = &self.record.name;
        if !self.wants_host_name() {
            return Ok(());
        }
        let removed = self.engine.host_names.remove(name);
        removed.map_err(|source| EngineError::HostName { name: name.clone(), source })
    }

    fn wants_host_name(&self) -> bool {
        self.record.hosts_entry && self.record.provider.is_local()
    }
}

/// The error with its cause and its hint, for a line of its own.
fn in_words(error: &HostNamesError) -> String {
    let cause = error.source().map_or_else(String::new, |source| format!(": {source}"));
    format!("{error}{cause}; {}", error.hint())
}
