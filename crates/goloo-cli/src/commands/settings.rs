//! `goloo settings`

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use goloo::settings;
use goloo::settings_file::{SettingChanged, SettingsFile};
use goloo_model::spec::nearest;

use crate::error::CliError;
use crate::options::Json;
use crate::output::{Column, Table, Ui};
use crate::{complete, exit, json, providers};

/// The subcommands.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Show each setting's effective value and source: the environment, the file, or the default
    Show {
        #[command(flatten)]
        json: Json,
    },
    /// Print the effective value of one key; nothing if it has none
    Get {
        /// The key, as `goloo settings show` lists it
        #[arg(add = ArgValueCandidates::new(complete::settings_keys))]
        key: String,
    },
    /// Set one key in settings.json; null removes it
    Set {
        /// The key, with dots between the levels: hosts, stateBackend, encryption.recipients
        #[arg(add = ArgValueCandidates::new(complete::settings_keys))]
        key: String,
        /// The value: a word, JSON, or for stateBackend an address like sqlite:PATH
        value: String,
    },
    /// Print the path of settings.json, even if it doesn't exist
    Path,
    /// Print the JSON Schema of settings.json
    Schema,
}

/// Works without an `App`: it must be possible to fix a setting that prevents the store from being opened.
pub fn run(ui: &Ui, command: &Command) -> Result<u8, CliError> {
    let file = SettingsFile::of_user()?;
    match command {
        Command::Show { .. } => show(ui, &file.effective(providers::all())?),
        Command::Get { key } => get(ui, &file.effective(providers::all())?, key)?,
        Command::Set { key, value } => {
            let SettingChanged { path, unchecked } = file.set(&ui.events(), key, value)?;
            if let Some(error) = unchecked {
                let why = CliError::from(error).in_one_line();
                ui.warning(&format!("the bucket is checked when it is first used: {why}"));
            }
            ui.say(&format!("set {key} in {}", path.display()));
        }
        Command::Path => ui.line(&file.path().display().to_string()),
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&settings::json_schema());
            ui.json_document(&schema.expect("a schema has only string keys"));
        }
    }
    Ok(exit::DONE)
}

fn get(ui: &Ui, effective: &[settings::Shown], key: &str) -> Result<(), CliError> {
    let keys = || effective.iter().map(|one| one.key);
    let Some(found) = effective.iter().find(|one| one.key == key) else {
        let hint = match nearest(key, keys()) {
            Some(near) => format!("goloo settings get {near}"),
            None => format!("name one of {}", keys().collect::<Vec<_>>().join(", ")),
        };
        return Err(CliError::usage(format!("there is no setting \"{key}\""), hint));
    };
    let text = found.text();
    if !text.is_empty() {
        ui.line(&text);
    }
    Ok(())
}

fn show(ui: &Ui, shown: &[settings::Shown]) {
    if ui.json() {
        ui.result(&json::SettingList::from(shown));
        return;
    }
    let mut table = Table::new(&[Column::name("KEY"), Column::text("VALUE", 2), Column::text("SOURCE", 1)]);
    shown.iter().for_each(|one| table.row([one.key.to_owned(), one.text(), one.from.to_string()]));
    ui.table(&table);
}
