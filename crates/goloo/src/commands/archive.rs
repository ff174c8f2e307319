//! `goloo archive`

use std::time::Duration;

use clap::Subcommand;
use goloo_core::name::ArchiveId;
use goloo_core::store::{Archived, StoreError};
use goloo_core::time::Timestamp;
use serde_json::json;

use super::ask::Question;
use super::list;
use crate::app::App;
use crate::error::CliError;
use crate::{args, exit, identity};

/// What to do with the archive.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Show the records of deleted VMs, newest first
    List {
        #[command(flatten)]
        json: args::Json,
    },
    /// Show one record and the files that its VM was made from
    Show {
        /// The id in the archive
        id: String,
        #[command(flatten)]
        json: args::Json,
    },
    /// Remove old records for good
    Clean {
        /// Only records of VMs that were deleted longer ago than this
        #[arg(long, value_name = "D", default_value = "90d", value_parser = args::duration)]
        older_than: Duration,
        /// Don't ask
        #[arg(short = 'y', long)]
        yes: bool,
    },
    /// Remove one record for good
    Delete {
        /// The id in the archive
        id: String,
        /// Don't ask
        #[arg(short = 'y', long)]
        yes: bool,
    },
}

pub fn run(app: &App, command: &Command) -> Result<u8, CliError> {
    match command {
        Command::List { .. } => show_list(app),
        Command::Show { id, .. } => show(app, &ArchiveId::parse(id)?),
        Command::Clean { older_than, yes } => clean(app, *older_than, *yes),
        Command::Delete { id, yes } => {
            let archived = load(app, &ArchiveId::parse(id)?)?;
            remove(app, &[archived], *yes, &format!("goloo archive delete --yes {id}"))
        }
    }
}

fn show_list(app: &App) -> Result<u8, CliError> {
    let archive = app.local(app.store.archive_list())?;
    if app.ui.json() {
        let broken = archive.broken.iter().map(|broken| json!({"path": broken.path, "error": broken.error}));
        let broken: Vec<_> = broken.collect();
        let archived: Vec<_> = archive.entries.iter().map(list::archived_json).collect();
        app.ui.result(json!({"archived": archived, "broken": broken}));
        return Ok(exit::DONE);
    }
    list::warn_of_each(&app.ui, &archive.broken, |broken| {
        format!("{} is broken: {}", broken.path, broken.error)
    });
    list::print_archive(app, &archive.entries);
    Ok(exit::DONE)
}

fn load(app: &App, id: &ArchiveId) -> Result<Archived, CliError> {
    let archived = app.local(app.store.archive_load(id))?;
    Ok(archived.ok_or_else(|| StoreError::NotArchived { id: id.clone() })?)
}

fn show(app: &App, id: &ArchiveId) -> Result<u8, CliError> {
    let archived = load(app, id)?;
    let snapshot = app.local(app.store.archive_snapshot(id))?;
    let files = snapshot.files.iter().map(|(file, content)| (file, String::from_utf8_lossy(content)));
    if app.ui.json() {
        let files: serde_json::Map<_, _> = files.map(|(file, text)| (file.clone(), json!(text))).collect();
        let record = super::status::record_json(&archived.record);
        app.ui
            .result(json!({"archiveId": id, "deletedAt": archived.deleted_at, "vm": record, "files": files}));
        return Ok(exit::DONE);
    }
    let record = &archived.record;
    app.ui.line(&format!(
        "{id}: {} on {}, made {}, deleted {}",
        record.name, record.provider, record.created_at, archived.deleted_at
    ));
    for (file, text) in files {
        app.ui.line("");
        app.ui.line(&format!("--- {file}"));
        app.ui.excerpt(text.trim_end());
    }
    app.ui.say("");
    app.ui.say(&format!("goloo recreate {id} makes such a VM again"));
    Ok(exit::DONE)
}

fn clean(app: &App, older_than: Duration, yes: bool) -> Result<u8, CliError> {
    let now = Timestamp::now();
    let mut archive = app.local(app.store.archive_list())?.entries;
    archive.retain(|entry| now.since(entry.deleted_at) >= older_than);
    if archive.is_empty() {
        app.ui.say("nothing in the archive is that old");
        return Ok(exit::DONE);
    }
    remove(app, &archive, yes, "goloo archive clean --yes, with the same --older-than")
}

fn remove(app: &App, archive: &[Archived], yes: bool, again: &str) -> Result<u8, CliError> {
    if !yes {
        let question = Question {
            asks: "this asks before it deletes",
            lost: archive.iter().map(|entry| format!("  {}", entry.id)).collect(),
            question: "Remove from the archive for good?",
            words: None,
            declined: "nothing was removed",
            again: again.to_owned(),
        };
        question.ask(app)?;
    }
    let owner = identity::owner();
    for entry in archive {
        app.local(app.store.archive_delete(&entry.id, &owner))?;
        app.ui.line(&format!("{} is gone", entry.id));
    }
    Ok(exit::DONE)
}
