//! goloo as a library: machines on this computer or in AWS, and their records. It prints nothing and never prompts;
//! the command `goloo` (crate `goloo-cli`) is one program that uses it.
//!
//! Start with [`Session`]: it has the user's settings, the store of the records, the [`providers`], and one method for
//! each action ([`actions`]).

#![warn(missing_docs)]

pub mod actions;
pub mod autostart;
pub mod backend;
mod checked_store;
mod docker;
pub mod drift;
pub mod environment;
pub mod error;
pub mod files;
pub mod former;
pub mod grants;
pub mod hosts;
pub mod identity;
pub mod imported;
pub mod keys;
pub mod library;
pub mod migrate;
pub mod observe;
mod open_operations;
pub mod operation;
pub mod paths;
pub mod preflight;
mod program;
pub mod providers;
pub mod registry;
pub mod render;
mod rescue;
mod session;
pub mod settings;
pub mod settings_file;
pub mod shown_state;
pub mod ssh;
pub mod stack;
pub mod state_id;
pub mod transfer;
pub mod vm_file;

pub use error::Error;
pub use providers::{Providers, providers};
pub use session::{Session, wait_notice};

/// Runs one of goloo's internal helper processes if the command line `argv` (program name first) asks for one. A
/// program that uses this library calls it at the start of `main`: goloo starts the current program again to supervise
/// QEMU, to render templates and to edit the hosts file as root.
pub fn answer(argv: &[std::ffi::OsString]) -> Option<std::process::ExitCode> {
    goloo_qemu::answer(argv, ssh::guest_shell)
        .or_else(|| goloo_images::intake::answer(argv))
        .or_else(|| render::answer(argv))
        .or_else(|| hosts::answer_sudo(argv))
}
