//! Waits for a machine from inside: SSH with the pinned key, then the report of its provisioning. The report is
//! interpreted in [`super::verdict`].

use std::time::Duration;

use tokio::time::Instant;

use super::verdict::{AS_ROOT, GuestReport, Verdict, report_command};
use crate::engine::Engine;
use goloo_model::events::Event;
use goloo_model::guest::{GuestError, OnLine, Output, RunLimits, SshTarget, excerpt, printable};
use goloo_model::provider::LiveState;
use goloo_model::record::{ProvisioningResult, Record};

/// Why a wait ended without a result.
pub(super) enum Stop {
    Interrupted,
    /// The machine is off.
    Ended,
    NoAnswer(String),
}

/// The pause between two attempts to reach a booting machine.
const PAUSE: Duration = Duration::from_millis(250);
/// A machine that refuses the key this long after its first answer will not accept it later: goloo's account
/// exists before sshd starts, but logins are refused until the boot is complete.
const DENIED_LIMIT: Duration = Duration::from_secs(120);
/// How long logins are refused before access is restored through the provider.
const RESTORE_AFTER: Duration = Duration::from_secs(15);
/// The limit for `true` after a login, which only the machine's load can delay.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);
/// How often the provider is asked whether the machine is still running: on this host, and elsewhere.
const OBSERVE_HERE: Duration = Duration::from_secs(2);
const OBSERVE_ELSEWHERE: Duration = Duration::from_secs(15);
/// The limit for fetching the end of the log after the deadline has passed.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(5);
/// The maximum length of a console line that isn't split for display, in bytes.
const CONSOLE_LINE_MAX: usize = 2000;
/// How much of a console's end is searched for its last lines, in bytes.
const CONSOLE_END: usize = 64 << 10;
/// The maximum number of console sections that are read: logs should be bounded, and this holds if one isn't.
const CONSOLE_PIECES_MAX: u32 = 64;
/// The number of log lines that a failure shows.
const LOG_LINES: usize = 30;

/// Waits until provisioning has finished and returns its result; `None` if interrupted.
pub(super) async fn verdict(engine: &Engine<'_>, record: &Record, deadline: Instant) -> Option<Verdict> {
    let mut wait = Wait::new(engine, record, deadline);
    match wait.for_report().await {
        Ok(verdict) => Some(verdict),
        Err(Stop::NoAnswer(reason)) => Some(Verdict::unknown(reason)),
        Err(Stop::Ended) => Some(Verdict::ended(wait.end_of_console().await)),
        Err(Stop::Interrupted) => None,
    }
}

/// Waits until a login works. A machine that goloo has no key for, or that has no SSH, isn't waited for: its provider's
/// word that it runs is all there is.
pub(super) async fn reach(engine: &Engine<'_>, record: &Record, deadline: Instant) -> Result<(), Stop> {
    if record.ssh.is_none() || has_no_ssh(record) {
        return Ok(());
    }
    let mut wait = Wait::new(engine, record, deadline);
    wait.step("waiting for SSH");
    wait.persist(LOGIN, RunLimits::answer(LOGIN_LIMIT), &mut |_| {}).await.map(drop)
}

/// Whether a machine is up by its record, and has no SSH.
fn has_no_ssh(record: &Record) -> bool {
    record.address().is_some() && record.ssh_port().is_none()
}

/// A wait for one machine.
struct Wait<'w, 'e> {
    engine: &'w Engine<'e>,
    record: &'w Record,
    deadline: Instant,
    /// When the provider is asked next.
    next_look: Instant,
    /// Whether it last reported that the machine is off.
    was_off: bool,
    /// Whether restoring access through the provider was tried.
    restored: bool,
    /// How much of the console has been shown, in bytes.
    shown: u64,
    /// The incomplete last line of the console.
    partial: Vec<u8>,
}

impl<'w, 'e> Wait<'w, 'e> {
    fn new(engine: &'w Engine<'e>, record: &'w Record, deadline: Instant) -> Self {
        Self {
            engine,
            record,
            deadline,
            next_look: Instant::now(),
            was_off: false,
            restored: false,
            shown: 0,
            partial: Vec::new(),
        }
    }

