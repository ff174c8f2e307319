//! Imports machines that have no record.

use goloo_engine::AdoptRequest;
use goloo_model::access::LoginName;
use goloo_model::events::EventContext;
use goloo_model::guest;
use goloo_model::name::{VmId, VmName};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{Extra, Record, SshAccess};

use crate::error::Error;
use crate::operation::RunOptions;
use crate::session::Session;

impl Session {
    /// Creates a record for an existing machine: the one with this id at its provider, else the one called `name`. With
    /// `user`, goloo can log in to a machine that it created and whose host key is still pinned here.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operation.
    pub fn adopt(
        &self,
        name: &VmName,
        provider: ProviderId,
        id: Option<&str>,
        user: Option<&LoginName>,
        run: &RunOptions<'_>,
    ) -> Result<Record, Error> {
        let provider = self.provider(provider)?;
        let request = AdoptRequest {
            name: name.clone(),
            id: id.map(str::to_owned),
            created_by: self.creator()?,
            access: &|id| self.pinned_access(id, user?),
        };
        Ok(self.operate(EventContext::of(name, None), &*provider, run, async |engine| {
            engine.adopt(&request).await
        })??)
    }

    /// SSH access to a machine that goloo created: it accepts goloo's key, and its host key was pinned.
    fn pinned_access(&self, id: &VmId, user: &LoginName) -> Option<SshAccess> {
        let host_key = self.keys.pinned(&guest::alias(id))?;
        Some(SshAccess {
            user: user.clone(),
            account: None,
            login_problem: None,
            host_key,
            extra: Extra::new(),
        })
    }
}
