//! What registers the provider.

use async_trait::async_trait;
use goloo_model::check::Check;
use goloo_model::provider::{Provider, ProviderContext, ProviderError, ProviderFactory};
use goloo_model::provider_info::ProviderInfo;
use goloo_model::record::{DetailsError, Extra};

use crate::context::MultipassProvider;
use crate::info::INFO;
use crate::settings::{Mark, Settings};

/// The provider, for a registry.
pub fn provider() -> impl ProviderFactory + 'static {
    Factory
}

struct Factory;

impl Settings {
    /// The same, as the environment and the session say.
    pub fn in_context(context: &ProviderContext) -> Result<Self, ProviderError> {
        let mark = context.client_key.clone().map_or(Mark::Nothing, Mark::Key);
        Ok(Self { mark, trust: context.trust.clone(), ..Self::from_env(&context.state)? })
    }
}

#[async_trait]
impl ProviderFactory for Factory {
    fn info(&self) -> &'static ProviderInfo {
        &INFO
    }

    /// It keeps nothing there: Multipass itself has it.
    fn check_details(&self, _: &Extra) -> Result<(), DetailsError> {
        Ok(())
    }

    /// Its daemon isn't asked, which may take long to answer.
    fn is_installed(&self, context: &ProviderContext) -> bool {
        let settings = Settings::from_env(&context.state);
        settings.is_ok_and(|settings| goloo_command::find_program(&settings.program).is_some())
    }

    async fn doctor(&self, context: &ProviderContext) -> Result<Vec<Check>, ProviderError> {
        Ok(vec![crate::doctor(&Settings::in_context(context)?).await])
    }

    async fn open(&self, context: &ProviderContext) -> Result<Box<dyn Provider>, ProviderError> {
        Ok(Box::new(MultipassProvider::new(Settings::in_context(context)?)))
    }
}
