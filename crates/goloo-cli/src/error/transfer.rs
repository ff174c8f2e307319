//! Hints for transfers of records.

use goloo::transfer::TransferError;

use crate::exit;
use crate::output::text::first;

/// The exit code and the hint.
pub(super) fn explain(error: &TransferError) -> (u8, String) {
    match error {
        TransferError::DocumentConflicts { conflicts } => {
            let hint = match conflicts.iter().all(goloo::transfer::Conflict::is_newer) {
                true => "run `goloo state pull` to see the current records; --force overwrites them",
                false => {
                    "run `goloo state pull` to see the current records, and remove the conflicting ones from the document"
                }
            };
            (exit::FAILED, hint.to_owned())
        }
        TransferError::BackupConflicts { .. } => (
            exit::FAILED,
            "run `goloo list --all` to see the current records; restore into an empty store to inspect the backup"
                .to_owned(),
        ),
        TransferError::TargetConflicts { .. } => (exit::FAILED, "move to an empty store".to_owned()),
        TransferError::BrokenRecords { .. } => {
            (exit::FAILED, "run `goloo doctor` to see how to fix them".to_owned())
        }
        TransferError::InUse { .. } => (
            exit::LOCKED,
            "wait until they have finished, or run `goloo resume NAME`; `goloo state locks` shows who is working on what"
                .to_owned(),
        ),
        TransferError::Interrupted { address, .. } => {
            (exit::MIDWAY, format!("run `goloo state move {address}` to continue"))
        }
        TransferError::SameStore { address, .. } => (
            exit::USAGE,
            format!(
                "run `goloo settings set stateBackend '{address}'` to use the other address; the records were not moved"
            ),
        ),
        TransferError::NotCopied { address, .. } => (
            exit::FAILED,
            format!("run `goloo state move {address}` to try again; the setting was not changed"),
        ),
        TransferError::AnotherMove => (exit::LOCKED, "wait until it has finished".to_owned()),
        TransferError::NoBackup { .. } => {
            (exit::FAILED, "run `goloo state pull FILE` to write all records as one document".to_owned())
        }
        TransferError::NotABackup { .. } => {
            (exit::FAILED, "use another backup; nothing was written".to_owned())
        }
        TransferError::NotADocument { .. } => {
            (exit::USAGE, "run `goloo state pull FILE` to write one".to_owned())
        }
        _ => (exit::FAILED, "goloo doctor".to_owned()),
    }
}

/// The records that a transfer fails at, one for each.
pub(super) fn causes(error: &TransferError) -> Vec<String> {
    match error {
        TransferError::DocumentConflicts { conflicts }
        | TransferError::BackupConflicts { conflicts }
        | TransferError::TargetConflicts { conflicts, .. } => first(conflicts.iter(), ToString::to_string),
        TransferError::BrokenRecords { broken, .. } => {
            first(broken.iter(), |broken| format!("{}: {}", broken.path, broken.error))
        }
        TransferError::InUse { operations } => operations.clone(),
        TransferError::NotCopied { different, .. } => different.clone(),
        _ => Vec::new(),
    }
}
