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
use goloo_core::finding::Finding;
use goloo_core::store::StoreError;
use object_store::aws::{AmazonS3Builder, AwsCredential, AwsCredentialProvider};
use object_store::client::HttpConnector;
use object_store::{ClientOptions, CredentialProvider, ObjectStore as Objects, StaticCredentialProvider};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::bucket::Access;
use super::http::{Connector, ServiceClock};
use super::settings::{LockTable, ObjectSettings, no_retries};
use super::signed::SignedService;
use super::table::Table;
use super::tabled::Tabled;
use super::versions;

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
    answer: Duration,
) -> Result<Access, StoreError> {
    let way = Way::find(settings).await;
    let endpoint = settings.endpoint.as_ref().or(way.endpoint.as_ref());
    // Where a table stands in for conditions none is sent: empty objects stay, and harm nobody.
    let conditional_delete = endpoint.is_none() && settings.lock_table.is_none();
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.bucket)
        .with_region(&way.region)
        .with_credentials(way.credentials.clone())
        .with_disable_bulk_delete(true)
        .with_retry(no_retries())
        .with_http_connector(connector);
    if let Some(endpoint) = endpoint {
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    let mut objects: Arc<dyn Objects> = Arc::new(builder.build().map_err(|error| settings.unusable(error))?);
    if let Some(table) = &settings.lock_table {
        let table = way.table(table, answer).map_err(|error| settings.unusable(error))?;
        objects = Arc::new(Tabled::new(objects, &settings.bucket, table, answer));
    }
    Ok(Access { objects, clock, conditional_delete })
}

/// What `object_store` can't tell: whether the bucket keeps former versions, and whether the table can hold
/// locks.
pub(super) async fn examine(settings: &ObjectSettings, answer: Duration) -> Vec<Finding> {
    let way = Way::find(settings).await;
    let endpoint = settings.endpoint.clone().or_else(|| way.endpoint.clone());
    let mut findings = Vec::new();
    if let Ok(s3) = way.service("s3", endpoint, &Arc::default(), answer) {
        findings.extend(versions::examine(&settings.bucket, &s3).await);
    }
    if let Some(table) = &settings.lock_table
        && let Ok(table) = way.table(table, answer)
    {
        findings.push(table.examine().await);
    }
    findings
}

/// What the settings and AWS's chain say together.
struct Way {
    region: String,
    credentials: AwsCredentialProvider,
    /// The chain's, for all services.
    endpoint: Option<String>,
}

impl Way {
    async fn find(settings: &ObjectSettings) -> Self {
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
        let credentials: AwsCredentialProvider = match &settings.keys {
            Some(keys) => Arc::new(StaticCredentialProvider::new(AwsCredential {
                key_id: keys.access_key_id.clone(),
                secret_key: keys.secret_access_key.clone(),
                token: None,
            })),
            None => Arc::new(Chain { provider: config.credentials_provider(), last: Mutex::default() }),
        };
        let region = config.region().map_or(REGION, |region| region.as_ref()).to_owned();
        Self { region, credentials, endpoint: config.endpoint_url().map(str::to_owned) }
    }

    /// The lock table, where half of the time for an answer is waited for each of its own.
    fn table(&self, table: &LockTable, answer: Duration) -> object_store::Result<Table> {
        let clock = Arc::new(ServiceClock::default());
        let endpoint = table.endpoint.clone().or_else(table_endpoint).or_else(|| self.endpoint.clone());
        let service = self.service("dynamodb", endpoint, &clock, answer / 2)?;
        Ok(Table { service, clock, name: table.name.clone() })
    }

    fn service(
        &self,
        name: &'static str,
        endpoint: Option<String>,
        clock: &Arc<ServiceClock>,
        limit: Duration,
    ) -> object_store::Result<SignedService> {
        let client = Connector(clock.clone()).connect(&ClientOptions::default())?;
        let (region, credentials) = (self.region.clone(), self.credentials.clone());
        let endpoint = endpoint.unwrap_or_else(|| format!("https://{name}.{region}.amazonaws.com"));
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Ok(SignedService { client, credentials, name, region, endpoint, limit })
    }
}

/// AWS's own variable for the endpoint of one service.
fn table_endpoint() -> Option<String> {
    std::env::var("AWS_ENDPOINT_URL_DYNAMODB").ok().filter(|endpoint| !endpoint.is_empty())
}

/// AWS's chain for `object_store`, which has none of its own.
#[derive(Debug)]
struct Chain {
    provider: Option<SharedCredentialsProvider>,
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
