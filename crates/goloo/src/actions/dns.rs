//! DNS names of VMs in AWS.

use goloo_engine::DnsReport;
use goloo_model::dns::DnsChange;
use goloo_model::events::EventContext;
use goloo_model::name::VmName;
use goloo_model::record::{OperationKind, Record};

use crate::error::Error;
use crate::operation::RunOptions;
use crate::session::Session;

impl Session {
    /// The DNS names of a VM and their owners.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operation.
    pub fn dns_names(&self, name: &VmName, run: &RunOptions<'_>) -> Result<DnsReport, Error> {
        self.operate_on(name, None, run, async |engine| engine.dns_names(name).await)
    }

    /// Moves the names of another VM to this one. `agreed` is the record that the user has agreed to.
    ///
    /// # Errors
    /// As [`Self::dns_names`]; a record that has changed since is refused.
    pub fn dns_swap(
        &self,
        agreed: &Record,
        from: Option<&VmName>,
        force: bool,
        run: &RunOptions<'_>,
    ) -> Result<DnsChange, Error> {
        let provider = self.provider_of(agreed)?;
        let context = EventContext::of(&agreed.name, Some(OperationKind::DnsSwap));
        let swap = async |engine: goloo_engine::Engine<'_>| {
            engine.dns_swap(&agreed.name, from, force, Some(agreed)).await
        };
        Ok(self.operate(context, &*provider, run, swap)??)
    }

    /// Returns the names that a VM has taken over to their previous owners.
    ///
    /// # Errors
    /// As [`Self::dns_swap`].
    pub fn dns_rollback(
        &self,
        agreed: &Record,
        force: bool,
        run: &RunOptions<'_>,
    ) -> Result<DnsChange, Error> {
        let provider = self.provider_of(agreed)?;
        let context = EventContext::of(&agreed.name, Some(OperationKind::DnsRollback));
        let rollback = async |engine: goloo_engine::Engine<'_>| {
            engine.dns_rollback(&agreed.name, force, Some(agreed)).await
        };
        Ok(self.operate(context, &*provider, run, rollback)??)
    }
}
