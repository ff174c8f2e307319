//! Where goloo keeps its records: the back ends of [`goloo_core::store::Store`].

pub mod dir;

pub use dir::{DirStore, Options};
