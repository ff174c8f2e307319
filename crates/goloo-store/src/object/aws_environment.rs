//! What the settings and AWS's own environment, profiles and credentials say together.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider as Tls, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder as HttpBuilder, Connector as Sdk};
use goloo_model::store::StoreError;
use goloo_sys::tls::CertificateBundle;
use object_store::aws::{AwsCredential, AwsCredentialProvider};
use object_store::client::HttpConnector;
use object_store::{ClientOptions, CredentialProvider, StaticCredentialProvider};
use rustls::ClientConfig;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::http::{Connector, ServiceClock};
use super::settings::ObjectSettings;
use super::signed::SignedService;
use super::trust::{self, ca_bundle};
use crate::bucket_address::{AddressError, aws_domain, check_endpoint, check_region, with_bucket};

/// The default region if neither settings nor profile name one; S3's error response then contains the bucket's own
/// region.
const REGION: &str = "us-east-1";
/// The timeout of the credential chain, which may query a sign-on server or the instance metadata.
const CHAIN_LIMIT: Duration = Duration::from_secs(15);
/// Credentials are requested again after this time, even if they are valid for longer.
const KEPT: Duration = Duration::from_secs(240);

/// What all of them say.
pub(super) struct AwsEnvironment {
    pub region: String,
    pub credentials: AwsCredentialProvider,
    /// The chain's, for all services.
    pub endpoint: Option<String>,
    tls: Arc<ClientConfig>,
}

impl AwsEnvironment {
    pub async fn find(settings: &ObjectSettings, tls: Arc<ClientConfig>) -> Result<Self, StoreError> {
        let context = trusted(settings)?;
        let http = HttpBuilder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = Sdk::builder().proxy_config(ProxyConfig::from_env());
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            connector.tls_provider(Tls::Rustls(CryptoMode::Ring)).tls_context(context.clone()).build()
        });
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http);
        if let Some(region) = &settings.region {
            loader = loader.region(Region::new(region.clone()));
        }
        let config = loader.load().await;
        let credentials: AwsCredentialProvider = match &settings.keys {
            Some(keys) => Arc::new(StaticCredentialProvider::new(AwsCredential {
                key_id: keys.access_key_id.clone(),
                secret_key: keys.secret_access_key.clone(),
                token: None,
            })),
            None => Arc::new(Chain { provider: config.credentials_provider(), last: Mutex::default() }),
        };
        let region = config.region().map_or(REGION, |region| region.as_ref()).to_owned();
        check(settings, &region)?;
        let endpoint = variable(ENDPOINT_OF_S3).or_else(|| config.endpoint_url().map(str::to_owned));
        let found = Self { region, credentials, endpoint, tls };
        if settings.virtual_host {
            check_endpoint(&found.request_endpoint(settings))
                .map_err(|error| misconfigured(settings, "the bucket's host", error))?;
        }
        Ok(found)
    }

    pub fn s3_endpoint(&self, settings: &ObjectSettings) -> String {
        let given = settings.endpoint.as_ref().or(self.endpoint.as_ref());
        let endpoint = given.cloned().unwrap_or_else(|| self.aws_endpoint("s3"));
        endpoint.trim_end_matches('/').to_owned()
    }

    /// Where requests for the bucket are sent: with a virtual host the bucket is part of the name.
    pub fn request_endpoint(&self, settings: &ObjectSettings) -> String {
        let endpoint = self.s3_endpoint(settings);
        if settings.virtual_host { with_bucket(&endpoint, &settings.bucket) } else { endpoint }
    }

    /// Whether this is AWS itself, as opposed to a compatible service.
    pub fn is_aws(&self, settings: &ObjectSettings) -> bool {
        settings.endpoint.is_none() && self.endpoint.is_none()
    }

    fn aws_endpoint(&self, service: &str) -> String {
        format!("https://{service}.{}.{}", self.region, aws_domain(&self.region))
    }

    pub fn service(
        &self,
        name: &'static str,
        endpoint: Option<String>,
        clock: &Arc<ServiceClock>,
        limit: Duration,
    ) -> object_store::Result<SignedService> {
        let connector = Connector { tls: self.tls.clone(), clock: clock.clone(), content_md5: false };
        let client = connector.connect(&ClientOptions::default())?;
        let (region, credentials) = (self.region.clone(), self.credentials.clone());
        let endpoint = endpoint.unwrap_or_else(|| self.aws_endpoint(name));
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Ok(SignedService { client, credentials, name, region, endpoint, limit })
    }
}

/// Whom the search for credentials trusts: as the store itself. The SDK reads the system's certificates itself, and
/// from the same places.
fn trusted(settings: &ObjectSettings) -> Result<TlsContext, StoreError> {
    let Some(file) = ca_bundle() else { return Ok(TlsContext::default()) };
    let bundle =
        CertificateBundle::read(&file).map_err(|error| trust::misconfigured(settings, error.into()))?;
    let store = TrustStore::empty().with_pem_certificate(bundle.pem);
    TlsContext::builder().with_trust_store(store).build().map_err(|error| settings.unusable(error))
}

/// AWS's own variables for endpoints. The SDK ignores invalid values, and would use AWS instead.
const ENDPOINT_OF_S3: &str = "AWS_ENDPOINT_URL_S3";
pub(super) const ENDPOINT_OF_DYNAMODB: &str = "AWS_ENDPOINT_URL_DYNAMODB";
const ENDPOINT_OF_ALL: &str = "AWS_ENDPOINT_URL";

pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn misconfigured(settings: &ObjectSettings, whose: &str, error: AddressError) -> StoreError {
    let message = format!("{whose} {}", error.message);
    StoreError::Misconfigured { place: settings.location.clone(), message, hint: error.hint.into() }
}

/// Refuses values from the environment or a profile that are invalid for any service.
fn check(settings: &ObjectSettings, region: &str) -> Result<(), StoreError> {
    let refused = |whose: &str, error: AddressError| misconfigured(settings, whose, error);
    for name in [ENDPOINT_OF_S3, ENDPOINT_OF_DYNAMODB, ENDPOINT_OF_ALL] {
        if let Some(url) = variable(name) {
            check_endpoint(&url).map_err(|error| refused(name, error))?;
        }
    }
    if let Some(url) = &settings.endpoint {
        check_endpoint(url).map_err(|error| refused("the endpoint", error))?;
    }
    check_region(region).map_err(|error| refused("the region", error))
}

/// AWS's credential chain for `object_store`, which has none of its own.
#[derive(Debug)]
struct Chain {
    provider: Option<SharedCredentialsProvider>,
    last: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the search for AWS credentials timed out")]
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
        let provider = self.provider.as_ref().ok_or_else(|| denied(NoAnswer))?;
        let found = timeout(CHAIN_LIMIT, provider.provide_credentials()).await;
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
