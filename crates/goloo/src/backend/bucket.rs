//! A part of a bucket, and how it is opened.

use goloo_core::finding::Finding;
use goloo_store::Seal;

use super::form::AddressingStyle;
use crate::error::CliError;

/// A part of a bucket, as the settings name it. Credentials aren't in it: they come from the service's
/// own chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPlace {
    /// Who keeps the bucket.
    pub service: Service,
    /// The bucket; Azure calls it a container.
    pub bucket: String,
    /// The first part of all keys, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The region (S3).
    pub region: Option<String>,
    /// Where the service is, when it isn't the usual place.
    pub endpoint: Option<String>,
    /// How requests name the bucket (S3).
    pub addressing_style: Option<AddressingStyle>,
    /// A DynamoDB table for locks, where the store has no conditional writes (S3).
    pub lock_table: Option<String>,
    /// The storage account (Azure).
    pub account: Option<String>,
}

/// What kinds of buckets there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// S3 and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Service {
    /// The word for it in the settings.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
        }
    }

    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    pub(super) fn from_scheme(scheme: &str) -> Option<Self> {
        [Self::S3, Self::Gcs, Self::Azure].into_iter().find(|service| service.scheme() == scheme)
    }
}

impl ObjectPlace {
    #[cfg(feature = "object")]
    pub(super) async fn examine(&self, seal: Seal) -> Result<Vec<Finding>, CliError> {
        Ok(self.open(seal)?.examine().await)
    }

    #[cfg(not(feature = "object"))]
    pub(super) async fn examine(&self, seal: Seal) -> Result<Vec<Finding>, CliError> {
        self.open(seal).map(|_| Vec::new())
    }

    #[cfg(feature = "object")]
    pub(super) fn open(&self, seal: Seal) -> Result<goloo_store::object::ObjectStore, CliError> {
        use crate::identity;
        use goloo_store::object::{Kind, LockTable, ObjectSettings, ObjectStore, Options};

        let lock_table = self.lock_table.clone().map(|name| LockTable { name, endpoint: None });
        let settings = ObjectSettings {
            location: self.to_string(),
            kind: match self.service {
                Service::S3 => Kind::S3,
                Service::Gcs => Kind::Gcs,
                Service::Azure => Kind::Azure,
            },
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            account: self.account.clone(),
            keys: None,
            virtual_host: self.addressing_style == Some(AddressingStyle::Virtual),
            lock_table,
        };
        Ok(ObjectStore::open(settings, Options { seal, person: identity::person(), ..Options::default() })?)
    }

    #[cfg(not(feature = "object"))]
    pub(super) fn open(&self, _: Seal) -> Result<goloo_store::DirStore, CliError> {
        Err(CliError::new(
            crate::exit::USAGE,
            "unsupported",
            format!("this goloo was built without a way to {}", self),
            "goloo settings set stateBackend dir, or another goloo",
        ))
    }
}
