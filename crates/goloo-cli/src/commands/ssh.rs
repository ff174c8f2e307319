//! `goloo ssh` and `goloo exec`

use std::ffi::OsString;
use std::process::{Command, ExitStatus};

use goloo::actions::Route;
use goloo_model::guest::SshTarget;
use goloo_model::provider::GuestRequest;
use goloo_model::record::{Record, SshAccess};

use super::program;
use crate::app::App;
use crate::error::CliError;
use crate::options::VmArg;
use goloo::ssh::{OwnLog, by_sh};

#[derive(Debug, clap::Args)]
pub struct SshArgs {
    #[command(flatten)]
    vm: VmArg,
    /// A command line for the login user's shell; by default an interactive shell
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
    let request = if line.is_empty() { GuestRequest::Shell } else { GuestRequest::Run(&in_shell) };
    let (record, target) = match app.session.route(&name, request)? {
        Route::Ssh(record, target) => (record, target),
        Route::Native(words) => return Err(program::become_program(&words)),
    };
    let ssh = record.ssh.as_ref().expect("it is reachable over SSH");
    if ssh.account.is_none() {
        return Err(program::become_program(&as_login_user(app, &target, &args.command)?));
    }
    if let Some(problem) = &ssh.login_problem {
        return open_account(app, &record, &target, problem, &args.command);
    }
    let login = SshTarget::login(&record).expect("it has an address");
    match try_login(app, &as_login_user(app, &login, &args.command)?)? {
        Login::Ended(status) => Ok(program::exit_code(status)),
        Login::Denied(reason) => open_account(app, &record, &target, &reason, &args.command),
    }
}

fn as_login_user(app: &App, login: &SshTarget, command: &[OsString]) -> Result<Vec<OsString>, CliError> {
    let mut words = app.session.ssh_command(login)?;
    words.extend(command.iter().cloned());
    Ok(words)
}

/// Connects with goloo's own account when the login user can't log in.
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
    let mut words = app.session.ssh_command(account)?;
    if command.is_empty() {
        // Options go directly after the program's name.
        words.insert(1, "-t".into());
        words.push(by_sh("command -v bash >/dev/null && exec bash -l; exec sh -l").into());
    }
    words.extend(command.iter().cloned());
    Err(program::become_program(&words))
}

enum Login {
    /// The session is over.
    Ended(ExitStatus),
    /// The login was refused: the server's message.
    Denied(String),
}

/// Runs `ssh` and distinguishes a refused login from a session. ssh's own messages are kept apart from the session's.
fn try_login(app: &App, words: &[OsString]) -> Result<Login, CliError> {
    let (program, arguments) = words.split_first().expect("a program has a name");
    let own = |error: std::io::Error| {
        CliError::failed("can't make a temporary file", "check TMPDIR").because(&error)
    };
    let log = OwnLog::new().map_err(own)?;
    let mut command = Command::new(program);
    command.args(log.arguments());
    // No prompt for the password of a user who may not exist: goloo's account is the alternative.
    command.args(["-o", "PreferredAuthentications=publickey"]).args(arguments);
    let status =
        program::run_in_foreground(&mut command).map_err(|error| program::cannot_run(program, &error))?;
    let said = log.end();
    if status.code() == Some(255) && said.contains("Permission denied") {
        let reason = said.lines().last().unwrap_or_default().to_owned();
        return Ok(Login::Denied(reason));
    }
    if !said.is_empty() {
        app.ui.say_excerpt(&said);
    }
    Ok(Login::Ended(status))
}

pub fn exec(app: &App, args: &ExecArgs) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    let words = args.command.iter().map(String::as_str);
    let command = shlex::try_join(words).map_err(|_| {
        CliError::usage("an argument contains a NUL byte, which no shell can pass on", "remove the NUL byte")
    })?;
    match app.session.route(&name, GuestRequest::Run(&args.command))? {
        Route::Ssh(record, target) => {
            let script = match record.ssh.as_ref().filter(|ssh| ssh.account.is_some()) {
                Some(ssh) => format!("exec /opt/goloo/as {} {command}", ssh.user),
                None => format!("exec {command}"),
            };
            Err(program::become_program(&app.session.ssh_script(&target, &script)?))
        }
        Route::Native(words) => Err(program::become_program(&words)),
    }
}
