//! Signals that ask the process to end: SIGINT (Ctrl-C), SIGTERM, and SIGHUP (the terminal was closed).

use std::io;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The signal.
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

/// Calls `react` for each of these signals from now on, on a separate thread. Only the first call has an effect: one
/// part of goloo decides what signals do. A SIGHUP that was ignored when goloo started (`nohup`) stays ignored.
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

/// Forwards signals to a program that goloo runs, until it is dropped.
pub struct Passing(());

static PROGRAM: AtomicI32 = AtomicI32::new(0);
static IS_PASSED: AtomicBool = AtomicBool::new(false);

impl Passing {
    /// Starts before the program does, so that no signal is lost.
    pub fn begin() -> io::Result<Self> {
        watch(|_| {
            IS_PASSED.store(true, Ordering::SeqCst);
            if let Some(pid) = Pid::from_raw(PROGRAM.load(Ordering::SeqCst)) {
                let _ = kill_process(pid, Signal::TERM);
            }
        })?;
        Ok(Self(()))
    }

    /// Sets the program that receives the signals.
    pub fn to(&self, program: &Child) {
        PROGRAM.store(i32::try_from(program.id()).unwrap_or(0), Ordering::SeqCst);
    }

    /// Whether a signal was received.
    pub fn is_used(&self) -> bool {
        IS_PASSED.load(Ordering::SeqCst)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        PROGRAM.store(0, Ordering::SeqCst);
    }
}

/// The time limit for writing a message about a signal.
const TELL_LIMIT: Duration = Duration::from_secs(1);

/// Writes a message on another thread and waits for it with a time limit: a pipe without a reader, or another thread
/// that writes to it, must not delay signal handling.
pub fn tell(words: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel::<()>();
    let thread = std::thread::Builder::new().spawn(move || {
        words();
        drop(done);
    });
    // Without a thread there is no message.
    if thread.is_ok() {
        let _ = wait.recv_timeout(TELL_LIMIT);
    }
}

/// Exits the process immediately, whatever its other threads wait for; nothing is flushed.
pub fn leave(code: u8) -> ! {
    signal_hook::low_level::exit(i32::from(code))
}

/// Resets SIGCHLD if goloo was started with it ignored (by a daemon, by some CI runners): otherwise the system discards
/// the exit statuses of the programs that goloo starts.
pub fn see_children_end() {
    handle_without_effect(Signal::CHILD);
}

/// Makes a write beyond the file size limit (`ulimit -f`) an error like that of a full disk, instead of a signal that
/// kills goloo. The signal is handled rather than ignored, so that programs started by goloo get the system's default,
/// as from a shell.
pub fn survive_file_limit() {
    handle_without_effect(Signal::XFSZ);
}

fn handle_without_effect(signal: Signal) {
    let unused = Arc::new(AtomicBool::new(false));
    // It fails only for signals that can't be handled.
    let _ = signal_hook::flag::register(signal.as_raw(), unused);
}

/// Read from the kernel, since querying a signal's action takes unsafe code.
#[cfg(target_os = "linux")]
fn hang_up_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (SIGHUP - 1) & 1 == 1)
}

/// Tested with a child, which inherits the setting: if SIGHUP is ignored, the child survives sending it to itself.
#[cfg(not(target_os = "linux"))]
fn hang_up_is_ignored() -> bool {
    let child = std::process::Command::new("sh").args(["-c", "kill -HUP $$"]).status();
    child.is_ok_and(|status| status.success())
}
