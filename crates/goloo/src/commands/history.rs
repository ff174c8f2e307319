//! `goloo history`

use goloo_core::record::{HistoryEntry, Record};
use serde_json::{Value, json};

use super::VmArg;
use crate::app::App;
use crate::error::CliError;
use crate::output::{Table, duration};
use crate::{args, exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    #[command(flatten)]
    json: args::Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    let archived = app.local(app.store.archive_of(&name))?.entries;
    let archived =
        archived.into_iter().map(|entry| Life { place: entry.id.to_string(), record: entry.record });
    let mut lives: Vec<Life> = archived.collect();
    match app.local(app.store.load(&name))? {
        Some(loaded) => lives.push(Life { place: "active".to_owned(), record: loaded.record }),
        // Says that there is no such VM, where there never was one.
        None if lives.is_empty() => {
            lives.push(Life { place: "active".to_owned(), record: app.record(&name)? });
        }
        None => {}
    }
    lives.sort_by_key(|life| life.record.created_at);
    if app.ui.json() {
        let entries =
            lives.iter().flat_map(|life| life.record.history.entries().iter().map(|e| life.json(e)));
        app.ui.result(json!({"history": entries.collect::<Vec<_>>()}));
    } else {
        app.ui.table(&table(&lives));
    }
    Ok(exit::DONE)
}

/// One of the VMs that had the name.
struct Life {
    /// The record's id in the archive, or `active`.
    place: String,
    record: Record,
}

impl Life {
    fn json(&self, entry: &HistoryEntry) -> Value {
        json!({
            "at": entry.at, "endedAt": entry.ended_at, "user": entry.user, "host": entry.host,
            "what": entry.what, "outcome": entry.outcome, "reason": entry.reason,
            "id": self.record.id, "record": self.place,
        })
    }
}

fn table(lives: &[Life]) -> Table {
    let mut table = Table::new(&["WHEN", "WHO", "WHAT", "OUTCOME", "TOOK", "RECORD"]);
    for life in lives {
        for entry in life.record.history.entries() {
            table.row([
                entry.at.to_string(),
                format!("{} on {}", entry.user, entry.host),
                entry.what.to_string(),
                outcome(entry),
                entry.ended_at.map_or_else(String::new, |end| duration(end.since(entry.at))),
                life.place.clone(),
            ]);
        }
    }
    table
}

fn outcome(entry: &HistoryEntry) -> String {
    let word = entry.outcome.as_ref().map_or_else(|| "not finished".to_owned(), ToString::to_string);
    match &entry.reason {
        Some(reason) => format!("{word}: {reason}"),
        None => word,
    }
}
