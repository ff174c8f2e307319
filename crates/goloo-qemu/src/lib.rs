//! goloo's QEMU provider: runs machines as plain processes of the user, without root and without a daemon.

#![warn(missing_docs)]

pub mod accel;
mod address;
pub mod args;
mod auto_ports;
mod bake;
mod blocking;
mod changes;
mod clone;
mod console;
mod context;
mod doctor;
mod error;
mod export;
mod factory;
mod firmware;
mod guest_shell;
mod holder;
mod import;
mod launch;
mod live_forwards;
mod lock;
mod lost_folders;
mod machine;
mod memory_copy;
mod network;
mod orphan;
mod ports;
mod power;
mod private_network;
mod private_nic;
mod proc_net;
mod process;
mod provider;
pub mod qmp;
mod saved_machine;
mod saved_memory;
pub mod seed;
mod settings;
mod shared_folder;
mod snapshot;
pub mod supervise;
mod suspend;
mod usage;
mod virtiofs;

pub use context::QemuProvider;
pub use doctor::doctor;
pub use factory::{INFO, provider};
pub use goloo_switch::SWITCH;
pub use guest_shell::{GuestPlace, GuestShell};
pub use machine::{RESOURCE, locate};
pub use settings::{Limits, Settings};
pub use virtiofs::VirtiofsdChoice;

/// Runs as one of goloo's own helper processes if the command line `argv` (including the program's name) asks for one;
/// otherwise returns `None`. They log in to guests with `shell`.
pub fn answer(argv: &[std::ffi::OsString], shell: GuestShell) -> Option<std::process::ExitCode> {
    supervise::answer(argv, shell).or_else(|| goloo_switch::answer(argv))
}
