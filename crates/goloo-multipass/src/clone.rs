//! Clones of instances. A new clone is stopped, so its contents can't be checked: that it is ours follows from its name
//! having been free when the clone was requested, and from the image it shares with its source.

use std::time::Instant;

use async_trait::async_trait;
use goloo_model::name::VmId;
use goloo_model::provider::{Clones, ProviderError, Work};
use goloo_model::record::Record;

use crate::context::{CLONE, MultipassProvider, RESOURCE};
use crate::create::{being_prepared, state_word};
use crate::errors::Refusal;
use crate::inspect::Observed;
use crate::json::{Instance, State};
use crate::user_data_file::UserDataFile;
use crate::vm_instance::VmInstance;

#[async_trait]
impl Clones for MultipassProvider {
    async fn clone_machine(
        &self,
        source: &Record,
        copy: &Record,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        self.expect_ours(source).await?;
        let (from, to) = (VmInstance::of(source), copy.machine_name().as_str());
        self.wait_for_launch_end(&from, Some(work)).await?;
        let original = self.stopped(&from, "clones").await?;
        let end = Instant::now() + self.limits().copy;
        let begun = work.recorded_resource(CLONE).is_some() || work.recorded_resource(RESOURCE).is_some();
        match self.settled(to, &copy.id, end, work).await? {
            Observed::Absent => {
                work.record_resource(CLONE, to).await?;
                work.step("copying the instance");
                self.copy(from.instance, to, &copy.id).await?;
            }
            Observed::There(instance) if begun && is_copy(&instance, &original) => {}
            Observed::There(instance) => return Err(taken(to, &instance)),
            Observed::Preparing => return Err(being_prepared(to)),
        }
        work.record_resource(RESOURCE, to).await?;
        UserDataFile::of(&self.settings().folder, &copy.id).end();
        Ok(())
    }
}

impl MultipassProvider {
    /// Its client holds the lock that shows whether a client is still alive that may yet request the copy.
    async fn copy(&self, from: &str, to: &str, id: &VmId) -> Result<(), ProviderError> {
        const COMMAND: &str = "clone";
        let lock = UserDataFile::of(&self.settings().folder, id).begin(&[])?;
        let mut command = self.cli().command([COMMAND, from, "--name", to]);
        let said = self.cli().finish(COMMAND, command.stdin(lock), self.limits().copy).await?;
        said.success(COMMAND)?;
        Ok(())
    }
}

fn is_copy(instance: &Instance, original: &Instance) -> bool {
    instance.state == State::Stopped
        && instance.image_hash.is_some()
        && instance.image_hash == original.image_hash
}

fn taken(name: &str, instance: &Instance) -> ProviderError {
    ProviderError::failed(
        format!(
            "the name \"{name}\" is already in use in Multipass: {} ({})",
            Refusal::Exists,
            state_word(&instance.state)
        ),
        "use another name for the copy",
    )
}