    fn step(&self, what: &str) {
        self.engine.events.event(Event::Step { what: what.to_owned() });
    }

    async fn for_report(&mut self) -> Result<Verdict, Stop> {
        self.step("waiting for SSH");
        self.persist(LOGIN, RunLimits::answer(LOGIN_LIMIT), &mut |_| {}).await?;
        self.step("waiting for cloud-init");
        let login = self.record.ssh.as_ref().map_or("", |ssh| ssh.user.as_str());
        let command = report_command(self.engine.follow_log, login);
        let mut report = GuestReport::default();
        let events = self.engine.events;
        let mut line = |line: &str| {
            if let Some(line) = report.take(line) {
                events.event(Event::Log { line: excerpt(line) });
            }
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        // The followed log precedes the report, and may be long.
        let limits = if self.engine.follow_log { RunLimits::stream(left) } else { RunLimits::answer(left) };
        let output = self.persist(&command, limits, &mut line).await?;
        let mut verdict = report.verdict(&output);
        if matches!(verdict.result, ProvisioningResult::Failed | ProvisioningResult::Dropped) {
            verdict.log = self.end_of_log().await;
        }
        Ok(verdict)
    }

    /// Runs a command in the machine as soon as it is reachable, and again if the connection breaks
    /// (a machine may reboot during provisioning).
    async fn persist(
        &mut self,
        command: &str,
        limits: RunLimits,
        line: &mut OnLine<'_>,
    ) -> Result<Output, Stop> {
        let lacks = match self.record.ssh {
            None => "no key for it is known",
            Some(_) if has_no_ssh(self.record) => "it has no SSH",
            Some(_) => "it has no address",
        };
        let mut target = SshTarget::of(self.record).ok_or_else(|| Stop::NoAnswer(lacks.to_owned()))?;
        let mut first_denied: Option<Instant> = None;
        let mut last = None;
        loop {
            let attempt = self.engine.guest.run(&target, command, limits, line);
            let result = tokio::select! {
                result = attempt => result,
                () = self.engine.interrupt.raised() => return Err(Stop::Interrupted),
                () = tokio::time::sleep_until(self.deadline) => {
                    let seen = last.map_or_else(String::new, |error: GuestError| format!(": {error}"));
                    return Err(Stop::NoAnswer(format!("no answer within the time limit (--timeout){seen}")));
                }
            };
            let error = match result {
                Ok(output) if command == LOGIN && output.status != 0 => no_session(&target, &output),
                Ok(output) => return Ok(output),
                Err(error) => error,
            };
            let denied = match &error {
                GuestError::Denied { .. } => Some(first_denied.get_or_insert_with(Instant::now).elapsed()),
                _ => None,
            };
            if denied.is_some_and(|time| time > RESTORE_AFTER) {
                self.restore_access().await;
            }
            let hopeless = match &error {
                GuestError::Unreachable { .. } => false,
                GuestError::Denied { .. } => denied.is_some_and(|time| time > DENIED_LIMIT),
                GuestError::WrongHostKey { .. }
                | GuestError::TooMuch { .. }
                | GuestError::NoClient { .. } => true,
            };
            // If goloo's account was replaced, the login user may still work.
            let other = SshTarget::login(self.record).filter(|login| hopeless && *login != target);
            if let (GuestError::Denied { .. }, Some(login)) = (&error, other) {
                (target, first_denied) = (login, None);
                continue;
            }
            if hopeless || Instant::now() + PAUSE > self.deadline {
                return Err(Stop::NoAnswer(error.to_string()));
            }
            last = Some(error);
            self.show_console().await;
            self.check_power().await?;
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.engine.interrupt.raised() => return Err(Stop::Interrupted),
            }
        }
    }

