//! Ports that are forwarded while the guest listens on them (`vm.auto_ports`): the supervisor of each QEMU follows the
//! guest, and other processes read what became of it.

mod decision;
mod follower;
mod listening;
mod report;

use std::time::Duration;

use goloo_model::automatic_ports::AutomaticPorts;
use goloo_model::record::ForwardedPort;

use crate::args::Files;
use crate::live_forwards;
use crate::machine::MachineFile;

pub(crate) use follower::follow;

/// Those of the running machine; `None` if it isn't wanted or QEMU doesn't tell.
pub(crate) async fn of_machine(files: &Files, limit: Duration) -> Option<AutomaticPorts> {
    let machine = MachineFile::load(files).ok().flatten().filter(|machine| machine.auto_ports)?;
    let live = live_forwards::list(files.folder(), limit).await.ok()?;
    let automatic = live.iter().filter(|forward| !machine.listeners().any(|own| own == forward.listener));
    let forwarded = automatic.map(|forward| ForwardedPort {
        address: forward.listener.address.into(),
        port: forward.listener.port,
        guest_port: forward.guest,
        protocol: forward.listener.protocol,
    });
    let report = report::read(files);
    Some(AutomaticPorts {
        forwarded: forwarded.collect(),
        is_followed: report.is_some(),
        refused: report.map(|report| report.refused()).unwrap_or_default(),
    })
}
