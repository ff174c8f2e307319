//! `goloo settings`

use clap::Subcommand;
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
    match command {
        Command::Show { .. } => {
            let settings = Settings::read(&folder)?;
            let paths = Paths::resolve(home.clone(), settings.state_dir(&home));
            show(ui, &settings::shown(&settings, &paths)?);
        }
        Command::Set { key, value } => {
            let place = || former::place(&Settings::read(&folder)?, &home);
            let before = place().ok();
            settings::set(&folder, key, value)?;
            if let Some(before) = before.filter(|before| place().is_ok_and(|now| now != *before)) {
                former::remember(&folder, &before)?;
            }
            ui.say(&format!("{key} is set in {}", settings::file(&folder).display()));
        }
        Command::Path => ui.line(&settings::file(&folder).display().to_string()),
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&settings::json_schema());
            ui.line(&schema.expect("a schema has only string keys"));
        }
    }
    Ok(exit::DONE)
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
    ui.lines(&table.lines());
}
