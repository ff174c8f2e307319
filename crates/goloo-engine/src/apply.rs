//! Apply: changes a VM to what its stack says. Steps in an order that leaves a working machine after each; what is done
//! is saved before the next begins, and the same steps continue after a crash.

use std::collections::BTreeSet;

use goloo_cloudinit::{GuestUpdate, UsersUpdate, update_script};
use goloo_model::access::LoginName;
use goloo_model::change::{Cost, Setting};
use goloo_model::events::Event;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::provider::{ChangeTime, Endpoints, LiveState, MachineChange, ProviderError, StopMode};
use goloo_model::record::{ApplyInputs, OperationKind, Outcome, Record, RecordedStack, UserKeys, Word};
use goloo_model::time::Timestamp;
use tokio::time::Instant;

use super::work::{LockedOperation, leaves_work};
use crate::engine::{Engine, changed_meanwhile, unfinished_apply};
use crate::error::EngineError;
use crate::guest_script;
use crate::reprovision::{Reprovision, refuse_stopped, token_of_same_reprovision};
use crate::verdict::Verdict;

/// What is to be changed, as planned and agreed to.
#[derive(Debug)]
pub struct ApplyRequest {
    /// The record that the plan is based on.
    pub record: Record,
    /// What the VM has, if its record doesn't say it.
    pub had: RecordedStack,
    /// What is to be changed.
    pub inputs: ApplyInputs,
}

/// What an apply needs to change the system in the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct GuestInputs<'a> {
    /// goloo's own public key.
    pub client_key: &'a str,
    /// What the machine is provisioned with again, if it is.
    pub reprovision: Option<&'a Reprovision>,
}

/// The result of an apply.
#[derive(Debug)]
pub struct Applied {
    /// The record as it was last saved.
    pub record: Record,
    /// What was changed.
    pub done: Vec<Setting>,
    /// What will be so at the machine's next start.
    pub pending: Vec<Setting>,
    /// What wasn't changed, since it takes a running machine or a restart.
    pub left: Vec<Setting>,
    /// The result of provisioning again, if that was done.
    pub verdict: Option<Verdict>,
}

impl Engine<'_> {
    /// Changes a VM. An interrupted apply is replaced by this one: the record says what it has done.
    pub async fn apply(&self, request: ApplyRequest, guest: GuestInputs<'_>) -> Result<Applied, EngineError> {
        let name = &request.record.name;
        let deadline = self.deadline();
        let mut locked = self.take(name).await?;
        if unfinished_apply(&locked.record).is_none() {
            crate::engine::refuse_unfinished(&locked.record)?;
        }
        if !locked.record.is_same_vm(&self.as_taken(&request.record)) {
            return Err(changed_meanwhile(name));
        }
        locked.limits.deadline = Some(deadline);
        locked.record.resolved.get_or_insert_with(|| Box::new(request.had));
        // An apply that was killed may have stopped it.
        let was_running = unfinished_apply(&locked.record).is_some_and(|inputs| inputs.running);
        let running = was_running || locked.is_running().await?;
        let inputs = ApplyInputs { running, ..request.inputs };
        if inputs.reprovision.is_some() && !running {
            return Err(refuse_stopped(name));
        }
        let mut operation = self.operation(OperationKind::Apply);
        if let Some(token) = token_of_same_reprovision(&locked.record, &inputs) {
            operation.token = token;
        }
        operation.apply = Some(Box::new(inputs));
        locked.record.begin(operation);
        locked.save_intent().await?;
        locked.change(guest, deadline).await
    }
}

impl LockedOperation<'_, '_> {
    /// From the durable intent to the durable result; also what `resume` continues.
    pub(super) async fn change(
        &mut self,
        guest: GuestInputs<'_>,
        deadline: Instant,
    ) -> Result<Applied, EngineError> {
        let mut run = Run { done: Vec::new(), pending: Vec::new() };
        let before = self.record.resolved.as_deref().cloned();
        self.make_now(&mut run).await?;
        self.make_with_restart(&mut run, deadline).await?;
        self.make_in_guest(&mut run, before.as_ref(), guest.client_key, deadline).await?;
        let verdict = self.provision_again(&mut run.done, guest.reprovision, deadline).await?;
        self.finish_apply(run, verdict).await
    }

