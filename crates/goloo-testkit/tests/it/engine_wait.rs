//! How the engine waits for a machine from inside, and what it does if the machine can't be reached.
use std::sync::Mutex;
use std::time::Duration;

use crate::common::NoEmergencyDump;
use async_trait::async_trait;
use goloo_engine::{Engine, Interrupt, Verdict};
use goloo_model::events::{Event, EventContext, Events};
use goloo_model::guest::{Guest, GuestError, OnLine, Output, RunLimits, SshTarget};
use goloo_model::provider::Provider;
use goloo_model::record::{Phase, ProvisioningResult, Record};
use goloo_model::store::Store;
use goloo_testkit::fake_provider::FakeProvider;
use goloo_testkit::memory_store::MemoryStore;
use goloo_testkit::provider_suite::{self, SuiteWork};
use goloo_testkit::samples::{name, owner, ready, snapshot};

/// Collects the lines of the machine's own log.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Events for Lines {
    fn receive(&self, _: &EventContext, event: Event) {
        if let Event::Log { line } = event {
            self.0.lock().unwrap().push(line);
        }
    }
}

/// A guest whose responses come from the test; the function gets the user and the command.
struct Answers<F>(F);

#[async_trait]
impl<F: Fn(&str, &str) -> Result<&'static str, GuestError> + Send + Sync> Guest for Answers<F> {
    fn pin(&self, _: &Record) {}

    fn unpin(&self, _: &Record) {}

    async fn end_connections(&self, _: &Record) {}

    async fn forget(&self, _: &SshTarget) {}

    async fn run_with_input(
        &self,
        target: &SshTarget,
        command: &str,
        _: &[u8],
        _: RunLimits,
        line: &mut OnLine<'_>,
    ) -> Result<Output, GuestError> {
        let text = (self.0)(&target.user, command)?;
        text.lines().for_each(line);
        Ok(Output { status: 0, stdout: String::new(), stderr: String::new() })
    }
}

fn unreachable() -> GuestError {
    GuestError::Unreachable { host: "127.0.0.1".into(), port: 22, reason: "Connection refused".into() }
}

fn denied(user: &str) -> GuestError {
    GuestError::Denied {
        user: user.into(),
        host: "127.0.0.1".into(),
        port: 22,
        reason: "Permission denied".into(),
    }
}

const DONE: &str = "@goloo:status@\n{\"status\": \"done\", \"errors\": []}\n@goloo:end@\n";

/// A machine that hasn't been waited for, and the result of waiting for it.
struct Waited {
    record: Record,
    verdict: Verdict,
    provider: FakeProvider,
    lines: Vec<String>,
    time: Duration,
}

/// Waits for a machine whose login user is "ann" and whose account for goloo is "goloo".
fn wait<F>(prepare: impl FnOnce(&FakeProvider, &Record), answers: F) -> Waited
where
    F: Fn(&FakeProvider, &str, &str) -> Result<&'static str, GuestError> + Send + Sync,
{
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (store, provider, lines) = (MemoryStore::default(), FakeProvider::default(), Lines::default());
        let mut record = ready(&name("devbox"));
        (record.phase, record.provisioning) = (Phase::Degraded, None);
        let ssh = record.ssh.as_mut().unwrap();
        (ssh.user, ssh.account) = ("ann".parse().unwrap(), "goloo".parse().ok());
        let machine = provider_suite::machine("devbox", goloo_model::spec::ImageRef::Path("/i".into()), b"");
        let machine = goloo_model::provider::Machine { id: record.id.clone(), ..machine };
        provider.create(&machine, &mut SuiteWork::default()).await.unwrap();
        let mut lock = store.lock(&record.name, &owner(1)).await.unwrap();
        lock.create(&mut record, &snapshot()).await.unwrap();
        drop(lock);
        prepare(&provider, &record);
        let (began, interrupt, owner) = (tokio::time::Instant::now(), Interrupt::default(), owner(1));
        let guest = Answers(|user: &str, command: &str| answers(&provider, user, command));
        let engine = Engine {
            store: &store,
            provider: &provider,
            guest: &guest,
            host_names: &provider,
            events: &lines,
            interrupt: &interrupt,
            rescue: &NoEmergencyDump,
            owner: &owner,
            here: &goloo_testkit::samples::here(),
            limit: Duration::from_secs(900),
            follow_log: true,
        };
        let (record, verdict) = engine.wait(&name("devbox")).await.unwrap();
        let (time, lines) = (began.elapsed(), lines.0.lock().unwrap().clone());
        Waited { record, verdict, lines, time, provider }
    })
}

