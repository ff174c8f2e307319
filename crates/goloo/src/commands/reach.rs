//! What the commands that go into a machine have in common.

use std::ffi::OsString;
use std::io::Read;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use goloo_core::guest::SshTarget;
use goloo_core::name::VmName;
use goloo_core::provider::{Errand, LiveState, Observation};
use goloo_core::record::{Provisioning, ProvisioningResult, Record};

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::output::LogText;
use crate::ssh::by_sh;

/// Asks the record's provider what the machine does now.
pub fn observe(app: &App, record: &Record) -> Result<Observation, CliError> {
    let provider = app.provider_of(record)?;
    let mut observed = app.wait_for(provider.observe(&[record]));
    Ok(observed.pop().unwrap_or(Observation {
        state: LiveState::Unknown,
        ip: None,
        reason: Some("the provider gave no answer".to_owned()),
    }))
}

/// Fails where the machine is known to be off, or can't be reached at all.
pub fn expect_up(app: &App, name: &VmName) -> Result<(), CliError> {
    let record = app.record(name)?;
    // First: a copy that was never started has no address either.
    refuse_what_is_off(app, &record)?;
    SshTarget::of(&record).map(drop).ok_or_else(|| no_way_in(&record))
}

/// A way into a machine that is up.
pub enum Way {
    /// SSH answers. The record has the accounts.
    Ssh(Box<Record>, SshTarget),
    /// A machine that goloo has no key for: the provider's own program, and its arguments.
    Native(Vec<OsString>),
}

/// Finds the way into a machine, for goloo's own commands: over SSH as goloo's account, with the pinned host key.
pub fn way(app: &App, name: &VmName, errand: Errand<'_>) -> Result<Way, CliError> {
    let record = app.record(name)?;
    refuse_what_is_off(app, &record)?;
    match SshTarget::of(&record) {
        Some(target) => {
            expect_banner(app, &record, &target)?;
            Ok(Way::Ssh(Box::new(record), target))
        }
        None if record.ssh.is_none() => {
            let provider = app.provider_of(&record)?;
            provider.own_way_in(&record, errand).map(Way::Native).ok_or_else(|| no_way_in(&record))
        }
        None => Err(no_way_in(&record)),
    }
}

/// Becomes `ssh`, running this script by `/bin/sh` as goloo's account: its exit status is ours.
pub fn run_script(app: &App, target: &SshTarget, script: &str) -> Result<u8, CliError> {
    Err(become_program(&script_command(app, target, script)?))
}

/// `ssh` into the machine, running this script by `/bin/sh` as goloo's account.
pub fn script_command(app: &App, target: &SshTarget, script: &str) -> Result<Vec<OsString>, CliError> {
    let mut words = ssh(app, target)?;
    words.push(by_sh(script).into());
    Ok(words)
}

/// So much of what a program says beside a log is shown, in bytes.
const SAID_MAX: u64 = 64 << 10;

/// Runs a program whose output is a guest's log, and shows that with what a terminal would act on escaped. Its exit
/// status is ours.
pub fn show_log(app: &App, words: &[OsString]) -> Result<u8, CliError> {
    let (program, arguments) = words.split_first().expect("a program has a name");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| cannot_run(program, &error))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let listener = std::thread::Builder::new().spawn(move || stderr.map(said).unwrap_or_default());
    let said = listener.map_err(|error| {
        let _ = child.kill();
        let _ = child.wait();
        cannot_run(program, &error)
    })?;
    show(app, stdout);
    if !app.ui.is_read() {
        // It may have nothing to say for long, and so not notice.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| cannot_run(program, &error))?;
    let said = said.join().unwrap_or_default();
    if !said.is_empty() {
        app.ui.say_excerpt(&said);
    }
    Ok(if app.ui.is_read() { exit_code(status) } else { exit::DONE })
}

