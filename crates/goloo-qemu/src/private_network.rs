//! Machines in the private network of their environment: their network cards, and the switch that these send to.
//!
//! QEMU sends datagrams to a path, so it doesn't notice when another switch takes over. A machine is running before its
//! switch is looked for: a switch ends only if it finds no machine while goloo looks for none.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use goloo_model::hint::NextStep;
use goloo_model::name::VmId;
use goloo_model::provider::{Networks, ProviderError, Work};
use goloo_model::record::Record;
use goloo_switch::{NetworkFolder, member_socket, switch_end};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::args::{Files, PRIVATE_NETWORK, PRIVATE_NIC, PRIVATE_PORT};
use crate::context::QemuProvider;
use crate::error::{missing, prepare_failed};
use crate::launch;
use crate::lock;
use crate::machine::{self, MachineFile};
use crate::private_nic::PrivateNic;
use crate::qmp::{self, QmpError};

/// A switch is ready in milliseconds.
const START_LIMIT: Duration = Duration::from_secs(20);
const START_POLL: Duration = Duration::from_millis(5);

#[async_trait]
impl Networks for QemuProvider {
    fn takes_addresses(&self) -> bool {
        true
    }

    fn address(&self, record: &Record) -> Option<IpAddr> {
        let network = record.membership.as_ref()?.network?;
        Some(IpAddr::V4(network.address()))
    }

    async fn connect(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        let Some(nic) = record.membership.as_ref().and_then(PrivateNic::of) else { return Ok(()) };
        let files = self.files(record);
        self.describe_nic(&nic, record, &files, work).await?;
        let machine = MachineFile::load(&files).map_err(|source| prepare_failed(files.folder(), source))?;
        let machine = machine.ok_or_else(|| missing(record, &files))?;
        let running =
            machine::running(&files, &machine).map_err(|source| prepare_failed(files.folder(), source))?;
        if running.is_none() {
            return Ok(());
        }
        self.create_network_folder(&nic)?;
        self.plug(&nic, record, &files).await?;
        self.ensure_switch(&nic, work).await
    }
}

impl QemuProvider {
    /// The folder of all networks, from the same folder that QEMU's paths lead through.
    fn networks_folder(&self) -> PathBuf {
        machine::true_path(&self.settings.vms).with_file_name("net")
    }

    /// Held while a switch is looked for and started. A switch that ends takes it too.
    fn networks_lock(&self) -> PathBuf {
        self.networks_folder().with_extension("lock")
    }

    pub(crate) fn create_network_folder(&self, nic: &PrivateNic) -> Result<(), ProviderError> {
        let folder = nic.folder(&self.networks_folder());
        folder.create().map_err(|source| prepare_failed(folder.path(), source))
    }

    /// Refuses an address that another machine of this computer has: its frames would go to the wrong one. The ports
    /// lock is held.
    pub(crate) fn expect_free_address(&self, nic: &PrivateNic, id: &VmId) -> Result<(), ProviderError> {
        let vms = &self.settings.vms;
        let others = machine::others(vms, id).map_err(|source| prepare_failed(vms, source))?;
        let Some(holder) = others.iter().find(|other| other.private_nic.as_ref() == Some(nic)) else {
            return Ok(());
        };
        let (address, environment) = (nic.address.address(), &nic.environment);
        Err(ProviderError::failed(
            format!("{address} in the network of {environment} belongs to \"{}\"", holder.name),
            "give one of the two machines another address",
        ))
    }

    /// Notes the network card for this start and later ones.
    async fn describe_nic(
        &self,
        nic: &PrivateNic,
        record: &Record,
        files: &Files,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let io = |source| prepare_failed(files.folder(), source);
        let _lock = lock::take(&self.settings.ports_lock(), self.settings.limits.lock, work).await?;
        let mut machine = MachineFile::load(files).map_err(io)?.ok_or_else(|| missing(record, files))?;
        if machine.private_nic.as_ref() == Some(nic) {
            return Ok(());
        }
        self.expect_free_address(nic, &record.id)?;
        machine.private_nic = Some(nic.clone());
        machine.save(files).map_err(io)
    }

    /// Gives a running machine its network card, unless it has it. The netdev of an attempt that died has no card, and
    /// is made again.
    async fn plug(&self, nic: &PrivateNic, record: &Record, files: &Files) -> Result<(), ProviderError> {
        let (folder, limit) = (files.folder(), self.settings.limits.answer);
        let failed = |error: QmpError| not_connected(record, error);
        let devices = qmp::devices(folder, limit).await.map_err(failed)?;
        if devices.contains(PRIVATE_NIC) {
            return self.expect_plugged(nic, record);
        }
        if !devices.contains(PRIVATE_PORT) {
            return Err(needs_restart(record, "it was started by an earlier version of goloo"));
        }
        let _ = qmp::ask_with(folder, "netdev_del", json!({ "id": PRIVATE_NETWORK }), limit).await;
        qmp::ask_with(folder, "netdev_add", netdev(nic), limit).await.map_err(failed)?;
        qmp::ask_with(folder, "device_add", device(nic), limit).await.map_err(failed)?;
        Ok(())
    }

    /// A card that is plugged in stays what it is until the machine is started again.
    fn expect_plugged(&self, nic: &PrivateNic, record: &Record) -> Result<(), ProviderError> {
        if nic.folder(&self.networks_folder()).has_member(nic.address) {
            return Ok(());
        }
        Err(needs_restart(record, "it has another address there"))
    }

