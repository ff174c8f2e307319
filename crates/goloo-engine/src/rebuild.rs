//! What a resume needs that isn't in the record, and how the program provides it.

use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::VmName;
use goloo_model::provider::{ImportSource, Machine};
use goloo_model::record::{CreateInputs, ImportInputs, OperationKind, Record};
use goloo_model::store::Snapshot;

use crate::apply::GuestInputs;
use crate::error::EngineError;

/// Why the machine of an interrupted create can't be rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct RebuildError {
    /// What is wrong.
    pub what: String,
    /// How to fix it; may be empty.
    pub hint: Hint,
}

/// Rebuilds the machine of an interrupted create from its record, its inputs and its snapshot.
pub type Rebuild<'f> = dyn Fn(&Record, &CreateInputs, &Snapshot) -> Result<Machine, RebuildError> + 'f;

/// Reads the machine of an interrupted import again.
pub type Reopen<'f> = dyn Fn(&Record, &ImportInputs) -> Result<ImportSource, RebuildError> + 'f;

/// What a resume needs that isn't in the record.
#[derive(Clone, Copy)]
pub struct ResumeInputs<'f> {
    /// For a create.
    pub rebuild: &'f Rebuild<'f>,
    /// For an import.
    pub reopen: &'f Reopen<'f>,
    /// For an apply.
    pub guest: GuestInputs<'f>,
}

impl<'f> ResumeInputs<'f> {
    /// For a create only, and for what needs no inputs.
    pub fn of_create(rebuild: &'f Rebuild<'f>) -> Self {
        Self { rebuild, reopen: &no_import, guest: GuestInputs::default() }
    }
}

fn no_import(_: &Record, _: &ImportInputs) -> Result<ImportSource, RebuildError> {
    Err(RebuildError { what: "this program imports no VMs".to_owned(), hint: Hint::default() })
}

impl RebuildError {
    /// The error of a resume.
    pub(crate) fn refused(self, kind: OperationKind, name: &VmName) -> EngineError {
        let Self { what, hint } = self;
        EngineError::Refused {
            what: format!("the {kind} of \"{name}\" can't continue: {what}"),
            hint: match hint.is_empty() {
                true => NextStep::Delete(name.clone()).into(),
                false => hint.text("; or run ").step(NextStep::Delete(name.clone())),
            },
        }
    }
}
