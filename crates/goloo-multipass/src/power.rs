//! Start and stop.

use std::net::Ipv4Addr;
use std::time::Instant;

use goloo_model::events::Event;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::provider::{ProviderError, StopMode, Work};
use goloo_model::record::Record;

use crate::address::Address;
use crate::context::MultipassProvider;
use crate::create::{in_trash, state_word};
use crate::errors::{CallError, Refusal};
use crate::json::{Instance, State};
use crate::vm_instance::VmInstance;

impl MultipassProvider {
    /// Starts an instance and waits until it has an address. Inspects it first: `start` would launch an instance if
    /// given the primary's name and it doesn't exist.
    pub(crate) async fn power_on(
        &self,
        vm: &VmInstance<'_>,
        work: &mut dyn Work,
    ) -> Result<Ipv4Addr, ProviderError> {
        self.wait_for_launch_end(vm, Some(work)).await?;
        let end = Instant::now() + work.time_left(self.limits().start);
        let mut tried: Option<Result<Vec<u8>, CallError>> = None;
        loop {
            let instance = self.info(vm.instance).await?.ok_or_else(|| missing(vm))?;
            let gave_up = matches!(&tried, Some(Err(error)) if error.refusal().is_some_and(Refusal::gave_up));
            match &instance.state {
                State::Running => match self.address(vm.instance, vm.ip).await? {
                    Address::Own(ip) => return Ok(ip),
                    Address::NotYet => {}
                    Address::GuestSilent => return Err(silent(vm)),
                },
                State::Deleted => return Err(in_trash(vm.instance, NextStep::Start(vm.name.clone()))),
                State::Stopped | State::Suspended | State::DelayedShutdown if tried.is_none() => {
                    work.step("starting the instance");
                    let limit = work.time_left(self.limits().start);
                    let started = self.cli().call_unless_stopped("start", [vm.instance], limit, work).await?;
                    tried = Some(started);
                    continue;
                }
                state if state.passes() && !gave_up => {}
                state => return Err(not_up(vm, state, tried.and_then(Result::err))),
            }
            if Instant::now() >= end {
                return Err(not_up(vm, &instance.state, tried.and_then(Result::err)));
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
        let vm = &VmInstance::of(record);
        let instance = match mode {
            StopMode::Force => {
                if !self.launch_ends(vm, Some(work)).await? {
                    // It is waiting for a hanging guest: nothing else ends that.
                    let text =
                        format!("the launch of {} hasn't finished; forcing power off anyway", vm.instance);
                    work.events().event(Event::Warning(text));
                }
                self.info_when_free(vm.instance, work).await?.ok_or_else(|| missing(vm))?
            }
            StopMode::Graceful | StopMode::Suspend => {
                self.wait_for_launch_end(vm, Some(work)).await?;
                self.steady(vm, work).await?
            }
        };
        match (&instance.state, mode) {
            (State::Deleted, _) => Err(in_trash(vm.instance, NextStep::stop(vm.name))),
            (State::Stopped, _) | (State::Suspended, StopMode::Suspend) => Ok(()),
            (State::Suspended, StopMode::Graceful) => {
                work.events().event(Event::Note(format!("{} is suspended: its memory is kept", vm.instance)));
                let hint = NextStep::force_stop(vm.name).text(" powers it off and discards its memory");
                work.events().event(Event::Hint(hint));
                Ok(())
            }
            (_, StopMode::Force) => self.force_off(vm, work).await,
            (_, StopMode::Suspend) => {
                work.step("suspending the instance");
                self.cli().call("suspend", [vm.instance], self.limits().act).await?;
                self.wait_until_off(vm, work).await
            }
            (_, StopMode::Graceful) => self.shut_down(vm, work).await,
        }
    }

    /// The instance once it is no longer starting or stopping, or its last observation if that takes too long.
    async fn steady(&self, vm: &VmInstance<'_>, work: &mut dyn Work) -> Result<Instance, ProviderError> {
        let end = Instant::now() + work.power_down_limit(self.limits().power_down);
        let mut is_said = false;
        loop {
            let instance = self.info(vm.instance).await?.ok_or_else(|| missing(vm))?;
            if !instance.state.passes() || Instant::now() >= end {
                return Ok(instance);
            }
            if !std::mem::replace(&mut is_said, true) {
                work.step(
                    "waiting until the instance is running, so that its guest can be asked to power off",
                );
            }
            self.pause(work).await?;
        }
    }

    async fn shut_down(&self, vm: &VmInstance<'_>, work: &mut dyn Work) -> Result<(), ProviderError> {
        work.step("asking the guest to power off");
        let limit = work.power_down_limit(self.limits().power_down);
        let error = match self.cli().call_unless_stopped("stop", [vm.instance], limit, work).await? {
            Ok(_) => return self.wait_until_off(vm, work).await,
            // The daemon keeps waiting for the guest.
            Err(CallError::NoAnswer { limit, .. }) => format!(
                "the guest hasn't powered off within {} s; Multipass waits 5 minutes for it and blocks until \
                 then; forcing power off after that",
                limit.as_secs()
            ),
            Err(error) if error.out_of_reach() || error.permission() => return Err(error.into()),
            Err(error) => format!("the guest can't be asked to power off: {error}; forcing power off"),
        };
        work.events().event(Event::Warning(error));
        self.force_off(vm, work).await
    }

    async fn force_off(&self, vm: &VmInstance<'_>, work: &mut dyn Work) -> Result<(), ProviderError> {
        work.step("forcing power off");
        let limit = self.limits().busy;
        self.cli().call_unless_stopped("stop", ["--force", vm.instance], limit, work).await??;
        self.wait_until_off(vm, work).await
    }

    async fn wait_until_off(&self, vm: &VmInstance<'_>, work: &mut dyn Work) -> Result<(), ProviderError> {
        let end = Instant::now() + self.limits().act;
        loop {
            let instance = self.info(vm.instance).await?.ok_or_else(|| missing(vm))?;
            if matches!(instance.state, State::Stopped | State::Suspended) {
                return Ok(());
            }
            if Instant::now() >= end {
                let what = format!(
                    "{} is still {} after it was asked to stop",
                    vm.instance,
                    state_word(&instance.state)
                );
                return Err(ProviderError::failed(what, NextStep::force_stop(vm.name)));
            }
            self.pause(work).await?;
        }
    }
}

pub(crate) fn missing(vm: &VmInstance<'_>) -> ProviderError {
    ProviderError::failed(
        format!("the Multipass instance {} no longer exists", vm.instance),
        NextStep::Delete(vm.name.clone()).text(" archives the record"),
    )
}

fn silent(vm: &VmInstance<'_>) -> ProviderError {
    ProviderError::failed(
        format!("the instance {} is running, but its guest doesn't answer", vm.instance),
        start_afresh(vm),
    )
}

fn start_afresh(vm: &VmInstance<'_>) -> Hint {
    NextStep::force_stop(vm.name).text(", then ").step(NextStep::Start(vm.name.clone()))
}

fn not_up(vm: &VmInstance<'_>, state: &State, error: Option<CallError>) -> ProviderError {
    let reason = match state {
        State::Unknown => String::new(),
        state => state.live(vm.instance).1.map_or_else(String::new, |reason| format!(": {reason}")),
    };
    let what = format!("the instance {} didn't start; it is {}{reason}", vm.instance, state_word(state));
    let hint = start_afresh(vm);
    match error {
        Some(error) if error.out_of_reach() || error.permission() => error.into(),
        Some(error) => ProviderError::caused(what, hint, error),
        None => ProviderError::failed(what, hint),
    }
}
