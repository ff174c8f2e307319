//! What is known of one VM.

use std::path::PathBuf;
use std::time::Duration;

use goloo_model::automatic_ports::AutomaticPorts;
use goloo_model::name::VmName;
use goloo_model::provider::{LiveState, Observation};
use goloo_model::record::Record;
use goloo_model::store::HeldLock;
use goloo_model::usage::MachineUsage;

use crate::drift::Drift;
use crate::error::{Error, RequestError};
use crate::migrate::{self, ImportFailure, Skipped, Unimported};
use crate::observe;
use crate::session::Session;

/// How long a provider may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// A VM, its machine's state, and whether its stack was changed.
pub struct VmStatus {
    /// The record; of a VM of goloo v0 that isn't imported, the one that an import would create.
    pub record: Record,
    /// Whether that record is stored.
    pub is_imported: bool,
    /// The machine's state.
    pub live: Observation,
    /// What the machine uses of this computer, if it is on it.
    pub usage: MachineUsage,
    /// Its automatic ports, if it is running and has any.
    pub automatic_ports: Option<AutomaticPorts>,
    /// How its stack differs from the files that it was created from.
    pub drift: Drift,
}

/// The answer to [`Session::status`].
#[derive(Default)]
pub struct StatusReport {
    /// The VM; `None` when there is none of this name.
    pub vm: Option<VmStatus>,
    /// Why VMs of goloo v0 can't be imported, when the VM has no record: one of them may be it.
    pub failures: Vec<ImportFailure>,
    /// Why the VM of goloo v0 with this name needs no record.
    pub skipped: Vec<Skipped>,
}

/// The stack of a VM compared with the files that the VM was created from.
#[derive(Debug)]
pub struct StackDiff {
    /// The stack's folder.
    pub folder: PathBuf,
    /// [`Drift::None`] or [`Drift::Changed`].
    pub drift: Drift,
}

/// What a provider answers about a machine.
struct Answer {
    live: Observation,
    usage: MachineUsage,
    automatic_ports: Option<AutomaticPorts>,
}

impl From<Observation> for Answer {
    fn from(live: Observation) -> Self {
        Self { live, usage: MachineUsage::default(), automatic_ports: None }
    }
}

impl Session {
    /// What is known of a VM. Nothing is written: one of goloo v0 is shown as it would be imported.
    ///
    /// # Errors
    /// Errors of the store, and of the provider's settings.
    pub fn status(&self, name: &VmName) -> Result<StatusReport, Error> {
        if let Some(record) = self.recorded(name)? {
            return Ok(StatusReport { vm: Some(self.status_of(record, true)?), ..StatusReport::default() });
        }
        let Unimported { records, failures, skipped } = migrate::to_show(self, Some(name));
        let record = records.into_iter().next();
        let vm = record.map(|record| self.status_of(record, false)).transpose()?;
        Ok(StatusReport { vm, failures, skipped })
    }

    fn status_of(&self, record: Record, is_imported: bool) -> Result<VmStatus, Error> {
        let Answer { live, usage, automatic_ports } = match record.elsewhere(&self.here()) {
            Some(place) => observe::at(&place).into(),
            None => self.live_of(&record)?,
        };
        let drift = match (&record.source_config_path, self.trusted_source(&record)) {
            _ if !is_imported => Drift::None,
            (Some(_), None) => Drift::Unknown,
            (_, folder) => Drift::between(
                &self.local(self.store.snapshot(&record.name))?,
                record.applied_config.as_ref(),
                folder,
            ),
        };
        Ok(VmStatus { record, is_imported, live, usage, automatic_ports, drift })
    }

    /// The state of a machine that belongs here, and what it uses; unknown where this program has no provider for it, or
    /// the provider doesn't answer in time.
    fn live_of(&self, record: &Record) -> Result<Answer, Error> {
        let asked = self.wait_for(async { tokio::time::timeout(LIMIT, self.ask_about(record)).await })?;
        let unknown = |reason: String| Observation::unknown(reason).into();
        match asked {
            Err(_) => {
                let id = record.provider;
                let title = self.providers.info(id).map_or(id.as_str(), |info| info.title);
                Ok(unknown(format!("{title} doesn't answer within {} s", LIMIT.as_secs())))
            }
            Ok(Err(error @ Error::NoProvider { .. })) => Ok(unknown(error.to_string())),
            Ok(answer) => answer,
        }
    }

    async fn ask_about(&self, record: &Record) -> Result<Answer, Error> {
        let provider = self.open_provider(record.provider).await?;
        let live = provider.observe(&[record]).await.pop();
        let usage = match provider.usage() {
            Some(usage) => usage.machines(&[record]).await.pop(),
            None => None,
        };
        let live = live.unwrap_or_else(|| Observation::unknown("the provider did not answer"));
        let automatic_ports = match live.state {
            LiveState::Running => provider.automatic_ports(record).await,
            _ => None,
        };
        Ok(Answer { live, usage: usage.unwrap_or_default(), automatic_ports })
    }

    /// The lock of the process that works on a VM.
    ///
    /// # Errors
    /// As the store's.
    pub fn lock_of(&self, name: &VmName) -> Result<Option<HeldLock>, Error> {
        Ok(self.local(self.store.locks())?.into_iter().find(|held| held.name == *name))
    }

    /// Compares a VM's stack with the files that the VM was created from. The stack is in `folder`, else in the folder
    /// that the record names, if that may be read.
    ///
    /// # Errors
    /// Errors of the store; [`RequestError`] if the stack or the saved files are unavailable.
    pub fn diff(&self, name: &VmName, folder: Option<PathBuf>) -> Result<StackDiff, Error> {
        let record = self.record(name)?;
        let snapshot = self.local(self.store.snapshot(name))?;
        if snapshot.files.is_empty() {
            return Err(RequestError::NoRecordedFiles { name: name.clone() }.into());
        }
        let folder = match folder {
            Some(folder) => Some(folder),
            None => self.known_folder(&record)?,
        };
        match (Drift::between(&snapshot, record.applied_config.as_ref(), folder.as_deref()), folder) {
            (Drift::Gone, _) | (_, None) => Err(RequestError::StackMissing { name: name.clone() }.into()),
            (drift, Some(folder)) => Ok(StackDiff { folder, drift }),
        }
    }

    /// The recorded folder. A path that somebody else may have written is named in the error and not read.
    pub(super) fn known_folder(&self, record: &Record) -> Result<Option<PathBuf>, RequestError> {
        match (record.source_config_path.as_deref(), self.trusted_source(record)) {
            (Some(folder), None) => {
                Err(RequestError::UntrustedStack { name: record.name.clone(), folder: folder.to_owned() })
            }
            (_, known) => Ok(known.map(ToOwned::to_owned)),
        }
    }
}
