//! Create: launch an instance, or find the one that an earlier try launched.
//!
//! What the launch's client says is never the answer: a launch that "failed" may have left a machine that
//! is up, and one that was killed goes on in the daemon. The answer is what `info` shows, together with
//! the evidence in the machine that it is this one.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::time::Instant;

use goloo_core::provider::{Machine, Made, ProviderError, Work};

use crate::address::Address;
use crate::errors::{CallError, Refusal};
use crate::evidence::Evidence;
use crate::handover::Handover;
use crate::json::{Instance, State};
use crate::launch::Launch;
use crate::look::Seen;
use crate::plan;
use crate::power::VmInstance;
use crate::provider::{LAUNCH, MultipassProvider, RESOURCE};

/// One create, while it waits for its instance.
struct Waiting<'a> {
    provider: &'a MultipassProvider,
    machine: &'a Machine,
    argv: &'a [OsString],
    launch: Option<Launch>,
    /// When it is given up; later once a launch is under way, and set anew when that is seen to have
    /// ended.
    end: Instant,
    launch_has_ended: bool,
    /// When even an image that is still being fetched isn't waited for any more.
    last: Instant,
}

impl MultipassProvider {
    pub(crate) async fn make(&self, machine: &Machine, work: &mut dyn Work) -> Result<Made, ProviderError> {
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
        let (instance, ip) = up.map_err(|error| match work.noted(LAUNCH) {
            Some(_) => keep(error),
            None => error,
        })?;
        self.mount_all(machine, &instance, work).await?;
        Handover::of(&self.settings().folder, &machine.id).end();
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
            if work.interrupted() {
                return Err(ProviderError::Interrupted);
            }
            work.step(&format!("mounting {}", mount.source.display()));
            let target = format!("{}:{}", instance.name, mount.target).into();
            let arguments = [mount.source.clone().into_os_string(), target];
            self.cli().call("mount", arguments, self.limits().copy).await?;
        }
        Ok(())
    }
}

