//! What guests report about their resources. `multipass info` asks a guest from the daemon's only thread, so a guest is
//! first checked in ways that can't block others: see [`crate::address`].

use async_trait::async_trait;
use goloo_model::provider::{ProviderError, ResourceUsage};
use goloo_model::record::Record;
use goloo_model::usage::GuestUsage;

use crate::context::{MultipassProvider, instance_name};
use crate::errors::CallError;
use crate::json::{self, State};

const INFO: &str = "info";

/// Multipass doesn't tell what an instance uses of this computer.
#[async_trait]
impl ResourceUsage for MultipassProvider {
    async fn guest(&self, record: &Record) -> Result<Option<GuestUsage>, ProviderError> {
        let name = instance_name(record);
        let is_running = self.info(name).await?.is_some_and(|instance| instance.state == State::Running);
        // Checking the guest of an instance that is off would start it.
        if !is_running || !self.guest_responds(name, record.ip()).await {
            return Err(ProviderError::failed(
                format!("the guest of {name} doesn't answer"),
                "wait until it has booted",
            ));
        }
        let bytes = self.cli().call(INFO, [name, "--format", "json"], self.limits().answer).await?;
        let usage = json::guest_usage(&bytes, name);
        Ok(usage.map_err(|source| CallError::Unreadable { command: INFO, source })?)
    }
}
