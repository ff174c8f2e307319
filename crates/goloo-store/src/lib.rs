//! Where goloo keeps its records: the back ends of [`goloo_core::store::Store`].

pub mod bucket_address;
pub mod dir;
mod line;
#[cfg(feature = "object")]
pub mod object;
mod rules;
pub mod seal;
pub mod sqlite;
mod suitable;

pub use dir::DirStore;
pub use seal::Seal;
pub use sqlite::SqliteStore;

/// What a user may decide about a store on this computer.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Writes to a network file system too, where locks may not hold between hosts.
    pub allow_network: bool,
    /// How documents are kept.
    pub seal: Seal,
}
