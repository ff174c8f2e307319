//! Starts and stops VMs.

use goloo_model::name::VmName;
use goloo_model::provider::StopMode;
use goloo_model::record::{OperationKind, Record};

use crate::error::Error;
use crate::operation::RunOptions;
use crate::session::Session;

impl Session {
    /// Starts a VM and waits until SSH answers.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operation.
    pub fn start(&self, name: &VmName, run: &RunOptions<'_>) -> Result<Record, Error> {
        self.operate_on(name, Some(OperationKind::Start), run, async |engine| engine.start(name).await)
    }

    /// Stops or suspends a VM. With a limit of zero the provider decides how long the guest may take to shut down.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn stop(&self, name: &VmName, mode: StopMode, run: &RunOptions<'_>) -> Result<Record, Error> {
        let kind = match mode {
            StopMode::Suspend => OperationKind::Suspend,
            StopMode::Graceful | StopMode::Force => OperationKind::Stop,
        };
        self.operate_on(name, Some(kind), run, async |engine| engine.stop(name, mode).await)
    }

    /// Stops a VM and starts it again.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&self, name: &VmName, mode: StopMode, run: &RunOptions<'_>) -> Result<Record, Error> {
        self.operate_on(name, Some(OperationKind::Restart), run, async |engine| {
            engine.restart(name, mode).await
        })
    }
}
