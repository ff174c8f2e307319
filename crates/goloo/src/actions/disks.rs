//! Clones machines, and takes and restores snapshots of their disks.

use goloo_engine::{Cloned, Engine};
use goloo_model::events::EventContext;
use goloo_model::name::{SnapshotLabel, VmName};
use goloo_model::provider::DiskSnapshot;
use goloo_model::record::OperationKind;

use crate::error::Error;
use crate::operation::{ManagedVm, RunOptions};
use crate::session::Session;

impl Session {
    /// Copies a VM. The copy is stopped, or suspended if the VM isn't stopped.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operation.
    pub fn clone_vm(&self, name: &VmName, new: &VmName, run: &RunOptions<'_>) -> Result<Cloned, Error> {
        let provider = self.provider_of(&self.record(name)?)?;
        let by = self.creator()?;
        let context = EventContext::of(new, Some(OperationKind::Clone));
        Ok(self.operate(context, &*provider, run, async |engine| engine.clone_vm(name, new, &by).await)??)
    }

    /// Takes a snapshot of a VM's disk.
    ///
    /// # Errors
    /// As [`Self::clone_vm`].
    pub fn take_snapshot(
        &self,
        name: &VmName,
        label: &SnapshotLabel,
        run: &RunOptions<'_>,
    ) -> Result<(), Error> {
        self.operate_on(name, None, run, async |engine| engine.take_snapshot(name, label).await)
    }

    /// The snapshots of a VM's disk, oldest first.
    ///
    /// # Errors
    /// As [`Self::clone_vm`].
    pub fn snapshots(&self, name: &VmName, run: &RunOptions<'_>) -> Result<Vec<DiskSnapshot>, Error> {
        self.operate_on(name, None, run, async |engine| engine.snapshots(name).await)
    }

    /// Deletes a snapshot permanently.
    ///
    /// # Errors
    /// As [`Self::clone_vm`].
    pub fn remove_snapshot(
        &self,
        name: &VmName,
        label: &SnapshotLabel,
        run: &RunOptions<'_>,
    ) -> Result<(), Error> {
        self.operate_on(name, None, run, async |engine| engine.remove_snapshot(name, label).await)
    }

    /// Restores a VM's disk from a snapshot. Everything written since then is lost.
    ///
    /// # Errors
    /// As [`Self::clone_vm`].
    pub fn restore_snapshot(
        &self,
        vm: &ManagedVm,
        label: &SnapshotLabel,
        run: &RunOptions<'_>,
    ) -> Result<(), Error> {
        let name = &vm.record.name;
        let restore = async |engine: Engine<'_>| engine.restore_snapshot(name, label).await;
        Ok(self.operate(EventContext::of(name, None), &*vm.provider, run, restore)??)
    }
}