impl Waiting<'_> {
    fn name(&self) -> &str {
        self.machine.name.as_str()
    }

    /// Waits until the machine runs and has an address; makes it, when there is none.
    async fn instance(&mut self, work: &mut dyn Work) -> Result<(Instance, Ipv4Addr), ProviderError> {
        loop {
            let under_way = self.launch_is_under_way()?;
            let seen = match self.provider.look(self.name(), &self.machine.id).await {
                // The daemon is busy with what we asked for; the launch will tell.
                Err(ProviderError::Unavailable { .. }) if under_way => Seen::UnderWay,
                seen => seen?,
            };
            match seen {
                Seen::Absent => self.begin(work).await?,
                Seen::UnderWay if self.may_be_ours(work) && Instant::now() < self.last => {}
                Seen::UnderWay if self.may_be_ours(work) => return Err(being_prepared(self.name())),
                Seen::UnderWay => return Err(self.taken("an instance of this name is being prepared")),
                Seen::There(instance) => {
                    if let Some(ip) = self.consider(&instance, under_way, work).await? {
                        return Ok((instance, ip));
                    }
                }
            }
            self.provider.pause(work).await?;
        }
    }

    /// Looks whether a launch of ours is still waiting, this create's or an earlier one's; called before the instance
    /// is looked at, so that what is seen then is not older than the launch's end.
    fn launch_is_under_way(&mut self) -> Result<bool, ProviderError> {
        let Some(launch) = &mut self.launch else {
            return self.provider.launch_client_lives(&self.machine.id);
        };
        let outcome = launch.outcome().map_err(|source| self.provider.cli().cannot_run(source))?;
        let under_way = outcome.is_none();
        if !under_way && !self.launch_has_ended {
            self.launch_has_ended = true;
            self.end = Instant::now() + self.provider.limits().settle;
        }
        Ok(under_way)
    }

    /// There is nothing: launches it, or says why a launch left nothing.
    async fn begin(&mut self, work: &mut dyn Work) -> Result<(), ProviderError> {
        if let Some(launch) = self.launch.take() {
            return Err(launch.into_failure().map_or_else(|| self.vanished(), Into::into));
        }
        self.refuse_primary().await?;
        work.made(LAUNCH, self.name()).await?;
        if work.interrupted() {
            return Err(ProviderError::Interrupted);
        }
        work.step("launching the instance; Multipass fetches its image when it must");
        let handover = Handover::of(&self.provider.settings().folder, &self.machine.id);
        let user_data = handover.begin(&self.machine.user_data)?;
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
            // Without such a setting there is no primary instance.
            Err(_) => None,
        };
        plan::refuse_primary(&self.machine.name, primary.as_deref())
    }

    /// Whether an instance that can't be looked into may be one that we asked for.
    fn may_be_ours(&self, work: &mut dyn Work) -> bool {
        self.launch.is_some() || work.noted(LAUNCH).is_some() || work.noted(RESOURCE).is_some()
    }

    /// An instance is there. Gives its address when it is ours and up; `None` while it must be waited for.
    async fn consider(
        &mut self,
        instance: &Instance,
        under_way: bool,
        work: &mut dyn Work,
    ) -> Result<Option<Ipv4Addr>, ProviderError> {
        if !self.is_ours(instance, under_way, work).await? {
            return self.wait_on(instance).map(|()| None);
        }
        work.made(RESOURCE, self.name()).await?;
        match &instance.state {
            State::Running => match self.address(under_way).await? {
                Some(ip) => Ok(Some(ip)),
                None => self.wait_on(instance).map(|()| None),
            },
            // It is there before it is started.
            _ if under_way => self.wait_on(instance).map(|()| None),
            State::Stopped | State::Suspended => match self.launch.take().and_then(Launch::into_failure) {
                Some(error) => Err(error.into()),
                None => {
                    let Machine { id, name, .. } = self.machine;
                    let vm = VmInstance { instance: name.as_str(), name, id, ip: None };
                    self.provider.power_on(&vm, work).await.map(Some).map_err(keep_ours)
                }
            },
            State::Deleted => Err(keep_ours(in_trash(self.name(), &format!("goloo resume {}", self.name())))),
            State::Unknown if self.launch_gave_up()? => Err(self.not_up(instance)),
            _ => self.wait_on(instance).map(|()| None),
        }
    }

    async fn address(&self, under_way: bool) -> Result<Option<Ipv4Addr>, ProviderError> {
        match self.provider.address(self.name(), None).await {
            Ok(Address::Own(ip)) => Ok(Some(ip)),
            Ok(Address::NotYet | Address::GuestSilent) => Ok(None),
            // The daemon may be busy with a launch that is still under way.
            Err(error) if under_way && error.out_of_reach() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// `false` while it can't be told and is worth waiting for.
    async fn is_ours(
        &mut self,
        instance: &Instance,
        under_way: bool,
        work: &mut dyn Work,
    ) -> Result<bool, ProviderError> {
        if work.noted(RESOURCE).is_some() || self.launch_proves_it()? {
            return Ok(true);
        }
        match self.provider.evidence(instance, &self.machine.host_key).await {
            Evidence::Ours => Ok(true),
            // It may not be written down in the guest yet; the launch's end will tell.
            Evidence::Foreign if under_way => Ok(false),
            Evidence::Foreign => {
                Err(self.taken("an instance of this name is there, and goloo didn't make it"))
            }
            Evidence::Untold if !self.may_be_ours(work) => {
                Err(self.taken("an instance of this name is there already"))
            }
            Evidence::Untold if under_way || instance.state == State::Running || instance.state.passes() => {
                Ok(false)
            }
            Evidence::Untold => Err(self.untold(instance)),
        }
    }

    /// Whether the launch's end shows that the instance of this name is the one that it made.
    fn launch_proves_it(&mut self) -> Result<bool, ProviderError> {
        self.launch_ended_so(|outcome| match outcome {
            Ok(()) => true,
            Err(error) => error.refusal().is_some_and(Refusal::after_acceptance),
        })
    }

    /// Whether Multipass waits for the instance no longer, so that its state stays what it is.
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

    /// Goes on waiting, unless it has lasted too long.
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
            what: format!("the instance {name} is there and hasn't come up{why}"),
            hint: format!(
                "multipass info {name} --no-runtime-information shows its state; multipass stop --force {name} powers it off"
            ),
        }
    }

    fn taken(&self, what: &str) -> ProviderError {
        let name = self.name();
        ProviderError::failed(
            format!("the name \"{name}\" is taken at Multipass: {what}"),
            format!("goloo adopt {name} --provider multipass, or another name: --as {name}-2"),
        )
    }

    fn untold(&self, instance: &Instance) -> ProviderError {
        let name = self.name();
        let what = format!(
            "an instance {name} is there ({}), and it can't be told whether it is the one that goloo launched",
            state_word(&instance.state)
        );
        ProviderError::Unfinished { what, hint: hint_to_check_ownership(instance) }
    }

    fn vanished(&self) -> ProviderError {
        ProviderError::failed(
            format!("the instance {} was launched and is gone again", self.name()),
            "someone may have deleted it: multipass list",
        )
    }
}

/// How an instance comes to a state in which its user-data can be read.
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

/// A daemon that is out of reach for a moment is no reason to undo what it was asked for.
fn keep(error: ProviderError) -> ProviderError {
    match error {
        ProviderError::Unavailable { what, hint } => ProviderError::Unfinished { what, hint },
        error => error,
    }
}

/// Nor is a machine of ours that doesn't come up, or that the user threw away.
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

/// An image is fetched for longer than anybody waits.
pub(crate) fn being_prepared(name: &str) -> ProviderError {
    ProviderError::Unfinished {
        what: format!("Multipass is still preparing {name}"),
        hint: "wait until multipass list shows it".to_owned(),
    }
}

/// The user threw it away; only the user gets it out again.
pub(crate) fn in_trash(name: &str, then: &str) -> ProviderError {
    ProviderError::failed(
        format!("the instance {name} is in Multipass's trash"),
        format!("multipass recover {name}, then {then}"),
    )
}
