//! A copy of a machine: its disk, its seed under the new name, ports of its own.
//!
//! `machine.json` is written last: until then a copy isn't one, and the next try begins anew.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use async_trait::async_trait;
use goloo_core::events::Event;
use goloo_core::provider::{Clones, ProviderError, Work};
use goloo_core::record::Record;
use goloo_os::{private, read};

use crate::args::Files;
use crate::error::{image_failed, prepare_failed};
use crate::files::{self, Lock};
use crate::machine::{self, Forward, MachineFile};
use crate::ports;
use crate::provider::{QemuProvider, RESOURCE};
use crate::seed::Content;
use crate::snapshot::Disk;

/// The largest seed image, in bytes; goloo's own are as large as floppy disks.
const SEED_MAX: u64 = 16 << 20;

/// How far a copy came.
enum Copied {
    Whole,
    /// The user wants to stop.
    InPart,
}

#[async_trait]
impl Clones for QemuProvider {
    async fn clone_machine(
        &self,
        source: &Record,
        copy: &Record,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let files = self.files(copy);
        let io = |source| prepare_failed(files.folder(), source);
        if MachineFile::load(&files).map_err(io)?.is_some() {
            return Ok(());
        }
        let (noted, from) = self.at_rest(source, "a copy")?;
        work.made(RESOURCE, &files.folder().display().to_string()).await?;
        private::create_folders(files.folder()).map_err(io)?;
        files::sync_folder(&self.settings.vms).map_err(io)?;
        work.step("copying the disk");
        self.copy_disk(&from, &files, work).await?;
        self.copy_base(&from, &files)?;
        // As with Multipass: snapshots are the first machine's, and the copy begins with none.
        Disk::new(self.qemu_img(), &files.disk()).remove_all()?;
        copy_seed(&from, &files, copy).map_err(io)?;
        if from.variables().exists() {
            fs::copy(from.variables(), files.variables()).map_err(io)?;
        }
        let _lock = Lock::wait(&self.settings.ports_lock(), self.settings.limits.lock, work).await?;
        self.describe_copy(noted, copy, &files, work).map_err(io)
    }
}

impl QemuProvider {
    async fn copy_disk(&self, from: &Files, to: &Files, work: &mut dyn Work) -> Result<(), ProviderError> {
        match copy_file(&from.disk(), &to.disk(), work).await {
            Ok(Copied::Whole) => Ok(()),
            Ok(Copied::InPart) => Err(ProviderError::Interrupted),
            Err(error) => Err(prepare_failed(to.folder(), error)),
        }
    }

    /// The copy's overlay lies on the same base, by a link of its own or by the path in the cache.
    fn copy_base(&self, from: &Files, to: &Files) -> Result<(), ProviderError> {
        let io = |source| prepare_failed(to.folder(), source);
        files::remove_if_there(&to.base()).map_err(io)?;
        match fs::hard_link(from.base(), to.base()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.settings.cache.hold_too(from.folder(), to.folder()).map_err(image_failed)
            }
            linked => linked.map_err(io),
        }
    }

    /// Makes it a machine, with ports that belong to nobody else: both are to run at once. Called under the lock of the
    /// ports.
    fn describe_copy(
        &self,
        noted: MachineFile,
        copy: &Record,
        files: &Files,
        work: &dyn Work,
    ) -> io::Result<()> {
        let mut taken = machine::ports_of_others(&self.settings.vms, &copy.id)?;
        let mut moved = BTreeMap::new();
        let mut forwards = Vec::new();
        for port in &noted.ports {
            let seed = format!("{}{}", copy.id, port.guest);
            let host = ports::pick(&seed, &taken).ok_or_else(|| io::Error::other("no port is free"))?;
            taken.insert(host);
            moved.insert(port.guest, (port.host, host));
            forwards.push(Forward { host, guest: port.guest });
        }
        let copied = MachineFile {
            id: copy.id.clone(),
            name: copy.name.to_string(),
            ports: forwards,
            ssh_port: None,
            process: None,
            made: true,
            ..noted
        };
        copied.save(files)?;
        for (guest, (theirs, ours)) in moved {
            work.events().event(Event::Note(format!(
                "127.0.0.1:{theirs} leads to the first machine; port {guest} of \"{}\" is at 127.0.0.1:{ours}",
                copy.name
            )));
        }
        Ok(())
    }
}

/// cloud-init sees the same instance, so that it does nothing again, under the copy's name, which it
/// gives the guest at each start.
fn copy_seed(from: &Files, to: &Files, copy: &Record) -> io::Result<()> {
    let seed = Content::read(&read::file(&from.seed(), SEED_MAX)?)?;
    files::write_durably(&to.seed(), &seed.under(copy.name.as_str()).image()?)
}

/// Copies a file durably; by reflink where the file system can, and with its holes.
async fn copy_file(source: &Path, target: &Path, work: &mut dyn Work) -> io::Result<Copied> {
    let mut from = File::open(source)?;
    // A new file, not the old one emptied: a qemu-img that outlived an earlier try may have that open.
    files::remove_if_there(target)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    let total = from.metadata()?.len();
    if !files::reflink(&to, &from) {
        let mut piece = vec![0; 1 << 20];
        let mut done = 0;
        while done < total {
            if work.interrupted() {
                return Ok(Copied::InPart);
            }
            let count = from.read(&mut piece)?;
            if count == 0 {
                break;
            }
            files::write_or_skip(&mut to, &piece[..count])?;
            done += count as u64;
            work.events().event(Event::Progress { done, total: Some(total) });
            tokio::task::yield_now().await;
        }
        to.set_len(total)?;
    }
    to.sync_all()?;
    Ok(Copied::Whole)
}
