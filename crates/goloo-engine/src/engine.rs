//! The tools of an operation, and what every operation checks.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use goloo_model::events::{Event, Events};
use goloo_model::guest::Guest;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::host_names::HostNames;
use goloo_model::name::{OperationId, VmName};
use goloo_model::provider::{LiveState, Provider};
use goloo_model::record::{
    ApplyInputs, LocalContext, MAX_RECORD_BYTES, Operation, OperationKind, Owner, Phase, Record, SERIAL_MAX,
    Step, to_json,
};
use goloo_model::store::{Loaded, Store, StoreError, VmLock};

use crate::error::EngineError;
use crate::interrupt::Interrupt;

/// Saves a record that can't be written to the store.
pub trait EmergencyDump: Send + Sync {
    /// Writes the record's JSON to durable storage and returns the path.
    fn keep(&self, name: &VmName, json: &[u8]) -> io::Result<PathBuf>;
}

/// Everything that an operation needs.
#[derive(Clone, Copy)]
pub struct Engine<'a> {
    /// The store of the records.
    pub store: &'a dyn Store,
    /// The provider of the machines.
    pub provider: &'a dyn Provider,
    /// Access to machines over SSH.
    pub guest: &'a dyn Guest,
    /// The names of local VMs on this host.
    pub host_names: &'a dyn HostNames,
    /// The sink for progress events.
    pub events: &'a dyn Events,
    /// Tells whether the user asked to stop.
    pub interrupt: &'a Interrupt,
    /// Preserves records that the store doesn't accept.
    pub rescue: &'a dyn EmergencyDump,
    /// This process.
    pub owner: &'a Owner,
    /// This host and state folder.
    pub here: &'a LocalContext,
    /// The limit for SSH and cloud-init together; for a power operation or a resume, the limit for all of it.
    /// For a stop: how long the guest may take; zero leaves that to the provider.
    pub limit: Duration,
    /// Whether the machine's provisioning log is followed.
    pub follow_log: bool,
}

impl<'a> Engine<'a> {
    /// Refuses a record that differs from the one that the user confirmed.
    pub(crate) fn expect_agreed(&self, record: &Record, agreed: Option<&Record>) -> Result<(), EngineError> {
        if agreed.is_some_and(|agreed| !record.is_same_vm(&self.as_taken(agreed))) {
            return Err(changed_meanwhile(&record.name));
        }
        Ok(())
    }

    /// A record that was shown to the user, with the changes that [`Engine::take`] makes, so that it can be compared.
    pub(crate) fn as_taken(&self, shown: &Record) -> Record {
        let mut record = shown.clone();
        record.belongs_to(self.here);
        record
    }

    /// Another VM's record if it is readable: a broken one must not block commands about others.
    pub(crate) async fn load_unless_broken(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
        match self.store.load(name).await {
            Err(StoreError::Broken(broken)) => {
                self.events.event(Event::Warning(format!(
                    "{} is broken and skipped: {}",
                    broken.path, broken.error
                )));
                Ok(None)
            }
            loaded => loaded,
        }
    }

    /// Refuses a record whose provider was changed since the provider was chosen, and one that can't be saved
    /// again.
    pub(crate) fn expect_operable(&self, record: &Record) -> Result<(), EngineError> {
        let name = &record.name;
        if record.provider != self.provider.id() {
            return Err(changed_meanwhile(name));
        }
        refuse_full(record)
    }

    /// The deadline of an operation that begins now.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.limit
    }

    /// The state of a VM's machine, from its provider.
    pub(crate) async fn state_of(&self, record: &Record) -> LiveState {
        self.provider.observe(&[record]).await.first().map_or(LiveState::Unknown, |seen| seen.state)
    }

    pub(crate) fn operation(&self, kind: OperationKind) -> Operation {
        let id = OperationId::generate();
        Operation {
            token: id.clone(),
            id,
            kind,
            step: Step::Intent,
            owner: self.owner.clone(),
            lease_end: None,
            inputs: None,
            force: false,
            source: None,
            dns: None,
            apply: None,
            rename: None,
            replacement: None,
            import: None,
            proof: None,
            extra: serde_json::Map::new(),
        }
    }
}

/// The room for what a save may add to a record, in bytes: an operation with its inputs, and its result.
const SAVE_ROOM: usize = 128 << 10;

/// Refuses a record that couldn't be saved again, before the operation rather than at its end.
pub(crate) fn refuse_full(record: &Record) -> Result<(), EngineError> {
    let name = &record.name;
    let (why, hint) = if record.serial >= SERIAL_MAX {
        let why = format!("has been saved {} times", record.serial);
        (why, Hint::from("nobody saves a record that often: correct its serial in the store manually"))
    } else if to_json(record).len() > MAX_RECORD_BYTES - SAVE_ROOM {
        let why = format!("is nearly {} KiB in size", MAX_RECORD_BYTES >> 10);
        (why, Hint::from("replace it by an older copy: ").step(NextStep::StatePushOlder))
    } else {
        return Ok(());
    };
    Err(EngineError::Refused {
        what: format!("the record of \"{name}\" {why}, and can't be saved again"),
        hint,
    })
}

/// The error if the record was changed after the user was asked.
pub(crate) fn changed_meanwhile(name: &VmName) -> EngineError {
    EngineError::Refused {
        what: format!("the record of \"{name}\" was changed in the meantime"),
        hint: Hint::from("run ").step(NextStep::Status(name.clone())).text(", then run the command again"),
    }
}

pub(crate) async fn record_under(lock: &mut dyn VmLock) -> Result<Option<Record>, StoreError> {
    Ok(lock.load().await?.map(|loaded| loaded.record))
}

/// Refuses a VM of another host or state folder: its machine can't be queried from here, and this host may have another
/// machine of that name.
///
/// # Errors
/// [`EngineError::Elsewhere`], with the host or folder.
pub fn refuse_elsewhere(record: &Record, here: &LocalContext) -> Result<(), EngineError> {
    match record.elsewhere(here) {
        Some(place) => Err(EngineError::Elsewhere { name: record.name.clone(), place }),
        None => Ok(()),
    }
}

/// What an apply that was interrupted was to change.
pub(crate) fn unfinished_apply(record: &Record) -> Option<&ApplyInputs> {
    let operation = record.operation.as_ref().filter(|operation| operation.kind == OperationKind::Apply);
    operation.and_then(|operation| operation.apply.as_deref())
}

/// Refuses a VM whose record may be stored under two names: what changes one of them could be lost.
pub(crate) fn refuse_half_renamed(record: &Record) -> Result<(), EngineError> {
    match &record.operation {
        Some(operation) if operation.kind.renames() => {
            Err(EngineError::Unfinished { name: record.name.clone(), kind: operation.kind })
        }
        _ => Ok(()),
    }
}

/// Refuses a VM with an interrupted create, clone, delete, rename or move of names: this must be finished, or the VM
/// deleted, before anything else.
pub(crate) fn refuse_unfinished(record: &Record) -> Result<(), EngineError> {
    refuse_half_renamed(record)?;
    match &record.operation {
        Some(operation) if operation.kind.makes_or_ends() || operation.kind.moves_names() => {
            Err(EngineError::Unfinished { name: record.name.clone(), kind: operation.kind })
        }
        _ if matches!(record.phase, Phase::Creating) => {
            Err(EngineError::Unfinished { name: record.name.clone(), kind: OperationKind::Create })
        }
        _ => Ok(()),
    }
}
