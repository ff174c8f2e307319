//! What machines use of this computer: the CPU time and memory of their QEMU, and the space of their disks.

use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use async_trait::async_trait;
use goloo_model::provider::ResourceUsage;
use goloo_model::record::Record;
use goloo_model::usage::{CpuSample, MachineUsage};

use crate::args::Files;
use crate::context::QemuProvider;
use crate::machine::{self, MachineFile};
use crate::process::{self, QemuProcess};

/// The unit of `st_blocks`, in bytes.
const BLOCK: u64 = 512;

#[async_trait]
impl ResourceUsage for QemuProvider {
    async fn machines(&self, records: &[&Record]) -> Vec<MachineUsage> {
        records.iter().map(|record| usage(&self.files(record))).collect()
    }
}

fn usage(files: &Files) -> MachineUsage {
    let process = process_of(files);
    let used = process.and_then(|process| process.usage());
    let disk = files.disk().metadata().ok().map(|data| data.blocks() * BLOCK);
    let sample = |process: QemuProcess| {
        let used = used?.cpu_time;
        Some(CpuSample { used, process: (process.pid, process.start), at: Instant::now() })
    };
    MachineUsage { cpu: process.and_then(sample), memory: used.map(|used| used.memory), disk }
}

/// The machine's QEMU, identified as for any other purpose: never by its process id alone.
fn process_of(files: &Files) -> Option<QemuProcess> {
    match MachineFile::load(files).ok()? {
        Some(machine) => machine::running(files, &machine).ok()?,
        None => process::of_pid_file(&files.pid()).ok()?,
    }
}
