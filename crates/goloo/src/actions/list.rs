//! Lists VMs. Nothing is written, also where VMs of goloo v0 have no record.

mod local;

use std::collections::{BTreeMap, BTreeSet};

use goloo_model::name::{VmId, VmName};
use goloo_model::provider::{LiveState, Observation};
use goloo_model::provider_id::ProviderId;
use goloo_model::query::{Filter, Listed, Order};
use goloo_model::record::{Origin, Record};
use goloo_model::store::{Archived, Broken, Listing, Summary};
use goloo_model::time::Timestamp;

use crate::error::Error;
use crate::migrate::{self, ImportFailure, Unimported};
use crate::observe::{self, ObservedVm};
use crate::session::Session;
use crate::shown_state::VmState;

/// Which VMs are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ListScope {
    /// Those that exist.
    #[default]
    Active,
    /// Those that were deleted.
    Archived,
    /// Both.
    All,
}

/// Which places are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListPlace {
    /// VMs whose machines belong to one host.
    Hosts,
    /// VMs of this provider.
    Provider(ProviderId),
}

impl ListPlace {
    fn holds(self, vm: &dyn Listed) -> bool {
        match self {
            Self::Hosts => vm.is_host_bound(),
            Self::Provider(id) => vm.provider() == id,
        }
    }
}

/// What is listed, and in what order.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Which VMs.
    pub scope: ListScope,
    /// The names of the VMs; any if it is empty.
    pub names: BTreeSet<VmName>,
    /// All of these hold for a listed VM.
    pub filters: Vec<Filter>,
    /// Where the VMs are; anywhere by default.
    pub place: Option<ListPlace>,
    /// The order; by default the store's, by name.
    pub order: Option<Order>,
    /// Which providers are asked for the current states of their VMs.
    pub asked: AskedProviders,
    /// Whether the whole records of active VMs are read, which takes longer.
    pub whole_records: bool,
}

/// Which providers a list asks for the states of their VMs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AskedProviders {
    /// None: states are as recorded.
    #[default]
    None,
    /// Those of this computer, about its VMs, and only for a moment: an answer that takes longer is left out.
    Local,
    /// All, for as long as they take.
    All,
}

impl ListQuery {
    /// Whether anything but the scope restricts the list.
    pub fn is_restricted(&self) -> bool {
        self.place.is_some() || !self.filters.is_empty() || !self.names.is_empty()
    }

    fn select<T>(&self, entries: &mut Vec<T>, vm: impl Fn(&T) -> &dyn Listed) {
        let now = Timestamp::now();
        entries.retain(|entry| self.holds(vm(entry), now));
        match self.order {
            Some(order) => entries.sort_by(|a, b| order.compare(vm(a), vm(b))),
            // Those of an environment together; a stable sort keeps the store's order otherwise.
            None => entries.sort_by(|a, b| environment(vm(a)).cmp(&environment(vm(b)))),
        }
    }

    fn holds(&self, vm: &dyn Listed, now: Timestamp) -> bool {
        self.place.is_none_or(|place| place.holds(vm))
            && (self.names.is_empty() || self.names.contains(vm.name()))
            && self.filters.iter().all(|filter| filter.holds(vm, now))
    }
}

fn environment(vm: &dyn Listed) -> Option<&VmName> {
    vm.membership().map(|membership| &membership.environment)
}

/// The VMs that were selected.
#[derive(Default)]
pub struct VmList {
    /// VMs with a record.
    pub recorded: Vec<Summary>,
    /// VMs in configs of goloo v0 that have no record.
    pub unimported: Vec<UnimportedVm>,
    /// The states of the recorded VMs and then of the others, in the same order, as far as providers were asked and
    /// have answered.
    pub live: Vec<Option<Observation>>,
    /// The whole records of active VMs, if they were asked for.
    pub records: BTreeMap<VmId, Record>,
    /// Deleted VMs.
    pub archived: Vec<Archived>,
    /// Records that can't be read: active ones, then archived ones.
    pub broken: Vec<Broken>,
    /// VMs of goloo v0 that can't be imported.
    pub failures: Vec<ImportFailure>,
    /// Why providers didn't tell the state of some VMs.
    pub unknown: BTreeSet<(ProviderId, String)>,
}

/// A VM of goloo v0, as its record would begin.
pub struct UnimportedVm {
    /// The VM.
    pub summary: Summary,
    /// The config that defines it.
    pub origin: Option<Origin>,
}

