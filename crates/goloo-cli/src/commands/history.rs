//! `goloo history`

use goloo::actions::Incarnation;
use goloo_model::record::HistoryEntry;

use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, OptionalVm};
use crate::output::{Column, Table, duration, state_color};
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
    let incarnations = app.session.history(&name)?;
    if app.ui.json() {
        app.ui.result(&json::History::from(&*incarnations));
    } else {
        app.ui.table(&table(&incarnations));
    }
    Ok(exit::DONE)
}

fn table(incarnations: &[Incarnation]) -> Table {
    let mut table = Table::new(&[
        Column::kept("TIME"),
        Column::text("USER", 3),
        Column::kept("ACTION"),
        Column::text("OUTCOME", 4).styled(state_color),
        Column::whole("DURATION", 2).figure(),
        Column::whole("RECORD", 1),
    ]);
    for vm in incarnations {
        for entry in vm.record.history.entries() {
            table.row([
                entry.at.to_string(),
                format!("{} on {}", entry.user, entry.host),
                entry.what.to_string(),
                outcome(entry),
                entry.ended_at.map_or_else(String::new, |end| duration(end.since(entry.at))),
                vm.place().to_owned(),
            ]);
        }
    }
    table
}

fn outcome(entry: &HistoryEntry) -> String {
    let word = entry.outcome.as_ref().map_or_else(|| "unfinished".to_owned(), ToString::to_string);
    match &entry.reason {
        Some(reason) => format!("{word}: {reason}"),
        None => word,
    }
}
