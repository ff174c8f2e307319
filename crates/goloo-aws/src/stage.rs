//! The stages of a CloudFormation stack.

/// The state of a stack, condensed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Being created.
    Creating,
    /// Exists and is complete.
    Created,
    /// Being rolled back because a resource failed.
    Failing,
    /// A resource failed; the stack still holds the name, and perhaps resources.
    Failed,
    /// Being deleted.
    Deleting,
    /// CloudFormation couldn't delete it.
    DeleteFailed,
    /// Deleted.
    Gone,
}

impl Stage {
    /// Parses CloudFormation's stack status.
    pub fn of(status: &str) -> Self {
        match status {
            "CREATE_IN_PROGRESS" | "REVIEW_IN_PROGRESS" => Self::Creating,
            "ROLLBACK_IN_PROGRESS" => Self::Failing,
            "CREATE_FAILED" | "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" => Self::Failed,
            "DELETE_IN_PROGRESS" => Self::Deleting,
            "DELETE_FAILED" => Self::DeleteFailed,
            "DELETE_COMPLETE" => Self::Gone,
            // Someone is updating it manually: it was complete before and will be afterwards.
            _ => Self::Created,
        }
    }

    /// Whether CloudFormation is changing the stack.
    pub(crate) fn is_under_way(self) -> bool {
        matches!(self, Self::Creating | Self::Failing | Self::Deleting)
    }
}

/// Whether a stack can be updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateState {
    /// It can.
    Ready,
    /// As [`UpdateState::Ready`], after an update that CloudFormation undid.
    RolledBack,
    /// CloudFormation is changing it.
    UnderWay,
    /// CloudFormation could neither update it nor undo the update.
    Stuck,
    /// It isn't complete, or no longer exists.
    Unusable,
}

impl UpdateState {
    /// Parses CloudFormation's stack status.
    pub fn of(status: &str) -> Self {
        match status {
            "UPDATE_ROLLBACK_COMPLETE" => Self::RolledBack,
            "UPDATE_ROLLBACK_FAILED" => Self::Stuck,
            "CREATE_COMPLETE"
            | "UPDATE_COMPLETE"
            | "UPDATE_FAILED"
            | "IMPORT_COMPLETE"
            | "IMPORT_ROLLBACK_COMPLETE" => Self::Ready,
            status if status.ends_with("_IN_PROGRESS") => Self::UnderWay,
            _ => Self::Unusable,
        }
    }
}
