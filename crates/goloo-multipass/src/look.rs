//! Looking at one instance, for an operation. States are asked for without asking guests: see [`crate::address`].

use std::time::Instant;

use goloo_core::name::VmId;
use goloo_core::provider::{ProviderError, Work};

use crate::errors::{CallError, Refusal};
use crate::handover::Handover;
use crate::json::{self, Instance};
use crate::power::VmInstance;
use crate::provider::MultipassProvider;

const INFO: &str = "info";
const WITHOUT_GUESTS: [&str; 3] = ["--no-runtime-information", "--format", "json"];

/// What there is under a name.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Nothing, and nothing is being made.
    Absent,
    /// Nothing yet: a client of ours is about to ask for it, or Multipass is preparing it.
    UnderWay,
    /// An instance, perhaps in the trash.
    There(Instance),
}

impl MultipassProvider {
    /// What Multipass knows of an instance; `None` when there is none (or none yet).
    pub(crate) async fn info(&self, name: &str) -> Result<Option<Instance>, CallError> {
        one(self.cli().call(INFO, info_arguments(name), self.limits().answer).await, name)
    }

    /// The same for an operation that must get through to a daemon that is busy.
    pub(crate) async fn info_when_free(
        &self,
        name: &str,
        work: &mut dyn Work,
    ) -> Result<Option<Instance>, ProviderError> {
        let said = self.cli().call_when_free(INFO, info_arguments(name), self.limits(), work).await?;
        Ok(one(said, name)?)
    }

    /// All instances, those in the trash too.
    pub(crate) async fn instances(&self) -> Result<Vec<Instance>, CallError> {
        let bytes = self.cli().call(INFO, WITHOUT_GUESTS, self.limits().answer).await?;
        json::instances(&bytes).map_err(|source| CallError::Unreadable { command: INFO, source })
    }

    /// What there is under this name, with what is under way. The order of the questions matters: each
    /// answer is of a moment before the next one's.
    pub(crate) async fn look(&self, name: &str, id: &VmId) -> Result<Seen, ProviderError> {
        let client_lives = self.launch_client_lives(id)?;
        if let Some(instance) = self.info(name).await? {
            return Ok(Seen::There(instance));
        }
        if client_lives {
            return Ok(Seen::UnderWay);
        }
        match self.is_being_prepared(name).await? {
            Some(true) => Ok(Seen::UnderWay),
            Some(false) => Ok(Seen::Absent),
            None => Ok(self.info(name).await?.map_or(Seen::Absent, Seen::There)),
        }
    }

    /// Whether Multipass is preparing an instance of this name, which neither `list` nor `info` shows. The
    /// settings of a snapshot that isn't there are asked for: a question that changes nothing and whose
    /// refusal tells. `None` when it tells something else.
    async fn is_being_prepared(&self, name: &str) -> Result<Option<bool>, CallError> {
        let key = format!("local.{name}.goloo.name");
        match self.cli().call("get", [key], self.limits().answer).await {
            Err(error) if error.refusal() == Some(&Refusal::BeingPrepared) => Ok(Some(true)),
            Err(error) if error.refusal() == Some(&Refusal::Missing) => Ok(Some(false)),
            Err(error) if error.out_of_reach() || error.permission() => Err(error),
            _ => Ok(None),
        }
    }

    /// Waits until nothing under this name is on its way to be something else, or until `end`: then what
    /// was seen last. An instance that no client of ours waits for has less time.
    pub(crate) async fn settled(
        &self,
        name: &str,
        id: &VmId,
        end: Instant,
        work: &mut dyn Work,
    ) -> Result<Seen, ProviderError> {
        let mut alone_since = None;
        loop {
            let client_lives = self.launch_client_lives(id)?;
            let seen = self.look(name, id).await?;
            let passes = match &seen {
                Seen::UnderWay => true,
                Seen::There(instance) if instance.state.passes() && !client_lives => {
                    alone_since.get_or_insert_with(Instant::now).elapsed() < self.limits().settle
                }
                Seen::There(instance) => instance.state.passes(),
                Seen::Absent => false,
            };
            if !passes || Instant::now() >= end {
                return Ok(seen);
            }
            self.pause(work).await?;
        }
    }

    /// Waits until no client of a launch lives any more. A start beside one never comes to its end, and a restore
    /// ends the daemon.
    pub(crate) async fn wait_for_launch_end(
        &self,
        vm: &VmInstance<'_>,
        work: Option<&mut dyn Work>,
    ) -> Result<(), ProviderError> {
        if self.launch_ends(vm, work).await? {
            return Ok(());
        }
        Err(ProviderError::failed(
            format!("the launch of {} isn't over yet", vm.instance),
            format!("wait until Multipass has ended it, or goloo stop --force {}", vm.name),
        ))
    }

    /// The same; `false` when it lasts longer than Multipass lets it last.
    pub(crate) async fn launch_ends(
        &self,
        vm: &VmInstance<'_>,
        mut work: Option<&mut dyn Work>,
    ) -> Result<bool, ProviderError> {
        let limit = self.limits().launched;
        let limit = work.as_ref().map_or(limit, |work| work.time_left(limit));
        let end = Instant::now() + limit;
        let mut is_said = false;
        while self.launch_client_lives(vm.id)? {
            if Instant::now() >= end {
                return Ok(false);
            }
            match &mut work {
                Some(work) => {
                    if !std::mem::replace(&mut is_said, true) {
                        work.step(
                            "waiting until Multipass ends the launch, which lasts as long as cloud-init does",
                        );
                    }
                    self.pause(*work).await?;
                }
                None => tokio::time::sleep(self.limits().poll).await,
            }
        }
        Handover::of(&self.settings().folder, vm.id).end();
        Ok(true)
    }

    /// Whether a client lives that asked for this VM's instance, or may yet ask.
    pub(crate) fn launch_client_lives(&self, id: &VmId) -> Result<bool, ProviderError> {
        let handover = Handover::of(&self.settings().folder, id);
        handover.is_under_way().map_err(|error| unreadable(&handover, error))
    }

    /// Waits a moment, unless the user wants to stop.
    pub(crate) async fn pause(&self, work: &mut dyn Work) -> Result<(), ProviderError> {
        tokio::select! {
            () = work.interruption() => Err(ProviderError::Interrupted),
            () = tokio::time::sleep(self.limits().poll) => Ok(()),
        }
    }
}

fn info_arguments(name: &str) -> impl Iterator<Item = &str> {
    std::iter::once(name).chain(WITHOUT_GUESTS)
}

fn one(said: Result<Vec<u8>, CallError>, name: &str) -> Result<Option<Instance>, CallError> {
    let bytes = match said {
        Err(error) if error.refusal() == Some(&Refusal::Missing) => return Ok(None),
        said => said?,
    };
    let instances = json::instances(&bytes);
    let instances = instances.map_err(|source| CallError::Unreadable { command: INFO, source })?;
    Ok(instances.into_iter().find(|instance| instance.name == name))
}

fn unreadable(handover: &Handover, error: std::io::Error) -> ProviderError {
    ProviderError::caused(
        format!("{} can't be read", handover.path().display()),
        "look at its permissions",
        error,
    )
}
