//! What a lock table said, on its way through the library of object stores.

use std::error::Error;

use goloo_model::hint::Hint;
use goloo_model::lock_table_error::{LockTableError, TableName};
use goloo_model::store::{ServiceProblem, StoreError, safe_writes_hint};
use object_store::Error as ObjectError;

/// Why a row of the lock table is unavailable.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    /// For a reason that only tables have.
    #[error(transparent)]
    Table(#[from] LockTableError),
    /// The table performs writes whose condition isn't met.
    #[error("{0} ignores conditions on writes")]
    Unconditional(TableName),
    /// The service refuses the credentials, or there are none.
    #[error("the credentials don't allow {permission} on {table}")]
    Denied {
        table: TableName,
        /// The required permission: `dynamodb:PutItem`.
        permission: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The service rejects every request, for a reason that the user can fix.
    #[error("{table} is unavailable: {problem}")]
    Service {
        table: TableName,
        problem: ServiceProblem,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is no response.
    #[error("{table} can't be reached at {endpoint}")]
    Unreachable {
        table: TableName,
        endpoint: String,
        /// No connection could be made, as opposed to one without a response.
        nobody: bool,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl TableError {
    /// Whether the same request may succeed a moment later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Table(error) => error.is_transient(),
            Self::Unreachable { .. } => true,
            Self::Unconditional(_) | Self::Denied { .. } | Self::Service { .. } => false,
        }
    }

    /// What to do, for a diagnosis.
    pub fn hint(&self) -> Hint {
        match self {
            Self::Table(error) => error.hint(),
            Self::Unconditional(_) => safe_writes_hint(false),
            Self::Denied { .. } => {
                "the credentials need dynamodb:GetItem, dynamodb:PutItem and dynamodb:DeleteItem on the table"
                    .into()
            }
            Self::Service { problem, .. } => problem.hint(),
            Self::Unreachable { .. } => "check the network, then run the command again".into(),
        }
    }

    pub fn into_store_error(self, place: &str) -> StoreError {
        match self {
            Self::Table(source) => StoreError::LockTable { action: "write", place: place.to_owned(), source },
            Self::Denied { table, permission, source } => StoreError::Denied {
                place: table.to_string(),
                action: format!("lock a record ({permission})"),
                source,
            },
            Self::Unconditional(_) => StoreError::UnsafeWrites {
                place: place.to_owned(),
                seen: self.to_string(),
                lock_table: false,
            },
            Self::Service { table, problem, source } => {
                StoreError::Service { place: table.to_string(), problem, source }
            }
            Self::Unreachable { table, endpoint, source, .. } => {
                StoreError::Unreachable { place: format!("{table} at {endpoint}"), source }
            }
        }
    }
}

impl From<TableError> for ObjectError {
    fn from(error: TableError) -> Self {
        Self::Generic { store: "DynamoDB", source: Box::new(error) }
    }
}
