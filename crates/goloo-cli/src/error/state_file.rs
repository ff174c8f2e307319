//! Hints for the small files in the state folder.

use goloo::state_id::{StateFile, StateFileError};
use goloo_sys::private::in_shell;

use crate::exit;

/// The exit code and the hint.
pub(super) fn explain(error: &StateFileError) -> (u8, String) {
    let hint = match error {
        StateFileError::Damaged { path, file } => format!("rm {}; {}", in_shell(path), without(*file)),
        StateFileError::Removed { .. } => "run the command again".to_owned(),
        StateFileError::TooMany { .. } => {
            "import them into a separate state folder (GOLOO_STATE_DIR)".to_owned()
        }
        _ => "goloo doctor".to_owned(),
    };
    (exit::FAILED, hint)
}

/// The consequence of removing the file.
fn without(file: StateFile) -> &'static str {
    match file {
        StateFile::Id => "goloo then gives the folder a new id with the next VM",
        StateFile::Key => {
            "goloo then creates a new key and asks for confirmation before it trusts the records of existing VMs"
        }
        StateFile::Imported => "goloo then trusts the imported records that it lists",
    }
}
