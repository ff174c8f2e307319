//! What the engine lends to a provider: the record that is kept one step ahead of the world.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Engine, EngineError, set_addresses};
use crate::events::Events;
use crate::name::OperationId;
use crate::provider::{Made, ProviderError, Work, resource};
use crate::record::{OperationKind, Record};
use crate::store::{StoreError, VmLock};

/// One VM under an operation: its lock, its record, and the engine's tools.
pub(super) struct UnderWay<'e, 'a> {
    pub engine: &'e Engine<'a>,
    pub lock: Box<dyn VmLock>,
    pub record: Record,
    /// Whether the VM was made with this state folder, and its record says so still.
    pub is_ours: bool,
    /// The operation under way, as last saved.
    pub operation: Option<OperationId>,
    pub limits: Limits,
}

/// What the user's limit means for the provider's calls.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// How long the guest may take to power off, where the user said so.
    pub power_down: Option<Duration>,
    /// When the whole operation is to be over.
    pub deadline: Option<Instant>,
}

/// Whether a provider that ended so has left something that the same operation is to go on with.
pub(super) fn leaves_work(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Interrupted | ProviderError::Unfinished { .. } | ProviderError::Record(_))
}

/// The id of the operation under way.
fn operation_id(record: &Record) -> Option<OperationId> {
    record.operation.as_ref().map(|operation| operation.id.clone())
}

/// How often a save is tried after the provider has done something that must not be forgotten.
const SAVE_ATTEMPTS: u32 = 3;

impl Engine<'_> {
    /// Readies a record for the write that comes next: until when the lock lasts, for those who look at the
    /// operation, and what shows that it was begun here, or that the VM was made here.
    pub(super) fn ready(&self, record: &mut Record, is_ours: bool, lock: &dyn VmLock) {
        if is_ours {
            record.prove_again(self.here);
        }
        let Some(operation) = &mut record.operation else { return };
        operation.lease_end = lock.lease_end();
        if operation.owner == *self.owner {
            self.here.operations.add(&operation.id);
            record.prove_operation(self.here);
        }
    }
}

impl<'e, 'a> UnderWay<'e, 'a> {
    /// Of a record that is in the store as it is here.
    pub fn new(engine: &'e Engine<'a>, lock: Box<dyn VmLock>, record: Record, is_ours: bool) -> Self {
        let operation = operation_id(&record);
        Self { engine, lock, record, is_ours, operation, limits: Limits::default() }
    }
}

impl UnderWay<'_, '_> {
    /// A record that was shown to the user, as [`Engine::take`] changes it: then it can be compared.
    pub fn as_taken(&self, shown: &Record) -> Record {
        let mut record = shown.clone();
        record.belongs_to(self.engine.here);
        record
    }

    /// Saves an intent: before the provider is called, a failure just ends the operation.
    pub async fn save_intent(&mut self) -> Result<(), EngineError> {
        self.engine.ready(&mut self.record, self.is_ours, &*self.lock);
        self.operation = operation_id(&self.record);
        Ok(self.lock.save(&mut self.record).await?)
    }

