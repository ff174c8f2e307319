//! The provider: machines as QEMU processes with one folder each.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use goloo_images::{Arch, CachedImage};
use goloo_model::automatic_ports::AutomaticPorts;
use goloo_model::events::Event;
use goloo_model::hint::NextStep;
use goloo_model::name::VmName;
use goloo_model::provider::{
    Adopted, Bakes, Capabilities, Changes, Clones, ConsolePiece, Endpoints, Exports, HostnameAtBoot,
    LiveState, Machine, Networks, Observation, Orphan, Provider, ProviderError, ProviderPlan, ResourceUsage,
    Snapshots, StopMode, Work,
};
use goloo_model::provider_info::ProviderInfo;
use goloo_model::record::{Record, is_resource_id};
use goloo_model::spec::{ImageRef, Mount, PortForward, ResolvedStack, images};
use goloo_sys::{durable, private};
use tokio::task::JoinSet;

use crate::accel::Accel;
use crate::address;
use crate::args::Files;
use crate::auto_ports;
use crate::blocking;
use crate::console;
use crate::context::QemuProvider;
use crate::error::{end_failed, image_failed, missing, prepare_failed};
use crate::factory::INFO;
use crate::firmware;
use crate::launch;
use crate::lock;
use crate::machine::{self, MachineFile, RESOURCE, SCHEMA};
use crate::network::{self, Network, Wanted};
use crate::orphan;
use crate::power::{Taken, check_sources};
use crate::private_nic::PrivateNic;
use crate::process;
use crate::qmp::{self, RunState};
use crate::seed::{self, Seed};
use crate::virtiofs::{NoVirtiofsd, Virtiofs, Virtiofsd};

impl QemuProvider {
    async fn image(&self, stack: &ResolvedStack, work: &mut dyn Work) -> Result<CachedImage, ProviderError> {
        let cache = self.settings.cache.clone();
        let (image, sha256) = (stack.image.clone(), stack.image_sha256.clone());
        let image = blocking::watched(work, move |watch| cache.ensure(&image, sha256.as_deref(), watch))
            .await?
            .map_err(image_failed)?;
        if image.entry.virtual_size > stack.disk.as_bytes() {
            let needed = image.entry.virtual_size.div_ceil(1 << 30);
            return Err(ProviderError::Unsupported {
                what: format!(
                    "vm.disk is {}, but the image {} has a disk of {needed}G",
                    stack.disk, stack.image_text
                ),
                hint: format!("write \"disk\": \"{needed}G\" or more").into(),
            });
        }
        Ok(image)
    }

    /// Creates everything the first start needs. Leftovers of an earlier attempt are replaced: that disk was never run.
    pub(crate) fn prepare(
        &self,
        machine: &Machine,
        files: &Files,
        image: &CachedImage,
        disk: u64,
    ) -> Result<(), ProviderError> {
        let io = |source| prepare_failed(files.folder(), source);
        let seed = Seed {
            instance_id: machine.id.as_str(),
            hostname: machine.name.as_str(),
            user_data: &machine.user_data,
        };
        durable::write(&files.seed(), &seed.image().map_err(io)?).map_err(io)?;
        for leftover in [files.disk(), files.base(), files.variables()] {
            durable::remove_if_there(&leftover).map_err(io)?;
        }
        if let Some(firmware) = firmware::find(Arch::host())? {
            fs::copy(&firmware.variables, files.variables()).map_err(io)?;
        }
        let base = self.link_base(image, files)?;
        let cluster = if machine.is_for_baking { launch::CLUSTER_FOR_BAKING } else { launch::CLUSTER };
        let below = (base.as_path(), image.entry.format.as_str());
        launch::make_overlay(self.qemu_img(), below, &files.disk(), disk, cluster)
    }

