//! The provider: machines as QEMU processes, one folder each.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use goloo_core::events::Event;
use goloo_core::name::VmName;
use goloo_core::provider::{
    Adopted, Capabilities, Clones, LiveState, Machine, Made, Observation, Provider, ProviderError,
    ProviderPlan, Snapshots, StopMode, Stray, Work,
};
use goloo_core::record::{Extra, Local, ProviderKind, Record};
use goloo_core::spec::{PortForward, ResolvedStack};
use tokio::task::JoinSet;

use crate::accel::{self, Accel, Choice, Memory};
use crate::arch::Arch;
use crate::args::{self, Files, Start};
use crate::files::{self, Lock};
use crate::firmware;
use crate::image::{Cache, CachedImage, ImageError};
use crate::launch::{self, LaunchError};
use crate::machine::{self, MachineFile, SCHEMA};
use crate::ports;
use crate::process::{self, Process, Signal};
use crate::qmp::{self, RunState};
use crate::relay;
use crate::seed::Seed;
use crate::stray;

/// The kind under which a machine's folder is noted in the record.
pub const RESOURCE: &str = "qemu-directory";

/// How many SSH ports are tried when others keep taking them away.
const PORT_TRIES: u32 = 20;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the guest to power off when asked.
    pub power_down: Duration,
    /// Until the guest is asked again: one that is still starting doesn't hear.
    pub ask_again: Duration,
    /// For QEMU to go when told to.
    pub quit: Duration,
    /// For an answer on the control socket.
    pub answer: Duration,
    /// For QEMU to have set itself up.
    pub launch: Duration,
    /// For a guest to write to its disk, where acceleration has to prove itself.
    pub proof: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            power_down: Duration::from_secs(90),
            ask_again: Duration::from_secs(10),
            quit: Duration::from_secs(5),
            answer: Duration::from_secs(3),
            launch: Duration::from_secs(60),
            proof: Duration::from_secs(60),
        }
    }
}

/// What the provider works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of machines: `STATE/vms`, absolute.
    pub vms: PathBuf,
    /// The image cache.
    pub cache: Cache,
    /// Where it is remembered whether acceleration works.
    pub memory: PathBuf,
    /// A QEMU other than `qemu-system-<arch>` of the search path.
    pub qemu: Option<OsString>,
    /// The user's word on acceleration.
    pub accel: Option<Accel>,
    /// What acceleration the machine offers, as far as looking tells.
    pub offered: fn(Arch) -> Result<Accel, String>,
    /// Limits.
    pub limits: Limits,
}

impl Settings {
    /// For this state folder and this image cache; both absolute.
    pub fn new(state: &Path, cache: Cache) -> Self {
        Self {
            vms: state.join("vms"),
            memory: cache.folder().join("acceleration.json"),
            cache,
            qemu: None,
            accel: None,
            offered: accel::offered,
            limits: Limits::default(),
        }
    }

    /// The same, as the environment says: `GOLOO_QEMU`, `GOLOO_QEMU_ACCEL`, `GOLOO_IMAGE_MIRROR`.
    pub fn from_env(state: &Path, images: &Path) -> Result<Self, ProviderError> {
        let mut settings = Self::new(state, Cache::from_env(images));
        settings.qemu = std::env::var_os("GOLOO_QEMU").filter(|value| !value.is_empty());
        if let Some(word) = std::env::var_os("GOLOO_QEMU_ACCEL").filter(|value| !value.is_empty()) {
            let accel = word.to_str().and_then(Accel::parse);
            settings.accel = Some(accel.ok_or_else(|| ProviderError::Unsupported {
                what: format!("GOLOO_QEMU_ACCEL is \"{}\"", word.to_string_lossy()),
                hint: "write kvm, hvf or tcg, or leave it away".to_owned(),
            })?);
        }
        Ok(settings)
    }
}

/// QEMU on this machine. Its futures need a tokio runtime with I/O and time.
#[derive(Debug)]
pub struct QemuProvider {
    settings: Settings,
}

