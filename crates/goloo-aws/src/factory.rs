//! What registers the provider.

use async_trait::async_trait;
use goloo_model::change::{ChangeCosts, Cost};
use goloo_model::check::Check;
use goloo_model::provider::{Provider, ProviderContext, ProviderError, ProviderFactory};
use goloo_model::provider_id::ProviderId;
use goloo_model::provider_info::{
    ImageKey, LocalChoice, MachinePlace, ProviderInfo, UserDataFeatures, UserDataForm, UserDataLimit,
};
use goloo_model::record::{DetailsError, Extra, Record};

use crate::context::AwsProvider;
use crate::details::Details;
use crate::settings::Settings;

/// EC2's limit, in bytes, before base64.
const USER_DATA_MAX: usize = 16_384;

/// What the provider is.
pub const INFO: ProviderInfo = ProviderInfo {
    id: ProviderId::known("aws"),
    title: "AWS",
    place: MachinePlace::Elsewhere,
    local_choice: LocalChoice::Named,
    user_data: UserDataFeatures {
        form: UserDataForm::Parts,
        limit: Some(UserDataLimit { bytes: USER_DATA_MAX, of: "EC2" }),
        mounts_in_guest: false,
        adds_default_user: false,
    },
    image_key: ImageKey::Os,
    changes: ChangeCosts {
        size: Cost::Restart,
        disk: Cost::Now,
        ports: Cost::Now,
        auto_ports: Cost::Ignored,
        ssh_cidr: Cost::Now,
        mounts: Cost::Ignored,
        dns: Cost::Now,
        instance_type: Cost::Restart,
        cloud: Cost::Replace,
        ttl_of_provider: true,
        restart_can_wait: false,
    },
};

/// The provider, for a registry.
pub fn provider() -> impl ProviderFactory + 'static {
    Factory
}

struct Factory;

#[async_trait]
impl ProviderFactory for Factory {
    fn info(&self) -> &'static ProviderInfo {
        &INFO
    }

    fn check_details(&self, details: &Extra) -> Result<(), DetailsError> {
        Details::read(details).map(drop)
    }

    fn is_set_up(&self) -> bool {
        crate::is_set_up()
    }

    fn ssh_blocks(&self, record: &Record) -> Vec<String> {
        Details::of(record).map(|details| details.ssh_cidr).unwrap_or_default()
    }

    async fn doctor(&self, _: &ProviderContext) -> Result<Vec<Check>, ProviderError> {
        Ok(crate::doctor(&Settings::from_env().await).await)
    }

    async fn open(&self, context: &ProviderContext) -> Result<Box<dyn Provider>, ProviderError> {
        let settings = Settings { trust: context.trust.clone(), ..Settings::from_env().await };
        Ok(Box::new(AwsProvider::new(settings)))
    }
}