    /// Saves what the provider did. That must not be lost: tried again, then kept elsewhere.
    pub async fn save_result(&mut self) -> Result<(), EngineError> {
        for attempt in 1.. {
            self.engine.ready(&mut self.record, self.is_ours, &*self.lock);
            match self.lock.save(&mut self.record).await {
                Ok(()) => {
                    self.close_operation();
                    return Ok(());
                }
                Err(error) => self.after_failed_save(attempt, error).await?,
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Archives what the provider has deleted, with the same care.
    pub async fn archive_result(&mut self) -> Result<crate::name::ArchiveId, EngineError> {
        let now = crate::time::Timestamp::now();
        for attempt in 1.. {
            match self.lock.archive(&mut self.record, now).await {
                Ok(id) => {
                    self.close_operation();
                    return Ok(id);
                }
                Err(error) => self.after_failed_save(attempt, error).await?,
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Forgets the operation that is over with the save that was just made.
    fn close_operation(&mut self) {
        if self.record.operation.is_none()
            && let Some(id) = self.operation.take()
        {
            self.engine.here.operations.remove(&id);
        }
    }

    /// Waits a little before the next attempt, or gives up and keeps the record elsewhere.
    async fn after_failed_save(&self, attempt: u32, error: StoreError) -> Result<(), EngineError> {
        let may_pass = matches!(
            error,
            StoreError::Io { .. } | StoreError::Unreachable { .. } | StoreError::Backend { .. }
        );
        if may_pass && attempt < SAVE_ATTEMPTS {
            tokio::time::sleep(std::time::Duration::from_millis(200) * attempt).await;
            return Ok(());
        }
        let file = crate::record::to_json(&self.record);
        Err(EngineError::NotSaved {
            name: self.record.name.clone(),
            rescued: self.engine.rescue.keep(&self.record.name, &file).ok(),
            json: serde_json::to_string_pretty(&self.record).expect("a record has only string keys"),
            source: error,
        })
    }

    /// The operation was stopped by the user or by the store; the record leads to what exists.
    pub fn midway(&self, kind: OperationKind, source: ProviderError) -> EngineError {
        EngineError::Midway { name: self.record.name.clone(), kind, source }
    }

    /// The provider failed; tells the two kinds of ends apart.
    pub fn failed(&self, kind: OperationKind, source: ProviderError) -> EngineError {
        match source {
            source if leaves_work(&source) => self.midway(kind, source),
            source => EngineError::Provider { name: self.record.name.clone(), kind, source },
        }
    }

    pub fn stop_if_interrupted(&self, kind: OperationKind) -> Result<(), EngineError> {
        if self.engine.interrupt.is_raised() {
            return Err(self.midway(kind, ProviderError::Interrupted));
        }
        Ok(())
    }

    /// Splits off what a provider gets: a copy of the record to read, and the right to note.
    pub fn lend(&mut self) -> (Record, Lent<'_>) {
        let copy = self.record.clone();
        let lent = Lent {
            engine: self.engine,
            lock: &mut *self.lock,
            record: &mut self.record,
            is_ours: self.is_ours,
            limits: self.limits,
        };
        (copy, lent)
    }
}

/// The provider's side of [`UnderWay`].
pub(super) struct Lent<'l> {
    engine: &'l Engine<'l>,
    lock: &'l mut dyn VmLock,
    record: &'l mut Record,
    is_ours: bool,
    limits: Limits,
}

#[async_trait]
impl Work for Lent<'_> {
    async fn made(&mut self, kind: &str, id: &str) -> Result<(), ProviderError> {
        let known = self.record.resources.iter().any(|known| known.kind == kind && known.id == id);
        if known {
            return Ok(());
        }
        let operation = self
            .record
            .operation
            .as_ref()
            .map_or_else(crate::name::OperationId::generate, |operation| operation.id.clone());
        self.record.resources.push(resource(kind, id, &operation));
        self.engine.ready(self.record, self.is_ours, self.lock);
        let saved = self.lock.save(self.record).await;
        if saved.is_err() {
            self.record.resources.pop();
        }
        Ok(saved?)
    }

    async fn save_addresses(&mut self, made: Made) -> Result<(), ProviderError> {
        set_addresses(self.record, made);
        self.engine.ready(self.record, self.is_ours, self.lock);
        Ok(self.lock.save(self.record).await?)
    }

    fn noted(&self, kind: &str) -> Option<&str> {
        self.record.resource(kind)
    }

    fn events(&self) -> &dyn Events {
        self.engine.events
    }

    fn interrupted(&self) -> bool {
        self.engine.interrupt.is_raised()
    }

    async fn interruption(&self) {
        self.engine.interrupt.raised().await;
    }

    fn power_down_limit(&self, usual: Duration) -> Duration {
        self.limits.power_down.unwrap_or_else(|| self.time_left(usual))
    }

    fn time_left(&self, usual: Duration) -> Duration {
        let left = self.limits.deadline.map(|end| end.saturating_duration_since(Instant::now()));
        left.map_or(usual, |left| left.min(usual))
    }
}
