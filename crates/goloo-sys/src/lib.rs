//! What several crates need of the operating system: bounded reads, durable writes, private files and folders, locks
//! with a limit, the identity of processes, trusted certificates, and errors with their causes. No knowledge of VMs.

#![warn(missing_docs)]

pub mod account;
pub mod confine;
pub mod durable;
pub mod error_chain;
pub mod files;
pub mod headroom;
#[cfg(feature = "http")]
pub mod http;
pub mod lock;
pub mod owner;
pub mod private;
pub mod process;
pub mod read;
pub mod socket_path;
#[cfg(feature = "tls")]
pub mod tls;
pub mod umask;