impl QemuProvider {
    /// A provider; nothing is looked at yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    pub(crate) fn vms(&self) -> &Path {
        &self.settings.vms
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.settings.cache
    }

    pub(crate) fn qemu_img(&self) -> &Path {
        self.settings.cache.qemu_img()
    }

    pub(crate) fn files(&self, record: &Record) -> Files {
        machine::folder_of(&self.settings.vms, &record.id)
    }

    fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    pub(crate) fn program(&self) -> Result<PathBuf, ProviderError> {
        let arch = Arch::host();
        let name = self.settings.qemu.clone().unwrap_or_else(|| format!("qemu-system-{arch}").into());
        launch::find_program(&name).ok_or_else(|| ProviderError::Unavailable {
            what: format!("{} isn't installed", name.to_string_lossy()),
            hint: match arch {
                _ if cfg!(target_os = "macos") => "brew install qemu",
                Arch::X86_64 => "sudo apt-get install --no-install-recommends qemu-system-x86 qemu-utils",
                Arch::Aarch64 => {
                    "sudo apt-get install --no-install-recommends qemu-system-arm qemu-efi-aarch64 qemu-utils"
                }
            }
            .to_owned(),
        })
    }

    fn argv(&self, machine: &MachineFile, files: &Files, accel: Accel, ssh_port: u16) -> Vec<OsString> {
        let ports: Vec<PortForward> = machine.ports.iter().map(Into::into).collect();
        args::argv(&Start {
            name: &machine.name,
            arch: machine.arch,
            accel,
            cpus: machine.cpus,
            memory_mib: machine.memory_mib,
            ssh_port,
            ports: &ports,
            mounts: &machine.mounts,
            firmware: machine.firmware.as_deref(),
            files,
        })
    }

    async fn image(&self, stack: &ResolvedStack, work: &mut dyn Work) -> Result<CachedImage, ProviderError> {
        let cache = self.settings.cache.clone();
        let (image, sha256) = (stack.image.clone(), stack.image_sha256.clone());
        let image = relay::watched(work, move |watch| cache.ensure(&image, sha256.as_deref(), watch))
            .await?
            .map_err(image_failed)?;
        if image.entry.virtual_size > stack.disk.as_bytes() {
            let needed = image.entry.virtual_size.div_ceil(1 << 30);
            return Err(ProviderError::Unsupported {
                what: format!(
                    "vm.disk is {}, the image {} holds a disk of {needed}G",
                    stack.disk, stack.image_text
                ),
                hint: format!("write \"disk\": \"{needed}G\" or more"),
            });
        }
        Ok(image)
    }

    /// Makes all that a first start needs. What an earlier try left is replaced: its disk has never
    /// been run.
    fn prepare(&self, machine: &Machine, files: &Files, image: &CachedImage) -> Result<(), ProviderError> {
        let io = |source| prepare_failed(files.folder(), source);
        let seed = Seed {
            instance_id: machine.id.as_str(),
            hostname: machine.name.as_str(),
            user_data: &machine.user_data,
        };
        files::write_durably(&files.seed(), &seed.image().map_err(io)?).map_err(io)?;
        for leftover in [files.disk(), files.base(), files.variables()] {
            files::remove_if_there(&leftover).map_err(io)?;
        }
        if let Some(firmware) = firmware::find(Arch::host())? {
            fs::copy(&firmware.variables, files.variables()).map_err(io)?;
        }
        let base = self.link_base(image, files)?;
        launch::make_overlay(
            self.qemu_img(),
            &base,
            image.entry.format.as_str(),
            &files.disk(),
            machine.stack.disk.as_bytes(),
        )
    }

    /// A link in the machine's own folder, so that the machine lives on when the cache is emptied by
    /// hand, and the state folder can be moved. Across file systems it is the path in the cache,
    /// and the cache is told.
    fn link_base(&self, image: &CachedImage, files: &Files) -> Result<PathBuf, ProviderError> {
        let linked = fs::hard_link(&image.path, files.base());
        if linked.is_ok() {
            return Ok(files.base().file_name().map(PathBuf::from).unwrap_or_default());
        }
        self.settings.cache.hold(image, files.folder()).map_err(image_failed)?;
        Ok(image.path.clone())
    }

    /// Gives the machine an SSH port of its own and writes it down, all under the lock. A port that it
    /// had is kept unless it is among `refused`.
    fn assign_port(
        &self,
        machine: &mut MachineFile,
        files: &Files,
        refused: &BTreeSet<u16>,
    ) -> Result<u16, ProviderError> {
        let io = |source| prepare_failed(files.folder(), source);
        let _lock = Lock::wait_folder(&self.settings.vms).map_err(io)?;
        let mut taken = machine::ports_of_others(&self.settings.vms, &machine.id).map_err(io)?;
        taken.extend(machine.ports.iter().map(|port| port.host));
        taken.extend(refused);
        let kept = machine.ssh_port.filter(|port| !taken.contains(port) && ports::check(*port).is_ok());
        let port = kept.or_else(|| ports::pick(machine.id.as_str(), &taken)).ok_or_else(|| {
            ProviderError::failed("no port on 127.0.0.1 is free for SSH", "stop or delete some VMs")
        })?;
        machine.ssh_port = Some(port);
        machine.save(files).map_err(io)?;
        Ok(port)
    }

    /// Starts QEMU and returns once it is up, on an SSH port that is bound.
    async fn launch(
        &self,
        machine: &mut MachineFile,
        files: &Files,
        work: &mut dyn Work,
    ) -> Result<Made, ProviderError> {
        let program = self.program()?;
        let memory = Memory::new(self.settings.memory.clone(), &program);
        let choice = memory.choose(self.settings.accel, (self.settings.offered)(machine.arch));
        if let Choice::Without { reason } = &choice
            && memory.to_be_said(reason)
        {
            work.events().event(Event::Note(slow(reason)));
        }
        work.step("starting QEMU");
        let failure = match self.launch_with(&program, choice.accel(), machine, files, work).await {
            Ok(made) => match choice {
                Choice::Unproved(accel) => match self.prove(files, work).await? {
                    Ok(()) => {
                        memory.works();
                        return Ok(made);
                    }
                    Err(reason) => {
                        self.end(files).await?;
                        format!("a guest under {accel} doesn't get going: {reason}")
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
        self.launch_with(&program, Accel::Tcg, machine, files, work).await.map_err(Into::into)
    }

    async fn launch_with(
        &self,
        program: &Path,
        accel: Accel,
        machine: &mut MachineFile,
        files: &Files,
        work: &mut dyn Work,
    ) -> Result<Made, LaunchError> {
        let mut refused = BTreeSet::new();
        for _ in 0..PORT_TRIES {
            if work.interrupted() {
                return Err(ProviderError::Interrupted.into());
            }
            let ssh_port = self.assign_port(machine, files, &refused)?;
            let argv = self.argv(machine, files, accel, ssh_port);
            match launch::run(program, &argv, files, self.limits().launch).await {
                Ok(process) => {
                    machine.made = true;
                    machine.accel = Some(accel);
                    machine.process = Some(process);
                    machine.save(files).map_err(|source| prepare_failed(files.folder(), source))?;
                    return Ok(made(ssh_port));
                }
                Err(LaunchError::PortTaken { port }) if port == ssh_port => {
                    refused.insert(port);
                }
                Err(LaunchError::PortTaken { port }) => {
                    return Err(port_taken(port, &io::ErrorKind::AddrInUse.into()).into());
                }
                Err(error) => return Err(error),
            }
        }
        Err(ProviderError::failed(
            format!("{PORT_TRIES} ports in a row were taken away before QEMU could bind them"),
            "try again",
        )
        .into())
    }

    /// Waits for the guest's first write to its disk: the proof that it got as far as userspace. The
    /// inner error is why there was none.
    async fn prove(&self, files: &Files, work: &mut dyn Work) -> Result<Result<(), String>, ProviderError> {
        let end = Instant::now() + self.limits().proof;
        loop {
            if qmp::disk_writes(files.folder(), self.limits().answer).await.is_ok_and(|writes| writes > 0) {
                return Ok(Ok(()));
            }
            if process::of_pid_file(&files.pid()).is_ok_and(|process| process.is_none()) {
                return Ok(Err("QEMU ended".to_owned()));
            }
            if Instant::now() >= end {
                let seconds = self.limits().proof.as_secs();
                return Ok(Err(format!("nothing was written to its disk in {seconds} s")));
            }
            tokio::select! {
                () = work.interruption() => return Err(ProviderError::Interrupted),
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
    }

    /// Ends the machine's QEMU at once, whatever state it is in.
    ///
    /// Looks again until nothing is left: a QEMU that was just being started has a second process in
    /// the moment when it goes into the background.
    async fn end(&self, files: &Files) -> Result<(), ProviderError> {
        loop {
            let found = process::scan(&files.pid()).map_err(|source| end_failed(files.folder(), source))?;
            if found.is_empty() {
                return Ok(());
            }
            // Asked over its socket or by SIGTERM, QEMU still writes out what it holds for the disk.
            let limit = self.limits().answer.min(Duration::from_secs(1));
            let _ = qmp::ask(files.folder(), "quit", limit).await;
            for process in found {
                self.end_one(files, &process).await?;
            }
        }
    }

    async fn end_one(&self, files: &Files, process: &Process) -> Result<(), ProviderError> {
        let io = |source| end_failed(files.folder(), source);
        if process.wait_gone(Duration::from_millis(500)).await {
            return Ok(());
        }
        process.signal(Signal::Terminate).map_err(io)?;
        if process.wait_gone(self.limits().quit).await {
            return Ok(());
        }
        process.signal(Signal::Kill).map_err(io)?;
        if process.wait_gone(self.limits().quit).await {
            return Ok(());
        }
        Err(ProviderError::failed(
            format!("QEMU (process {}) doesn't go, not even when killed", process.pid),
            "look at the machine's disk: a process that hangs in the kernel waits for one",
        ))
    }

    async fn observe_one(files: Files, limit: Duration) -> Observation {
        let unknown = |reason: String| observation(LiveState::Unknown, Some(reason));
        match fs::metadata(files.disk()) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return observation(LiveState::Missing, None);
            }
            Err(error) => return unknown(format!("{}: {error}", files.disk().display())),
        }
        let noted = match MachineFile::load(&files) {
            Ok(machine) => machine,
            Err(error) => return unknown(format!("{}: {error}", files.machine().display())),
        };
        let process = match &noted {
            Some(machine) => machine::running(&files, machine),
            None => process::of_pid_file(&files.pid()),
        };
        let process = match process {
            Ok(Some(process)) => process,
            Ok(None) => return observation(LiveState::Stopped, None),
            Err(error) => return unknown(format!("{}: {error}", files.pid().display())),
        };
        match qmp::run_state(files.folder(), limit).await {
            Ok(RunState::Up) => observation(LiveState::Running, None),
            Ok(RunState::Down) => observation(LiveState::Stopped, None),
            // It may have ended while it was asked.
            Err(_) if !process.is_alive() => observation(LiveState::Stopped, None),
            Err(error) => unknown(error.to_string()),
        }
    }
}

#[async_trait]
impl Provider for QemuProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Qemu
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { console: true, suspend: false }
    }

    fn plan(&self, machine: &Machine) -> Result<ProviderPlan, ProviderError> {
        let files = machine::folder_of(&self.settings.vms, &machine.id);
        let stack = &machine.stack;
        let noted = describe(machine, None);
        // The port is picked when the machine is made; 0 stands for it.
        let accel = self.settings.accel.or_else(|| (self.settings.offered)(Arch::host()).ok());
        let argv = self.argv(&noted, &files, accel.unwrap_or(Accel::Tcg), 0);
        let argv: Vec<String> = std::iter::once(format!("qemu-system-{}", noted.arch))
            .chain(argv.iter().map(|word| word.to_string_lossy().into_owned()))
            .collect();
        let mut steps = vec![
            format!("take the image {} from the cache, or get it", stack.image_text),
            format!("make the folder {}", files.folder().display()),
            format!("make a disk of {} on top of the image, and the cloud-init seed", stack.disk),
            format!(
                "start QEMU with {} vCPU and {} of RAM; SSH on a free port of 127.0.0.1",
                stack.cpus, stack.memory
            ),
        ];
        steps.extend(
            stack.ports.iter().map(|port| format!("forward 127.0.0.1:{} to port {}", port.host, port.guest)),
        );
        steps.extend(
            stack
                .mounts
                .iter()
                .map(|mount| format!("share {} as {} (9p)", mount.source.display(), mount.target)),
        );
        Ok(ProviderPlan { steps, warnings: Vec::new(), detail: serde_json::json!({ "argv": argv }) })
    }

    async fn create(&self, machine: &Machine, work: &mut dyn Work) -> Result<Made, ProviderError> {
        let files = machine::folder_of(&self.settings.vms, &machine.id);
        let io = |source| prepare_failed(files.folder(), source);
        let earlier = MachineFile::load(&files).map_err(io)?;
        if let Some(mut earlier) = earlier.filter(|earlier| earlier.made) {
            return self.power_on(&mut earlier, &files, work).await;
        }
        // What an earlier try started and didn't live to write down is ended: its disk is made anew.
        self.end(&files).await?;
        self.program()?;
        check_mounts(&machine.stack)?;
        check_ports(&machine.stack.ports)?;
        let firmware = firmware::find(Arch::host())?.map(|firmware| firmware.code);
        let image = self.image(&machine.stack, work).await?;
        if work.interrupted() {
            return Err(ProviderError::Interrupted);
        }
        let path = files.folder().to_str().ok_or_else(|| ProviderError::Unsupported {
            what: format!("the state folder's path {} isn't UTF-8", files.folder().display()),
            hint: "set GOLOO_STATE_DIR to another folder".to_owned(),
        })?;
        work.made(RESOURCE, path).await?;
        files::private_folder(files.folder()).map_err(io)?;
        files::sync_folder(&self.settings.vms).map_err(io)?;
        let mut noted = describe(machine, firmware);
        noted.save(&files).map_err(io)?;
        work.step("making the disk");
        self.prepare(machine, &files, &image)?;
        drop(image);
        self.launch(&mut noted, &files, work).await
    }

    async fn delete(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        let files = self.files(record);
        work.step("ending QEMU");
        self.end(&files).await?;
        work.step("removing the disk");
        remove_folder(&files).map_err(|source| {
            ProviderError::caused(
                format!("{} can't be removed", files.folder().display()),
                "look at its permissions, then run the same command again",
                source,
            )
        })?;
        self.settings.cache.release(files.folder());
        Ok(())
    }

    async fn start(&self, record: &Record, work: &mut dyn Work) -> Result<Made, ProviderError> {
        let files = self.files(record);
        let machine = MachineFile::load(&files).map_err(|source| prepare_failed(files.folder(), source))?;
        let mut machine = machine.filter(|_| files.disk().exists()).ok_or_else(|| missing(record, &files))?;
        self.power_on(&mut machine, &files, work).await
    }

    async fn stop(&self, record: &Record, mode: StopMode, work: &mut dyn Work) -> Result<(), ProviderError> {
        if mode == StopMode::Suspend {
            return Err(ProviderError::Unsupported {
                what: "goloo's QEMU machines can't be suspended".to_owned(),
                hint: format!("goloo stop {} shuts it down", record.name),
            });
        }
        let files = self.files(record);
        let machine = MachineFile::load(&files).map_err(|source| end_failed(files.folder(), source))?;
        let Some(machine) = machine else {
            return if files.disk().exists() { self.end(&files).await } else { Err(missing(record, &files)) };
        };
        let running =
            machine::running(&files, &machine).map_err(|source| end_failed(files.folder(), source))?;
        let Some(process) = running else { return Ok(()) };
        if mode == StopMode::Graceful && self.power_down(&process, &files, work).await? {
            return Ok(());
        }
        work.step("cutting the power");
        self.end(&files).await
    }

    async fn observe(&self, records: &[&Record]) -> Vec<Observation> {
        let mut tasks = JoinSet::new();
        for (index, record) in records.iter().enumerate() {
            let (files, limit) = (self.files(record), self.limits().answer);
            tasks.spawn(async move { (index, Self::observe_one(files, limit).await) });
        }
        let none = observation(LiveState::Unknown, Some("the question was cut off".to_owned()));
        let mut all = vec![none; records.len()];
        while let Some(answer) = tasks.join_next().await {
            if let Ok((index, observation)) = answer {
                all[index] = observation;
            }
        }
        all
    }

    async fn console(&self, record: &Record, offset: u64) -> Result<Vec<u8>, ProviderError> {
        use std::io::{Read, Seek, SeekFrom};
        let files = self.files(record);
        let read = || -> io::Result<Vec<u8>> {
            let mut log = fs::File::open(files.console())?;
            log.seek(SeekFrom::Start(offset))?;
            let mut content = Vec::new();
            log.read_to_end(&mut content)?;
            Ok(content)
        };
        match read() {
            Ok(content) => Ok(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound && files.folder().exists() => {
                Ok(Vec::new())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(record, &files)),
            Err(error) => Err(ProviderError::caused(
                format!("the console log {} can't be read", files.console().display()),
                "look at its permissions",
                error,
            )),
        }
    }

    async fn strays(&self, known: &[&Record]) -> Result<Vec<Stray>, ProviderError> {
        stray::find(&self.settings.vms, known)
    }

    async fn adopt(&self, name: &VmName, id: Option<&str>) -> Result<Adopted, ProviderError> {
        stray::adopt(&self.settings.vms, name, id)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn clones(&self) -> Option<&dyn Clones> {
        Some(self)
    }
}

impl QemuProvider {
    /// Starts a machine that was made before, unless it is up.
    async fn power_on(
        &self,
        machine: &mut MachineFile,
        files: &Files,
        work: &mut dyn Work,
    ) -> Result<Made, ProviderError> {
        let running =
            machine::running(files, machine).map_err(|source| prepare_failed(files.folder(), source))?;
        if running.is_some() {
            match (qmp::run_state(files.folder(), self.limits().answer).await, machine.ssh_port) {
                (Ok(RunState::Up), Some(port)) => return Ok(made(port)),
                (Err(error), Some(_)) => {
                    return Err(ProviderError::caused(
                        "a QEMU is there for this machine and doesn't answer",
                        format!("goloo stop --force {}", machine.name),
                        error,
                    ));
                }
                _ => self.end(files).await?,
            }
        }
        check_sources(machine.mounts.iter())?;
        let ports: Vec<PortForward> = machine.ports.iter().map(Into::into).collect();
        check_ports(&ports)?;
        self.launch(machine, files, work).await
    }

    /// Asks the guest to power off. `false` when it didn't, which has been said.
    async fn power_down(
        &self,
        process: &Process,
        files: &Files,
        work: &mut dyn Work,
    ) -> Result<bool, ProviderError> {
        work.step("asking the guest to power off");
        let end = Instant::now() + self.limits().power_down;
        loop {
            let asked = qmp::ask(files.folder(), "system_powerdown", self.limits().answer).await;
            if let Err(error) = asked
                && process.is_alive()
            {
                work.events()
                    .event(Event::Warning(format!("the guest can't be asked to power off: {error}")));
                return Ok(false);
            }
            let wait = self.limits().ask_again.min(end.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = work.interruption() => return Err(ProviderError::Interrupted),
                gone = process.wait_gone(wait) => if gone {
                    return Ok(true);
                }
            }
            if Instant::now() >= end {
                let seconds = self.limits().power_down.as_secs();
                work.events().event(Event::Warning(format!(
                    "the guest hasn't powered off within {seconds} s; its power is cut"
                )));
                return Ok(false);
            }
        }
    }
}

fn describe(machine: &Machine, firmware: Option<PathBuf>) -> MachineFile {
    let stack = &machine.stack;
    MachineFile {
        schema: SCHEMA,
        id: machine.id.clone(),
        name: machine.name.to_string(),
        arch: Arch::host(),
        cpus: stack.cpus,
        memory_mib: stack.memory.as_mib(),
        ports: stack.ports.iter().map(Into::into).collect(),
        mounts: stack.mounts.iter().map(|mount| mount.source.clone()).collect(),
        firmware,
        ssh_port: None,
        made: false,
        accel: None,
        process: None,
    }
}

fn made(ssh_port: u16) -> Made {
    Made::Local(Local { ip: "127.0.0.1".to_owned(), ssh_port, extra: Extra::new() })
}

fn observation(state: LiveState, reason: Option<String>) -> Observation {
    let ip = (state == LiveState::Running).then(|| "127.0.0.1".to_owned());
    Observation { state, ip, reason }
}

fn slow(reason: &str) -> String {
    format!("no hardware acceleration, so machines are slow here: {reason}")
}

fn check_mounts(stack: &ResolvedStack) -> Result<(), ProviderError> {
    check_sources(stack.mounts.iter().map(|mount| &mount.source))
}

fn check_sources<'a>(sources: impl Iterator<Item = &'a PathBuf>) -> Result<(), ProviderError> {
    for source in sources {
        if !source.is_dir() {
            return Err(ProviderError::failed(
                format!("the folder {} that the machine shares isn't there", source.display()),
                format!("mkdir -p {}, or change vm.mounts", source.display()),
            ));
        }
    }
    Ok(())
}

fn check_ports(ports: &[PortForward]) -> Result<(), ProviderError> {
    for port in ports {
        ports::check(port.host).map_err(|error| port_taken(port.host, &error))?;
    }
    Ok(())
}

fn port_taken(port: u16, error: &io::Error) -> ProviderError {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return ProviderError::Permission {
            what: format!("port {port} of this machine may not be bound (vm.ports)"),
            hint: format!("take one above 1023 on this side: \"{}:{port}\"", u32::from(port) + 8000),
        };
    }
    ProviderError::failed(
        format!("port {port} on 127.0.0.1 is taken (vm.ports): {error}"),
        "end what listens there, or take another port on this side: \"HOST:GUEST\"",
    )
}

pub(crate) fn missing(record: &Record, files: &Files) -> ProviderError {
    ProviderError::failed(
        format!("the machine isn't there any more: {} has no disk", files.folder().display()),
        format!("goloo delete {}", record.name),
    )
}

pub(crate) fn prepare_failed(folder: &Path, source: io::Error) -> ProviderError {
    ProviderError::caused(
        format!("the machine's files in {} fail", folder.display()),
        "look at the room and the permissions there, then run the same command again",
        source,
    )
}

pub(crate) fn end_failed(folder: &Path, source: io::Error) -> ProviderError {
    ProviderError::caused(
        format!("the QEMU of {} can't be ended", folder.display()),
        "run the same command again as the user who started it",
        source,
    )
}

pub(crate) fn image_failed(error: ImageError) -> ProviderError {
    match error {
        ImageError::Stopped => ProviderError::Interrupted,
        ImageError::Tools { .. } => {
            ProviderError::Unavailable { what: error.to_string(), hint: error.hint() }
        }
        error => ProviderError::Failed {
            what: error.to_string(),
            hint: error.hint(),
            source: std::error::Error::source(&error).map(|source| source.to_string().into()),
        },
    }
}

/// The disk goes first and the folder last, so that what is left after a crash is seen as missing and
/// removed by the next delete.
fn remove_folder(files: &Files) -> io::Result<()> {
    files::remove_if_there(&files.disk())?;
    match fs::remove_dir_all(files.folder()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