/// One active VM of a list.
#[derive(Clone, Copy)]
pub struct ListedVm<'l> {
    /// The VM.
    pub summary: &'l Summary,
    /// Where it comes from, when it has no record.
    pub unimported: Option<&'l UnimportedVm>,
    /// Its provider's answer; `None` if it wasn't asked, or hasn't answered in time.
    pub live: Option<&'l Observation>,
}

impl ListedVm<'_> {
    /// Its state.
    pub fn state(&self) -> VmState {
        let Summary { phase, provisioning, .. } = self.summary;
        VmState::of(*phase, *provisioning, self.live.map(|live| live.state))
    }

    /// Whether its provider has told the state of its machine.
    pub fn is_checked(&self) -> bool {
        self.live.is_some_and(|live| live.state != LiveState::Unknown)
    }
}

impl VmList {
    /// The active VMs: those with a record, then those without.
    pub fn active(&self) -> impl Iterator<Item = ListedVm<'_>> {
        let recorded = self.recorded.iter().map(|summary| (summary, None));
        let unimported = self.unimported.iter().map(|vm| (&vm.summary, Some(vm)));
        let live = |place: usize| self.live.get(place).and_then(Option::as_ref);
        recorded.chain(unimported).enumerate().map(move |(place, (summary, unimported))| ListedVm {
            summary,
            unimported,
            live: live(place),
        })
    }
}

impl Session {
    /// Lists VMs.
    ///
    /// # Errors
    /// As the store's. A provider that can't be asked is no error.
    pub fn list(&self, query: &ListQuery) -> Result<VmList, Error> {
        let mut list = VmList::default();
        if query.scope != ListScope::Archived {
            let Unimported { mut records, failures, .. } = migrate::to_show(self, None);
            list.failures = failures;
            query.select(&mut records, |record| record);
            match query.asked {
                AskedProviders::All => self.list_live(query, records, &mut list)?,
                AskedProviders::Local => self.list_local(query, records, &mut list)?,
                AskedProviders::None => {
                    let Listing { mut entries, broken } = self.local(self.store.list())?;
                    query.select(&mut entries, |vm| vm);
                    (list.recorded, list.broken) = (entries, broken);
                    list.unimported = records.into_iter().map(unimported).collect();
                }
            }
        }
        if query.scope != ListScope::Archived && query.whole_records {
            let records = observe::records(self)?.entries.into_iter();
            list.records = records.map(|record| (record.id.clone(), record)).collect();
        }
        if query.scope != ListScope::Active {
            let Listing { mut entries, broken } = self.local(self.store.archive_list())?;
            query.select(&mut entries, |entry| &entry.record);
            list.archived = entries;
            list.broken.extend(broken);
        }
        Ok(list)
    }

    /// The active VMs with the states of those on this computer.
    fn list_local(&self, query: &ListQuery, unrecorded: Vec<Record>, list: &mut VmList) -> Result<(), Error> {
        // A shared store reads whole records anyway, and each further request to it takes time.
        let whole = if self.is_shared() { Some(observe::records(self)?) } else { None };
        let (known, listing) = match whole {
            Some(Listing { entries, broken }) => {
                let summaries = entries.iter().map(Summary::from).collect();
                let known = entries.into_iter().map(|record| (record.name.clone(), record)).collect();
                (known, Listing { entries: summaries, broken })
            }
            None => (BTreeMap::new(), self.local(self.store.list())?),
        };
        (list.recorded, list.broken) = (listing.entries, listing.broken);
        query.select(&mut list.recorded, |vm| vm);
        list.unimported = unrecorded.into_iter().map(unimported).collect();
        list.live = local::ask(self, &list.recorded, known);
        Ok(())
    }

    /// The active VMs with the states of their machines.
    fn list_live(&self, query: &ListQuery, unrecorded: Vec<Record>, list: &mut VmList) -> Result<(), Error> {
        let Listing { entries: mut records, broken } = observe::records(self)?;
        query.select(&mut records, |record| record);
        let recorded = records.len();
        records.extend(unrecorded);
        let mut seen = observe::ask(self, records);
        let unknown = seen.iter().filter_map(|vm| Some((vm.record.provider, vm.unknown()?.to_owned())));
        list.unknown = unknown.collect();
        list.live = seen.iter().map(|vm| Some(vm.live.clone())).collect();
        list.unimported = seen.split_off(recorded).into_iter().map(|vm| unimported(vm.record)).collect();
        list.recorded = seen.iter().map(|ObservedVm { record, .. }| Summary::from(record)).collect();
        list.broken = broken;
        Ok(())
    }
}

fn unimported(record: Record) -> UnimportedVm {
    UnimportedVm { summary: Summary::from(&record), origin: record.origin }
}
