//! What the engine provides to a provider: a record that is always saved before the provider acts.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::engine::{Engine, record_under, refuse_elsewhere};
use crate::error::EngineError;
use crate::provision::{self, Stop};
use goloo_model::events::Events;
use goloo_model::name::{OperationId, VmName};
use goloo_model::provider::{Endpoints, ProviderError, Work, resource};
use goloo_model::record::{OperationKind, Record};
use goloo_model::store::{Snapshot, StoreError, VmLock};

/// A VM during an operation: its lock, its record, and the engine.
pub(super) struct LockedOperation<'e, 'a> {
    pub engine: &'e Engine<'a>,
    pub lock: Box<dyn VmLock>,
    pub record: Record,
    /// Whether the VM was created with this state folder, and its record still proves it.
    pub is_ours: bool,
    /// The operation in progress, as last saved.
    pub operation: Option<OperationId>,
    pub limits: Limits,
}

/// The user's time limits for the provider's calls.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// How long the guest may take to power off, if given by the user.
    pub power_down: Option<Duration>,
    /// The deadline of the whole operation.
    pub deadline: Option<Instant>,
}

/// Whether this error leaves work that the same operation must continue.
pub(super) fn leaves_work(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Interrupted | ProviderError::Unfinished { .. } | ProviderError::Record(_))
}

/// The id of the operation in progress.
fn operation_id(record: &Record) -> Option<OperationId> {
    record.operation.as_ref().map(|operation| operation.id.clone())
}

/// The maximum number of attempts to save a result of the provider.
const SAVE_ATTEMPTS: u32 = 3;

impl<'a> Engine<'a> {
    /// Takes the VM's lock and reads its record under it. Refuses a VM that belongs elsewhere.
    pub(super) async fn take(&self, name: &VmName) -> Result<LockedOperation<'_, 'a>, EngineError> {
        let lock = self.store.lock(name, self.owner).await?;
        tracing::debug!(vm = %name, "took the lock");
        self.take_under(lock).await
    }

    /// Reads the record of the VM whose lock this is, as [`Self::take`].
    pub(super) async fn take_under(
        &self,
        mut lock: Box<dyn VmLock>,
    ) -> Result<LockedOperation<'_, 'a>, EngineError> {
        let record = record_under(&mut *lock).await?;
        let mut record = record.ok_or_else(|| StoreError::NotFound { name: lock.name().clone() })?;
        refuse_elsewhere(&record, self.here)?;
        self.expect_operable(&record)?;
        let is_ours = self.here.created(&record);
        record.belongs_to(self.here);
        if let Some(former) = lock.taken_over() {
            tracing::warn!(vm = %record.name, %former, "took over an expired lease");
            self.reconcile(&record, former).await?;
            record.history.note_takeover(self.owner, former);
        }
        Ok(LockedOperation::new(self, lock, record, is_ours))
    }

    /// Takes the locks of two different names, always in the order of the names, so that two callers can't deadlock.
    /// Returns them in the order of the arguments.
    pub(super) async fn lock_both(
        &self,
        one: &VmName,
        other: &VmName,
    ) -> Result<(Box<dyn VmLock>, Box<dyn VmLock>), StoreError> {
        let lock = async |name| self.store.lock(name, self.owner).await;
        if one < other {
            let first = lock(one).await?;
            return Ok((first, lock(other).await?));
        }
        let first = lock(other).await?;
        Ok((lock(one).await?, first))
    }
}

impl Engine<'_> {
    /// Prepares a record for its next write: sets the end of the lease, for readers of the
    /// operation, and the proofs that the operation was started, or the VM created, with this state folder.
    pub(super) fn ready(&self, record: &mut Record, is_ours: bool, lock: &dyn VmLock) {
        if is_ours {
            record.prove_again(self.here);
            self.guest.pin(record);
        }
        let Some(operation) = &mut record.operation else { return };
        operation.lease_end = lock.lease_end();
        if operation.owner == *self.owner {
            self.here.operations.add(&operation.id);
            record.prove_operation(self.here);
        }
    }
}

