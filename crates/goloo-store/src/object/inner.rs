//! What the store and its locks share: the thread that makes their requests, and the bucket, opened when it is first
//! needed.

use std::sync::Arc;

use goloo_model::store::StoreError;
use tokio::sync::OnceCell;

use super::access::Access;
use super::bucket::{Bucket, Limits};
use super::error::backend;
use super::opening;
use super::options::{Options, Pace};
use super::place::Place;
use super::settings::ObjectSettings;
use super::worker::Worker;

pub(super) struct Inner {
    pub worker: Worker,
    pub opening: Opening,
    pub place: OnceCell<Place>,
    /// Set once the service is known to honor conditional writes.
    pub writable: OnceCell<()>,
    pub location: String,
    pub prefix: String,
    pub options: Options,
}

/// How the bucket is opened.
pub(super) enum Opening {
    Settings(ObjectSettings),
    Ready(Access),
}

impl Inner {
    pub async fn place(&self) -> Result<&Place, StoreError> {
        self.place.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<Place, StoreError> {
        let access = match &self.opening {
            Opening::Ready(access) => access.clone(),
            Opening::Settings(settings) => opening::access(settings, self.options.pace.answer).await?,
        };
        let Pace { lease, answer, patience, .. } = self.options.pace;
        let limits = Limits { request: answer, write: patience, late: lease.length };
        let bucket = Arc::new(Bucket::new(access, &self.prefix, self.location.clone(), limits));
        Ok(Place { bucket, seal: self.options.seal.clone() })
    }

    pub fn finished<T>(&self, answer: Option<Result<T, StoreError>>) -> Result<T, StoreError> {
        answer.unwrap_or_else(|| Err(backend("finish a request", &self.location, "its thread ended")))
    }
}