    pub(super) async fn is_running(&self) -> Result<bool, EngineError> {
        let observed = self.engine.provider.observe(&[&self.record]).await;
        let observed = observed.into_iter().next();
        let unknown = |reason: &str| {
            let name = &self.record.name;
            EngineError::Refused {
                what: format!("the state of \"{name}\" is unknown: {reason}"),
                hint: NextStep::Status(name.clone()).into(),
            }
        };
        match observed.map(|observed| (observed.state, observed.reason)) {
            Some((LiveState::Running, _)) => Ok(true),
            Some((LiveState::Stopped | LiveState::Suspended, _)) => Ok(false),
            Some((LiveState::Missing, _)) => Err(unknown("its machine doesn't exist")),
            Some((LiveState::Unknown, reason)) => Err(unknown(&reason.unwrap_or_default())),
            None => Err(unknown("its provider gave no answer")),
        }
    }

    pub(super) fn inputs(&self) -> &ApplyInputs {
        unfinished_apply(&self.record).expect("an apply has its inputs")
    }

    pub(super) fn cost(&self, setting: Setting) -> Cost {
        let costs = &self.engine.provider.info().changes;
        costs.of(
            setting,
            self.record.resolved.as_deref().unwrap_or(&self.inputs().target),
            &self.inputs().target,
        )
    }

    /// What is left to be changed at this cost, by the provider.
    fn left_at(&self, cost: Cost) -> Vec<Setting> {
        // The guest has to be told the end, too.
        let has_ttl = self.engine.provider.info().changes.ttl_of_provider && self.inputs().running;
        let is_of_provider = |setting: &Setting| match setting {
            Setting::Users => false,
            Setting::Ttl => has_ttl,
            _ => true,
        };
        let settings = self.inputs().settings.iter().copied();
        settings.filter(|setting| self.cost(*setting) == cost && is_of_provider(setting)).collect()
    }

    /// What the provider changes whether or not the machine is running.
    async fn make_now(&mut self, run: &mut Run) -> Result<(), EngineError> {
        let ignored = self.left_at(Cost::Ignored);
        self.note_done(&ignored).await?;
        let settings = self.left_at(Cost::Now);
        if settings.is_empty() {
            return Ok(());
        }
        let made = self.call_provider(&settings, ChangeTime::Now).await;
        let made = self.unless_failed(made).await?;
        made.write_to(&mut self.record);
        self.note_changed(run, settings).await
    }

    /// Notes what the provider has changed. What the machine has to follow isn't done yet.
    async fn note_changed(&mut self, run: &mut Run, mut settings: Vec<Setting>) -> Result<(), EngineError> {
        let running = self.inputs().running;
        settings.retain(|setting| !(running && self.is_followed_in_guest(*setting)));
        run.done.extend(&settings);
        self.note_done(&settings).await
    }

    /// Whether a change takes something inside the machine too: a larger disk a larger file system, a TTL the time of the
    /// end. A machine that is off makes its file system larger when it boots.
    fn is_followed_in_guest(&self, setting: Setting) -> bool {
        match setting {
            Setting::Disk | Setting::Ttl => true,
            Setting::Mounts => self.engine.provider.info().user_data.mounts_in_guest,
            _ => false,
        }
    }

    /// What takes a restart: without one only if the provider can note it for later, or the machine is off.
    async fn make_with_restart(&mut self, run: &mut Run, deadline: Instant) -> Result<(), EngineError> {
        let (running, may_restart) = (self.inputs().running, self.inputs().restart);
        let can_wait = self.engine.provider.info().changes.restart_can_wait;
        let restarts = running && may_restart;
        let mut settings = self.left_at(Cost::Restart);
        // The machine makes them itself, after the restart.
        settings.retain(|setting| *setting != Setting::Mounts || restarts);
        if settings.is_empty() || (running && !may_restart && !can_wait) {
            return Ok(());
        }
        // What can be noted is noted first: if that fails, the machine isn't even stopped.
        if restarts && !can_wait {
            self.end_machine().await?;
        }
        let made = self.call_provider(&settings, ChangeTime::NextStart).await;
        let made = self.unless_failed_at_rest(made, restarts && !can_wait, deadline).await?;
        made.write_to(&mut self.record);
        if restarts {
            self.end_machine().await?;
            self.start_or_undo(&settings, deadline).await?;
        } else if running {
            run.pending.extend(&settings);
            self.record.restart_pending = self.pending_with(&settings).into_iter().map(Word::Known).collect();
            return self.note_done(&settings).await;
        }
        self.note_changed(run, settings).await
    }

