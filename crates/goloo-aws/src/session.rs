//! The SDK's clients, created when first needed: a plan needs none.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sts::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeSerializationInterceptorContextRef,
};
use aws_sdk_sts::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sts::error::BoxError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider as Tls, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder as HttpBuilder, Connector};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use goloo_sys::tls::{self, CertificateBundle, TrustError};
use http_body_util::Limited;
use tokio::sync::OnceCell;

use crate::error::{AwsError, REGION_HEADER};
use crate::settings::Settings;

/// The timeout of one attempt, and of a call including the SDK's own retries.
const TRY_LIMIT: Duration = Duration::from_secs(20);
const CALL_LIMIT: Duration = Duration::from_secs(60);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The maximum response size, in bytes. A page of a list is below 2 MiB, a template below 1 MiB.
const RESPONSE_MAX: usize = 16 << 20;

/// Adds to each response the region it came from: the SDK's errors don't contain it.
#[derive(Debug)]
struct RegionMark(String);

impl Intercept for RegionMark {
    fn name(&self) -> &'static str {
        "RegionMark"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.response_mut().headers_mut().insert(REGION_HEADER, self.0.clone());
        Ok(())
    }
}

/// Fails a call if the CA bundle can't be read, and rejects a response that is too long.
#[derive(Debug)]
struct CallGuard(Option<TrustError>);

impl Intercept for CallGuard {
    fn name(&self) -> &'static str {
        "CallGuard"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.clone().map_or(Ok(()), |error| Err(error.into()))
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        tracing::debug!(
            call = config.load::<Metadata>().map(Metadata::name),
            status = context.response().status().as_u16(),
            "AWS responded"
        );
        let body = context.response_mut().body_mut();
        *body = SdkBody::from_body_1_x(Limited::new(std::mem::replace(body, SdkBody::taken()), RESPONSE_MAX));
        Ok(())
    }
}

/// The account and identity of the credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account id (12 digits).
    pub account: String,
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
    /// The ARN of the credentials' identity.
    pub arn: String,
}

/// Clients for one region.
#[derive(Debug, Clone)]
pub struct Clients {
    /// The region.
    pub region: String,
    /// CloudFormation.
    pub cloudformation: aws_sdk_cloudformation::Client,
    /// EC2.
    pub ec2: aws_sdk_ec2::Client,
    /// The Parameter Store.
    pub ssm: aws_sdk_ssm::Client,
}

/// Access to AWS with one set of credentials.
#[derive(Debug)]
pub struct AwsSession {
    settings: Arc<Settings>,
    config: OnceCell<Config>,
    identity: OnceCell<Identity>,
}

#[derive(Debug)]
struct Config {
    sdk: SdkConfig,
    /// Why the CA bundle can't be used; then no call can be made.
    untrusting: Option<TrustError>,
}

impl Config {
    fn guard(&self) -> CallGuard {
        CallGuard(self.untrusting.clone())
    }
}

impl AwsSession {
    /// Creates a session without reading or requesting anything.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self { settings, config: OnceCell::new(), identity: OnceCell::new() }
    }

    async fn config(&self) -> &Config {
        self.config.get_or_init(|| load(&self.settings)).await
    }

    /// Clients for a region.
    pub async fn clients(&self, region: &str) -> Clients {
        let config = self.config().await;
        let there = Region::new(region.to_owned());
        let cloudformation = aws_sdk_cloudformation::config::Builder::from(&config.sdk)
            .region(there.clone())
            .interceptor(config.guard())
            .interceptor(RegionMark(region.to_owned()))
            .build();
        let ec2 = aws_sdk_ec2::config::Builder::from(&config.sdk)
            .region(there.clone())
            .interceptor(config.guard())
            .interceptor(RegionMark(region.to_owned()))
            .build();
        let ssm = aws_sdk_ssm::config::Builder::from(&config.sdk)
            .region(there)
            .interceptor(config.guard())
            .interceptor(RegionMark(region.to_owned()))
            .build();
        Clients {
            region: region.to_owned(),
            cloudformation: aws_sdk_cloudformation::Client::from_conf(cloudformation),
            ec2: aws_sdk_ec2::Client::from_conf(ec2),
            ssm: aws_sdk_ssm::Client::from_conf(ssm),
        }
    }

    /// The Route 53 client; Route 53 has no regions.
    pub async fn route53(&self) -> aws_sdk_route53::Client {
        let config = self.config().await;
        let route53 = aws_sdk_route53::config::Builder::from(&config.sdk).interceptor(config.guard());
        aws_sdk_route53::Client::from_conf(route53.build())
    }

    /// The credentials' identity; looked up once.
    pub async fn identity(&self) -> Result<&Identity, AwsError> {
        self.identity.get_or_try_init(|| self.ask_identity()).await
    }

    async fn ask_identity(&self) -> Result<Identity, AwsError> {
        const ACTION: &str = "sts:GetCallerIdentity";
        let config = self.config().await;
        let sts = aws_sdk_sts::config::Builder::from(&config.sdk)
            .interceptor(config.guard())
            .interceptor(RegionMark(self.settings.region.clone()));
        let client = aws_sdk_sts::Client::from_conf(sts.build());
        let answer =
            client.get_caller_identity().send().await.map_err(|error| AwsError::of(ACTION, &error))?;
        let arn = answer.arn().unwrap_or_default().to_owned();
        Ok(Identity {
            account: answer.account().unwrap_or_default().to_owned(),
            partition: arn.split(':').nth(1).unwrap_or("aws").to_owned(),
            arn,
        })
    }
}

/// As [`tls::trusted`], in the SDK's form: it reads the system's certificates itself, and from the same places.
fn trusted(bundle: Option<&Path>) -> Result<TrustStore, TrustError> {
    match bundle {
        Some(path) => Ok(TrustStore::empty().with_pem_certificate(CertificateBundle::read(path)?.pem)),
        None => Ok(tls::system_certificates().map(|_| TrustStore::default())?),
    }
}

async fn load(settings: &Settings) -> Config {
    let trusted = trusted(settings.ca_bundle.as_deref());
    let untrusting = trusted.as_ref().err().cloned();
    let trusted = trusted.unwrap_or_else(|_| TrustStore::empty());
    let tls = TlsContext::builder().with_trust_store(trusted).build();
    let tls = tls.expect("a context of certificates that were read is complete");
    let http = HttpBuilder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.tls_provider(Tls::Rustls(CryptoMode::Ring)).tls_context(tls.clone()).build()
    });
    let limits = TimeoutConfig::builder()
        .connect_timeout(CONNECT_LIMIT)
        .operation_attempt_timeout(TRY_LIMIT)
        .operation_timeout(CALL_LIMIT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::new(settings.region.clone()))
        .http_client(http)
        .retry_config(RetryConfig::standard().with_initial_backoff(settings.pace.again))
        .timeout_config(limits);
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(credentials) = &settings.credentials {
        loader = loader.credentials_provider(SharedCredentialsProvider::new(credentials.clone()));
    }
    Config { sdk: loader.load().await, untrusting }
}
