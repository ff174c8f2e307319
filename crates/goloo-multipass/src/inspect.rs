//! Inspects one instance for an operation. States are queried without contacting guests: see [`crate::address`].

use std::time::Instant;

use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::VmId;
use goloo_model::provider::{ProviderError, Work};

use crate::context::MultipassProvider;
use crate::errors::{CallError, Refusal};
use crate::json::{self, Instance};
use crate::user_data_file::UserDataFile;
use crate::vm_instance::VmInstance;

const INFO: &str = "info";
const WITHOUT_GUESTS: [&str; 3] = ["--no-runtime-information", "--format", "json"];

/// What exists under a name.
#[derive(Debug)]
pub(crate) enum Observed {
    /// Nothing exists, and nothing is being created.
    Absent,
    /// Nothing exists yet: one of our clients is about to request it, or Multipass is preparing it.
    Preparing,
    /// An instance exists, perhaps in the trash.
    There(Instance),
}

impl MultipassProvider {
    /// What Multipass knows about an instance; `None` if it doesn't exist (yet).
    pub(crate) async fn info(&self, name: &str) -> Result<Option<Instance>, CallError> {
        one(self.cli().call(INFO, info_arguments(name), self.limits().answer).await, name)
    }

    /// Like [`Self::info`], for an operation that must get through to a busy daemon.
    pub(crate) async fn info_when_free(
        &self,
        name: &str,
        work: &mut dyn Work,
    ) -> Result<Option<Instance>, ProviderError> {
        let said = self.cli().call_when_free(INFO, info_arguments(name), self.limits(), work).await?;
        Ok(one(said, name)?)
    }

    /// All instances, including those in the trash.
    pub(crate) async fn instances(&self) -> Result<Vec<Instance>, CallError> {
        let bytes = self.cli().call(INFO, WITHOUT_GUESTS, self.limits().answer).await?;
        json::instances(&bytes).map_err(|source| CallError::Unreadable { command: INFO, source })
    }

    /// The state under this name, including operations in progress. The order of the queries matters: each response
    /// describes an earlier moment than the next one.
    pub(crate) async fn inspect(&self, name: &str, id: &VmId) -> Result<Observed, ProviderError> {
        let client_lives = self.launch_client_lives(id)?;
        if let Some(instance) = self.info(name).await? {
            return Ok(Observed::There(instance));
        }
        if client_lives {
            return Ok(Observed::Preparing);
        }
        match self.is_being_prepared(name).await? {
            Some(true) => Ok(Observed::Preparing),
            Some(false) => Ok(Observed::Absent),
            None => Ok(self.info(name).await?.map_or(Observed::Absent, Observed::There)),
        }
    }

    /// Whether Multipass is preparing an instance with this name, which neither `list` nor `info` shows. Queries a
    /// setting of a nonexistent snapshot, which changes nothing and is refused with a telling error. `None` if the
    /// error says something else.
    async fn is_being_prepared(&self, name: &str) -> Result<Option<bool>, CallError> {
        let key = format!("local.{name}.goloo.name");
        match self.cli().call("get", [key], self.limits().answer).await {
            Err(error) if error.refusal() == Some(&Refusal::BeingPrepared) => Ok(Some(true)),
            Err(error) if error.refusal() == Some(&Refusal::Missing) => Ok(Some(false)),
            Err(error) if error.out_of_reach() || error.permission() => Err(error),
            _ => Ok(None),
        }
    }

    /// Waits until the state under this name is settled, or until `end`, and returns the last observation. An instance
    /// that no client of ours is waiting for gets less time.
    pub(crate) async fn settled(
        &self,
        name: &str,
        id: &VmId,
        end: Instant,
        work: &mut dyn Work,
    ) -> Result<Observed, ProviderError> {
        let mut alone_since = None;
        loop {
            let client_lives = self.launch_client_lives(id)?;
            let seen = self.inspect(name, id).await?;
            let passes = match &seen {
                Observed::Preparing => true,
                Observed::There(instance) if instance.state.passes() && !client_lives => {
                    alone_since.get_or_insert_with(Instant::now).elapsed() < self.limits().settle
                }
                Observed::There(instance) => instance.state.passes(),
                Observed::Absent => false,
            };
            if !passes || Instant::now() >= end {
                return Ok(seen);
            }
            self.pause(work).await?;
        }
    }

    /// Waits until no launch client is alive. A start during a launch never completes, and a restore crashes the
    /// daemon.
    pub(crate) async fn wait_for_launch_end(
        &self,
        vm: &VmInstance<'_>,
        work: Option<&mut dyn Work>,
    ) -> Result<(), ProviderError> {
        if self.launch_ends(vm, work).await? {
            return Ok(());
        }
        Err(ProviderError::failed(
            format!("the launch of {} hasn't finished", vm.instance),
            Hint::from("wait until it finishes, or run ").step(NextStep::force_stop(vm.name)),
        ))
    }

    /// Like [`Self::wait_for_launch_end`], but returns `false` if it takes longer than Multipass allows.
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
                            "waiting for Multipass to finish the launch, which takes as long as cloud-init",
                        );
                    }
                    self.pause(*work).await?;
                }
                None => tokio::time::sleep(self.limits().poll).await,
            }
        }
        UserDataFile::of(&self.settings().folder, vm.id).end();
        Ok(true)
    }

    /// Whether a client is alive that has requested this VM's instance, or may yet request it.
    pub(crate) fn launch_client_lives(&self, id: &VmId) -> Result<bool, ProviderError> {
        let user_data_file = UserDataFile::of(&self.settings().folder, id);
        user_data_file.is_under_way().map_err(|error| unreadable(&user_data_file, error))
    }

    /// Waits a moment, unless the user interrupts.
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

fn unreadable(user_data_file: &UserDataFile, error: std::io::Error) -> ProviderError {
    ProviderError::caused(
        format!("{} can't be read", user_data_file.path().display()),
        "check its permissions",
        error,
    )
}
