//! Provisions a machine again, as the last step of an apply: cloud-init takes another user-data, at a boot at which it
//! does everything that it does once for a machine. Whether that boot has happened is known to the machine, so that
//! nothing runs a third time after a crash.

use goloo_cloudinit::{BOOTED, TOOK_USER_DATA, reprovision_script};
use goloo_model::change::{Cost, Setting};
use goloo_model::events::Event;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::{OperationId, VmName};
use goloo_model::provider::ProviderError;
use goloo_model::record::{
    ApplyInputs, OperationKind, Phase, Provisioning, ProvisioningResult, Record, Reprovisioned, UserKeys,
};
use goloo_model::store::Snapshot;
use tokio::time::Instant;

use crate::create::phase_after;
use crate::engine::unfinished_apply;
use crate::error::EngineError;
use crate::guest_script;
use crate::provision;
use crate::verdict::Verdict;
use crate::work::LockedOperation;

/// What a machine is provisioned with again.
#[derive(Clone)]
pub struct Reprovision {
    /// The input of cloud-init. It may contain secrets.
    pub user_data: Vec<u8>,
    /// The stack's files that it was composed from.
    pub files: Snapshot,
    /// The users with their keys.
    pub users: Vec<UserKeys>,
}

impl std::fmt::Debug for Reprovision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reprovision({} bytes)", self.user_data.len())
    }
}

/// The token of an interrupted apply that was to provision the machine with the same files: what it has begun is
/// continued.
pub(super) fn token_of_same_reprovision(record: &Record, inputs: &ApplyInputs) -> Option<OperationId> {
    let interrupted = unfinished_apply(record)?.reprovision.as_ref()?;
    let is_same = inputs.reprovision.as_ref() == Some(interrupted);
    record.operation.as_ref().filter(|_| is_same).map(|operation| operation.token.clone())
}

pub(super) fn refuse_stopped(name: &VmName) -> EngineError {
    EngineError::Refused {
        what: format!("\"{name}\" is stopped, and can only be provisioned again while it is running"),
        hint: NextStep::Start(name.clone()).into(),
    }
}

impl LockedOperation<'_, '_> {
    /// Provisions the machine again if this apply is to, and returns the result.
    pub(super) async fn provision_again(
        &mut self,
        done: &mut Vec<Setting>,
        with: Option<&Reprovision>,
        deadline: Instant,
    ) -> Result<Option<Verdict>, EngineError> {
        let Some(wanted) = self.inputs().reprovision.clone() else { return Ok(None) };
        let with = with.filter(|with| with.files.digest() == wanted).ok_or_else(|| self.changed_files())?;
        // An apply that was killed may have stopped it.
        if !self.is_running().await? {
            self.start_unreached().await?;
        }
        // What an earlier boot has begun is left to finish.
        let current = self.await_verdict(deadline).await?;
        if !current.is_reported {
            return self.no_verdict(&current, deadline).await;
        }
        let verdict = match self.prepare(with).await? {
            Prepared::Booted => current,
            Prepared::Now => {
                self.end_machine().await?;
                self.start_unreached().await?;
                self.await_verdict(deadline).await?
            }
        };
        if verdict.is_reported {
            let took = guest_script::run(self.engine, &self.record, TOOK_USER_DATA, &[])
                .await
                .map_err(|_| ignored());
            self.unless_failed(took).await?;
        }
        self.note_provisioned(with, &verdict, done).await?;
        Ok(Some(verdict))
    }

    async fn await_verdict(&self, deadline: Instant) -> Result<Verdict, EngineError> {
        let verdict = provision::verdict(self.engine, &self.record, deadline).await;
        verdict.ok_or_else(|| self.midway(OperationKind::Apply, ProviderError::Interrupted))
    }

    /// Without an answer in time there may be one later; any other reason stays.
    async fn no_verdict<T>(&mut self, verdict: &Verdict, deadline: Instant) -> Result<T, EngineError> {
        let reason = verdict.errors.first().cloned().unwrap_or_default();
        if Instant::now() >= deadline {
            return Err(EngineError::NoAnswer { name: self.record.name.clone(), reason });
        }
        let what = format!("the machine can't be provisioned again: {reason}");
        self.unless_failed(Err(ProviderError::failed(what, Hint::default()))).await
    }

    /// Prepares the machine for its next boot. From here on the result of its provisioning is unknown.
    async fn prepare(&mut self, with: &Reprovision) -> Result<Prepared, EngineError> {
        let token = self.record.operation.as_ref().expect("it is in progress").token.clone();
        let before = (self.record.phase, self.record.provisioning.clone());
        self.record.phase = Phase::Degraded;
        self.record.provisioning = Some(Provisioning {
            result: ProvisioningResult::Unknown,
            finished_at: None,
            errors: Vec::new(),
            extra: serde_json::Map::new(),
        });
        self.save_result().await?;
        self.engine.events.event(Event::Step { what: "giving cloud-init the new configuration".to_owned() });
        let script = reprovision_script(&token, &with.user_data);
        match guest_script::run(self.engine, &self.record, &script, &with.user_data).await {
            Ok(said) if said.contains(BOOTED) => Ok(Prepared::Booted),
            Ok(_) => Ok(Prepared::Now),
            Err(error) => {
                (self.record.phase, self.record.provisioning) = before;
                self.unless_failed(Err(error)).await
            }
        }
    }

    /// Saves the result, and what the machine was provisioned with, at once.
    async fn note_provisioned(
        &mut self,
        with: &Reprovision,
        verdict: &Verdict,
        done: &mut Vec<Setting>,
    ) -> Result<(), EngineError> {
        let is_of_documents = |setting: &Setting| self.cost(*setting) == Cost::Reprovision;
        let (made, left) = self.inputs().settings.iter().partition(|setting| is_of_documents(setting));
        let files = with.files.digest();
        let overrides = self.inputs().overrides.clone();
        let login_user = self.inputs().login_user.clone();
        self.record.ssh.iter_mut().for_each(|ssh| ssh.user.clone_from(&login_user));
        self.record.user_keys = Some(UserKeys::digest(&with.users));
        verdict.save_to(&mut self.record);
        self.record.phase = phase_after(self.record.provisioning.as_ref());
        self.record.applied_config = None;
        self.record.reprovisioned =
            Some(Reprovisioned { files: files.clone(), overrides, extra: serde_json::Map::new() });
        if self.is_ours {
            self.record.prove(self.engine.here, files);
        }
        if let Some(apply) = self.record.operation.as_mut().and_then(|operation| operation.apply.as_mut()) {
            apply.settings = left;
            apply.reprovision = None;
        }
        done.extend::<Vec<Setting>>(made);
        self.save_result_with(&with.files).await
    }

    fn changed_files(&self) -> EngineError {
        let name = &self.record.name;
        EngineError::Refused {
            what: format!(
                "the stack of \"{name}\" has changed since \"{name}\" began to be provisioned again"
            ),
            hint: NextStep::Reprovision(name.clone()).text(" provisions it with the stack as it is now"),
        }
    }
}

/// Whether the machine must boot.
enum Prepared {
    Now,
    /// It has booted since it was prepared.
    Booted,
}

fn ignored() -> ProviderError {
    ProviderError::failed(
        "cloud-init in this machine didn't take the new configuration, and ran the old one again",
        Hint::from("create a new VM"),
    )
}
