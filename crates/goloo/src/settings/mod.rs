//! `settings.json`: what a person sets once.

mod edit;
mod show;

use std::env;
use std::path::{Path, PathBuf};

use goloo_core::record::ProviderKind;
use goloo_core::spec::{self, Misfit};
use goloo_os::read;
use goloo_store::Seal;
use goloo_store::seal::{Identity, Recipient};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backend::{Backend, StateBackend};
use crate::error::CliError;
use crate::files;
use crate::output::Ui;
use crate::paths::in_home;

pub use edit::{preview, set};
pub use show::{Shown, shown};

const FILE: &str = "settings.json";

/// The variable that names the back end, over the file.
const BACKEND_VARIABLE: &str = "GOLOO_STATE_BACKEND";

/// The settings; every key may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "goloo settings.json")]
pub struct Settings {
    /// Where this schema lies, for editors
    #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    /// Where state lies; ~/ allowed; by default ~/.local/share/goloo
    #[serde(skip_serializing_if = "Option::is_none")]
    state_dir: Option<String>,
    /// What keeps the records; by default the state folder itself
    #[serde(skip_serializing_if = "Option::is_none")]
    state_backend: Option<StateBackend>,
    /// Who can read the records and the files of snapshots; by default they are kept as they are
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption: Option<Encryption>,
    /// What makes VMs on this computer; by default multipass where it is installed, else qemu
    #[serde(skip_serializing_if = "Option::is_none")]
    local_provider: Option<LocalProvider>,
    /// Whether local VMs get a line in /etc/hosts without being asked to
    pub hosts: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum LocalProvider {
    Qemu,
    Multipass,
}

/// Who can read what is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Encryption {
    /// Public keys of age, as age1…: what is written is encrypted for them
    recipients: Vec<String>,
    /// The file with your own secret key, as age-keygen writes it; ~/ allowed
    #[serde(skip_serializing_if = "Option::is_none")]
    identity_file: Option<String>,
}

/// The JSON Schema of `settings.json`.
pub fn json_schema() -> serde_json::Value {
    schemars::SchemaGenerator::default().into_root_schema_for::<Settings>().to_value()
}

/// The file's place in the folder of the settings.
pub fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Makes this the back end in `settings.json`. Durable when it returns.
pub fn set_state_backend(ui: &Ui, folder: &Path, backend: &Backend) -> Result<(), CliError> {
    edit::write(ui, folder, "stateBackend", &state_backend_value(backend))
}

fn state_backend_value(backend: &Backend) -> serde_json::Value {
    match backend {
        // As without the key.
        Backend::Dir(None) => serde_json::Value::Null,
        backend => serde_json::to_value(StateBackend::from(backend)).expect("it has only string keys"),
    }
}

/// The variable of the environment that decides where records are kept, over settings.json.
pub fn place_variable() -> Option<&'static str> {
    let state = crate::paths::state_is_given().then_some("GOLOO_STATE_DIR");
    backend_variable().map(|_| BACKEND_VARIABLE).or(state)
}

impl Settings {
    /// Reads `settings.json` in the folder; a missing file is an empty one.
    pub fn read(folder: &Path) -> Result<Self, CliError> {
        match contents(folder)? {
            Some(bytes) => Self::parse(folder, &bytes),
            None => Ok(Self::default()),
        }
    }

    fn parse(folder: &Path, bytes: &[u8]) -> Result<Self, CliError> {
        spec::read_json(FILE, bytes, Self::misfits).map_err(|problems| {
            let path = file(folder);
            let message = format!("{} can't be used", path.display());
            let hint = format!("mend {} or move it away", path.display());
            CliError { problems, ..CliError::new(crate::exit::USAGE, "invalid", message, hint) }
        })
    }

    /// What is wrong beyond the shape.
    fn misfits(&self) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        if let Some(backend) = &self.state_backend {
            misfits.extend(backend.problems().into_iter().map(|(key, message, hint)| {
                let slash = if key.is_empty() { "" } else { "/" };
                Misfit { pointer: format!("/stateBackend{slash}{key}"), message, hint }
            }));
        }
        let recipients = self.encryption.iter().flat_map(|encryption| &encryption.recipients);
        for (index, recipient) in recipients.enumerate() {
            if let Err(error) = recipient.parse::<Recipient>() {
                misfits.push(Misfit {
                    pointer: format!("/encryption/recipients/{index}"),
                    message: format!("\"{recipient}\" is no public key of age: {error}"),
                    hint: "age-keygen -y KEYFILE prints it; it begins with age1".to_owned(),
                });
            }
        }
        misfits
    }

    /// `stateDir` as a path.
    pub fn state_dir(&self, home: &Path) -> Option<PathBuf> {
        self.state_dir.as_deref().map(|text| in_home(text, home))
    }

    /// The back end that the file names, whatever the environment says.
    pub fn own_backend(&self, home: &Path) -> Backend {
        self.state_backend.as_ref().map_or(Backend::Dir(None), |backend| backend.backend(home))
    }

    /// Which back end keeps the records: what the environment says, else the file, else the state folder.
    pub fn backend(&self, home: &Path) -> Result<Backend, CliError> {
        if let Some(address) = backend_variable() {
            return Backend::parse(&address).map_err(|error| CliError {
                message: format!("{BACKEND_VARIABLE}: {}", error.message),
                ..error
            });
        }
        Ok(self.own_backend(home))
    }

    /// How documents are kept. The identity's file must be there when it is named.
    pub fn seal(&self, home: &Path) -> Result<Seal, CliError> {
        let Some(encryption) = &self.encryption else { return Ok(Seal::none()) };
        let recipients = encryption.recipients.iter().filter_map(|recipient| recipient.parse().ok());
        let identities = match &encryption.identity_file {
            Some(path) => identities(&in_home(path, home))?,
            None => Vec::new(),
        };
        Ok(Seal::age(recipients.collect(), identities))
    }

    /// `localProvider`.
    pub fn local_provider(&self) -> Option<ProviderKind> {
        self.local_provider.map(|provider| match provider {
            LocalProvider::Qemu => ProviderKind::Qemu,
            LocalProvider::Multipass => ProviderKind::Multipass,
        })
    }
}

