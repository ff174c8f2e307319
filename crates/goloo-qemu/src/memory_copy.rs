//! Machines that continue from the memory of a baked one, instead of booting.
//!
//! Such a machine has the identity of the one that was baked until the engine has given it its own. Its `machine.json`
//! says so (`template`); meanwhile nothing of it is forwarded but SSH. If the memory can't be loaded, it boots from the
//! baked disk: its guest hasn't run, so its disk can be made again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use goloo_images::CachedImage;
use goloo_model::events::Event;
use goloo_model::hint::NextStep;
use goloo_model::provider::{Endpoints, Machine, MemoryTemplate, ProviderError, Work};
use goloo_model::record::Record;
use goloo_sys::durable;

use crate::args::Files;
use crate::context::QemuProvider;
use crate::error::{port_taken, prepare_failed};
use crate::live_forwards::{self, LiveForward, LiveForwardError};
use crate::machine::{self, MachineFile, Suspended};
use crate::ports::Necessity;
use crate::power::Taken;
use crate::saved_machine::{ANOTHER_VERSION, SavedMachine};

impl QemuProvider {
    /// The memory that a new machine can continue from. If there is one that doesn't fit, this is said.
    pub(crate) fn usable_memory(
        &self,
        machine: &Machine,
        image: &CachedImage,
        work: &dyn Work,
    ) -> Result<Option<SavedMachine>, ProviderError> {
        let Some(memory) = image.entry.memory.as_ref().filter(|_| machine.baked.is_some()) else {
            return Ok(None);
        };
        let reason = match serde_json::from_value::<SavedMachine>(memory.machine.clone()) {
            Err(_) => ANOTHER_VERSION.to_owned(),
            Ok(saved) => match self.memory_mismatch(&saved, &machine.stack)? {
                None => return Ok(Some(saved)),
                Some(reason) => reason,
            },
        };
        say_boots(&reason, work);
        Ok(None)
    }

    /// Turns a prepared machine into one that continues from saved memory, durably.
    pub(crate) fn put_memory(
        &self,
        noted: &mut MachineFile,
        files: &Files,
        saved: SavedMachine,
        image: &CachedImage,
    ) -> Result<(), ProviderError> {
        let io = |source| prepare_failed(files.folder(), source);
        durable::remove_if_there(&files.memory()).map_err(io)?;
        link_or_copy(&self.settings.cache.memory_of(image), &files.memory()).map_err(io)?;
        durable::sync_folder(files.folder()).map_err(io)?;
        noted.accel = Some(saved.kind.accel());
        noted.suspended = Some(Suspended { machine_type: saved.machine_type, private: saved.private });
        noted.template = Some(saved.template);
        noted.save(files).map_err(io)
    }

    /// Lets a machine run that has the identity of the baked one, wherever an earlier attempt ended.
    pub(crate) async fn continue_copy(
        &self,
        machine: &Machine,
        noted: &mut MachineFile,
        files: &Files,
        work: &mut dyn Work,
    ) -> Result<Endpoints, ProviderError> {
        let when_taken = if machine.stack.is_copy { Taken::Moves } else { Taken::Fails };
        let running = match noted.suspended {
            Some(_) => {
                self.check_ports(noted)?;
                self.wake(&machine.name, noted, files, when_taken, work).await
            }
            None => self.power_on(&machine.name, noted, files, work).await,
        };
        match running {
            // Without a template it has booted.
            Ok(endpoints) if noted.template.is_none() => Ok(endpoints),
            Ok(endpoints) => {
                self.grow(noted, files, machine.stack.disk.as_bytes()).await?;
                Ok(endpoints)
            }
            Err(error @ (ProviderError::Interrupted | ProviderError::Record(_))) => Err(error),
            Err(error) if noted.suspended.is_some() => {
                say_boots(&error.to_string(), work);
                self.boot_instead(machine, noted, files, when_taken, work).await
            }
            Err(error) => Err(error),
        }
    }

    async fn boot_instead(
        &self,
        machine: &Machine,
        noted: &mut MachineFile,
        files: &Files,
        when_taken: Taken,
        work: &mut dyn Work,
    ) -> Result<Endpoints, ProviderError> {
        self.end(files).await?;
        let Some(key) = &machine.baked else {
            return Err(ProviderError::failed(
                "the memory can't be loaded, and the image that it belongs to isn't known",
                NextStep::Delete(machine.name.clone()).text(", then create it again"),
            ));
        };
        let image = self.baked_image(key, machine)?;
        (noted.made, noted.suspended, noted.template) = (false, None, None);
        noted.save(files).map_err(|source| prepare_failed(files.folder(), source))?;
        self.drop_memory(files)?;
        self.prepare(machine, files, &image, machine.stack.disk.as_bytes())?;
        drop(image);
        self.launch(noted, files, when_taken, work).await
    }

    /// Whose identity the machine has, if not its own.
    pub(crate) fn template_of(&self, record: &Record) -> Result<Option<MemoryTemplate>, ProviderError> {
        let files = self.files(record);
        let noted = MachineFile::load(&files).map_err(|source| prepare_failed(files.folder(), source))?;
        Ok(noted.and_then(|noted| noted.template).map(Into::into))
    }

    /// Forwards the machine's ports, now that it has its own identity.
    pub(crate) async fn open_ports(&self, record: &Record) -> Result<(), ProviderError> {
        let files = self.files(record);
        let io = |source| prepare_failed(files.folder(), source);
        let Some(mut noted) = MachineFile::load(&files).map_err(io)? else { return Ok(()) };
        if noted.template.is_none() {
            return Ok(());
        }
        for forward in noted.ports.iter_mut().filter(|forward| forward.is_active()) {
            let (guest, listener) = (forward.guest, forward.listener());
            let live = LiveForward { listener, guest };
            match live_forwards::add(files.folder(), live, self.settings.limits.answer).await {
                Ok(()) => {}
                // Somebody has taken it since QEMU was started.
                Err(LiveForwardError::CannotListen { .. }) if forward.necessity == Necessity::Optional => {
                    forward.necessity = Necessity::Skipped;
                }
                Err(LiveForwardError::CannotListen { listener, source }) => {
                    let others = machine::others(&self.settings.vms, &noted.id).unwrap_or_default();
                    return Err(port_taken(&listener, guest, &source, &others));
                }
                Err(error) => {
                    return Err(ProviderError::caused("the ports can't be forwarded", "try again", error));
                }
            }
        }
        noted.template = None;
        noted.save(&files).map_err(io)
    }
}

fn say_boots(reason: &str, work: &dyn Work) {
    let text = format!(
        "the memory that was baked can't be used, so the VM boots from the baked disk: {reason}. Bake the stack again with its memory"
    );
    work.events().event(Event::Note(text));
}

pub(crate) fn link_or_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    let copy = fs::File::open(to)?;
    copy.set_permissions(fs::Permissions::from_mode(0o400))?;
    copy.sync_all()
}
