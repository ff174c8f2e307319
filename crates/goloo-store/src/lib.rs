//! Where goloo keeps its records: the back ends of [`goloo_core::store::Store`].

pub mod dir;
#[cfg(feature = "object")]
pub mod object;
pub mod seal;

pub use dir::{DirStore, Options};
