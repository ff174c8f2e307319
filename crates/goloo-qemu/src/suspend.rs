//! Suspended machines: their memory is in a file, and the next start continues from it.
//!
//! `machine.json` decides. It says "suspended" only once the memory is durable, and no longer before the guest runs
//! again: memory that is older than the disk would destroy the guest's file systems. A QEMU that runs while it says so
//! hasn't let the guest continue yet, and can be ended.

use std::path::PathBuf;
use std::time::Duration;

use goloo_model::events::Event;
use goloo_model::hint::NextStep;
use goloo_model::name::VmName;
use goloo_model::provider::{Endpoints, ProviderError, StopMode, Work};
use goloo_model::record::Record;
use goloo_sys::durable;

use crate::accel::{Accel, ProbeCache};
use crate::args::{Files, PRIVATE_NIC, PRIVATE_PORT, VIRTIOFS, machine_type};
use crate::context::QemuProvider;
use crate::error::{end_failed, prepare_failed};
use crate::launch;
use crate::machine::{MachineFile, PrivateSlots, Suspended};
use crate::power::{Attempt, Taken};
use crate::qmp::{self, RunState};
use crate::saved_memory::{self, MemoryError};

/// How long QEMU may take to set the machine up after it has received its memory.
const PATIENCE: Duration = Duration::from_secs(60);

impl QemuProvider {
    /// Saves the memory of a running machine and ends its QEMU. After an error the machine runs on.
    pub(crate) async fn suspend(
        &self,
        vm: &VmName,
        machine: &mut MachineFile,
        files: &Files,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        if let Some(suspended) = self.pause(vm, machine, files, Pause::ToSuspend, work).await? {
            machine.suspended = Some(suspended);
            machine.save(files).map_err(|source| prepare_failed(files.folder(), source))?;
        }
        self.end(files).await
    }

    /// Pauses a running machine once its memory is in a file, durably. After an error the machine runs on; `None` if its
    /// guest has powered off.
    pub(crate) async fn pause(
        &self,
        vm: &VmName,
        machine: &MachineFile,
        files: &Files,
        pause: Pause<'_>,
        work: &mut dyn Work,
    ) -> Result<Option<Suspended>, ProviderError> {
        let (folder, limit) = (files.folder(), self.settings.limits.answer);
        let failed = |error: MemoryError| pause.failed(vm, machine, error);
        let ask = |error| failed(MemoryError::Qmp(error));
        match qmp::run_state(folder, limit).await.map_err(ask)? {
            RunState::Up => {}
            // An earlier attempt has died. The memory can't be sent twice.
            RunState::Paused => self.unpause(files).await?,
            RunState::Down => return Ok(None),
        }
        if let Some(reason) = qmp::migration_blocker(folder, limit).await.map_err(ask)? {
            return Err(failed(MemoryError::Blocked(reason)));
        }
        let devices = qmp::devices(folder, limit).await.map_err(ask)?;
        // Newer versions of QEMU would save it, without the files that are open in virtiofsd.
        if let Some(device) = devices.iter().find(|id| id.starts_with(VIRTIOFS)) {
            return Err(failed(MemoryError::Blocked(format!("{device} is in use"))));
        }
        work.step("saving the memory");
        let machine_type = qmp::machine_type(folder, machine_type(machine.arch), limit).await.map_err(ask)?;
        let private =
            PrivateSlots { port: devices.contains(PRIVATE_PORT), nic: devices.contains(PRIVATE_NIC) };
        qmp::ask(folder, "stop", limit).await.map_err(ask)?;
        if let Err(error) = saved_memory::save(folder, &pause.memory(files), limit, work).await {
            self.unpause(files).await?;
            return Err(failed(error));
        }
        Ok(Some(Suspended { machine_type, private }))
    }

    /// Starts QEMU with the saved memory.
    pub(crate) async fn wake(
        &self,
        vm: &VmName,
        machine: &mut MachineFile,
        files: &Files,
        when_taken: Taken,
        work: &mut dyn Work,
    ) -> Result<Endpoints, ProviderError> {
        let io = |source| prepare_failed(files.folder(), source);
        self.end(files).await?;
        self.check_ports(machine)?;
        let program = self.program()?;
        let memory = ProbeCache::new(self.settings.memory.clone(), &program);
        let accel = machine.accel.unwrap_or(Accel::Tcg);
        work.step("starting QEMU");
        let attempt = Attempt { program: &program, memory: &memory, accel, when_taken };
        let endpoints = self.launch_with(&attempt, machine, files, work).await?;
        work.step("loading the memory");
        let limit = self.settings.limits.answer;
        let loaded = saved_memory::load(files.folder(), &files.memory(), limit, PATIENCE, work).await;
        if let Err(error) = loaded {
            // This also waits for the supervisor, which writes down what QEMU said.
            self.end(files).await?;
            let said = launch::last_words(files);
            return Err(not_loaded(vm, files, &said, error));
        }
        machine.suspended = None;
        machine.save(files).map_err(io)?;
        self.unpause(files).await?;
        self.drop_memory(files)?;
        Ok(endpoints)
    }

