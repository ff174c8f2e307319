//! Starting a machine's QEMU, asking it to power off, and ending it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use goloo_model::events::Event;
use goloo_model::hint::NextStep;
use goloo_model::name::VmName;
use goloo_model::provider::{Endpoints, ProviderError, Work};
use goloo_model::spec::Protocol;

use crate::accel::{Accel, Choice, ProbeCache};
use crate::args::Files;
use crate::context::QemuProvider;
use crate::error::{end_failed, port_taken, prepare_failed};
use crate::launch::{self, LaunchError, Start};
use crate::lock;
use crate::machine::{self, MachineFile};
use crate::network;
use crate::ports::{self, Listener, Necessity};
use crate::process::{self, QemuProcess, Signal};
use crate::qmp::{self, RunState};
use crate::virtiofs::{self, Virtiofs, Virtiofsd};

/// How many SSH ports are tried if other programs keep taking them.
const PORT_TRIES: u32 = 20;
/// How often a machine's processes are ended before goloo concludes that something else keeps starting them.
const ENDS_MAX: u32 = 4;

/// What happens when another program has a port that the machine can't do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Fails,
    /// Another port is picked, and said.
    Moves,
}

/// How QEMU is started.
pub(crate) struct Attempt<'a> {
    pub(crate) program: &'a Path,
    pub(crate) memory: &'a ProbeCache,
    pub(crate) accel: Accel,
    pub(crate) when_taken: Taken,
}

impl QemuProvider {
    /// Starts a machine that was created before, unless it is running. A suspended one continues.
    pub(crate) async fn power_on(
        &self,
        vm: &VmName,
        machine: &mut MachineFile,
        files: &Files,
        work: &mut dyn Work,
    ) -> Result<Endpoints, ProviderError> {
        if machine.suspended.is_some() {
            return self.wake(vm, machine, files, Taken::Fails, work).await;
        }
        let running =
            machine::running(files, machine).map_err(|source| prepare_failed(files.folder(), source))?;
        if running.is_some() {
            match (qmp::run_state(files.folder(), self.settings.limits.answer).await, machine.ssh_port) {
                (Ok(RunState::Up), Some(port)) => return Ok(machine.endpoint(port).into()),
                (Ok(RunState::Paused), Some(port)) => {
                    self.unpause(files).await?;
                    return Ok(machine.endpoint(port).into());
                }
                (Err(error), Some(_)) => {
                    return Err(ProviderError::caused(
                        "this machine's QEMU process doesn't respond",
                        NextStep::force_stop(vm),
                        error,
                    ));
                }
                _ => self.end(files).await?,
            }
        }
        self.drop_memory(files)?;
        // It boots, and cloud-init gives it its own identity.
        machine.template = None;
        check_sources(machine.mounts.iter().map(|share| &share.source))?;
        self.check_ports(machine)?;
        self.launch(machine, files, Taken::Fails, work).await
    }

    /// Asks the guest to power off. Returns `false`, after reporting it, if the guest didn't.
    pub(crate) async fn power_down(
        &self,
        process: &QemuProcess,
        files: &Files,
        work: &mut dyn Work,
    ) -> Result<bool, ProviderError> {
        work.step("asking the guest to power off");
        if matches!(qmp::run_state(files.folder(), self.settings.limits.answer).await, Ok(RunState::Paused)) {
            self.unpause(files).await?;
        }
        let limit = work.power_down_limit(self.settings.limits.power_down);
        let end = Instant::now() + limit;
        loop {
            let asked = qmp::ask(files.folder(), "system_powerdown", self.settings.limits.answer).await;
            if let Err(error) = asked
                && process.is_alive()
            {
                work.events()
                    .event(Event::Warning(format!("the guest can't be asked to power off: {error}")));
                return Ok(false);
            }
            let wait = self.settings.limits.ask_again.min(end.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = work.interruption() => return Err(ProviderError::Interrupted),
                gone = process.wait_gone(wait) => if gone {
                    // This also ends the supervisor, which completes the console log.
                    self.end(files).await?;
                    return Ok(true);
                }
            }
            if Instant::now() >= end {
                let seconds = limit.as_secs();
                work.events().event(Event::Warning(format!(
                    "the guest hasn't powered off within {seconds} s; forcing power off"
                )));
                return Ok(false);
            }
        }
    }

