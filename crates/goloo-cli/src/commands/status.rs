//! `goloo status`

use goloo::actions::{StatusReport, VmStatus};
use goloo::drift::Drift;
use goloo_model::automatic_ports::AutomaticPorts;
use goloo_model::name::VmName;
use goloo_model::provider::Observation;
use goloo_model::record::{Origin, Record, Word};
use goloo_model::store::{HeldLock, StoreError};
use goloo_model::time::Timestamp;
use goloo_model::usage::MachineUsage;

use super::listing::{tags, warn_of_failures};
use super::machine_columns;
use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, OptionalVm};
use crate::output::{age, bytes, duration, forwards, hint};
use crate::{exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: OptionalVm,
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.of(app)?;
    app.warn_of_move()?;
    let StatusReport { vm, failures, skipped } = app.session.status(&name)?;
    warn_of_failures(app, &failures);
    skipped.iter().for_each(|skip| app.ui.note(&format!("{}: {}", skip.from, skip.reason)));
    let status = vm.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
    if !status.is_imported {
        let from = status.record.origin.as_ref().map_or("", |origin| origin.from.as_str());
        app.ui.note(&format!("{name} is defined in {from} and not imported; run `goloo migrate`"));
    }
    if app.ui.json() {
        app.ui.result(&json::VmDetails::from(&status));
    } else {
        print(app, &status)?;
    }
    Ok(exit::DONE)
}

fn print(app: &App, status: &VmStatus) -> Result<(), CliError> {
    let VmStatus { record, live, usage, automatic_ports, drift, .. } = status;
    let line = |label: &str, value: String| app.ui.line(&format!("{label:<13} {value}"));
    line("name", record.name.to_string());
    line("state", state_text(live));
    if let Some(started_at) = live.started_at {
        line("uptime", duration(Timestamp::now().since(started_at)));
    }
    line("phase", phase_text(app, record)?);
    line("provider", record.provider.to_string());
    if let (Some(ip), Some(port)) = (record.ip(), record.ssh_port()) {
        line("address", format!("{ip}:{port}"));
    }
    if let Some(name) = record.fqdn() {
        line("DNS name", name.to_owned());
    }
    machine_lines(record, usage).into_iter().for_each(|(label, value)| line(label, value));
    if let Some(ports) = automatic_ports {
        labelled("auto ports", auto_ports(ports, &record.name).into_iter())
            .for_each(|(label, value)| line(label, value));
    }
    if let Some(ssh) = &record.ssh {
        line(
            "user",
            match &ssh.login_problem {
                Some(problem) => format!("{} ({problem}; goloo ssh opens goloo's account)", ssh.user),
                None => ssh.user.to_string(),
            },
        );
    }
    if let Some(provisioning) = &record.provisioning {
        line("provisioning", provisioning.result.to_string());
        provisioning.errors.iter().for_each(|error| line("", error.clone()));
    }
    if let Some(old) = &record.replacing {
        line("to replace", format!("{} (goloo delete {} gives it up)", old.name, record.name));
    }
    if record.protected {
        line("protected", format!("yes (goloo unprotect {})", record.name));
    }
    if record.autostart {
        line("autostart", format!("yes (goloo autostart {} off)", record.name));
    }
    let age = age(Timestamp::now().since(record.created_at));
    let by = &record.created_by;
    line("created", format!("{} ({age} ago) by {} on {}", record.created_at, by.user, by.host));
    if let Some(export) = record.origin.as_ref().and_then(Origin::of_export) {
        line("imported", format!("from {export}"));
    }
    if !record.tags.is_empty() {
        line("tags", tags(record.tags.iter()));
    }
    if !record.overrides.is_empty() {
        line("overrides", machine_columns::overrides(record));
    }
    if !record.restart_pending.is_empty() {
        let settings = record.restart_pending.iter().map(|setting| match setting {
            Word::Known(setting) => setting.key().to_owned(),
            Word::Other(other) => other.to_string(),
        });
        let settings = settings.collect::<Vec<_>>().join(", ");
        line("pending", format!("{settings} (goloo restart {})", record.name));
    }
    if let Some(end) = record.ends_at {
        line("expires", format!("{end} (vm.ttl)"));
    }
    if let Some(path) = &record.source_config_path {
        line("stack", format!("{} ({})", path.display(), drift_text(drift, record.name.as_str())));
    }
    line("id", record.id.to_string());
    Ok(())
}

/// What the machine was given, and what it uses of it.
fn machine_lines(record: &Record, usage: &MachineUsage) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(stack) = record.resolved.as_deref() {
        lines.extend(stack.instance_type.as_ref().map(|kind| ("type", kind.to_string())));
        lines.push(("cpus", stack.cpus.to_string()));
        lines.push(("memory", share(stack.memory, usage.memory)));
        lines.push(("disk", share(stack.disk, usage.disk)));
        lines.push(("image", machine_columns::image(record, stack)));
        lines.extend(labelled("ports", machine_columns::ports(record, stack).into_iter()));
        lines.extend(labelled("mounts", machine_columns::mounts(record, stack).into_iter()));
    }
    lines
}

fn auto_ports(ports: &AutomaticPorts, name: &VmName) -> Vec<String> {
    let mut lines = forwards::lines(&ports.forwarded);
    let refused = ports.refused.iter();
    lines.extend(refused.map(|port| format!("{} is not forwarded: {}", port.guest_port, port.reason)));
    if !ports.is_followed {
        lines.push(format!("not updated, since a process of goloo has ended; run `goloo restart {name}`"));
    } else if lines.is_empty() {
        lines.push("none".to_owned());
    }
    lines
}

fn share(total: u64, used: Option<u64>) -> String {
    match used {
        Some(used) => format!("{} ({} used)", bytes(total), bytes(used)),
        None => bytes(total),
    }
}

/// The label on the first line only.
fn labelled(
    label: &'static str,
    values: impl Iterator<Item = String>,
) -> impl Iterator<Item = (&'static str, String)> {
    values.enumerate().map(move |(number, value)| (if number == 0 { label } else { "" }, value))
}

fn state_text(live: &Observation) -> String {
    match hint::reason(live) {
        Some(reason) => format!("{}: {reason}", live.state),
        None => live.state.to_string(),
    }
}

/// The phase, with the operation in progress and whether a process is still working on it, according to its lock.
fn phase_text(app: &App, record: &Record) -> Result<String, CliError> {
    let Some(operation) = &record.operation else { return Ok(record.phase.to_string()) };
    let lock = match app.session.lock_of(&record.name)? {
        None => format!("interrupted, run `goloo resume {}`", record.name),
        Some(HeldLock { owner, lease_end, .. }) => {
            let holder = owner.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string);
            let until = lease_end.map_or_else(String::new, |end| format!(" until {end}, unless renewed"));
            format!("locked by {holder}{until}")
        }
    };
    Ok(format!("{} ({} started by {}; {lock})", record.phase, operation.kind, operation.owner))
}

/// The text in parentheses after the stack's path.
fn drift_text(drift: &Drift, name: &str) -> String {
    match drift {
        Drift::None => "unchanged".to_owned(),
        Drift::Changed(changes) => {
            let files: Vec<_> = changes.iter().map(|change| change.file).collect();
            format!("{} changed: goloo diff {name}", files.join(", "))
        }
        Drift::Gone => "missing or unreadable".to_owned(),
        Drift::Unknown => {
            format!("not compared, since someone else may have set this path: goloo diff {name} -f PATH")
        }
    }
}
