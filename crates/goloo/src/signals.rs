//! Signals that ask the process to end: SIGINT (Ctrl-C), SIGTERM, and SIGHUP (the terminal is gone).

use std::io;
use std::sync::OnceLock;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What asks, as people know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndSignal {
    CtrlC,
    Terminate,
    HangUp,
}

impl EndSignal {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::CtrlC => "Ctrl-C",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
        }
    }
}

/// Calls `react` with each of these signals from now on, on a thread of its own. Only the first call counts: one part
/// of goloo says what signals do. A SIGHUP that was ignored when goloo started (`nohup`) stays ignored.
pub fn watch(mut react: impl FnMut(EndSignal) + Send + 'static) -> io::Result<()> {
    static WATCHED: OnceLock<()> = OnceLock::new();
    if WATCHED.set(()).is_err() {
        return Ok(());
    }
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    if !hang_up_is_ignored() {
        signals.add_signal(SIGHUP)?;
    }
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            react(match signal {
                SIGTERM => EndSignal::Terminate,
                SIGHUP => EndSignal::HangUp,
                _ => EndSignal::CtrlC,
            });
        }
    })?;
    Ok(())
}

/// Asked of the kernel, since reading a signal's action takes unsafe code.
#[cfg(target_os = "linux")]
fn hang_up_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (SIGHUP - 1) & 1 == 1)
}

/// Asked of a child, which inherits it: one that ignores SIGHUP outlives its own.
#[cfg(not(target_os = "linux"))]
fn hang_up_is_ignored() -> bool {
    let child = std::process::Command::new("sh").args(["-c", "kill -HUP $$"]).status();
    child.is_ok_and(|status| status.success())
}
