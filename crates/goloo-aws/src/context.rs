//! The provider's value: its settings and session, and what all operations ask of them.

use std::sync::Arc;

use goloo_model::provider::ProviderError;

use crate::resource_ref::ResourceRef;
use crate::session::{AwsSession, Clients};
use crate::settings::Settings;
use crate::stack::Stacks;

/// AWS. Its futures need a tokio runtime with I/O and time enabled.
#[derive(Debug)]
pub struct AwsProvider {
    pub(crate) settings: Arc<Settings>,
    pub(crate) session: AwsSession,
}

impl AwsProvider {
    /// Creates a provider without sending any request.
    pub fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Self { session: AwsSession::new(Arc::clone(&settings)), settings }
    }

    pub(crate) fn stacks<'a>(&self, clients: &'a Clients) -> Stacks<'a> {
        Stacks { clients, pace: self.settings.pace }
    }

    /// The region that a record refers to.
    pub(crate) fn region<'a>(&'a self, resource_ref: &'a ResourceRef) -> &'a str {
        resource_ref.region.as_deref().unwrap_or(&self.settings.region)
    }

    /// Refuses to act with another account's credentials, or to conclude from them that something no longer exists.
    pub(crate) async fn check_account(&self, resource_ref: &ResourceRef) -> Result<(), ProviderError> {
        let Some(account) = resource_ref.account() else { return Ok(()) };
        let identity = self.session.identity().await?;
        if identity.account == account {
            return Ok(());
        }
        Err(ProviderError::Permission {
            what: format!(
                "this VM is in the AWS account {account}, but the credentials belong to {}",
                identity.arn
            ),
            hint: "use that account's credentials, for example with AWS_PROFILE".into(),
        })
    }
}
