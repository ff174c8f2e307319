//! The host and state folder that a VM belongs to. A store can be shared, but a machine under QEMU or Multipass belongs
//! to one state folder on one host. Elsewhere its name may denote another machine, or none.

use std::fmt;
use std::sync::Arc;

use super::{Record, Trust};
use crate::name::{OperationId, StateId};
use crate::text::Label;

/// Where a record's machine is, seen from a state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineLocation {
    /// The machine is in it.
    Machine,
    /// The machine with the record's id is in it, but has another name: the record is a copy of another VM's.
    OtherVm,
    /// The machine doesn't exist, but its recorded path is in this folder.
    Place,
    /// The machine doesn't exist, and its record names another path.
    Elsewhere,
    /// The record names no path: its provider keeps machines outside of state folders, or nothing was created yet.
    NoPlace,
}

/// This host, user and state folder: what decides whether a local machine is theirs.
#[derive(Clone)]
pub struct LocalContext {
    /// The host's identity, which survives a rename.
    pub host_id: Label,
    /// The user's login name.
    pub user: Label,
    /// The state folder's identity; `None` before its first VM is created.
    pub state_id: Option<StateId>,
    /// Which records are trusted here.
    pub trust: Trust,
    /// The operations that were started with the state folder and haven't ended.
    pub operations: Arc<dyn OpenOperations>,
    /// Finds a record's machine in the state folder.
    pub locate: Arc<dyn Fn(&Record) -> MachineLocation + Send + Sync>,
}

/// Tracks the operations in progress, so that one that has ended can't be put back into a record.
pub trait OpenOperations: Send + Sync {
    /// Adds an operation; does nothing if it is already present. One that can't be added is treated as foreign.
    fn add(&self, id: &OperationId);
    /// Whether the operation is present.
    fn contains(&self, id: &OperationId) -> bool;
    /// Removes an operation that has ended.
    fn remove(&self, id: &OperationId);
}

/// Treats every operation as in progress.
#[derive(Debug)]
pub struct AllOpen;

impl OpenOperations for AllOpen {
    fn add(&self, _: &OperationId) {}
    fn contains(&self, _: &OperationId) -> bool {
        true
    }
    fn remove(&self, _: &OperationId) {}
}

impl fmt::Debug for LocalContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host_id, user, state_id, trust, operations: _, locate: _ } = self;
        f.debug_struct("LocalContext")
            .field("host_id", host_id)
            .field("user", user)
            .field("state_id", state_id)
            .field("trust", trust)
            .finish_non_exhaustive()
    }
}

/// The owner of a VM that doesn't belong to this state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForeignOwner {
    /// To another host.
    Host {
        /// That host's name.
        host: Label,
    },
    /// To another state folder on this host: that of another user, or a second one of this user.
    StateFolder {
        /// The user who created it.
        user: Label,
        /// The host's name at that time.
        host: Label,
    },
    /// Nowhere: its record has the id of another VM, whose machine is here.
    OtherVm,
    /// The record claims to be this folder's, in a store that others can write to, without proof.
    Unproven,
}

impl fmt::Display for ForeignOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host } => write!(f, "the host {host}"),
            Self::StateFolder { user, host } => {
                write!(f, "{user} on this computer ({host}), in another state folder")
            }
            Self::Unproven => f.write_str(
                "an unknown owner: its record doesn't prove that it was created with this state folder",
            ),
            Self::OtherVm => f.write_str("no machine: its record carries the id of another VM"),
        }
    }
}

