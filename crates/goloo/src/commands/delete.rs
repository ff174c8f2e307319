//! `goloo delete`

use std::time::Duration;

use goloo_core::engine::EngineError;
use goloo_core::guest::SshTarget;
use goloo_core::name::{ArchiveId, VmName};
use goloo_core::record::Record;
use serde_json::json;

use super::VmArg;
use super::ask::Question;
use crate::app::App;
use crate::error::CliError;
use crate::{args, exit};

/// Arguments of `delete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VMs
    #[arg(value_name = "NAME", required = true, add = clap_complete::engine::ArgValueCandidates::new(crate::complete::vm_names))]
    names: Vec<String>,
    /// Don't ask
    #[arg(short = 'y', long)]
    yes: bool,
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
    names.dedup();
    let records: Vec<Record> = names.iter().map(|name| app.record(name)).collect::<Result<_, _>>()?;
    if !args.yes {
        ask(app, &records)?;
    }
    let mut archived = Vec::new();
    let mut first_error = None;
    for record in &records {
        match remove(app, record) {
            Ok(id) => {
                if !app.ui.json() {
                    app.ui.line(&format!("{} is deleted; its record is {id} in the archive", record.name));
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
    if app.ui.json() {
        let list: Vec<_> = archived.iter().map(|(name, id)| json!({"name": name, "archiveId": id})).collect();
        app.ui.result(json!({"deleted": list}));
    }
    Ok(first_error.unwrap_or(exit::DONE))
}

/// What runs elsewhere may serve others: whoever deletes that types its name.
fn names_in_the_cloud(records: &[Record]) -> Option<String> {
    let remote = records.iter().filter(|record| !record.provider.is_local());
    let names: Vec<&str> = remote.map(|record| record.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(" "))
}

fn ask(app: &App, records: &[Record]) -> Result<(), CliError> {
    let names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
    let mut lost = vec!["This will be deleted for good:".to_owned()];
    lost.extend(records.iter().map(|record| {
        let place = record.ip().map_or_else(String::new, |ip| format!(" at {ip}"));
        format!("  {} ({}{place}, made {}) with its disk", record.name, record.provider, record.created_at)
    }));
    let question = Question {
        asks: "delete asks before it deletes",
        lost,
        question: "Delete?",
        words: names_in_the_cloud(records),
        declined: "nothing was deleted",
        again: format!("goloo delete --yes {}", names.join(" ")),
    };
    question.ask(app)
}

/// Deletes a VM and tells its archived record's id.
pub fn remove(app: &App, record: &Record) -> Result<ArchiveId, CliError> {
    let name = &record.name;
    let provider = app.provider(record.provider)?;
    let left = format!("\"{name}\" may be half deleted: goloo delete {name} goes on");
    let deleted: Result<ArchiveId, EngineError> =
        app.operate(&*provider, NO_WAIT, &left, async |engine| engine.delete(name).await)?;
    let id = deleted?;
    if let Some(target) = SshTarget::of(record) {
        app.keys.unpin(&target.alias);
    }
    Ok(id)
}
