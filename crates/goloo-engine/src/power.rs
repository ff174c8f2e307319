//! Start, stop, restart and wait: each returns when its target state is reached.

use tokio::time::Instant;

use super::create::phase_after;
use super::work::{LockedOperation, leaves_work};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::network_names;
use crate::provision;
use crate::verdict::Verdict;
use goloo_model::hint::NextStep;
use goloo_model::name::VmName;
use goloo_model::provider::{LiveState, ProviderError, StopMode};
use goloo_model::record::{HistoryAction, Operation, OperationKind, Outcome, ProvisioningResult, Record};

impl Engine<'_> {
    /// Starts a VM and waits until SSH answers.
    pub async fn start(&self, name: &VmName) -> Result<Record, EngineError> {
        let deadline = self.deadline();
        let mut locked = self.begin_power(name, OperationKind::Start, false).await?;
        locked.limits.deadline = Some(deadline);
        locked.power_on(deadline).await
    }

    /// Stops a VM; returns when it is off.
    pub async fn stop(&self, name: &VmName, mode: StopMode) -> Result<Record, EngineError> {
        let mut locked = self.begin_power(name, kind_of(mode), mode == StopMode::Force).await?;
        locked.limits.power_down = (!self.limit.is_zero()).then_some(self.limit);
        locked.power_off(mode).await?;
        locked.finish_power().await
    }

    /// Stops a VM, starts it, and waits until SSH answers.
    pub async fn restart(&self, name: &VmName, mode: StopMode) -> Result<Record, EngineError> {
        let deadline = self.deadline();
        let force = mode == StopMode::Force;
        let mut locked = self.begin_power(name, OperationKind::Restart, force).await?;
        locked.limits.deadline = Some(deadline);
        locked.power_off(mode).await?;
        locked.power_on(deadline).await
    }

    /// Waits until SSH answers and cloud-init has finished. The first result is saved in the record.
    pub async fn wait(&self, name: &VmName) -> Result<(Record, Verdict), EngineError> {
        let deadline = self.deadline();
        let mut locked = self.take(name).await?;
        crate::engine::refuse_unfinished(&locked.record)?;
        let verdict = match provision::verdict(self, &locked.record, deadline).await {
            Some(verdict) => verdict,
            None => {
                let what = format!("stopped waiting for \"{name}\"");
                return Err(EngineError::Refused { what, hint: NextStep::Wait(name.clone()).into() });
            }
        };
        let known = locked.record.provisioning.as_ref().map(|provisioning| provisioning.result);
        let is_news = match known {
            Some(known) => matches!(known, ProvisioningResult::Unknown | ProvisioningResult::Ended),
            // The machine was in use before goloo managed it: an unknown result doesn't mean that it failed.
            None => verdict.result != ProvisioningResult::Unknown,
        };
        if is_news {
            verdict.save_to(&mut locked.record);
            locked.record.phase = phase_after(locked.record.provisioning.as_ref());
            locked.record.history.note(HistoryAction::Wait, self.owner);
            locked.save_result().await?;
        } else if verdict.save_login_to(&mut locked.record) {
            locked.save_result().await?;
        }
        Ok((locked.record, verdict))
    }

    async fn begin_power(
        &self,
        name: &VmName,
        kind: OperationKind,
        force: bool,
    ) -> Result<LockedOperation<'_, '_>, EngineError> {
        let mut locked = self.take(name).await?;
        crate::engine::refuse_unfinished(&locked.record)?;
        if kind == OperationKind::Suspend {
            refuse_pending(&locked.record, "suspended")?;
        }
        locked.record.begin(Operation { force, ..self.operation(kind) });
        locked.save_intent().await?;
        Ok(locked)
    }
}

/// Refuses to keep the memory of a machine that is to have other CPUs, memory or folders at its next start.
pub(super) fn refuse_pending(record: &Record, what: &str) -> Result<(), EngineError> {
    if record.restart_pending.is_empty() {
        return Ok(());
    }
    let name = &record.name;
    Err(EngineError::Refused {
        what: format!(
            "\"{name}\" has changes that need a restart, and its memory only fits the machine as it is, so it can't be {what}"
        ),
        hint: NextStep::Restart(name.clone()).text(", then try again"),
    })
}

fn kind_of(mode: StopMode) -> OperationKind {
    match mode {
        StopMode::Graceful | StopMode::Force => OperationKind::Stop,
        StopMode::Suspend => OperationKind::Suspend,
    }
}

impl LockedOperation<'_, '_> {
    /// Returns when SSH answers. The operation ends before that: for a running machine there is nothing to resume.
    pub(super) async fn power_on(&mut self, deadline: Instant) -> Result<Record, EngineError> {
        let provider = self.engine.provider;
        let was_suspended = self.is_suspended().await;
        let (record, mut work) = self.lend();
        let made = provider.start(&record, &mut work).await;
        let made = self.ended(OperationKind::Start, made).await?;
        made.write_to(&mut self.record);
        self.record.restart_pending.clear();
        let connected = self.connect_network().await;
        self.ended(OperationKind::Start, connected).await?;
        // Before the operation ends, so that resume repeats it after a crash here.
        self.name_host();
        let record = self.finish_power().await?;
        provision::reach(self.engine, &record, deadline).await.map_err(|stop| match stop {
            provision::Stop::Interrupted => EngineError::NotAwaited { name: record.name.clone() },
            provision::Stop::Ended => EngineError::NoAnswer {
                name: record.name.clone(),
                reason: "the machine powered off again".to_owned(),
            },
            provision::Stop::NoAnswer(reason) => EngineError::NoAnswer { name: record.name.clone(), reason },
        })?;
        if was_suspended {
            crate::clock::set(self.engine, &record).await;
            crate::hostname::set_of_clone(self.engine, &record).await;
        }
        crate::private_network::set_guest_address(self.engine, &record).await;
        network_names::write_or_warn(self.engine, &record).await;
        Ok(record)
    }

    pub(super) async fn is_suspended(&self) -> bool {
        if !self.engine.provider.capabilities().suspend {
            return false;
        }
        self.engine.state_of(&self.record).await == LiveState::Suspended
    }

    pub(super) async fn power_off(&mut self, mode: StopMode) -> Result<(), EngineError> {
        let provider = self.engine.provider;
        let (record, mut work) = self.lend();
        let stopped = provider.stop(&record, mode, &mut work).await;
        self.ended(kind_of(mode), stopped).await?;
        self.engine.guest.end_connections(&self.record).await;
        Ok(())
    }

    /// A failure of the provider ends the operation: there is nothing to resume. An interruption
    /// doesn't end it.
    pub(super) async fn ended<T>(
        &mut self,
        kind: OperationKind,
        result: Result<T, ProviderError>,
    ) -> Result<T, EngineError> {
        match result {
            Ok(value) => Ok(value),
            Err(error) if leaves_work(&error) => Err(self.midway(kind, error)),
            Err(error) => {
                self.record.fail(&error);
                self.save_result().await?;
                Err(self.failed(kind, error))
            }
        }
    }

    pub(super) async fn finish_power(&mut self) -> Result<Record, EngineError> {
        self.record.end(Outcome::Done, None);
        self.save_result().await?;
        Ok(self.record.clone())
    }
}
