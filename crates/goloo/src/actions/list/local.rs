//! Asks the providers of this computer about the VMs of a list, within a limit that nobody notices.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use goloo_model::name::VmName;
use goloo_model::provider::Observation;
use goloo_model::provider_info::ProviderInfo;
use goloo_model::record::{Phase, Record};
use goloo_model::store::Summary;

use crate::identity;
use crate::observe;
use crate::session::Session;

/// For reading the records, and for all providers together.
const LIMIT: Duration = Duration::from_millis(100);

/// The states of the VMs, in their order, as far as they are known in time. `known` are records that were already read.
pub(super) fn ask(
    session: &Session,
    vms: &[Summary],
    mut known: BTreeMap<VmName, Record>,
) -> Vec<Option<Observation>> {
    let end = Instant::now() + LIMIT;
    let host_id = identity::host_id();
    let (mut places, mut records) = (Vec::new(), Vec::new());
    for (place, vm) in vms.iter().enumerate().filter(|(_, vm)| is_askable(session, vm, &host_id)) {
        if Instant::now() >= end {
            break;
        }
        if let Some(record) = known.remove(&vm.name).or_else(|| record_of(session, vm)) {
            places.push(place);
            records.push(record);
        }
    }
    if records.is_empty() {
        return Vec::new();
    }
    let mut live = vec![None; vms.len()];
    for (place, observation) in places.into_iter().zip(observe::ask_soon(session, &records, end)) {
        live[place] = observation;
    }
    live
}

/// Whether the VM's machine may be on this computer, and its record doesn't tell its state.
fn is_askable(session: &Session, vm: &Summary, host_id: &str) -> bool {
    matches!(vm.phase, Phase::Ready | Phase::Degraded)
        && &*vm.created_by.host_id == host_id
        && session.providers.info(vm.provider).is_some_and(ProviderInfo::is_host_bound)
}

/// What can't be read, or was replaced since it was listed, isn't asked about.
fn record_of(session: &Session, vm: &Summary) -> Option<Record> {
    let loaded = session.local(session.store.load(&vm.name)).ok()??;
    Some(loaded.record).filter(|record| record.id == vm.id)
}
