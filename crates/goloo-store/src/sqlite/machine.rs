//! The computer as leases see it, which tests replace.

use goloo_sys::process::{self, Process};

/// What leases need from the host: the real one in [`ThisMachine`], a fake in tests.
pub trait Machine: Send + Sync {
    /// Seconds since the computer started, as [`process::uptime`].
    fn uptime(&self) -> i64;

    /// This process.
    fn this_process(&self) -> Process;

    /// When the process that has this id here started, as [`process::start_of`].
    fn start_of(&self, pid: u32) -> Option<u64>;
}

/// The host that goloo runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn uptime(&self) -> i64 {
        process::uptime()
    }

    fn this_process(&self) -> Process {
        Process::this()
    }

    fn start_of(&self, pid: u32) -> Option<u64> {
        process::start_of(pid)
    }
}
