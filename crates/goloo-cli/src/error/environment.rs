//! Hints for environments that can't be brought up or taken down.

use goloo::error::{EnvironmentError, MemberRefusal};
use goloo_model::name::VmName;
use goloo_model::record::OperationKind;
use goloo_sys::private::in_shell;

use crate::exit;

/// The exit code and the hint.
pub(super) fn explain(error: &EnvironmentError) -> (u8, String) {
    match error {
        EnvironmentError::Invalid { path, .. } => {
            (exit::USAGE, format!("fix {}, or the files of the stacks that it names", path.display()))
        }
        EnvironmentError::NoFile { named: true, .. } => (exit::NOT_FOUND, "check the path".to_owned()),
        EnvironmentError::NoFile { named: false, .. } => (
            exit::NOT_FOUND,
            "run the command in the folder of a goloo.json, or name the file: `goloo up -f PATH`; `goloo down --env NAME` needs no file, and `goloo create NAME` creates a VM without one"
                .to_owned(),
        ),
        EnvironmentError::ExposedFile { path, .. } => {
            (exit::PERMISSION, format!("if you trust it, name it with -f {}", in_shell(path)))
        }
        EnvironmentError::UnknownMachine(unknown) => {
            (exit::USAGE, format!("its machines are {}", unknown.known.join(", ")))
        }
        EnvironmentError::NoVms { .. } => {
            (exit::NOT_FOUND, "run `goloo list` to see all VMs and their environments".to_owned())
        }
        EnvironmentError::SeveralVms { names, .. } => {
            let names: Vec<&str> = names.iter().map(VmName::as_str).collect();
            (exit::USAGE, format!("name one of {}", names.join(", ")))
        }
        EnvironmentError::Busy { .. } => {
            (exit::LOCKED, "wait until that has finished, then run the command again".to_owned())
        }
        EnvironmentError::NoNetwork { .. } => (
            exit::FAILED,
            "delete environments that aren't needed, or set \"network\" to false in goloo.json".to_owned(),
        ),
        EnvironmentError::Refused { name, refusal } => refused(name, refusal),
        _ => (exit::FAILED, "goloo doctor".to_owned()),
    }
}

fn refused(name: &VmName, refusal: &MemberRefusal) -> (u8, String) {
    match refusal {
        MemberRefusal::NameTaken(_) => (
            exit::NOT_FOUND,
            format!(
                "run `goloo rename {name} OTHER` or `goloo delete {name}`, or give the environment another \"name\" in goloo.json"
            ),
        ),
        MemberRefusal::Elsewhere(_) => {
            (exit::FAILED, format!("run the command there; `goloo status {name}` shows where"))
        }
        MemberRefusal::OtherProvider { has: provider, .. } => {
            (exit::NOT_FOUND, format!("run `goloo up --provider {provider}`, or `goloo delete {name}` first"))
        }
        MemberRefusal::MachineMissing => {
            (exit::FAILED, format!("run `goloo delete {name}`, then `goloo up` to make it again"))
        }
        MemberRefusal::Unproven(OperationKind::Delete) => {
            (exit::MIDWAY, format!("check `goloo status {name}`, then run `goloo delete {name}`"))
        }
        MemberRefusal::Unproven(_) => {
            (exit::MIDWAY, format!("check `goloo status {name}`, then run `goloo resume {name}`"))
        }
        MemberRefusal::ReplacementNotReady { new } => (
            exit::MIDWAY,
            format!(
                "run `goloo logs {new}` to see why; `goloo delete {new}`, then `goloo up` makes another one"
            ),
        ),
    }
}
