//! The backend that stores the records: from the settings, or from an address on the command line.

mod address;
mod bucket;
mod form;
pub(crate) mod service;
mod store_backend;

pub use bucket::ObjectPlace;
pub use form::StateBackend;
pub use service::Service;
pub use store_backend::Backend;

pub use crate::error::AddressError;
