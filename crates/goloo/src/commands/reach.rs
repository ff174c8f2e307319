//! What the commands that go into a machine have in common.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use goloo_core::guest::SshTarget;
use goloo_core::name::VmName;
use goloo_core::provider::{LiveState, Observation};
use goloo_core::record::Record;

use crate::app::App;
use crate::error::CliError;

/// Asks the record's provider what the machine does now.
pub fn observe(app: &App, record: &Record) -> Result<Observation, CliError> {
    let provider = app.provider(record.provider)?;
    let mut observed = app.wait_for(provider.observe(&[record]));
    Ok(observed.pop().unwrap_or(Observation {
        state: LiveState::Unknown,
        ip: None,
        reason: Some("the provider gave no answer".to_owned()),
    }))
}

/// The way into a machine that isn't known to be off.
pub fn target(app: &App, name: &VmName) -> Result<SshTarget, CliError> {
    let record = app.record(name)?;
    let target = SshTarget::of(&record).ok_or_else(|| {
        CliError::failed(format!("\"{name}\" has no address yet"), format!("goloo status {name}"))
    })?;
    match observe(app, &record)?.state {
        LiveState::Stopped => {
            Err(CliError::failed(format!("\"{name}\" is stopped"), format!("goloo start {name}")))
        }
        LiveState::Missing => Err(CliError::not_found(
            format!("the machine of \"{name}\" is gone; only its record is left"),
            format!("goloo delete {name} archives the record"),
        )),
        LiveState::Running | LiveState::Unknown => Ok(target),
    }
}

/// Becomes `ssh` or `scp`: its exit status is ours. Returns only when that fails.
pub fn become_program(program: &str, arguments: Vec<OsString>) -> CliError {
    let error = Command::new(program).args(arguments).exec();
    CliError::failed(
        format!("can't run {program}"),
        "install the OpenSSH client (Debian: apt-get install openssh-client)",
    )
    .because(&error)
}
