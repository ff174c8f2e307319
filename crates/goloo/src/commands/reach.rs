//! What the commands that go into a machine have in common.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use goloo_core::guest::SshTarget;
use goloo_core::name::VmName;
use goloo_core::provider::{Errand, LiveState, Observation};
use goloo_core::record::Record;

use crate::app::App;
use crate::error::CliError;

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

/// The way into a machine that isn't known to be off.
pub fn target(app: &App, name: &VmName) -> Result<SshTarget, CliError> {
    let record = app.record(name)?;
    // First: a copy that was never started has no address either.
    refuse_what_is_off(app, &record)?;
    SshTarget::of(&record).ok_or_else(|| no_way_in(&record))
}

/// Becomes the program that does this errand in the machine: its exit status is ours. That is `ssh` or
/// `scp`, as `over_ssh` puts it together, with the pinned host key; for a machine that goloo has no key
/// for, the provider's own way in.
pub fn enter(
    app: &App,
    name: &VmName,
    errand: Errand<'_>,
    over_ssh: impl FnOnce(&SshTarget) -> Result<Vec<OsString>, CliError>,
) -> Result<u8, CliError> {
    let record = app.record(name)?;
    refuse_what_is_off(app, &record)?;
    let words = match SshTarget::of(&record) {
        Some(target) => over_ssh(&target)?,
        None if record.ssh.is_none() => {
            let provider = app.provider_of(&record)?;
            provider.own_way_in(&record, errand).ok_or_else(|| no_way_in(&record))?
        }
        None => return Err(no_way_in(&record)),
    };
    Err(become_program(&words))
}

/// `ssh` into the machine, to be followed by what is to be run there.
pub fn ssh(app: &App, target: &SshTarget) -> Result<Vec<OsString>, CliError> {
    let mut words = vec!["ssh".into()];
    words.extend(app.keys.options(target)?);
    words.extend(["--".into(), OsString::from(&target.host)]);
    Ok(words)
}

fn no_way_in(record: &Record) -> CliError {
    let name = &record.name;
    match &record.ssh {
        Some(_) => CliError::failed(format!("\"{name}\" has no address yet"), format!("goloo status {name}")),
        None => CliError::failed(
            format!("goloo has no key for \"{name}\""),
            format!("log in by your own means; goloo status {name} shows its address"),
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
            format!("the machine of \"{name}\" is gone; only its record is left"),
            format!("goloo delete {name} archives the record"),
        )),
        LiveState::Running | LiveState::Unknown => Ok(()),
    }
}

/// Returns only when that fails.
fn become_program(words: &[OsString]) -> CliError {
    let (program, arguments) = words.split_first().expect("a program has a name");
    let error = Command::new(program).args(arguments).exec();
    let hint = match program.to_str() {
        Some("ssh" | "scp") => "install the OpenSSH client (Debian: apt-get install openssh-client)",
        _ => "goloo doctor",
    };
    CliError::failed(format!("can't run {}", program.to_string_lossy()), hint).because(&error)
}
