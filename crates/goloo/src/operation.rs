//! Runs an operation on one VM: creates the engine with the session's tools.

use std::sync::Arc;
use std::time::Duration;

use goloo_engine::{Engine, EngineError, Interrupt};
use goloo_model::events::{Event, EventContext, Events, InContext};
use goloo_model::name::VmName;
use goloo_model::provider::Provider;
use goloo_model::record::{LocalContext, OperationKind, Owner, Record};
use goloo_model::store::StoreError;

use crate::error::Error;
use crate::hosts::HostsFile;
use crate::rescue::Folders;
use crate::session::Session;
use crate::{identity, migrate, state_id};

/// How an action runs.
#[derive(Debug, Clone, Copy)]
pub struct RunOptions<'r> {
    /// How long it may wait for the machine in total.
    pub limit: Duration,
    /// Raised to stop it after the provider call in progress.
    pub interrupt: &'r Interrupt,
    /// Whether lines of the machine's own log are reported as events.
    pub follow_log: bool,
}

impl<'r> RunOptions<'r> {
    /// With this time limit, and without following the machine's log.
    pub fn new(limit: Duration, interrupt: &'r Interrupt) -> Self {
        Self { limit, interrupt, follow_log: false }
    }
}

/// A VM and its provider, for an action that needs more than the VM's name: it is shown to the user before.
pub struct ManagedVm {
    /// The record.
    pub record: Record,
    pub(crate) provider: Box<dyn Provider>,
}

impl Session {
    /// The record of an active VM; warns if it had to be recovered. A VM of goloo v0 is imported first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no record; errors of the store and of the import.
    pub fn record(&self, name: &VmName) -> Result<Record, Error> {
        if let Some(record) = self.recorded(name)? {
            return Ok(record);
        }
        migrate::on_demand(self, name)?;
        Ok(self.recorded(name)?.ok_or_else(|| StoreError::NotFound { name: name.clone() })?)
    }

    /// The VM of this name, which belongs here. One of goloo v0 is imported first.
    ///
    /// # Errors
    /// Errors of the store, and of the provider's settings.
    pub fn managed(&self, name: &VmName) -> Result<ManagedVm, Error> {
        let record = self.record(name)?;
        let provider = self.provider_of(&record)?;
        Ok(ManagedVm { record, provider })
    }

    /// Runs an operation on the VM of this name, with the provider that its record names. `kind` is the operation's, if
    /// one is recorded.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operation.
    pub(crate) fn operate_on<T, F>(
        &self,
        name: &VmName,
        kind: Option<OperationKind>,
        run: &RunOptions<'_>,
        operation: F,
    ) -> Result<T, Error>
    where
        F: AsyncFnOnce(Engine<'_>) -> Result<T, EngineError>,
    {
        let vm = self.managed(name)?;
        Ok(self.operate(EventContext::of(name, kind), &*vm.provider, run, operation)??)
    }

    /// Runs an operation: creates the engine, of which `operation` calls one method. All its events have this context.
    ///
    /// # Errors
    /// When the folders aren't private or there is no runtime; the result of `operation` is returned unchanged.
    pub(crate) fn operate<T, E, F: AsyncFnOnce(Engine<'_>) -> Result<T, E>>(
        &self,
        context: EventContext,
        provider: &dyn Provider,
        run: &RunOptions<'_>,
        operation: F,
    ) -> Result<Result<T, E>, Error> {
        if let Ok(None) = state_id::read_key(&self.paths.state) {
            // Not an error: without a key records are unproven, and `resume` asks for confirmation.
            let _ = state_id::ensure_key(&self.paths.state);
        }
        // The folder may be new: in a world-writable parent, another user may have created it.
        self.paths.check_private()?;
        let (guest, rescue) = (self.guest(), Folders { home: self.paths.home.clone() });
        let events: Arc<dyn Events> = Arc::new(InContext::new(Arc::clone(&self.events), context));
        let host_names = HostsFile::from_env(Arc::clone(&events));
        let (owner, here): (Owner, LocalContext) = (identity::owner(), self.here());
        let engine = Engine {
            store: &*self.store,
            provider,
            guest: &guest,
            host_names: &host_names,
            events: &*events,
            interrupt: run.interrupt,
            rescue: &rescue,
            owner: &owner,
            here: &here,
            limit: run.limit,
            follow_log: run.follow_log,
        };
        let result = self.wait_for(operation(engine));
        events.event(Event::Ended { ok: matches!(result, Ok(Ok(_))) });
        result
    }
}
