//! `goloo migrate`

use std::path::PathBuf;

use crate::app::App;
use crate::error::CliError;
use crate::options::Json;
use crate::output::{Column, Table, state_color};
use crate::{exit, json};
use goloo::migrate::{ImportFailure, MigrateError, Migrated, Report, Skipped, Trigger};
use goloo_model::spec::Diagnostic;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A stack, or a folder of stacks; by default all places where `create` looks, and the current folder
    #[arg(short = 'f', long = "folder", value_name = "PATH")]
    folder: Option<PathBuf>,
    /// Print what would be imported, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let trigger = if args.dry_run { Trigger::DryRun } else { Trigger::Request };
    let outcome = Outcome::from(app.session.migrate(args.folder.as_deref(), trigger)?);
    if app.ui.json() {
        app.ui.result(&json::MigrationReport::new(&outcome.migrated, &outcome.skipped, &outcome.problems));
    } else {
        print(app, &outcome, args.dry_run);
    }
    Ok(outcome.code)
}

/// A migration's report with hints and the exit code.
struct Outcome {
    migrated: Vec<Migrated>,
    skipped: Vec<Skipped>,
    problems: Vec<Diagnostic>,
    /// The first failure's exit code, if there is one.
    code: u8,
}

impl From<Report> for Outcome {
    fn from(report: Report) -> Self {
        let Report { migrated, skipped, failures } = report;
        let failures: Vec<(u8, Diagnostic)> = failures.into_iter().map(explained).collect();
        let code = failures.first().map_or(exit::DONE, |(code, _)| *code);
        let problems = failures.into_iter().map(|(_, problem)| problem).collect();
        Self { migrated, skipped, problems, code }
    }
}

/// The exit code of a failure, and the problem with its hint.
fn explained(failure: ImportFailure) -> (u8, Diagnostic) {
    let (place, message) = (failure.place(), failure.to_string());
    let error = CliError::from(MigrateError::NotMigrated { failure: Box::new(failure) });
    (error.code, place.diagnostic(message, error.hint))
}

fn print(app: &App, outcome: &Outcome, dry_run: bool) {
    if !outcome.migrated.is_empty() {
        let title = if dry_run { "these VMs would be imported:" } else { "imported VMs:" };
        app.ui.say(title);
        let mut table = Table::new(&[
            Column::name("NAME"),
            Column::whole("PROVIDER", 2),
            Column::kept("LIVE").styled(state_color),
            Column::text("FROM", 1),
        ]);
        for migrated in &outcome.migrated {
            let (record, live) = (&migrated.record, migrated.live.state);
            let from = migrated.from().to_owned();
            table.row([record.name.to_string(), record.provider.to_string(), live.to_string(), from]);
        }
        app.ui.table(&table);
    }
    for migrated in &outcome.migrated {
        if let Some(reason) = migrated.unchecked() {
            app.ui.note(&format!("{} was not checked: {reason}", migrated.record.name));
        }
    }
    outcome.skipped.iter().for_each(|skip| app.ui.note(&format!("{}: {}", skip.from, skip.reason)));
    if outcome.migrated.is_empty() && outcome.skipped.is_empty() && outcome.problems.is_empty() {
        app.ui.say("no goloo v0 config has a VM; run `goloo migrate -f PATH` to search another folder");
    }
    if !outcome.problems.is_empty() {
        app.ui.error(&failures(outcome));
    }
}

fn failures(outcome: &Outcome) -> CliError {
    let problems = outcome.problems.clone();
    let message = match problems.len() {
        1 => "1 VM of a goloo v0 config can't be imported".to_owned(),
        count => format!("{count} VMs of goloo v0 configs can't be imported"),
    };
    let hint = "fix the configs, then run `goloo migrate` again; VMs that were imported stay as they are";
    CliError { problems, ..CliError::new(outcome.code, "not-migrated", message, hint) }
}
