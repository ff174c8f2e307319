//! `goloo state restore`

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::app::App;
use crate::error::CliError;
use crate::files;
use crate::transfer::{self, bundle::Bundle};
use crate::{exit, identity};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Check the backup and say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let file = args.file.display();
    let bundle = Bundle::from_bytes(&super::read_file(&args.file)?).map_err(|error| {
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
    app.wait_for(restore(app, &bundle, args.dry_run))
}

async fn restore(app: &App, bundle: &Bundle, dry_run: bool) -> Result<u8, CliError> {
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
    if dry_run {
        missing.iter().for_each(|name| app.ui.line(&format!("would write {name}")));
        app.ui.say(&format!("{} records would be written", missing.len()));
        return Ok(exit::DONE);
    }
    restore_key(app, bundle)?;
    transfer::write(&bundle.whole, &there, store, &identity::owner()).await?;
    app.ui.line(&format!(
        "{} are in {}; {} were written",
        bundle.whole.count(),
        store.location(),
        missing.len()
    ));
    Ok(exit::DONE)
}

/// Puts goloo's key back where there is none; another one stays.
fn restore_key(app: &App, bundle: &Bundle) -> Result<(), CliError> {
    let Some(key) = &bundle.client_key else { return Ok(()) };
    let path = app.keys.identity();
    let failed = |action, error: std::io::Error| CliError::cannot(action, &path, &error);
    match files::write_new(&path, key) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        other => return other.map_err(|error| failed("write", error)),
    }
    if std::fs::read(&path).map_err(|error| failed("read", error))? != *key {
        app.ui.warning(&format!(
            "{} is another key than the backup's and stays; VMs made with the other one don't let goloo in (tar --zstd -xf takes it out of the backup)",
            path.display()
        ));
    }
    Ok(())
}
