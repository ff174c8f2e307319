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
use aws_smithy_http_client::tls::{Provider as Tls, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder as HttpBuilder, Connector as Sdk};
use goloo_core::finding::Finding;
use goloo_core::store::StoreError;
use object_store::aws::{AmazonS3Builder, AwsCredential, AwsCredentialProvider};
use object_store::client::HttpConnector;
use object_store::{ClientOptions, CredentialProvider, ObjectStore as Objects, StaticCredentialProvider};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::bucket::{Access, ConditionalWrites, TableCheck};
use super::http::{Connector, ServiceClock, ca_bundle, roots};
use super::settings::{LockTable, ObjectSettings, no_retries};
use super::signed::SignedService;
use super::table::Table;
use super::tabled::Tabled;
use super::versions;
use crate::bucket_address::{AddressError, aws_domain, check_endpoint, check_region, with_bucket};

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
    let way = Way::find(settings).await?;
    let endpoint = way.s3_endpoint(settings);
    // Where a table stands in for conditions none is sent: empty objects stay, and harm nobody.
    let conditional_delete = way.is_aws(settings) && settings.lock_table.is_none();
    let builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.bucket)
        .with_region(&way.region)
        .with_credentials(way.credentials.clone())
        .with_disable_bulk_delete(true)
        .with_retry(no_retries())
        .with_http_connector(connector)
        .with_allow_http(endpoint.starts_with("http://"))
        .with_virtual_hosted_style_request(settings.virtual_host)
        .with_endpoint(way.request_endpoint(settings));
    let mut service = endpoint;
    let mut check = None;
    let mut objects: Arc<dyn Objects> = Arc::new(builder.build().map_err(|error| settings.unusable(error))?);
    if let Some(table) = &settings.lock_table {
        let table = way.table(table, answer).map_err(|error| settings.unusable(error))?;
        service = format!("{service} with the table {} at {}", table.name, table.service.endpoint);
        let table = Arc::new(table);
        objects = Arc::new(Tabled::new(objects, &settings.bucket, table.clone(), answer));
        check = Some(table as Arc<dyn TableCheck>);
    }
    let writes = ConditionalWrites::Unknown { lock_table: settings.lock_table.is_none() };
    Ok(Access { objects, clock, conditional_delete, service, writes, table: check })
}

/// What `object_store` can't tell: whether the bucket keeps former versions, and whether the table can hold
/// locks.
pub(super) async fn examine(settings: &ObjectSettings, answer: Duration) -> Vec<Finding> {
    // Reading the records reports what is wrong with the settings.
    let Ok(way) = Way::find(settings).await else { return Vec::new() };
    let mut findings = Vec::new();
    let path = if settings.virtual_host { String::new() } else { format!("/{}", settings.bucket) };
    if let Ok(s3) = way.service("s3", Some(way.request_endpoint(settings)), &Arc::default(), answer) {
        findings.extend(versions::examine(&settings.bucket, &path, &s3).await);
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
    async fn find(settings: &ObjectSettings) -> Result<Self, StoreError> {
        let tls = trusted(settings)?;
        let http = HttpBuilder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = Sdk::builder().proxy_config(ProxyConfig::from_env());
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            connector.tls_provider(Tls::Rustls(CryptoMode::Ring)).tls_context(tls.clone()).build()
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
        let way = Self { region, credentials, endpoint };
        if settings.virtual_host {
            check_endpoint(&way.request_endpoint(settings))
                .map_err(|error| misconfigured(settings, "the bucket's host", error))?;
        }
        Ok(way)
    }

    fn s3_endpoint(&self, settings: &ObjectSettings) -> String {
        let given = settings.endpoint.as_ref().or(self.endpoint.as_ref());
        let endpoint = given.cloned().unwrap_or_else(|| self.aws_endpoint("s3"));
        endpoint.trim_end_matches('/').to_owned()
    }

    /// Where requests for the bucket go: with a virtual host the bucket is a part of its name.
    fn request_endpoint(&self, settings: &ObjectSettings) -> String {
        let endpoint = self.s3_endpoint(settings);
        if settings.virtual_host { with_bucket(&endpoint, &settings.bucket) } else { endpoint }
    }

    /// Whether AWS itself answers, as opposed to what speaks like it.
    fn is_aws(&self, settings: &ObjectSettings) -> bool {
        settings.endpoint.is_none() && self.endpoint.is_none()
    }

    fn aws_endpoint(&self, service: &str) -> String {
        format!("https://{service}.{}.{}", self.region, aws_domain(&self.region))
    }

    /// The lock table, where half of the time for an answer is waited for each of its own.
    fn table(&self, table: &LockTable, answer: Duration) -> object_store::Result<Table> {
        let clock = Arc::new(ServiceClock::default());
        let endpoint = table
            .endpoint
            .clone()
            .or_else(|| variable(ENDPOINT_OF_DYNAMODB))
            .or_else(|| self.endpoint.clone());
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
        let connector = Connector { clock: clock.clone(), content_md5: false };
        let client = connector.connect(&ClientOptions::default())?;
        let (region, credentials) = (self.region.clone(), self.credentials.clone());
        let endpoint = endpoint.unwrap_or_else(|| self.aws_endpoint(name));
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Ok(SignedService { client, credentials, name, region, endpoint, limit })
    }
}

/// Whom the search for credentials trusts: as the store itself. The SDK panics over a file that holds no certificates,
/// so they are read before it.
fn trusted(settings: &ObjectSettings) -> Result<TlsContext, StoreError> {
    let Some(file) = ca_bundle() else { return Ok(TlsContext::default()) };
    let refused = |message: String| StoreError::Misconfigured {
        place: settings.location.clone(),
        message,
        hint: "name a file of certificates in PEM form, or unset AWS_CA_BUNDLE".to_owned(),
    };
    roots(&file).map_err(|error| refused(error.to_string()))?;
    let pem = std::fs::read(&file).map_err(|error| refused(format!("{}: {error}", file.display())))?;
    let store = TrustStore::empty().with_pem_certificate(pem);
    let context = TlsContext::builder().with_trust_store(store).build();
    context.map_err(|error| refused(error.to_string()))
}

/// AWS's own variables for endpoints. The SDK passes over what it can't read in them, and would ask AWS instead.
const ENDPOINT_OF_S3: &str = "AWS_ENDPOINT_URL_S3";
const ENDPOINT_OF_DYNAMODB: &str = "AWS_ENDPOINT_URL_DYNAMODB";
const ENDPOINT_OF_ALL: &str = "AWS_ENDPOINT_URL";

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn misconfigured(settings: &ObjectSettings, whose: &str, error: AddressError) -> StoreError {
    let message = format!("{whose} {}", error.message);
    StoreError::Misconfigured { place: settings.location.clone(), message, hint: error.hint }
}

/// Refuses what the environment or a profile says and no service has.
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