    /// Stops a machine that is suspended already.
    pub(crate) async fn stop_suspended(
        &self,
        vm: &VmName,
        machine: &mut MachineFile,
        files: &Files,
        mode: StopMode,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        self.end(files).await?;
        match mode {
            StopMode::Suspend => Ok(()),
            StopMode::Graceful => {
                work.events().event(Event::Note(format!("{vm} is suspended: its memory is kept")));
                Ok(())
            }
            StopMode::Force => {
                work.step("discarding the saved memory");
                machine.suspended = None;
                machine.save(files).map_err(|source| end_failed(files.folder(), source))?;
                self.drop_memory(files)
            }
        }
    }

    /// Lets a paused guest continue.
    pub(crate) async fn unpause(&self, files: &Files) -> Result<(), ProviderError> {
        let asked = qmp::ask(files.folder(), "cont", self.settings.limits.answer).await;
        asked.map(drop).map_err(|error| {
            ProviderError::caused(
                "the paused machine can't continue",
                "check that the file system of its disk isn't full, then run the same command again",
                error,
            )
        })
    }

    /// Removes memory that is no longer needed.
    pub(crate) fn drop_memory(&self, files: &Files) -> Result<(), ProviderError> {
        durable::remove_if_there(&files.memory()).map_err(|source| prepare_failed(files.folder(), source))
    }
}

/// Refuses what would make the disk or the machine differ from its saved memory.
pub(crate) fn refuse_suspended(
    record: &Record,
    machine: &MachineFile,
    what: &str,
) -> Result<(), ProviderError> {
    if machine.suspended.is_none() {
        return Ok(());
    }
    let name = &record.name;
    Err(ProviderError::Unsupported {
        what: format!("\"{name}\" is suspended, but {what} requires a VM that is off"),
        hint: NextStep::Start(name.clone())
            .text(" continues it, then ")
            .step(NextStep::stop(name))
            .text(" shuts it down"),
    })
}

/// What a running machine pauses for.
#[derive(Clone, Copy)]
pub(crate) enum Pause<'a> {
    ToSuspend,
    /// To copy it to this folder.
    ToClone(&'a Files),
}

impl Pause<'_> {
    /// Where its memory goes.
    fn memory(self, own: &Files) -> PathBuf {
        match self {
            Self::ToSuspend => own.memory(),
            Self::ToClone(copy) => copy.memory(),
        }
    }

    fn failed(self, vm: &VmName, machine: &MachineFile, error: MemoryError) -> ProviderError {
        let (done, way_out) = match self {
            Self::ToSuspend => ("suspended", NextStep::stop(vm).text(" shuts it down")),
            Self::ToClone(_) => ("cloned while it runs", NextStep::stop(vm).text(", then clone it")),
        };
        match error {
            MemoryError::Interrupted => ProviderError::Interrupted,
            MemoryError::Blocked(_) if !machine.mounts.is_empty() => ProviderError::Unsupported {
                what: format!(
                    "\"{vm}\" has folders of this computer mounted (vm.mounts), so it can't be {done}: what it has \
                     open there can't be saved"
                ),
                hint: way_out,
            },
            MemoryError::Blocked(_) => ProviderError::Unsupported {
                what: format!("\"{vm}\" can't be {done}: {error}"),
                hint: way_out,
            },
            error => ProviderError::caused(
                format!("\"{vm}\" can't be {done}, so it keeps running"),
                NextStep::Doctor.text(" checks QEMU and the free disk space; ").hint(way_out),
                error,
            ),
        }
    }
}

fn not_loaded(vm: &VmName, files: &Files, said: &str, error: MemoryError) -> ProviderError {
    if matches!(error, MemoryError::Interrupted) {
        return ProviderError::Interrupted;
    }
    let reason = if said.is_empty() { String::new() } else { format!(": {said}") };
    ProviderError::caused(
        format!("QEMU can't continue from the saved memory {}{reason}", files.memory().display()),
        NextStep::force_stop(vm).text(" discards the memory, then it boots from its disk"),
        error,
    )
}
