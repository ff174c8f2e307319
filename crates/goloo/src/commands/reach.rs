//! What the commands that go into a machine have in common.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use goloo_command::Lines;
use goloo_core::guest::{SshTarget, printable};
use goloo_core::name::VmName;
use goloo_core::provider::{Errand, LiveState, Observation};
use goloo_core::record::{Provisioning, ProvisioningResult, Record};

use crate::app::App;
use crate::error::CliError;
use crate::exit;
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

/// Runs a program that shows text of a guest's, a line at a time, without what a terminal would take for commands. Its
/// exit status is ours.
///
/// It stays in goloo's process group: Ctrl-C is for both.
pub fn show_output(words: &[OsString]) -> Result<u8, CliError> {
    let (program, arguments) = words.split_first().expect("a program has a name");
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| cannot_run(program, &error))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // What can't be written there can't be said there either.
    let messages = std::thread::spawn(move || drop(copy_lines(stderr, &mut std::io::stderr())));
    let copied = copy_lines(stdout, &mut std::io::stdout());
    if copied.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| cannot_run(program, &error))?;
    // A panic has said what it was about.
    let _ = messages.join();
    match copied {
        Ok(()) => Ok(super::ssh::exit_code(status)),
        Err(error) => unless_reader_is_gone(error),
    }
}

/// The longest line of a guest's that is shown, in bytes.
const LINE_MAX: usize = 256 << 10;

fn copy_lines(from: Option<impl Read>, to: &mut impl Write) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut shown = ShownLines::default();
    let mut piece = vec![0; 64 << 10];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return shown.end(to),
            Ok(count) => shown.take(&piece[..count], to)?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A guest's text, shown by lines.
pub struct ShownLines(Lines);

impl Default for ShownLines {
    fn default() -> Self {
        Self(Lines::new(LINE_MAX))
    }
}

impl ShownLines {
    /// Writes the lines that this piece completes.
    pub fn take(&mut self, piece: &[u8], to: &mut impl Write) -> std::io::Result<()> {
        let mut text = String::new();
        self.0.take(piece, &mut |line| push_line(&mut text, line));
        to.write_all(text.as_bytes()).and_then(|()| to.flush())
    }

    /// Writes what has no end yet.
    pub fn end(&mut self, to: &mut impl Write) -> std::io::Result<()> {
        let mut text = String::new();
        self.0.end(&mut |line| push_line(&mut text, line));
        to.write_all(text.as_bytes()).and_then(|()| to.flush())
    }
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(&printable(line.as_bytes()));
    text.push('\n');
}

/// A reader of standard output that has gone away wants no more; any other failure is one.
pub fn unless_reader_is_gone(error: std::io::Error) -> Result<u8, CliError> {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return Ok(exit::DONE);
    }
    Err(CliError::failed("standard output can't be written", "check where it goes").because(&error))
}

/// Becomes `ssh`, running this script by `/bin/sh` as goloo's account: its exit status is ours.
pub fn run_script(app: &App, target: &SshTarget, script: &str) -> Result<u8, CliError> {
    Err(become_program(&script_command(app, target, script)?))
}

/// `ssh` that runs this script by `/bin/sh` as goloo's account.
pub fn script_command(app: &App, target: &SshTarget, script: &str) -> Result<Vec<OsString>, CliError> {
    let mut words = ssh(app, target)?;
    words.push(by_sh(script).into());
    Ok(words)
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
    let hint = match program.to_str() {
        Some("ssh" | "scp") => "install the OpenSSH client (Debian: apt-get install openssh-client)",
        _ => "goloo doctor",
    };
    CliError::failed(format!("can't run {}", program.to_string_lossy()), hint).because(error)
}
