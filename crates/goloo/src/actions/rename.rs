//! Gives VMs other names.

use goloo_engine::Renamed;
use goloo_model::name::VmName;
use goloo_model::record::OperationKind;

use crate::error::Error;
use crate::operation::RunOptions;
use crate::session::Session;

impl Session {
    /// Gives a VM another name, which must be free. Its machine isn't stopped, and keeps the name that its provider knows
    /// it by.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operation.
    pub fn rename(&self, name: &VmName, new: &VmName, run: &RunOptions<'_>) -> Result<Renamed, Error> {
        let kind = Some(OperationKind::Rename);
        let renamed = self.operate_on(name, kind, run, async |engine| engine.rename(name, new).await)?;
        self.rename_docker_context(&renamed.record);
        Ok(renamed)
    }
}
