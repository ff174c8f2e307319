//! Clones a machine: its disk, its memory if it has one, its seed under the new name, and ports of its own. A running one
//! pauses while it is copied.
//!
//! `machine.json` is written last: until then the copy doesn't count as a machine, and the next attempt starts over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use async_trait::async_trait;
use goloo_model::events::Event;
use goloo_model::hint::NextStep;
use goloo_model::provider::{Clones, ProviderError, Work};
use goloo_model::record::Record;
use goloo_sys::{durable, files, private};

use crate::address;
use crate::args::Files;
use crate::context::QemuProvider;
use crate::error::{end_failed, image_failed, missing, prepare_failed};
use crate::lock;
use crate::machine::{self, MachineFile, RESOURCE, Suspended};
use crate::memory_copy::link_or_copy;
use crate::network;
use crate::ports::{Forward, Necessity};
use crate::qmp::{self, RunState};
use crate::seed;
use crate::snapshot::Disk;
use crate::suspend::Pause;

/// Whether a copy was completed.
enum Copied {
    Whole,
    /// The user interrupted it.
    InPart,
}

#[async_trait]
impl Clones for QemuProvider {
    fn with_memory(&self) -> bool {
        true
    }

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
        let from = self.files(source);
        let loaded = MachineFile::load(&from).map_err(|source| end_failed(from.folder(), source))?;
        let noted = loaded.filter(|_| from.disk().exists()).ok_or_else(|| missing(source, &from))?;
        let running = machine::running(&from, &noted);
        let running = running.map_err(|source| end_failed(from.folder(), source))?.is_some();
        if running || noted.suspended.is_some() {
            refuse_member_with_memory(source, &noted)?;
        }
        work.record_resource(RESOURCE, &files.folder().display().to_string()).await?;
        private::create_folders(files.folder()).map_err(io)?;
        durable::sync_folder(&self.settings.vms).map_err(io)?;
        durable::remove_if_there(&files.memory()).map_err(io)?;
        let state = self.bring_to_rest(source, &noted, running, &from, &files, work).await?;
        let copied = self.copy_files(&from, &files, copy, work).await;
        if let State::Paused(_) = state {
            self.unpause(&from).await?;
        }
        copied?;
        let _lock = lock::take(&self.settings.ports_lock(), self.settings.limits.lock, work).await?;
        self.describe_copy(noted, state.memory(), copy, &files, work)
    }

    async fn release(&self, source: &Record) -> Result<(), ProviderError> {
        let files = self.files(source);
        let io = |source| end_failed(files.folder(), source);
        let Some(noted) = MachineFile::load(&files).map_err(io)? else { return Ok(()) };
        let running = machine::running(&files, &noted).map_err(io)?.is_some();
        if running && noted.suspended.is_none() {
            let state = qmp::run_state(files.folder(), self.settings.limits.answer).await;
            if matches!(state, Ok(RunState::Paused)) {
                return self.unpause(&files).await;
            }
        }
        Ok(())
    }
}

/// How a machine is while its files are copied.
enum State {
    Off,
    Suspended(Suspended),
    /// Only to be copied: it is to continue.
    Paused(Suspended),
}

impl State {
    /// What the copied memory is of.
    fn memory(self) -> Option<Suspended> {
        match self {
            Self::Off => None,
            Self::Suspended(memory) | Self::Paused(memory) => Some(memory),
        }
    }
}

impl QemuProvider {
    /// Nothing changes the machine's disk from now on. Its memory, if it has one, is in the folder of the copy.
    async fn bring_to_rest(
        &self,
        source: &Record,
        noted: &MachineFile,
        running: bool,
        from: &Files,
        to: &Files,
        work: &mut dyn Work,
    ) -> Result<State, ProviderError> {
        if let Some(memory) = &noted.suspended {
            // A QEMU that runs meanwhile hasn't let the guest continue yet.
            self.end(from).await?;
            link_or_copy(&from.memory(), &to.memory())
                .map_err(|source| prepare_failed(to.folder(), source))?;
            return Ok(State::Suspended(memory.clone()));
        }
        if !running {
            return Ok(State::Off);
        }
        if let Some(memory) = self.pause(&source.name, noted, from, Pause::ToClone(to), work).await? {
            return Ok(State::Paused(memory));
        }
        self.end(from).await?;
        Ok(State::Off)
    }

