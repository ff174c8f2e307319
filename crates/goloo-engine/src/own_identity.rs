//! Gives a machine that continues from the memory of a baked one an identity of its own: it doesn't boot, so cloud-init
//! doesn't. Until that is done it proves itself with the other machine's host key, and its provider keeps it closed.

use std::time::Duration;

use goloo_cloudinit::{own_identity_input, own_identity_script};
use goloo_model::events::Event;
use goloo_model::guest::{GuestError, Output, RunLimits, SshTarget, excerpt, printable};
use goloo_model::hint::NextStep;
use goloo_model::name::VmName;
use goloo_model::provider::{Machine, MemoryTemplate, ProviderError};
use goloo_model::record::OperationKind;
use tokio::time::Instant;

use crate::clock;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::guest_script;
use crate::verdict::Verdict;
use crate::work::LockedOperation;

/// The pause between two attempts to log in.
const PAUSE: Duration = Duration::from_millis(50);
/// The limit for a login and its command.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);
/// How long a machine may refuse logins that is up already.
const PATIENCE: Duration = Duration::from_secs(120);

/// The machine as it is at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Template,
    Own,
}

impl LockedOperation<'_, '_> {
    /// What became of it; `None` if the machine has booted by itself.
    pub(super) async fn give_identity(
        &mut self,
        machine: &Machine,
        deadline: Instant,
    ) -> Result<Option<Verdict>, EngineError> {
        let Some(bakes) = self.engine.provider.bakes() else { return Ok(None) };
        let template = bakes.template(&self.record).await;
        let Some(template) = template.map_err(|error| self.midway(OperationKind::Create, error))? else {
            return Ok(None);
        };
        let what = "giving the machine its own identity".to_owned();
        self.engine.events.event(Event::Step { what });
        let problems = self.run_identity_script(machine, &template, deadline).await;
        let problems = problems.map_err(|error| self.midway(OperationKind::Create, error))?;
        let (record, mut work) = self.lend();
        let opened = bakes.open(&record, &mut work).await;
        opened.map_err(|error| self.midway(OperationKind::Create, error))?;
        Ok(Some(Verdict::of_copy(problems)))
    }

    /// What failed in the machine, one line each.
    async fn run_identity_script(
        &self,
        machine: &Machine,
        template: &MemoryTemplate,
        deadline: Instant,
    ) -> Result<Vec<String>, ProviderError> {
        let own = guest_script::target(&self.record)?;
        let as_template = SshTarget {
            host_key: template.host_key.clone(),
            alias: format!("{}-before", own.alias),
            ..own.clone()
        };
        let either = [(&as_template, Whose::Template), (&own, Whose::Own)];
        let (whose, _) = self.engine.log_in(&either, || "true".to_owned(), deadline).await?;
        let target = if whose == Whose::Template { &as_template } else { &own };
        // It has the time of this moment.
        let script = own_identity_script(&self.record.id, &machine.name, template);
        let left = deadline.saturating_duration_since(Instant::now());
        let input = own_identity_input(&machine.identity, &machine.user_data);
        let ran = guest_script::run_at(self.engine, target, &script, input.as_bytes(), left).await;
        self.engine.guest.forget(&as_template).await;
        let printed = ran?;
        // The script was told the time before it was sent.
        let (_, set) = self.engine.log_in(&[(&own, Whose::Own)], clock::command, deadline).await?;
        clock::report(self.engine, &self.record, Ok(set));
        let lines = printed.lines().map(|line| excerpt(&printable(line.as_bytes())));
        Ok(lines.filter(|line| !line.trim().is_empty()).collect())
    }
}

impl Engine<'_> {
    /// Waits until the machine accepts a login with one of these keys, and runs a command there.
    async fn log_in(
        &self,
        targets: &[(&SshTarget, Whose)],
        command: impl Fn() -> String,
        deadline: Instant,
    ) -> Result<(Whose, Output), ProviderError> {
        let deadline = deadline.min(Instant::now() + PATIENCE);
        loop {
            let mut last = None;
            for (target, whose) in targets {
                let (limits, mut ignore) = (RunLimits::answer(LOGIN_LIMIT), |_: &str| {});
                let command = command();
                let attempt = self.guest.run(target, &command, limits, &mut ignore);
                let result = tokio::select! {
                    result = attempt => result,
                    () = self.interrupt.raised() => return Err(ProviderError::Interrupted),
                };
                match result {
                    Ok(output) => return Ok((*whose, output)),
                    Err(error @ GuestError::NoClient { .. }) => return Err(no_login(&target.name, error)),
                    // For a moment its SSH server may be between two keys, or restart.
                    Err(error) => last = Some(error),
                }
            }
            if let Some(error) = last.filter(|_| Instant::now() + PAUSE > deadline) {
                return Err(no_login(&targets[0].0.name, error));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn no_login(name: &VmName, error: GuestError) -> ProviderError {
    let what = "the machine continues from the memory that was baked, but goloo can't log in to it";
    ProviderError::caused(what, NextStep::Logs(name.clone()), error)
}
