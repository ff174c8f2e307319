//! Hints for VMs of goloo v0 that can't be imported.

use goloo::migrate::{ImportFailure, MigrateError};

use super::CliError;
use crate::exit;
use crate::output::hint;
use goloo_model::hint::Hint;

// By value, since nested errors are explained by value too.
impl From<MigrateError> for CliError {
    fn from(error: MigrateError) -> Self {
        let (message, kind) = (error.to_string(), error.code());
        let (code, hint) = match error {
            MigrateError::NotAFolder { .. } => {
                (exit::NOT_FOUND, "name a stack's folder, or a folder of stacks".to_owned())
            }
            MigrateError::NotMigrated { failure } => explain_failure(*failure),
            _ => (exit::FAILED, "goloo doctor".to_owned()),
        };
        Self::new(code, kind, message, hint)
    }
}

fn explain_failure(failure: ImportFailure) -> (u8, String) {
    match failure {
        ImportFailure::Invalid(problem) => (exit::USAGE, hint::text(&problem.hint)),
        ImportFailure::Unreadable { error, .. } => (exit::USAGE, CliError::from(*error).hint),
        ImportFailure::ClaimedTwice { name, .. } => (
            exit::NOT_FOUND,
            format!(
                "run `goloo status {name}` to see the record; the section in the other config may be out of date"
            ),
        ),
        ImportFailure::NameTaken { vm, .. } => {
            let other_name = Hint::from("use another name: ").step(vm.adopt_step(vm.name.second()));
            (exit::NOT_FOUND, hint::text(&other_name))
        }
        ImportFailure::Failed { error, .. } => {
            let CliError { code, hint, .. } = CliError::from(*error);
            (code, hint)
        }
        _ => (exit::FAILED, "goloo doctor".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::spec::old_state::{V0Config, read};
    use goloo_model::store::StoreError;
    use goloo_testkit::samples::name;

    use super::*;

    fn not_migrated(failure: ImportFailure) -> CliError {
        MigrateError::NotMigrated { failure: Box::new(failure) }.into()
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code_and_hint() {
        let config = V0Config { path: "/old/config.json", bytes: br#"{"local": {"ip": "10.0.0.1"}}"# };
        let vm = read("web", Some(config), &[]).vms.remove(0);
        let place = || vm.place.clone();
        let invalid = ImportFailure::Invalid(place().diagnostic("it is wrong", "write it again"));
        let twice = ImportFailure::ClaimedTwice {
            place: place(),
            name: name("web"),
            recorded_from: "/other/config.json".to_owned(),
        };
        let taken = ImportFailure::NameTaken {
            vm: Box::new(vm.clone()),
            provider: goloo_qemu::INFO.id,
            recorded_from: None,
        };
        let missing = StoreError::NotFound { name: name("web") };
        let failed =
            ImportFailure::Failed { place: place(), name: name("web"), error: Box::new(missing.into()) };
        for (failure, code, hint) in [
            (invalid, exit::USAGE, "write it again"),
            (
                twice,
                exit::NOT_FOUND,
                "run `goloo status web` to see the record; the section in the other config may be out of date",
            ),
            (taken, exit::NOT_FOUND, "use another name: `goloo adopt web-2 --provider multipass --id web`"),
            (failed, exit::NOT_FOUND, "goloo list --all"),
        ] {
            let error = not_migrated(failure);
            assert_eq!((error.code, error.kind, error.hint.as_str()), (code, "not-migrated", hint));
            assert!(error.message.starts_with("/old/config.json:1:"), "{}", error.message);
        }
    }
}
