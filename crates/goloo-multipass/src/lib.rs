//! goloo's Multipass provider: machines made by the daemon of another program, through its command.
//!
//! Traps that shape this crate, all read from Multipass's source (1.13 to 1.17):
//! - The client may die and the daemon goes on: what a launch came to is asked for, never concluded from
//!   how the launch ended. A launch's standard output is a spinner and is never read.
//! - While the image is fetched the instance is "being prepared": it is in no list, and its name is taken.
//! - Names are all that tells instances apart, and they are used again: before an instance that goloo has
//!   not seen itself make is touched, the user-data in it must hold the machine's own host key.
//! - The daemon serves all requests in one thread. `list` and plain `info` run commands in guests from there, a
//!   stop waits there for its guest: whatever hangs then hangs for everybody.
//! - `exec` and `shell` start a stopped instance, `start` launches one when it is given the primary
//!   instance's name, and `purge` empties everybody's trash.

mod address;
mod cli;
mod clone;
mod create;
mod delete;
mod doctor;
pub mod errors;
mod evidence;
mod handover;
mod json;
mod launch;
mod look;
mod plan;
mod power;
mod provider;
mod settings;
mod snapshot;
mod stray;

pub use doctor::doctor;
pub use provider::{LAUNCH, MultipassProvider, RESOURCE};
pub use settings::{Limits, Mark, Settings};
