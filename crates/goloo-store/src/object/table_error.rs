//! What a lock table said, in the store's words.

use std::error::Error;
use std::fmt;

use goloo_core::store::{ServiceProblem, StoreError, safe_writes_hint};
use object_store::Error as ObjectError;

/// A DynamoDB table, as a person looks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Its name.
    pub name: String,
    /// The region that it is in.
    pub region: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the DynamoDB table \"{}\" in {}", self.name, self.region)
    }
}

/// Why a row of the lock table can't be had.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// No such table.
    #[error("there is no DynamoDB table \"{}\" in {}", .0.name, .0.region)]
    Missing(TableName),
    /// The table has another key.
    #[error("the key of {0} isn't LockID alone, a string")]
    Key(TableName),
    /// Writes are done whose condition isn't met.
    #[error("{0} ignores the conditions of writes")]
    Unconditional(TableName),
    /// Another process has the row.
    #[error("another process is writing {key}: its row in {table} ends in {seconds} s")]
    Busy {
        /// The table.
        table: TableName,
        /// The row.
        key: String,
        /// Until its end.
        seconds: i64,
    },
    /// The row has no end, so goloo didn't write it.
    #[error("{table} has a row {key} that isn't goloo's")]
    Foreign {
        /// The table.
        table: TableName,
        /// The row.
        key: String,
    },
    /// A write of this process whose end isn't known may arrive and undo the next.
    #[error("an earlier write of {key} may still arrive, for {seconds} s")]
    Late {
        /// The row.
        key: String,
        /// Until that is over.
        seconds: i64,
    },
    /// The service refuses us, or we have nothing to show it.
    #[error("{table} doesn't let us {permission}")]
    Denied {
        /// The table.
        table: TableName,
        /// What it takes: `dynamodb:PutItem`.
        permission: String,
        /// What was said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The service serves no request, for a reason that the person can remove.
    #[error("{table} is unavailable: {problem}")]
    Service {
        /// The table.
        table: TableName,
        /// The reason.
        problem: ServiceProblem,
        /// What was said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Nobody answers.
    #[error("{table} can't be reached at {endpoint}")]
    Unreachable {
        /// The table.
        table: TableName,
        /// The service's URL.
        endpoint: String,
        /// No connection could be made, as opposed to one on which no answer came.
        nobody: bool,
        /// What was seen.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Something else answers.
    #[error("{endpoint} doesn't answer as DynamoDB does (status {status})")]
    Odd {
        /// The URL that was asked.
        endpoint: String,
        /// The answer's status.
        status: u16,
    },
    /// The service failed, or is busy.
    #[error("{table}: {said}")]
    Failed {
        /// The table.
        table: TableName,
        /// In its words.
        said: String,
    },
}

impl TableError {
    /// Whether the same may succeed a moment later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Late { .. } | Self::Unreachable { .. } | Self::Failed { .. } => true,
            Self::Missing(_)
            | Self::Key(_)
            | Self::Unconditional(_)
            | Self::Foreign { .. }
            | Self::Denied { .. }
            | Self::Service { .. }
            | Self::Odd { .. } => false,
        }
    }

    /// Whether somebody else is at work, and it is over when they are done.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Late { .. })
    }

    /// What to do, with a command to run where there is one.
    pub fn way_out(&self) -> String {
        match self {
            Self::Missing(table) => make(table),
            Self::Key(table) => {
                let other = TableName { name: format!("{}-goloo", table.name), ..table.clone() };
                format!("{}, and its name in lockTable", make(&other))
            }
            Self::Unconditional(_) => safe_writes_hint(false).to_owned(),
            Self::Busy { seconds, .. } | Self::Late { seconds, .. } => {
                format!("run the command again in {} s", (*seconds).max(1))
            }
            Self::Foreign { table: TableName { name, region }, key } => format!(
                "if nobody needs it: aws dynamodb delete-item --region {region} --table-name {name} \
                 --key '{{\"LockID\": {{\"S\": \"{key}\"}}}}'"
            ),
            Self::Denied { .. } => {
                "the credentials need dynamodb:GetItem, dynamodb:PutItem and dynamodb:DeleteItem on the table"
                    .to_owned()
            }
            Self::Service { problem, .. } => problem.hint(),
            Self::Unreachable { .. } => "look at the network, then run the command again".to_owned(),
            Self::Odd { .. } => "set AWS_ENDPOINT_URL_DYNAMODB to the table's service".to_owned(),
            Self::Failed { .. } => "run the command again in a moment".to_owned(),
        }
    }

    pub(super) fn into_store_error(self, place: &str) -> StoreError {
        match self {
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
            other => {
                StoreError::Backend { action: "write", place: place.to_owned(), source: Box::new(other) }
            }
        }
    }
}

/// The command that makes a table which serves.
fn make(TableName { name, region }: &TableName) -> String {
    format!(
        "aws dynamodb create-table --region {region} --table-name {name} \
         --attribute-definitions AttributeName=LockID,AttributeType=S \
         --key-schema AttributeName=LockID,KeyType=HASH --billing-mode PAY_PER_REQUEST"
    )
}

impl From<TableError> for ObjectError {
    fn from(error: TableError) -> Self {
        Self::Generic { store: "DynamoDB", source: Box::new(error) }
    }
}
