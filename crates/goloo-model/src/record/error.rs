//! Why a record can't be read.

use super::format::MAX_RECORD_BYTES;

/// Why a text isn't a valid record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Longer than the maximum.
    #[error("its size is {bytes} bytes; the limit is {MAX_RECORD_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Too many values or nested too deeply: pretty-printed, it would be many times as long.
    #[error("{reason}")]
    TooComplex {
        /// Which limit it exceeds.
        reason: String,
    },
    /// Not JSON, or JSON of another shape.
    #[error("{0}")]
    Json(serde_json::Error),
    /// A field has an invalid value.
    #[error("{path}: {reason}")]
    Field {
        /// Its path, such as `createdBy.user` or `resources[0].id`.
        path: String,
        /// What is wrong with it.
        reason: serde_json::Error,
    },
    /// A newer format that this version can't read.
    #[error("written by a newer goloo in a format that this one can't read ({shape}); update goloo")]
    Newer {
        /// The format.
        schema: u32,
        /// The first error.
        shape: serde_json::Error,
    },
    /// A format number that was never used.
    #[error("\"schema\" is 0; the first format is 1")]
    NoSuchSchema,
}