    async fn copy_files(
        &self,
        from: &Files,
        to: &Files,
        copy: &Record,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let io = |source| prepare_failed(to.folder(), source);
        work.step("copying the disk");
        self.copy_disk(from, to, work).await?;
        self.copy_base(from, to)?;
        // As with Multipass, snapshots stay with the source; the copy starts without any.
        Disk::new(self.qemu_img(), &to.disk()).remove_all()?;
        copy_seed(from, to, copy).map_err(io)?;
        if from.variables().exists() {
            fs::copy(from.variables(), to.variables()).map_err(io)?;
        }
        Ok(())
    }

    async fn copy_disk(&self, from: &Files, to: &Files, work: &mut dyn Work) -> Result<(), ProviderError> {
        match copy_file(&from.disk(), &to.disk(), work).await {
            Ok(Copied::Whole) => Ok(()),
            Ok(Copied::InPart) => Err(ProviderError::Interrupted),
            Err(error) => Err(prepare_failed(to.folder(), error)),
        }
    }

    /// The copy's overlay refers to the same base, if there is one: by its own link or by the path in the cache.
    fn copy_base(&self, from: &Files, to: &Files) -> Result<(), ProviderError> {
        let io = |source| prepare_failed(to.folder(), source);
        durable::remove_if_there(&to.base()).map_err(io)?;
        match fs::hard_link(from.base(), to.base()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if Disk::new(self.qemu_img(), &from.disk()).info()?.base.is_none() {
                    return Ok(());
                }
                self.settings.cache.hold_too(from.folder(), to.folder()).map_err(image_failed)
            }
            linked => linked.map_err(io),
        }
    }

    /// Writes the copy's `machine.json`, with an address and ports that no other machine has: both must be able to run at
    /// once. Called with the ports lock held.
    fn describe_copy(
        &self,
        noted: MachineFile,
        suspended: Option<Suspended>,
        copy: &Record,
        files: &Files,
        work: &dyn Work,
    ) -> Result<(), ProviderError> {
        let io = |source| prepare_failed(files.folder(), source);
        let others = machine::others(&self.settings.vms, &copy.id).map_err(io)?;
        let addresses = others.iter().filter_map(|other| other.address).collect();
        let mut copied = MachineFile {
            id: copy.id.clone(),
            name: copy.machine_name().to_string(),
            ports: Vec::new(),
            address: noted.address.map(|_| address::choose(&copy.id, &addresses)),
            ssh_port: None,
            process: None,
            // It is no member of its source's environment.
            private_nic: None,
            suspended,
            made: true,
            ..noted.clone()
        };
        let mut notes = Vec::new();
        for forward in noted.ports.iter().filter(|forward| forward.necessity == Necessity::Required) {
            if Some(forward.address) == noted.address {
                copied.ports.push(Forward { address: copied.address(), ..*forward });
                continue;
            }
            let (listener, guest) = (forward.listener(), forward.guest);
            let taken = machine::ports(&others).chain(copied.listeners().map(|own| own.port)).collect();
            let moved = network::pick_instead(copy.id.as_str(), listener, guest, &taken)?;
            copied.ports.push(moved);
            notes.push(network::moved_note(copy.name.as_str(), listener, moved.listener(), guest, &others));
        }
        copied.save(files).map_err(io)?;
        notes.into_iter().for_each(|note| work.events().event(Event::Note(note)));
        Ok(())
    }
}

/// The memory of a member of an environment knows a network card that its clone, which is no member, doesn't have.
fn refuse_member_with_memory(source: &Record, noted: &MachineFile) -> Result<(), ProviderError> {
    if noted.private_nic.is_none() {
        return Ok(());
    }
    Err(ProviderError::Unsupported {
        what: format!(
            "\"{}\" is in the private network of its environment, so it must be stopped before it can be cloned",
            source.name
        ),
        hint: NextStep::stop(&source.name).into(),
    })
}

/// Keeps the instance id, so that cloud-init doesn't repeat its first-boot work, but uses the copy's name, which
/// cloud-init sets in the guest at each boot.
fn copy_seed(from: &Files, to: &Files, copy: &Record) -> io::Result<()> {
    seed::rename(&from.seed(), &to.seed(), &copy.name)
}

/// Copies a file durably; uses a reflink if the file system supports it, and preserves holes.
async fn copy_file(source: &Path, target: &Path, work: &mut dyn Work) -> io::Result<Copied> {
    let mut from = File::open(source)?;
    // A new file instead of truncating the old one: a qemu-img that outlived an earlier attempt may have that open.
    durable::remove_if_there(target)?;
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