    /// Assigns the machine an SSH port of its own, decides about its optional forwards and records both, all under the
    /// lock. An existing SSH port is kept unless it is in `refused`.
    async fn assign_ports(
        &self,
        machine: &mut MachineFile,
        files: &Files,
        refused: &BTreeSet<Listener>,
        work: &mut dyn Work,
    ) -> Result<u16, ProviderError> {
        let io = |source| prepare_failed(files.folder(), source);
        let _lock = lock::take(&self.settings.ports_lock(), self.settings.limits.lock, work).await?;
        let mut taken: BTreeSet<u16> = machine::ports(&self.others(machine)?).collect();
        taken.extend(machine.ports.iter().map(|port| port.host));
        taken.extend(refused.iter().map(|listener| listener.port));
        let address = machine.address();
        let is_free = |port: &u16| !taken.contains(port) && Listener::tcp(address, *port).check().is_ok();
        let pick = || ports::pick(machine.id.as_str(), Protocol::Tcp, address, &taken);
        let kept = machine.ssh_port.filter(is_free);
        let port = kept.or_else(|| pick().map(|listener| listener.port)).ok_or_else(|| {
            ProviderError::failed(format!("no port on {address} is free for SSH"), "stop or delete some VMs")
        })?;
        machine.ssh_port = Some(port);
        for forward in machine.ports.iter_mut().filter(|forward| forward.necessity != Necessity::Required) {
            let listener = forward.listener();
            let is_free = !refused.contains(&listener) && listener.check().is_ok();
            forward.necessity = if is_free { Necessity::Optional } else { Necessity::Skipped };
        }
        machine.save(files).map_err(io)?;
        Ok(port)
    }

    /// Another program was faster than QEMU.
    async fn give_way(
        &self,
        machine: &mut MachineFile,
        files: &Files,
        listener: Listener,
        when_taken: Taken,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let lost = machine.ports.iter().position(|forward| forward.listener() == listener);
        let Some(index) = lost.filter(|index| machine.ports[*index].necessity == Necessity::Required) else {
            return Ok(());
        };
        let _lock = lock::take(&self.settings.ports_lock(), self.settings.limits.lock, work).await?;
        let (others, guest) = (self.others(machine)?, machine.ports[index].guest);
        if when_taken == Taken::Fails {
            return Err(port_taken(&listener, guest, &io::ErrorKind::AddrInUse.into(), &others));
        }
        let taken = machine::ports(&others).chain(machine.listeners().map(|own| own.port)).collect();
        let moved = network::pick_instead(machine.id.as_str(), listener, guest, &taken)?;
        machine.ports[index] = moved;
        machine.save(files).map_err(|source| prepare_failed(files.folder(), source))?;
        let note = network::moved_note(&machine.name, listener, moved.listener(), guest, &others);
        work.events().event(Event::Note(note));
        Ok(())
    }

    /// All machines except this one.
    fn others(&self, machine: &MachineFile) -> Result<Vec<MachineFile>, ProviderError> {
        machine::others(&self.settings.vms, &machine.id)
            .map_err(|source| prepare_failed(&self.settings.vms, source))
    }

    pub(crate) fn check_ports(&self, machine: &MachineFile) -> Result<(), ProviderError> {
        let required = machine.ports.iter().filter(|forward| forward.necessity == Necessity::Required);
        for forward in required {
            if let Err(error) = forward.listener().check() {
                let others = self.others(machine)?;
                return Err(port_taken(&forward.listener(), forward.guest, &error, &others));
            }
        }
        Ok(())
    }

    /// Starts QEMU and returns once it is up with its SSH port bound.
    pub(crate) async fn launch(
        &self,
        machine: &mut MachineFile,
        files: &Files,
        when_taken: Taken,
        work: &mut dyn Work,
    ) -> Result<Endpoints, ProviderError> {
        let program = self.program()?;
        let memory = ProbeCache::new(self.settings.memory.clone(), &program);
        let choice = memory.choose(self.settings.accel, (self.settings.offered)(machine.arch));
        if let Choice::Without { reason } = &choice
            && memory.to_be_said(reason)
        {
            work.events().event(Event::Note(slow(reason)));
        }
        work.step("starting QEMU");
        let start = Attempt { program: &program, memory: &memory, accel: choice.accel(), when_taken };
        let failure = match self.launch_with(&start, machine, files, work).await {
            Ok(made) => match choice {
                Choice::Unproved(accel) => match self.prove(files, work).await? {
                    Ok(()) => {
                        memory.works();
                        return Ok(made);
                    }
                    Err(reason) => {
                        self.end(files).await?;
                        format!("a guest under {accel} fails to boot: {reason}")
                    }
                },
                _ => return Ok(made),
            },
            Err(LaunchError::Qemu { message, .. }) if matches!(choice, Choice::Unproved(_)) => {
                format!("QEMU fails with {}: {message}", choice.accel())
            }
            Err(error) => return Err(error.into()),
        };
        memory.fails(&failure);
        memory.to_be_said(&failure);
        work.events().event(Event::Note(slow(&failure)));
        work.step("starting QEMU without acceleration");
        let start = Attempt { accel: Accel::Tcg, ..start };
        self.launch_with(&start, machine, files, work).await.map_err(Into::into)
    }

