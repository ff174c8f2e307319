//! The state of a VM as it is shown, in one word: from its record, and from its provider's answer if there is one. Pure.

use goloo_model::provider::LiveState;
use goloo_model::record::{Phase, ProvisioningResult};

/// A VM's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmState {
    /// The machine is running, and was provisioned.
    Running,
    /// The machine is off.
    Stopped,
    /// The machine is off, and its memory is saved.
    Suspended,
    /// The provider doesn't have the machine.
    Missing,
    /// The provider can't tell.
    Unknown,
    /// Its record says that it was provisioned; its provider wasn't asked.
    Ready,
    /// Being created, or the create was interrupted.
    Creating,
    /// Being deleted, or the delete was interrupted.
    Deleting,
    /// The machine exists, and its provisioning failed.
    Failed,
    /// The machine exists, and nobody has waited for the result of its provisioning.
    Unverified,
}

impl VmState {
    /// `live` is the provider's answer; `None` if it wasn't asked, or hasn't answered in time.
    pub fn of(phase: Phase, provisioning: Option<ProvisioningResult>, live: Option<LiveState>) -> Self {
        match (phase, live) {
            (Phase::Creating, _) => Self::Creating,
            (Phase::Deleting | Phase::Destroyed, _) => Self::Deleting,
            (_, Some(LiveState::Stopped)) => Self::Stopped,
            (_, Some(LiveState::Suspended)) => Self::Suspended,
            (_, Some(LiveState::Missing)) => Self::Missing,
            (_, Some(LiveState::Unknown)) => Self::Unknown,
            (Phase::Degraded, _) => match provisioning {
                None | Some(ProvisioningResult::Unknown) => Self::Unverified,
                Some(_) => Self::Failed,
            },
            (Phase::Ready, Some(LiveState::Running)) => Self::Running,
            (Phase::Ready, None) => Self::Ready,
        }
    }

    /// The word in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Suspended => "suspended",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Ready => "ready",
            Self::Creating => "creating",
            Self::Deleting => "deleting",
            Self::Failed => "failed",
            Self::Unverified => "unverified",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_off_is_stopped_and_a_running_one_tells_how_its_provisioning_ended() {
        use LiveState::{Missing, Running, Stopped, Unknown};
        use Phase::{Creating, Degraded, Deleting, Ready};
        let (failed, dropped) = (Some(ProvisioningResult::Failed), Some(ProvisioningResult::Dropped));
        for (phase, provisioning, live, expected) in [
            (Ready, None, Some(Running), "running"),
            (Ready, None, Some(Stopped), "stopped"),
            (Ready, None, Some(LiveState::Suspended), "suspended"),
            (Ready, None, Some(Missing), "missing"),
            (Ready, None, Some(Unknown), "unknown"),
            (Ready, None, None, "ready"),
            (Degraded, failed, Some(Running), "failed"),
            (Degraded, dropped, None, "failed"),
            (Degraded, failed, Some(Stopped), "stopped"),
            (Degraded, Some(ProvisioningResult::Unknown), Some(Running), "unverified"),
            (Degraded, None, None, "unverified"),
            (Creating, None, Some(Running), "creating"),
            (Deleting, None, Some(Missing), "deleting"),
        ] {
            let state = VmState::of(phase, provisioning, live).as_str();
            assert_eq!(state, expected, "{phase} {provisioning:?} {live:?}");
        }
    }
}
