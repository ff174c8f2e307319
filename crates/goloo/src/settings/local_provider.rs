//! The default provider of local VMs.

use goloo_model::provider_id::ProviderId;

use super::values::Settings;
use crate::error::Error;
use crate::paths::Paths;
use crate::providers::Providers;

impl Settings {
    /// `localProvider`, or the default: what the providers themselves agree on.
    ///
    /// # Errors
    /// [`Error::NoLocalProvider`].
    pub fn local_provider_of(&self, providers: &Providers, paths: &Paths) -> Result<ProviderId, Error> {
        let default = || providers.of_local_vms(&paths.context());
        self.local_provider().or_else(default).ok_or(Error::NoLocalProvider)
    }
}
