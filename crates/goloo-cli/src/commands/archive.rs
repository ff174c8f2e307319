//! `goloo archive`

use std::time::Duration;

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use goloo::actions::ArchivedFiles;
use goloo_model::name::ArchiveId;
use goloo_model::store::Archived;

use super::ask::Question;
use super::listing::{print_archive, warn_of_each};
use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, duration};
use crate::{complete, exit, json};

/// The subcommands.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Show the records of deleted VMs, newest first
    #[command(visible_alias = "ls")]
    List {
        /// Print only ids
        #[arg(short, long)]
        quiet: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Show one record and the files that its VM was created from
    Show {
        /// The id in the archive
        #[arg(value_name = "ARCHIVE-ID", add = ArgValueCandidates::new(complete::archive_ids))]
        id: String,
        #[command(flatten)]
        json: Json,
    },
    /// Delete old records permanently
    Clean {
        /// Only records of VMs deleted longer ago than this
        #[arg(long, value_name = "D", default_value = "90d", value_parser = duration)]
        older_than: Duration,
        /// Don't ask for confirmation
        #[arg(short = 'y', long)]
        yes: bool,
    },
    /// Delete one record permanently
    Delete {
        /// The id in the archive
        #[arg(value_name = "ARCHIVE-ID", add = ArgValueCandidates::new(complete::archive_ids))]
        id: String,
        /// Don't ask for confirmation
        #[arg(short = 'y', long)]
        yes: bool,
    },
}

pub fn run(app: &App, command: &Command) -> Result<u8, CliError> {
    match command {
        Command::List { quiet, .. } => show_list(app, *quiet),
        Command::Show { id, .. } => show(app, &ArchiveId::parse(id)?),
        Command::Clean { older_than, yes } => clean(app, *older_than, *yes),
        Command::Delete { id, yes } => {
            let archived = app.session.archived(&ArchiveId::parse(id)?)?;
            remove(app, &[archived], *yes, &format!("goloo archive delete --yes {id}"))
        }
    }
}

fn show_list(app: &App, quiet: bool) -> Result<u8, CliError> {
    let archive = app.session.archive()?;
    if app.ui.json() {
        app.ui.result(&json::ArchiveList::from(&archive));
        return Ok(exit::DONE);
    }
    warn_of_each(&app.ui, &archive.broken, |broken| format!("{} is broken: {}", broken.path, broken.error));
    match quiet {
        true => archive.entries.iter().for_each(|entry| app.ui.line(entry.id.as_str())),
        false => print_archive(app, &archive.entries),
    }
    Ok(exit::DONE)
}

fn show(app: &App, id: &ArchiveId) -> Result<u8, CliError> {
    let vm = app.session.archived_files(id)?;
    if app.ui.json() {
        app.ui.result(&json::ArchivedRecord::from(&vm));
        return Ok(exit::DONE);
    }
    let ArchivedFiles { archived, snapshot } = &vm;
    let record = &archived.record;
    app.ui.line(&format!(
        "{id}: {} on {}, created {}, deleted {}",
        record.name, record.provider, record.created_at, archived.deleted_at
    ));
    for (file, text) in &snapshot.files {
        app.ui.line("");
        app.ui.line(&format!("--- {file}"));
        app.ui.excerpt(String::from_utf8_lossy(text).trim_end());
    }
    app.ui.say("");
    app.ui.say(&format!("run `goloo recreate {id}` to create this VM again"));
    Ok(exit::DONE)
}

fn clean(app: &App, older_than: Duration, yes: bool) -> Result<u8, CliError> {
    let archive = app.session.archived_before(older_than)?;
    if archive.is_empty() {
        app.ui.say("no record in the archive is that old");
        return Ok(exit::DONE);
    }
    remove(app, &archive, yes, "run `goloo archive clean --yes` with the same --older-than")
}

fn remove(app: &App, archive: &[Archived], yes: bool, again: &str) -> Result<u8, CliError> {
    if !yes {
        let question = Question {
            asks: "this command asks for confirmation",
            lost: archive.iter().map(|entry| format!("  {}", entry.id)).collect(),
            question: "Delete from the archive permanently?",
            words: None,
            declined: "nothing was deleted",
            again: again.to_owned(),
        };
        question.ask(app)?;
    }
    for entry in archive {
        app.session.delete_archived(&entry.id)?;
        app.ui.line(&format!("deleted {}", entry.id));
    }
    Ok(exit::DONE)
}