    fn pending_with(&self, settings: &[Setting]) -> BTreeSet<Setting> {
        let known = self.record.restart_pending.iter().filter_map(|word| match word {
            Word::Known(setting) => Some(*setting),
            Word::Other(_) => None,
        });
        known.chain(settings.iter().copied()).collect()
    }

    pub(super) async fn end_machine(&mut self) -> Result<(), EngineError> {
        let provider = self.engine.provider;
        let (record, mut work) = self.lend();
        let stopped = provider.stop(&record, StopMode::Graceful, &mut work).await;
        self.unless_failed(stopped).await?;
        self.engine.guest.end_connections(&self.record).await;
        Ok(())
    }

    /// Starts the machine as it now is. If it can't be, for example with so much memory, it is started as it was.
    async fn start_or_undo(&mut self, settings: &[Setting], deadline: Instant) -> Result<(), EngineError> {
        match self.start_machine(deadline).await {
            Err(EngineError::Provider { source, .. }) => {
                self.engine.events.event(Event::Warning(format!(
                    "it doesn't start with what was changed, so it is started as it was: {source}"
                )));
                let target = self.record.resolved.clone();
                if let Some(old) = target {
                    let undone = self.call_provider_with(settings, &old, ChangeTime::NextStart).await;
                    self.unless_failed(undone).await?;
                }
                self.start_machine(deadline).await?;
                let error = ProviderError::failed(
                    "the machine doesn't start with what was changed; it runs as before",
                    "choose other values",
                );
                self.record.fail(&error);
                self.save_result().await?;
                Err(EngineError::Provider {
                    name: self.record.name.clone(),
                    kind: OperationKind::Apply,
                    source,
                })
            }
            other => other,
        }
    }

    async fn start_machine(&mut self, deadline: Instant) -> Result<(), EngineError> {
        self.start_unreached().await?;
        self.reach(OperationKind::Apply, deadline).await
    }

    pub(super) async fn start_unreached(&mut self) -> Result<(), EngineError> {
        let provider = self.engine.provider;
        let (record, mut work) = self.lend();
        let made = provider
            .start(&record, &mut work)
            .await
            .map_err(|error| self.failed(OperationKind::Apply, error))?;
        made.write_to(&mut self.record);
        self.record.restart_pending.clear();
        self.name_host();
        self.save_result().await
    }

    /// What is changed inside the machine, which must be running for it.
    async fn make_in_guest(
        &mut self,
        run: &mut Run,
        before: Option<&RecordedStack>,
        client_key: &str,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        let running = self.inputs().running;
        // What takes a restart was made only with one.
        let may_restart = self.inputs().restart;
        let mut settings: Vec<_> = self.inputs().settings.clone();
        settings.retain(|setting| match setting {
            Setting::Users | Setting::Ttl => true,
            setting => {
                self.is_followed_in_guest(*setting) && (may_restart || self.cost(*setting) == Cost::Now)
            }
        });
        if !running || settings.is_empty() {
            return Ok(());
        }
        let script = self.guest_script(&settings, before, client_key)?;
        self.reach(OperationKind::Apply, deadline).await?;
        self.run_in_guest(&script).await?;
        if settings.contains(&Setting::Users) {
            let user = self.inputs().login_user.clone();
            self.record.user_keys = Some(UserKeys::digest(&self.inputs().users));
            self.record.ssh.iter_mut().for_each(|ssh| ssh.user.clone_from(&user));
        }
        if settings.contains(&Setting::Ttl) {
            self.record.ends_at = self.end();
        }
        run.done.extend(&settings);
        self.note_done(&settings).await
    }

    /// When the machine is to terminate itself: `vm.ttl` counts from its creation.
    fn end(&self) -> Option<Timestamp> {
        self.inputs().target.ttl.and_then(|seconds| self.record.created_at.plus_seconds(seconds))
    }

