//! Changes of machines: forwarded ports and a larger disk while they run, the rest for their next start.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use async_trait::async_trait;
use goloo_model::change::Setting;
use goloo_model::provider::{ChangeTime, Changes, Endpoints, MachineChange, ProviderError, Work};
use goloo_model::record::{Record, RecordedStack};
use goloo_model::spec::{PortForward, Size};

use crate::args::Files;
use crate::context::QemuProvider;
use crate::error::{missing, port_taken, prepare_failed};
use crate::live_forwards::{self, LiveForward, LiveForwardError};
use crate::machine::{self, MachineFile};
use crate::network::{self, Wanted};
use crate::ports::Forward;
use crate::power::check_sources;
use crate::snapshot::Disk;
use crate::suspend::refuse_suspended;
use crate::virtiofs::Virtiofs;
use crate::{lock, qmp};

#[async_trait]
impl Changes for QemuProvider {
    async fn change(
        &self,
        record: &Record,
        change: MachineChange<'_>,
        work: &mut dyn Work,
    ) -> Result<Endpoints, ProviderError> {
        let files = self.files(record);
        let loaded = MachineFile::load(&files).map_err(|source| prepare_failed(files.folder(), source))?;
        let mut machine = loaded.filter(|_| files.disk().exists()).ok_or_else(|| missing(record, &files))?;
        if change.time == ChangeTime::NextStart || change.has(Setting::Disk) {
            refuse_suspended(record, &machine, "this change")?;
        }
        match change.time {
            ChangeTime::Now => {
                if change.has(Setting::Ports) {
                    work.step("changing the forwarded ports");
                    self.change_ports(record, &mut machine, &files, change.target, work).await?;
                }
                if change.has(Setting::Disk) {
                    work.step("growing the disk");
                    self.grow(&machine, &files, change.target.disk).await?;
                }
            }
            ChangeTime::NextStart => self.note(&mut machine, &files, change)?,
        }
        Ok(match machine.ssh_port {
            Some(port) => machine.endpoint(port).into(),
            None => Endpoints::of(record),
        })
    }
}

impl QemuProvider {
    /// Notes what the next start uses.
    fn note(
        &self,
        machine: &mut MachineFile,
        files: &Files,
        change: MachineChange<'_>,
    ) -> Result<(), ProviderError> {
        let target = change.target;
        if change.has(Setting::Cpus) {
            machine.cpus = target.cpus;
        }
        if change.has(Setting::Memory) {
            machine.memory_mib = Size::bytes(target.memory).as_mib();
        }
        if change.has(Setting::AutoPorts) {
            machine.auto_ports = target.auto_ports;
        }
        if change.has(Setting::Mounts) {
            let mounts = target.shared_folders()?;
            check_sources(mounts.iter().map(|mount| &mount.source))?;
            machine.mounts = mounts.iter().map(Into::into).collect();
            // The update of its guest brings the choice.
            machine.virtiofs = Virtiofs::Unused;
        }
        machine.save(files).map_err(|source| prepare_failed(files.folder(), source))
    }

    /// Forwards the ports of the target: in the running QEMU, and in the file for later starts. Those that stay are not
    /// interrupted.
    async fn change_ports(
        &self,
        record: &Record,
        machine: &mut MachineFile,
        files: &Files,
        target: &RecordedStack,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let io = |source| prepare_failed(files.folder(), source);
        let _lock = lock::take(&self.settings.ports_lock(), self.settings.limits.lock, work).await?;
        let vms = &self.settings.vms;
        let others = machine::others(vms, &machine.id).map_err(|source| prepare_failed(vms, source))?;
        let is_running = machine::running(files, machine).map_err(io)?.is_some();
        let live = if is_running { self.live(files).await? } else { BTreeSet::new() };
        let wanted = self.wanted(record, machine, &live, target, &others)?;
        if is_running {
            // While both are noted, the supervisor takes none of them for a port that it opened itself.
            let before = machine.ports.clone();
            let is_free = |old: &&Forward| !wanted.iter().any(|new| new.listener() == old.listener());
            machine.ports = wanted.iter().chain(before.iter().filter(is_free)).copied().collect();
            machine.save(files).map_err(io)?;
            let own = before.iter().map(live_of).collect::<BTreeSet<_>>();
            if let Err(error) = self.change_live(files, &live, &own, &wanted, &others).await {
                machine.ports = before;
                machine.save(files).map_err(io)?;
                return Err(error);
            }
        }
        machine.ports = wanted;
        machine.save(files).map_err(io)
    }

