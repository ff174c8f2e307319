//! Stands in for `virtiofsd` in tests that need no guest: it accepts goloo's command line, and one connection on the
//! socket that is its standard input, and stays until that is closed. It is strict: an unknown option is an error.
//!
//! `GOLOO_STAND_IN` contains faults, separated by commas:
//! - `old-virtiofsd`: is of a version without the options that goloo needs
//! - `virtiofsd-dies`: fails at once, as where its sandbox is forbidden
#![allow(clippy::unwrap_used, reason = "a test program: a panic is its error message")]

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::{ExitCode, exit};
use std::thread;
use std::time::Duration;

/// Longer than any test; ensures that a forgotten stand-in doesn't stay forever.
const LIFETIME: Duration = Duration::from_secs(900);

const OPTIONS: [&str; 7] = [
    "--fd=",
    "--shared-dir",
    "--sandbox=",
    "--log-level=",
    "--readonly",
    "--translate-uid=",
    "--translate-gid=",
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "--help") {
        let known = if fault("old-virtiofsd") { &OPTIONS[..4] } else { &OPTIONS[..] };
        known.iter().for_each(|option| println!("    {option}"));
        return ExitCode::SUCCESS;
    }
    while let Some(word) = words.next() {
        if !OPTIONS.iter().any(|option| word.starts_with(option)) {
            eprintln!("error: unexpected argument '{word}' found");
            return ExitCode::from(2);
        }
        if word == "--shared-dir"
            && !words.next().is_some_and(|folder| std::fs::metadata(folder).unwrap().is_dir())
        {
            eprintln!("[ERROR virtiofsd] the shared folder does not exist");
            return ExitCode::FAILURE;
        }
    }
    if fault("virtiofsd-dies") {
        eprintln!(
            "[ERROR virtiofsd] Error entering sandbox: Unshare(Os {{ code: 1, kind: PermissionDenied }})"
        );
        return ExitCode::FAILURE;
    }
    thread::spawn(|| {
        thread::sleep(LIFETIME);
        exit(1);
    });
    let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    let (mut qemu, _) = listener.accept().unwrap();
    // QEMU waits for the features of the device.
    let _ = qemu.write_all(b"f");
    let mut rest = Vec::new();
    let _ = qemu.read_to_end(&mut rest);
    ExitCode::SUCCESS
}

fn fault(name: &str) -> bool {
    std::env::var("GOLOO_STAND_IN").is_ok_and(|faults| faults.split(',').any(|fault| fault == name))
}
