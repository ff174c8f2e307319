//! `settings.json`: the user's settings.

use std::env;
use std::path::{Path, PathBuf};

use goloo_model::provider_id::ProviderId;
use goloo_model::spec::{self, Diagnostic, InvalidValue};
use goloo_store::Seal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backend::{Backend, StateBackend};
use crate::error::{Error, SettingsError};
use crate::files;
use crate::paths::in_home;

const FILE: &str = "settings.json";

/// The variable that names the backend; it overrides the file.
pub(super) const BACKEND_VARIABLE: &str = "GOLOO_STATE_BACKEND";

/// The settings; every key may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "goloo's settings.json")]
pub struct Settings {
    /// The URL of this schema, for editors
    #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    /// The state folder; may begin with ~/; by default ~/.local/share/goloo
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state_dir: Option<String>,
    /// Where the records are stored; by default in the state folder
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state_backend: Option<StateBackend>,
    /// Encryption of the records and the files of snapshots; by default they are not encrypted
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encryption: Option<Encryption>,
    /// The provider for VMs on this computer; by default multipass if it is installed, else qemu
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) local_provider: Option<LocalProvider>,
    /// Whether local VMs are added to /etc/hosts by default
    pub hosts: bool,
    /// The default of vm.auto_ports in config.json
    // Named as there, so that it can be copied.
    #[serde(rename = "auto_ports")]
    pub auto_ports: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum LocalProvider {
    Qemu,
    Multipass,
}

/// Encryption of stored documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Encryption {
    /// age public keys (age1…) that documents are encrypted for
    pub(super) recipients: Vec<String>,
    /// The file with your age secret key, as age-keygen writes it; may begin with ~/
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity_file: Option<String>,
}

/// The JSON Schema of `settings.json`.
pub fn json_schema() -> serde_json::Value {
    schemars::SchemaGenerator::default().into_root_schema_for::<Settings>().to_value()
}

/// The file's path in the settings folder.
pub fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

pub(super) fn state_backend_value(backend: &Backend) -> serde_json::Value {
    match backend {
        // The default, as if the key were absent.
        Backend::Dir(None) => serde_json::Value::Null,
        backend => serde_json::to_value(StateBackend::from(backend)).expect("it has only string keys"),
    }
}

/// The environment variable that overrides the store in settings.json, if one is set.
pub fn place_variable() -> Option<&'static str> {
    let state = crate::paths::state_is_given().then_some("GOLOO_STATE_DIR");
    backend_variable().map(|_| BACKEND_VARIABLE).or(state)
}

impl Settings {
    /// Reads `settings.json` in the folder; a missing file counts as empty.
    ///
    /// # Errors
    /// When it can't be read, or [`SettingsError::Invalid`].
    pub fn read(folder: &Path) -> Result<Self, Error> {
        match contents(folder)? {
            Some(bytes) => Ok(Self::parse(folder, &bytes)?),
            None => Ok(Self::default()),
        }
    }

    pub(super) fn parse(folder: &Path, bytes: &[u8]) -> Result<Self, SettingsError> {
        Self::from_json(bytes).map_err(|problems| SettingsError::Invalid { problems, path: file(folder) })
    }

    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, Vec<Diagnostic>> {
        spec::read_json(FILE, bytes, Self::invalid_values)
    }

    /// Problems beyond the JSON schema.
    fn invalid_values(&self) -> Vec<InvalidValue> {
        let mut values = Vec::new();
        if let Some(backend) = &self.state_backend {
            values.extend(backend.problems().into_iter().map(|(key, message, hint)| {
                let slash = if key.is_empty() { "" } else { "/" };
                InvalidValue { pointer: format!("/stateBackend{slash}{key}"), message, hint }
            }));
        }
        #[cfg(feature = "encryption")]
        values.extend(self.encryption.iter().flat_map(Encryption::invalid_values));
        values
    }

    /// `stateDir` as a path.
    pub fn state_dir(&self, home: &Path) -> Option<PathBuf> {
        self.state_dir.as_deref().map(|text| in_home(text, home))
    }

    /// The backend that the file names; ignores the environment.
    pub fn own_backend(&self, home: &Path) -> Backend {
        self.state_backend.as_ref().map_or(Backend::Dir(None), |backend| backend.backend(home))
    }

    /// The backend that stores the records: from the environment, else from the file, else the state folder.
    ///
    /// # Errors
    /// [`SettingsError::Variable`].
    pub fn backend(&self, home: &Path) -> Result<Backend, SettingsError> {
        if let Some(address) = backend_variable() {
            return Backend::parse(&address)
                .map_err(|error| SettingsError::Variable { variable: BACKEND_VARIABLE, error });
        }
        Ok(self.own_backend(home))
    }

    /// The encryption of documents. The identity file must exist if it is set.
    ///
    /// # Errors
    /// When that file can't be read or isn't private, [`SettingsError::NoIdentity`], and [`Error::NoEncryption`].
    #[cfg_attr(
        not(feature = "encryption"),
        allow(unused_variables, reason = "the file is in the home folder")
    )]
    pub fn seal(&self, home: &Path) -> Result<Seal, Error> {
        match &self.encryption {
            None => Ok(Seal::none()),
            #[cfg(feature = "encryption")]
            Some(encryption) => encryption.seal(home),
            #[cfg(not(feature = "encryption"))]
            Some(_) => Err(Error::NoEncryption),
        }
    }

    /// `localProvider`.
    pub fn local_provider(&self) -> Option<ProviderId> {
        self.local_provider.map(|provider| match provider {
            LocalProvider::Qemu => goloo_qemu::INFO.id,
            LocalProvider::Multipass => goloo_multipass::INFO.id,
        })
    }
}