    /// Links the base image into the machine's own folder, so that the machine survives when the cache is emptied
    /// manually and the state folder can be moved. Across file systems, the path in the cache is used and the cache is
    /// told about it.
    fn link_base(&self, image: &CachedImage, files: &Files) -> Result<PathBuf, ProviderError> {
        let linked = fs::hard_link(&image.path, files.base());
        if linked.is_ok() {
            return Ok(files.base().file_name().map(PathBuf::from).unwrap_or_default());
        }
        self.settings.cache.hold(image, files.folder()).map_err(image_failed)?;
        Ok(image.path.clone())
    }

    /// What would share the folders of a machine of this stack.
    fn virtiofsd_of(&self, stack: &ResolvedStack) -> Result<Virtiofsd, NoVirtiofsd> {
        if stack.mounts.is_empty() {
            Err(NoVirtiofsd::Off)
        } else {
            Virtiofsd::find(&self.settings.virtiofsd)
        }
    }

    /// Also a check: what is in the way of the machine is an error before anything is created.
    fn choose_network(&self, machine: &Machine) -> Result<Network, ProviderError> {
        let vms = &self.settings.vms;
        let others = machine::others(vms, &machine.id).map_err(|source| prepare_failed(vms, source))?;
        network::choose(&Wanted::of(machine), &others, self.settings.has_address)
    }

    /// Saves what later starts need, with an address and ports that no other machine has.
    async fn describe_durably(
        &self,
        machine: &Machine,
        firmware: Option<PathBuf>,
        files: &Files,
        work: &mut dyn Work,
    ) -> Result<MachineFile, ProviderError> {
        let _lock = lock::take(&self.settings.ports_lock(), self.settings.limits.lock, work).await?;
        let network = self.choose_network(machine)?;
        let noted = describe(machine, firmware, &network);
        if let Some(nic) = &noted.private_nic {
            self.expect_free_address(nic, &machine.id)?;
        }
        noted.save(files).map_err(|source| prepare_failed(files.folder(), source))?;
        network.notes.into_iter().for_each(|note| work.events().event(Event::Note(note)));
        Ok(noted)
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
        // Also while a QEMU is loading its memory.
        if noted.as_ref().is_some_and(|machine| machine.suspended.is_some()) {
            return observation(LiveState::Suspended, None);
        }
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
            Ok(RunState::Up | RunState::Paused) => {
                let address = noted.map_or(Ipv4Addr::LOCALHOST, |machine| machine.address());
                Observation {
                    ip: Some(address.to_string()),
                    started_at: process.started_at(),
                    ..Observation::of(LiveState::Running)
                }
            }
            Ok(RunState::Down) => observation(LiveState::Stopped, None),
            // It may have exited during the query.
            Err(_) if !process.is_alive() => observation(LiveState::Stopped, None),
            Err(error) => unknown(error.to_string()),
        }
    }
}

