//! Builds a machine from an export. Everything in it may be somebody else's: values are checked, paths aren't used.
//!
//! `machine.json` is written last: until then the machine doesn't count as one, and the next attempt starts over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use goloo_images::header::{self, HeaderError};
use goloo_images::{Arch, Format};
use goloo_model::events::Event;
use goloo_model::provider::{EmbeddedDisk, ImportSource, ProviderError, Work};
use goloo_model::record::{Digest, Record};
use goloo_model::spec::{CPUS_MAX, MEMORY_MAX, MEMORY_MIN};
use goloo_sys::{durable, files, private, read};
use sha2::{Digest as _, Sha256};

use crate::context::QemuProvider;
use crate::error::prepare_failed;
use crate::export::ExportedMachine;
use crate::machine::{self, MachineFile, RESOURCE, SCHEMA};
use crate::network::{self, Network, Wanted};
use crate::provider::resource_id;
use crate::seed::Seed;
use crate::virtiofs::Virtiofs;
use crate::{firmware, lock};

impl QemuProvider {
    /// Returns the size of the disk for the guest, in bytes.
    pub(crate) fn check_import(&self, source: &ImportSource) -> Result<u64, ProviderError> {
        described(source)?;
        firmware::find(Arch::host())?;
        let size = check_disk(&source.disk)?;
        expect_room(&self.settings.vms, source.disk.length)?;
        Ok(size)
    }

    pub(crate) async fn build_imported(
        &self,
        record: &Record,
        source: &ImportSource,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let files = self.files(record);
        let io = |source| prepare_failed(files.folder(), source);
        if MachineFile::load(&files).map_err(io)?.is_some() {
            return Ok(());
        }
        let exported = described(source)?;
        let firmware = firmware::find(Arch::host())?;
        work.record_resource(RESOURCE, resource_id(&files)?).await?;
        private::create_folders(files.folder()).map_err(io)?;
        durable::sync_folder(&self.settings.vms).map_err(io)?;
        work.step("copying the disk");
        copy_disk(&source.disk, &files.disk(), work).await?;
        let seed = Seed {
            instance_id: exported.instance_id.as_str(),
            hostname: record.name.as_str(),
            user_data: &source.export.user_data,
        };
        durable::write(&files.seed(), &seed.image().map_err(io)?).map_err(io)?;
        if let Some(firmware) = &firmware {
            fs::copy(&firmware.variables, files.variables()).map_err(io)?;
        }
        let _lock = lock::take(&self.settings.ports_lock(), self.settings.limits.lock, work).await?;
        let network = self.network_of(record)?;
        let machine = MachineFile {
            schema: SCHEMA,
            id: record.id.clone(),
            name: record.machine_name().to_string(),
            arch: exported.arch,
            cpus: exported.cpus,
            memory_mib: exported.memory_mib,
            any_cpu: exported.any_cpu,
            ports: network.forwards,
            auto_ports: exported.auto_ports,
            mounts: Vec::new(),
            virtiofs: Virtiofs::Unsupported,
            firmware: firmware.map(|firmware| firmware.code),
            address: network.address,
            host_key: record.ssh.as_ref().map(|ssh| ssh.host_key.clone()),
            ssh_port: None,
            made: true,
            accel: None,
            process: None,
            private_nic: None,
            suspended: None,
            template: None,
        };
        machine.save(&files).map_err(io)?;
        network.notes.into_iter().for_each(|note| work.events().event(Event::Note(note)));
        Ok(())
    }

    /// Ports that are taken here are replaced by free ones.
    fn network_of(&self, record: &Record) -> Result<Network, ProviderError> {
        let ports = record.resolved.as_ref().map(|stack| stack.port_forwards()).transpose()?;
        let wanted = Wanted {
            id: &record.id,
            name: record.name.as_str(),
            ports: &ports.unwrap_or_default(),
            may_move: true,
        };
        let vms = &self.settings.vms;
        let others = machine::others(vms, &record.id).map_err(|source| prepare_failed(vms, source))?;
        network::choose(&wanted, &others, self.settings.has_address)
    }
}

/// The machine, with values that a stack may have.
fn described(source: &ImportSource) -> Result<ExportedMachine, ProviderError> {
    let machine: ExportedMachine =
        serde_json::from_value(source.export.machine.clone()).map_err(|error| {
            ProviderError::caused("the machine in the export is invalid", OTHER_EXPORT, error)
        })?;
    if machine.arch != Arch::host() {
        let (theirs, ours) = (machine.arch, Arch::host());
        return Err(ProviderError::Unsupported {
            what: format!("the machine is for {theirs} processors, and this computer's are {ours}"),
            hint: "import it on another computer, or create the VM again from its stack".into(),
        });
    }
    let mib = MEMORY_MIN.as_mib()..=MEMORY_MAX.as_mib();
    if !(1..=CPUS_MAX).contains(&machine.cpus.into()) || !mib.contains(&machine.memory_mib) {
        let what =
            format!("{} vCPUs and {} MiB of memory are out of range", machine.cpus, machine.memory_mib);
        return Err(ProviderError::failed(what, OTHER_EXPORT));
    }
    Ok(machine)
}

