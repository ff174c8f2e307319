//! The one place that knows the order: **durable intent, provider call, durable result**.
//!
//! Every operation takes the VM's lock, writes down what it is about to do, calls the provider, and
//! writes down what came of it. So at any moment, whatever dies, the store holds a record that leads
//! to whatever was made. Commands don't save records, and neither do providers.

mod adopt;
mod clone;
mod create;
mod delete;
mod dns;
mod error;
mod forget;
mod hosts;
mod interrupt;
mod power;
mod protect;
mod provision;
mod register;
mod resume;
mod snapshot;
mod takeover;
mod verdict;
mod work;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::events::{Event, Events};
use crate::guest::Guest;
use crate::host_names::HostNames;
use crate::name::{OperationId, VmName};
use crate::provider::{Made, Provider};
use crate::record::{Here, Operation, OperationKind, Owner, Phase, Record, SERIAL_MAX, Step};
use crate::store::{Loaded, Store, StoreError, VmLock};

pub use adopt::{AdoptRequest, adopt_lock};
pub use create::{CreateRequest, Created, taken};
pub use dns::DnsReport;
pub use error::EngineError;
pub use forget::forget;
pub use interrupt::Interrupt;
pub use protect::protect;
pub use provision::AS_ROOT;
pub use register::{register, same_machine, was_migrated_as};
pub use resume::{Agreed, Rebuild, RebuildError, Resumed};
pub use verdict::{ERRORS_MAX, Report, Verdict, report_command};

use work::UnderWay;

/// Keeps a record that the store would not take.
pub trait Rescue: Send + Sync {
    /// Writes the record's JSON somewhere durable and says where.
    fn keep(&self, name: &VmName, json: &[u8]) -> io::Result<PathBuf>;
}

/// The tools of an operation.
#[derive(Clone, Copy)]
pub struct Engine<'a> {
    /// Where records live.
    pub store: &'a dyn Store,
    /// What makes the machine.
    pub provider: &'a dyn Provider,
    /// The way into the machine.
    pub guest: &'a dyn Guest,
    /// What this computer calls its VMs.
    pub host_names: &'a dyn HostNames,
    /// Where progress goes.
    pub events: &'a dyn Events,
    /// The user's wish to stop.
    pub interrupt: &'a Interrupt,
    /// Where a record goes that the store won't take.
    pub rescue: &'a dyn Rescue,
    /// This process.
    pub owner: &'a Owner,
    /// The host and the state folder that it works with.
    pub here: &'a Here,
    /// How long to wait for SSH and for cloud-init together, in a power operation or a resume for all of it.
    /// For a stop: how long the guest may take; zero leaves that to the provider.
    pub limit: Duration,
    /// Whether the machine's provisioning log is followed.
    pub follow_log: bool,
}

impl<'a> Engine<'a> {
    /// Takes the VM's lock and reads its record under it. What belongs elsewhere is left alone.
    async fn take(&self, name: &VmName) -> Result<UnderWay<'_, 'a>, EngineError> {
        let mut lock = self.store.lock(name, self.owner).await?;
        let record = record_under(&mut *lock).await?;
        let mut record = record.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
        refuse_elsewhere(&record, self.here)?;
        self.expect_operable(&record)?;
        let is_ours = self.here.created(&record);
        record.belongs_to(self.here);
        if let Some(former) = lock.taken_over() {
            self.reconcile(&record, former).await?;
            record.history.note_takeover(self.owner, former);
        }
        Ok(UnderWay::new(self, lock, record, is_ours))
    }

    /// Another VM's record, where it can be read: a broken one must not block commands about others.
    async fn load_unless_broken(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
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

    /// Refuses a record that was changed to another provider's since its provider was chosen, and one that no save can
    /// follow.
    fn expect_operable(&self, record: &Record) -> Result<(), EngineError> {
        let name = &record.name;
        if record.provider != self.provider.kind() {
            return Err(changed_meanwhile(name));
        }
        if record.serial >= SERIAL_MAX {
            return Err(EngineError::Refused {
                what: format!(
                    "the record of \"{name}\" counts {} saves, and can't be saved again",
                    record.serial
                ),
                hint: "restore it from a backup: goloo state restore FILE".to_owned(),
            });
        }
        Ok(())
    }

    /// When an operation that begins now is to be over.
    fn deadline(&self) -> Instant {
        Instant::now() + self.limit
    }

    fn operation(&self, kind: OperationKind) -> Operation {
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
            proof: None,
            extra: serde_json::Map::new(),
        }
    }
}

/// Somebody wrote the record between the question and the answer.
fn changed_meanwhile(name: &VmName) -> EngineError {
    EngineError::Refused {
        what: format!("the record of \"{name}\" was changed in the meantime"),
        hint: format!("goloo status {name}, then run the command again"),
    }
}

async fn record_under(lock: &mut dyn VmLock) -> Result<Option<Record>, StoreError> {
    Ok(lock.load().await?.map(|loaded| loaded.record))
}

/// A machine of another host or state folder can't be asked of from here, and this one may have one of its name.
///
/// # Errors
/// [`EngineError::Elsewhere`], with that place.
pub fn refuse_elsewhere(record: &Record, here: &Here) -> Result<(), EngineError> {
    match record.elsewhere(here) {
        Some(place) => Err(EngineError::Elsewhere { name: record.name.clone(), place }),
        None => Ok(()),
    }
}

/// A create, clone, delete or move of names that was interrupted must be finished, or the VM deleted, before
/// anything else.
fn refuse_unfinished(record: &Record) -> Result<(), EngineError> {
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

fn set_addresses(record: &mut Record, made: Made) {
    match made {
        Made::Local(local) => record.local = Some(local),
        Made::Aws(aws) => record.aws = Some(aws),
    }
}
