//! Exports a machine's disk: `qemu-img` reads the overlay with its base and writes one compressed qcow2 into the middle of
//! a file, so that there is no second copy on the way.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use goloo_command::Limits;
use goloo_images::{Arch, qemu_img};
use goloo_model::events::Event;
use goloo_model::hint::NextStep;
use goloo_model::name::VmId;
use goloo_model::provider::{Exports, ImportSource, MachineExport, ProviderError, Work};
use goloo_model::record::Record;
use goloo_sys::{durable, read};
use serde::{Deserialize, Serialize};

use crate::args::Files;
use crate::context::QemuProvider;
use crate::error::prepare_failed;
use crate::launch::{expect_success, run_qemu_img};
use crate::seed;
use crate::snapshot::{Disk, image_options};

/// The provider's part of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExportedMachine {
    pub(crate) arch: Arch,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) any_cpu: bool,
    pub(crate) auto_ports: bool,
    /// cloud-init's: while it stays the same, first-boot work isn't repeated.
    pub(crate) instance_id: VmId,
}

/// The limits on an export, whose disk may have terabytes.
const LIMITS: Limits =
    Limits { time: Duration::from_secs(EXPORT_SECONDS), stdout: 1 << 20, stderr: 64 << 10 };
const EXPORT_SECONDS: u64 = 24 * 3600;

/// The largest image without data, in bytes: its tables for 64 TiB take 4 MiB.
const EMPTY_IMAGE_MAX: u64 = 64 << 20;

#[async_trait]
impl Exports for QemuProvider {
    async fn describe(&self, record: &Record) -> Result<MachineExport, ProviderError> {
        let (noted, files) = self.at_rest(record, "exporting")?;
        let io = |source| prepare_failed(files.folder(), source);
        let seed = seed::Content::of_file(&files.seed()).map_err(io)?;
        let machine = ExportedMachine {
            arch: noted.arch,
            cpus: noted.cpus,
            memory_mib: noted.memory_mib,
            any_cpu: noted.any_cpu,
            auto_ports: noted.auto_ports,
            instance_id: VmId::parse(&seed.instance_id).map_err(|error| io(io::Error::other(error)))?,
        };
        let machine = serde_json::to_value(machine).expect("it has only string keys");
        Ok(MachineExport { machine, user_data: seed.user_data })
    }

    async fn largest_disk(&self, record: &Record) -> Result<u64, ProviderError> {
        #[derive(Deserialize)]
        struct Measured {
            required: u64,
        }
        let (_, files) = self.at_rest(record, "exporting")?;
        let mut command = qemu_img::command(self.qemu_img());
        command.args(["measure", "-O", "qcow2", "--output=json", "--image-opts"]);
        command.arg(image_options(&files.disk()));
        let json = run_qemu_img(command, &format!("measuring the disk {} failed", files.disk().display()))?;
        let measured: Measured = serde_json::from_slice(&json).map_err(|error| {
            let hint = NextStep::Doctor.text(" shows its version");
            ProviderError::caused("can't parse the output of qemu-img", hint, error)
        })?;
        Ok(measured.required)
    }

    async fn write_disk(
        &self,
        record: &Record,
        file: &Path,
        offset: u64,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let (_, files) = self.at_rest(record, "exporting")?;
        let total = self.largest_disk(record).await?;
        let empty = self.empty_image(&files)?;
        let written = OpenOptions::new().write(true).open(file).and_then(|to| write_at(&to, &empty, offset));
        written.map_err(|source| {
            let hint = "check the free space and the permissions there";
            ProviderError::caused(format!("can't write to {}", file.display()), hint, source)
        })?;
        work.step("copying the disk");
        self.convert(&files, file, offset, total, work).await
    }

    async fn check_source(&self, source: &ImportSource) -> Result<u64, ProviderError> {
        self.check_import(source)
    }

    async fn import_machine(
        &self,
        record: &Record,
        source: &ImportSource,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        self.build_imported(record, source, work).await
    }
}

fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.set_len(offset)?;
    file.write_all_at(bytes, offset)
}

