//! Compares all records with all machines.

use goloo_model::name::VmName;
use goloo_model::provider::{LiveState, Orphan};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{ForeignOwner, Record};
use goloo_model::store::{Broken, Listing, StoreError};
use goloo_model::time::Timestamp;

use crate::error::Error;
use crate::observe::{self, ObservedVm, Orphans};
use crate::session::Session;

/// Records and machines, compared.
pub struct RefreshReport {
    /// The VMs whose state was queried.
    pub observed: Vec<ObservedVm>,
    /// VMs whose state can't be queried from here, with the place where they belong.
    pub elsewhere: Vec<(VmName, ForeignOwner)>,
    /// Records that can't be read.
    pub broken: Vec<Broken>,
    /// Machines that have no record.
    pub strays: Vec<(ProviderId, Orphan)>,
    /// Providers that couldn't be queried for such machines, and why.
    pub unasked: Vec<(ProviderId, Error)>,
}

/// How a machine differs from its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference<'o> {
    /// Its provider doesn't have it.
    Missing {
        /// Whether an operation that creates or deletes it is unfinished.
        is_unfinished: bool,
    },
    /// Its state is unknown.
    Unknown {
        /// Why.
        reason: &'o str,
    },
    /// It is stopped, and its DNS names point to an address that is no longer its own.
    DanglingNames {
        /// What its provider says of it.
        reason: &'o str,
    },
    /// It has another address than its record.
    Moved {
        /// Its address.
        now: &'o str,
        /// The record's.
        recorded: Option<&'o str>,
    },
}

impl ObservedVm {
    /// How the machine differs from its record: the most important difference.
    pub fn difference(&self) -> Option<Difference<'_>> {
        if self.is_missing() {
            let operation = self.record.operation.as_ref();
            let is_unfinished = operation.is_some_and(|operation| operation.kind.makes_or_ends());
            return Some(Difference::Missing { is_unfinished });
        }
        if let Some(reason) = self.unknown() {
            return Some(Difference::Unknown { reason });
        }
        if let Some(reason) = self.dangling_names() {
            return Some(Difference::DanglingNames { reason });
        }
        self.moved_to().map(|now| Difference::Moved { now, recorded: self.record.ip() })
    }

    /// Whether its provider doesn't have the machine.
    pub fn is_missing(&self) -> bool {
        self.live.state == LiveState::Missing
    }

    /// AWS's warning about a stopped VM: its names point to an address that is no longer its own.
    pub fn dangling_names(&self) -> Option<&str> {
        let is_released = self.live.state == LiveState::Stopped && !self.record.host_bound;
        self.live.reason.as_deref().filter(|_| is_released)
    }

    /// The machine's address, when it isn't the recorded one.
    pub fn moved_to(&self) -> Option<&str> {
        self.live.ip.as_deref().filter(|ip| Some(*ip) != self.record.ip())
    }
}

impl RefreshReport {
    /// Machines without a record that goloo created.
    pub fn ours(&self) -> impl Iterator<Item = (ProviderId, &Orphan)> {
        self.strays.iter().filter(|(_, stray)| stray.ours).map(|(id, stray)| (*id, stray))
    }

    /// Machines that goloo did not create.
    pub fn others(&self) -> impl Iterator<Item = (ProviderId, &Orphan)> {
        self.strays.iter().filter(|(_, stray)| !stray.ours).map(|(id, stray)| (*id, stray))
    }

    /// The machine of a broken record, when exactly one has its name: it can be adopted again.
    pub fn machine_of(&self, broken: &Broken) -> Option<(ProviderId, &Orphan)> {
        let mut machines = self.ours().filter(|(_, stray)| stray.name == broken.name);
        machines.next().filter(|_| machines.next().is_none())
    }

    /// Whether a machine without a record is that of a broken one.
    pub fn is_of_broken(&self, id: ProviderId, stray: &Orphan) -> bool {
        self.broken.iter().any(|broken| self.machine_of(broken) == Some((id, stray)))
    }