impl<'e, 'a> LockedOperation<'e, 'a> {
    /// Requires a record that is identical to the one in the store.
    pub fn new(engine: &'e Engine<'a>, lock: Box<dyn VmLock>, record: Record, is_ours: bool) -> Self {
        let operation = operation_id(&record);
        Self { engine, lock, record, is_ours, operation, limits: Limits::default() }
    }
}

impl LockedOperation<'_, '_> {
    /// Saves an intent. A failure just ends the operation, since the provider hasn't been called yet.
    pub async fn save_intent(&mut self) -> Result<(), EngineError> {
        self.engine.ready(&mut self.record, self.is_ours, &*self.lock);
        self.operation = operation_id(&self.record);
        let kind = self.record.operation.as_ref().map(|operation| operation.kind);
        tracing::debug!(vm = %self.record.name, operation = ?kind, "saving the intent");
        Ok(self.lock.save(&mut self.record).await?)
    }

    /// Saves the provider's result. It must not be lost: failures are retried, then the record is preserved elsewhere.
    pub async fn save_result(&mut self) -> Result<(), EngineError> {
        self.save_result_and(None).await
    }

    /// The same, together with the files that the machine has been provisioned with.
    pub async fn save_result_with(&mut self, files: &Snapshot) -> Result<(), EngineError> {
        self.save_result_and(Some(files)).await
    }

