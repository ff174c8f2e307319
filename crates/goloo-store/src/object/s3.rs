//! S3, with the credentials that AWS's own tools would use: environment, profiles, single sign-on, roles.
//!
//! Objects are encrypted as the bucket says: since 2023 every bucket of AWS's encrypts what it gets, and a
//! header of ours would take the place of a key that its owner has chosen.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider as Tls, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder as HttpBuilder, Connector as Sdk};
use goloo_core::store::StoreError;
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::bucket::Access;
use super::http::{Connector, ServiceClock};
use super::settings::{ObjectSettings, no_retries};

/// Where a store is looked for when neither settings nor profile say it; the bucket's own region is named by
/// S3's refusal then.
const REGION: &str = "us-east-1";
/// How long the chain may take, with a sign-on server or the instance's metadata in it.
const CHAIN_LIMIT: Duration = Duration::from_secs(15);
/// Credentials are asked for anew after this time, as long as they last at least.
const KEPT: Duration = Duration::from_secs(240);

pub(super) async fn open(
    settings: &ObjectSettings,
    connector: Connector,
    clock: Arc<ServiceClock>,
) -> Result<Access, StoreError> {
    let http = HttpBuilder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Sdk::builder().proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.tls_provider(Tls::Rustls(CryptoMode::Ring)).build()
    });
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http);
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    let config = loader.load().await;
    let endpoint = settings.endpoint.clone().or_else(|| config.endpoint_url().map(str::to_owned));
    let conditional_delete = endpoint.is_none();
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.bucket)
        .with_region(config.region().map_or(REGION, |region| region.as_ref()))
        .with_disable_bulk_delete(true)
        .with_retry(no_retries())
        .with_http_connector(connector);
    if let Some(endpoint) = endpoint {
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    if let Some(keys) = &settings.keys {
        builder =
            builder.with_access_key_id(&keys.access_key_id).with_secret_access_key(&keys.secret_access_key);
    } else if let Some(provider) = config.credentials_provider() {
        builder = builder.with_credentials(Arc::new(Chain { provider, last: Mutex::default() }));
    }
    let objects = Arc::new(builder.build().map_err(|error| settings.unusable(error))?);
    Ok(Access { objects, clock, conditional_delete })
}

/// AWS's chain for `object_store`, which has none of its own.
#[derive(Debug)]
struct Chain {
    provider: SharedCredentialsProvider,
    last: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the search for AWS credentials gave no answer")]
struct NoAnswer;

fn denied(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Unauthenticated { path: "AWS credentials".to_owned(), source: source.into() }
}

#[async_trait]
impl CredentialProvider for Chain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut last = self.last.lock().await;
        if let Some((end, credential)) = &*last
            && Instant::now() < *end
        {
            return Ok(credential.clone());
        }
        let found = timeout(CHAIN_LIMIT, self.provider.provide_credentials()).await;
        let found = found.map_err(|_| denied(NoAnswer))?.map_err(denied)?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        *last = Some((Instant::now() + KEPT, credential.clone()));
        Ok(credential)
    }
}
