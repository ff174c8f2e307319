//! `goloo delete`

use std::collections::BTreeSet;
use std::time::Duration;

use goloo_core::engine::{self, EngineError};
use goloo_core::guest::SshTarget;
use goloo_core::name::{ArchiveId, VmName};
use goloo_core::record::{Elsewhere, Record};
use serde_json::json;

use super::VmArg;
use super::ask::Question;
use crate::app::App;
use crate::error::CliError;
use crate::{args, exit, identity};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VMs
    #[arg(value_name = "NAME", required = true, add = clap_complete::engine::ArgValueCandidates::new(crate::complete::vm_names))]
    names: Vec<String>,
    /// Don't ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// Archive the records of VMs whose host or state folder is lost; what is left of their machines stays there
    #[arg(long)]
    forget: bool,
    /// Go on with the others when one can't be deleted
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    json: args::Json,
}

/// Waiting has no part in a delete.
const NO_WAIT: Duration = Duration::ZERO;

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let names = args.names.iter().map(|name| VmArg { name: name.clone() }.parse());
    let mut names: Vec<VmName> = names.collect::<Result<_, _>>()?;
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let records: Vec<Record> = names.iter().map(|name| app.record(name)).collect::<Result<_, _>>()?;
    if !args.forget && !args.keep_going {
        app.expect_here(&records)?;
    }
    if !args.yes {
        ask(app, &records, args.forget)?;
    }
    let (archived, first_error) = remove_each(app, args, &records)?;
    if app.ui.json() {
        let list: Vec<_> = archived.iter().map(|(name, id)| json!({"name": name, "archiveId": id})).collect();
        app.ui.result(json!({"deleted": list}));
    }
    Ok(first_error.unwrap_or(exit::DONE))
}

/// What went to the archive, and the first error's exit code where the others are gone on with.
type Removed = (Vec<(VmName, ArchiveId)>, Option<u8>);

fn remove_each(app: &App, args: &Args, records: &[Record]) -> Result<Removed, CliError> {
    let mut archived = Vec::new();
    let mut first_error = None;
    for record in records {
        let removed = if args.forget { forget(app, record) } else { remove(app, record) };
        match removed {
            Ok(id) => {
                if !app.ui.json() {
                    let done = if args.forget { "forgotten" } else { "deleted" };
                    app.ui.line(&format!("{} is {done}; its record is {id} in the archive", record.name));
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

/// What runs elsewhere may serve others: whoever deletes that, or forgets it, types its name.
fn names_elsewhere(app: &App, records: &[Record]) -> Option<String> {
    let here = app.here();
    let is_elsewhere = |record: &&Record| !record.provider.is_local() || record.elsewhere(&here).is_some();
    let names: Vec<&str> = records.iter().filter(is_elsewhere).map(|record| record.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(" "))
}

fn ask(app: &App, records: &[Record], forget: bool) -> Result<(), CliError> {
    let names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
    let mut lost =
        vec![if forget {
        "These records go to the archive. The machines stay where they are, and nobody will know of them:"
    } else {
        "This will be deleted for good:"
    }
    .to_owned()];
    lost.extend(records.iter().map(|record| if forget { left_behind(record) } else { deleted(record) }));
    let question = Question {
        asks: "delete asks before it deletes",
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
    format!("  {} ({}{place}, made {}) with its disk", record.name, record.provider, record.created_at)
}

fn left_behind(record: &Record) -> String {
    let by = &record.created_by;
    format!(
        "  {} ({} of {} on {}, made {})",
        record.name, record.provider, by.user, by.host, record.created_at
    )
}

/// Archives the record of a VM whose host or state folder is lost, and tells its id there.
fn forget(app: &App, record: &Record) -> Result<ArchiveId, CliError> {
    let (owner, here) = (identity::owner(), app.here());
    let forgotten = engine::forget(&*app.store, &owner, &here, &record.name);
    let id = pollster::block_on(forgotten)?;
    let place = match record.elsewhere(&here) {
        Some(Elsewhere::OtherVm) => return Ok(id),
        Some(Elsewhere::Unproven) => "on this computer".to_owned(),
        Some(Elsewhere::StateFolder { user, .. }) => {
            format!("in another state folder of {user} on this computer")
        }
        _ => format!("on {}", record.created_by.host),
    };
    app.ui.warning(&format!(
        "its machine and disk may still be {place}; goloo refresh shows them there, goloo adopt takes them back"
    ));
    Ok(id)
}

/// Deletes a VM and tells its archived record's id.
pub fn remove(app: &App, record: &Record) -> Result<ArchiveId, CliError> {
    let name = &record.name;
    let provider = app.provider_of(record)?;
    let left = format!("\"{name}\" may be half deleted: goloo delete {name} goes on");
    let deleted: Result<ArchiveId, EngineError> =
        app.operate(&*provider, NO_WAIT, &left, async |engine| engine.delete(name, Some(record)).await)?;
    let id = deleted?;
    if let Some(target) = SshTarget::of(record) {
        app.keys.unpin(&target.alias);
    }
    Ok(id)
}
