//! Which process is which on this computer, and a clock that nobody sets.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// A process that can be told from every other one on this computer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Names the start of the computer; empty where the system has no name for it.
    pub boot: String,
    /// Names the set of process ids; empty where the system has no name for it.
    pub pid_space: String,
    /// The id.
    pub pid: u32,
    /// When it started, in ticks since boot; 0 where that isn't known.
    pub start: u64,
}

/// What leases need of the computer: the real one in [`ThisMachine`], a made-up one in tests.
pub trait Machine: Send + Sync {
    /// Seconds since the computer started, with those that it slept. All its processes see the same,
    /// and setting the time of day changes nothing.
    fn uptime(&self) -> i64;

    /// This process.
    fn this_process(&self) -> Process;

    /// When the process that has this id here started; `None` when there is none, or when it is dead
    /// and only waits for its parent to notice.
    fn start_of(&self, pid: u32) -> Option<u64>;
}

/// The computer that goloo runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn uptime(&self) -> i64 {
        #[cfg(target_os = "linux")]
        let clock = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let clock = ClockId::Monotonic;
        clock_gettime(clock).tv_sec
    }

    fn this_process(&self) -> Process {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let pid_space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let pid = std::process::id();
        Process {
            boot: boot.trim().to_owned(),
            pid_space: pid_space.display().to_string(),
            pid,
            start: self.start_of(pid).unwrap_or(0),
        }
    }

    fn start_of(&self, pid: u32) -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in front, in brackets, may hold anything (proc(5)).
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        if matches!(state, "Z" | "X") {
            return None;
        }
        fields.nth(18)?.parse().ok()
    }
}

impl Process {
    /// Whether this process is known to be over, as seen by `here`.
    pub(super) fn is_over(&self, here: &Self, machine: &dyn Machine) -> bool {
        if here.boot.is_empty() || self.boot.is_empty() {
            return false;
        }
        if self.boot != here.boot {
            // The file is used by one running system at a time, and that one has started anew.
            return true;
        }
        self.pid_space == here.pid_space && machine.start_of(self.pid) != Some(self.start)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_over_when_it_has_ended_whether_its_parent_noticed_or_not() {
        let here = ThisMachine.this_process();
        assert!(!here.is_over(&here, &ThisMachine));
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("every system has cat");
        let start = ThisMachine.start_of(child.id()).expect("it runs");
        let process = Process { pid: child.id(), start, ..here.clone() };
        assert!(!process.is_over(&here, &ThisMachine));
        assert!(Process { start: start + 1, ..process.clone() }.is_over(&here, &ThisMachine));
        child.kill().expect("it runs");
        while ThisMachine.start_of(child.id()).is_some() {
            std::thread::yield_now();
        }
        assert!(process.is_over(&here, &ThisMachine), "a zombie");
        child.wait().expect("it was killed");
        assert!(process.is_over(&here, &ThisMachine));
    }

    #[test]
    fn a_process_of_another_container_is_never_known_to_be_over_and_one_from_before_a_restart_always() {
        let here = ThisMachine.this_process();
        assert!(
            !Process { pid_space: "pid:[1]".into(), pid: 1, ..here.clone() }.is_over(&here, &ThisMachine)
        );
        assert!(Process { boot: "another".into(), ..here.clone() }.is_over(&here, &ThisMachine));
    }
}
