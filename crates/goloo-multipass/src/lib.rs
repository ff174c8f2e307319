//! goloo's Multipass provider: machines created by another program's daemon, through its command.
//!
//! Facts from Multipass's source (1.13 to 1.17) that shape this crate:
//! - The client may die while the daemon continues: the outcome of a launch is queried, never inferred from how its
//!   client ended. A launch's standard output is a spinner and is never read.
//! - While its image is downloaded, an instance is "being prepared": no list shows it, but its name is taken.
//! - Only names distinguish instances, and names are reused: before goloo touches an instance it hasn't seen itself
//!   create, the user-data in it must contain the machine's own host key.
//! - The daemon serves all requests in one thread. `list` and plain `info` run commands in guests from there, and a
//!   stop waits there for its guest: a hanging guest blocks every client.
//! - `exec` and `shell` start a stopped instance, `start` launches one when given the primary instance's name, and
//!   `purge` empties the trash of all users.
//!   instance's name, and `purge` empties everybody's trash.

#![warn(missing_docs)]

mod address;
mod changes;
mod cli;
mod clone;
mod context;
mod create;
mod delete;
mod doctor;
pub mod errors;
mod factory;
mod info;
mod inspect;
mod json;
mod launch;
mod orphan;
mod ownership;
mod plan;
mod power;
mod provider;
mod settings;
mod snapshot;
mod usage;
mod user_data_file;
mod vm_instance;

pub use context::{LAUNCH, MultipassProvider, RESOURCE};
pub use doctor::doctor;
pub use factory::provider;
pub use info::INFO;
pub use settings::{Limits, Mark, Settings};
