//! DNS names.

use goloo_engine::DnsReport;
use goloo_model::dns::{DnsChange, Holder, NameStatus, Previous, RecordSet, VmRef};
use goloo_model::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::output::hint;

/// The DNS names of a VM.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DnsNames<'a> {
    names: Vec<Name<'a>>,
    /// Who had the names before
    previous: Option<PreviousOwner<'a>>,
    live: LiveState<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Name<'a> {
    name: &'a str,
    /// The record sets of the name
    live: Vec<LiveSet<'a>>,
    /// Whether goloo removed it while the VM is stopped
    withdrawn: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LiveSet<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    ttl: u32,
    values: &'a [String],
    whose: Whose,
    /// The name of the other VM
    vm: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Whose {
    /// This VM's
    This,
    /// Another VM's
    Vm,
    /// Not owned by a goloo VM
    Foreign,
}

#[derive(Debug, Serialize, JsonSchema)]
struct PreviousOwner<'a> {
    /// The VM; null if the owner is unknown
    vm: Option<&'a str>,
    at: Timestamp,
    records: &'a [RecordSet],
    foreign: &'a [RecordSet],
}

#[derive(Debug, Serialize, JsonSchema)]
struct LiveState<'a> {
    state: &'a str,
    reason: Option<String>,
}

impl<'a> From<&'a DnsReport> for DnsNames<'a> {
    fn from(report: &'a DnsReport) -> Self {
        Self {
            names: report.names.iter().map(Name::from).collect(),
            previous: report.previous.as_ref().map(PreviousOwner::from),
            live: LiveState { state: report.live.state.as_str(), reason: hint::reason(&report.live) },
        }
    }
}

impl<'a> From<&'a NameStatus> for Name<'a> {
    fn from(name: &'a NameStatus) -> Self {
        let live = name.live.iter().map(|(set, holder)| {
            let (whose, vm) = match holder {
                Holder::This => (Whose::This, None),
                Holder::Vm(name) => (Whose::Vm, Some(name.as_str())),
                Holder::Foreign => (Whose::Foreign, None),
            };
            LiveSet { kind: &set.kind, ttl: set.ttl, values: &set.values, whose, vm }
        });
        Self { name: &name.name, live: live.collect(), withdrawn: name.withdrawn }
    }
}

impl<'a> From<&'a Previous> for PreviousOwner<'a> {
    fn from(previous: &'a Previous) -> Self {
        let Previous { vm, at, records, foreign } = previous;
        Self { vm: vm.as_ref().map(|vm| vm.name.as_str()), at: *at, records, foreign }
    }
}

/// DNS names were moved.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DnsChanged<'a> {
    /// The VM that has the names now
    to: Option<&'a str>,
    /// The VM that had them
    from: Option<&'a str>,
    /// The current records
    records: Vec<RecordSet>,
}

impl<'a> From<&'a DnsChange> for DnsChanged<'a> {
    fn from(change: &'a DnsChange) -> Self {
        let name_of = |vm: &'a Option<VmRef>| vm.as_ref().map(|vm| vm.name.as_str());
        Self { to: name_of(&change.taker), from: name_of(&change.giver), records: change.after() }
    }
}