#[async_trait]
impl Provider for QemuProvider {
    fn info(&self) -> &'static ProviderInfo {
        &INFO
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { console: true, suspend: true }
    }

    fn plan(&self, machine: &Machine) -> Result<ProviderPlan, ProviderError> {
        let files = machine::folder_of(&self.settings.vms, &machine.id);
        let stack = &machine.stack;
        let virtiofsd = self.virtiofsd_of(stack);
        check_9p(stack, virtiofsd.as_ref().err())?;
        let own = address::choose(&machine.id, &BTreeSet::new());
        let network = Network { address: Some(own), forwards: network::planned(machine), notes: Vec::new() };
        let mut noted = describe(machine, None, &network);
        if virtiofsd.is_ok() {
            noted.virtiofs = Virtiofs::Used;
        }
        // The port is picked when the machine is created; 0 is a placeholder.
        let accel = self.settings.accel.or_else(|| (self.settings.offered)(Arch::host()).ok());
        let argv = self.argv(&noted, &files, accel.unwrap_or(Accel::Tcg), self.settings.sandbox, 0);
        let argv: Vec<String> = std::iter::once(format!("qemu-system-{}", noted.arch))
            .chain(argv.iter().map(|word| word.to_string_lossy().into_owned()))
            .collect();
        let image = match &machine.baked {
            Some(_) => {
                format!("use the baked image of the stack {}, which is provisioned already", stack.stack)
            }
            None => {
                let otherwise = match stack.image {
                    ImageRef::Path(_) => "copy it there",
                    ImageRef::Alias(_) | ImageRef::Url(_) => "download it",
                };
                format!("use the image {} from the cache, or {otherwise}", stack.image_text)
            }
        };
        let mut steps = vec![
            image,
            format!("create the folder {}", files.folder().display()),
            format!("create a disk of {} on top of the image, and the cloud-init seed", stack.disk),
            format!(
                "start QEMU with {} vCPU and {} of RAM; SSH on a free port of a loopback address of its own",
                stack.cpus, stack.memory
            ),
        ];
        steps.extend(stack.ports.iter().map(forward_step));
        steps.extend(noted.private_nic.as_ref().map(PrivateNic::step));
        if stack.auto_ports {
            steps.push("forward other TCP ports to the VM while it listens on them".to_owned());
        }
        steps.extend(stack.mounts.iter().map(|mount| share_step(mount, virtiofsd.is_ok())));
        Ok(ProviderPlan { steps, warnings: Vec::new(), detail: serde_json::json!({ "argv": argv }) })
    }

    async fn create(&self, machine: &Machine, work: &mut dyn Work) -> Result<Endpoints, ProviderError> {
        let files = machine::folder_of(&self.settings.vms, &machine.id);
        let io = |source| prepare_failed(files.folder(), source);
        let earlier = MachineFile::load(&files).map_err(io)?;
        if let Some(mut earlier) = earlier.filter(|earlier| earlier.made) {
            return match earlier.template {
                Some(_) => self.continue_copy(machine, &mut earlier, &files, work).await,
                None => self.power_on(&machine.name, &mut earlier, &files, work).await,
            };
        }
        // Stop a QEMU that an earlier attempt started but didn't record before it died: its disk is created again.
        self.end(&files).await?;
        self.program()?;
        check_mounts(&machine.stack)?;
        self.choose_network(machine)?;
        let firmware = firmware::find(Arch::host())?.map(|firmware| firmware.code);
        let image = match &machine.baked {
            Some(key) => self.baked_image(key, machine)?,
            None => self.image(&machine.stack, work).await?,
        };
        if work.interrupted() {
            return Err(ProviderError::Interrupted);
        }
        work.record_resource(RESOURCE, resource_id(&files)?).await?;
        private::create_folders(files.folder()).map_err(io)?;
        durable::sync_folder(&self.settings.vms).map_err(io)?;
        let mut noted = self.describe_durably(machine, firmware, &files, work).await?;
        work.step("creating the disk");
        if let Some(saved) = self.usable_memory(machine, &image, work)? {
            // Its guest knows the disk by this size.
            self.prepare(machine, &files, &image, image.entry.virtual_size)?;
            self.put_memory(&mut noted, &files, saved, &image)?;
            drop(image);
            return self.continue_copy(machine, &mut noted, &files, work).await;
        }
        self.prepare(machine, &files, &image, machine.stack.disk.as_bytes())?;
        drop(image);
        let when_taken = if machine.stack.is_copy { Taken::Moves } else { Taken::Fails };
        self.launch(&mut noted, &files, when_taken, work).await
    }

    async fn delete(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        let files = self.files(record);
        work.step("stopping QEMU");
        self.end(&files).await?;
        let described = MachineFile::load(&files).ok().flatten().and_then(|machine| machine.private_nic);
        // An earlier attempt has removed the description.
        let private_nic = described.or_else(|| record.membership.as_ref().and_then(PrivateNic::of));
        work.step("removing the disk");
        remove_folder(&files).map_err(|source| {
            ProviderError::caused(
                format!("{} can't be removed", files.folder().display()),
                "check its permissions, then run the same command again",
                source,
            )
        })?;
        self.settings.cache.release(files.folder());
        match private_nic {
            Some(nic) => self.leave_network(&nic, record, work).await,
            None => Ok(()),
        }
    }

    async fn start(&self, record: &Record, work: &mut dyn Work) -> Result<Endpoints, ProviderError> {
        let files = self.files(record);
        let machine = MachineFile::load(&files).map_err(|source| prepare_failed(files.folder(), source))?;
        let mut machine = machine.filter(|_| files.disk().exists()).ok_or_else(|| missing(record, &files))?;
        machine.host_key = record.ssh.as_ref().map(|ssh| ssh.host_key.clone());
        self.power_on(&record.name, &mut machine, &files, work).await
    }

    async fn stop(&self, record: &Record, mode: StopMode, work: &mut dyn Work) -> Result<(), ProviderError> {
        let files = self.files(record);
        let machine = MachineFile::load(&files).map_err(|source| end_failed(files.folder(), source))?;
        let Some(mut machine) = machine else {
            return if files.disk().exists() { self.end(&files).await } else { Err(missing(record, &files)) };
        };
        if machine.suspended.is_some() {
            return self.stop_suspended(&record.name, &mut machine, &files, mode, work).await;
        }
        let running =
            machine::running(&files, &machine).map_err(|source| end_failed(files.folder(), source))?;
        let Some(process) = running else { return Ok(()) };
        if mode == StopMode::Suspend {
            return self.suspend(&record.name, &mut machine, &files, work).await;
        }
        if mode == StopMode::Graceful && self.power_down(&process, &files, work).await? {
            return Ok(());
        }
        work.step("forcing power off");
        self.end(&files).await
    }

    async fn observe(&self, records: &[&Record]) -> Vec<Observation> {
        self.observe_soon(records, self.settings.limits.answer).await
    }

    async fn observe_soon(&self, records: &[&Record], limit: Duration) -> Vec<Observation> {
        let mut tasks = JoinSet::new();
        for (index, record) in records.iter().enumerate() {
            let files = self.files(record);
            tasks.spawn(async move { (index, Self::observe_one(files, limit).await) });
        }
        let none = observation(LiveState::Unknown, Some("the query was interrupted".to_owned()));
        let mut all = vec![none; records.len()];
        while let Some(answer) = tasks.join_next().await {
            if let Ok((index, observation)) = answer {
                all[index] = observation;
            }
        }
        all
    }

    async fn console(&self, record: &Record, offset: u64) -> Result<ConsolePiece, ProviderError> {
        let files = self.files(record);
        match console::read(&files.console(), offset) {
            Ok(piece) => Ok(piece),
            Err(error) if error.kind() == io::ErrorKind::NotFound && files.folder().exists() => {
                Ok(ConsolePiece { bytes: Vec::new(), next: offset })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(record, &files)),
            Err(error) => Err(ProviderError::caused(
                format!("the console log in {} can't be read", files.folder().display()),
                "check its permissions",
                error,
            )),
        }
    }

    async fn orphans(&self, known: &[&Record]) -> Result<Vec<Orphan>, ProviderError> {
        orphan::find(&self.settings.vms, known)
    }

    /// cloud-init sets the hostname of the seed at each boot, unless it was changed in the guest. A running QEMU keeps the
    /// seed that it has.
    async fn show_new_name(&self, record: &Record, name: &VmName) -> Result<HostnameAtBoot, ProviderError> {
        let files = machine::folder_of(&self.settings.vms, &record.id);
        seed::rename(&files.seed(), &files.seed(), name).map_err(|source| {
            let hint = NextStep::Doctor.text(" checks this computer");
            ProviderError::caused(format!("{} can't be changed", files.seed().display()), hint, source)
        })?;
        Ok(HostnameAtBoot::New)
    }

    async fn adopt(&self, name: &VmName, id: Option<&str>) -> Result<Adopted, ProviderError> {
        orphan::adopt(&self.settings.vms, name, id)
    }

    async fn automatic_ports(&self, record: &Record) -> Option<AutomaticPorts> {
        auto_ports::of_machine(&self.files(record), self.settings.limits.answer).await
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn clones(&self) -> Option<&dyn Clones> {
        Some(self)
    }

    fn bakes(&self) -> Option<&dyn Bakes> {
        Some(self)
    }

    fn exports(&self) -> Option<&dyn Exports> {
        Some(self)
    }

    fn changes(&self) -> Option<&dyn Changes> {
        Some(self)
    }

    fn networks(&self) -> Option<&dyn Networks> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn ResourceUsage> {
        Some(self)
    }
}

