//! `goloo ssh` and `goloo exec`

use std::ffi::OsString;
use std::io::Read;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};

use goloo_core::guest::{SshTarget, printable};
use goloo_core::provider::Errand;
use goloo_core::record::{Record, SshAccess};

use super::VmArg;
use super::reach::{self, Way};
use crate::app::App;
use crate::error::CliError;
use crate::signals;
use crate::ssh::by_sh;

#[derive(Debug, clap::Args)]
pub struct SshArgs {
    #[command(flatten)]
    vm: VmArg,
    /// A command line for the login user's shell; without one you get the shell itself
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub struct ExecArgs {
    #[command(flatten)]
    vm: VmArg,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub fn run(app: &App, args: &SshArgs) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    let line: Vec<_> = args.command.iter().map(|word| word.to_string_lossy()).collect();
    let in_shell = ["sh".to_owned(), "-c".to_owned(), line.join(" ")];
    let errand = if line.is_empty() { Errand::Shell } else { Errand::Run(&in_shell) };
    let (record, target) = match reach::way(app, &name, errand)? {
        Way::Ssh(record, target) => (record, target),
        Way::Native(words) => return Err(reach::become_program(&words)),
    };
    let ssh = record.ssh.as_ref().expect("SSH leads into it");
    if ssh.account.is_none() {
        return Err(reach::become_program(&as_login_user(app, &target, &args.command)?));
    }
    if let Some(problem) = &ssh.login_problem {
        return open_account(app, &record, &target, problem, &args.command);
    }
    let login = SshTarget::login(&record).expect("it has an address");
    match try_login(app, &as_login_user(app, &login, &args.command)?)? {
        Login::Ended(status) => Ok(reach::exit_code(status)),
        Login::Denied(reason) => open_account(app, &record, &target, &reason, &args.command),
    }
}

fn as_login_user(app: &App, login: &SshTarget, command: &[OsString]) -> Result<Vec<OsString>, CliError> {
    let mut words = reach::ssh(app, login)?;
    words.extend(command.iter().cloned());
    Ok(words)
}

/// The way in for a person whose login user can't log in.
fn open_account(
    app: &App,
    record: &Record,
    account: &SshTarget,
    problem: &str,
    command: &[OsString],
) -> Result<u8, CliError> {
    let SshAccess { user, .. } = record.ssh.as_ref().expect("it has an account");
    app.ui.note(&format!(
        "{user} can't log in to {} ({problem}): this is goloo's own account \"{}\"",
        record.name, account.user
    ));
    let mut words = reach::ssh(app, account)?;
    if command.is_empty() {
        // Behind the program's name, where options are.
        words.insert(1, "-t".into());
        words.push(by_sh("command -v bash >/dev/null && exec bash -l; exec sh -l").into());
    }
    words.extend(command.iter().cloned());
    Err(reach::become_program(&words))
}

/// How an attempt to log in went.
enum Login {
    /// The session is over.
    Ended(ExitStatus),
    /// There was none: what the server said.
    Denied(String),
}

/// How much of ssh's own words is read, in bytes: some of them are the server's.
const LOG_MAX: u64 = 64 << 10;

/// Runs `ssh` and tells a refused login from a session. Its own words go into a file, so that they aren't mixed
/// with the session's.
fn try_login(app: &App, words: &[OsString]) -> Result<Login, CliError> {
    let (program, arguments) = words.split_first().expect("a program has a name");
    let own = |error: std::io::Error| {
        CliError::failed("can't make a temporary file", "check TMPDIR").because(&error)
    };
    let mut log = tempfile::NamedTempFile::new().map_err(own)?;
    let mut command = Command::new(program);
    command.arg("-E").arg(log.path());
    // Nobody is asked for a password of a user who may not exist: goloo's account is the other way in.
    command.args(["-o", "PreferredAuthentications=publickey"]).args(arguments);
    let status = run_in_foreground(&mut command).map_err(|error| reach::cannot_run(program, &error))?;
    let mut said = Vec::new();
    // What can't be read was for a person alone.
    let _ = log.by_ref().take(LOG_MAX).read_to_end(&mut said);
    let said: Vec<String> = said.split(|byte| *byte == b'\n').map(printable).collect();
    let said = said.join("\n");
    if status.code() == Some(255) && said.contains("Permission denied") {
        let reason = said.trim().lines().last().unwrap_or_default().to_owned();
        return Ok(Login::Denied(reason));
    }
    if !said.is_empty() {
        app.ui.say_excerpt(&said);
    }
    Ok(Login::Ended(status))
}

/// Runs a program that has the terminal: Ctrl-C is for it, and what ends goloo ends it too.
fn run_in_foreground(command: &mut Command) -> std::io::Result<ExitStatus> {
    static CHILD: AtomicI32 = AtomicI32::new(0);
    signals::watch(|_| {
        if let Some(pid) = rustix::process::Pid::from_raw(CHILD.load(Ordering::SeqCst)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    })?;
    let mut child = command.spawn()?;
    CHILD.store(i32::try_from(child.id()).unwrap_or(0), Ordering::SeqCst);
    let status = child.wait();
    CHILD.store(0, Ordering::SeqCst);
    status
}

pub fn exec(app: &App, args: &ExecArgs) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    let words = args.command.iter().map(String::as_str);
    let command = shlex::try_join(words).map_err(|_| {
        CliError::usage("an argument has a NUL byte, which no shell can pass on", "leave it out")
    })?;
    match reach::way(app, &name, Errand::Run(&args.command))? {
        Way::Ssh(record, target) => {
            let script = match record.ssh.as_ref().filter(|ssh| ssh.account.is_some()) {
                Some(ssh) => format!("exec /opt/goloo/as {} {command}", ssh.user),
                None => format!("exec {command}"),
            };
            reach::run_script(app, &target, &script)
        }
        Way::Native(words) => Err(reach::become_program(&words)),
    }
}
