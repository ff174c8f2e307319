//! What the provider's tests share.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use goloo_core::provider::{Machine, Made};
use goloo_core::record::{Local, ProviderKind, Record};
use goloo_testkit::provider_suite;

pub use goloo_testkit::provider_suite::{SuiteWork, machine};

/// The record that the engine would have of a machine.
pub fn record(machine: &Machine) -> Record {
    provider_suite::record(machine, ProviderKind::Qemu)
}

pub fn local(made: Made) -> Local {
    match made {
        Made::Local(local) => local,
        Made::Aws(_) => panic!("a local machine has no place in AWS"),
    }
}

/// Asks until it is so; fails after `limit`.
pub async fn until(what: &str, limit: Duration, mut so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + limit;
    while !so().await {
        assert!(Instant::now() < end, "{what}: not within {} s", limit.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The program beside each QEMU.
pub fn supervisor() -> PathBuf {
    env!("CARGO_BIN_EXE_goloo-qemu-supervisor").into()
}

/// The QEMUs of machines below this state folder, zombies left out.
pub fn processes_of(state: &Path) -> Vec<u32> {
    processes(state, false)
}

/// The supervisors of machines below this state folder, zombies left out.
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

/// Ends processes at once, whatever they do.
pub fn kill(processes: &[u32]) {
    for pid in processes {
        let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
