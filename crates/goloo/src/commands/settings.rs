//! `goloo settings`

use std::path::Path;

use clap::Subcommand;
use goloo_core::store::StoreError;
use goloo_store::Seal;
use serde_json::json;

use crate::error::CliError;
use crate::output::{Table, Ui};
use crate::paths::{self, Paths};
use crate::settings::{self, Settings};
use crate::{args, exit, former};

/// What to do with the settings.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Show each setting, and whether it comes from the environment, the file, or neither
    Show {
        #[command(flatten)]
        json: args::Json,
    },
    /// Set one key in settings.json and leave the rest as it is; null takes it away
    Set {
        /// The key, with dots between the levels: hosts, stateBackend, encryption.recipients
        key: String,
        /// Its value: a word, JSON, or for stateBackend an address like sqlite:PATH
        value: String,
    },
    /// Print where settings.json lies, whether it is there or not
    Path,
    /// Print the JSON Schema of settings.json
    Schema,
}

/// Works without the app: a setting that keeps the store from being opened must be mended here.
pub fn run(ui: &Ui, command: &Command) -> Result<u8, CliError> {
    let home = paths::home()?;
    let folder = Paths::config_dir(&home);
    Paths::check_config(&folder)?;
    match command {
        Command::Show { .. } => {
            let settings = Settings::read(&folder)?;
            let paths = Paths::resolve(home.clone(), settings.state_dir(&home));
            show(ui, &settings::shown(&settings, &paths)?);
        }
        Command::Set { key, value } => {
            let place = || former::place(&Settings::read(&folder)?, &home);
            let before = place().ok();
            check_writes(ui, &folder, &home, key, value)?;
            settings::set(ui, &folder, key, value)?;
            if let Some(before) = before.filter(|before| place().is_ok_and(|now| now != *before)) {
                former::remember(&folder, &before)?;
            }
            ui.say(&format!("{key} is set in {}", settings::file(&folder).display()));
        }
        Command::Path => ui.line(&settings::file(&folder).display().to_string()),
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&settings::json_schema());
            ui.json_document(&schema.expect("a schema has only string keys"));
        }
    }
    Ok(exit::DONE)
}

/// Refuses a bucket whose service would lose records. One that can't be asked now is checked before the first write.
fn check_writes(ui: &Ui, folder: &Path, home: &Path, key: &str, value: &str) -> Result<(), CliError> {
    let settings = settings::preview(folder, key, value)?;
    let backend = settings.own_backend(home);
    // A file that can't be read names no back end.
    let before = Settings::read(folder).map(|settings| settings.own_backend(home));
    if before.is_ok_and(|before| before == backend) {
        return Ok(());
    }
    let paths = Paths::resolve(home.to_owned(), settings.state_dir(home));
    let store = backend.open(&paths, Seal::none(), ui.wait_notice())?;
    match pollster::block_on(store.require_safe_writes()) {
        Err(error @ StoreError::UnsafeWrites { .. }) => Err(error.into()),
        Err(error) => {
            let why = CliError::from(error);
            ui.warning(&format!("the bucket is checked when it is first used: {}", why.in_one_line()));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn show(ui: &Ui, shown: &[settings::Shown]) {
    if ui.json() {
        let list =
            shown.iter().map(|one| json!({"key": one.key, "value": one.value, "from": one.from.to_string()}));
        ui.result(json!({"settings": list.collect::<Vec<_>>()}));
        return;
    }
    let mut table = Table::new(&["KEY", "VALUE", "FROM"]);
    shown.iter().for_each(|one| table.row([one.key.to_owned(), one.text(), one.from.to_string()]));
    ui.table(&table);
}
