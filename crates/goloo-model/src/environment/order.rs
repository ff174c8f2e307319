//! The order in which the machines of an environment are worked on.

use std::collections::{BTreeMap, BTreeSet};

use super::definition::Environment;
use crate::name::VmName;
use crate::record::Membership;

/// A VM of an environment, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedMember {
    /// Which one.
    pub member: Membership,
    /// The places of those that come before it, in the same list.
    pub after: Vec<usize>,
}

/// Which machines are meant: all by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection(BTreeSet<String>);

/// A machine that an environment doesn't have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment \"{environment}\" has no machine \"{given}\"")]
pub struct UnknownMachine {
    /// The environment.
    pub environment: VmName,
    /// What was given.
    pub given: String,
    /// What it has.
    pub known: Vec<String>,
}

impl Selection {
    /// These machines, each by its name in the file or, of several equal ones, by its short name.
    pub fn of(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    /// Whether a VM is meant.
    pub fn contains(&self, member: &Membership) -> bool {
        self.0.is_empty() || self.0.contains(member.machine.as_str()) || self.0.contains(&member.short_name())
    }

    /// Whether all are meant.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses names that none of these VMs has.
    ///
    /// # Errors
    /// [`UnknownMachine`].
    pub fn expect_in<'m>(
        &self,
        environment: &VmName,
        members: impl Iterator<Item = &'m Membership>,
    ) -> Result<(), UnknownMachine> {
        let names = members.flat_map(|member| [member.machine.to_string(), member.short_name()]);
        let known: BTreeSet<String> = names.collect();
        match self.0.iter().find(|name| !known.contains(*name)) {
            Some(given) => Err(UnknownMachine {
                environment: environment.clone(),
                given: given.clone(),
                known: known.into_iter().collect(),
            }),
            None => Ok(()),
        }
    }
}

/// The selected VMs and all that they wait for, each after those; of several that could come next, the first by name.
///
/// # Errors
/// [`UnknownMachine`].
pub fn ordered(
    environment: &Environment,
    selection: &Selection,
) -> Result<Vec<OrderedMember>, UnknownMachine> {
    let all: Vec<(&[VmName], Membership)> =
        environment.members().map(|(machine, member)| (&*machine.after, member)).collect();
    selection.expect_in(&environment.name, all.iter().map(|(_, member)| member))?;
    let needed = needed(environment, selection, &all);
    let is_meant = |member: &Membership| selection.contains(member) || needed.contains(&member.machine);
    let mut left: Vec<_> = all.into_iter().filter(|(_, member)| is_meant(member)).collect();
    let mut ordered: Vec<OrderedMember> = Vec::new();
    while !left.is_empty() {
        let waiting: BTreeSet<VmName> = left.iter().map(|(_, member)| member.machine.clone()).collect();
        let (ready, later): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(after, _)| !after.iter().any(|name| waiting.contains(name)));
        assert!(!ready.is_empty(), "a checked environment has no cycles");
        let places = places(&ordered);
        ordered.extend(ready.into_iter().map(|(after, member)| {
            let after = after.iter().flat_map(|name| places.get(name).cloned().unwrap_or_default());
            OrderedMember { member, after: after.collect() }
        }));
        left = later;
    }
    Ok(ordered)
}

fn places(ordered: &[OrderedMember]) -> BTreeMap<VmName, Vec<usize>> {
    let mut places: BTreeMap<VmName, Vec<usize>> = BTreeMap::new();
    for (place, ordered) in ordered.iter().enumerate() {
        places.entry(ordered.member.machine.clone()).or_default().push(place);
    }
    places
}

/// The machines that the selected ones wait for, directly or not.
fn needed(
    environment: &Environment,
    selection: &Selection,
    all: &[(&[VmName], Membership)],
) -> BTreeSet<VmName> {
    let selected = all.iter().filter(|(_, member)| selection.contains(member));
    let mut queue: Vec<VmName> = selected.flat_map(|(after, _)| after.iter().cloned()).collect();
    let mut needed = BTreeSet::new();
    while let Some(name) = queue.pop() {
        if needed.insert(name.clone()) {
            let machine = environment.machines.iter().find(|machine| machine.name == name);
            queue.extend(machine.into_iter().flat_map(|machine| machine.after.iter().cloned()));
        }
    }
    needed
}

/// Those of an environment's VMs that its file no longer has. They are named, and never deleted because of that.
pub fn removed<'m>(
    environment: &Environment,
    existing: impl Iterator<Item = &'m Membership>,
) -> Vec<&'m Membership> {
    let wanted: BTreeSet<(VmName, Option<u16>)> =
        environment.members().map(|(_, member)| (member.machine, member.number)).collect();
    existing.filter(|member| !wanted.contains(&(member.machine.clone(), member.number))).collect()
}
