//! The provider: each trait method in a few lines, or delegated to the module of the same name.

use std::ffi::OsString;
use std::time::Duration;

use async_trait::async_trait;
use goloo_model::hint::NextStep;
use goloo_model::name::VmName;
use goloo_model::provider::{
    Adopted, Capabilities, Changes, Clones, ConsolePiece, Endpoints, GuestRequest, Machine, Observation,
    Orphan, Provider, ProviderError, ProviderPlan, ResourceUsage, Snapshots, StopMode, Work,
};
use goloo_model::provider_info::ProviderInfo;
use goloo_model::record::Record;

use crate::context::{MultipassProvider, instance_name, observation};
use crate::errors::CallError;
use crate::info::INFO;
use crate::vm_instance::VmInstance;
use crate::{orphan, plan};

#[async_trait]
impl Provider for MultipassProvider {
    fn info(&self) -> &'static ProviderInfo {
        &INFO
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { console: false, suspend: true }
    }

    fn plan(&self, machine: &Machine) -> Result<ProviderPlan, ProviderError> {
        plan::plan(machine)
    }

    async fn create(&self, machine: &Machine, work: &mut dyn Work) -> Result<Endpoints, ProviderError> {
        self.make(machine, work).await
    }

    async fn delete(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        self.remove(record, work).await
    }

    async fn start(&self, record: &Record, work: &mut dyn Work) -> Result<Endpoints, ProviderError> {
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
            Err(error) => vec![unanswered(&error); records.len()],
        }
    }

    /// Contacts no guest: one that doesn't answer would take longer than a list can wait.
    async fn observe_soon(&self, records: &[&Record], _: Duration) -> Vec<Observation> {
        match self.instances().await {
            Ok(instances) => records.iter().map(|record| observation(record, &instances)).collect(),
            Err(error) => vec![unanswered(&error); records.len()],
        }
    }

    async fn console(&self, record: &Record, _: u64) -> Result<ConsolePiece, ProviderError> {
        Err(ProviderError::Unsupported {
            what: "Multipass doesn't provide console output".to_owned(),
            hint: NextStep::Logs(record.name.clone()).text(" shows cloud-init's log"),
        })
    }

    async fn orphans(&self, known: &[&Record]) -> Result<Vec<Orphan>, ProviderError> {
        orphan::find(self, known).await
    }

    async fn adopt(&self, name: &VmName, id: Option<&str>) -> Result<Adopted, ProviderError> {
        orphan::adopt(self, id.unwrap_or(name.as_str())).await
    }

    fn native_session_command(&self, record: &Record, errand: GuestRequest<'_>) -> Option<Vec<OsString>> {
        if !self.settings().trust.is_trusted(record) {
            return None;
        }
        let name = instance_name(record);
        let there = |path: &str| format!("{name}:{path}");
        let recursive = |wanted: bool| wanted.then(|| "-r".to_owned());
        let mut words: Vec<String> = Vec::new();
        match errand {
            GuestRequest::Shell => words.extend(["shell".to_owned(), name.to_owned()]),
            GuestRequest::Run(command) => {
                words.extend(["exec", "-n", name, "--"].map(str::to_owned));
                words.extend_from_slice(command);
            }
            GuestRequest::Upload { from, to, recursive: all } => {
                words.push("transfer".to_owned());
                words.extend(recursive(all));
                words.extend([here(from), there(to)]);
            }
            GuestRequest::Download { from, to, recursive: all } => {
                words.push("transfer".to_owned());
                words.extend(recursive(all));
                words.extend([there(from), here(to)]);
            }
        }
        Some(
            std::iter::once(self.settings().program.clone())
                .chain(words.into_iter().map(Into::into))
                .collect(),
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

    fn changes(&self) -> Option<&dyn Changes> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn ResourceUsage> {
        Some(self)
    }
}

fn unanswered(error: &CallError) -> Observation {
    Observation { hint: error.hint(), ..Observation::unknown(error.in_full()) }
}

/// goloo's part is the document's first boot command, which cloud-init keeps unchanged. It is read with cloud-init's
/// own Python and YAML library.
const RUN_FIRST_BOOT_COMMAND: &str = "import subprocess, yaml; subprocess.run(yaml.safe_load(\
    open('/var/lib/cloud/instance/user-data.txt'))['bootcmd'][0], check=True)";

/// `transfer` takes the text before a colon for an instance, and `-` for standard input or output.
fn here(path: &str) -> String {
    let plain = path != "-" && (!path.contains(':') || path.starts_with(['/', '.']));
    if plain { path.to_owned() } else { format!("./{path}") }
}
