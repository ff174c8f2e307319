//! The store of the records.

use goloo::actions::StoreStatus;
use goloo_model::name::VmName;
use goloo_model::record::Owner;
use goloo_model::store::HeldLock;
use goloo_model::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// Where the records are stored, and how many there are.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreShown<'a> {
    /// The kind of store
    backend: &'a str,
    address: &'a str,
    /// The location, for display
    place: &'a str,
    vms: usize,
    /// How many of the VMs have an unfinished operation
    under_way: usize,
    archived: usize,
    /// The paths of records that can't be read
    broken: &'a [String],
    /// The names of VMs that are locked
    locks: &'a [VmName],
    /// The store that the records were moved to
    moved_to: Option<&'a str>,
    /// The size of its files in bytes; null if it has none on this computer
    bytes: Option<u64>,
}

impl<'a> From<&'a StoreStatus> for StoreShown<'a> {
    fn from(status: &'a StoreStatus) -> Self {
        Self {
            backend: status.backend,
            address: &status.address,
            place: &status.location,
            vms: status.vms,
            under_way: status.unfinished,
            archived: status.archived,
            broken: &status.broken,
            locks: &status.locks,
            moved_to: status.moved_to.as_deref(),
            bytes: status.bytes,
        }
    }
}

/// The VMs that are locked.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LockList<'a> {
    locks: Vec<Lock<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Lock<'a> {
    name: &'a VmName,
    owner: Option<&'a Owner>,
    /// When the lock expires unless it is renewed; null if it is held until its process exits
    lease_end: Option<Timestamp>,
}

impl<'a> From<&'a [HeldLock]> for LockList<'a> {
    fn from(locks: &'a [HeldLock]) -> Self {
        let lock = |held: &'a HeldLock| Lock {
            name: &held.name,
            owner: held.owner.as_ref(),
            lease_end: held.lease_end,
        };
        Self { locks: locks.iter().map(lock).collect() }
    }
}
