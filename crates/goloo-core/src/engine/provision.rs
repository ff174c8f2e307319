//! Waits for a machine from inside: SSH with the pinned key, then cloud-init's verdict.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::Engine;
use crate::events::Event;
use crate::guest::{GuestError, OnLine, Output, SshTarget};
use crate::record::{Provisioning, ProvisioningResult, Record};
use crate::time::Timestamp;

/// What cloud-init said, or why it couldn't be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// In one word.
    pub result: ProvisioningResult,
    /// cloud-init's errors, or why there is no answer.
    pub errors: Vec<String>,
    /// The end of the provisioning log, when something failed.
    pub log: Vec<String>,
}

impl Verdict {
    /// The verdict as the record keeps it.
    pub fn provisioning(&self) -> Provisioning {
        let known = self.result != ProvisioningResult::Unknown;
        Provisioning {
            result: self.result,
            finished_at: known.then(Timestamp::now),
            errors: self.errors.clone(),
            extra: serde_json::Map::new(),
        }
    }

    /// What the history keeps of a provisioning that didn't go well.
    pub(super) fn trouble(&self) -> Option<String> {
        let bad = matches!(self.result, ProvisioningResult::Failed | ProvisioningResult::Unknown);
        bad.then(|| format!("provisioning {}", self.result))
    }

    fn unknown(reason: String) -> Self {
        Self { result: ProvisioningResult::Unknown, errors: vec![reason], log: Vec::new() }
    }
}

/// Why a wait ended without an answer.
pub(super) enum Stop {
    Interrupted,
    NoAnswer(String),
}

/// Between two attempts to reach a machine that boots.
const PAUSE: Duration = Duration::from_millis(250);
/// A machine that refuses the key this long after its first answer will not accept it later: users
/// are there before sshd starts, but logins are closed until the boot is done.
const DENIED_LIMIT: Duration = Duration::from_secs(120);
/// Nothing but the machine's load lies between a login and the end of `true`.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);
/// How much of the log a failure shows.
const LOG_LINES: u32 = 30;

/// Everything before it is log, everything behind it cloud-init's JSON.
const MARK: &str = "@goloo:status@";

/// Waits until cloud-init is done and asks what came of it; `None` when interrupted.
pub(super) async fn verdict(engine: &Engine<'_>, record: &Record) -> Option<Verdict> {
    let deadline = Instant::now() + engine.limit;
    match wait(engine, record, deadline).await {
        Ok(verdict) => Some(verdict),
        Err(Stop::NoAnswer(reason)) => Some(Verdict::unknown(reason)),
        Err(Stop::Interrupted) => None,
    }
}

/// Waits until a login works. A machine that goloo has no key for isn't waited for: its provider's word
/// that it runs is all there is.
pub(super) async fn reach(engine: &Engine<'_>, record: &Record) -> Result<(), Stop> {
    if record.ssh.is_none() {
        return Ok(());
    }
    step(engine, "waiting for SSH");
    let command = "true";
    persist(engine, record, Instant::now() + engine.limit, command, LOGIN_LIMIT, &mut |_| {}).await?;
    Ok(())
}

