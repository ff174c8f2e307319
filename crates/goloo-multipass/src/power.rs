//! Start and stop.

use std::time::Instant;

use goloo_core::events::Event;
use goloo_core::name::VmName;
use goloo_core::provider::{ProviderError, StopMode, Work};
use goloo_core::record::Record;

use crate::create::{in_trash, state_word};
use crate::errors::CallError;
use crate::json::{Instance, State};
use crate::provider::{MultipassProvider, instance_name};

impl MultipassProvider {
    /// Brings an instance up and waits until it has an address. It is looked at first: `start` would
    /// launch an instance when it is given the primary's name and there is none.
    pub(crate) async fn power_on(
        &self,
        name: &str,
        vm: &VmName,
        work: &mut dyn Work,
    ) -> Result<Instance, ProviderError> {
        let end = Instant::now() + work.time_left(self.limits().start);
        let mut tried: Option<Result<Vec<u8>, CallError>> = None;
        loop {
            let instance = self.info(name).await?.ok_or_else(|| missing(name, vm))?;
            match &instance.state {
                State::Running if instance.ip.is_some() => return Ok(instance),
                State::Deleted => return Err(in_trash(name, &format!("goloo start {vm}"))),
                State::Stopped | State::Suspended | State::DelayedShutdown if tried.is_none() => {
                    work.step("starting the instance");
                    let limit = work.time_left(self.limits().start);
                    tried = Some(self.cli().call_unless_stopped("start", [name], limit, work).await?);
                    continue;
                }
                state if may_come_up(state) && Instant::now() < end => {}
                state => return Err(not_up(name, vm, state, tried.and_then(Result::err))),
            }
            self.pause(work).await?;
        }
    }

    pub(crate) async fn power_off(
        &self,
        record: &Record,
        mode: StopMode,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let name = instance_name(record);
        let instance = self.steady(name, record, work).await?;
        match (&instance.state, mode) {
            (State::Deleted, _) => Err(in_trash(name, &format!("goloo stop {}", record.name))),
            (State::Stopped, _) | (State::Suspended, StopMode::Suspend) => Ok(()),
            (State::Suspended, StopMode::Graceful) => {
                let text = format!(
                    "{name} is suspended: its memory is kept; goloo stop --force {} powers it off and loses it",
                    record.name
                );
                work.events().event(Event::Note(text));
                Ok(())
            }
            (_, StopMode::Force) => self.cut(name, record, work).await,
            (_, StopMode::Suspend) => {
                work.step("suspending the instance");
                self.cli().call("suspend", [name], self.limits().act).await?;
                self.wait_until_off(name, record, work).await
            }
            (_, StopMode::Graceful) => self.shut_down(name, record, work).await,
        }
    }

    /// The instance once it isn't on its way up or down any more, or as it is when that lasts too long.
    async fn steady(
        &self,
        name: &str,
        record: &Record,
        work: &mut dyn Work,
    ) -> Result<Instance, ProviderError> {
        let end = Instant::now() + work.power_down_limit(self.limits().power_down);
        loop {
            let instance = self.info(name).await?.ok_or_else(|| missing(name, &record.name))?;
            if !instance.state.passes() || Instant::now() >= end {
                return Ok(instance);
            }
            self.pause(work).await?;
        }
    }

    async fn shut_down(&self, name: &str, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        work.step("asking the guest to power off");
        let limit = work.power_down_limit(self.limits().power_down);
        let error = match self.cli().call_unless_stopped("stop", [name], limit, work).await? {
            Ok(_) => return self.wait_until_off(name, record, work).await,
            Err(CallError::NoAnswer { limit, .. }) => {
                format!("the guest hasn't powered off within {} s", limit.as_secs())
            }
            Err(error) if error.out_of_reach() => return Err(error.into()),
            Err(error) => format!("the guest can't be asked to power off: {error}"),
        };
        work.events().event(Event::Warning(format!("{error}; its power is cut")));
        self.cut(name, record, work).await
    }

    async fn cut(&self, name: &str, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        work.step("cutting the power");
        self.cli().call("stop", ["--force", name], self.limits().act).await?;
        self.wait_until_off(name, record, work).await
    }

    async fn wait_until_off(
        &self,
        name: &str,
        record: &Record,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let end = Instant::now() + self.limits().act;
        loop {
            let instance = self.info(name).await?.ok_or_else(|| missing(name, &record.name))?;
            if matches!(instance.state, State::Stopped | State::Suspended) {
                return Ok(());
            }
            if Instant::now() >= end {
                let what = format!("{name} was told to stop and is {}", state_word(&instance.state));
                return Err(ProviderError::failed(what, format!("goloo stop --force {}", record.name)));
            }
            self.pause(work).await?;
        }
    }
}

fn may_come_up(state: &State) -> bool {
    matches!(state, State::Running | State::Starting | State::Restarting | State::Suspending)
}

pub(crate) fn missing(name: &str, vm: &VmName) -> ProviderError {
    ProviderError::failed(
        format!("Multipass has no instance {name} any more"),
        format!("goloo delete {vm} archives the record"),
    )
}

fn not_up(name: &str, vm: &VmName, state: &State, error: Option<CallError>) -> ProviderError {
    let (_, reason) = state.live(name);
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let what = format!("the instance {name} hasn't come up; it is {}{reason}", state_word(state));
    let hint = format!("goloo stop --force {vm}, then goloo start {vm}");
    match error {
        Some(error) if error.out_of_reach() => error.into(),
        Some(error) => ProviderError::caused(what, hint, error),
        None => ProviderError::failed(what, hint),
    }
}
