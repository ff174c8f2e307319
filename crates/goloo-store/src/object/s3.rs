//! S3, with the credentials that AWS's own tools would use.
//!
//! Objects are encrypted as the bucket says: since 2023 every bucket of AWS's encrypts what it gets, and a
//! header of ours would take the place of a key that its owner has chosen.

use std::sync::Arc;
use std::time::Duration;

use goloo_model::check::Check;
use goloo_model::store::StoreError;
use object_store::ObjectStore as Objects;
use object_store::aws::AmazonS3Builder;

use super::access::{Access, ConditionalWrites};
use super::aws_environment::AwsEnvironment;
#[cfg(feature = "lock-table")]
use super::aws_environment::{ENDPOINT_OF_DYNAMODB, variable};
use super::http::{Connector, ServiceClock};
#[cfg(feature = "lock-table")]
use super::lock_table_store::LockTableStore;
#[cfg(feature = "lock-table")]
use super::settings::LockTable;
use super::settings::{ObjectSettings, no_retries};
#[cfg(feature = "lock-table")]
use super::table::Table;
use super::{trust, versions};

pub(super) async fn open(
    settings: &ObjectSettings,
    connector: Connector,
    clock: Arc<ServiceClock>,
    answer: Duration,
) -> Result<Access, StoreError> {
    let aws = AwsEnvironment::find(settings, connector.tls.clone()).await?;
    let endpoint = aws.s3_endpoint(settings);
    // With a lock table there are no conditional requests: empty objects remain, and are harmless.
    let conditional_delete = aws.is_aws(settings) && settings.lock_table.is_none();
    let builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.bucket)
        .with_region(&aws.region)
        .with_credentials(aws.credentials.clone())
        .with_disable_bulk_delete(true)
        .with_retry(no_retries())
        .with_http_connector(connector)
        .with_allow_http(endpoint.starts_with("http://"))
        .with_virtual_hosted_style_request(settings.virtual_host)
        .with_endpoint(aws.request_endpoint(settings));
    let objects: Arc<dyn Objects> = Arc::new(builder.build().map_err(|error| settings.unusable(error))?);
    let writes = ConditionalWrites::Unknown { lock_table: settings.lock_table.is_none() };
    let access = Access { objects, clock, conditional_delete, service: endpoint, writes, table: None };
    with_lock_table(&aws, settings, access, answer)
}

/// Checks that `object_store` can't do: whether the bucket keeps old versions, and whether the table can hold
/// locks.
pub(super) async fn examine(settings: &ObjectSettings, answer: Duration) -> Vec<Check> {
    // Reading the records reports errors in the settings.
    let Ok(tls) = trust::client_config(settings) else { return Vec::new() };
    let Ok(aws) = AwsEnvironment::find(settings, tls).await else { return Vec::new() };
    let mut checks = Vec::new();
    let path = if settings.virtual_host { String::new() } else { format!("/{}", settings.bucket) };
    if let Ok(s3) = aws.service("s3", Some(aws.request_endpoint(settings)), &Arc::default(), answer) {
        checks.extend(versions::examine(&settings.bucket, &path, &s3).await);
    }
    checks.extend(examine_lock_table(&aws, settings, answer).await);
    checks
}

/// Puts the lock table that the settings name before the bucket.
#[cfg(feature = "lock-table")]
fn with_lock_table(
    aws: &AwsEnvironment,
    settings: &ObjectSettings,
    access: Access,
    answer: Duration,
) -> Result<Access, StoreError> {
    let Some(table) = &settings.lock_table else { return Ok(access) };
    let table = Arc::new(lock_table(aws, table, answer).map_err(|error| settings.unusable(error))?);
    let service = format!("{} with the table {} at {}", access.service, table.name, table.service.endpoint);
    let objects = Arc::new(LockTableStore::new(access.objects, &settings.bucket, table.clone(), answer));
    Ok(Access { objects, service, table: Some(table), ..access })
}

#[cfg(not(feature = "lock-table"))]
fn with_lock_table(
    _: &AwsEnvironment,
    settings: &ObjectSettings,
    access: Access,
    _: Duration,
) -> Result<Access, StoreError> {
    match &settings.lock_table {
        Some(_) => Err(StoreError::NotInBuild { what: "lock tables".to_owned(), feature: "lock-table" }),
        None => Ok(access),
    }
}

#[cfg(feature = "lock-table")]
async fn examine_lock_table(
    aws: &AwsEnvironment,
    settings: &ObjectSettings,
    answer: Duration,
) -> Option<Check> {
    let table = lock_table(aws, settings.lock_table.as_ref()?, answer).ok()?;
    Some(table.examine().await)
}

/// Opening the store reports that this build has none.
#[cfg(not(feature = "lock-table"))]
#[allow(clippy::unused_async, reason = "the other builds ask the table")]
async fn examine_lock_table(_: &AwsEnvironment, _: &ObjectSettings, _: Duration) -> Option<Check> {
    None
}

/// The lock table, where half of the time for an answer is waited for each of its own.
#[cfg(feature = "lock-table")]
fn lock_table(aws: &AwsEnvironment, table: &LockTable, answer: Duration) -> object_store::Result<Table> {
    let clock = Arc::new(ServiceClock::default());
    let endpoint =
        table.endpoint.clone().or_else(|| variable(ENDPOINT_OF_DYNAMODB)).or_else(|| aws.endpoint.clone());
    let service = aws.service("dynamodb", endpoint, &clock, answer / 2)?;
    Ok(Table { service, clock, name: table.name.clone() })
}
