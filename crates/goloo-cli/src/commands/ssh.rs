//! `goloo ssh` and `goloo exec`

use std::ffi::OsString;
use std::process::{Command, ExitStatus};

use clap_complete::engine::ArgValueCandidates;
use goloo::actions::Route;
use goloo_model::guest::SshTarget;
use goloo_model::name::VmName;
use goloo_model::provider::GuestRequest;
use goloo_model::record::{Record, SshAccess};

use super::{program, which};
use crate::app::App;
use crate::complete;
use crate::error::CliError;
use crate::options::{NO_NAME, OptionalVm};
use goloo::ssh::{Connection, OwnLog, by_sh};

#[derive(Debug, clap::Args)]
pub struct SshArgs {
    #[command(flatten)]
    vm: OptionalVm,
    /// A command line for the login user's shell; by default an interactive shell
    #[arg(value_name = "CMD", trailing_var_arg = true)]
    command: Vec<OsString>,
    #[command(flatten)]
    passed: Passed,
}

// Options for ssh.
#[derive(Debug, clap::Args)]
struct Passed {
    /// Forward your SSH agent into the VM
    #[arg(short = 'A')]
    agent: bool,
    /// Forward a port of this computer to the VM: [ADDRESS:]PORT:HOST:HOSTPORT
    #[arg(short = 'L', value_name = "FORWARD")]
    local: Vec<String>,
    /// Forward a port of the VM to this computer: [ADDRESS:]PORT:HOST:HOSTPORT
    #[arg(short = 'R', value_name = "FORWARD")]
    remote: Vec<String>,
    /// Allocate a terminal for the command
    #[arg(short = 't')]
    terminal: bool,
}

impl Passed {
    /// Whether the session needs a connection of its own: what is forwarded over a shared one outlives the session, and
    /// the next commands could use it too.
    fn needs_own_connection(&self) -> bool {
        self.agent || !self.local.is_empty() || !self.remote.is_empty()
    }

    /// As arguments of ssh.
    fn arguments(&self) -> Vec<OsString> {
        let flag = |is_set: bool, name: &str| is_set.then(|| name.into());
        let forward = |name: &'static str| move |value: &String| [name.into(), value.into()];
        let flags = flag(self.agent, "-A").into_iter().chain(flag(self.terminal, "-t"));
        let (local, remote) =
            (self.local.iter().flat_map(forward("-L")), self.remote.iter().flat_map(forward("-R")));
        flags.chain(local).chain(remote).collect()
    }
}

#[derive(Debug, clap::Args)]
pub struct ExecArgs {
    /// The VM, followed by the program and its arguments; an environment, or a machine of one (shop/web), means all of its
    /// VMs. With `--` before the program, all words before it are VMs; with none, it is the only VM, or the one that was created from the stack in this folder
    #[arg(
        value_name = "NAME",
        trailing_var_arg = true,
        add = ArgValueCandidates::new(complete::vm_names)
    )]
    words: Vec<String>,
    /// Run it in all VMs on this computer; name only the program and its arguments
    #[arg(long)]
    all: bool,
}

impl SshArgs {
    pub fn has_no_name(&self) -> bool {
        self.vm.name.is_none()
    }

    fn vm(&self, app: &App) -> Result<VmName, CliError> {
        if self.vm.name.as_deref() == Some(NO_NAME) { which::default_vm(app) } else { self.vm.of(app) }
    }
}

pub fn run(app: &App, args: &SshArgs) -> Result<u8, CliError> {
    let name = args.vm(app)?;
    let line: Vec<_> = args.command.iter().map(|word| word.to_string_lossy()).collect();
    let in_shell = ["sh".to_owned(), "-c".to_owned(), line.join(" ")];
    let request = if line.is_empty() { GuestRequest::Shell } else { GuestRequest::Run(&in_shell) };
    let (record, target) = match app.session.route(&name, request)? {
        Route::Ssh(record, target) => (record, target),
        Route::Native(words) => {
            refuse_to_pass(&args.passed, &name)?;
            return Err(program::become_program(&words));
        }
    };
    let session = Login { app, passed: &args.passed, command: &args.command };
    let ssh = record.ssh.as_ref().expect("it is reachable over SSH");
    if ssh.account.is_none() {
        return Err(program::become_program(&session.as_login_user(&target, &session.connect(&target)?)?));
    }
    if let Some(problem) = &ssh.login_problem {
        return session.open_account(&record, &target, problem);
    }
    let login = SshTarget::login(&record).expect("it has an address");
    match session.attempt(&login)? {
        Attempt::Ended(status) => Ok(program::exit_code(status)),
        Attempt::Denied(reason) => session.open_account(&record, &target, &reason),
    }
}

/// The provider's own session has no such options.
fn refuse_to_pass(passed: &Passed, name: &VmName) -> Result<(), CliError> {
    let arguments = passed.arguments();
    let Some(first) = arguments.first() else { return Ok(()) };
    Err(CliError::usage(
        format!("{} is an option of ssh, and goloo has no SSH access to \"{name}\"", first.to_string_lossy()),
        format!("goloo ssh {name}"),
    ))
}