    fn guest_script(
        &self,
        settings: &[Setting],
        before: Option<&RecordedStack>,
        client_key: &str,
    ) -> Result<String, EngineError> {
        let inputs = self.inputs();
        let kept: BTreeSet<_> = inputs.users.iter().map(|user| user.username.as_str()).collect();
        let had = before.map(|before| before.users.as_slice()).unwrap_or_default();
        let had = had.iter().map(|user| user.username.to_string());
        // Somebody else may have written the record.
        let is_name = |name: &String| LoginName::parse(name).is_ok();
        let removed: Vec<_> = had.filter(|name| is_name(name) && !kept.contains(name.as_str())).collect();
        let mounts = inputs.target.shared_folders().map_err(|error| EngineError::Refused {
            what: error.to_string(),
            hint: NextStep::Status(self.record.name.clone()).into(),
        })?;
        let has = |setting| settings.contains(&setting);
        Ok(update_script(&GuestUpdate {
            users: has(Setting::Users).then_some(UsersUpdate {
                client_key,
                login_user: inputs.login_user.as_str(),
                users: &inputs.users,
                removed: &removed,
            }),
            end: has(Setting::Ttl).then(|| self.end().map(Timestamp::unix)),
            mounts: has(Setting::Mounts).then_some((&mounts[..], inputs.login_user.as_str())),
            grow: has(Setting::Disk),
        }))
    }

    async fn run_in_guest(&mut self, script: &str) -> Result<(), EngineError> {
        self.engine.events.event(Event::Step { what: "changing the system in the machine".to_owned() });
        let ran = guest_script::run(self.engine, &self.record, script, &[]).await;
        self.unless_failed(ran).await.map(drop)
    }

    async fn call_provider(
        &mut self,
        settings: &[Setting],
        time: ChangeTime,
    ) -> Result<Endpoints, ProviderError> {
        let target = self.inputs().target.clone();
        self.call_provider_with(settings, &target, time).await
    }

    async fn call_provider_with(
        &mut self,
        settings: &[Setting],
        target: &RecordedStack,
        time: ChangeTime,
    ) -> Result<Endpoints, ProviderError> {
        let provider = self.engine.provider;
        let Some(changes) = provider.changes() else {
            let title = provider.info().title;
            return Err(ProviderError::Unsupported {
                what: format!("{title} can't change its machines"),
                hint: Hint::default(),
            });
        };
        if self.engine.interrupt.is_raised() {
            return Err(ProviderError::Interrupted);
        }
        let (record, mut work) = self.lend();
        changes.change(&record, MachineChange { settings, target, time }, &mut work).await
    }

    /// What was done before a failure is recorded as done.
    pub(super) async fn unless_failed<T>(
        &mut self,
        result: Result<T, ProviderError>,
    ) -> Result<T, EngineError> {
        self.ended(OperationKind::Apply, result).await
    }

    /// The same for a machine that was stopped for the change: it is started again first.
    async fn unless_failed_at_rest(
        &mut self,
        result: Result<Endpoints, ProviderError>,
        was_stopped: bool,
        deadline: Instant,
    ) -> Result<Endpoints, EngineError> {
        if matches!(&result, Err(error) if was_stopped && !leaves_work(error)) {
            self.start_machine(deadline).await?;
        }
        self.unless_failed(result).await
    }

    /// Saves that the VM has these settings now.
    async fn note_done(&mut self, settings: &[Setting]) -> Result<(), EngineError> {
        if settings.is_empty() {
            return Ok(());
        }
        let target = self.inputs().target.clone();
        for setting in settings {
            self.record.resolved.iter_mut().for_each(|stack| stack.take(*setting, &target));
        }
        if let Some(apply) = self.record.operation.as_mut().and_then(|operation| operation.apply.as_mut()) {
            apply.settings.retain(|setting| !settings.contains(setting));
        }
        self.save_result().await
    }

    async fn finish_apply(&mut self, run: Run, verdict: Option<Verdict>) -> Result<Applied, EngineError> {
        let inputs = self.inputs().clone();
        self.record.overrides = inputs.overrides;
        if inputs.settings.is_empty() && inputs.config.is_some() && verdict.is_none() {
            self.record.applied_config = inputs.config;
        }
        self.record.end(Outcome::Done, verdict.as_ref().and_then(Verdict::trouble));
        self.save_result().await?;
        let Run { mut done, pending } = run;
        done.sort_unstable();
        Ok(Applied { record: self.record.clone(), done, pending, left: inputs.settings, verdict })
    }
}

/// What an apply has done so far.
struct Run {
    done: Vec<Setting>,
    pending: Vec<Setting>,
}
