//! `goloo delete`

use std::time::Duration;

use goloo::actions::Forgotten;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{ForeignOwner, Record};

use super::ask::Question;
use super::which;
use crate::app::App;
use crate::error::CliError;
use crate::options::Json;
use crate::{exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VMs, an environment, or a machine of one (shop/web)
    #[arg(
        value_name = "NAME",
        required_unless_present = "all",
        add = clap_complete::engine::ArgValueCandidates::new(crate::complete::vm_names)
    )]
    names: Vec<String>,
    /// Delete all VMs on this computer
    #[arg(long, conflicts_with_all = ["names", "forget"])]
    all: bool,
    /// Don't ask for confirmation
    #[arg(short = 'y', long)]
    yes: bool,
    /// Archive the records of VMs whose host or state folder is lost; their machines are not deleted
    #[arg(long)]
    forget: bool,
    /// Delete the other VMs when one belongs elsewhere
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    json: Json,
}

/// Deleting doesn't wait for the machine.
pub const NO_WAIT: Duration = Duration::ZERO;

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let names = if args.all { which::all_here(app)? } else { which::distinct(app, &args.names)? };
    let records: Vec<Record> = names.iter().map(|name| app.session.record(name)).collect::<Result<_, _>>()?;
    if !args.forget && !args.keep_going {
        app.session.expect_here(&records)?;
    }
    if !args.yes {
        ask(app, &records, args.forget)?;
    }
    if args.forget { forget_each(app, args, &records) } else { delete_each(app, &records) }
}

fn delete_each(app: &App, records: &[Record]) -> Result<u8, CliError> {
    let is_json = app.ui.json();
    let report = |name: &VmName, id: &ArchiveId| {
        if !is_json {
            app.ui.line(&done(name, id));
        }
    };
    if let [record] = records {
        let id = remove(app, record)?;
        report(&record.name, &id);
        if is_json {
            app.ui.result(&json::Deleted::new([(&record.name, &id)].into_iter(), Vec::new()));
        }
        return Ok(exit::DONE);
    }
    let results = app.act_each(
        records.iter().map(|record| (record.name.clone(), record)).collect(),
        NO_WAIT,
        "VMs may be partly deleted: run `goloo list`, and `goloo delete NAME` for each to continue",
        |_, record, run| app.session.delete(record, run),
        report,
    )?;
    if is_json {
        app.ui.result(&json::Deleted::new(results.done(), results.failures()));
    }
    Ok(results.code(|_| exit::DONE))
}

/// Reports a VM that was deleted.
pub fn done(name: &VmName, id: &ArchiveId) -> String {
    format!("deleted {name}; the archived record is {id}")
}

/// Archives records; stops at the first error unless told to continue.
fn forget_each(app: &App, args: &Args, records: &[Record]) -> Result<u8, CliError> {
    let (mut archived, mut errors) = (Vec::new(), Vec::new());
    for record in records {
        match forget(app, record) {
            Ok(id) => {
                if !app.ui.json() {
                    app.ui.line(&format!("forgot {}; the archived record is {id}", record.name));
                }
                archived.push((&record.name, id));
            }
            Err(error) if args.keep_going => {
                if !app.ui.json() {
                    app.ui.error(&error);
                }
                errors.push((&record.name, error));
            }
            Err(error) => return Err(error),
        }
    }
    if app.ui.json() {
        let failures = errors.iter().map(|(name, error)| json::VmFailure::new(name, error));
        let archived = archived.iter().map(|(name, id)| (*name, id));
        app.ui.result(&json::Deleted::new(archived, failures.collect()));
    }
    Ok(exit::worst(errors.iter().map(|(_, error)| error.code)))
}

/// Others may use a machine that isn't local: the user has to type its name.
pub(super) fn names_elsewhere(app: &App, records: &[Record]) -> Option<String> {
    let here = app.session.here();
    let is_elsewhere = |record: &&Record| !record.host_bound || record.elsewhere(&here).is_some();
    let names: Vec<&str> = records.iter().filter(is_elsewhere).map(|record| record.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(" "))
}

fn ask(app: &App, records: &[Record], forget: bool) -> Result<(), CliError> {
    let names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
    let mut lost = vec![
        if forget {
            "These records will be archived. Their machines are not deleted and will be unmanaged:"
        } else {
            "This will be deleted permanently:"
        }
        .to_owned(),
    ];
    lost.extend(records.iter().map(|record| if forget { left_behind(record) } else { deleted(record) }));
    let question = Question {
        asks: "delete asks for confirmation",
        lost,
        question: if forget { "Forget?" } else { "Delete?" },
        words: names_elsewhere(app, records),
        declined: "nothing was deleted",
        again: format!("goloo delete --yes{} {}", if forget { " --forget" } else { "" }, names.join(" ")),
    };
    question.ask(app)
}

pub(super) fn deleted(record: &Record) -> String {
    let place = record.ip().map_or_else(String::new, |ip| format!(" at {ip}"));
    format!("  {} ({}{place}, created {}) with its disk", record.name, record.provider, record.created_at)
}

/// A VM that a new one replaces.
pub(super) fn deleted_with_snapshots(record: &Record, snapshots: &[String]) -> Vec<String> {
    let snapshots = (!snapshots.is_empty()).then(|| format!("  its snapshots: {}", snapshots.join(", ")));
    std::iter::once(deleted(record)).chain(snapshots).collect()
}

fn left_behind(record: &Record) -> String {
    let by = &record.created_by;
    format!(
        "  {} ({} of {} on {}, created {})",
        record.name, record.provider, by.user, by.host, record.created_at
    )
}

/// Archives the record of a VM whose host or state folder is lost, and returns its archive id.
fn forget(app: &App, record: &Record) -> Result<ArchiveId, CliError> {
    let Forgotten { id, place } = app.session.forget(record)?;
    let place = match place {
        Some(ForeignOwner::OtherVm) => return Ok(id),
        Some(ForeignOwner::Unproven) => "on this computer".to_owned(),
        Some(ForeignOwner::StateFolder { user, .. }) => {
            format!("in another state folder of {user} on this computer")
        }
        _ => format!("on {}", record.created_by.host),
    };
    app.ui.warning(&format!(
        "its machine and disk may still be {place}; there, `goloo refresh` lists the machine and `goloo adopt` imports it"
    ));
    Ok(id)
}

/// Deletes a VM and returns the id of its archived record.
pub fn remove(app: &App, record: &Record) -> Result<ArchiveId, CliError> {
    let name = &record.name;
    let left = format!("\"{name}\" may be partly deleted: run `goloo delete {name}` to continue");
    app.act(NO_WAIT, &left, |run| app.session.delete(record, run))
}