/// The file's content; `None` when there is no file.
fn contents(folder: &Path) -> Result<Option<Vec<u8>>, CliError> {
    let path = file(folder);
    files::read_own(&path).map_err(|error| CliError::cannot("read", &path, &error))
}

fn backend_variable() -> Option<String> {
    env::var_os(BACKEND_VARIABLE).filter(|value| !value.is_empty()).map(|v| v.to_string_lossy().into_owned())
}

/// The secret keys in a file: one a line, with comments between them.
fn identities(path: &Path) -> Result<Vec<Identity>, CliError> {
    let odd = |why: String| {
        let what = format!("{} holds no secret key of age: {why}", path.display());
        CliError::failed(what, format!("make one: age-keygen -o {}", path.display()))
    };
    let text = read::text(path, read::FILE_MAX)
        .map_err(|error| CliError::cannot("read what encryption.identityFile names,", path, &error))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Result<Vec<Identity>, &str> = lines.map(str::parse).collect();
    match keys {
        Ok(keys) if keys.is_empty() => Err(odd("there is nothing in it".to_owned())),
        Ok(keys) => Ok(keys),
        Err(why) => Err(odd(why.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A key that is known to everyone.
    const SECRET: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

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
    fn mutation_of_settings() {
        let corpus = [
            r#"{"$schema": "x", "stateDir": "~/vms", "stateBackend": {"type": "sqlite", "path": "~/a.db"}, "hosts": true, "localProvider": "qemu"}"#,
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
    fn every_key_may_be_absent_and_so_may_the_file() {
        let nowhere = Settings::read(Path::new("/nowhere")).unwrap();
        assert_eq!(nowhere, read("{}").unwrap());
        assert_eq!(nowhere, read(r#"{"stateDir": null, "localProvider": null}"#).unwrap());
        assert_eq!((nowhere.hosts, nowhere.local_provider()), (false, None));
        assert_eq!(nowhere.backend(Path::new("/home/ann")).unwrap(), Backend::Dir(None));
        assert!(!nowhere.seal(Path::new("/home/ann")).unwrap().seals());
    }

    #[test]
    fn all_problems_are_named_at_once_with_their_places() {
        let said = said_of("{\n  \"localprovider\": \"qemu\",\n  \"hosts\": \"yes\", \"local\": 1\n}");
        assert_eq!(
            said,
            [
                "settings.json:2:3: unknown key \"localprovider\" (did you mean \"localProvider\"?)",
                "settings.json:3:12: hosts must be true or false, not the string \"yes\" (write true or false without quotes)",
                "settings.json:3:19: unknown key \"local\" (the keys here are stateDir, stateBackend, encryption, localProvider, hosts)",
            ]
        );
    }

    #[test]
    fn what_a_back_end_lacks_or_can_t_use_is_named_with_its_place() {
        let said = said_of("{\"hosts\": 1,\n \"stateBackend\": {\"type\": \"s3\", \"path\": \"/x\"}}");
        assert_eq!(
            said,
            [
                "settings.json:1:11: hosts must be true or false, not the number 1 (write true or false without quotes)",
                "settings.json:2:41: \"path\" means nothing for s3 (its keys are bucket, prefix, region, endpoint, addressingStyle, lockTable)",
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
    fn a_recipient_that_is_no_key_is_named_with_its_place() {
        let key = Identity::generate().to_public();
        let said = said_of(&format!(r#"{{"encryption": {{"recipients": ["{key}", "age1x"]}}}}"#));
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("\"age1x\" is no public key of age"), "{said:?}");
    }

    #[test]
    fn what_is_encrypted_with_the_settings_is_read_with_their_identity() {
        let home = tempfile::tempdir().unwrap();
        let settings = |key: &Identity| {
            let public = key.to_public();
            read(&format!(r#"{{"encryption": {{"recipients": ["{public}"], "identityFile": "~/key"}}}}"#))
                .unwrap()
        };
        let settings = settings(&SECRET.parse().unwrap());
        let refused = settings.seal(home.path()).unwrap_err();
        assert!(refused.message.contains("identityFile"), "{}", refused.message);
        std::fs::write(home.path().join("key"), "# only a comment\n").unwrap();
        assert!(settings.seal(home.path()).unwrap_err().hint.contains("age-keygen"));
        std::fs::write(home.path().join("key"), format!("# mine\n{SECRET}\n")).unwrap();
        let seal = settings.seal(home.path()).unwrap();
        let sealed = seal.seal(b"{}".to_vec()).unwrap();
        assert_ne!(sealed, b"{}");
        assert_eq!(*seal.open(&sealed).unwrap(), *b"{}");
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
    fn a_tilde_is_the_home_folder() {
        let settings =
            read(r#"{"stateDir": "~/vms", "stateBackend": {"type": "sqlite", "path": "~/a.db"}}"#).unwrap();
        assert_eq!(settings.state_dir(Path::new("/home/ann")), Some("/home/ann/vms".into()));
        let backend = settings.backend(Path::new("/home/ann")).unwrap();
        assert_eq!(backend, Backend::Sqlite(Some("/home/ann/a.db".into())));
    }
}
