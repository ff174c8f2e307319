//! Copies the contents of a store into another one: by `state move`, as one document, or as a backup.

mod budget;
pub mod bundle;
pub(crate) mod compare;
mod contents;
pub mod document;
mod relocate;
mod write;

pub use compare::{Conflict, conflicts, displaced, foreign, missing, refused_by_providers};
pub use contents::{ArchivedVm, StoreContents, UNFINISHED, Vm, read};
pub use relocate::Move;
pub use write::{overwrite, write};

pub use crate::error::TransferError;
