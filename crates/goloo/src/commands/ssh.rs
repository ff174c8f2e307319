//! `goloo ssh` and `goloo exec`

use std::ffi::OsString;

use super::{VmArg, reach};
use crate::app::App;
use crate::error::CliError;

/// Arguments of `ssh`.
#[derive(Debug, clap::Args)]
pub struct SshArgs {
    #[command(flatten)]
    vm: VmArg,
    /// A command line for the login user's shell; without one you get the shell itself
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub struct ExecArgs {
    #[command(flatten)]
    vm: VmArg,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub fn run(app: &App, args: &SshArgs) -> Result<u8, CliError> {
    let target = reach::target(app, &args.vm.parse()?)?;
    let mut arguments = app.keys.options(&target)?;
    arguments.extend(["--".into(), OsString::from(&target.host)]);
    arguments.extend(args.command.iter().cloned());
    Err(reach::become_program("ssh", arguments))
}

pub fn exec(app: &App, args: &ExecArgs) -> Result<u8, CliError> {
    let words = args.command.iter().map(String::as_str);
    let command = shlex::try_join(words).map_err(|_| {
        CliError::usage("an argument has a NUL byte, which no shell can pass on", "leave it out")
    })?;
    let target = reach::target(app, &args.vm.parse()?)?;
    let mut arguments = app.keys.options(&target)?;
    arguments.extend(["--".into(), OsString::from(&target.host), command.into()]);
    Err(reach::become_program("ssh", arguments))
}
