//! What machines are provisioned with again.

use goloo_cloudinit::{ComposeInput, Composed, compose};
use goloo_engine::Reprovision;
use goloo_model::provider_info::ProviderInfo;
use goloo_model::record::{Digest, Record, UserKeys};
use goloo_model::spec::ResolvedStack;

use crate::error::{Error, RequestError};
use crate::keys;
use crate::operation::ManagedVm;
use crate::render::ProcessRenderer;
use crate::session::Session;

/// The digest of the files that a VM's interrupted apply was to provision it with.
pub(super) fn interrupted(record: &Record) -> Option<&Digest> {
    record.operation.as_ref()?.apply.as_ref()?.reprovision.as_ref()
}

impl Session {
    /// The users of a machine that exists, with their keys, and its user-data.
    pub(super) fn compose_again(
        &self,
        stack: &ResolvedStack,
        info: &ProviderInfo,
    ) -> Result<(Vec<UserKeys>, Composed), Error> {
        let users = keys::fetch(self, stack)?;
        let input = ComposeInput {
            stack,
            users: &users,
            client_key: &self.keys.client_key()?.0,
            host_key: None,
            provider: info,
            network: None,
            renderer: &ProcessRenderer,
        };
        let composed = compose(&input).map_err(goloo_engine::plan::PlanError::CloudInit)?;
        Ok((users, composed))
    }

    /// What a resume provisions the VM with again. `None` if it doesn't, or if the stack has changed since.
    pub(super) fn reprovision_again(&self, vm: &ManagedVm) -> Result<Option<Reprovision>, Error> {
        let record = &vm.record;
        let Some(wanted) = interrupted(record) else { return Ok(None) };
        let inputs = record.operation.as_ref().and_then(|operation| operation.apply.as_deref());
        let overrides = inputs.map(|inputs| inputs.overrides.clone()).unwrap_or_default();
        if !overrides.is_empty() && !self.here().started_operation(record) {
            return Err(RequestError::UntrustedOverrides { name: record.name.clone() }.into());
        }
        let snapshot = self.local(self.store.snapshot(&record.name))?;
        let found = self.stack_now(record, &snapshot, None, false)?;
        let files = found.snapshot();
        if files.digest() != *wanted {
            return Ok(None);
        }
        let stack = self.resolve_with(&found, record, &overrides)?;
        let (users, composed) = self.compose_again(&stack, vm.provider.info())?;
        Ok(Some(Reprovision { user_data: composed.user_data, files, users }))
    }
}
