//! `goloo state restore`

use std::path::PathBuf;

use goloo::actions::KeyRestore;
use goloo::transfer::TransferError;
use goloo::transfer::bundle::{BackupBundle, ClientKey, FILE_MAX};

use super::files;
use crate::app::App;
use crate::commands::ask::Question;
use crate::error::CliError;
use crate::exit;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Check the backup and print what would be restored
    #[arg(long)]
    dry_run: bool,
    /// Don't ask for confirmation before installing the backup's client key
    #[arg(long, short)]
    yes: bool,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let bundle = BackupBundle::from_bytes(&files::read_file(&args.file, FILE_MAX)?).map_err(|reason| {
        goloo::Error::from(TransferError::NotABackup { file: args.file.clone(), reason })
    })?;
    app.ui.note(&format!(
        "the backup was created at {} from {} and has {}",
        bundle.created_at,
        bundle.from,
        bundle.contents.count()
    ));
    let planned = app.session.plan_restore(bundle)?;
    show_key(app, &planned.key);
    let count = planned.missing.len();
    if args.dry_run {
        planned.missing.iter().for_each(|name| app.ui.line(&format!("would write {name}")));
        app.ui.say(&format!("{count} records would be written"));
        return Ok(exit::DONE);
    }
    if let KeyRestore::Install(key) = &planned.key {
        confirm(app, key, args)?;
    }
    let contents = app.session.restore(&planned)?;
    app.ui.line(&format!("{contents} are in {}; wrote {count}", app.session.store.location()));
    Ok(exit::DONE)
}

fn show_key(app: &App, key: &KeyRestore) {
    match key {
        KeyRestore::Nothing => {}
        KeyRestore::Install(key) => app.ui.note(&format!(
            "the backup has the private key that goloo logs in with: {}",
            key.fingerprint
        )),
        KeyRestore::Keep { path, fingerprint } => app.ui.warning(&format!(
            "{} is kept and differs from the backup's key ({fingerprint}); goloo can't log in to VMs created with the other key (extract it with tar --zstd -xf)",
            path.display()
        )),
    }
}

/// Somebody else's key would give them access to every VM that is created from now on.
fn confirm(app: &App, key: &ClientKey, args: &Args) -> Result<(), CliError> {
    if args.yes {
        return Ok(());
    }
    let file = args.file.display().to_string();
    let file = shlex::try_quote(&file).unwrap_or_default().into_owned();
    let question = Question {
        asks: "restore asks for confirmation before it installs a client key",
        lost: vec![format!(
            "anyone who has the private key {} can log in to VMs that goloo creates here",
            key.fingerprint
        )],
        question: "Is this your key?",
        words: None,
        declined: "nothing was restored",
        again: format!("run `goloo state restore {file} --yes` to install the key without confirmation"),
    };
    question.ask(app)
}
