//! `goloo status`

use goloo_core::name::VmName;
use goloo_core::provider::Observation;
use goloo_core::record::Record;
use goloo_core::store::{HeldLock, StoreError};
use goloo_core::time::Timestamp;
use serde_json::{Value, json};

use super::VmArg;
use super::diff::{Drift, drift};
use crate::app::App;
use crate::error::CliError;
use crate::output::age;
use crate::{args, exit, observe};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    #[command(flatten)]
    json: args::Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    app.warn_of_move()?;
    let (record, is_recorded) = to_show(app, &name)?;
    let live = match record.elsewhere(&app.here()) {
        Some(place) => observe::at(&place),
        None => super::reach::observe(app, &record)?,
    };
    let drift = match (&record.source_config_path, app.trusted_source(&record)) {
        _ if !is_recorded => Drift::None,
        (Some(_), None) => Drift::Unknown,
        (_, folder) => drift(&app.local(app.store.snapshot(&name))?, folder),
    };
    if app.ui.json() {
        app.ui.result(json!({
            "vm": record_json(&record),
            "live": {"state": live.state.as_str(), "ip": live.ip, "reason": live.reason},
            "drift": drift.word(),
            "imported": is_recorded,
        }));
    } else {
        print(app, &record, &live, &drift)?;
    }
    Ok(exit::DONE)
}

/// The VM's record, or the one that `goloo migrate` would create from a goloo v0 config. Writes nothing.
fn to_show(app: &App, name: &VmName) -> Result<(Record, bool), CliError> {
    if let Some(record) = app.recorded(name)? {
        return Ok((record, true));
    }
    let unrecorded = crate::migrate::to_show(app, Some(name)).into_iter().next();
    let record = unrecorded.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
    let from = record.origin.as_ref().map_or("", |origin| origin.from.as_str());
    app.ui.note(&format!("{name} is defined in {from} and not imported; run `goloo migrate`"));
    Ok((record, false))
}

/// The record as commands print it. A private key has no such form: see [`goloo_core::secret`].
pub fn record_json(record: &Record) -> Value {
    serde_json::to_value(record).expect("a record has only string keys")
}

fn print(app: &App, record: &Record, live: &Observation, drift: &Drift) -> Result<(), CliError> {
    let line = |label: &str, value: String| app.ui.line(&format!("{label:<13} {value}"));
    line("name", record.name.to_string());
    line("state", state_text(live));
    line("phase", phase_text(app, record)?);
    line("provider", record.provider.to_string());
    if let (Some(ip), Some(port)) = (record.ip(), record.ssh_port()) {
        line("address", format!("{ip}:{port}"));
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
    if record.protected {
        line("protected", format!("yes (goloo unprotect {})", record.name));
    }
    let age = age(Timestamp::now().since(record.created_at));
    let by = &record.created_by;
    line("made", format!("{} ({age} ago) by {} on {}", record.created_at, by.user, by.host));
    if !record.tags.is_empty() {
        line("tags", super::list::tags(record.tags.iter()));
    }
    if let Some(end) = record.ends_at {
        line("ends", format!("{end}, by itself (vm.ttl)"));
    }
    if let Some(path) = &record.source_config_path {
        line("stack", format!("{} ({})", path.display(), drift.text(record.name.as_str())));
    }
    line("id", record.id.to_string());
    Ok(())
}

fn state_text(live: &Observation) -> String {
    match &live.reason {
        Some(reason) => format!("{}: {reason}", live.state),
        None => live.state.to_string(),
    }
}

/// Also what is under way, and whether anyone is still at it: its lock knows better than the record.
fn phase_text(app: &App, record: &Record) -> Result<String, CliError> {
    let Some(operation) = &record.operation else { return Ok(record.phase.to_string()) };
    let held = app.local(app.store.locks())?.into_iter().find(|held| held.name == record.name);
    let lock = match held {
        None => format!("nobody is at it: goloo resume {}", record.name),
        Some(HeldLock { owner, lease_end, .. }) => {
            let holder = owner.map_or_else(|| "another process".to_owned(), |owner| owner.to_string());
            let until = lease_end.map_or_else(String::new, |end| format!(" until {end}, unless renewed"));
            format!("locked by {holder}{until}")
        }
    };
    Ok(format!("{} ({} begun by {}; {lock})", record.phase, operation.kind, operation.owner))
}
