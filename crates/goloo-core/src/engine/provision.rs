//! Waits for a machine from inside: SSH with the pinned key, then the report of its provisioning. What that means
//! says [`super::verdict`].

use std::time::Duration;

use tokio::time::Instant;

use super::Engine;
use super::verdict::{Report, Verdict, report_command};
use crate::events::Event;
use crate::guest::{GuestError, OnLine, Output, RunLimits, SshTarget, excerpt, printable};
use crate::provider::LiveState;
use crate::record::{ProvisioningResult, Record};

/// Why a wait ended without an answer.
pub(super) enum Stop {
    Interrupted,
    /// The machine is off.
    Ended,
    NoAnswer(String),
}

/// Between two attempts to reach a machine that boots.
const PAUSE: Duration = Duration::from_millis(250);
/// A machine that refuses the key this long after its first answer will not accept it later: goloo's account
/// is there before sshd starts, but logins are closed until the boot is done.
const DENIED_LIMIT: Duration = Duration::from_secs(120);
/// How long it is refused before the provider's own way in is tried.
const RESTORE_AFTER: Duration = Duration::from_secs(15);
/// Nothing but the machine's load lies between a login and the end of `true`.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);
/// How often the provider is asked whether the machine is still up: on this computer, and elsewhere.
const OBSERVE_HERE: Duration = Duration::from_secs(2);
const OBSERVE_ELSEWHERE: Duration = Duration::from_secs(15);
/// How long a machine whose time is over is still asked for the end of its log.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(5);
/// The longest line of a console that is shown as one, in bytes.
const CONSOLE_LINE_MAX: usize = 2000;
/// How much of a console's end is looked through for its last lines, in bytes.
const CONSOLE_END: usize = 64 << 10;
/// How many pieces of a console are read at most: its log is bounded, and this holds where it isn't.
const CONSOLE_PIECES_MAX: u32 = 64;
/// How much of a log a failure shows.
const LOG_LINES: usize = 30;

/// Waits until the provisioning is over and asks what came of it; `None` when interrupted.
pub(super) async fn verdict(engine: &Engine<'_>, record: &Record, deadline: Instant) -> Option<Verdict> {
    let mut wait = Wait::new(engine, record, deadline);
    match wait.for_report().await {
        Ok(verdict) => Some(verdict),
        Err(Stop::NoAnswer(reason)) => Some(Verdict::unknown(reason)),
        Err(Stop::Ended) => Some(Verdict::ended(wait.end_of_console().await)),
        Err(Stop::Interrupted) => None,
    }
}

/// Waits until a login works. A machine that goloo has no key for isn't waited for: its provider's word
/// that it runs is all there is.
pub(super) async fn reach(engine: &Engine<'_>, record: &Record, deadline: Instant) -> Result<(), Stop> {
    if record.ssh.is_none() {
        return Ok(());
    }
    let mut wait = Wait::new(engine, record, deadline);
    wait.step("waiting for SSH");
    wait.persist(LOGIN, RunLimits::answer(LOGIN_LIMIT), &mut |_| {}).await.map(drop)
}

/// A wait for one machine.
struct Wait<'w, 'e> {
    engine: &'w Engine<'e>,
    record: &'w Record,
    deadline: Instant,
    /// When the provider is asked next.
    next_look: Instant,
    /// Whether it said that the machine is off when it was last asked.
    was_off: bool,
    /// Whether the provider's own way in was tried.
    restored: bool,
    /// How much of the console was shown, in bytes.
    shown: u64,
    /// The console's last line, as far as it is there.
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
        let mut report = Report::default();
        let events = self.engine.events;
        let mut line = |line: &str| {
            if let Some(line) = report.take(line) {
                events.event(Event::Log { line: excerpt(line) });
            }
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        // What is followed comes before the report, and may be long.
        let limits = if self.engine.follow_log { RunLimits::stream(left) } else { RunLimits::answer(left) };
        let output = self.persist(&command, limits, &mut line).await?;
        let mut verdict = report.verdict(&output);
        if matches!(verdict.result, ProvisioningResult::Failed | ProvisioningResult::Dropped) {
            verdict.log = self.end_of_log().await;
        }
        Ok(verdict)
    }

    /// Runs a command in the machine as soon as it can be reached, and again when the connection breaks
    /// (a machine may reboot while it is provisioned).
    async fn persist(
        &mut self,
        command: &str,
        limits: RunLimits,
        line: &mut OnLine<'_>,
    ) -> Result<Output, Stop> {
        let lacks = if self.record.ssh.is_none() { "goloo has no key for it" } else { "it has no address" };
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
                    return Err(Stop::NoAnswer(format!("no answer within the time given (--timeout){seen}")));
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

    /// A document may keep even the first boot command from running. Tried once; how it went shows at the next
    /// login.
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

    /// A machine that is off won't answer. It must be seen twice: one that restarts may be off for a moment.
    async fn check_power(&mut self) -> Result<(), Stop> {
        if Instant::now() < self.next_look {
            return Ok(());
        }
        let is_here = self.record.provider.is_local();
        self.next_look = Instant::now() + if is_here { OBSERVE_HERE } else { OBSERVE_ELSEWHERE };
        let observed = self.engine.provider.observe(&[self.record]).await;
        let is_off = matches!(observed.first().map(|seen| seen.state), Some(LiveState::Stopped));
        let was_off = std::mem::replace(&mut self.was_off, is_off);
        if is_off && was_off { Err(Stop::Ended) } else { Ok(()) }
    }

    /// Shows what has come on the console of a machine here; elsewhere each look costs a request.
    async fn show_console(&mut self) {
        let provider = self.engine.provider;
        if !self.engine.follow_log || !provider.capabilities().console || !self.record.provider.is_local() {
            return;
        }
        // It is an extra: what is wrong shows elsewhere.
        let Ok(piece) = provider.console(self.record, self.shown).await else { return };
        self.shown = piece.next;
        for byte in piece.bytes {
            // A line without an end is shown in parts.
            if byte == b'\n' || self.partial.len() >= CONSOLE_LINE_MAX {
                let line = std::mem::take(&mut self.partial);
                self.engine.events.event(Event::Log { line: shown(&line) });
            }
            if byte != b'\n' {
                self.partial.push(byte);
            }
        }
    }

    /// The last lines of the console of a machine that is off.
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

/// What shows that a login works.
const LOGIN: &str = "true";

/// A server that lets somebody in who can't run anything has refused the login.
fn no_session(target: &SshTarget, output: &Output) -> GuestError {
    let said = [output.stdout.trim(), output.stderr.trim()].join(" ");
    GuestError::Denied {
        user: target.user.to_string(),
        host: target.host.to_string(),
        port: target.port,
        reason: format!("no command can be run: {}", excerpt(said.trim())),
    }
}

/// Makes `$s` what must stand in front of a command of root's.
pub const AS_ROOT: &str = "PATH=$PATH:/usr/local/bin:/usr/bin:/bin; s=; if sudo -n true 2>/dev/null; then s='sudo -n'; \
    elif doas -n true 2>/dev/null; then s='doas -n'; fi; ";

/// A line of the guest's as it is kept and shown.
fn shown(line: &[u8]) -> String {
    excerpt(&printable(line))
}
