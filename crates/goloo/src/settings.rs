//! `settings.json`: what a person sets once.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use goloo_core::record::ProviderKind;
use serde::Deserialize;

use crate::error::CliError;

/// The settings; every key may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Where state lives; `~` is the home folder.
    #[serde(default)]
    pub state_dir: Option<String>,
    /// What `--local` means.
    #[serde(default)]
    pub local_provider: Option<ProviderKind>,
}

impl Settings {
    /// Reads `settings.json` in the folder; a missing file is an empty one.
    pub fn read(folder: &Path) -> Result<Self, CliError> {
        let path = folder.join("settings.json");
        let hint = format!("mend {} or move it away", path.display());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(CliError::failed(format!("can't read {}", path.display()), hint).because(&error));
            }
        };
        let settings: Self = serde_json::from_str(&text)
            .map_err(|error| CliError::usage(format!("{}: {error}", path.display()), hint.clone()))?;
        match settings.local_provider {
            Some(provider) if !provider.is_local() => Err(CliError::usage(
                format!("{}: localProvider is \"{provider}\", which isn't local", path.display()),
                hint,
            )),
            _ => Ok(settings),
        }
    }

    /// `stateDir` as a path.
    pub fn state_dir(&self, home: &Path) -> Option<PathBuf> {
        let text = self.state_dir.as_deref()?;
        Some(match text.strip_prefix("~/") {
            Some(rest) => home.join(rest),
            None => home.join(text),
        })
    }
}
