//! Copies of instances. A copy comes out stopped, so it can't be looked into: that it is ours is told by
//! the name having been free when the copy was begun, and by the image that it shares with its source.

use std::time::Instant;

use async_trait::async_trait;
use goloo_core::name::VmId;
use goloo_core::provider::{Clones, ProviderError, Work};
use goloo_core::record::Record;

use crate::create::{being_prepared, state_word};
use crate::errors::Refusal;
use crate::handover::Handover;
use crate::json::{Instance, State};
use crate::look::Seen;
use crate::power::VmInstance;
use crate::provider::{CLONE, MultipassProvider, RESOURCE};

#[async_trait]
impl Clones for MultipassProvider {
    async fn clone_machine(
        &self,
        source: &Record,
        copy: &Record,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        self.expect_ours(source).await?;
        let (from, to) = (VmInstance::of(source), copy.name.as_str());
        self.wait_for_launch_end(&from, Some(work)).await?;
        let original = self.stopped(&from, "clones").await?;
        let end = Instant::now() + self.limits().copy;
        let begun = work.noted(CLONE).is_some() || work.noted(RESOURCE).is_some();
        match self.settled(to, &copy.id, end, work).await? {
            Seen::Absent => {
                work.made(CLONE, to).await?;
                work.step("copying the instance");
                self.copy(from.instance, to, &copy.id).await?;
            }
            Seen::There(instance) if begun && is_copy(&instance, &original) => {}
            Seen::There(instance) => return Err(taken(to, &instance)),
            Seen::UnderWay => return Err(being_prepared(to)),
        }
        work.made(RESOURCE, to).await?;
        Handover::of(&self.settings().folder, &copy.id).end();
        Ok(())
    }
}

impl MultipassProvider {
    /// Its client holds the lock that tells whether one lives that may yet ask for the copy.
    async fn copy(&self, from: &str, to: &str, id: &VmId) -> Result<(), ProviderError> {
        const COMMAND: &str = "clone";
        let lock = Handover::of(&self.settings().folder, id).begin(&[])?;
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
            "the name \"{name}\" is taken at Multipass: {} ({})",
            Refusal::Exists,
            state_word(&instance.state)
        ),
        "take another name for the copy",
    )
}
