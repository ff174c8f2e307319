//! A prefix in a bucket, and how to open it.

use goloo_model::check::Check;
use goloo_store::Seal;

use super::service::{AddressingStyle, Service};
use crate::error::Error;

/// A prefix in a bucket, as configured in the settings. Contains no credentials: they come from the service's own
/// credential chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPlace {
    /// The service.
    pub service: Service,
    /// The bucket; Azure calls it a container.
    pub bucket: String,
    /// The prefix of all keys, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The region (S3).
    pub region: Option<String>,
    /// The service's URL, when it isn't the default.
    pub endpoint: Option<String>,
    /// How requests name the bucket (S3).
    pub addressing_style: Option<AddressingStyle>,
    /// A DynamoDB table for locks, where the store has no conditional writes (S3).
    pub lock_table: Option<String>,
    /// The storage account (Azure).
    pub account: Option<String>,
}

impl ObjectPlace {
    #[cfg(feature = "object")]
    pub(super) async fn examine(&self, seal: Seal) -> Result<Vec<Check>, Error> {
        Ok(self.open(seal)?.examine().await)
    }

    #[cfg(not(feature = "object"))]
    pub(super) async fn examine(&self, seal: Seal) -> Result<Vec<Check>, Error> {
        self.open(seal).map(|_| Vec::new())
    }

    #[cfg(feature = "object")]
    pub(super) fn open(&self, seal: Seal) -> Result<goloo_store::object::ObjectStore, Error> {
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
    pub(super) fn open(&self, _: Seal) -> Result<goloo_store::DirStore, Error> {
        let feature = match self.service {
            Service::S3 => "s3",
            Service::Gcs => "gcs",
            Service::Azure => "azure",
        };
        Err(goloo_model::store::StoreError::NotInBuild { what: self.to_string(), feature }.into())
    }
}
