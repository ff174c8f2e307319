//! `goloo snapshot`

use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;
use goloo_model::name::{SnapshotLabel, VmName};
use goloo_model::provider::DiskSnapshot;
use goloo_model::time::Timestamp;

use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, VmArg};
use crate::output::{Column, Table, age};
use crate::{complete, exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// The label; by default the time, as in at-20250115-103000
    label: Option<String>,
    /// List the VM's snapshots, oldest first
    #[arg(short, long, conflicts_with_all = ["label", "delete"])]
    list: bool,
    /// Delete this snapshot permanently
    #[arg(long, value_name = "LABEL", conflicts_with = "label", add = ArgValueCandidates::new(complete::snapshot_labels))]
    delete: Option<String>,
    #[command(flatten)]
    json: Json,
}

/// Snapshots don't wait for the machine.
pub(super) const NO_WAIT: Duration = Duration::ZERO;

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.of(app)?;
    if args.list {
        return list(app, &name);
    }
    match (&args.delete, &args.label) {
        (Some(label), _) => delete(app, &name, &SnapshotLabel::parse(label)?),
        (None, Some(label)) => take(app, &name, &SnapshotLabel::parse(label)?),
        (None, None) => take(app, &name, &SnapshotLabel::of_now()),
    }
}

fn take(app: &App, name: &VmName, label: &SnapshotLabel) -> Result<u8, CliError> {
    let left = format!("the snapshot may have been taken: check with `goloo snapshot {name} --list`");
    app.act(NO_WAIT, &left, |run| app.session.take_snapshot(name, label, run))?;
    if app.ui.json() {
        app.ui.result(&json::TakenSnapshot::new(label));
    } else {
        app.ui.line(&format!(
            "took the snapshot {label} of {name}; run `goloo restore {name} {label}` to return to it"
        ));
    }
    Ok(exit::DONE)
}

fn delete(app: &App, name: &VmName, label: &SnapshotLabel) -> Result<u8, CliError> {
    let left = format!("the snapshot may have been deleted: check with `goloo snapshot {name} --list`");
    app.act(NO_WAIT, &left, |run| app.session.remove_snapshot(name, label, run))?;
    if app.ui.json() {
        app.ui.result(&json::DeletedSnapshot { deleted: label.as_str() });
    } else {
        app.ui.line(&format!("deleted the snapshot {label} of {name}"));
    }
    Ok(exit::DONE)
}

fn list(app: &App, name: &VmName) -> Result<u8, CliError> {
    let all = app.act(NO_WAIT, "nothing has changed", |run| app.session.snapshots(name, run))?;
    if app.ui.json() {
        app.ui.result(&json::SnapshotList::from(&*all));
    } else if all.is_empty() {
        app.ui.say(&format!("{name} has no snapshots; run `goloo snapshot {name}` to take one"));
    } else {
        app.ui.table(&table(&all));
    }
    Ok(exit::DONE)
}

fn table(all: &[DiskSnapshot]) -> Table {
    let now = Timestamp::now();
    let mut table = Table::new(&[Column::name("LABEL"), Column::whole("CREATED", 1).figure()]);
    for snapshot in all {
        let taken = snapshot.created_at.map(|at| format!("{} ago", age(now.since(at))));
        table.row([snapshot.label.clone(), taken.unwrap_or_default()]);
    }
    table
}
