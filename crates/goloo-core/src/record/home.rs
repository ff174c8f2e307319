//! Where a VM belongs. A store can be shared, and a machine under QEMU or Multipass can't: it belongs to one state
//! folder on one host. From elsewhere its name may stand for another machine, or for none.

use std::fmt;
use std::sync::Arc;

use super::{Record, Trust};
use crate::name::{OperationId, StateId};
use crate::text::Label;

/// What a state folder shows of a record's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The machine is in it.
    Machine,
    /// The machine with the record's id is in it, and is one of another name: the record is a copy of another VM's.
    OtherVm,
    /// The machine isn't there, and the place on record is a place in this folder.
    Place,
    /// The machine isn't there, and its record names another place.
    Elsewhere,
    /// The record names no place: its provider keeps machines outside of state folders, or nothing was made yet.
    NoPlace,
}

/// This host, user and state folder, as far as they decide whose a local machine is.
#[derive(Clone)]
pub struct Here {
    /// The host's identity, which a rename doesn't change.
    pub host_id: Label,
    /// The user's login name.
    pub user: Label,
    /// The state folder's identity; `None` before its first VM.
    pub state_id: Option<StateId>,
    /// Which records are trusted here.
    pub trust: Trust,
    /// The operations that were started with the state folder and aren't over.
    pub operations: Arc<dyn OpenOperations>,
    /// Looks for a record's machine in the state folder.
    pub sight: Arc<dyn Fn(&Record) -> Sight + Send + Sync>,
}

/// Remembers which operations are under way, so that one that is over can't be put back into a record.
pub trait OpenOperations: Send + Sync {
    /// Adds one; nothing happens when it is there. One that can't be added counts as somebody else's.
    fn add(&self, id: &OperationId);
    /// Whether it is there.
    fn contains(&self, id: &OperationId) -> bool;
    /// Removes one that is over.
    fn remove(&self, id: &OperationId);
}

/// Takes every operation for one that is under way.
#[derive(Debug)]
pub struct AllOpen;

impl OpenOperations for AllOpen {
    fn add(&self, _: &OperationId) {}
    fn contains(&self, _: &OperationId) -> bool {
        true
    }
    fn remove(&self, _: &OperationId) {}
}

impl fmt::Debug for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host_id, user, state_id, trust, operations: _, sight: _ } = self;
        f.debug_struct("Here")
            .field("host_id", host_id)
            .field("user", user)
            .field("state_id", state_id)
            .field("trust", trust)
            .finish_non_exhaustive()
    }
}

/// Where a VM belongs that doesn't belong here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// To another host.
    Host {
        /// That host's name.
        host: Label,
    },
    /// To another state folder on this host: another user's, or another one of this user.
    StateFolder {
        /// The user who made it.
        user: Label,
        /// The host's name, as it was then.
        host: Label,
    },
    /// Nowhere: its record carries the id of another VM, whose machine is here.
    OtherVm,
    /// The record claims to be this folder's, in a store that others can write, and nothing proves it.
    Unproven,
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host } => write!(f, "the host {host}"),
            Self::StateFolder { user, host } => {
                write!(f, "{user} on this computer ({host}), in another state folder")
            }
            Self::Unproven => f.write_str(
                "nobody for sure: its record doesn't prove that it was created with this state folder",
            ),
            Self::OtherVm => f.write_str("no machine: its record carries the id of another VM"),
        }
    }
}

