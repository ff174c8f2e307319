//! Opens the bucket that the settings name, with the client of its service.

use std::sync::Arc;
use std::time::Duration;

use goloo_model::check::Check;
use goloo_model::store::StoreError;

use super::access::Access;
#[cfg(any(feature = "gcs", feature = "azure"))]
use super::access::ConditionalWrites;
use super::http::{Connector, ServiceClock};
#[cfg(feature = "s3")]
use super::s3;
#[cfg(any(feature = "gcs", feature = "azure"))]
use super::settings::no_retries;
use super::settings::{Kind, ObjectSettings};
use super::trust;

/// Opens the bucket, where so long is waited for one answer; nothing is asked of it yet.
///
/// # Errors
/// [`StoreError::NotInBuild`] when this build has no such kind of store, and [`StoreError::Backend`] when the settings
/// don't fit.
#[cfg_attr(
    not(feature = "s3"),
    allow(unused_variables, clippy::unused_async, reason = "only S3 has lock tables")
)]
pub async fn access(settings: &ObjectSettings, answer: Duration) -> Result<Access, StoreError> {
    let clock = Arc::new(ServiceClock::default());
    let tls = trust::client_config(settings)?;
    let connector = Connector { tls, clock: clock.clone(), content_md5: settings.kind == Kind::S3 };
    match settings.kind {
        #[cfg(feature = "s3")]
        Kind::S3 => s3::open(settings, connector, clock, answer).await,
        #[cfg(feature = "gcs")]
        Kind::Gcs => {
            let builder = object_store::gcp::GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(&settings.bucket)
                .with_retry(no_retries())
                .with_http_connector(connector);
            let objects = Arc::new(builder.build().map_err(|error| settings.unusable(error))?);
            Ok(plain(settings, objects, clock))
        }
        #[cfg(feature = "azure")]
        Kind::Azure => {
            let mut builder = object_store::azure::MicrosoftAzureBuilder::from_env()
                .with_container_name(&settings.bucket)
                .with_retry(no_retries())
                .with_http_connector(connector);
            if let Some(account) = &settings.account {
                builder = builder.with_account(account);
            }
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            let objects = Arc::new(builder.build().map_err(|error| settings.unusable(error))?);
            Ok(plain(settings, objects, clock))
        }
        #[allow(unreachable_patterns, reason = "a build may leave out any of them")]
        other => Err(StoreError::NotInBuild { what: settings.location.clone(), feature: other.as_str() }),
    }
}

#[cfg(any(feature = "gcs", feature = "azure"))]
fn plain(
    settings: &ObjectSettings,
    objects: Arc<dyn object_store::ObjectStore>,
    clock: Arc<ServiceClock>,
) -> Access {
    let service = settings.endpoint.clone().or_else(|| settings.account.clone());
    let service = service.unwrap_or_else(|| settings.kind.as_str().to_owned());
    let writes = ConditionalWrites::Unknown { lock_table: false };
    Access { objects, clock, conditional_delete: false, service, writes, table: None }
}

/// What is to be said of the place, where so long is waited for one answer.
#[cfg_attr(not(feature = "s3"), allow(unused_variables, clippy::unused_async, reason = "only S3 is asked"))]
pub(super) async fn examine(settings: &ObjectSettings, answer: Duration) -> Vec<Check> {
    match settings.kind {
        #[cfg(feature = "s3")]
        Kind::S3 => s3::examine(settings, answer).await,
        _ => Vec::new(),
    }
}
