//! Invalid store addresses.

use crate::backend::service::Service;

/// Why a string isn't a backend address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It has no known scheme.
    #[error("\"{address}\" is not the address of a store")]
    Unknown {
        /// The text.
        address: String,
    },
    /// It has a bucket's scheme, but the rest is invalid.
    #[error("\"{address}\" is not a valid bucket address")]
    Bucket {
        /// The text.
        address: String,
        /// The service of the bucket.
        service: Service,
        /// What is wrong with its values; empty when it can't be parsed at all.
        problems: Vec<String>,
    },
}

impl AddressError {
    /// The stable word for it.
    pub fn code(&self) -> &'static str {
        "usage"
    }
}
