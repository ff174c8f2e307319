//! Changes one key of `settings.json` and leaves the rest of the text as it is.

use std::fs;
use std::io;
use std::path::Path;

use goloo_model::events::Events;
use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use serde_json::Value;

use super::values::{Settings, contents, file, state_backend_value};
use crate::backend::Backend;
use crate::error::{AddressError, Error, SettingsError};
use crate::files;

/// The lock file for changes, in the same folder.
const LOCK: &str = ".settings.lock";

/// The keys that can be set.
pub const KEYS: [&str; 8] = [
    "stateDir",
    "stateBackend",
    "stateBackend.path",
    "encryption.recipients",
    "encryption.identityFile",
    "localProvider",
    "hosts",
    "auto_ports",
];

/// Sets a key, with dots between the levels, to the value of the command line. The file is replaced only
/// when the result is valid.
///
/// # Errors
/// When the file can't be read, used or written, [`SettingsError::Refused`], and [`AddressError`].
pub fn set(events: &dyn Events, folder: &Path, key: &str, value: &str) -> Result<(), Error> {
    match meant(key, value)? {
        Meant::Backend(backend) => set_state_backend(events, folder, &backend),
        Meant::Json(json) => write(events, folder, key, &json),
    }
}

/// Sets the backend in `settings.json`. Durable when it returns.
///
/// # Errors
/// As [`set`].
pub fn set_state_backend(events: &dyn Events, folder: &Path, backend: &Backend) -> Result<(), Error> {
    write(events, folder, "stateBackend", &state_backend_value(backend))
}

/// The settings as [`set`] would leave them; nothing is written.
///
/// # Errors
/// As [`set`].
pub fn preview(folder: &Path, key: &str, value: &str) -> Result<Settings, Error> {
    let (key, value) = match meant(key, value)? {
        Meant::Backend(backend) => ("stateBackend", state_backend_value(&backend)),
        Meant::Json(json) => (key, json),
    };
    Ok(with_key(folder, key, &value)?.0)
}

