//! QEMU processes, identified by the machine they serve and never by a process id alone: the kernel reuses ids. An id
//! counts only together with the start time. A process goloo didn't start itself counts only if its command line names
//! the machine's pid file, and if it was started by and runs as this user or the owner of the machine's folder, since
//! anyone can start a process with such a command line.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use goloo_model::time::Timestamp;
use goloo_sys::process::uptime;
use serde::{Deserialize, Serialize};

use crate::virtiofs::process_prefix;

/// One process, distinguished from others with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QemuProcess {
    /// The process id.
    pub pid: u32,
    /// When it started: the kernel's ticks since boot on Linux, a digest of `ps`'s output elsewhere.
    pub start: u64,
}

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUsage {
    /// The CPU time of all its threads since it started.
    pub cpu_time: Duration,
    /// Its resident memory, in bytes.
    pub memory: u64,
}

/// Limits the rescans: a busy machine always has new processes, and a single rescan suffices.
const LOOKS_MAX: u32 = 5;

/// How to end a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// QEMU flushes its caches to the disk image and exits.
    Terminate,
    /// The kernel ends the process.
    Kill,
}

impl QemuProcess {
    /// The process that has this id now; `None` when there is none or it is a zombie.
    pub fn with_pid(pid: u32) -> Option<Self> {
        system::start_of(pid).map(|start| Self { pid, start })
    }

    /// Whether this process is still alive.
    pub fn is_alive(&self) -> bool {
        system::start_of(self.pid) == Some(self.start)
    }

    /// Whether it is alive and its command line names this pid file.
    pub fn writes(&self, pid_file: &Path) -> bool {
        serves(self.pid, pid_file) && self.is_alive()
    }

    /// When it started, to the second; `None` where the system doesn't count in ticks since boot.
    pub fn started_at(&self) -> Option<Timestamp> {
        let age = u64::try_from(uptime()).ok()?.checked_sub(system::seconds_after_boot(self.start)?)?;
        Timestamp::from_unix(Timestamp::now().unix().checked_sub_unsigned(age)?)
    }

    /// What it uses; `None` if it has exited, or where the system has no /proc.
    pub fn usage(&self) -> Option<ProcessUsage> {
        let usage = system::usage_of(self.pid)?;
        // Checked after reading: the figures may be those of a later process with this id.
        self.is_alive().then_some(usage)
    }

    /// Sends a signal to this process; it isn't an error if the process no longer exists.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        system::signal(self, signal)
    }

    /// Waits until it has exited; returns `false` if it hasn't within `limit`.
    pub async fn wait_gone(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}

/// Whether a process works for the machine with this pid file. Even root doesn't accept another user's process: it
/// manages another user's machines only in that user's folder.
fn serves(pid: u32, pid_file: &Path) -> bool {
    system::writes_pid_file(pid, pid_file) && pid_file.parent().is_some_and(|folder| is_of_owner(pid, folder))
}

/// The name of a process that shares a folder with the machine in this folder, which the supervisor gave it.
fn name_of_share(pid: u32, folder: &Path) -> Option<OsString> {
    let name = system::first_word(pid)?;
    let is_share = name.as_encoded_bytes().starts_with(process_prefix(folder).as_encoded_bytes());
    (is_share && is_of_owner(pid, folder)).then_some(name)
}

fn is_of_owner(pid: u32, folder: &Path) -> bool {
    let Some(users) = system::users_of(pid) else { return false };
    let owner = folder.metadata().ok().map(|data| data.uid());
    belongs_to(users, rustix::process::geteuid().as_raw())
        || owner.is_some_and(|owner| belongs_to(users, owner))
}

/// The real and the effective user id of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Users {
    real: u32,
    effective: u32,
}

/// Any user can start a set-user-ID program with a command line of their choice, and it runs with the effective id of
/// the program's owner. So the effective id alone proves nothing.
fn belongs_to(users: Users, user: u32) -> bool {
    users == Users { real: user, effective: user }
}

