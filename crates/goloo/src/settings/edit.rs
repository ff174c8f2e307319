//! Changes one key of `settings.json` and leaves the rest of the text as it is.

use std::fs;
use std::io;
use std::path::Path;

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use serde_json::Value;

use super::{Settings, contents, file, set_state_backend, state_backend_value};
use crate::backend::Backend;
use crate::error::CliError;
use crate::files;
use crate::output::Ui;

/// The lock of whoever changes the file, in its folder.
const LOCK: &str = ".settings.lock";

/// The keys that can be set, for hints.
const KEYS: [&str; 7] = [
    "stateDir",
    "stateBackend",
    "stateBackend.path",
    "encryption.recipients",
    "encryption.identityFile",
    "localProvider",
    "hosts",
];

/// Sets a key, with dots between the levels, to what a person wrote for it. The file is replaced only
/// when the whole of it is sound afterwards.
pub fn set(ui: &Ui, folder: &Path, key: &str, value: &str) -> Result<(), CliError> {
    match meant(key, value)? {
        Meant::Backend(backend) => set_state_backend(ui, folder, &backend),
        Meant::Json(json) => write(ui, folder, key, &json),
    }
}

/// The settings as [`set`] would leave them; nothing is written.
pub fn preview(folder: &Path, key: &str, value: &str) -> Result<Settings, CliError> {
    let (key, value) = match meant(key, value)? {
        Meant::Backend(backend) => ("stateBackend", state_backend_value(&backend)),
        Meant::Json(json) => (key, json),
    };
    Ok(with_key(folder, key, &value)?.0)
}

