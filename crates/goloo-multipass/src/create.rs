//! Create: launches an instance, or finds the one an earlier attempt launched.
//!
//! The launch client's result is never authoritative: a launch that "failed" may have left a running machine, and one
//! that was killed continues in the daemon. What counts is `info`, together with proof inside the machine that it is
//! this one.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::time::Instant;

use goloo_model::hint::{Hint, NextStep};
use goloo_model::provider::{Endpoints, Machine, ProviderError, Work};
use goloo_model::spec::Mount;

use crate::address::Address;
use crate::context::{LAUNCH, MultipassProvider, RESOURCE};
use crate::errors::{CallError, Refusal};
use crate::inspect::Observed;
use crate::json::{Instance, State};
use crate::launch::Launch;
use crate::ownership::Ownership;
use crate::plan;
use crate::user_data_file::UserDataFile;
use crate::vm_instance::VmInstance;

/// A create that is waiting for its instance.
struct Waiting<'a> {
    provider: &'a MultipassProvider,
    machine: &'a Machine,
    argv: &'a [OsString],
    launch: Option<Launch>,
    /// When to give up; extended once a launch is in progress, and set again when that launch has ended.
    end: Instant,
    launch_has_ended: bool,
    /// When to give up even if the image is still being downloaded.
    last: Instant,
}

impl MultipassProvider {
    pub(crate) async fn make(
        &self,
        machine: &Machine,
        work: &mut dyn Work,
    ) -> Result<Endpoints, ProviderError> {
        let argv = plan::launch(machine)?;
        plan::check_mounts(&machine.stack.mounts)?;
        let (end, last) = (Instant::now() + self.limits().settle, Instant::now() + self.limits().launch);
        let mut waiting = Waiting {
            provider: self,
            machine,
            argv: &argv,
            launch: None,
            end,
            launch_has_ended: false,
            last,
        };
        let up = waiting.instance(work).await;
        let (instance, ip) = up.map_err(|error| match work.recorded_resource(LAUNCH) {
            Some(_) => keep(error),
            None => error,
        })?;
        self.mount_all(machine, &instance, work).await?;
        UserDataFile::of(&self.settings().folder, &machine.id).end();
        Ok(self.made(ip))
    }

    async fn mount_all(
        &self,
        machine: &Machine,
        instance: &Instance,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        for mount in &machine.stack.mounts {
            if instance.mounted.contains(&mount.target) {
                continue;
            }
            self.mount(&instance.name, mount, work).await?;
        }
        Ok(())
    }

    pub(crate) async fn mount(
        &self,
        instance: &str,
        mount: &Mount,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        if work.interrupted() {
            return Err(ProviderError::Interrupted);
        }
        work.step(&format!("mounting {}", mount.source.display()));
        let target = format!("{instance}:{}", mount.target).into();
        let arguments = [mount.source.clone().into_os_string(), target];
        self.cli().call("mount", arguments, self.limits().copy).await?;
        Ok(())
    }
}

