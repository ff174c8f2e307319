//! Snapshots inside a machine's disk, by `qemu-img`.
//!
//! A `qemu-img` that dies midway leaks clusters of the disk but does no other damage: it counts a cluster as used
//! before it refers to it. So each change first reclaims leaked clusters, which also checks that the disk is intact.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use async_trait::async_trait;
use goloo_images::qemu_img;
use goloo_model::hint::NextStep;
use goloo_model::provider::{DiskSnapshot, ProviderError, Snapshots};
use goloo_model::record::Record;
use goloo_model::time::Timestamp;
use serde::Deserialize;

use crate::args::{Files, double_commas};
use crate::context::QemuProvider;
use crate::error::{end_failed, missing};
use crate::launch;
use crate::machine::{self, MachineFile};
use crate::suspend::refuse_suspended;

/// The relevant part of `qemu-img info`'s output.
#[derive(Deserialize)]
pub(crate) struct Info {
    #[serde(rename = "virtual-size")]
    pub(crate) virtual_size: u64,
    /// The base image; an imported machine has none.
    #[serde(rename = "backing-filename")]
    pub(crate) base: Option<String>,
    /// Absent when there are none; in the order in which they were taken.
    #[serde(default)]
    snapshots: Vec<Taken>,
}

#[derive(Deserialize)]
struct Taken {
    id: String,
    name: String,
    #[serde(rename = "date-sec")]
    seconds: i64,
}

/// The disk of a stopped machine.
pub(crate) struct Disk<'a> {
    qemu_img: &'a Path,
    path: &'a Path,
}

impl<'a> Disk<'a> {
    pub(crate) fn new(qemu_img: &'a Path, path: &'a Path) -> Self {
        Self { qemu_img, path }
    }

    fn run(&self, arguments: &[&str], what: &str) -> Result<Vec<u8>, ProviderError> {
        let mut command = qemu_img::command(self.qemu_img);
        // The format is given explicitly, never guessed.
        command.args(arguments).args(["--image-opts"]).arg(image_options(self.path));
        launch::run_qemu_img(command, &format!("{what} the disk {} failed", self.path.display()))
    }

    fn taken(&self) -> Result<Vec<Taken>, ProviderError> {
        Ok(self.info()?.snapshots)
    }

    pub(crate) fn info(&self) -> Result<Info, ProviderError> {
        // -U: also works while the machine is running.
        let json = self.run(&["info", "-U", "--output=json"], "inspecting")?;
        serde_json::from_slice(&json).map_err(|error| {
            ProviderError::caused(
                "can't parse the output of qemu-img",
                NextStep::Doctor.text(" shows its version"),
                error,
            )
        })
    }

    /// Reclaims clusters leaked by an interrupted change.
    fn check(&self) -> Result<(), ProviderError> {
        self.run(&["check", "-q", "-r", "leaks"], "checking").map(drop)
    }

    fn snapshot(&self, change: &str, snapshot: &str) -> Result<(), ProviderError> {
        self.run(&["snapshot", "-q", change, snapshot], "changing").map(drop)
    }

    fn take(&self, label: &str) -> Result<(), ProviderError> {
        self.check()?;
        if self.taken()?.iter().any(|taken| taken.name == label) {
            return Err(ProviderError::failed(
                format!("the snapshot \"{label}\" already exists"),
                "use another label, or delete that snapshot first",
            ));
        }
        self.snapshot("-c", label)
    }

    fn restore(&self, label: &str) -> Result<(), ProviderError> {
        self.check()?;
        let all = self.taken()?;
        let taken = all.iter().find(|taken| taken.name == label).ok_or_else(|| {
            let labels: Vec<_> = all.iter().map(|taken| taken.name.as_str()).collect();
            let hint = if labels.is_empty() {
                "take one first".to_owned()
            } else {
                format!("use one of its snapshots: {}", labels.join(", "))
            };
            ProviderError::failed(format!("there is no snapshot \"{label}\""), hint)
        })?;
        // By its id: a label may equal another snapshot's id.
        self.snapshot("-a", &taken.id)
    }

    fn remove(&self, label: &str) -> Result<(), ProviderError> {
        self.check()?;
        if self.taken()?.iter().all(|taken| taken.name != label) {
            return Ok(());
        }
        self.snapshot("-d", label)
    }

    /// Makes the disk larger; a disk that is as large stays as it is.
    pub(crate) fn grow(&self, bytes: u64) -> Result<(), ProviderError> {
        self.check()?;
        if self.info()?.virtual_size >= bytes {
            return Ok(());
        }
        let mut command = qemu_img::command(self.qemu_img);
        command.args(["resize", "-q", "--image-opts"]).arg(image_options(self.path)).arg(bytes.to_string());
        launch::run_qemu_img(command, &format!("growing the disk {} failed", self.path.display())).map(drop)
    }

    pub(crate) fn remove_all(&self) -> Result<(), ProviderError> {
        self.taken()?.iter().try_for_each(|taken| self.snapshot("-d", &taken.name))
    }
}