    async fn save_result_and(&mut self, files: Option<&Snapshot>) -> Result<(), EngineError> {
        for attempt in 1.. {
            self.engine.ready(&mut self.record, self.is_ours, &*self.lock);
            let saved = match files {
                None => self.lock.save(&mut self.record).await,
                Some(files) => self.lock.save_with_snapshot(&mut self.record, files).await,
            };
            match saved {
                Ok(()) => {
                    tracing::debug!(vm = %self.record.name, serial = self.record.serial, "saved the result");
                    self.close_operation();
                    return Ok(());
                }
                Err(error) => self.after_failed_save(attempt, error).await?,
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Archives the record of a deleted VM, with the same retries.
    pub async fn archive_result(&mut self) -> Result<goloo_model::name::ArchiveId, EngineError> {
        let now = goloo_model::time::Timestamp::now();
        for attempt in 1.. {
            match self.lock.archive(&mut self.record, now).await {
                Ok(id) => {
                    tracing::debug!(vm = %self.record.name, archive_id = %id, "archived the record");
                    self.close_operation();
                    return Ok(id);
                }
                Err(error) => self.after_failed_save(attempt, error).await?,
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Removes the record, which is stored under another name by now, with the same retries.
    pub async fn remove_record(&mut self) -> Result<(), StoreError> {
        for attempt in 1.. {
            match self.lock.remove(&self.record).await {
                Ok(()) => return Ok(()),
                // An earlier attempt may have succeeded.
                Err(StoreError::NotFound { .. }) if attempt > 1 => return Ok(()),
                Err(error) if self.may_try_again(attempt, &error).await => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Removes the operation from the open ones if the last save ended it.
    fn close_operation(&mut self) {
        if self.record.operation.is_none()
            && let Some(id) = self.operation.take()
        {
            self.engine.here.operations.remove(&id);
        }
    }

    /// Waits before the next attempt, or gives up and preserves the record elsewhere.
    async fn after_failed_save(&self, attempt: u32, error: StoreError) -> Result<(), EngineError> {
        if self.may_try_again(attempt, &error).await {
            return Ok(());
        }
        let file = goloo_model::record::to_json(&self.record);
        Err(EngineError::NotSaved {
            name: self.record.name.clone(),
            rescued: self.engine.rescue.keep(&self.record.name, &file).ok(),
            json: serde_json::to_string_pretty(&self.record).expect("a record has only string keys"),
            source: error,
        })
    }

    /// Waits before the next attempt of a write; `false` if there should be none.
    async fn may_try_again(&self, attempt: u32, error: &StoreError) -> bool {
        tracing::warn!(vm = %self.record.name, attempt, %error, "the record was not saved");
        let may_pass = matches!(
            error,
            StoreError::Io { .. }
                | StoreError::Unreachable { .. }
                | StoreError::LockTable { .. }
                | StoreError::Backend { .. }
        );
        let tries_again = may_pass && attempt < SAVE_ATTEMPTS;
        if tries_again {
            tokio::time::sleep(std::time::Duration::from_millis(200) * attempt).await;
        }
        tries_again
    }

    /// The error for an operation interrupted by the user or the store; the record refers to everything that exists.
    pub fn midway(&self, kind: OperationKind, source: ProviderError) -> EngineError {
        tracing::debug!(vm = %self.record.name, operation = %kind, error = %source, "the operation was interrupted");
        EngineError::Midway { name: self.record.name.clone(), kind, source }
    }

    /// The error for a failure of the provider, which may have left work or not.
    pub fn failed(&self, kind: OperationKind, source: ProviderError) -> EngineError {
        match source {
            source if leaves_work(&source) => self.midway(kind, source),
            source => {
                tracing::debug!(vm = %self.record.name, operation = %kind, error = %source, "the provider failed");
                EngineError::Provider { name: self.record.name.clone(), kind, source }
            }
        }
    }

    /// Waits until a login works, in an operation that continues inside the machine.
    pub async fn reach(&self, kind: OperationKind, deadline: Instant) -> Result<(), EngineError> {
        let name = self.record.name.clone();
        provision::reach(self.engine, &self.record, deadline).await.map_err(|stop| match stop {
            Stop::Interrupted => self.midway(kind, ProviderError::Interrupted),
            Stop::Ended => EngineError::NoAnswer { name, reason: "the machine powered off again".to_owned() },
            Stop::NoAnswer(reason) => EngineError::NoAnswer { name, reason },
        })
    }

    pub fn stop_if_interrupted(&self, kind: OperationKind) -> Result<(), EngineError> {
        if self.engine.interrupt.is_raised() {
            return Err(self.midway(kind, ProviderError::Interrupted));
        }
        Ok(())
    }

    /// Splits into what a provider gets: a copy of the record to read, and the context for recording resources.
    pub fn lend(&mut self) -> (Record, OperationContext<'_>) {
        tracing::debug!(vm = %self.record.name, provider = %self.record.provider, "calling the provider");
        let copy = self.record.clone();
        let lent = OperationContext {
            engine: self.engine,
            lock: &mut *self.lock,
            record: &mut self.record,
            is_ours: self.is_ours,
            limits: self.limits,
        };
        (copy, lent)
    }
}

/// The provider's side of [`LockedOperation`].
pub(super) struct OperationContext<'l> {
    engine: &'l Engine<'l>,
    lock: &'l mut dyn VmLock,
    record: &'l mut Record,
    is_ours: bool,
    limits: Limits,
}

#[async_trait]
impl Work for OperationContext<'_> {
    async fn record_resource(&mut self, kind: &str, id: &str) -> Result<(), ProviderError> {
        let known = self.record.resources.iter().any(|known| known.kind == kind && known.id == id);
        if known {
            return Ok(());
        }
        let operation = self
            .record
            .operation
            .as_ref()
            .map_or_else(goloo_model::name::OperationId::generate, |operation| operation.id.clone());
        tracing::debug!(vm = %self.record.name, kind, id, "recording a resource");
        self.record.resources.push(resource(kind, id, &operation));
        self.engine.ready(self.record, self.is_ours, self.lock);
        let saved = self.lock.save(self.record).await;
        if saved.is_err() {
            self.record.resources.pop();
        }
        Ok(saved?)
    }

    async fn save_addresses(&mut self, endpoints: Endpoints) -> Result<(), ProviderError> {
        endpoints.write_to(self.record);
        self.engine.ready(self.record, self.is_ours, self.lock);
        Ok(self.lock.save(self.record).await?)
    }

    fn recorded_resource(&self, kind: &str) -> Option<&str> {
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
