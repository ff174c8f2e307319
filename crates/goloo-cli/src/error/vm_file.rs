//! Hints for files of exported VMs.

use goloo::vm_file::VmFileError;

use crate::exit;

/// The exit code and the hint.
pub(super) fn explain(error: &VmFileError) -> (u8, String) {
    match error {
        VmFileError::Exists { .. } => (exit::FAILED, "use another name, or remove the file first".to_owned()),
        VmFileError::Busy { .. } => {
            (exit::LOCKED, "wait until it has finished, or use another name".to_owned())
        }
        VmFileError::TooOld { name } => (
            exit::USAGE,
            format!("run `goloo recreate {name} --as {}` to create one that can", name.second()),
        ),
        VmFileError::Invalid { .. } => {
            (exit::FAILED, "copy the file again, or export the VM again; nothing was created".to_owned())
        }
        VmFileError::Unrecordable { .. } => {
            (exit::USAGE, "move the file to a folder whose path is plain text".to_owned())
        }
        VmFileError::Changed { .. } => {
            (exit::FAILED, "put the file back that the import began with".to_owned())
        }
        _ => (exit::FAILED, "goloo doctor".to_owned()),
    }
}
