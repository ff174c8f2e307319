//! A service as the caller opens it, and what is known of it.

use std::sync::Arc;

use async_trait::async_trait;
use goloo_model::store::StoreError;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore as Objects, UpdateVersion};

/// The maximum size of an object, in bytes: four documents, with the overhead of base64 and encryption.
pub(super) const OBJECT_MAX: u64 = 8 << 20;

/// Provides the service's time, in seconds since 1970; `None` before its first response.
pub trait Clock: Send + Sync {
    /// The service's current time.
    fn now(&self) -> Option<i64>;
}

/// A service and its features.
#[derive(Clone)]
pub struct Access {
    /// The bucket.
    pub objects: Arc<dyn Objects>,
    /// The service's clock.
    pub clock: Arc<dyn Clock>,
    /// Whether a deletion can be conditional on the ETag. If not, empty objects remain.
    pub conditional_delete: bool,
    /// The service's identity: its endpoint, and that of its lock table.
    pub service: String,
    /// What is known about its conditional writes.
    pub writes: ConditionalWrites,
    /// The lock table that replaces conditional writes, if any.
    pub table: Option<Arc<dyn TableCheck>>,
}

/// A lock table that can be checked.
#[async_trait]
pub trait TableCheck: Send + Sync {
    /// Checks that only one of several concurrent callers gets a row. `place` names the store in errors.
    async fn check(&self, key: &str, place: &str) -> Result<(), StoreError>;
}

/// Whether a service is known to honor conditional writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalWrites {
    /// The caller guarantees it.
    Known,
    /// It is checked before the first write. `lock_table` says whether one would help if it doesn't.
    Unknown {
        /// Whether a lock table can replace conditional writes.
        lock_table: bool,
    },
}

/// An object as returned by the service: content, version, and time of its last write.
pub(super) type Got = (Vec<u8>, UpdateVersion, i64);

impl Access {
    pub(super) async fn get(&self, path: &Path) -> object_store::Result<Got> {
        let got = self.objects.get_opts(path, GetOptions::default()).await?;
        let meta = got.meta.clone();
        let version = UpdateVersion { e_tag: meta.e_tag, version: meta.version };
        Ok((Vec::from(got.bytes().await?), version, meta.last_modified.timestamp()))
    }
}