    pub(crate) async fn launch_with(
        &self,
        attempt: &Attempt<'_>,
        machine: &mut MachineFile,
        files: &Files,
        work: &mut dyn Work,
    ) -> Result<Endpoints, LaunchError> {
        let Attempt { program, memory, accel, when_taken } = *attempt;
        let supervisor = self.supervisor()?;
        if let Some(nic) = &machine.private_nic {
            self.create_network_folder(nic)?;
        }
        let mut refused = BTreeSet::new();
        let mut virtiofsd = self.virtiofsd_for(machine);
        if virtiofsd.is_some() {
            // Those of a start whose processes were killed before QEMU connected to them.
            self.end(files).await?;
        }
        for _ in 0..PORT_TRIES {
            if work.interrupted() {
                return Err(ProviderError::Interrupted.into());
            }
            if machine.virtiofs != Virtiofs::Unsupported {
                machine.virtiofs = if virtiofsd.is_some() { Virtiofs::Used } else { Virtiofs::Unused };
            }
            let ssh_port = self.assign_ports(machine, files, &refused, work).await?;
            let known = memory.sandbox();
            let sandbox = self.settings.sandbox && known != Some(false);
            let argv = self.argv(machine, files, accel, sandbox, ssh_port);
            // With acceleration, a hang is a symptom only if it lasts long enough.
            let usual = self.settings.limits.launch;
            let limit = if accel == Accel::Tcg { work.time_left(usual) } else { usual };
            let answer = self.settings.limits.answer;
            let shares: Vec<_> = virtiofsd
                .iter()
                .flat_map(|virtiofsd| machine.mounts.iter().map(|folder| virtiofsd.command(folder)))
                .collect();
            let (supervisor, argv, shares) = (&*supervisor, &*argv, &*shares);
            let start = Start { supervisor, program, argv, shares, files, limit, answer };
            let started = launch::run(&start).await;
            if started.is_err() {
                self.end(files).await?;
            }
            match started {
                Ok(process) => {
                    if sandbox && known.is_none() {
                        memory.sandbox_works(true);
                    }
                    machine.made = true;
                    machine.accel = Some(accel);
                    machine.process = Some(process);
                    machine.save(files).map_err(|source| prepare_failed(files.folder(), source))?;
                    let skipped = network::skipped_note(machine, &self.others(machine)?);
                    skipped.into_iter().for_each(|note| work.events().event(Event::Note(note)));
                    return Ok(machine.endpoint(ssh_port).into());
                }
                Err(LaunchError::Qemu { message, .. })
                    if sandbox && known.is_none() && is_of_sandbox(&message) =>
                {
                    memory.sandbox_works(false);
                    let text =
                        format!("QEMU's sandbox doesn't work here, so machines run without it: {message}");
                    work.events().event(Event::Warning(text));
                }
                Err(LaunchError::Qemu { message, .. })
                    if virtiofsd.is_some() && virtiofs::is_cause_of(&message) =>
                {
                    virtiofsd = None;
                    let text = format!(
                        "folders are shared over 9p only, since sharing them over virtiofs failed: {message}; \
                         GOLOO_VIRTIOFSD=off turns virtiofs off"
                    );
                    work.events().event(Event::Warning(text));
                }
                Err(LaunchError::PortTaken { listener }) => {
                    refused.insert(listener);
                    self.give_way(machine, files, listener, when_taken, work).await?;
                }
                // After a failed create the folder is deleted, and the log with it.
                Err(LaunchError::Qemu { message, .. }) if !machine.made => {
                    return Err(LaunchError::Qemu { message, log: None });
                }
                Err(error) => return Err(error),
            }
        }
        Err(ProviderError::failed(
            format!("other programs took {PORT_TRIES} ports in a row before QEMU could bind them"),
            "try again",
        )
        .into())
    }

