//! The provider's value: its settings and the command, and what its operations know of a record's instance.

use std::net::{IpAddr, Ipv4Addr};

use goloo_model::provider::{Endpoints, LiveState, Observation};
use goloo_model::record::{Endpoint, Record};

use crate::cli::Cli;
use crate::json::Instance;
use crate::settings::{Limits, Settings};

/// The resource kind under which an instance known to be this VM's is recorded; the id is its name in Multipass.
pub const RESOURCE: &str = "multipass-instance";

/// The resource kind which records that an instance is about to be requested. It is then still unknown who owns an
/// instance with this name.
pub const LAUNCH: &str = "multipass-launch";

/// The resource kind which records that a copy is about to be requested.
pub(crate) const CLONE: &str = "multipass-clone";

/// Whether an instance was, or was about to be, requested and the result was never recorded.
pub(crate) fn is_in_doubt(record: &Record) -> bool {
    let begun = record.resource(LAUNCH).or_else(|| record.resource(CLONE));
    begun.is_some() && record.resource(RESOURCE).is_none()
}

/// Multipass on this machine. Its futures need a tokio runtime with I/O and time enabled.
#[derive(Debug)]
pub struct MultipassProvider {
    settings: Settings,
    cli: Cli,
}

impl MultipassProvider {
    /// A provider; nothing is checked yet.
    pub fn new(settings: Settings) -> Self {
        Self { cli: Cli { program: settings.program.clone() }, settings }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    pub(crate) fn cli(&self) -> &Cli {
        &self.cli
    }

    /// The address of a running machine.
    pub(crate) fn made(&self, ip: Ipv4Addr) -> Endpoints {
        Endpoint::new(IpAddr::from(ip).into(), self.settings.ssh_port).into()
    }
}

/// The machine's name in Multipass: an adopted VM may have a different name in goloo.
pub(crate) fn instance_name(record: &Record) -> &str {
    let noted = record.resource(RESOURCE).or_else(|| record.resource(LAUNCH));
    noted.unwrap_or(record.machine_name().as_str())
}

/// What Multipass knows about a record's machine without contacting its guest.
pub(crate) fn observation(record: &Record, instances: &[Instance]) -> Observation {
    let name = instance_name(record);
    let Some(instance) = instances.iter().find(|instance| instance.name == name) else {
        // While its image is downloaded, no list shows the instance.
        let reason = "it was requested but isn't listed: Multipass may still be preparing it".to_owned();
        return match is_in_doubt(record) {
            true => Observation::unknown(reason),
            false => Observation::of(LiveState::Missing),
        };
    };
    let (state, reason) = instance.state.live(name);
    Observation { reason, ..Observation::of(state) }
}
