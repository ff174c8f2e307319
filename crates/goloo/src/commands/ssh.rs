//! `goloo ssh` and `goloo exec`

use std::ffi::OsString;

use goloo_core::provider::Errand;

use super::{VmArg, reach};
use crate::app::App;
use crate::error::CliError;

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
    reach::enter(app, &name, errand, |target| {
        let mut words = reach::ssh(app, target)?;
        words.extend(args.command.iter().cloned());
        Ok(words)
    })
}

pub fn exec(app: &App, args: &ExecArgs) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    let words = args.command.iter().map(String::as_str);
    let command = shlex::try_join(words).map_err(|_| {
        CliError::usage("an argument has a NUL byte, which no shell can pass on", "leave it out")
    })?;
    reach::enter(app, &name, Errand::Run(&args.command), |target| {
        let mut words = reach::ssh(app, target)?;
        words.push(command.into());
        Ok(words)
    })
}
