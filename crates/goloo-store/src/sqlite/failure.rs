//! Why work on the database has failed.

use std::path::Path;

use goloo_model::database_error::UntrustedDatabase;
use goloo_model::store::StoreError;
use thiserror::Error;

/// A failure of work on the database, before the action is added.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The refusal of something in the database `file` that others may have put there.
pub(super) fn untrusted(action: &'static str, file: &Path, source: UntrustedDatabase) -> StoreError {
    StoreError::Untrusted { action, file: file.to_owned(), source }
}
