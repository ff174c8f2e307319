//! Where goloo keeps its records: the back ends of [`goloo_core::store::Store`].

pub mod dir;
pub mod seal;

pub use dir::{DirStore, Options};
