//! Start, stop, restart and wait: each ends when what it says is true.

use tokio::time::Instant;

use super::create::phase_after;
use super::work::{UnderWay, leaves_work};
use super::{Engine, EngineError, Verdict, provision, set_addresses};
use crate::name::VmName;
use crate::provider::{ProviderError, StopMode};
use crate::record::{Deed, Operation, OperationKind, Outcome, ProvisioningResult, Record};

impl Engine<'_> {
    /// Starts a VM and waits until SSH answers.
    pub async fn start(&self, name: &VmName) -> Result<Record, EngineError> {
        let deadline = self.deadline();
        let mut under_way = self.begin_power(name, OperationKind::Start, false).await?;
        under_way.limits.deadline = Some(deadline);
        under_way.power_on(deadline).await
    }

    /// Stops a VM; returns when it is off.
    pub async fn stop(&self, name: &VmName, mode: StopMode) -> Result<Record, EngineError> {
        let mut under_way = self.begin_power(name, kind_of(mode), mode == StopMode::Force).await?;
        under_way.limits.power_down = (!self.limit.is_zero()).then_some(self.limit);
        under_way.power_off(mode).await?;
        under_way.finish_power().await
    }

    /// Stops a VM, starts it, and waits until SSH answers.
    pub async fn restart(&self, name: &VmName, mode: StopMode) -> Result<Record, EngineError> {
        let deadline = self.deadline();
        let force = mode == StopMode::Force;
        let mut under_way = self.begin_power(name, OperationKind::Restart, force).await?;
        under_way.limits.deadline = Some(deadline);
        under_way.power_off(mode).await?;
        under_way.power_on(deadline).await
    }

    /// Waits until SSH answers and cloud-init is done. The first verdict is kept in the record.
    pub async fn wait(&self, name: &VmName) -> Result<(Record, Verdict), EngineError> {
        let deadline = self.deadline();
        let mut under_way = self.take(name).await?;
        super::refuse_unfinished(&under_way.record)?;
        let verdict = match provision::verdict(self, &under_way.record, deadline).await {
            Some(verdict) => verdict,
            None => {
                let what = format!("stopped waiting for \"{name}\"");
                return Err(EngineError::Refused { what, hint: format!("goloo wait {name}") });
            }
        };
        let known = under_way.record.provisioning.as_ref().map(|provisioning| provisioning.result);
        let is_news = match known {
            Some(known) => matches!(known, ProvisioningResult::Unknown | ProvisioningResult::Ended),
            // It was in use before goloo knew it: that it can't be asked says nothing of it.
            None => verdict.result != ProvisioningResult::Unknown,
        };
        if is_news {
            under_way.record.note_verdict(&verdict);
            under_way.record.phase = phase_after(under_way.record.provisioning.as_ref());
            under_way.record.history.note(Deed::Wait, self.owner);
            under_way.save_result().await?;
        } else if under_way.record.note_login(&verdict) {
            under_way.save_result().await?;
        }
        Ok((under_way.record, verdict))
    }

    async fn begin_power(
        &self,
        name: &VmName,
        kind: OperationKind,
        force: bool,
    ) -> Result<UnderWay<'_, '_>, EngineError> {
        let mut under_way = self.take(name).await?;
        super::refuse_unfinished(&under_way.record)?;
        under_way.record.begin(Operation { force, ..self.operation(kind) });
        under_way.save_intent().await?;
        Ok(under_way)
    }
}

fn kind_of(mode: StopMode) -> OperationKind {
    match mode {
        StopMode::Graceful | StopMode::Force => OperationKind::Stop,
        StopMode::Suspend => OperationKind::Suspend,
    }
}

impl UnderWay<'_, '_> {
    /// Returns when SSH answers. The operation ends before that: a machine that is up has nothing to resume.
    pub(super) async fn power_on(&mut self, deadline: Instant) -> Result<Record, EngineError> {
        let provider = self.engine.provider;
        let (record, mut work) = self.lend();
        let made = provider.start(&record, &mut work).await;
        let made = self.ended(OperationKind::Start, made).await?;
        set_addresses(&mut self.record, made);
        // Before the operation ends, so that what died here is done again by resume.
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
        Ok(record)
    }

    pub(super) async fn power_off(&mut self, mode: StopMode) -> Result<(), EngineError> {
        let provider = self.engine.provider;
        let (record, mut work) = self.lend();
        let stopped = provider.stop(&record, mode, &mut work).await;
        self.ended(kind_of(mode), stopped).await
    }

    /// A provider that failed has ended the operation: there is nothing to resume. One that was stopped
    /// midway has not.
    async fn ended<T>(
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
