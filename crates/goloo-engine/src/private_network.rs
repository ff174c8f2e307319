//! The private network between the machines of an environment, where goloo makes it.

use goloo_model::events::Event;
use goloo_model::guest::SshTarget;
use goloo_model::provider::ProviderError;
use goloo_model::record::Record;

use crate::engine::Engine;
use crate::guest_script;
use crate::work::LockedOperation;

impl LockedOperation<'_, '_> {
    /// Connects the running machine to its environment's network. A replacement gets the address of the machine that it
    /// replaces when that one is deleted; where the provider chooses addresses, it has one of its own from the start.
    pub(super) async fn connect_network(&mut self) -> Result<(), ProviderError> {
        let Some(networks) = self.engine.provider.networks() else { return Ok(()) };
        let has_to_wait = self.record.replacing.is_some() && networks.takes_addresses();
        if !has_network(&self.record) || has_to_wait {
            return Ok(());
        }
        let (record, mut work) = self.lend();
        networks.connect(&record, &mut work).await
    }
}

fn has_network(record: &Record) -> bool {
    record.membership.as_ref().is_some_and(|membership| membership.is_networked())
}

/// Has the guest use its address on the private network: one that was connected after its creation doesn't know it. A
/// failure is only said.
pub(crate) async fn set_guest_address(engine: &Engine<'_>, record: &Record) {
    let address = record.membership.as_ref().and_then(|membership| membership.network);
    let (Some(address), Some(_)) = (address, engine.provider.networks()) else { return };
    if SshTarget::of(record).is_none() {
        return;
    }
    let script = goloo_cloudinit::network_script(address);
    if let Err(error) = guest_script::run(engine, record, &script, &[]).await {
        let text = format!(
            "\"{}\" doesn't have its address {} in the private network: {error}",
            record.name,
            address.address()
        );
        engine.events.event(Event::Warning(text));
    }
}