async fn wait(engine: &Engine<'_>, record: &Record, deadline: Instant) -> Result<Verdict, Stop> {
    step(engine, "waiting for SSH");
    persist(engine, record, deadline, "true", LOGIN_LIMIT, &mut |_| {}).await?;
    step(engine, "waiting for cloud-init");
    let script = wait_script(engine.follow_log);
    let mut in_log = true;
    let mut json = String::new();
    let mut line = |line: &str| {
        if line == MARK {
            in_log = false;
            json.clear();
        } else if in_log {
            engine.events.event(Event::Log { line: line.to_owned() });
        } else {
            json.push_str(line);
        }
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let output = persist(engine, record, deadline, &script, left, &mut line).await?;
    let mut verdict = read_status(&json, &output);
    if verdict.result == ProvisioningResult::Failed {
        verdict.log = log_end(engine, record).await;
    }
    Ok(verdict)
}

fn step(engine: &Engine<'_>, what: &str) {
    engine.events.event(Event::Step { what: what.to_owned() });
}

/// Runs a command in the machine as soon as it can be reached, and again when the connection breaks
/// (a machine may reboot while it is provisioned).
async fn persist(
    engine: &Engine<'_>,
    record: &Record,
    deadline: Instant,
    command: &str,
    limit: Duration,
    line: &mut OnLine<'_>,
) -> Result<Output, Stop> {
    let lacks = if record.ssh.is_none() { "goloo has no key for it" } else { "it has no address" };
    let target = SshTarget::of(record).ok_or_else(|| Stop::NoAnswer(lacks.to_owned()))?;
    let mut first_denied: Option<Instant> = None;
    loop {
        let attempt = engine.guest.run(&target, command, limit, line);
        let result = tokio::select! {
            result = attempt => result,
            () = engine.interrupt.raised() => return Err(Stop::Interrupted),
        };
        let error = match result {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        let denied_long =
            |first: &mut Option<Instant>| first.get_or_insert_with(Instant::now).elapsed() > DENIED_LIMIT;
        let hopeless = match &error {
            GuestError::Unreachable { .. } => false,
            GuestError::Denied { .. } => denied_long(&mut first_denied),
            GuestError::WrongHostKey { .. } | GuestError::NoClient { .. } => true,
        };
        if hopeless || Instant::now() + PAUSE > deadline {
            return Err(Stop::NoAnswer(error.to_string()));
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = engine.interrupt.raised() => return Err(Stop::Interrupted),
        }
    }
}

/// One session that lasts until cloud-init is done: a login a poll would cost the guest more. What was
/// provisioned is synced before it counts: a power cut in the half minute that the guest's kernel takes
/// otherwise left empty files, and an sshd that doesn't start (seen on a real machine).
fn wait_script(follow_log: bool) -> String {
    let follow = if follow_log {
        "$s tail -n +1 -F /var/log/cloud-init-output.log 2>/dev/null & t=$!; "
    } else {
        "t=; "
    };
    format!(
        "command -v cloud-init >/dev/null || exit 64; \
         s=; sudo -n true 2>/dev/null && s='sudo -n'; {follow}\
         until [ -e /run/cloud-init/result.json ]; do sleep 1; done; \
         [ -z \"$t\" ] || {{ sleep 1; kill $t 2>/dev/null; }}; \
         sync; echo {MARK}; $s cloud-init status --format=json"
    )
}

/// The part of cloud-init's JSON that decides.
#[derive(Deserialize)]
struct Status {
    status: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<String>,
    #[serde(default)]
    recoverable_errors: std::collections::BTreeMap<String, Vec<String>>,
}

fn read_status(json: &str, output: &Output) -> Verdict {
    if output.status == 64 {
        return Verdict::unknown("the image has no cloud-init".to_owned());
    }
    let Ok(status) = serde_json::from_str::<Status>(json) else {
        let said = [json, output.stderr.trim()].join(" ");
        return Verdict::unknown(format!("`cloud-init status` said: {}", said.trim()));
    };
    // Some distributions patch exit status 2 away, so the lists decide.
    let result = match status.status.as_str() {
        "error" => ProvisioningResult::Failed,
        _ if !status.errors.is_empty() => ProvisioningResult::Failed,
        "done" if !status.recoverable_errors.is_empty() => ProvisioningResult::DoneWithWarnings,
        "done" => ProvisioningResult::Done,
        other => return Verdict::unknown(format!("cloud-init is \"{other}\": {}", status.detail)),
    };
    let mut errors = status.errors;
    if errors.is_empty() && result == ProvisioningResult::Failed {
        errors.push(status.detail);
    }
    errors.extend(status.recoverable_errors.into_values().flatten());
    Verdict { result, errors, log: Vec::new() }
}

async fn log_end(engine: &Engine<'_>, record: &Record) -> Vec<String> {
    let Some(target) = SshTarget::of(record) else { return Vec::new() };
    let mut lines = Vec::new();
    let command = format!(
        "s=; sudo -n true 2>/dev/null && s='sudo -n'; $s tail -n {LOG_LINES} /var/log/cloud-init-output.log"
    );
    let mut line = |line: &str| lines.push(line.to_owned());
    if let Err(error) = engine.guest.run(&target, &command, LOGIN_LIMIT, &mut line).await {
        lines.push(format!("(the log can't be read: {error})"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(status: i32) -> Output {
        Output { status, stdout: String::new(), stderr: "boom".to_owned() }
    }

    #[test]
    fn the_lists_of_errors_decide_and_not_the_exit_status() {
        let done = r#"{"status":"done","errors":[],"recoverable_errors":{}}"#;
        assert_eq!(read_status(done, &output(0)).result, ProvisioningResult::Done);
        let recovered = r#"{"status":"done","errors":[],"recoverable_errors":{"WARNING":["old key"]}}"#;
        let verdict = read_status(recovered, &output(0));
        assert_eq!(verdict.result, ProvisioningResult::DoneWithWarnings);
        assert_eq!(verdict.errors, ["old key"]);
        let failed = r#"{"status":"error","errors":["('scripts_user', RuntimeError())"]}"#;
        assert_eq!(read_status(failed, &output(1)).result, ProvisioningResult::Failed);
        let old = r#"{"status":"done","errors":["x"]}"#;
        assert_eq!(read_status(old, &output(0)).result, ProvisioningResult::Failed);
    }

    #[test]
    fn no_answer_is_unknown_and_says_why() {
        assert_eq!(read_status("", &output(64)).errors, ["the image has no cloud-init"]);
        let verdict = read_status("Traceback", &output(1));
        assert_eq!(verdict.result, ProvisioningResult::Unknown);
        assert!(verdict.errors[0].contains("Traceback boom"), "{verdict:?}");
    }
}
