//! Which bucket, and how it is opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use goloo_core::finding::Finding;
use goloo_core::store::StoreError;
use object_store::{BackoffConfig, RetryConfig};

use super::bucket::Access;
#[cfg(any(feature = "gcs", feature = "azure"))]
use super::bucket::ConditionalWrites;
use super::error;
use super::http::{Connector, ServiceClock};

/// The kinds of object stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Amazon S3, and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Kind {
    /// The word in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
        }
    }
}

/// A key pair for S3.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// `AWS_ACCESS_KEY_ID`
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`
    pub secret_access_key: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// A DynamoDB table that makes writes conditional where the store can't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockTable {
    /// Its name. Its key is `LockID`, a string.
    pub name: String,
    /// The service's URL; without one, what AWS's environment and profile say.
    pub endpoint: Option<String>,
}

/// Where the store lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSettings {
    /// The whole address, as a person writes it: `s3://bucket/prefix?region=…`.
    pub location: String,
    /// Whose service.
    pub kind: Kind,
    /// The bucket, or Azure's container.
    pub bucket: String,
    /// The folder in it; empty for the bucket itself.
    pub prefix: String,
    /// S3's region; without one, what AWS's environment and profile say.
    pub region: Option<String>,
    /// Another service of this kind: `https://…`; `http://…` too, for one on this machine. Google's is
    /// always its own.
    pub endpoint: Option<String>,
    /// Azure's storage account; without one, what `AZURE_STORAGE_ACCOUNT_NAME` says.
    pub account: Option<String>,
    /// S3's key pair; without one, what AWS's own tools would use.
    pub keys: Option<Keys>,
    /// Whether the bucket is a part of the host's name, for services of S3's kind that know no other way.
    pub virtual_host: bool,
    /// For S3 without conditional writes. All who share the bucket name the same one.
    pub lock_table: Option<LockTable>,
}

impl ObjectSettings {
    /// Opens the bucket, where so long is waited for one answer; nothing is asked of it yet.
    ///
    /// # Errors
    /// [`StoreError::Backend`] when this build has no such kind of store, or the settings don't fit.
    #[cfg_attr(not(feature = "s3"), allow(unused_variables, reason = "only S3 has lock tables"))]
    pub async fn access(&self, answer: Duration) -> Result<Access, StoreError> {
        let clock = Arc::new(ServiceClock::default());
        let connector = Connector { clock: clock.clone(), content_md5: self.kind == Kind::S3 };
        match self.kind {
            #[cfg(feature = "s3")]
            Kind::S3 => super::s3::open(self, connector, clock, answer).await,
            #[cfg(feature = "gcs")]
            Kind::Gcs => {
                let builder = object_store::gcp::GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(&self.bucket)
                    .with_retry(no_retries())
                    .with_http_connector(connector);
                let objects = Arc::new(builder.build().map_err(|error| self.unusable(error))?);
                Ok(self.plain_access(objects, clock))
            }
            #[cfg(feature = "azure")]
            Kind::Azure => {
                let mut builder = object_store::azure::MicrosoftAzureBuilder::from_env()
                    .with_container_name(&self.bucket)
                    .with_retry(no_retries())
                    .with_http_connector(connector);
                if let Some(account) = &self.account {
                    builder = builder.with_account(account);
                }
                if let Some(endpoint) = &self.endpoint {
                    builder = builder.with_endpoint(endpoint.clone());
                }
                let objects = Arc::new(builder.build().map_err(|error| self.unusable(error))?);
                Ok(self.plain_access(objects, clock))
            }
            #[allow(unreachable_patterns, reason = "a build may leave out any of them")]
            other => {
                let text = format!("this goloo was built without \"{}\"", other.as_str());
                Err(error::backend("open", &self.location, text))
            }
        }
    }

    #[cfg(any(feature = "gcs", feature = "azure"))]
    fn plain_access(&self, objects: Arc<dyn object_store::ObjectStore>, clock: Arc<ServiceClock>) -> Access {
        let service = self.endpoint.clone().or_else(|| self.account.clone());
        let service = service.unwrap_or_else(|| self.kind.as_str().to_owned());
        let writes = ConditionalWrites::Unknown { lock_table: false };
        Access { objects, clock, conditional_delete: false, service, writes, table: None }
    }

    /// What is to be said of the place, where so long is waited for one answer.
    #[cfg_attr(not(feature = "s3"), allow(unused_variables, reason = "only S3 is asked"))]
    pub(super) async fn examine(&self, answer: Duration) -> Vec<Finding> {
        match self.kind {
            #[cfg(feature = "s3")]
            Kind::S3 => super::s3::examine(self, answer).await,
            _ => Vec::new(),
        }
    }

    pub(super) fn unusable(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        error::backend("open", &self.location, error)
    }
}

/// The store repeats requests itself: it alone knows what to look at in between.
pub(super) fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, backoff: BackoffConfig::default(), ..RetryConfig::default() }
}
