//! One method of [`Session`] for each thing that goloo does, with a typed result.

mod adopt;
mod apply;
mod archive;
mod autostart;
mod bake;
mod connect;
mod create;
mod delete;
mod disks;
mod dns;
mod docker;
mod doctor;
mod export;
mod guest_usage;
mod images;
mod import;
mod kept_images;
mod list;
mod power;
mod recreate;
mod refresh;
mod rename;
mod replace;
mod reprovision;
mod resume;
mod ssh_config;
mod stacks;
mod status;
mod store;
mod watch;
mod which;

use goloo_engine::Verdict;
use goloo_model::name::VmName;
use goloo_model::record::Record;

use crate::error::Error;
use crate::operation::RunOptions;
use crate::session::Session;

pub use apply::{ApplyOptions, PlannedApply};
pub use archive::{ArchivedFiles, Incarnation};
pub use autostart::AutostartChange;
pub use bake::BakeResult;
pub use connect::{Console, CopyPath, Route};
pub use create::{CreateOptions, PlannedCreate, SshSources};
pub use delete::Forgotten;
pub use docker::DockerContext;
pub use doctor::Diagnosis;
pub use export::ExportedVm;
pub use guest_usage::GuestFigures;
pub use kept_images::ListedKeptImage;
pub use list::{AskedProviders, ListPlace, ListQuery, ListScope, ListedVm, UnimportedVm, VmList};
pub use recreate::Recreation;
pub use refresh::{Difference, RefreshReport};
pub use replace::{PlannedReplacement, ReplaceOutcome};
pub use ssh_config::{SshConfig, SshConfigEntry, SshConfigInstalled};
pub use stacks::{ImportedStack, ListedStack, StackState, ValidStack};
pub use status::{StackDiff, StatusReport, VmStatus};
pub use store::{Backup, Export, KeyRestore, LockStatus, Moved, PlannedMove, PlannedRestore, StoreStatus};
pub use watch::{
    OperationState, RefreshRequest, WatchOptions, WatchUpdate, WatchedMachine, WatchedOperation, WatchedVm,
};
pub use which::DefaultVm;

impl Session {
    /// Waits until a running VM is provisioned, and reads cloud-init's result.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operation.
    pub fn wait(&self, name: &VmName, run: &RunOptions<'_>) -> Result<(Record, Verdict), Error> {
        self.operate_on(name, None, run, async |engine| engine.wait(name).await)
    }

    /// Adds and removes tags of a VM.
    ///
    /// # Errors
    /// For a key to remove that isn't there and for too many tags; errors of the store.
    pub fn change_tags(
        &self,
        name: &VmName,
        add: &[(String, String)],
        remove: &[String],
    ) -> Result<Record, Error> {
        // Imports a VM of goloo v0 first.
        self.record(name)?;
        let owner = crate::identity::owner();
        let here = self.here();
        Ok(pollster::block_on(goloo_engine::change_tags(&*self.store, &owner, &here, name, add, remove))?)
    }

    /// Sets or lifts a VM's protection against deletion.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn set_protected(&self, name: &VmName, protected: bool) -> Result<Record, Error> {
        // Imports a VM of goloo v0 first.
        self.record(name)?;
        let owner = crate::identity::owner();
        let here = self.here();
        let protect = goloo_engine::protect(&*self.store, &owner, &here, name, protected);
        Ok(pollster::block_on(protect)?)
    }
}
