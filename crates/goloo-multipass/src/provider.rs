//! The provider: each method of the trait, in a few lines or by the module that is called like it.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};

use async_trait::async_trait;
use goloo_core::name::VmName;
use goloo_core::provider::{
    Adopted, Capabilities, Clones, ConsolePiece, Errand, LiveState, Machine, Made, Observation, Provider,
    ProviderError, ProviderPlan, Snapshots, StopMode, Stray, Work,
};
use goloo_core::record::{Extra, Local, ProviderKind, Record};

use crate::cli::Cli;
use crate::json::Instance;
use crate::power::VmInstance;
use crate::settings::{Limits, Settings};
use crate::{plan, stray};

/// The kind under which an instance is noted that is known to be this VM's; the id is its name there.
pub const RESOURCE: &str = "multipass-instance";

/// The kind under which it is noted that an instance is about to be asked for. Whose an instance of this
/// name is, is then still to be told.
pub const LAUNCH: &str = "multipass-launch";

/// The kind under which it is noted that a copy is about to be asked for.
pub(crate) const CLONE: &str = "multipass-clone";

/// Whether an instance was asked for, or was about to be, and what came of it was never noted.
pub(crate) fn is_in_doubt(record: &Record) -> bool {
    let begun = record.resource(LAUNCH).or_else(|| record.resource(CLONE));
    begun.is_some() && record.resource(RESOURCE).is_none()
}

/// Multipass on this machine. Its futures need a tokio runtime with I/O and time.
#[derive(Debug)]
pub struct MultipassProvider {
    settings: Settings,
    cli: Cli,
}

impl MultipassProvider {
    /// A provider; nothing is looked at yet.
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

    /// Where a machine that is up is reached.
    pub(crate) fn made(&self, ip: Ipv4Addr) -> Made {
        Made::Local(Local {
            ip: IpAddr::from(ip).into(),
            ssh_port: self.settings.ssh_port,
            extra: Extra::new(),
        })
    }
}

/// What the machine is called at Multipass: an adopted VM may have another name here.
pub(crate) fn instance_name(record: &Record) -> &str {
    let noted = record.resource(RESOURCE).or_else(|| record.resource(LAUNCH));
    noted.unwrap_or(record.name.as_str())
}

/// What Multipass knows of a record's machine without asking its guest.
pub(crate) fn observation(record: &Record, instances: &[Instance]) -> Observation {
    let name = instance_name(record);
    let Some(instance) = instances.iter().find(|instance| instance.name == name) else {
        // While the image is fetched, an instance is in no list.
        let reason = "it was asked for and isn't listed: Multipass may still be preparing it".to_owned();
        return match is_in_doubt(record) {
            true => Observation { state: LiveState::Unknown, ip: None, reason: Some(reason) },
            false => Observation { state: LiveState::Missing, ip: None, reason: None },
        };
    };
    let (state, reason) = instance.state.live(name);
    Observation { state, ip: None, reason }
}

#[async_trait]
impl Provider for MultipassProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Multipass
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { console: false, suspend: true }
    }

    fn plan(&self, machine: &Machine) -> Result<ProviderPlan, ProviderError> {
        plan::plan(machine)
    }

    async fn create(&self, machine: &Machine, work: &mut dyn Work) -> Result<Made, ProviderError> {
        self.make(machine, work).await
    }

    async fn delete(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        self.remove(record, work).await
    }

    async fn start(&self, record: &Record, work: &mut dyn Work) -> Result<Made, ProviderError> {
        self.expect_ours(record).await?;
        Ok(self.made(self.power_on(&VmInstance::of(record), work).await?))
    }

    async fn stop(&self, record: &Record, mode: StopMode, work: &mut dyn Work) -> Result<(), ProviderError> {
        self.expect_ours(record).await?;
        self.power_off(record, mode, work).await
    }

    async fn observe(&self, records: &[&Record]) -> Vec<Observation> {
        if records.is_empty() {
            return Vec::new();
        }
        match self.instances().await {
            Ok(instances) => self.observe_all(records, &instances).await,
            Err(error) => {
                let reason = Some(error.in_full());
                vec![Observation { state: LiveState::Unknown, ip: None, reason }; records.len()]
            }
        }
    }

    async fn console(&self, record: &Record, _: u64) -> Result<ConsolePiece, ProviderError> {
        Err(ProviderError::Unsupported {
            what: "Multipass shows no console".to_owned(),
            hint: format!("goloo logs {} shows cloud-init's log", record.name),
        })
    }

    async fn strays(&self, known: &[&Record]) -> Result<Vec<Stray>, ProviderError> {
        stray::find(self, known).await
    }

    async fn adopt(&self, name: &VmName, id: Option<&str>) -> Result<Adopted, ProviderError> {
        stray::adopt(self, id.unwrap_or(name.as_str())).await
    }

    fn own_way_in(&self, record: &Record, errand: Errand<'_>) -> Option<Vec<OsString>> {
        if !self.settings().trust.is_trusted(record) {
            return None;
        }
        let name = instance_name(record);
        let there = |path: &str| format!("{name}:{path}");
        let recursive = |wanted: bool| wanted.then(|| "-r".to_owned());
        let mut words: Vec<String> = Vec::new();
        match errand {
            Errand::Shell => words.extend(["shell".to_owned(), name.to_owned()]),
            Errand::Run(command) => {
                words.extend(["exec", "-n", name, "--"].map(str::to_owned));
                words.extend_from_slice(command);
            }
            Errand::Upload { from, to, recursive: all } => {
                words.push("transfer".to_owned());
                words.extend(recursive(all));
                words.extend([here(from), there(to)]);
            }
            Errand::Download { from, to, recursive: all } => {
                words.push("transfer".to_owned());
                words.extend(recursive(all));
                words.extend([there(from), here(to)]);
            }
        }
        Some(
            std::iter::once(self.settings.program.clone()).chain(words.into_iter().map(Into::into)).collect(),
        )
    }

    async fn restore_access(&self, record: &Record) -> Result<bool, ProviderError> {
        self.expect_ours(record).await?;
        let command =
            ["-n", instance_name(record), "--", "sudo", "-n", "python3", "-c", RUN_FIRST_BOOT_COMMAND];
        self.cli().call("exec", command, self.limits().copy).await?;
        Ok(true)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn clones(&self) -> Option<&dyn Clones> {
        Some(self)
    }
}

/// goloo's part is the first boot command of the document, which cloud-init keeps as it got it. cloud-init's own
/// Python and YAML read it.
const RUN_FIRST_BOOT_COMMAND: &str = "import subprocess, yaml; subprocess.run(yaml.safe_load(\
    open('/var/lib/cloud/instance/user-data.txt'))['bootcmd'][0], check=True)";

/// `transfer` takes what stands before a colon for an instance, and `-` for standard input or output.
fn here(path: &str) -> String {
    let plain = path != "-" && (!path.contains(':') || path.starts_with(['/', '.']));
    if plain { path.to_owned() } else { format!("./{path}") }
}
