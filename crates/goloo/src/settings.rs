//! `settings.json`: what a person sets once.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use goloo_core::record::ProviderKind;
use goloo_core::spec;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::backend::Backend;
use crate::error::{CliError, io_hint};
use crate::files;

/// The settings; every key may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Where state lives; `~` is the home folder.
    state_dir: Option<String>,
    /// What `--local` means.
    local_provider: Option<LocalProvider>,
    /// Whether local VMs get a line in /etc/hosts without being asked to.
    pub hosts: bool,
    /// What keeps the records; without it the state folder does.
    state_backend: Option<StateBackend>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StateBackend {
    /// The kind of place.
    r#type: BackendType,
    /// The folder; without it the state folder.
    #[serde(default)]
    path: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum BackendType {
    Dir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum LocalProvider {
    Qemu,
    Multipass,
}

impl Settings {
    /// Reads `settings.json` in the folder; a missing file is an empty one.
    pub fn read(folder: &Path) -> Result<Self, CliError> {
        let path = folder.join("settings.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                let what = format!("can't read {}", path.display());
                return Err(CliError::failed(what, io_hint(&error, &path)).because(&error));
            }
        };
        spec::read_json("settings.json", &bytes).map_err(|problems| {
            let message = format!("{} can't be used", path.display());
            let hint = format!("mend {} or move it away", path.display());
            CliError { problems, ..CliError::new(crate::exit::USAGE, "invalid", message, hint) }
        })
    }

    /// `stateDir` as a path.
    pub fn state_dir(&self, home: &Path) -> Option<PathBuf> {
        let text = self.state_dir.as_deref()?;
        Some(match text.strip_prefix("~/") {
            Some(rest) => home.join(rest),
            None => home.join(text),
        })
    }

    /// `stateBackend`.
    pub fn backend(&self) -> Backend {
        match &self.state_backend {
            None => Backend::Dir(None),
            Some(StateBackend { r#type: BackendType::Dir, path }) => Backend::Dir(path.clone()),
        }
    }

    /// `localProvider`.
    pub fn local_provider(&self) -> Option<ProviderKind> {
        self.local_provider.map(|provider| match provider {
            LocalProvider::Qemu => ProviderKind::Qemu,
            LocalProvider::Multipass => ProviderKind::Multipass,
        })
    }
}

/// Sets `stateBackend` in the folder's `settings.json`, durably and in one step; other keys stay.
pub fn set_state_backend(folder: &Path, backend: &Backend) -> Result<(), CliError> {
    Settings::read(folder)?;
    let path = folder.join("settings.json");
    let failed = |error: io::Error| {
        CliError::failed(format!("can't write {}", path.display()), io_hint(&error, &path)).because(&error)
    };
    let mut settings = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => serde_json::Map::new(),
        Err(error) => return Err(failed(error)),
    };
    match backend {
        Backend::Dir(None) => drop(settings.shift_remove("stateBackend")),
        Backend::Dir(Some(path)) => {
            settings.insert("stateBackend".to_owned(), json!({"type": "dir", "path": path}));
        }
    }
    let mut text = serde_json::to_vec_pretty(&settings).expect("settings have only string keys");
    text.push(b'\n');
    // Through a link, should it be one.
    let place = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    files::replace(&place, &text).map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Settings, CliError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("settings.json"), text).unwrap();
        Settings::read(folder.path())
    }

    fn said_of(text: &str) -> Vec<String> {
        let error = read(text).unwrap_err();
        assert_eq!(error.code, crate::exit::USAGE);
        error.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_key_may_be_absent_and_so_may_the_file() {
        let nowhere = Settings::read(Path::new("/nowhere")).unwrap();
        assert_eq!(nowhere, read("{}").unwrap());
        assert_eq!(nowhere, read(r#"{"stateDir": null, "localProvider": null}"#).unwrap());
        assert_eq!((nowhere.hosts, nowhere.local_provider()), (false, None));
    }

    #[test]
    fn all_problems_are_named_at_once_with_their_places() {
        let said = said_of("{\n  \"localprovider\": \"qemu\",\n  \"hosts\": \"yes\", \"local\": 1\n}");
        assert_eq!(
            said,
            [
                "settings.json:2:3: unknown key \"localprovider\" (did you mean \"localProvider\"?)",
                "settings.json:3:12: hosts must be true or false, not the string \"yes\" (write true or false without quotes)",
                "settings.json:3:19: unknown key \"local\" (the keys here are stateDir, localProvider, hosts, stateBackend)",
            ]
        );
    }

    #[test]
    fn only_a_provider_on_this_computer_can_be_the_local_one() {
        let provider = |text| read(text).unwrap().local_provider();
        assert_eq!(provider(r#"{"localProvider": "qemu"}"#), Some(ProviderKind::Qemu));
        assert_eq!(provider(r#"{"localProvider": "multipass"}"#), Some(ProviderKind::Multipass));
        assert_eq!(
            said_of(r#"{"localProvider": "multipas"}"#),
            ["settings.json:1:19: localProvider can't be \"multipas\" (did you mean \"multipass\"?)"]
        );
        assert_eq!(
            said_of(r#"{"localProvider": "aws"}"#),
            ["settings.json:1:19: localProvider can't be \"aws\" (write \"qemu\" or \"multipass\")"]
        );
    }

    #[test]
    fn a_file_that_is_no_json_is_named_with_line_and_column() {
        assert!(said_of("{,}")[0].starts_with("settings.json:1:2: this isn't JSON"));
    }

    #[test]
    fn a_back_end_that_was_set_is_read_again_and_other_keys_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        std::fs::write(&path, "{\"hosts\": true}").unwrap();
        for backend in [Backend::Dir(Some("/there".into())), Backend::Dir(None)] {
            set_state_backend(folder.path(), &backend).unwrap();
            let settings = Settings::read(folder.path()).unwrap();
            assert_eq!((settings.backend(), settings.hosts), (backend, true));
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\n  \"hosts\": true\n}\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_tilde_is_the_home_folder() {
        let settings = read(r#"{"stateDir": "~/vms"}"#).unwrap();
        assert_eq!(settings.state_dir(Path::new("/home/ann")), Some("/home/ann/vms".into()));
    }
}
