//! What several crates need of the operating system: reading files with a limit, private files and folders,
//! locks that are waited for with a limit. No knowledge of VMs.

pub mod account;
pub mod headroom;
pub mod lock;
pub mod private;
pub mod read;
pub mod umask;