    async fn live(&self, files: &Files) -> Result<BTreeSet<LiveForward>, ProviderError> {
        let listed = live_forwards::list(files.folder(), self.settings.limits.answer).await;
        Ok(listed.map_err(not_changed)?.into_iter().collect())
    }

    /// The machine's forwards as they will be: those that it has for an entry stay.
    fn wanted(
        &self,
        record: &Record,
        machine: &MachineFile,
        live: &BTreeSet<LiveForward>,
        target: &RecordedStack,
        others: &[MachineFile],
    ) -> Result<Vec<Forward>, ProviderError> {
        let ports = target.port_forwards()?;
        let entry = |port: &PortForward| network::pairs(port, machine.address()).collect::<Vec<_>>();
        // Of a copy's entry, another port may have been picked.
        let had = record.resolved.as_deref().and_then(|stack| stack.port_forwards().ok()).unwrap_or_default();
        let mut kept = Vec::new();
        for (listener, guest) in ports.iter().filter(|port| had.contains(port)).flat_map(entry) {
            let same = |forward: &&Forward| {
                let shares = forward.address == Ipv4Addr::LOCALHOST || forward.address == listener.address;
                forward.guest == guest && forward.protocol == listener.protocol && shares
            };
            kept.extend(machine.ports.iter().filter(same).map(|forward| ((listener, guest), *forward)));
        }
        let wanted = Wanted { id: &machine.id, name: &machine.name, ports: &ports, may_move: false };
        let is_live = |listener| live.iter().any(|forward| forward.listener == listener);
        network::choose_forwards(&wanted, machine.address, others, &kept, &is_live)
    }

    /// Ends what isn't wanted and adds what is. If a port can't be added, all is as before.
    async fn change_live(
        &self,
        files: &Files,
        live: &BTreeSet<LiveForward>,
        own: &BTreeSet<LiveForward>,
        wanted: &[Forward],
        others: &[MachineFile],
    ) -> Result<(), ProviderError> {
        let (folder, limit) = (files.folder(), self.settings.limits.answer);
        let new: BTreeSet<_> = wanted.iter().filter(|forward| forward.is_active()).map(live_of).collect();
        let blocks =
            |old: &LiveForward| new.iter().any(|new| new.listener == old.listener && new.guest != old.guest);
        let ended: Vec<_> =
            live.iter().filter(|old| (own.contains(old) && !new.contains(old)) || blocks(old)).collect();
        for forward in &ended {
            live_forwards::remove(folder, forward.listener, limit).await.map_err(not_changed)?;
        }
        let mut added = Vec::new();
        for forward in new.difference(live) {
            match live_forwards::add(folder, *forward, limit).await {
                Ok(()) => added.push(forward),
                Err(error) => {
                    for forward in added {
                        live_forwards::remove(folder, forward.listener, limit).await.map_err(not_changed)?;
                    }
                    for forward in ended {
                        live_forwards::add(folder, *forward, limit).await.map_err(not_changed)?;
                    }
                    return Err(match error {
                        LiveForwardError::CannotListen { listener, source } => {
                            port_taken(&listener, forward.guest, &source, others)
                        }
                        error => not_changed(error),
                    });
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn grow(
        &self,
        machine: &MachineFile,
        files: &Files,
        bytes: u64,
    ) -> Result<(), ProviderError> {
        let running = machine::running(files, machine);
        if running.map_err(|source| prepare_failed(files.folder(), source))?.is_none() {
            return Disk::new(self.qemu_img(), &files.disk()).grow(bytes);
        }
        let grown = qmp::grow_disk(files.folder(), bytes, self.settings.limits.answer).await;
        grown.map_err(|error| {
            ProviderError::caused(
                "QEMU can't grow the disk",
                "stop the VM, then run the same command again",
                error,
            )
        })
    }
}

fn live_of(forward: &Forward) -> LiveForward {
    LiveForward { listener: forward.listener(), guest: forward.guest }
}

fn not_changed(error: LiveForwardError) -> ProviderError {
    ProviderError::caused("the forwarded ports can't be changed", "try again, or restart the VM", error)
}
