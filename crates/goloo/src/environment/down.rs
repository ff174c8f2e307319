//! Takes an environment down: which VMs are deleted, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use goloo_model::environment::{Environment, Selection};
use goloo_model::name::VmName;
use goloo_model::record::{Membership, Record};

use super::EnvironmentError;
use super::members::default_jobs;
use crate::error::Error;
use crate::session::Session;

/// Which VMs of an environment are deleted. Nothing has been changed yet.
pub struct PlannedDown {
    /// The VMs to delete, each after those that depend on it.
    pub vms: Vec<Record>,
    /// The places of the VMs that are deleted before each of them.
    pub after: Vec<Vec<usize>>,
    /// VMs that stay, since they are protected.
    pub protected: Vec<VmName>,
    /// VMs that stay, since the user said so.
    pub kept: Vec<VmName>,
    /// How many are deleted at the same time by default.
    pub jobs: usize,
}

impl Session {
    /// Plans what is deleted of an environment, by its records; `file` is what its `goloo.json` says, if there is one,
    /// and gives the order. Without it, VMs are deleted in the reverse order of their creation. Nothing is changed.
    ///
    /// # Errors
    /// When the environment has no such VM; errors of the store.
    pub fn plan_down(
        &self,
        environment: &VmName,
        file: Option<&Environment>,
        selection: &Selection,
        keep: &Selection,
    ) -> Result<PlannedDown, Error> {
        let mut own = self.all_records()?;
        own.retain(|record| {
            record.membership.as_ref().is_some_and(|member| member.environment == *environment)
        });
        if own.is_empty() {
            return Err(EnvironmentError::NoVms { given: environment.to_string() }.into());
        }
        let members = || own.iter().filter_map(|record| record.membership.as_ref());
        selection.expect_in(environment, members()).map_err(EnvironmentError::from)?;
        if !keep.is_all() {
            keep.expect_in(environment, members()).map_err(EnvironmentError::from)?;
        }
        let is_in = |selection: &Selection, record: &Record| {
            record.membership.as_ref().is_some_and(|member| selection.contains(member))
        };
        own.retain(|record| is_in(selection, record));
        let (kept, own): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|record| !keep.is_all() && is_in(keep, record));
        let (protected, own): (Vec<_>, Vec<_>) = own.into_iter().partition(|record| record.protected);
        let (vms, after) = in_order(own, file);
        let names = |records: Vec<Record>| records.into_iter().map(|record| record.name).collect();
        Ok(PlannedDown { vms, after, protected: names(protected), kept: names(kept), jobs: default_jobs() })
    }
}

/// Dependants first.
fn in_order(mut vms: Vec<Record>, file: Option<&Environment>) -> (Vec<Record>, Vec<Vec<usize>>) {
    let depths = file.map(depths).unwrap_or_default();
    let depth = |record: &Record| {
        machine(record).and_then(|machine| depths.get(machine)).copied().unwrap_or_default()
    };
    vms.sort_by(|a, b| {
        depth(b)
            .cmp(&depth(a))
            .then_with(|| b.created_at.cmp(&a.created_at))
            .then_with(|| a.name.cmp(&b.name))
    });
    let dependants = file.map(dependants).unwrap_or_default();
    let after = vms.iter().map(|record| {
        let before = machine(record).and_then(|machine| dependants.get(machine));
        let is_before =
            |other: &Record| machine(other).is_some_and(|name| before.is_some_and(|set| set.contains(name)));
        (0..vms.len()).filter(|place| is_before(&vms[*place])).collect()
    });
    let after = after.collect();
    (vms, after)
}

fn machine(record: &Record) -> Option<&VmName> {
    record.membership.as_ref().map(|member: &Membership| &member.machine)
}

/// How long the longest chain of machines is that each one waits for.
fn depths(environment: &Environment) -> BTreeMap<VmName, usize> {
    let mut depths: BTreeMap<VmName, usize> = BTreeMap::new();
    // No chain is longer than there are machines.
    for _ in 0..environment.machines.len() {
        for machine in &environment.machines {
            let below = machine.after.iter().map(|name| depths.get(name).copied().unwrap_or_default() + 1);
            depths.insert(machine.name.clone(), below.max().unwrap_or_default());
        }
    }
    depths
}

/// The machines that wait for each one.
fn dependants(environment: &Environment) -> BTreeMap<VmName, BTreeSet<VmName>> {
    let mut dependants: BTreeMap<VmName, BTreeSet<VmName>> = BTreeMap::new();
    for machine in &environment.machines {
        for name in &machine.after {
            dependants.entry(name.clone()).or_default().insert(machine.name.clone());
        }
    }
    dependants
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::record::Extra;
    use goloo_model::time::Timestamp;
    use goloo_testkit::samples::{name, ready};

    use super::*;

    fn vm(machine: &str, number: Option<u16>, created: &str) -> Record {
        let membership = Membership {
            environment: name("shop"),
            machine: name(machine),
            number,
            network: None,
            environment_id: None,
            extra: Extra::new(),
        };
        let mut record = ready(&name(&format!("shop-{}", membership.short_name())));
        record.membership = Some(membership);
        record.created_at = Timestamp::parse(created).unwrap();
        record
    }

    #[test]
    fn dependants_are_deleted_first_by_the_file_or_else_the_youngest() {
        let file =
            br#"{"machines": {"db": {"stack": "x"}, "web": {"stack": "x", "count": 2, "after": ["db"]},
            "a": {"stack": "x", "after": ["web"]}}}"#;
        let file = Environment::read("goloo.json", file, "shop", &[]).unwrap();
        let vms = || {
            vec![
                vm("a", None, "2025-01-01T00:00:00Z"),
                vm("db", None, "2025-01-03T00:00:00Z"),
                vm("web", Some(1), "2025-01-02T00:00:00Z"),
                vm("web", Some(2), "2025-01-04T00:00:00Z"),
            ]
        };
        let names = |vms: &[Record]| vms.iter().map(|vm| vm.name.to_string()).collect::<Vec<_>>();
        let (ordered, after) = in_order(vms(), Some(&file));
        assert_eq!(names(&ordered), ["shop-a", "shop-web-2", "shop-web-1", "shop-db"]);
        assert_eq!(after, [vec![], vec![0], vec![0], vec![1, 2]]);
        let (ordered, after) = in_order(vms(), None);
        assert_eq!(names(&ordered), ["shop-web-2", "shop-db", "shop-web-1", "shop-a"]);
        assert!(after.iter().all(Vec::is_empty));
    }
}