    /// Tells the network's switch about the machine, or starts one.
    async fn ensure_switch(&self, nic: &PrivateNic, work: &mut dyn Work) -> Result<(), ProviderError> {
        let folder = nic.folder(&self.networks_folder());
        let _lock = lock::take(&self.networks_lock(), self.settings.limits.lock, work).await?;
        if folder.tell_switch().is_ok() {
            return Ok(());
        }
        let program = self.supervisor()?;
        self.start_switch(&program, &folder).await.map_err(|source| {
            ProviderError::caused(
                format!("the switch of {}'s network can't be started", nic.environment),
                NextStep::Doctor.text(" checks this computer"),
                source,
            )
        })
    }

    /// Returns when the switch takes frames.
    async fn start_switch(&self, program: &Path, folder: &NetworkFolder) -> io::Result<()> {
        launch::keep_descriptors();
        let mut switch = Command::new(program)
            .args(goloo_switch::arguments(folder))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let begun = Instant::now();
        while !folder.has_switch() {
            if let Some(status) = switch.try_wait()? {
                return Err(io::Error::other(format!("it ended with {status}")));
            }
            if begun.elapsed() > START_LIMIT {
                return Err(io::ErrorKind::TimedOut.into());
            }
            tokio::time::sleep(START_POLL).await;
        }
        Ok(())
    }

    /// Removes what a deleted machine had in the network, and the network with the last one.
    pub(crate) async fn leave_network(
        &self,
        nic: &PrivateNic,
        record: &Record,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let networks = self.networks_folder();
        let folder = nic.folder(&networks);
        let failed = |source| prepare_failed(folder.path(), source);
        // Under it new machines are noted, before they need the folder.
        let _lock = lock::take(&self.settings.ports_lock(), self.settings.limits.lock, work).await?;
        let others = machine::others(&self.settings.vms, &record.id).map_err(failed)?;
        let is_member = |other: &MachineFile| {
            other.private_nic.as_ref().is_some_and(|other| other.folder(&networks) == folder)
        };
        if others.iter().any(is_member) {
            // The address may be another machine's by now.
            let is_ours = !others.iter().any(|other| other.private_nic.as_ref() == Some(nic));
            return if is_ours { folder.remove_member(nic.address).map_err(failed) } else { Ok(()) };
        }
        folder.remove().map_err(failed)
    }

    /// The environments whose machines run without a switch.
    pub(crate) fn networks_without_switch(&self) -> io::Result<Vec<(PrivateNic, String)>> {
        let networks = self.networks_folder();
        let mut broken: Vec<(PrivateNic, String)> = Vec::new();
        for machine in machine::all(&self.settings.vms)? {
            let Some(nic) = machine.private_nic else { continue };
            let folder = nic.folder(&networks);
            let is_known = broken.iter().any(|(other, _)| other.folder(&networks) == folder);
            if !is_known && folder.has_member(nic.address) && !folder.has_switch() {
                broken.push((nic, machine.name));
            }
        }
        Ok(broken)
    }
}

fn netdev(nic: &PrivateNic) -> Value {
    let socket = |name: &str| json!({ "type": "unix", "path": nic.socket(name) });
    json!({
        "type": "dgram",
        "id": PRIVATE_NETWORK,
        "local": socket(&member_socket(nic.address)),
        "remote": socket(&switch_end(nic.address)),
    })
}

fn device(nic: &PrivateNic) -> Value {
    json!({
        "driver": "virtio-net-pci",
        "id": PRIVATE_NIC,
        "netdev": PRIVATE_NETWORK,
        "bus": PRIVATE_PORT,
        "mac": nic.address.mac().to_string(),
        "romfile": "",
    })
}

fn not_connected(record: &Record, error: QmpError) -> ProviderError {
    ProviderError::caused(
        format!("\"{}\" can't be connected to the private network of its environment", record.name),
        "check that QEMU is version 7.2 or later",
        error,
    )
}

fn needs_restart(record: &Record, why: &str) -> ProviderError {
    let name = &record.name;
    ProviderError::failed(
        format!("\"{name}\" isn't connected to the private network of its environment: {why}"),
        NextStep::stop(name).text(", then ").step(NextStep::Start(name.clone())).text(" connects it"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::name::VmName;

    use super::*;

    /// As in the unit test of the arguments.
    #[test]
    fn a_card_that_is_plugged_in_is_the_one_that_the_next_start_has() {
        let nic = PrivateNic {
            environment: VmName::parse("shop").unwrap(),
            address: "10.88.3.5/24".to_owned().try_into().unwrap(),
        };
        let expected = json!({
            "type": "dgram",
            "id": "private",
            "local": {"type": "unix", "path": "../../net/shop-10.88.3.0/10.88.3.5"},
            "remote": {"type": "unix", "path": "../../net/shop-10.88.3.0/10.88.3.5.sw"},
        });
        assert_eq!(netdev(&nic), expected);
        let expected = json!({
            "driver": "virtio-net-pci",
            "id": "private-nic",
            "netdev": "private",
            "bus": "private-port",
            "mac": "02:67:6c:58:03:05",
            "romfile": "",
        });
        assert_eq!(device(&nic), expected);
    }
}
