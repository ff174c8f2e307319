//! The location of a bucket, and how it is opened.

use std::fmt;

use goloo_model::store::StoreError;
use object_store::{BackoffConfig, RetryConfig};

use super::error;

/// The kinds of object stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Amazon S3, and compatible services.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Kind {
    /// The value in settings.
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

/// A DynamoDB table that provides conditional writes if the store doesn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockTable {
    /// Its name. Its key is `LockID`, a string.
    pub name: String,
    /// The service's URL; without one, taken from AWS's environment and profile.
    pub endpoint: Option<String>,
}

/// The location of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSettings {
    /// The full address, as users write it: `s3://bucket/prefix?region=…`.
    pub location: String,
    /// The kind of service.
    pub kind: Kind,
    /// The bucket, or Azure's container.
    pub bucket: String,
    /// The folder in it; empty for the bucket itself.
    pub prefix: String,
    /// S3's region; without one, taken from AWS's environment and profile.
    pub region: Option<String>,
    /// Another service of this kind: `https://…`; `http://…` too, for one on this host. Google Cloud Storage
    /// always uses its own.
    pub endpoint: Option<String>,
    /// Azure's storage account; without one, taken from `AZURE_STORAGE_ACCOUNT_NAME`.
    pub account: Option<String>,
    /// S3's key pair; without one, the credentials that AWS's own tools would use.
    pub keys: Option<Keys>,
    /// Whether the bucket is part of the host name, for S3-compatible services that support nothing else.
    pub virtual_host: bool,
    /// For S3 without conditional writes. All users of the bucket must use the same one.
    pub lock_table: Option<LockTable>,
}

impl ObjectSettings {
    pub(super) fn unusable(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        error::backend("open", &self.location, error)
    }
}

/// The store retries requests itself: only it knows what to check in between.
pub(super) fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, backoff: BackoffConfig::default(), ..RetryConfig::default() }
}