/// The QEMU that wrote this pid file and has it on its command line.
pub fn of_pid_file(pid_file: &Path) -> io::Result<Option<QemuProcess>> {
    let text = match std::fs::read_to_string(pid_file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(process) = text.trim().parse().ok().and_then(QemuProcess::with_pid) else { return Ok(None) };
    Ok(process.writes(pid_file).then_some(process))
}

/// All processes whose command line names this pid file, including those that haven't written it yet, such as a QEMU
/// whose starter died, and those that share folders with the machine.
///
/// Rescans while new processes appear: a QEMU that daemonizes becomes another process from one moment to the next and
/// must not be missed in between.
pub fn scan(pid_file: &Path) -> io::Result<Vec<QemuProcess>> {
    let shares = |pid| pid_file.parent().is_some_and(|folder| name_of_share(pid, folder).is_some());
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for _ in 0..LOOKS_MAX {
        let new: Vec<u32> = system::all()?.into_iter().filter(|pid| seen.insert(*pid)).collect();
        if new.is_empty() {
            break;
        }
        let ours = new.into_iter().filter(|pid| serves(*pid, pid_file) || shares(*pid));
        found.extend(ours.filter_map(QemuProcess::with_pid));
    }
    Ok(found)
}

/// The names of the processes that share folders with the machine in this folder.
pub(crate) fn names_of_shares(folder: &Path) -> io::Result<BTreeSet<OsString>> {
    Ok(system::all()?.into_iter().filter_map(|pid| name_of_share(pid, folder)).collect())
}

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::OsString;
    use std::io;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::Path;

    use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

    use std::time::{Duration, Instant};

    use super::{ProcessUsage, QemuProcess, Signal, Users};
    use crate::args::PID_FILE_FLAG;

    /// The kernel's unit of times in /proc: `USER_HZ`, 100 per second on all architectures that goloo supports.
    const TICK_MS: u64 = 10;

    const EXEC_LIMIT: Duration = Duration::from_millis(50);

    pub(super) use goloo_sys::process::start_of;

    pub(super) fn seconds_after_boot(start: u64) -> Option<u64> {
        Some(start / (1000 / TICK_MS))
    }

    /// Not from the owner of its folder in /proc, which is root for some processes.
    pub(super) fn users_of(pid: u32) -> Option<Users> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        let mut ids = line.split_ascii_whitespace().map(str::parse);
        Some(Users { real: ids.next()?.ok()?, effective: ids.next()?.ok()? })
    }

    pub(super) fn usage_of(pid: u32) -> Option<ProcessUsage> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Fields 14 and 15, counted from the program's name (field 2), which may contain anything: proc(5).
        let mut ticks = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11).map(str::parse);
        let (user, system): (u64, u64) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
        // Unlike statm, in a unit that doesn't depend on the size of pages.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(ProcessUsage { cpu_time: Duration::from_millis((user + system) * TICK_MS), memory: kib << 10 })
    }

    /// Requires the flag before the path: an editor that has the file open isn't QEMU.
    pub(super) fn writes_pid_file(pid: u32, pid_file: &Path) -> bool {
        let Some(line) = command_line(pid) else { return false };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.windows(2).any(|pair| pair == [PID_FILE_FLAG.as_bytes(), pid_file.as_os_str().as_bytes()])
    }

    pub(super) fn first_word(pid: u32) -> Option<OsString> {
        let line = command_line(pid)?;
        line.split(|byte| *byte == 0).next().map(|word| OsString::from_vec(word.to_owned()))
    }

    /// For a moment during execve(2), a process has memory but no command line yet. Waits until that moment has passed,
    /// so that a QEMU that is just starting isn't missed.
    fn command_line(pid: u32) -> Option<Vec<u8>> {
        let end = Instant::now() + EXEC_LIMIT;
        loop {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            if !line.is_empty() || !has_memory(pid) || Instant::now() > end {
                return Some(line);
            }
            std::thread::yield_now();
        }
    }

    /// Kernel threads and zombies have none: field 23 of stat is 0.
    fn has_memory(pid: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let size = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(20));
        size.is_some_and(|size| size != "0")
    }

    pub(super) fn all() -> io::Result<Vec<u32>> {
        let entries = std::fs::read_dir("/proc")?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// Uses a pidfd: once open, it refers to one process, and the start time then tells whether it is the right one. No
    /// new process with the same id can get in between.
    pub(super) fn signal(process: &QemuProcess, signal: Signal) -> io::Result<()> {
        let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if !process.is_alive() {
            return Ok(());
        }
        let signal = match signal {
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        match pidfd_send_signal(&handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::ffi::OsString;
    use std::io;
    use std::path::Path;
    use std::process::Command;

    use rustix::process::{Pid, kill_process};

    use super::{ProcessUsage, QemuProcess, Signal, Users};
    use crate::args::PID_FILE_FLAG;

    pub(super) fn usage_of(_: u32) -> Option<ProcessUsage> {
        None
    }

    pub(super) fn seconds_after_boot(_: u64) -> Option<u64> {
        None
    }

    fn ps(arguments: &[&str]) -> io::Result<String> {
        let output = Command::new("ps").args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(super) fn start_of(pid: u32) -> Option<u64> {
        let text = ps(&["-o", "stat=,lstart=", "-p", &pid.to_string()]).ok()?;
        let (state, start) = text.trim().split_once(' ')?;
        if state.starts_with('Z') {
            return None;
        }
        // FNV-1a: only equality matters.
        let digest = start.trim().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Some(digest)
    }

    pub(super) fn users_of(pid: u32) -> Option<Users> {
        let text = ps(&["-o", "ruid=,uid=", "-p", &pid.to_string()]).ok()?;
        let mut ids = text.split_ascii_whitespace().map(str::parse);
        Some(Users { real: ids.next()?.ok()?, effective: ids.next()?.ok()? })
    }

    pub(super) fn writes_pid_file(pid: u32, pid_file: &Path) -> bool {
        let Some(path) = pid_file.to_str() else { return false };
        let words = format!("{PID_FILE_FLAG} {path}");
        ps(&["-ww", "-o", "command=", "-p", &pid.to_string()]).is_ok_and(|line| line.contains(&words))
    }

    /// There is no virtiofsd for this system.
    pub(super) fn first_word(_: u32) -> Option<OsString> {
        None
    }

    pub(super) fn all() -> io::Result<Vec<u32>> {
        Ok(ps(&["-ax", "-o", "pid="])?.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    pub(super) fn signal(process: &QemuProcess, signal: Signal) -> io::Result<()> {
        let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        if !process.is_alive() {
            return Ok(());
        }
        let signal = match signal {
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    #[tokio::test]
    async fn a_pid_with_another_start_time_is_another_process() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = QemuProcess::with_pid(child.id()).unwrap();
        assert!(process.is_alive());
        let earlier = QemuProcess { start: process.start - 1, ..process };
        assert!(!earlier.is_alive());
        earlier.signal(Signal::Kill).unwrap();
        assert!(process.is_alive(), "the signal went to a process that it wasn't meant for");
        process.signal(Signal::Kill).unwrap();
        // A zombie until the parent reaps it: it counts as exited.
        assert!(process.wait_gone(Duration::from_secs(10)).await);
        child.wait().unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn usage_is_that_of_the_process_itself_and_never_of_a_later_one_with_its_id() {
        let begun = Instant::now();
        let this = QemuProcess::with_pid(std::process::id()).unwrap();
        let first = this.usage().unwrap();
        assert!(first.memory > 100 << 10, "{first:?}");
        let mut count = 0_u64;
        while this.usage().unwrap().cpu_time < first.cpu_time + Duration::from_millis(50) {
            assert!(begun.elapsed() < Duration::from_secs(60), "no CPU time is counted");
            count = std::hint::black_box(count + 1);
        }
        assert_eq!(QemuProcess { start: this.start - 1, ..this }.usage(), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_start_of_a_process_is_a_time_of_day() {
        let before = Timestamp::now();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let started = QemuProcess::with_pid(child.id()).unwrap().started_at().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!((before.unix() - 1..=Timestamp::now().unix() + 1).contains(&started.unix()), "{started}");
    }

    #[test]
    fn a_pid_file_with_a_foreign_pid_matches_no_process() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("qemu.pid");
        std::fs::write(&file, std::process::id().to_string()).unwrap();
        assert_eq!(of_pid_file(&file).unwrap(), None);
        std::fs::write(&file, "no number").unwrap();
        assert_eq!(of_pid_file(&file).unwrap(), None);
        assert_eq!(of_pid_file(&folder.path().join("none")).unwrap(), None);
    }

    /// A process that waits for the end of its standard input, with these words on its command line.
    fn waiting(words: &[&std::ffi::OsStr]) -> std::process::Child {
        let mut command = Command::new("sh");
        command.args(["-c", "read line; true", "sh"]).args(words).stdin(std::process::Stdio::piped());
        command.spawn().unwrap()
    }

    /// Waits until the child has become `sh`; until then it is a copy of this test.
    fn until_it_is_itself(child: &std::process::Child, word: &Path) {
        let end = Instant::now() + Duration::from_secs(10);
        let line = format!("/proc/{}/cmdline", child.id());
        while !std::fs::read_to_string(&line).unwrap().contains(word.to_str().unwrap()) {
            assert!(Instant::now() < end, "it never started");
            std::thread::yield_now();
        }
    }

    fn end(mut child: std::process::Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_is_found_by_the_pid_file_on_its_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("qemu.pid");
        let child = waiting(&["-pidfile".as_ref(), file.as_os_str()]);
        until_it_is_itself(&child, &file);
        let found = scan(&file).unwrap();
        assert_eq!(found.iter().map(|process| process.pid).collect::<Vec<_>>(), [child.id()]);
        end(child);
    }

    #[test]
    fn a_process_that_merely_mentions_the_pid_file_is_not_matched() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("qemu.pid");
        let child = waiting(&[file.as_os_str()]);
        until_it_is_itself(&child, &file);
        std::fs::write(&file, child.id().to_string()).unwrap();
        assert_eq!(scan(&file).unwrap(), []);
        assert_eq!(of_pid_file(&file).unwrap(), None);
        end(child);
    }
}
