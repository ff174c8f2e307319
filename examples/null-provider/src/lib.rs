//! The provider `null`: its machines are files in the state folder, which run and stop as the files say. It shows what a
//! provider outside of goloo's tree has to bring, and tests use it.
//!
//! A program adds it with one line: `goloo::providers().with(goloo_null::provider())`.

mod config;
mod machine;

use std::path::PathBuf;

use async_trait::async_trait;
use goloo_model::change::ChangeCosts;
use goloo_model::hint::NextStep;
use goloo_model::name::{VmId, VmName};
use goloo_model::provider::{
    Adopted, Capabilities, ConsolePiece, Endpoints, LiveState, Machine, Observation, Orphan, Provider,
    ProviderContext, ProviderError, ProviderFactory, ProviderPlan, StopMode, Work,
};
use goloo_model::provider_id::ProviderId;
use goloo_model::provider_info::{
    ImageKey, LocalChoice, MachinePlace, ProviderInfo, UserDataFeatures, UserDataForm,
};
use goloo_model::record::{DetailsError, Extra, Record, read_details};

use config::{Config, Details};
use machine::{MachineFile, Machines};

/// What the provider is.
pub const INFO: ProviderInfo = ProviderInfo {
    id: ProviderId::known("null"),
    title: "null",
    place: MachinePlace::Loopback,
    local_choice: LocalChoice::Named,
    user_data: UserDataFeatures {
        form: UserDataForm::Parts,
        limit: None,
        mounts_in_guest: false,
        adds_default_user: false,
    },
    image_key: ImageKey::Image,
    changes: ChangeCosts::NONE,
};

/// The kind under which a machine is recorded.
pub const RESOURCE: &str = "null-machine";

/// The provider, for a registry.
pub fn provider() -> impl ProviderFactory + 'static {
    Factory
}

struct Factory;

#[async_trait]
impl ProviderFactory for Factory {
    fn info(&self) -> &'static ProviderInfo {
        &INFO
    }

    fn check_details(&self, details: &Extra) -> Result<(), DetailsError> {
        read_details::<Details>(details).map(drop)
    }

    fn config_schema(&self) -> Option<serde_json::Value> {
        Some(schemars::schema_for!(Config).to_value())
    }

    async fn open(&self, context: &ProviderContext) -> Result<Box<dyn Provider>, ProviderError> {
        Ok(Box::new(NullProvider::new(context.state.join("null"))))
    }
}

/// The provider.
#[derive(Debug)]
pub struct NullProvider {
    machines: Machines,
}

impl NullProvider {
    /// With its machines in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { machines: Machines { folder } }
    }
}

fn observed(found: Result<Option<MachineFile>, ProviderError>) -> Observation {
    match found {
        Ok(found) => {
            let running = found.as_ref().filter(|file| file.is_running);
            let ip = running.and_then(|file| file.endpoints().endpoint.address).map(String::from);
            Observation { ip, ..Observation::of(state_of(found.as_ref())) }
        }
        Err(error) => Observation::unknown(error.to_string()),
    }
}

fn state_of(file: Option<&MachineFile>) -> LiveState {
    match file {
        Some(file) if file.is_running => LiveState::Running,
        Some(_) => LiveState::Stopped,
        None => LiveState::Missing,
    }
}

fn missing(name: &VmName) -> ProviderError {
    ProviderError::failed(format!("the machine of \"{name}\" no longer exists"), "create another one")
}

#[async_trait]
impl Provider for NullProvider {
    fn info(&self) -> &'static ProviderInfo {
        &INFO
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { console: false, suspend: false }
    }

    fn plan(&self, machine: &Machine) -> Result<ProviderPlan, ProviderError> {
        let config = Config::of(&machine.stack)?;
        let path = self.machines.path(&machine.id);
        let mut warnings = Vec::new();
        if config.note.is_none() {
            warnings.push("the machine has no note".to_owned());
        }
        Ok(ProviderPlan {
            steps: vec![format!("write {}", path.display())],
            warnings,
            detail: serde_json::json!({"path": path}),
        })
    }

    async fn create(&self, machine: &Machine, work: &mut dyn Work) -> Result<Endpoints, ProviderError> {
        let config = Config::of(&machine.stack)?;
        work.record_resource(RESOURCE, machine.id.as_str()).await?;
        if work.interrupted() {
            return Err(ProviderError::Interrupted);
        }
        let file = MachineFile { name: machine.machine_name.clone(), note: config.note, is_running: true };
        self.machines.write(&machine.id, &file)?;
        Ok(file.endpoints())
    }

    async fn delete(&self, record: &Record, _: &mut dyn Work) -> Result<(), ProviderError> {
        self.machines.remove(&record.id)
    }

    async fn start(&self, record: &Record, _: &mut dyn Work) -> Result<Endpoints, ProviderError> {
        let file = self.machines.read(&record.id)?.ok_or_else(|| missing(&record.name))?;
        let file = MachineFile { is_running: true, ..file };
        self.machines.write(&record.id, &file)?;
        Ok(file.endpoints())
    }

    async fn stop(&self, record: &Record, mode: StopMode, _: &mut dyn Work) -> Result<(), ProviderError> {
        if mode == StopMode::Suspend {
            return Err(ProviderError::Unsupported {
                what: "null can't suspend machines".to_owned(),
                hint: NextStep::stop(&record.name).into(),
            });
        }
        let file = self.machines.read(&record.id)?.ok_or_else(|| missing(&record.name))?;
        self.machines.write(&record.id, &MachineFile { is_running: false, ..file })
    }

    async fn observe(&self, records: &[&Record]) -> Vec<Observation> {
        records.iter().map(|record| observed(self.machines.read(&record.id))).collect()
    }

    async fn console(&self, _: &Record, offset: u64) -> Result<ConsolePiece, ProviderError> {
        Ok(ConsolePiece::of(b"", offset))
    }

    async fn orphans(&self, known: &[&Record]) -> Result<Vec<Orphan>, ProviderError> {
        let mut orphans = Vec::new();
        for (id, file) in self.machines.all()? {
            if !known.iter().any(|record| record.id == id) {
                let state = state_of(Some(&file));
                orphans.push(Orphan { name: file.name.to_string(), id: id.to_string(), state, ours: true });
            }
        }
        Ok(orphans)
    }

    async fn adopt(&self, name: &VmName, id: Option<&str>) -> Result<Adopted, ProviderError> {
        let is_it = |(found, file): &(VmId, MachineFile)| match id {
            Some(id) => found.as_str() == id,
            None => file.name == *name,
        };
        let found = self.machines.all()?.into_iter().find(is_it);
        let (id, file) = found.ok_or_else(|| missing(name))?;
        let resources = vec![(RESOURCE.to_owned(), id.to_string())];
        let endpoints = Some(file.endpoints());
        Ok(Adopted { id: Some(id), name: Some(file.name), resources, endpoints })
    }
}