fn show(app: &App, stdout: Option<ChildStdout>) {
    let (mut text, mut piece) = (LogText::default(), vec![0; 64 << 10]);
    let Some(mut stdout) = stdout else { return };
    while app.ui.is_read() {
        match stdout.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => app.ui.log(&mut text, &piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    app.ui.end_log(&mut text);
}

fn said(mut stderr: impl Read) -> String {
    let mut bytes = Vec::new();
    // What can't be read was for a person alone. The rest is taken all the same, so that nobody waits for it.
    let _ = (&mut stderr).take(SAID_MAX).read_to_end(&mut bytes);
    let _ = std::io::copy(&mut stderr, &mut std::io::sink());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The exit code that says how a program ended.
pub fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::FAILED)
}

/// `ssh` into the machine, to be followed by what is to be run there.
pub fn ssh(app: &App, target: &SshTarget) -> Result<Vec<OsString>, CliError> {
    let mut words = vec!["ssh".into()];
    words.extend(app.keys.options(target)?);
    words.extend(["--".into(), OsString::from(target.host.as_str())]);
    Ok(words)
}

fn no_way_in(record: &Record) -> CliError {
    let name = &record.name;
    match &record.ssh {
        Some(_) => CliError::failed(format!("\"{name}\" has no address yet"), format!("goloo status {name}")),
        None => CliError::failed(
            format!("goloo has no key for \"{name}\""),
            format!("log in manually; goloo status {name} shows its address"),
        ),
    }
}

/// Multipass would start it, and `ssh` would wait for nothing.
fn refuse_what_is_off(app: &App, record: &Record) -> Result<(), CliError> {
    let name = &record.name;
    match observe(app, record)?.state {
        LiveState::Stopped => {
            Err(CliError::failed(format!("\"{name}\" is stopped"), format!("goloo start {name}")))
        }
        LiveState::Missing => Err(CliError::not_found(
            format!("the machine of \"{name}\" no longer exists; only its record is left"),
            format!("goloo delete {name} archives the record"),
        )),
        LiveState::Running | LiveState::Unknown => Ok(()),
    }
}

/// The command that shows what a machine is doing where SSH doesn't: not every provider has a console.
pub fn without_ssh(app: &App, record: &Record) -> String {
    let has_console = app.provider(record.provider).is_ok_and(|provider| provider.capabilities().console);
    if has_console {
        format!("goloo logs {} --console", record.name)
    } else {
        format!("goloo status {}", record.name)
    }
}

/// How long a machine that is up has for its first words, and for taking the connection before.
const BANNER_LIMIT: Duration = Duration::from_secs(5);

/// `ssh` would wait without a word for a machine that boots for the first time. Later `ssh` has its own limit: a newer
/// sshd takes such a look for a scan, and after some of them refuses everybody for a while.
fn expect_banner(app: &App, record: &Record, target: &SshTarget) -> Result<(), CliError> {
    let is_known = |provisioning: &Provisioning| provisioning.result != ProvisioningResult::Unknown;
    if record.provisioning.as_ref().is_some_and(is_known) {
        return Ok(());
    }
    let Err(error) = banner(target) else { return Ok(()) };
    let name = &record.name;
    let message = format!("\"{name}\" is still booting: SSH does not answer yet");
    let hint = format!("run `goloo wait {name}`; `{}` shows its boot progress", without_ssh(app, record));
    Err(CliError::failed(message, hint).because(&error))
}

fn banner(target: &SshTarget) -> std::io::Result<()> {
    let mut addresses = (target.host.as_str(), target.port).to_socket_addrs()?;
    let address = addresses.next().ok_or(std::io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, BANNER_LIMIT)?;
    stream.set_read_timeout(Some(BANNER_LIMIT))?;
    let mut start = [0; 4];
    stream.read_exact(&mut start)
}

/// Becomes this program. Returns only when that fails.
pub fn become_program(words: &[OsString]) -> CliError {
    let (program, arguments) = words.split_first().expect("a program has a name");
    // What it makes is the user's, as if they had run it themselves.
    goloo_os::umask::restore();
    let error = Command::new(program).args(arguments).exec();
    cannot_run(program, &error)
}

/// Why a program that leads into a machine can't be run.
pub fn cannot_run(program: &OsString, error: &std::io::Error) -> CliError {
    let hint = goloo_command::shortage_hint(error).unwrap_or(match program.to_str() {
        Some("ssh" | "scp") => "install the OpenSSH client (Debian: apt-get install openssh-client)",
        _ => "goloo doctor",
    });
    CliError::failed(format!("can't run {}", program.to_string_lossy()), hint).because(error)
}
