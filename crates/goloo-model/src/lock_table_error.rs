//! Why a row of a lock table is unavailable.

use std::fmt;

use thiserror::Error;

use crate::hint::Hint;

/// A DynamoDB table, as users identify it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
}

impl TableName {
    /// The command that creates a table of this name that can hold locks.
    fn creation(&self) -> String {
        let Self { name, region } = self;
        format!(
            "aws dynamodb create-table --region {region} --table-name {name} \
             --attribute-definitions AttributeName=LockID,AttributeType=S \
             --key-schema AttributeName=LockID,KeyType=HASH --billing-mode PAY_PER_REQUEST"
        )
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the DynamoDB table \"{}\" in {}", self.name, self.region)
    }
}

/// Why a row of a lock table is unavailable, where no store without a table has the same error.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LockTableError {
    /// The table doesn't exist.
    #[error("there is no DynamoDB table \"{}\" in {}", .0.name, .0.region)]
    Missing(TableName),
    /// The table has a different key.
    #[error("the primary key of {0} isn't the single string attribute LockID")]
    Key(TableName),
    /// Another process holds the row.
    #[error("another process is writing {key}: its row in {table} expires in {seconds} s")]
    Busy {
        /// The table.
        table: TableName,
        /// The row.
        key: String,
        /// Seconds until it expires.
        seconds: i64,
    },
    /// The row has no expiry, so goloo didn't write it.
    #[error("{table} has a row {key} that isn't goloo's")]
    Foreign {
        /// The table.
        table: TableName,
        /// The row.
        key: String,
    },
    /// A write of this process with unknown result may arrive and undo the next one.
    #[error("an earlier write of {key} may still arrive within {seconds} s")]
    Late {
        /// The row.
        key: String,
        /// Seconds until this is no longer possible.
        seconds: i64,
    },
    /// The response isn't DynamoDB's.
    #[error("{endpoint} isn't a DynamoDB service (status {status})")]
    Odd {
        /// The requested URL.
        endpoint: String,
        /// The response's status.
        status: u16,
    },
    /// The service failed, or is busy.
    #[error("{table}: {said}")]
    Failed {
        /// The table.
        table: TableName,
        /// Its error message.
        said: String,
    },
}

impl LockTableError {
    /// Whether another process holds the row, so that the error goes away when it is done.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Late { .. })
    }

    /// Whether the same may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Late { .. } | Self::Failed { .. } => true,
            Self::Missing(_) | Self::Key(_) | Self::Foreign { .. } | Self::Odd { .. } => false,
        }
    }

    /// What to do, with a command to run if there is one.
    pub fn hint(&self) -> Hint {
        let words = match self {
            Self::Missing(table) => table.creation(),
            Self::Key(table) => {
                let other = TableName { name: format!("{}-goloo", table.name), ..table.clone() };
                format!("{}, and its name in lockTable", other.creation())
            }
            Self::Busy { seconds, .. } | Self::Late { seconds, .. } => {
                format!("run the command again in {} s", (*seconds).max(1))
            }
            Self::Foreign { table: TableName { name, region }, key } => format!(
                "if it isn't needed, delete it: aws dynamodb delete-item --region {region} --table-name {name} \
                 --key '{{\"LockID\": {{\"S\": \"{key}\"}}}}'"
            ),
            Self::Odd { .. } => {
                "set AWS_ENDPOINT_URL_DYNAMODB to the endpoint of the table's service".to_owned()
            }
            Self::Failed { .. } => "run the command again in a moment".to_owned(),
        };
        words.into()
    }
}
