//! Hints for settings that can't be used or changed.

use goloo::error::SettingsError;
use goloo::settings::KEYS;

use super::address;
use crate::exit;
use crate::output::hint;

/// The exit code and the hint.
pub(super) fn explain(error: &SettingsError) -> (u8, String) {
    match error {
        SettingsError::Invalid { path, .. } => {
            (exit::USAGE, format!("fix {}, or move it elsewhere", path.display()))
        }
        SettingsError::Refused { .. } => {
            let keys = KEYS.join(", ");
            (
                exit::USAGE,
                format!("run `goloo settings schema` to see the allowed values; the keys are {keys}"),
            )
        }
        SettingsError::Variable { error, .. } => address::explain(error),
        SettingsError::NoIdentity { path, .. } => {
            (exit::FAILED, format!("create one with `age-keygen -o {}`", path.display()))
        }
        _ => (exit::FAILED, "goloo doctor".to_owned()),
    }
}

/// What is wrong with the value of a key or a variable. Positions are omitted: they refer to a generated text.
pub(super) fn causes(error: &SettingsError) -> Vec<String> {
    match error {
        SettingsError::Refused { problems, .. } => problems
            .iter()
            .map(|problem| format!("{} ({})", problem.message, hint::text(&problem.hint)))
            .collect(),
        SettingsError::Variable { error, .. } => address::causes(error),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo::Error;
    use goloo::settings::Settings;

    use super::*;

    #[test]
    fn the_hint_for_an_identity_file_without_a_key_names_age_keygen() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("key"), "# only a comment\n").unwrap();
        let text = r#"{"encryption": {"identityFile": "~/key"}}"#;
        std::fs::write(home.path().join("settings.json"), text).unwrap();
        let settings = Settings::read(home.path()).unwrap();
        let Error::Settings(error) = settings.seal(home.path()).unwrap_err() else { panic!("another error") };
        assert!(explain(&error).1.contains("age-keygen"));
    }

    #[test]
    fn an_invalid_settings_value_is_a_usage_error_with_a_cause() {
        let folder = tempfile::tempdir().unwrap();
        let set = goloo::settings::set(&goloo_model::events::NoEvents, folder.path(), "hosts", "yes");
        let Error::Settings(error) = set.unwrap_err() else { panic!("another error") };
        assert_eq!(explain(&error).0, exit::USAGE);
        assert_eq!(causes(&error).len(), 1);
    }
}