impl QemuProvider {
    /// An image of the disk's size without data. `qemu-img` can create one only at the beginning of a file, but fills one
    /// that it finds anywhere.
    fn empty_image(&self, files: &Files) -> Result<Vec<u8>, ProviderError> {
        let io = |source| prepare_failed(files.folder(), source);
        let size = Disk::new(self.qemu_img(), &files.disk()).info()?.virtual_size;
        let path = files.folder().join("empty-image");
        let mut command = qemu_img::command(self.qemu_img());
        // zlib takes fifteen times the processor time for an image of the same size.
        command.args(["create", "-q", "-f", "qcow2", "-o", "compression_type=zstd"]).arg(&path);
        command.arg(size.to_string());
        run_qemu_img(command, &format!("can't create {}", path.display()))?;
        let empty = read::file(&path, EMPTY_IMAGE_MAX).map_err(io)?;
        durable::remove_if_there(&path).map_err(io)?;
        Ok(empty)
    }

    async fn convert(
        &self,
        files: &Files,
        file: &Path,
        offset: u64,
        total: u64,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let mut command = qemu_img::command_within(self.qemu_img(), EXPORT_SECONDS);
        command.args(["convert", "-p", "-n", "-c", "--image-opts"]).arg(image_options(&files.disk()));
        command.arg("--target-image-opts").arg(embedded_options(file, offset));
        let mut command = tokio::process::Command::from(command);
        let events = work.events();
        let mut percentage = Percentage::default();
        let mut on_piece = |piece: &[u8]| {
            if let Some(percent) = percentage.take(piece) {
                events.event(Event::Progress { done: total / 100 * percent, total: Some(total) });
            }
        };
        let ended = tokio::select! {
            biased;
            () = work.interruption() => return Err(ProviderError::Interrupted),
            ended = goloo_command::run_pieces(&mut command, LIMITS, &mut on_piece) => ended,
        };
        let failed = format!("copying the disk to {} failed", file.display());
        expect_success(ended, &failed).map(drop)
    }
}

/// A qcow2 inside a file, in the syntax of `--target-image-opts`.
fn embedded_options(file: &Path, offset: u64) -> std::ffi::OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut options = format!("driver=qcow2,file.driver=raw,file.offset={offset},file.file.driver=file,");
    options.push_str("file.file.filename=");
    let mut options = options.into_bytes();
    options.extend(crate::args::double_commas(file.as_os_str().as_bytes()));
    std::ffi::OsString::from_vec(options)
}

/// Reads the progress that `qemu-img -p` prints: `    (12.50/100%)` and a carriage return.
#[derive(Default)]
struct Percentage {
    begun: Vec<u8>,
}

impl Percentage {
    /// The last complete figure, in whole percent.
    fn take(&mut self, piece: &[u8]) -> Option<u64> {
        self.begun.extend_from_slice(piece);
        let end = self.begun.iter().rposition(|byte| *byte == b'/')?;
        let start = self.begun[..end].iter().rposition(|byte| *byte == b'(')? + 1;
        let figure = std::str::from_utf8(&self.begun[start..end]).ok()?;
        let whole = figure.split('.').next()?.trim().parse::<u64>().ok()?;
        self.begun.drain(..=end);
        Some(whole.min(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_wherever_the_output_is_split() {
        let mut percentage = Percentage::default();
        let pieces: [(&[u8], Option<u64>); 5] = [
            (b"    (0.00/100%)\r", Some(0)),
            (b"    (12.", None),
            (b"50/100%)\r    (13.51/10", Some(13)),
            (b"0%)\r", None),
            (b"    (100.00/100%)\r\n", Some(100)),
        ];
        for (piece, expected) in pieces {
            assert_eq!(percentage.take(piece), expected, "{}", String::from_utf8_lossy(piece));
        }
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_the_option() {
        let options = embedded_options(Path::new("/a,offset=0/b"), 512);
        assert_eq!(
            options.to_str(),
            Some(
                "driver=qcow2,file.driver=raw,file.offset=512,file.file.driver=file,file.file.filename=/a,,offset=0/b"
            )
        );
    }
}
