//! Signals that ask the process to end: SIGINT (Ctrl-C), SIGTERM, and SIGHUP (the terminal is gone).

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use rustix::process::Signal;
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

/// How long standard error may take for what is said of a signal.
const TELL_LIMIT: Duration = Duration::from_secs(1);

/// Says something on another thread, and waits for that with a limit: a pipe that nobody reads, or another thread that
/// writes to it, must keep no signal from being heard.
pub fn tell(words: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel::<()>();
    let thread = std::thread::Builder::new().spawn(move || {
        words();
        drop(done);
    });
    // Without a thread it goes unsaid.
    if thread.is_ok() {
        let _ = wait.recv_timeout(TELL_LIMIT);
    }
}

/// Ends the process at once, whatever its other threads wait for: nothing is written out or waited for.
pub fn leave(code: u8) -> ! {
    signal_hook::low_level::exit(i32::from(code))
}

/// Makes a write beyond the limit on the size of files (`ulimit -f`) an error like that of a full disk, and no signal
/// that ends goloo in the middle of it. It is handled and not ignored, so that programs that goloo starts get the
/// system's default, as from a shell.
pub fn survive_file_limit() {
    let unused = Arc::new(AtomicBool::new(false));
    // It fails for signals that can't be handled, which this isn't.
    let _ = signal_hook::flag::register(Signal::XFSZ.as_raw(), unused);
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