impl Record {
    /// Where the VM belongs, when that isn't here. What runs in AWS belongs to no host.
    ///
    /// Records of earlier versions don't name their state folder. Theirs is the one that has the machine, or the
    /// one that is on record as its place; without a place, this user's.
    pub fn elsewhere(&self, here: &Here) -> Option<Elsewhere> {
        let by = &self.created_by;
        if !self.provider.is_local() {
            return None;
        }
        if by.host_id != here.host_id {
            return Some(Elsewhere::Host { host: by.host.clone() });
        }
        let is_claimed = by.state_id.is_some() && by.state_id == here.state_id;
        let is_here = match ((here.sight)(self), &by.state_id) {
            (Sight::OtherVm, _) => return Some(Elsewhere::OtherVm),
            _ if here.created(self) => true,
            (Sight::NoPlace | Sight::Elsewhere, _) if is_claimed && !here.trust.is_trusted(self) => {
                return Some(Elsewhere::Unproven);
            }
            _ if is_claimed => true,
            (Sight::Machine, _) | (Sight::Place, None) => true,
            (Sight::NoPlace, None) => by.user == here.user,
            (Sight::Elsewhere, _) | (_, Some(_)) => false,
        };
        (!is_here).then(|| Elsewhere::StateFolder { user: by.user.clone(), host: by.host.clone() })
    }

    /// Whether the record claims to have been made with this state folder. Anyone who can write to the store can make that
    /// claim: see [`Here::created`].
    pub fn claims_to_be_from(&self, here: &Here) -> bool {
        let by = &self.created_by;
        match &by.state_id {
            Some(id) => here.state_id.as_ref() == Some(id),
            None => by.host_id == here.host_id && by.user == here.user,
        }
    }

    /// Notes the state folder of a local VM that is known to belong here, with the save that comes next: a record of
    /// an earlier version has none, and a folder that lost its id has a new one.
    pub fn belongs_to(&mut self, here: &Here) {
        if self.provider.is_local() && here.state_id.is_some() {
            self.created_by.state_id.clone_from(&here.state_id);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::name::VmId;

    fn record(provider: &str, host: &str, user: &str, state_id: Option<&StateId>) -> Record {
        let mut json = serde_json::json!({
            "schema": 1, "id": VmId::generate(), "serial": 1, "name": "web", "stack": "web", "provider": provider,
            "phase": "ready", "createdAt": "2025-01-15T10:30:00Z", "updatedAt": "2025-01-15T10:30:00Z",
            "createdBy": {"user": user, "host": "laptop", "hostId": host, "goloo": "0.1.0"}, "operation": null,
        });
        if let Some(id) = state_id {
            json["createdBy"]["stateId"] = id.as_str().into();
        }
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_machine_belongs_to_one_host_and_one_state_folder_of_it() {
        let (ours, theirs) = (StateId::generate(), StateId::generate());
        let here = |sight: Sight| Here {
            host_id: "h".into(),
            user: "ann".into(),
            state_id: Some(ours.clone()),
            trust: Trust { store_is_private: true, ..Trust::default() },
            operations: Arc::new(AllOpen),
            sight: Arc::new(move |_| sight),
        };
        let all = [Sight::Machine, Sight::Place, Sight::Elsewhere, Sight::NoPlace];
        for (provider, host, user, id, is_here) in [
            // Known by its folder's id, whatever is there; by another's only where the machine is.
            ("qemu", "h", "bob", Some(&ours), [true, true, true, true]),
            ("qemu", "h", "ann", Some(&theirs), [true, false, false, false]),
            ("multipass", "h", "ann", Some(&theirs), [true, false, false, false]),
            // An earlier version's: where the machine or its place is, and where there is no place, the user's.
            ("qemu", "h", "ann", None, [true, true, false, true]),
            ("multipass", "h", "bob", None, [true, true, false, false]),
            ("qemu", "other", "ann", Some(&ours), [false; 4]),
            ("aws", "other", "bob", Some(&theirs), [true; 4]),
        ] {
            let mut record = record(provider, host, user, id);
            for (sight, expected) in all.into_iter().zip(is_here) {
                let elsewhere = record.elsewhere(&here(sight));
                assert_eq!(elsewhere.is_none(), expected, "{provider} {host} {user} {id:?} {sight:?}");
            }
            record.belongs_to(&here(Sight::Machine));
            let is_noted = record.created_by.state_id.as_ref() == Some(&ours);
            assert_eq!(is_noted, provider != "aws", "{provider}");
        }
    }
}
