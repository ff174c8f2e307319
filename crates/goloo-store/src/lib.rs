//! Back ends of [`goloo_model::store::Store`], which keep goloo's records.

#![warn(missing_docs)]

pub mod bucket_address;
pub mod dir;
mod fs_check;
pub mod lease;
#[cfg(feature = "object")]
pub mod object;
mod options;
mod rules;
pub mod seal;
pub mod sqlite;
mod summary_decode;

pub use dir::DirStore;
pub use goloo_sys::lock::LockTimeouts;
pub use options::{Options, RecordCheck, WaitNotice};
pub use seal::Seal;
pub use sqlite::SqliteStore;