/// A machine's disk in the syntax of `--image-opts`; commas in its path are doubled.
pub(crate) fn image_options(path: &Path) -> OsString {
    let mut options = OsString::from("driver=qcow2,file.driver=file,file.filename=");
    options.push(OsString::from_vec(double_commas(path.as_os_str().as_bytes())));
    options
}

impl QemuProvider {
    /// Returns a complete, stopped machine; `what` is the operation that requires it.
    pub(crate) fn at_rest(&self, record: &Record, what: &str) -> Result<(MachineFile, Files), ProviderError> {
        let files = self.files(record);
        let io = |source| end_failed(files.folder(), source);
        let noted = MachineFile::load(&files).map_err(io)?;
        let noted = noted.filter(|_| files.disk().exists()).ok_or_else(|| missing(record, &files))?;
        if machine::running(&files, &noted).map_err(io)?.is_some() {
            return Err(ProviderError::Unsupported {
                what: format!("\"{}\" is running, but {what} requires a stopped VM", record.name),
                hint: NextStep::stop(&record.name).into(),
            });
        }
        refuse_suspended(record, &noted, what)?;
        Ok((noted, files))
    }

    fn change(
        &self,
        record: &Record,
        change: impl FnOnce(&Disk<'_>) -> Result<(), ProviderError>,
    ) -> Result<(), ProviderError> {
        let (_, files) = self.at_rest(record, "changing snapshots")?;
        change(&Disk::new(self.qemu_img(), &files.disk()))
    }
}

#[async_trait]
impl Snapshots for QemuProvider {
    async fn list(&self, record: &Record) -> Result<Vec<DiskSnapshot>, ProviderError> {
        let files = self.files(record);
        if !files.disk().exists() {
            return Err(missing(record, &files));
        }
        let taken = Disk::new(self.qemu_img(), &files.disk()).taken()?;
        let snapshot = |taken: Taken| DiskSnapshot {
            label: taken.name,
            created_at: Timestamp::from_unix(taken.seconds),
        };
        Ok(taken.into_iter().map(snapshot).collect())
    }

    async fn take(&self, record: &Record, label: &str) -> Result<(), ProviderError> {
        self.change(record, |disk| disk.take(label))
    }

    async fn restore(&self, record: &Record, label: &str) -> Result<(), ProviderError> {
        self.change(record, |disk| disk.restore(label))
    }

    async fn remove(&self, record: &Record, label: &str) -> Result<(), ProviderError> {
        self.change(record, |disk| disk.remove(label))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    /// A disk with a snapshot `a` filled with sevens; the current state is filled with eights.
    fn disk(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("disk.qcow2");
        run("qemu-img", &["create", "-q", "-f", "qcow2"], &path, Some("64M"));
        run("qemu-io", &["-c", "write -q -P 7 0 1M"], &path, None);
        run("qemu-img", &["snapshot", "-c", "a"], &path, None);
        run("qemu-io", &["-c", "write -q -P 8 0 1M"], &path, None);
        path
    }

    fn run(program: &str, arguments: &[&str], path: &Path, size: Option<&str>) {
        let output = Command::new(program).args(arguments).arg(path).args(size).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn holds(path: &Path, content: u8) -> bool {
        let read = format!("read -q -P {content} 0 1M");
        Command::new("qemu-io").args(["-c", &read]).arg(path).output().unwrap().status.success()
    }

    /// Kills `qemu-img snapshot` at the `n`th write of one of its threads; `false` if it completed before that.
    fn killed_at(n: usize, arguments: &[&str], path: &Path) -> bool {
        let kill = format!("inject=pwrite64,pwritev,fdatasync,fallocate:signal=KILL:when={n}");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &kill, "qemu-img", "snapshot"]);
        let status = command.args(arguments).arg(path).output().unwrap().status;
        status.signal().is_some() || status.code().is_some_and(|code| code > 128)
    }

    /// Kills each change at each of its writes: the disk then holds either the old or the new state, and the same
    /// change succeeds afterwards.
    #[test]
    fn a_snapshot_change_killed_at_any_write_leaves_a_valid_disk() {
        for change in [["-c", "b"], ["-a", "1"], ["-d", "a"]] {
            let mut kills = 0;
            loop {
                let folder = tempfile::tempdir().unwrap();
                let path = disk(folder.path());
                if !killed_at(kills + 1, &change, &path) {
                    break;
                }
                kills += 1;
                let at = format!("{change:?}, write {kills}");
                assert!(holds(&path, 8) || (change[0] == "-a" && holds(&path, 7)), "{at}");
                let disk = Disk::new(Path::new("qemu-img"), &path);
                let taken = disk.taken().unwrap().iter().any(|taken| taken.name == change[1]);
                match change[0] {
                    "-c" if taken => {}
                    "-c" => disk.take("b").unwrap(),
                    "-a" => disk.restore("a").unwrap(),
                    _ => disk.remove("a").unwrap(),
                }
                assert!(holds(&path, if change[0] == "-a" { 7 } else { 8 }), "{at}");
                disk.check().unwrap();
                run("qemu-img", &["check", "-q"], &path, None);
            }
            // How many writes one thread has depends on how they are shared out.
            assert!(kills >= 1, "{change:?} was never killed");
        }
    }
}