    /// A document may prevent even the first boot command from running. Tried once; the next login shows
    /// whether it worked.
    async fn restore_access(&mut self) {
        if std::mem::replace(&mut self.restored, true) {
            return;
        }
        match self.engine.provider.restore_access(self.record).await {
            Ok(true) => self.step("waiting for SSH"),
            Ok(false) => {}
            Err(error) => self.engine.events.event(Event::Warning(error.to_string())),
        }
    }

    /// A machine that is off won't answer. It must be observed off twice: during a reboot it may be off for a moment.
    async fn check_power(&mut self) -> Result<(), Stop> {
        if Instant::now() < self.next_look {
            return Ok(());
        }
        let is_here = self.record.host_bound;
        self.next_look = Instant::now() + if is_here { OBSERVE_HERE } else { OBSERVE_ELSEWHERE };
        let is_off = self.engine.state_of(self.record).await == LiveState::Stopped;
        let was_off = std::mem::replace(&mut self.was_off, is_off);
        if is_off && was_off { Err(Stop::Ended) } else { Ok(()) }
    }

    /// Shows new console output of a local machine; elsewhere each read costs a request.
    async fn show_console(&mut self) {
        let provider = self.engine.provider;
        let is_here = self.record.host_bound;
        if !self.engine.follow_log || !provider.capabilities().console || !is_here {
            return;
        }
        // The console is only informational: errors show up elsewhere.
        let Ok(piece) = provider.console(self.record, self.shown).await else { return };
        self.shown = piece.next;
        for byte in piece.bytes {
            // A line without a terminator is shown in parts.
            if byte == b'\n' || self.partial.len() >= CONSOLE_LINE_MAX {
                let line = std::mem::take(&mut self.partial);
                self.engine.events.event(Event::Log { line: shown(&line) });
            }
            if byte != b'\n' {
                self.partial.push(byte);
            }
        }
    }

    /// The last console lines of a machine that is off.
    async fn end_of_console(&self) -> Vec<String> {
        let provider = self.engine.provider;
        if !provider.capabilities().console {
            return Vec::new();
        }
        let (mut end, mut offset) = (Vec::new(), 0);
        for _ in 0..CONSOLE_PIECES_MAX {
            let Ok(piece) = provider.console(self.record, offset).await else { break };
            if piece.bytes.is_empty() {
                break;
            }
            offset = piece.next;
            end.extend(piece.bytes);
            let surplus = end.len().saturating_sub(CONSOLE_END);
            end.drain(..surplus);
        }
        let lines: Vec<String> = end.split(|byte| *byte == b'\n').map(shown).collect();
        let lines = lines.into_iter().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>();
        lines[lines.len().saturating_sub(LOG_LINES)..].to_vec()
    }

    async fn end_of_log(&self) -> Vec<String> {
        let Some(target) = SshTarget::of(self.record) else { return Vec::new() };
        let mut lines = Vec::new();
        let command = format!("{AS_ROOT}$s tail -n {LOG_LINES} /var/log/cloud-init-output.log");
        let mut line = |line: &str| {
            if lines.len() < LOG_LINES {
                lines.push(shown(line.as_bytes()));
            }
        };
        let left =
            self.deadline.saturating_duration_since(Instant::now()).clamp(LAST_WORDS_LIMIT, LOGIN_LIMIT);
        let limits = RunLimits::answer(left);
        if let Err(error) = self.engine.guest.run(&target, &command, limits, &mut line).await {
            lines.push(format!("(the log can't be read: {error})"));
        }
        lines
    }
}

/// The command that verifies a login.
const LOGIN: &str = "true";

/// Treats a server that accepts the login but runs no command as one that refused it.
fn no_session(target: &SshTarget, output: &Output) -> GuestError {
    let said = [output.stdout.trim(), output.stderr.trim()].join(" ");
    GuestError::Denied {
        user: target.user.to_string(),
        host: target.host.to_string(),
        port: target.port,
        reason: format!("no command can be run: {}", excerpt(said.trim())),
    }
}

/// A guest's line as it is stored and shown.
fn shown(line: &[u8]) -> String {
    excerpt(&printable(line))
}