/// The settings with the key set, and their text.
fn with_key(folder: &Path, key: &str, value: &Value) -> Result<(Settings, String), CliError> {
    let text = match contents(folder)? {
        Some(bytes) => {
            // Whoever wrote it mends it: an edit would only bury the fault.
            Settings::parse(folder, &bytes)?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
        None => "{}\n".to_owned(),
    };
    let text = edited(&text, key, value);
    let settings = Settings::parse(folder, text.as_bytes()).map_err(|error| refused(key, error))?;
    Ok((settings, text))
}

enum Meant {
    Backend(Backend),
    Json(Value),
}

/// What a person means on a command line: JSON where it is some, an address for the back end, a list with
/// commas for recipients, else a text.
fn meant(key: &str, value: &str) -> Result<Meant, CliError> {
    match serde_json::from_str(value) {
        Ok(json @ (Value::Object(_) | Value::Array(_) | Value::Bool(_) | Value::Null | Value::String(_))) => {
            Ok(Meant::Json(json))
        }
        _ if key == "stateBackend" => Ok(Meant::Backend(Backend::parse(value)?)),
        _ if key == "encryption.recipients" => Ok(Meant::Json(value.split(',').map(str::trim).collect())),
        _ => Ok(Meant::Json(Value::String(value.to_owned()))),
    }
}

pub(super) fn write(ui: &Ui, folder: &Path, key: &str, value: &Value) -> Result<(), CliError> {
    let path = file(folder);
    let failed = |error: io::Error| CliError::cannot("write", &path, &error);
    // Of two that change it at once, the later one sees what the first has written.
    let _lock = files::lock(&folder.join(LOCK), ui).map_err(failed)?;
    let (_, text) = with_key(folder, key, value)?;
    // Through a link, should it be one.
    let place = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    files::replace(&place, text.as_bytes()).map_err(failed)
}

/// The problems are those of the new text, which nobody sees: only what they say is of use.
fn refused(key: &str, error: CliError) -> CliError {
    let said = error.problems.iter().map(|problem| format!("{} ({})", problem.message, problem.hint));
    let hint = format!("goloo settings schema shows what may be written; keys are {}", KEYS.join(", "));
    CliError { causes: said.collect(), ..CliError::usage(format!("{key} can't be set to that"), hint) }
}

/// The text with the key set; null takes it away.
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
    use std::os::unix::fs::PermissionsExt;

    fn ui() -> Ui {
        Ui::new(crate::args::Color::Never, 0, false)
    }

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
    fn one_key_changes_and_all_else_keeps_its_form() {
        let folder = folder(TEXT);
        set(&ui(), folder.path(), "localProvider", "multipass").unwrap();
        assert_eq!(text(&folder), TEXT.replace("qemu", "multipass"));
        set(&ui(), folder.path(), "localProvider", "qemu").unwrap();
        set(&ui(), folder.path(), "stateDir", "~/vms").unwrap();
        assert_eq!(text(&folder), TEXT.replace("\"qemu\"", "\"qemu\",\n    \"stateDir\": \"~/vms\""));
        set(&ui(), folder.path(), "stateDir", "null").unwrap();
        assert_eq!(text(&folder), TEXT);
    }

    #[test]
    fn a_missing_file_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config/goloo");
        set(&ui(), &config, "hosts", "true").unwrap();
        assert!(Settings::read(&config).unwrap().hosts);
    }

    #[test]
    fn a_back_end_is_set_by_its_address_or_as_json_and_read_back() {
        let folder = folder(TEXT);
        let backend = || Settings::read(folder.path()).unwrap().backend(Path::new("/home/ann")).unwrap();
        set(&ui(), folder.path(), "stateBackend", "sqlite:/srv/goloo.db").unwrap();
        assert_eq!(backend(), Backend::Sqlite(Some("/srv/goloo.db".into())));
        set(&ui(), folder.path(), "stateBackend.path", "~/b.db").unwrap();
        assert_eq!(backend(), Backend::Sqlite(Some("/home/ann/b.db".into())));
        set(&ui(), folder.path(), "stateBackend", r#"{"type": "gcs", "bucket": "team"}"#).unwrap();
        assert_eq!(backend(), Backend::parse("gs://team").unwrap());
        let s3 = Backend::parse("s3://team/p?region=eu-central-1").unwrap();
        set_state_backend(&ui(), folder.path(), &s3).unwrap();
        assert_eq!(backend(), s3);
        assert!(text(&folder).starts_with("{\n    \"hosts\" : true,\n\n"), "{}", text(&folder));
    }

    #[test]
    fn what_would_make_the_file_unsound_is_refused_and_nothing_changes() {
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
            let error = set(&ui(), folder.path(), key, value).unwrap_err();
            assert_eq!(error.code, crate::exit::USAGE, "{key} {value}");
            assert_eq!(text(&folder), TEXT, "{key} {value}");
        }
    }

    #[test]
    fn a_file_that_is_unsound_already_is_left_alone() {
        let folder = folder("{\"hosts\": 1}");
        assert_eq!(set(&ui(), folder.path(), "localProvider", "qemu").unwrap_err().problems.len(), 1);
        assert_eq!(text(&folder), "{\"hosts\": 1}");
    }

    #[test]
    fn a_link_stays_a_link_and_the_mode_stays() {
        let folder = folder(TEXT);
        let (path, real) = (file(folder.path()), folder.path().join("dotfiles.json"));
        fs::rename(&path, &real).unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        set(&ui(), folder.path(), "hosts", "false").unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        let mut names = files::names(folder.path()).unwrap();
        names.retain(|name| name != LOCK);
        assert_eq!(names, ["dotfiles.json", "settings.json"], "a temporary file is left");
    }

    #[test]
    fn of_many_that_set_at_once_none_is_lost() {
        let folder = folder("{}");
        std::thread::scope(|scope| {
            for (key, value) in
                [("hosts", "true"), ("localProvider", "qemu"), ("stateDir", "/a"), ("stateBackend", "sqlite")]
            {
                let path = folder.path();
                scope.spawn(move || set(&ui(), path, key, value).unwrap());
            }
        });
        let json: Value = serde_json::from_str(&text(&folder)).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 4, "{json}");
    }
}
