//! Looking at one instance, for an operation.

use std::time::Instant;

use goloo_core::name::VmId;
use goloo_core::provider::{ProviderError, Work};

use crate::errors::{CallError, Refusal};
use crate::handover::Handover;
use crate::json::{self, Instance};
use crate::provider::MultipassProvider;

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
    /// What `info` says of an instance; `None` when there is none (or none yet).
    pub(crate) async fn info(&self, name: &str) -> Result<Option<Instance>, CallError> {
        const INFO: &str = "info";
        let said = self.cli().call(INFO, [name, "--format", "json"], self.limits().answer).await;
        match said {
            Ok(bytes) => {
                json::info(&bytes, name).map_err(|source| CallError::Unreadable { command: INFO, source })
            }
            Err(error) if error.refusal() == Some(&Refusal::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All instances, those in the trash too.
    pub(crate) async fn list(&self) -> Result<Vec<Instance>, CallError> {
        const LIST: &str = "list";
        let bytes = self.cli().call(LIST, ["--format", "json"], self.limits().answer).await?;
        json::list(&bytes).map_err(|source| CallError::Unreadable { command: LIST, source })
    }

    /// What there is under this name, with what is under way. The order of the questions matters: each
    /// answer is of a moment before the next one's.
    pub(crate) async fn look(&self, name: &str, id: &VmId) -> Result<Seen, ProviderError> {
        let handover = Handover::of(&self.settings().folder, id);
        let client_lives = handover.is_under_way().map_err(|error| unreadable(&handover, error))?;
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
        let said = self.cli().call("get", [key], self.limits().answer).await;
        match said.as_ref().map_err(CallError::refusal) {
            Err(Some(Refusal::BeingPrepared)) => Ok(Some(true)),
            Err(Some(Refusal::Missing)) => Ok(Some(false)),
            Err(Some(Refusal::DaemonDown) | None) => Err(said.expect_err("it was an error")),
            _ => Ok(None),
        }
    }

    /// Waits until nothing under this name is on its way to be something else, or until `end`: then what
    /// was seen last.
    pub(crate) async fn settled(
        &self,
        name: &str,
        id: &VmId,
        end: Instant,
        work: &mut dyn Work,
    ) -> Result<Seen, ProviderError> {
        loop {
            let seen = self.look(name, id).await?;
            let passes = match &seen {
                Seen::UnderWay => true,
                Seen::There(instance) => instance.state.passes(),
                Seen::Absent => false,
            };
            if !passes || Instant::now() >= end {
                return Ok(seen);
            }
            self.pause(work).await?;
        }
    }

    /// Waits a moment, unless the user wants to stop.
    pub(crate) async fn pause(&self, work: &mut dyn Work) -> Result<(), ProviderError> {
        tokio::select! {
            () = work.interruption() => Err(ProviderError::Interrupted),
            () = tokio::time::sleep(self.limits().poll) => Ok(()),
        }
    }
}

fn unreadable(handover: &Handover, error: std::io::Error) -> ProviderError {
    ProviderError::caused(
        format!("{} can't be read", handover.path().display()),
        "look at its permissions",
        error,
    )
}