/// The machine's folder as its record refers to it.
pub(crate) fn resource_id(files: &Files) -> Result<&str, ProviderError> {
    let path = files.folder().to_str().filter(|path| is_resource_id(RESOURCE, path));
    path.ok_or_else(|| ProviderError::Unsupported {
        what: format!("the state folder's path {:?} isn't UTF-8, or has control characters", files.folder()),
        hint: "set GOLOO_STATE_DIR to another folder".into(),
    })
}

fn share_step(mount: &Mount, has_virtiofs: bool) -> String {
    let readonly = if mount.readonly { ", read-only" } else { "" };
    let how = if has_virtiofs { "virtiofs or 9p" } else { "9p" };
    format!("share {} as {} ({how}{readonly})", mount.source.display(), mount.target)
}

fn forward_step(port: &PortForward) -> String {
    let (host, guest, udp) = (port.host(), port.guest(), port.protocol().suffix());
    match port.bind() {
        None => {
            format!("forward {host}{udp} of that address, and of 127.0.0.1 if it is free, to port {guest}")
        }
        Some(address) => {
            let open = if port.is_open_to_network() { ", which is open to the network," } else { "" };
            format!("forward {address}:{host}{udp}{open} to port {guest}")
        }
    }
}

fn describe(machine: &Machine, firmware: Option<PathBuf>, network: &Network) -> MachineFile {
    let stack = &machine.stack;
    MachineFile {
        schema: SCHEMA,
        id: machine.id.clone(),
        name: machine.machine_name.to_string(),
        arch: Arch::host(),
        cpus: stack.cpus,
        memory_mib: stack.memory.as_mib(),
        any_cpu: matches!(stack.image, ImageRef::Alias(_)),
        ports: network.forwards.clone(),
        auto_ports: stack.auto_ports,
        mounts: stack.mounts.iter().map(Into::into).collect(),
        virtiofs: Virtiofs::Unused,
        firmware,
        address: network.address,
        host_key: Some(machine.host_key.clone()),
        ssh_port: None,
        made: false,
        accel: None,
        process: None,
        // A replacement has the address of the machine that it replaces, and gets it when that one is deleted.
        private_nic: machine.membership.as_ref().filter(|_| !machine.is_replacement).and_then(PrivateNic::of),
        suspended: None,
        template: None,
    }
}