impl Record {
    /// Where the VM belongs, when that isn't here. What runs in a cloud belongs to no host.
    ///
    /// Records of earlier versions don't name their state folder. Theirs is the one that has the machine, or the
    /// one that is recorded as its place; without a place, this user's, where only this user writes records.
    pub fn elsewhere(&self, here: &LocalContext) -> Option<ForeignOwner> {
        let by = &self.created_by;
        if !self.host_bound {
            return None;
        }
        if by.host_id != here.host_id {
            return Some(ForeignOwner::Host { host: by.host.clone() });
        }
        let is_claimed = by.state_id.is_some() && by.state_id == here.state_id;
        let is_here = match ((here.locate)(self), &by.state_id) {
            (MachineLocation::OtherVm, _) => return Some(ForeignOwner::OtherVm),
            _ if here.created(self) => true,
            (MachineLocation::NoPlace | MachineLocation::Elsewhere, _)
                if is_claimed && !here.trust.is_trusted(self) =>
            {
                return Some(ForeignOwner::Unproven);
            }
            _ if is_claimed => true,
            (MachineLocation::Machine, _) | (MachineLocation::Place, None) => true,
            (MachineLocation::NoPlace, None) if by.user == here.user && !here.trust.is_trusted(self) => {
                return Some(ForeignOwner::Unproven);
            }
            (MachineLocation::NoPlace, None) => by.user == here.user,
            (MachineLocation::Elsewhere, _) | (_, Some(_)) => false,
        };
        (!is_here).then(|| ForeignOwner::StateFolder { user: by.user.clone(), host: by.host.clone() })
    }

    /// Whether the record claims to have been created with this state folder. Anyone who can write to the store can
    /// make that claim: see [`LocalContext::created`].
    pub fn claims_to_be_from(&self, here: &LocalContext) -> bool {
        let by = &self.created_by;
        match &by.state_id {
            Some(id) => here.state_id.as_ref() == Some(id),
            None => by.host_id == here.host_id && by.user == here.user,
        }
    }

    /// Sets the state folder of a local VM that is known to belong here, to be written by the next save: records of
    /// earlier versions have none, and a folder that lost its id has a new one.
    pub fn belongs_to(&mut self, here: &LocalContext) {
        if self.host_bound && here.state_id.is_some() {
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
    fn a_machine_belongs_to_one_host_and_one_state_folder() {
        let (ours, theirs) = (StateId::generate(), StateId::generate());
        let here = |location: MachineLocation| LocalContext {
            host_id: "h".into(),
            user: "ann".into(),
            state_id: Some(ours.clone()),
            trust: Trust { store_is_private: true, ..Trust::default() },
            operations: Arc::new(AllOpen),
            locate: Arc::new(move |_| location),
        };
        let all = [
            MachineLocation::Machine,
            MachineLocation::Place,
            MachineLocation::Elsewhere,
            MachineLocation::NoPlace,
        ];
        for (provider, host, user, id, is_here) in [
            // Matches by the folder's id, whatever exists; with another folder's id only if the machine exists.
            ("qemu", "h", "bob", Some(&ours), [true, true, true, true]),
            ("qemu", "h", "ann", Some(&theirs), [true, false, false, false]),
            ("multipass", "h", "ann", Some(&theirs), [true, false, false, false]),
            // Earlier version: the folder with the machine or its path; without a path, the user's.
            ("qemu", "h", "ann", None, [true, true, false, true]),
            ("multipass", "h", "bob", None, [true, true, false, false]),
            ("qemu", "other", "ann", Some(&ours), [false; 4]),
            ("aws", "other", "bob", Some(&theirs), [true; 4]),
        ] {
            let mut record = record(provider, host, user, id);
            for (location, expected) in all.into_iter().zip(is_here) {
                let elsewhere = record.elsewhere(&here(location));
                assert_eq!(elsewhere.is_none(), expected, "{provider} {host} {user} {id:?} {location:?}");
            }
            if id.is_none() {
                let shared = LocalContext { trust: Trust::default(), ..here(MachineLocation::NoPlace) };
                assert_eq!(record.elsewhere(&shared).is_some(), provider != "aws", "{provider} {user}");
            }
            record.belongs_to(&here(MachineLocation::Machine));
            let is_noted = record.created_by.state_id.as_ref() == Some(&ours);
            assert_eq!(is_noted, provider != "aws", "{provider}");
        }
    }
}
