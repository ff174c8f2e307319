//! `auto-ports.json` in the machine's folder: what the supervisor couldn't forward. What it forwards, QEMU knows.

use std::io;
use std::path::PathBuf;

use goloo_model::automatic_ports::RefusedPort;
use goloo_sys::{durable, read};
use serde::{Deserialize, Serialize};

use crate::args::Files;
use crate::process::QemuProcess;

/// The largest number of ports that are reported.
const REFUSED_MAX: usize = 64;

/// The file. Only the version of goloo that wrote it has to understand it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The supervisor. The report counts as long as it lives.
    supervisor: QemuProcess,
    refused: Vec<Refusal>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Refusal {
    port: u16,
    reason: String,
}

impl Report {
    /// This process's.
    pub(super) fn new(supervisor: QemuProcess, refused: &[RefusedPort]) -> Self {
        let refused = refused.iter().take(REFUSED_MAX);
        let refused = refused.map(|port| Refusal { port: port.guest_port, reason: port.reason.clone() });
        Self { supervisor, refused: refused.collect() }
    }

    pub(super) fn refused(self) -> Vec<RefusedPort> {
        let refused = self.refused.into_iter();
        refused.map(|refusal| RefusedPort { guest_port: refusal.port, reason: refusal.reason }).collect()
    }

    pub(super) fn save(&self, files: &Files) -> io::Result<()> {
        durable::write(&path(files), &serde_json::to_vec(self)?)
    }
}

/// `None` if no supervisor follows the guest.
pub(super) fn read(files: &Files) -> Option<Report> {
    let text = read::own(&path(files), read::FILE_MAX).ok()?;
    let report: Report = serde_json::from_slice(&text).ok()?;
    report.supervisor.is_alive().then_some(report)
}

fn path(files: &Files) -> PathBuf {
    files.folder().join("auto-ports.json")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_report_counts_as_long_as_its_writer_lives() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path().to_owned());
        assert_eq!(read(&files), None);
        let this = QemuProcess::with_pid(std::process::id()).unwrap();
        let refused = vec![RefusedPort { guest_port: 80, reason: "no permission".to_owned() }; 100];
        Report::new(this, &refused).save(&files).unwrap();
        assert_eq!(read(&files).unwrap().refused(), refused[..REFUSED_MAX]);
        Report::new(QemuProcess { start: this.start + 1, ..this }, &refused).save(&files).unwrap();
        assert_eq!(read(&files), None);
    }
}