impl Waiting<'_> {
    fn name(&self) -> &str {
        self.machine.machine_name.as_str()
    }

    /// Waits until the machine is running and has an address; launches it if it doesn't exist.
    async fn instance(&mut self, work: &mut dyn Work) -> Result<(Instance, Ipv4Addr), ProviderError> {
        loop {
            let launching = self.launch_is_under_way()?;
            let seen = match self.provider.inspect(self.name(), &self.machine.id).await {
                // The daemon is busy with our request; the launch's result will tell.
                Err(ProviderError::Unavailable { .. }) if launching => Observed::Preparing,
                seen => seen?,
            };
            match seen {
                // The client exited after the query; the next iteration gets its error message.
                Observed::Absent if launching && self.launch.is_some() => {}
                Observed::Absent => self.begin(work).await?,
                Observed::Preparing if self.may_be_ours(work) && Instant::now() < self.last => {}
                Observed::Preparing if self.may_be_ours(work) => return Err(being_prepared(self.name())),
                Observed::Preparing => return Err(self.taken("it is being prepared")),
                Observed::There(instance) => {
                    if let Some(ip) = self.consider(&instance, launching, work).await? {
                        return Ok((instance, ip));
                    }
                }
            }
            self.provider.pause(work).await?;
        }
    }

    /// Checks whether one of our launches, from this create or an earlier one, is still waiting. Called before the
    /// instance is inspected, so that the observation isn't older than the launch's end.
    fn launch_is_under_way(&mut self) -> Result<bool, ProviderError> {
        let Some(launch) = &mut self.launch else {
            return self.provider.launch_client_lives(&self.machine.id);
        };
        let outcome = launch.outcome().map_err(|source| self.provider.cli().cannot_run(source))?;
        let launching = outcome.is_none();
        if !launching && !self.launch_has_ended {
            self.launch_has_ended = true;
            self.end = Instant::now() + self.provider.limits().settle;
        }
        Ok(launching)
    }

    /// There is no instance: launches it, or reports why a launch left none.
    async fn begin(&mut self, work: &mut dyn Work) -> Result<(), ProviderError> {
        if let Some(launch) = self.launch.take() {
            return Err(launch.into_failure().map_or_else(|| self.vanished(), Into::into));
        }
        self.refuse_primary().await?;
        work.record_resource(LAUNCH, self.name()).await?;
        if work.interrupted() {
            return Err(ProviderError::Interrupted);
        }
        work.step("launching the instance; Multipass downloads its image if needed");
        let user_data_file = UserDataFile::of(&self.provider.settings().folder, &self.machine.id);
        let user_data = user_data_file.begin(&self.machine.user_data)?;
        self.launch = Some(Launch::start(self.provider.cli(), self.argv, user_data)?);
        self.last = Instant::now() + self.provider.limits().launch;
        self.end = self.last;
        Ok(())
    }

    async fn refuse_primary(&self) -> Result<(), ProviderError> {
        let key = ["client.primary-name"];
        let said = self.provider.cli().call("get", key, self.provider.limits().answer).await;
        let primary = match &said {
            Ok(bytes) => Some(String::from_utf8_lossy(bytes).trim().to_owned()),
            Err(error) if error.out_of_reach() => return Err(said.map(drop).expect_err("it failed").into()),
            // Without this setting there is no primary instance.
            Err(_) => None,
        };
        plan::refuse_primary(&self.machine.machine_name, primary.as_deref())
    }

    /// Whether an instance that can't be inspected may be one we requested.
    fn may_be_ours(&self, work: &mut dyn Work) -> bool {
        self.launch.is_some()
            || work.recorded_resource(LAUNCH).is_some()
            || work.recorded_resource(RESOURCE).is_some()
    }

    /// Handles an existing instance. Returns its address if it is ours and up; `None` if the caller must keep waiting.
    async fn consider(
        &mut self,
        instance: &Instance,
        launching: bool,
        work: &mut dyn Work,
    ) -> Result<Option<Ipv4Addr>, ProviderError> {
        if !self.is_ours(instance, launching, work).await? {
            return self.wait_on(instance).map(|()| None);
        }
        work.record_resource(RESOURCE, self.name()).await?;
        match &instance.state {
            State::Running => match self.address(launching).await? {
                Some(ip) => Ok(Some(ip)),
                None => self.wait_on(instance).map(|()| None),
            },
            // The instance exists before it is started.
            _ if launching => self.wait_on(instance).map(|()| None),
            State::Stopped | State::Suspended => match self.launch.take().and_then(Launch::into_failure) {
                Some(error) => Err(error.into()),
                None => {
                    let Machine { id, name, machine_name, .. } = self.machine;
                    let vm = VmInstance { instance: machine_name.as_str(), name, id, ip: None };
                    self.provider.power_on(&vm, work).await.map(Some).map_err(keep_ours)
                }
            },
            State::Deleted => {
                Err(keep_ours(in_trash(self.name(), NextStep::Resume(self.machine.name.clone()))))
            }
            State::Unknown if self.launch_gave_up()? => Err(self.not_up(instance)),
            _ => self.wait_on(instance).map(|()| None),
        }
    }

    async fn address(&self, launching: bool) -> Result<Option<Ipv4Addr>, ProviderError> {
        match self.provider.address(self.name(), None).await {
            Ok(Address::Own(ip)) => Ok(Some(ip)),
            Ok(Address::NotYet | Address::GuestSilent) => Ok(None),
            // The daemon may be busy with a launch in progress.
            Err(error) if launching && error.out_of_reach() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns `false` while the owner is unknown and waiting may help.
    async fn is_ours(
        &mut self,
        instance: &Instance,
        launching: bool,
        work: &mut dyn Work,
    ) -> Result<bool, ProviderError> {
        if work.recorded_resource(RESOURCE).is_some() || self.launch_proves_it()? {
            return Ok(true);
        }
        match self.provider.ownership(instance, &self.machine.host_key).await {
            Ownership::Ours => Ok(true),
            // The user-data may not be written in the guest yet; the launch's end will tell.
            Ownership::Foreign if launching => Ok(false),
            Ownership::Foreign => Err(self.taken("the instance wasn't created by goloo")),
            Ownership::Untold if !self.may_be_ours(work) => {
                Err(self.taken("the owner of the instance is unknown"))
            }
            Ownership::Untold if launching || instance.state == State::Running || instance.state.passes() => {
                Ok(false)
            }
            Ownership::Untold => Err(self.untold(instance)),
        }
    }

    /// Whether the launch's result proves that it created the instance with this name.
    fn launch_proves_it(&mut self) -> Result<bool, ProviderError> {
        self.launch_ended_so(|outcome| match outcome {
            Ok(()) => true,
            Err(error) => error.refusal().is_some_and(Refusal::after_acceptance),
        })
    }

    /// Whether Multipass has stopped waiting for the instance, so that its state won't change anymore.
    fn launch_gave_up(&mut self) -> Result<bool, ProviderError> {
        self.launch_ended_so(|outcome| match outcome {
            Ok(()) => false,
            Err(error) => error.refusal().is_some_and(Refusal::gave_up),
        })
    }

    fn launch_ended_so(
        &mut self,
        so: impl Fn(&Result<(), CallError>) -> bool,
    ) -> Result<bool, ProviderError> {
        let Some(launch) = &mut self.launch else { return Ok(false) };
        let outcome = launch.outcome().map_err(|source| self.provider.cli().cannot_run(source))?;
        Ok(outcome.is_some_and(so))
    }

    /// Keeps waiting, unless it has taken too long.
    fn wait_on(&mut self, instance: &Instance) -> Result<(), ProviderError> {
        if Instant::now() < self.end { Ok(()) } else { Err(self.not_up(instance)) }
    }

    fn not_up(&mut self, instance: &Instance) -> ProviderError {
        let name = self.name();
        let (_, reason) = instance.state.live(name);
        let failure = self.launch.take().and_then(Launch::into_failure).map(|error| error.to_string());
        let why = failure.or(reason).map_or_else(String::new, |why| format!(": {why}"));
        let name = self.name();
        ProviderError::Unfinished {
            what: format!("the instance {name} exists but didn't start{why}"),
            hint: format!(
                "multipass info {name} --no-runtime-information shows its state; multipass stop --force {name} powers it off"
            ).into(),
        }
    }

    fn taken(&self, what: &str) -> ProviderError {
        let Machine { name, machine_name, .. } = self.machine;
        ProviderError::failed(
            format!("the name \"{machine_name}\" is already in use in Multipass: {what}"),
            NextStep::Adopt { name: name.clone(), provider: crate::info::INFO.id, id: None }
                .text(format!(", or another name: --as {}", name.second())),
        )
    }

    fn untold(&self, instance: &Instance) -> ProviderError {
        let name = self.name();
        let what = format!(
            "the instance {name} exists ({}), but it's unknown whether goloo launched it",
            state_word(&instance.state)
        );
        ProviderError::Unfinished { what, hint: hint_to_check_ownership(instance).into() }
    }

    fn vanished(&self) -> ProviderError {
        ProviderError::failed(
            format!("the instance {} was launched but no longer exists", self.name()),
            "check multipass list: someone may have deleted it",
        )
    }
}

/// How to get an instance into a state in which its user-data can be read.
pub(crate) fn hint_to_check_ownership(instance: &Instance) -> String {
    let name = &instance.name;
    match instance.state {
        State::Running => format!("multipass exec {name} -- true shows why its guest doesn't answer"),
        State::Deleted => {
            format!("multipass recover {name} and multipass start {name}, so that goloo can check it")
        }
        State::Stopped | State::Suspended => format!("multipass start {name}, so that goloo can check it"),
        _ => format!("multipass stop --force {name} and multipass start {name}, so that goloo can check it"),
    }
}

/// A daemon that is temporarily unreachable is no reason to undo the request.
fn keep(error: ProviderError) -> ProviderError {
    match error {
        ProviderError::Unavailable { what, hint } => ProviderError::Unfinished { what, hint },
        error => error,
    }
}

/// Neither is our own machine failing to start, or the user moving it to the trash.
fn keep_ours(error: ProviderError) -> ProviderError {
    match error {
        ProviderError::Failed { what, hint, .. } => ProviderError::Unfinished { what, hint },
        error => keep(error),
    }
}

pub(crate) fn state_word(state: &State) -> String {
    match state {
        State::Other(word) => word.clone(),
        state => format!("{state:?}").to_lowercase(),
    }
}

/// The image download takes longer than the wait.
pub(crate) fn being_prepared(name: &str) -> ProviderError {
    ProviderError::Unfinished {
        what: format!("Multipass is still preparing {name}"),
        hint: "wait until multipass list shows it".into(),
    }
}

/// The user moved it to the trash; only the user may recover it.
pub(crate) fn in_trash(name: &str, then: impl Into<Hint>) -> ProviderError {
    ProviderError::failed(
        format!("the instance {name} is in Multipass's trash"),
        Hint::from(format!("multipass recover {name}, then ")).hint(then.into()),
    )
}
