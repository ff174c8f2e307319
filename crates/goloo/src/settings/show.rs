//! The effective value of each setting, and where it comes from.

use std::fmt;

use serde_json::{Value, json};

use super::values::{BACKEND_VARIABLE, Settings, backend_variable};
use crate::error::Error;
use crate::paths::Paths;
use crate::providers::Providers;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// A variable of the environment.
    Environment(&'static str),
    /// settings.json.
    File,
    /// The default.
    Default,
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => f.write_str(name),
            Self::File => f.write_str("file"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The effective value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its key, with dots between the levels.
    pub key: &'static str,
    /// Its value.
    pub value: Value,
    /// Where the value comes from.
    pub from: From,
}

/// All settings, in the order of the file's schema.
///
/// # Errors
/// [`SettingsError::Variable`](crate::error::SettingsError::Variable), and as [`Settings::local_provider_of`].
pub fn shown(settings: &Settings, paths: &Paths, providers: &Providers) -> Result<Vec<Shown>, Error> {
    let one = |key, value, from| Shown { key, value, from };
    let from_file = |is_set: bool| if is_set { From::File } else { From::Default };
    let state = variable("GOLOO_STATE_DIR").unwrap_or_else(|| from_file(settings.state_dir.is_some()));
    let backend = match backend_variable() {
        Some(_) => From::Environment(BACKEND_VARIABLE),
        None => from_file(settings.state_backend.is_some()),
    };
    let encryption = settings.encryption.clone().unwrap_or_default();
    let recipients = from_file(!encryption.recipients.is_empty());
    let identity = from_file(encryption.identity_file.is_some());
    let provider = settings.local_provider_of(providers, paths)?;
    Ok(vec![
        one("stateDir", json!(paths.state.to_string_lossy()), state),
        one("stateBackend", json!(settings.backend(&paths.home)?.to_string()), backend),
        one("encryption.recipients", json!(encryption.recipients), recipients),
        one("encryption.identityFile", json!(encryption.identity_file), identity),
        one("localProvider", json!(provider.as_str()), from_file(settings.local_provider.is_some())),
        one("hosts", json!(settings.hosts), from_file(settings.hosts)),
        one("auto_ports", json!(settings.auto_ports), from_file(settings.auto_ports)),
    ])
}

fn variable(name: &'static str) -> Option<From> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(|_| From::Environment(name))
}

impl Shown {
    /// The value as displayed to the user.
    pub fn text(&self) -> String {
        match &self.value {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            Value::Array(values) if values.is_empty() => "-".to_owned(),
            Value::Array(values) => {
                values.iter().map(|value| value.as_str().unwrap_or_default()).collect::<Vec<_>>().join(",")
            }
            value => value.to_string(),
        }
    }
}