/// The settings with the key set, and their text.
fn with_key(folder: &Path, key: &str, value: &Value) -> Result<(Settings, String), Error> {
    let text = match contents(folder)? {
        Some(bytes) => {
            // An edit of an invalid file would only hide its problems.
            Settings::parse(folder, &bytes)?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
        None => "{}\n".to_owned(),
    };
    let text = edited(&text, key, value);
    let settings = Settings::from_json(text.as_bytes())
        .map_err(|problems| SettingsError::Refused { key: key.to_owned(), problems })?;
    Ok((settings, text))
}

enum Meant {
    Backend(Backend),
    Json(Value),
}

/// Interprets a value from the command line: JSON if it parses as such, an address for the backend, a comma-separated
/// list for recipients, else a string.
fn meant(key: &str, value: &str) -> Result<Meant, AddressError> {
    match serde_json::from_str(value) {
        Ok(json @ (Value::Object(_) | Value::Array(_) | Value::Bool(_) | Value::Null | Value::String(_))) => {
            Ok(Meant::Json(json))
        }
        _ if key == "stateBackend" => Ok(Meant::Backend(Backend::parse(value)?)),
        _ if key == "encryption.recipients" => Ok(Meant::Json(value.split(',').map(str::trim).collect())),
        _ => Ok(Meant::Json(Value::String(value.to_owned()))),
    }
}

fn write(events: &dyn Events, folder: &Path, key: &str, value: &Value) -> Result<(), Error> {
    let path = file(folder);
    let failed = |error: io::Error| Error::cannot("write", &path, error);
    // Of two concurrent edits, the second one sees the first one's result.
    let _lock = files::lock(&folder.join(LOCK), events).map_err(failed)?;
    let (_, text) = with_key(folder, key, value)?;
    // A symlink is followed: its target is replaced.
    let place = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    files::replace(&place, text.as_bytes()).map_err(failed)
}

/// The text with the key set; null removes it.
fn edited(text: &str, key: &str, value: &Value) -> String {
    let root = CstRootNode::parse(text, &ParseOptions::default()).expect("it was read before");
    let mut object = root.object_value_or_set();
    let mut words: Vec<&str> = key.split('.').collect();
    let last = words.pop().unwrap_or_default();
    for word in words {
        object = object.object_value_or_set(word);
    }
    put(&object, last, value);
    root.to_string()
}

fn put(object: &CstObject, key: &str, value: &Value) {
    match (object.get(key), value) {
        (Some(known), Value::Null) => known.remove(),
        (None, Value::Null) => {}
        (Some(known), value) => known.set_value(input(value)),
        (None, value) => drop(object.append(key, input(value))),
    }
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(values) => CstInputValue::Array(values.iter().map(input).collect()),
        Value::Object(map) => {
            CstInputValue::Object(map.iter().map(|(key, value)| (key.clone(), input(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use goloo_model::events::NoEvents;
    use std::os::unix::fs::PermissionsExt;

    const TEXT: &str = "{\n    \"hosts\" : true,\n\n    \"localProvider\": \"qemu\"\n}\n";

    fn folder(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(file(folder.path()), text).unwrap();
        folder
    }

    fn text(folder: &tempfile::TempDir) -> String {
        fs::read_to_string(file(folder.path())).unwrap()
    }

    #[test]
    fn setting_a_key_keeps_the_formatting_of_all_others() {
        let folder = folder(TEXT);
        set(&NoEvents, folder.path(), "localProvider", "multipass").unwrap();
        assert_eq!(text(&folder), TEXT.replace("qemu", "multipass"));
        set(&NoEvents, folder.path(), "localProvider", "qemu").unwrap();
        set(&NoEvents, folder.path(), "stateDir", "~/vms").unwrap();
        assert_eq!(text(&folder), TEXT.replace("\"qemu\"", "\"qemu\",\n    \"stateDir\": \"~/vms\""));
        set(&NoEvents, folder.path(), "stateDir", "null").unwrap();
        assert_eq!(text(&folder), TEXT);
    }

    #[test]
    fn a_missing_file_is_created() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config/goloo");
        set(&NoEvents, &config, "hosts", "true").unwrap();
        assert!(Settings::read(&config).unwrap().hosts);
    }

    #[test]
    fn a_backend_can_be_set_as_an_address_or_as_json() {
        let folder = folder(TEXT);
        let backend = || Settings::read(folder.path()).unwrap().backend(Path::new("/home/ann")).unwrap();
        set(&NoEvents, folder.path(), "stateBackend", "sqlite:/srv/goloo.db").unwrap();
        assert_eq!(backend(), Backend::Sqlite(Some("/srv/goloo.db".into())));
        set(&NoEvents, folder.path(), "stateBackend.path", "~/b.db").unwrap();
        assert_eq!(backend(), Backend::Sqlite(Some("/home/ann/b.db".into())));
        set(&NoEvents, folder.path(), "stateBackend", r#"{"type": "gcs", "bucket": "team"}"#).unwrap();
        assert_eq!(backend(), Backend::parse("gs://team").unwrap());
        let s3 = Backend::parse("s3://team/p?region=eu-central-1").unwrap();
        set_state_backend(&NoEvents, folder.path(), &s3).unwrap();
        assert_eq!(backend(), s3);
        assert!(text(&folder).starts_with("{\n    \"hosts\" : true,\n\n"), "{}", text(&folder));
    }

    #[test]
    fn a_change_that_makes_the_file_invalid_is_refused() {
        let folder = folder(TEXT);
        for (key, value) in [
            ("hosts", "yes"),
            ("host", "true"),
            ("localProvider", "aws"),
            ("stateBackend", "nfs:x"),
            ("stateBackend.bucket", "b"),
            ("encryption.recipients", "age1x"),
            ("", "x"),
            ("hosts.x", "1"),
        ] {
            let error = set(&NoEvents, folder.path(), key, value).unwrap_err();
            let is_refused =
                matches!(error, Error::Settings(SettingsError::Refused { .. }) | Error::Address(_));
            assert!(is_refused, "{key} {value}: {error:?}");
            assert_eq!(text(&folder), TEXT, "{key} {value}");
        }
    }

    #[test]
    fn an_already_invalid_file_is_left_unchanged() {
        let folder = folder("{\"hosts\": 1}");
        assert_eq!(set(&NoEvents, folder.path(), "localProvider", "qemu").unwrap_err().problems().len(), 1);
        assert_eq!(text(&folder), "{\"hosts\": 1}");
    }

    #[test]
    fn a_symlink_and_the_file_mode_are_kept() {
        let folder = folder(TEXT);
        let (path, real) = (file(folder.path()), folder.path().join("dotfiles.json"));
        fs::rename(&path, &real).unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        set(&NoEvents, folder.path(), "hosts", "false").unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        let mut names = files::names(folder.path()).unwrap();
        names.retain(|name| name != LOCK);
        assert_eq!(names, ["dotfiles.json", "settings.json"], "a temporary file is left");
    }

    #[test]
    fn concurrent_changes_are_not_lost() {
        let folder = folder("{}");
        std::thread::scope(|scope| {
            for (key, value) in
                [("hosts", "true"), ("localProvider", "qemu"), ("stateDir", "/a"), ("stateBackend", "sqlite")]
            {
                let path = folder.path();
                scope.spawn(move || set(&NoEvents, path, key, value).unwrap());
            }
        });
        let json: Value = serde_json::from_str(&text(&folder)).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 4, "{json}");
    }
}
