//! goloo's QEMU provider: machines as plain processes of the user, without root and without a daemon.

pub mod accel;
pub mod arch;
pub mod args;
mod clone;
mod console;
mod doctor;
mod error;
mod files;
mod firmware;
pub mod image;
mod launch;
mod machine;
mod ports;
mod power;
mod process;
mod provider;
pub mod qmp;
mod relay;
pub mod seed;
mod settings;
mod snapshot;
mod stray;
pub mod supervise;

pub use doctor::doctor;
pub use launch::find_program;
pub use machine::sight;
pub use provider::{QemuProvider, RESOURCE};
pub use settings::{Limits, Settings};

/// Is one of the processes that goloo starts of its own program, where the command line `argv` (with the program's name
/// first) says so.
pub fn answer(argv: &[std::ffi::OsString]) -> Option<std::process::ExitCode> {
    supervise::answer(argv).or_else(|| image::intake::answer(argv))
}
