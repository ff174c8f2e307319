//! VMs that are started when the user logs in.

use goloo_model::name::VmName;
use goloo_model::record::Record;

use crate::autostart::{LoginService, StartCommand};
use crate::error::{AutostartError, Error};
use crate::identity;
use crate::session::Session;

/// A VM whose start at login was turned on or off.
#[derive(Debug, Clone)]
pub struct AutostartChange {
    /// The record.
    pub record: Record,
    /// Whether it starts only when the user logs in, not when the computer boots.
    pub waits_for_login: bool,
}

impl Session {
    /// Starts a VM at each login from now on, with a service that runs `command`; or no longer.
    ///
    /// # Errors
    /// [`AutostartError`]; errors of the store; a VM that belongs elsewhere.
    pub fn set_autostart(
        &self,
        name: &VmName,
        is_on: bool,
        command: &StartCommand,
    ) -> Result<AutostartChange, Error> {
        let record = self.record(name)?;
        self.expect_here([&record])?;
        if !record.host_bound {
            return Err(AutostartError::NotLocal { name: name.clone() }.into());
        }
        let service = LoginService::in_home(&self.paths.home);
        // The service without a VM does nothing, a mark without the service would be a lie.
        if is_on {
            service.enable(command)?;
        }
        let (owner, here) = (identity::owner(), self.here());
        let change = goloo_engine::set_autostart(&*self.store, &owner, &here, name, is_on);
        let record = pollster::block_on(change)?;
        if !is_on && self.autostart_vms()?.is_empty() {
            service.disable()?;
        }
        Ok(AutostartChange { record, waits_for_login: service.waits_for_login(&identity::user()) })
    }

    /// The VMs to start at login. Where others write to the store, only those whose record proves that they were created
    /// with this state folder.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn autostart_vms(&self) -> Result<Vec<VmName>, Error> {
        let here = self.here();
        let is_meant = |record: &Record| record.autostart && here.trust.is_trusted(record);
        Ok(self.records_here(&here)?.filter(is_meant).map(|record| record.name).collect())
    }
}