/// The file's content; `None` when there is no file.
pub(super) fn contents(folder: &Path) -> Result<Option<Vec<u8>>, Error> {
    let path = file(folder);
    files::read_own(&path).map_err(|error| Error::cannot("read", &path, error))
}

pub(super) fn backend_variable() -> Option<String> {
    env::var_os(BACKEND_VARIABLE).filter(|value| !value.is_empty()).map(|v| v.to_string_lossy().into_owned())
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn read(text: &str) -> Result<Settings, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("settings.json"), text).unwrap();
        Settings::read(folder.path())
    }

    pub(crate) fn said_of(text: &str) -> Vec<String> {
        let error = read(text).unwrap_err();
        assert!(matches!(error, Error::Settings(SettingsError::Invalid { .. })), "{error:?}");
        let said = |problem: &Diagnostic| format!("{problem} ({})", problem.hint.debug_text());
        error.problems().iter().map(said).collect()
    }

    #[test]
    fn mutation_of_settings() {
        let corpus = [
            r#"{"$schema": "x", "stateDir": "~/vms", "stateBackend": {"type": "sqlite", "path": "~/a.db"}, "hosts": true, "auto_ports": true, "localProvider": "qemu"}"#,
            r#"{"stateBackend": {"type": "s3", "bucket": "team", "region": "eu-central-1", "prefix": "a/b", "endpoint": "https://s3.example.com:9000", "addressingStyle": "path", "lockTable": "locks"}}"#,
            r#"{"encryption": {"recipients": ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"], "identityFile": "~/key"}}"#,
        ];
        let home = Path::new("/home/ann");
        goloo_testkit::mutate::run(&corpus.map(|text| text.as_bytes().to_vec()), |input| {
            if let Ok(settings) = Settings::parse(home, input) {
                drop((settings.own_backend(home).to_string(), settings.state_dir(home), settings.seal(home)));
            }
        });
    }

    #[test]
    fn every_key_and_the_file_itself_are_optional() {
        let nowhere = Settings::read(Path::new("/nowhere")).unwrap();
        assert_eq!(nowhere, read("{}").unwrap());
        assert_eq!(nowhere, read(r#"{"stateDir": null, "localProvider": null}"#).unwrap());
        assert_eq!((nowhere.hosts, nowhere.local_provider()), (false, None));
        assert_eq!(nowhere.backend(Path::new("/home/ann")).unwrap(), Backend::Dir(None));
        assert!(!nowhere.seal(Path::new("/home/ann")).unwrap().seals());
    }

    #[test]
    fn all_problems_are_reported_together_with_their_positions() {
        let said = said_of("{\n  \"localprovider\": \"qemu\",\n  \"hosts\": \"yes\", \"local\": 1\n}");
        assert_eq!(
            said,
            [
                "settings.json:2:3: unknown key \"localprovider\" (did you mean \"localProvider\"?)",
                "settings.json:3:12: hosts must be true or false, not the string \"yes\" (write true or false without quotes)",
                "settings.json:3:19: unknown key \"local\" (valid keys: stateDir, stateBackend, encryption, localProvider, hosts, auto_ports)",
            ]
        );
    }

    #[test]
    fn missing_and_invalid_backend_keys_are_reported_with_positions() {
        let said = said_of("{\"hosts\": 1,\n \"stateBackend\": {\"type\": \"s3\", \"path\": \"/x\"}}");
        assert_eq!(
            said,
            [
                "settings.json:1:11: hosts must be true or false, not the number 1 (write true or false without quotes)",
                "settings.json:2:41: \"path\" is not a key of s3 (its keys are bucket, prefix, region, endpoint, addressingStyle, lockTable)",
                "settings.json:2:18: stateBackend has no \"bucket\" (s3 needs \"bucket\")",
            ]
        );
        assert_eq!(
            said_of(r#"{"stateBackend": {"type": "sqllite"}}"#)[0],
            "settings.json:1:27: stateBackend.type can't be \"sqllite\" (did you mean \"sqlite\"?)"
        );
        assert_eq!(
            said_of(r#"{"stateBackend": {"type": "gcs", "buckett": "b"}}"#)[0],
            "settings.json:1:34: unknown key \"buckett\" (did you mean \"bucket\"?)"
        );
        assert!(said_of(r#"{"stateBackend": {"bucket": "b"}}"#)[0].contains("has no \"type\""));
    }

    #[test]
    fn only_local_providers_are_accepted_as_local_provider() {
        let provider = |text| read(text).unwrap().local_provider();
        assert_eq!(provider(r#"{"localProvider": "qemu"}"#), Some(goloo_qemu::INFO.id));
        assert_eq!(provider(r#"{"localProvider": "multipass"}"#), Some(goloo_multipass::INFO.id));
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
    fn invalid_json_is_reported_with_line_and_column() {
        assert!(said_of("{,}")[0].starts_with("settings.json:1:2: invalid JSON"));
    }

    #[test]
    fn a_tilde_expands_to_the_home_folder() {
        let settings =
            read(r#"{"stateDir": "~/vms", "stateBackend": {"type": "sqlite", "path": "~/a.db"}}"#).unwrap();
        assert_eq!(settings.state_dir(Path::new("/home/ann")), Some("/home/ann/vms".into()));
        let backend = settings.backend(Path::new("/home/ann")).unwrap();
        assert_eq!(backend, Backend::Sqlite(Some("/home/ann/a.db".into())));
    }
}