    /// The name under which a machine without a record can be adopted: its own, where that is free.
    pub fn name_for(&self, stray: &Orphan) -> Option<VmName> {
        let here = self.observed.iter().map(|vm| &vm.record.name);
        let mut taken = here.chain(self.elsewhere.iter().map(|(name, _)| name));
        let is_free = taken.all(|name| name.as_str() != stray.name);
        VmName::parse(&stray.name).ok().filter(|_| is_free)
    }

    /// Takes out the VMs whose TTL has expired and whose machines no longer exist: they are to be deleted with their
    /// remains, which is what vm.ttl requests. A protected one is kept and shown as missing. So are all in a store that
    /// others write to, and those that this state folder didn't create: their records could name anything in this
    /// account.
    pub fn take_expired(&mut self, session: &Session) -> Vec<Record> {
        let (now, here) = (Timestamp::now(), session.here());
        let is_shared = session.is_shared();
        let has_expired = |vm: &mut ObservedVm| {
            let record = &vm.record;
            let in_peace = record.operation.is_none() && !record.protected && !is_shared;
            let is_over = || record.ends_at.is_some_and(|end| end <= now);
            vm.is_missing() && in_peace && is_over() && here.created(record)
        };
        self.observed.extract_if(.., has_expired).map(|vm| vm.record).collect()
    }
}

impl Session {
    /// Compares the records of these VMs with their machines.
    ///
    /// # Errors
    /// Errors of the store; a VM that has no readable record, or belongs elsewhere.
    pub fn refresh(&self, names: &[VmName]) -> Result<RefreshReport, Error> {
        let mut listing = observe::records(self)?;
        only(&mut listing, names)?;
        self.expect_here(&listing.entries)?;
        Ok(RefreshReport {
            observed: observe::ask(self, listing.entries),
            elsewhere: Vec::new(),
            broken: Vec::new(),
            strays: Vec::new(),
            unasked: Vec::new(),
        })
    }

    /// Compares all records with all machines.
    ///
    /// # Errors
    /// As the store's. A provider that can't be asked is no error.
    pub fn refresh_all(&self) -> Result<RefreshReport, Error> {
        Ok(self.compare(observe::records(self)?))
    }

    /// Queries every provider.
    pub(super) fn compare(&self, listing: Listing<Record>) -> RefreshReport {
        let here = self.here();
        let place = |record: Record| (record.elsewhere(&here), record);
        let (others, own): (Vec<_>, Vec<_>) =
            listing.entries.into_iter().map(place).partition(|(place, _)| place.is_some());
        let own: Vec<Record> = own.into_iter().map(|(_, record)| record).collect();
        // A record of another host refers to no machine here, whatever its name. A record of another state folder on
        // this computer may: Multipass has the machines of all users.
        let is_near = |place: &Option<ForeignOwner>| matches!(place, Some(ForeignOwner::StateFolder { .. }));
        let near = others.iter().filter(|(place, _)| is_near(place)).map(|(_, record)| record);
        let Orphans { found, unasked } = observe::orphans(self, &own.iter().chain(near).collect::<Vec<_>>());
        let named = |(place, record): (Option<ForeignOwner>, Record)| Some((record.name, place?));
        let elsewhere = others.into_iter().filter_map(named).collect();
        let observed = observe::ask(self, own);
        RefreshReport { observed, elsewhere, broken: listing.broken, strays: found, unasked }
    }
}

fn only(listing: &mut Listing<Record>, names: &[VmName]) -> Result<(), StoreError> {
    for name in names {
        if let Some(broken) = listing.broken.iter().find(|broken| broken.name == name.as_str()) {
            return Err(StoreError::Broken(broken.clone()));
        }
        if listing.entries.iter().all(|record| record.name != *name) {
            return Err(StoreError::NotFound { name: name.clone() });
        }
    }
    listing.entries.retain(|record| names.contains(&record.name));
    Ok(())
}