    /// What shares the machine's folders beside QEMU. Saved memory is of a machine without it.
    fn virtiofsd_for(&self, machine: &MachineFile) -> Option<Virtiofsd> {
        let is_possible = machine.virtiofs != Virtiofs::Unsupported && machine.suspended.is_none();
        if machine.mounts.is_empty() || !is_possible {
            return None;
        }
        Virtiofsd::find(&self.settings.virtiofsd).ok()
    }

    /// Waits for the guest's first write to its disk, which proves that it reached userspace. The inner error is the
    /// reason why there was none.
    async fn prove(&self, files: &Files, work: &mut dyn Work) -> Result<Result<(), String>, ProviderError> {
        let end = Instant::now() + self.settings.limits.proof;
        loop {
            if qmp::disk_writes(files.folder(), self.settings.limits.answer)
                .await
                .is_ok_and(|writes| writes > 0)
            {
                return Ok(Ok(()));
            }
            if process::of_pid_file(&files.pid()).is_ok_and(|process| process.is_none()) {
                return Ok(Err("QEMU exited".to_owned()));
            }
            if Instant::now() >= end {
                let seconds = self.settings.limits.proof.as_secs();
                return Ok(Err(format!("nothing was written to its disk in {seconds} s")));
            }
            tokio::select! {
                () = work.interruption() => return Err(ProviderError::Interrupted),
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
    }

    /// Ends the machine's QEMU immediately, whatever state it is in.
    ///
    /// Repeats until nothing is left: a QEMU that is just starting has a second process at the moment it daemonizes. If
    /// new ones keep appearing, something else is starting them.
    pub(crate) async fn end(&self, files: &Files) -> Result<(), ProviderError> {
        let look = || process::scan(&files.pid()).map_err(|source| end_failed(files.folder(), source));
        for _ in 0..ENDS_MAX {
            let found = look()?;
            if found.is_empty() {
                return Ok(());
            }
            // When asked over its socket or by SIGTERM, QEMU still flushes its disk caches.
            let limit = self.settings.limits.answer.min(Duration::from_secs(1));
            let _ = qmp::ask(files.folder(), "quit", limit).await;
            for process in found {
                self.end_one(files, &process).await?;
            }
        }
        let left: Vec<String> = look()?.iter().map(|process| process.pid.to_string()).collect();
        if left.is_empty() {
            return Ok(());
        }
        Err(ProviderError::failed(
            format!("QEMU processes for this machine keep starting; running now: {}", left.join(", ")),
            format!(
                "`ps -fp {}` shows them: stop the program that starts them, then try again",
                left.join(",")
            ),
        ))
    }

    async fn end_one(&self, files: &Files, process: &QemuProcess) -> Result<(), ProviderError> {
        let io = |source| end_failed(files.folder(), source);
        if process.wait_gone(Duration::from_millis(500)).await {
            return Ok(());
        }
        process.signal(Signal::Terminate).map_err(io)?;
        if process.wait_gone(self.settings.limits.quit).await {
            return Ok(());
        }
        process.signal(Signal::Kill).map_err(io)?;
        if process.wait_gone(self.settings.limits.quit).await {
            return Ok(());
        }
        Err(ProviderError::failed(
            format!("QEMU (process {}) doesn't exit, even when killed", process.pid),
            "check the storage of the machine's disk: a process that can't be killed is waiting for I/O",
        ))
    }
}

/// Whether QEMU failed because of the sandbox: it was built without one, the kernel doesn't support it, or a system
/// call was denied that this system's libraries need (signal 31, SIGSYS).
fn is_of_sandbox(message: &str) -> bool {
    ["-sandbox", "seccomp", "ended by signal 31"].iter().any(|words| message.contains(words))
}

fn slow(reason: &str) -> String {
    format!("no hardware acceleration, so machines are slow here: {reason}")
}

pub(crate) fn check_sources<'a>(sources: impl Iterator<Item = &'a PathBuf>) -> Result<(), ProviderError> {
    for source in sources {
        if !source.is_dir() {
            return Err(ProviderError::failed(
                format!("the folder {} that the machine shares doesn't exist", source.display()),
                format!("mkdir -p {}, or change vm.mounts", source.display()),
            ));
        }
    }
    Ok(())
}