const OTHER_EXPORT: &str = "export the VM again, and import that file";

/// Checks that the disk is one that QEMU reads nothing else for. Returns its size for the guest, in bytes.
fn check_disk(disk: &EmbeddedDisk) -> Result<u64, ProviderError> {
    let file = read::open(&disk.file).map_err(|source| unreadable(&disk.file, source))?;
    let header = header::read_embedded(&file, disk.offset, disk.length);
    check_header(header, &disk.file)
}

fn check_header(header: Result<header::Header, HeaderError>, file: &Path) -> Result<u64, ProviderError> {
    match header {
        Ok(header) if header.format == Format::Qcow2 => Ok(header.virtual_size),
        Ok(_) => Err(ProviderError::failed("the disk in the export is not a qcow2", OTHER_EXPORT)),
        Err(HeaderError::Refused(refusal)) => {
            Err(ProviderError::caused("the disk in the export can't be used", OTHER_EXPORT, refusal))
        }
        Err(HeaderError::Io(source)) => Err(unreadable(file, source)),
    }
}

fn unreadable(file: &Path, source: io::Error) -> ProviderError {
    ProviderError::caused(
        format!("can't read {}", file.display()),
        "check the file, then run the same command again",
        source,
    )
}

/// Refuses a disk for which the file system has no room. Where that can't be found out, the copy itself shows it.
fn expect_room(vms: &Path, bytes: u64) -> Result<(), ProviderError> {
    let existing = vms.ancestors().find(|folder| folder.exists()).unwrap_or(vms);
    let Ok(space) = rustix::fs::statvfs(existing) else { return Ok(()) };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free >= bytes {
        return Ok(());
    }
    let (needed, free) = (bytes.div_ceil(1 << 20), free >> 20);
    Err(ProviderError::failed(
        format!("the disk takes {needed} MiB, and {} has {free} MiB free", existing.display()),
        "free disk space there, or set GOLOO_STATE_DIR to a folder on another disk",
    ))
}

/// Copies the disk durably. It is checked again, since the file may have changed since the first check.
async fn copy_disk(disk: &EmbeddedDisk, to: &Path, work: &mut dyn Work) -> Result<(), ProviderError> {
    let copied = copy(disk, to, work).await.map_err(|source| match source {
        CopyError::Read(source) => unreadable(&disk.file, source),
        CopyError::Write(source) => prepare_failed(to.parent().unwrap_or(to), source),
        CopyError::Interrupted => ProviderError::Interrupted,
    })?;
    if copied != disk.sha256 {
        return Err(ProviderError::failed(
            format!("the disk in {} doesn't match its checksum", disk.file.display()),
            "copy the file again from where it was exported",
        ));
    }
    let header = File::open(to).map_err(HeaderError::Io).and_then(|file| header::read(&file));
    check_header(header, to).map(drop)
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
    Interrupted,
}

/// Returns the SHA-256 of what was copied.
async fn copy(disk: &EmbeddedDisk, to: &Path, work: &mut dyn Work) -> Result<Digest, CopyError> {
    let from = read::open(&disk.file).map_err(CopyError::Read)?;
    durable::remove_if_there(to).map_err(CopyError::Write)?;
    let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let mut to = to.map_err(CopyError::Write)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    let mut done = 0;
    while done < disk.length {
        if work.interrupted() {
            return Err(CopyError::Interrupted);
        }
        let wanted = usize::try_from(disk.length - done).unwrap_or(usize::MAX).min(piece.len());
        let count = from.read_at(&mut piece[..wanted], disk.offset + done).map_err(CopyError::Read)?;
        if count == 0 {
            return Err(CopyError::Read(ErrorKind::UnexpectedEof.into()));
        }
        hash.update(&piece[..count]);
        files::write_or_skip(&mut to, &piece[..count]).map_err(CopyError::Write)?;
        done += count as u64;
        work.events().event(Event::Progress { done, total: Some(disk.length) });
        tokio::task::yield_now().await;
    }
    to.set_len(disk.length).and_then(|()| to.sync_all()).map_err(CopyError::Write)?;
    Ok(Digest::of_sha256(hash.finalize().into()))
}
