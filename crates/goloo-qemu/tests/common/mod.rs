//! Helpers shared by the provider's tests.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use goloo_model::provider::{Endpoints, Machine};
use goloo_model::record::{Endpoint, Record};
use goloo_testkit::provider_suite;

pub use goloo_testkit::provider_suite::{SuiteWork, machine};

/// The record the engine would have for a machine.
pub fn record(machine: &Machine) -> Record {
    provider_suite::record(machine, goloo_qemu::INFO.id)
}

pub fn endpoint(made: Endpoints) -> Endpoint {
    assert!(made.details.is_empty(), "QEMU keeps nothing else");
    made.endpoint
}

/// Polls until the condition holds; fails after `limit`.
pub async fn until(what: &str, limit: Duration, mut so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + limit;
    while !so().await {
        assert!(Instant::now() < end, "{what}: not within {} s", limit.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The supervisor program.
pub fn supervisor() -> PathBuf {
    env!("CARGO_BIN_EXE_goloo-qemu-supervisor").into()
}

/// The QEMUs of machines in this state folder, excluding zombies.
pub fn processes_of(state: &Path) -> Vec<u32> {
    processes(state, false)
}

/// The supervisors of machines in this state folder, excluding zombies.
pub fn supervisors_of(state: &Path) -> Vec<u32> {
    processes(state, true)
}

fn processes(state: &Path, supervise: bool) -> Vec<u32> {
    let needle = state.as_os_str().as_encoded_bytes().to_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let is_supervisor = words.nth(1) == Some(goloo_qemu::supervise::SUPERVISE.as_bytes());
        let names_it = words.any(|word| word.starts_with(&needle) && word.ends_with(b"/qemu.pid"));
        if names_it && is_supervisor == supervise {
            found.push(pid);
        }
    }
    found
}

/// The switches of private networks in this state folder, excluding zombies.
pub fn switches_of(state: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        let is_switch = words.get(1) == Some(&goloo_qemu::SWITCH.as_bytes());
        if is_switch && words[2].starts_with(state.as_os_str().as_encoded_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// The processes that share folders with machines in this state folder, excluding zombies.
pub fn shares_of(state: &Path) -> Vec<u32> {
    let start = [b"virtiofsd:", state.as_os_str().as_encoded_bytes()].concat();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.starts_with(&start)) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

/// Kills processes immediately.
pub fn kill(processes: &[u32]) {
    for pid in processes {
        let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
