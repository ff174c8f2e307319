//! `goloo snapshot`

use std::time::Duration;

use goloo_core::name::{SnapshotLabel, VmName};
use goloo_core::provider::DiskSnapshot;
use goloo_core::time::Timestamp;
use serde_json::json;

use super::VmArg;
use crate::app::App;
use crate::error::CliError;
use crate::output::{Table, age};
use crate::{args, exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// What to call it; without a label it gets the time: at-20250115-103000
    label: Option<String>,
    /// Show the VM's snapshots, oldest first
    #[arg(short, long, conflicts_with_all = ["label", "delete"])]
    list: bool,
    /// Remove this snapshot for good
    #[arg(long, value_name = "LABEL", conflicts_with = "label")]
    delete: Option<String>,
    #[command(flatten)]
    json: args::Json,
}

/// Snapshots wait for nobody.
pub(super) const NO_WAIT: Duration = Duration::ZERO;

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
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
    let provider = app.provider_of(&app.record(name)?)?;
    let left = format!("the snapshot may have been taken: goloo snapshot {name} --list");
    app.operate(&*provider, NO_WAIT, &left, async |engine| engine.take_snapshot(name, label).await)??;
    if app.ui.json() {
        app.ui.result(json!({"snapshot": {"label": label.as_str()}}));
    } else {
        app.ui
            .line(&format!("{name} has the snapshot {label}; goloo restore {name} {label} goes back to it"));
    }
    Ok(exit::DONE)
}

fn delete(app: &App, name: &VmName, label: &SnapshotLabel) -> Result<u8, CliError> {
    let provider = app.provider_of(&app.record(name)?)?;
    let left = format!("the snapshot may be gone: goloo snapshot {name} --list");
    app.operate(&*provider, NO_WAIT, &left, async |engine| engine.remove_snapshot(name, label).await)??;
    if app.ui.json() {
        app.ui.result(json!({"deleted": label.as_str()}));
    } else {
        app.ui.line(&format!("the snapshot {label} of {name} is gone"));
    }
    Ok(exit::DONE)
}

fn list(app: &App, name: &VmName) -> Result<u8, CliError> {
    let provider = app.provider_of(&app.record(name)?)?;
    let all = app
        .operate(&*provider, NO_WAIT, "nothing has changed", async |engine| engine.snapshots(name).await)??;
    if app.ui.json() {
        let all = all.iter().map(|one| json!({"label": one.label, "createdAt": one.created_at}));
        app.ui.result(json!({"snapshots": all.collect::<Vec<_>>()}));
    } else if all.is_empty() {
        app.ui.say(&format!("{name} has no snapshots; goloo snapshot {name} takes one"));
    } else {
        app.ui.table(&table(&all));
    }
    Ok(exit::DONE)
}

fn table(all: &[DiskSnapshot]) -> Table {
    let now = Timestamp::now();
    let mut table = Table::new(&["LABEL", "TAKEN"]);
    for snapshot in all {
        let taken = snapshot.created_at.map(|at| format!("{} ago", age(now.since(at))));
        table.row([snapshot.label.clone(), taken.unwrap_or_default()]);
    }
    table
}
