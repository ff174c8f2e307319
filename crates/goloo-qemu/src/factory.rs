//! What registers the provider.

use async_trait::async_trait;
use goloo_model::change::{ChangeCosts, Cost};
use goloo_model::check::Check;
use goloo_model::provider::{Provider, ProviderContext, ProviderError, ProviderFactory};
use goloo_model::provider_id::ProviderId;
use goloo_model::provider_info::{
    ImageKey, LocalChoice, MachinePlace, ProviderInfo, UserDataFeatures, UserDataForm,
};
use goloo_model::record::{DetailsError, Extra, MachineLocation, Record};

use crate::context::QemuProvider;
use crate::settings::Settings;

/// What the provider is.
pub const INFO: ProviderInfo = ProviderInfo {
    id: ProviderId::known("qemu"),
    title: "QEMU",
    place: MachinePlace::Loopback,
    local_choice: LocalChoice::Otherwise,
    user_data: UserDataFeatures {
        form: UserDataForm::Parts,
        limit: None,
        mounts_in_guest: true,
        adds_default_user: false,
    },
    image_key: ImageKey::Image,
    changes: ChangeCosts {
        size: Cost::Restart,
        disk: Cost::Now,
        ports: Cost::Now,
        auto_ports: Cost::Restart,
        mounts: Cost::Restart,
        restart_can_wait: true,
        ..ChangeCosts::NONE
    },
};

/// The provider, for a registry.
pub fn provider() -> impl ProviderFactory + 'static {
    Factory
}

struct Factory;

impl Settings {
    /// As the environment and the session say.
    pub fn in_context(context: &ProviderContext) -> Result<Self, ProviderError> {
        let settings = Self::from_env(&context.state, &context.cache.join("images"))?;
        Ok(Self { client_key: context.client_key.clone(), ..settings })
    }
}

#[async_trait]
impl ProviderFactory for Factory {
    fn info(&self) -> &'static ProviderInfo {
        &INFO
    }

    /// It keeps nothing there: its machines' folders have it.
    fn check_details(&self, _: &Extra) -> Result<(), DetailsError> {
        Ok(())
    }

    fn locate(&self, context: &ProviderContext, record: &Record) -> Option<MachineLocation> {
        Some(crate::locate(&context.state.join("vms"), record, &context.trust))
    }

    async fn doctor(&self, context: &ProviderContext) -> Result<Vec<Check>, ProviderError> {
        Ok(crate::doctor(&Settings::in_context(context)?))
    }

    async fn open(&self, context: &ProviderContext) -> Result<Box<dyn Provider>, ProviderError> {
        Ok(Box::new(QemuProvider::new(Settings::in_context(context)?)))
    }
}
