//! Hints for requests that can't be met.

use goloo::error::RequestError;

use crate::exit;
use crate::output::hint;

/// The exit code and the hint.
pub(super) fn explain(error: &RequestError) -> (u8, String) {
    match error {
        RequestError::NoVm { .. } => (exit::NOT_FOUND, "goloo list --all".to_owned()),
        RequestError::NoRecordedFiles { .. } => {
            (exit::FAILED, "run `goloo create NAME` to create a VM from a stack".to_owned())
        }
        RequestError::RecordedValue(_) => {
            (exit::FAILED, "run `goloo create NAME` to create a VM from its stack".to_owned())
        }
        RequestError::StackMissing { name } => (
            exit::NOT_FOUND,
            format!("run `goloo recreate {name} --as NEW` to create a VM from the snapshot"),
        ),
        RequestError::UntrustedStack { name, .. } => (
            exit::FAILED,
            format!(
                "if you trust that folder or have the stack elsewhere, name it: `goloo diff {name} -f PATH`, or `goloo apply {name} -f PATH`"
            ),
        ),
        RequestError::UnregisteredStack { name, folder } => (
            exit::NOT_FOUND,
            format!("run `goloo create {name} -f {}`, which also saves the folder", folder.display()),
        ),
        RequestError::ForeignFile { .. } => {
            (exit::FAILED, "move it elsewhere first, or export into another folder".to_owned())
        }
        RequestError::FileExists { name, can_replace, .. } => {
            let replace = if *can_replace { ", or --force to replace it" } else { "" };
            (exit::FAILED, format!("goloo config export {name} OTHER-FOLDER{replace}"))
        }
        RequestError::Override(_) => {
            (exit::USAGE, "write KEY=VALUE, such as cpus=4, memory=8G or ports='[8080]'".to_owned())
        }
        RequestError::UntrustedOverrides { name } => (
            exit::FAILED,
            format!(
                "check them with `goloo status {name}`, then remove each with `goloo apply {name} --unset KEY` or set it again"
            ),
        ),
        RequestError::UnfinishedReprovision { name } => {
            (exit::MIDWAY, format!("run `goloo resume {name}` to continue"))
        }
        RequestError::NoOverride { name, .. } => {
            (exit::USAGE, format!("`goloo status {name}` shows its overrides"))
        }
        RequestError::StackTooLarge { .. } => (
            exit::FAILED,
            "put long keys and texts into files of their own, or into cloud-init.yaml".to_owned(),
        ),
        RequestError::NoBaking { .. } => (
            exit::USAGE,
            "use --provider qemu or --aws; `goloo create` works without a baked image".to_owned(),
        ),
        RequestError::NoKeptImages { .. } => {
            (exit::USAGE, "`goloo image list` shows those in the image cache".to_owned())
        }
        RequestError::NoSuchKeptImage { known, .. } if known.is_empty() => {
            (exit::NOT_FOUND, "there are none; `goloo bake` makes one".to_owned())
        }
        RequestError::NoSuchKeptImage { known, .. } => {
            (exit::NOT_FOUND, format!("there are: {}", known.join(", ")))
        }
        RequestError::KeptImageInUse { .. } => (
            exit::FAILED,
            "delete the VMs made from it first: `goloo status NAME --json` has bakedFrom".to_owned(),
        ),
        RequestError::NoWorkingDirectory(_) => (exit::FAILED, "cd to an existing folder".to_owned()),
        RequestError::InvalidImage(problem) => (exit::USAGE, hint::text(&problem.hint)),
        _ => (exit::FAILED, "goloo doctor".to_owned()),
    }
}
