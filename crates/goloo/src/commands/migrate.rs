//! `goloo migrate`

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::app::App;
use crate::args;
use crate::error::CliError;
use crate::migrate::{Migrated, Occasion, Report, Scan, migrate};
use crate::output::{Table, problems_json};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A stack, or a folder of stacks; otherwise all places where `create` looks, and this folder
    #[arg(short = 'f', long = "folder", value_name = "PATH")]
    folder: Option<PathBuf>,
    /// Print what would be put on record, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    json: args::Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let scan = match &args.folder {
        Some(folder) => Scan::of(folder)?,
        None => Scan::usual_places(&app.paths.config),
    };
    let occasion = if args.dry_run { Occasion::DryRun } else { Occasion::Asked };
    let report = migrate(app, scan, occasion);
    if app.ui.json() {
        print_json(app, &report);
    } else {
        print(app, &report, args.dry_run);
    }
    Ok(report.code())
}

fn print_json(app: &App, report: &Report) {
    let skipped = report.skipped.iter().map(|skip| json!({"from": skip.from, "reason": skip.reason}));
    let problems: Vec<_> = report.troubles.iter().map(|trouble| trouble.problem.clone()).collect();
    app.ui.result(json!({
        "migrated": report.migrated.iter().map(migrated_json).collect::<Vec<_>>(),
        "skipped": skipped.collect::<Vec<_>>(),
        "problems": problems_json(&problems),
    }));
}

fn migrated_json(migrated: &Migrated) -> Value {
    let record = &migrated.record;
    json!({
        "name": record.name, "provider": record.provider, "from": migrated.from(),
        "checked": migrated.unchecked().is_none(), "live": migrated.live.state.as_str(),
        "reason": migrated.unchecked(),
    })
}

fn print(app: &App, report: &Report, dry_run: bool) {
    if !report.migrated.is_empty() {
        let title = if dry_run { "these would be put on record:" } else { "these are on record now:" };
        app.ui.say(title);
        let mut table = Table::new(&["NAME", "PROVIDER", "LIVE", "FROM"]);
        for migrated in &report.migrated {
            let (record, live) = (&migrated.record, migrated.live.state);
            let from = migrated.from().to_owned();
            table.row([record.name.to_string(), record.provider.to_string(), live.to_string(), from]);
        }
        app.ui.table(&table);
    }
    for migrated in &report.migrated {
        if let Some(reason) = migrated.unchecked() {
            app.ui.note(&format!("{} isn't checked: {reason}", migrated.record.name));
        }
    }
    report.skipped.iter().for_each(|skip| app.ui.note(&format!("{}: {}", skip.from, skip.reason)));
    if report.migrated.is_empty() && report.skipped.is_empty() && report.troubles.is_empty() {
        app.ui.say("no old config holds a VM; goloo migrate -f PATH looks elsewhere");
    }
    if !report.troubles.is_empty() {
        app.ui.error(&troubles(report));
    }
}

fn troubles(report: &Report) -> CliError {
    let problems: Vec<_> = report.troubles.iter().map(|trouble| trouble.problem.clone()).collect();
    let message = match problems.len() {
        1 => "one VM of an old config can't be put on record".to_owned(),
        count => format!("{count} VMs of old configs can't be put on record"),
    };
    let hint = "goloo migrate again, when that is mended; the others aren't touched by it";
    CliError { problems, ..CliError::new(report.code(), "not-migrated", message, hint) }
}
