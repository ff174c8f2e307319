//! `goloo state restore`

use std::path::PathBuf;

use crate::app::App;
use crate::commands::ask::Question;
use crate::error::CliError;
use crate::files;
use crate::transfer::{
    self,
    bundle::{Bundle, ClientKey, FILE_MAX},
};
use crate::{exit, identity};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Check the backup and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Install the backup's client key without being asked
    #[arg(long, short)]
    yes: bool,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let file = args.file.display();
    let bundle = Bundle::from_bytes(&super::read_file(&args.file, FILE_MAX)?).map_err(|error| {
        CliError::failed(
            format!("{file} can't be restored: {error}"),
            "take another backup; nothing was written",
        )
    })?;
    app.ui.note(&format!(
        "the backup was made at {} of {}, and holds {}",
        bundle.created_at,
        bundle.from,
        bundle.whole.count()
    ));
    app.wait_for(restore(app, &bundle, args))
}

async fn restore(app: &App, bundle: &Bundle, args: &Args) -> Result<u8, CliError> {
    let store = &*app.store;
    let (there, _) = transfer::read(store).await?;
    let conflicts = transfer::conflicts(&bundle.whole, &there);
    if !conflicts.is_empty() {
        let hint = "goloo list --all shows what is there; restore into an empty place to look at the backup";
        return Err(super::refused(
            "nothing was written: some records are newer or others here".to_owned(),
            &conflicts,
            hint,
        ));
    }
    let missing = transfer::missing(&bundle.whole, &there);
    let key = new_key(app, bundle)?;
    if let Some(key) = key {
        app.ui
            .note(&format!("the backup holds the private key that goloo logs in with: {}", key.fingerprint));
    }
    if args.dry_run {
        missing.iter().for_each(|name| app.ui.line(&format!("would write {name}")));
        app.ui.say(&format!("{} records would be written", missing.len()));
        return Ok(exit::DONE);
    }
    if let Some(key) = key {
        confirm(app, key, args)?;
        install(app, key)?;
    }
    crate::imported::note(app, bundle.whole.records())?;
    transfer::write(&bundle.whole, &there, store, &identity::owner()).await?;
    app.ui.line(&format!(
        "{} are in {}; {} were written",
        bundle.whole.count(),
        store.location(),
        missing.len()
    ));
    Ok(exit::DONE)
}

/// The backup's client key where there is none here; another one stays.
fn new_key<'b>(app: &App, bundle: &'b Bundle) -> Result<Option<&'b ClientKey>, CliError> {
    let Some(key) = &bundle.client_key else { return Ok(None) };
    let path = app.keys.identity();
    let Some(known) = files::read_own(&path).map_err(|error| CliError::cannot("read", &path, &error))? else {
        return Ok(Some(key));
    };
    if known != key.private.expose().as_bytes() {
        app.ui.warning(&format!(
            "{} is another key than the backup's ({}) and stays; VMs made with the other one don't let goloo in (tar --zstd -xf takes it out of the backup)",
            path.display(),
            key.fingerprint
        ));
    }
    Ok(None)
}

/// A key of somebody else would open each VM that is made from now on to them.
fn confirm(app: &App, key: &ClientKey, args: &Args) -> Result<(), CliError> {
    if args.yes {
        return Ok(());
    }
    let file = args.file.display().to_string();
    let file = shlex::try_quote(&file).unwrap_or_default().into_owned();
    let question = Question {
        asks: "restore asks before it installs a client key",
        lost: vec![format!(
            "whoever has the private key {} can log in to VMs that goloo makes here",
            key.fingerprint
        )],
        question: "Is this your key?",
        words: None,
        declined: "nothing was restored",
        again: format!("goloo state restore {file} --yes installs the key without asking"),
    };
    question.ask(app)
}

fn install(app: &App, key: &ClientKey) -> Result<(), CliError> {
    let path = app.keys.identity();
    files::write_new(&path, key.private.expose().as_bytes())
        .map_err(|error| CliError::cannot("write", &path, &error))
}
