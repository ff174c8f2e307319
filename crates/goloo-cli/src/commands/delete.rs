//! `goloo delete`

use std::collections::BTreeSet;
use std::time::Duration;

use goloo::actions::Forgotten;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{ForeignOwner, Record};

use super::ask::Question;
use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, VmArg};
use crate::{exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VMs
    #[arg(value_name = "NAME", required = true, add = clap_complete::engine::ArgValueCandidates::new(crate::complete::vm_names))]
    names: Vec<String>,
    /// Don't ask for confirmation
    #[arg(short = 'y', long)]
    yes: bool,
    /// Archive the records of VMs whose host or state folder is lost; their machines are not deleted
    #[arg(long)]
    forget: bool,
    /// Continue with the other VMs when one can't be deleted
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    json: Json,
}

/// Deleting doesn't wait for the machine.
const NO_WAIT: Duration = Duration::ZERO;

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let names = args.names.iter().map(|name| VmArg { name: name.clone() }.parse());
    let mut names: Vec<VmName> = names.collect::<Result<_, _>>()?;
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let records: Vec<Record> = names.iter().map(|name| app.session.record(name)).collect::<Result<_, _>>()?;
    if !args.forget && !args.keep_going {
        app.session.expect_here(&records)?;
    }
    if !args.yes {
        ask(app, &records, args.forget)?;
    }
    let (archived, first_error) = remove_each(app, args, &records)?;
    if app.ui.json() {
        app.ui.result(&json::Deleted::from(&*archived));
    }
    Ok(first_error.unwrap_or(exit::DONE))
}

/// The archived records, and the exit code of the first error.
type Removed = (Vec<(VmName, ArchiveId)>, Option<u8>);

fn remove_each(app: &App, args: &Args, records: &[Record]) -> Result<Removed, CliError> {
    let mut archived = Vec::new();
    let mut first_error = None;
    for record in records {
        let removed = if args.forget { forget(app, record) } else { remove(app, record) };
        match removed {
            Ok(id) => {
                if !app.ui.json() {
                    let done = if args.forget { "forgot" } else { "deleted" };
                    app.ui.line(&format!("{done} {}; the archived record is {id}", record.name));
                }
                archived.push((record.name.clone(), id));
            }
            Err(error) if args.keep_going => {
                app.ui.error(&error);
                first_error.get_or_insert(error.code);
            }
            Err(error) => return Err(error),
        }
    }
    Ok((archived, first_error))
}

/// Others may use a machine that isn't local: the user has to type its name.
fn names_elsewhere(app: &App, records: &[Record]) -> Option<String> {
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

fn deleted(record: &Record) -> String {
    let place = record.ip().map_or_else(String::new, |ip| format!(" at {ip}"));
    format!("  {} ({}{place}, created {}) with its disk", record.name, record.provider, record.created_at)
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