/// A session with a VM.
struct Login<'a> {
    app: &'a App,
    passed: &'a Passed,
    command: &'a [OsString],
}

enum Attempt {
    /// The session is over.
    Ended(ExitStatus),
    /// The login was refused: the server's message.
    Denied(String),
}

impl Login<'_> {
    fn connect(&self, target: &SshTarget) -> Result<Connection, CliError> {
        let needs_own = self.passed.needs_own_connection();
        Ok(if needs_own { Connection::Own } else { self.app.session.connect(target)? })
    }

    /// The words that run ssh, with the options that the user gave directly after its name.
    fn words(
        &self,
        target: &SshTarget,
        connection: &Connection,
        options: &[&str],
    ) -> Result<Vec<OsString>, CliError> {
        let mut words = self.app.session.ssh_command(target, connection)?;
        let options = options.iter().map(OsString::from).chain(self.passed.arguments());
        words.splice(1..1, options);
        Ok(words)
    }

    fn as_login_user(&self, login: &SshTarget, connection: &Connection) -> Result<Vec<OsString>, CliError> {
        let mut words = self.words(login, connection, &[])?;
        words.extend(self.command.iter().cloned());
        Ok(words)
    }

    /// Connects with goloo's own account when the login user can't log in.
    fn open_account(&self, record: &Record, account: &SshTarget, problem: &str) -> Result<u8, CliError> {
        let SshAccess { user, .. } = record.ssh.as_ref().expect("it has an account");
        self.app.ui.note(&format!(
            "{user} can't log in to {} ({problem}): this is goloo's own account \"{}\"",
            record.name, account.user
        ));
        let is_shell = self.command.is_empty();
        let connection = self.connect(account)?;
        let mut words = self.words(account, &connection, if is_shell { &["-t"] } else { &[] })?;
        if is_shell {
            words.push(by_sh("command -v bash >/dev/null && exec bash -l; exec sh -l").into());
        }
        words.extend(self.command.iter().cloned());
        Err(program::become_program(&words))
    }

    /// Runs `ssh` and distinguishes a refused login from a session. ssh's own messages are kept apart from the
    /// session's.
    fn attempt(&self, login: &SshTarget) -> Result<Attempt, CliError> {
        let connection = self.connect(login)?;
        if let Connection::Failed(said) = &connection
            && let Some(reason) = denial(said)
        {
            return Ok(Attempt::Denied(reason));
        }
        let words = self.as_login_user(login, &connection)?;
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
        if status.code() == Some(255)
            && let Some(reason) = denial(&said)
        {
            return Ok(Attempt::Denied(reason));
        }
        if !said.is_empty() {
            self.app.ui.say_excerpt(&said);
        }
        Ok(Attempt::Ended(status))
    }
}

/// The server's message, if it refused the login.
fn denial(said: &str) -> Option<String> {
    said.contains("Permission denied").then(|| said.lines().last().unwrap_or_default().to_owned())
}

impl ExecArgs {
    pub fn has_no_name(&self) -> bool {
        self.words.is_empty()
    }

    /// The VMs, and the program with its arguments.
    fn split(&self, app: &App) -> Result<(Vec<VmName>, &[String]), CliError> {
        let dashes = self.words.iter().position(|word| word == NO_NAME);
        let (names, program) = match dashes {
            Some(at) => (&self.words[..at], &self.words[at + 1..]),
            None if self.all => (&[][..], &*self.words),
            None => self.words.split_at(self.words.len().min(1)),
        };
        let names = match (self.all, names) {
            (true, []) => which::all_here(app)?,
            (true, _) => {
                return Err(CliError::usage("--all is for all VMs, and some are named", "omit the names"));
            }
            (false, []) if !program.is_empty() => vec![which::default_vm(app)?],
            (false, names) => which::distinct(app, names)?,
        };
        if program.is_empty() {
            let shown = names.first().map_or("NAME", VmName::as_str);
            return Err(CliError::usage(
                "there is no program to run",
                format!("goloo exec {shown} CMD, or `goloo ssh {shown}` for a shell"),
            ));
        }
        Ok((names, program))
    }
}

pub fn exec(app: &App, args: &ExecArgs) -> Result<u8, CliError> {
    let (names, program) = args.split(app)?;
    if let [name] = &*names {
        return Err(program::become_program(&exec_words(app, name, program)?));
    }
    program::show_each_labelled(app, &names, |name| exec_words(app, name, program))
}

/// The words that run a program in a VM.
fn exec_words(app: &App, name: &VmName, program: &[String]) -> Result<Vec<OsString>, CliError> {
    let command = shlex::try_join(program.iter().map(String::as_str)).map_err(|_| {
        CliError::usage("an argument contains a NUL byte, which no shell can pass on", "remove the NUL byte")
    })?;
    match app.session.route(name, GuestRequest::Run(program))? {
        Route::Ssh(record, target) => {
            let script = match record.ssh.as_ref().filter(|ssh| ssh.account.is_some()) {
                Some(ssh) => format!("exec /opt/goloo/as {} {command}", ssh.user),
                None => format!("exec {command}"),
            };
            Ok(app.session.ssh_script(&target, &script)?)
        }
        Route::Native(words) => Ok(words),
    }
}
