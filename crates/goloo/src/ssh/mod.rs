//! SSH access to a machine: goloo's client key, the pinned host key, and the `ssh` command.

mod connections;
mod guest;
mod guest_shell;
mod key_folder;
mod keys;
mod own_files;
mod own_log;
mod quote;
mod scp;
mod user_config;

pub use connections::{Connection, KeptConnections};
pub use guest::SshGuest;
pub use guest_shell::guest_shell;
pub use key_folder::{KeyFolder, SCP_USER, by_sh};
pub use own_log::OwnLog;
pub use scp::Scp;
pub use user_config::UserConfig;

pub use crate::error::{SshError, UnreachableError};