#[test]
fn a_power_off_ends_the_wait_within_seconds() {
    let waited = wait(
        |provider, record| {
            provider.set_console(b"Starting\r\n\x1b[32mPower down\x1b[0m\n");
            provider.power_off(record);
        },
        |_, _, _| Err(unreachable()),
    );
    assert_eq!(waited.verdict.result, ProvisioningResult::Ended);
    assert_eq!(waited.verdict.log, ["Starting", "Power down"]);
    assert!(waited.time < Duration::from_secs(10), "{:?}", waited.time);
    assert_eq!(
        (waited.record.phase, waited.record.provisioning.unwrap().result),
        (Phase::Degraded, ProvisioningResult::Ended)
    );
}

#[test]
fn the_console_is_shown_until_ssh_answers() {
    let tries = Mutex::new(0);
    let waited = wait(
        |provider, _| provider.set_console(b"[    0.1] Linux\nhalf a"),
        |provider, _, _| {
            let mut tries = tries.lock().unwrap();
            *tries += 1;
            match *tries {
                1 => Err(unreachable()),
                2 => {
                    provider.set_console(b"[    0.1] Linux\nhalf a line\n");
                    Err(unreachable())
                }
                3 => Ok(""),
                _ => Ok("Cloud-init\n@goloo:status@\n{\"status\": \"done\"}\n"),
            }
        },
    );
    assert_eq!(waited.verdict.result, ProvisioningResult::Done);
    assert_eq!(waited.lines, ["[    0.1] Linux", "half a line", "Cloud-init"]);
}

#[test]
fn a_missing_goloo_account_is_restored_once_by_the_provider() {
    let waited = wait(
        |_, _| {},
        |provider, user, _| if provider.restores() == 0 { Err(denied(user)) } else { Ok(DONE) },
    );
    assert_eq!(waited.verdict.result, ProvisioningResult::Done);
    assert_eq!(waited.provider.restores(), 1);
    assert!(waited.time < Duration::from_secs(30), "{:?}", waited.time);
}

#[test]
fn the_wait_falls_back_to_the_login_user() {
    let waited = wait(|_, _| {}, |_, user, _| if user == "goloo" { Err(denied(user)) } else { Ok(DONE) });
    assert_eq!(waited.verdict.result, ProvisioningResult::Done);
    assert_eq!(waited.provider.restores(), 1);
}

#[test]
fn a_machine_that_denies_all_logins_ends_the_wait_before_the_timeout() {
    let waited = wait(|_, _| {}, |_, user, _| Err(denied(user)));
    assert_eq!(waited.verdict.result, ProvisioningResult::Unknown);
    assert!(waited.verdict.errors[0].contains("ann@127.0.0.1"), "{:?}", waited.verdict);
    assert!(waited.time < Duration::from_secs(300), "{:?}", waited.time);
}

#[test]
fn the_reason_a_login_user_cannot_log_in_is_recorded() {
    let report =
        "@goloo:status@\n{\"status\": \"done\"}\n@goloo:login@\nthere is no such user\n@goloo:end@\n";
    let waited = wait(|_, _| {}, move |_, _, _| Ok(report));
    assert_eq!(waited.verdict.result, ProvisioningResult::DoneWithWarnings);
    assert_eq!(waited.record.phase, Phase::Ready);
    assert_eq!(waited.record.ssh.unwrap().login_problem.as_deref(), Some("there is no such user"));
}

#[test]
fn the_report_is_read_with_the_goloo_account() {
    let waited = wait(
        |_, _| {},
        |_, user, command| {
            assert_eq!(user, "goloo");
            assert!(command == "true" || command.contains("login=ann\n"), "{command}");
            Ok(DONE)
        },
    );
    assert_eq!(waited.verdict.result, ProvisioningResult::Done);
}
