//! Records compared with machines.

use std::borrow::Cow;

use goloo::actions::RefreshReport;
use goloo::observe::ObservedVm;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::provider::Orphan;
use goloo_model::provider_id::ProviderId;
use goloo_model::record::ForeignOwner;
use schemars::JsonSchema;
use serde::Serialize;

use super::vm::{BrokenRecord, DeletedVm};
use crate::output::hint;

/// The differences between the records and the machines.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Refreshed<'a> {
    /// VMs that no longer exist at their providers
    missing: Vec<Vm<'a>>,
    /// VMs whose state is unknown
    unknown: Vec<VmWithReason<'a>>,
    /// VMs whose addresses differ from their records
    changed: Vec<MovedVm<'a>>,
    /// Stopped VMs whose DNS names point to addresses that are no longer theirs
    dangling: Vec<VmWithReason<'a>>,
    /// Machines without a record
    strays: Vec<StrayMachine<'a>>,
    broken: Vec<BrokenRecord<'a>>,
    /// Providers that could not list their machines
    unasked: Vec<UnaskedProvider>,
    /// VMs that belong to another host or state folder
    elsewhere: Vec<VmElsewhere<'a>>,
    /// VMs whose TTL expired and whose records were archived
    ended: Vec<DeletedVm<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Vm<'a> {
    name: &'a str,
    provider: ProviderId,
}

#[derive(Debug, Serialize, JsonSchema)]
struct VmWithReason<'a> {
    name: &'a str,
    provider: ProviderId,
    reason: Cow<'a, str>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct MovedVm<'a> {
    name: &'a str,
    provider: ProviderId,
    ip: &'a str,
    recorded_ip: Option<&'a str>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct StrayMachine<'a> {
    name: &'a str,
    /// Its id at its provider
    id: &'a str,
    provider: ProviderId,
    state: &'a str,
    /// Whether goloo created it
    ours: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct UnaskedProvider {
    provider: ProviderId,
    reason: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct VmElsewhere<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

impl<'a> Refreshed<'a> {
    /// `with_others`: also machines that goloo did not create. `unasked` are the reasons of the report's providers.
    pub fn new(
        report: &'a RefreshReport,
        with_others: bool,
        unasked: Vec<(ProviderId, String)>,
        ended: &'a [(VmName, ArchiveId)],
    ) -> Self {
        let observed = || report.observed.iter();
        let strays = report.ours().chain(report.others().filter(|_| with_others));
        Self {
            missing: observed().filter(|vm| vm.is_missing()).map(Vm::from).collect(),
            unknown: observed().filter_map(|vm| Some(with_reason(vm, vm.unknown()?))).collect(),
            changed: observed().filter_map(MovedVm::of).collect(),
            dangling: observed()
                .filter(|vm| vm.dangling_names().is_some())
                .filter_map(|vm| Some(with_reason(vm, hint::reason(&vm.live)?)))
                .collect(),
            strays: strays.map(StrayMachine::from).collect(),
            broken: report.broken.iter().map(BrokenRecord::from).collect(),
            unasked: unasked
                .into_iter()
                .map(|(provider, reason)| UnaskedProvider { provider, reason })
                .collect(),
            elsewhere: report.elsewhere.iter().map(VmElsewhere::from).collect(),
            ended: ended.iter().map(|(name, id)| DeletedVm::new(name, id)).collect(),
        }
    }
}

impl<'a> From<&'a ObservedVm> for Vm<'a> {
    fn from(vm: &'a ObservedVm) -> Self {
        Self { name: vm.record.name.as_str(), provider: vm.record.provider }
    }
}

fn with_reason<'a>(vm: &'a ObservedVm, reason: impl Into<Cow<'a, str>>) -> VmWithReason<'a> {
    let Vm { name, provider } = vm.into();
    VmWithReason { name, provider, reason: reason.into() }
}

impl<'a> MovedVm<'a> {
    fn of(vm: &'a ObservedVm) -> Option<Self> {
        let ip = vm.moved_to()?;
        let Vm { name, provider } = vm.into();
        Some(Self { name, provider, ip, recorded_ip: vm.record.ip() })
    }
}

impl<'a> From<(ProviderId, &'a Orphan)> for StrayMachine<'a> {
    fn from((provider, stray): (ProviderId, &'a Orphan)) -> Self {
        let Orphan { name, id, state, ours, .. } = stray;
        Self { name, id, provider, state: state.as_str(), ours: *ours }
    }
}

impl<'a> From<&'a (VmName, ForeignOwner)> for VmElsewhere<'a> {
    fn from((name, place): &'a (VmName, ForeignOwner)) -> Self {
        let (host, user) = match place {
            ForeignOwner::Host { host } => (Some(host.as_str()), None),
            ForeignOwner::StateFolder { user, host } => (Some(host.as_str()), Some(user.as_str())),
            ForeignOwner::OtherVm | ForeignOwner::Unproven => (None, None),
        };
        Self { name: name.as_str(), host, user }
    }
}
