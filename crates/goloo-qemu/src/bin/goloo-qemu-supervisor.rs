//! The supervisor process alone, for this crate's tests. Real machines use `goloo` itself.

use std::io;
use std::process::{Command, ExitCode};

use goloo_qemu::GuestPlace;

fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    goloo_qemu::answer(&argv, guest_script).unwrap_or(ExitCode::FAILURE)
}

/// A script of the test plays the guest.
fn guest_script(place: &GuestPlace, _: &str) -> io::Result<Command> {
    let mut command = Command::new("sh");
    command.arg(place.state.join("guest.sh"));
    Ok(command)
}
