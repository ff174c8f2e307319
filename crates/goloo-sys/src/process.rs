//! Identifies processes on this host, and provides a clock that can't be set.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// Identifies a process uniquely on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The boot id; empty if the system has none.
    pub boot: String,
    /// The pid namespace; empty if the system has none.
    pub pid_space: String,
    /// The id.
    pub pid: u32,
    /// When it started, in ticks since boot; 0 if unknown.
    pub start: u64,
}

impl Process {
    /// This process.
    pub fn this() -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let pid_space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let pid = std::process::id();
        Self {
            boot: boot.trim().to_owned(),
            pid_space: pid_space.display().to_string(),
            pid,
            start: start_of(pid).unwrap_or(0),
        }
    }

    /// Whether this process is known to be over, as seen by the process `here`. `start_of` is asked only where the two
    /// share their process ids.
    pub fn is_over(&self, here: &Self, start_of: impl FnOnce(u32) -> Option<u64>) -> bool {
        if here.boot.is_empty() || self.boot.is_empty() {
            return false;
        }
        if self.boot != here.boot {
            // What it left is used by one running system at a time, and that one has restarted.
            return true;
        }
        self.pid_space == here.pid_space && start_of(self.pid) != Some(self.start)
    }
}

/// Seconds since the computer started, with those that it slept. All its processes see the same, and setting the
/// time of day changes nothing.
pub fn uptime() -> i64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    clock_gettime(clock).tv_sec
}

/// When the process that has this id here started, in ticks since boot; `None` when there is none, when it is dead and
/// only waits for its parent to notice, or where the system has no /proc.
pub fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything, so the rest is counted from the last
    // bracket: state is field 3, the start time field 22 (proc(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") && !has_other_threads(pid) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The first thread of a process can be a zombie while others still run, with all ports and locks in their hands.
fn has_other_threads(pid: u32) -> bool {
    fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() > 1)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_is_over_when_it_has_ended_even_as_a_zombie() {
        let here = Process::this();
        assert!(!here.is_over(&here, start_of));
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let start = start_of(child.id()).unwrap();
        let process = Process { pid: child.id(), start, ..here.clone() };
        assert!(!process.is_over(&here, start_of));
        assert!(Process { start: start + 1, ..process.clone() }.is_over(&here, start_of));
        child.kill().unwrap();
        while start_of(child.id()).is_some() {
            std::thread::yield_now();
        }
        assert!(process.is_over(&here, start_of), "a zombie");
        child.wait().unwrap();
        assert!(process.is_over(&here, start_of));
    }

    #[test]
    fn processes_of_other_containers_are_never_over_and_of_earlier_boots_always() {
        let here = Process::this();
        let elsewhere = Process { pid_space: "pid:[1]".into(), pid: 1, ..here.clone() };
        assert!(!elsewhere.is_over(&here, start_of));
        assert!(Process { boot: "another".into(), ..here.clone() }.is_over(&here, start_of));
    }
}