fn observation(state: LiveState, reason: Option<String>) -> Observation {
    Observation { reason, ..Observation::of(state) }
}

fn check_mounts(stack: &ResolvedStack) -> Result<(), ProviderError> {
    check_sources(stack.mounts.iter().map(|mount| &mount.source))
}

/// Refuses mounts that the image's kernel can't mount.
fn check_9p(stack: &ResolvedStack, without_virtiofs: Option<&NoVirtiofsd>) -> Result<(), ProviderError> {
    match (images::lacks_9p(&stack.image), without_virtiofs) {
        (Some(image), Some(reason)) if !stack.mounts.is_empty() => Err(ProviderError::Unsupported {
            what: format!(
                "vm.mounts can't be used with {image}: its kernel lacks the 9p file system, and virtiofs can't be \
                 used here: {reason}"
            ),
            hint: "install virtiofsd 1.13 or later, remove vm.mounts, or use another image, such as ubuntu-24.04 \
                   or fedora-44"
                .into(),
        }),
        _ => Ok(()),
    }
}

/// Removes the disk first and the folder last, so that the remains of a crash are reported as missing and removed by
/// the next delete.
fn remove_folder(files: &Files) -> io::Result<()> {
    durable::remove_if_there(&files.disk())?;
    match fs::remove_dir_all(files.folder()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
