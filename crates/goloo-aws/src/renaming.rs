//! The names of an existing VM in Route 53 after its stack's `dns` changed: its own are replaced in one batch, others'
//! stay.

use aws_sdk_route53::types::{Change, ChangeAction, ResourceRecordSet};
use goloo_model::events::Event;
use goloo_model::name::VmName;
use goloo_model::provider::{ProviderError, Work};

use crate::details::DnsRecord;
use crate::dns::{self, RESOURCE, Zone, is_conflict, is_no_zone, leads_to, normal, set_of};
use crate::error::AwsError;
use crate::publish::{how_to_take, is_in_the_way};
use crate::record_type::RecordType;

/// What a VM's names are and what they are to be.
#[derive(Debug, Clone, Copy)]
pub struct Renaming<'a> {
    /// The VM.
    pub vm: &'a VmName,
    /// Its record sets.
    pub had: &'a [DnsRecord],
    /// Those that it is to have.
    pub wanted: &'a [DnsRecord],
}

/// The batch, and what comes of it.
#[derive(Default)]
struct Plan {
    changes: Vec<Change>,
    ours: Vec<DnsRecord>,
    /// Names that stay as they are, each with what it points to.
    left: Vec<String>,
}

impl Zone<'_> {
    /// Carries out a renaming and returns the record sets that the VM then has. Record sets that have come to point
    /// elsewhere are left unchanged, and so are others' with a wanted name.
    pub async fn rename(
        &self,
        names: Renaming<'_>,
        work: &mut dyn Work,
    ) -> Result<Vec<DnsRecord>, ProviderError> {
        for record in names.wanted {
            work.record_resource(RESOURCE, &dns::note(self.id, &record.kind, &record.name)).await?;
        }
        let mut plan = self.plan_renaming(names).await?;
        if !plan.changes.is_empty() {
            work.step("changing its DNS names");
            match self.change(std::mem::take(&mut plan.changes)).await {
                // If the SDK retries after a lost response, the batch conflicts with its own result.
                Err(error) if is_conflict(&error) => {
                    plan = self.plan_renaming(names).await?;
                    if !plan.changes.is_empty() {
                        self.change(std::mem::take(&mut plan.changes)).await?;
                    }
                }
                done => done?,
            }
        }
        for left in plan.left {
            work.events().event(Event::Warning(left));
            work.events().event(Event::Hint(how_to_take(names.vm)));
        }
        Ok(plan.ours)
    }

    async fn plan_renaming(&self, names: Renaming<'_>) -> Result<Plan, AwsError> {
        let mut plan = Plan::default();
        let is_wanted = |old: &DnsRecord| names.wanted.iter().any(|new| new.name == old.name);
        // Withdrawn names don't exist, and their former address may be someone else's.
        for old in names.had.iter().filter(|old| !old.withdrawn && !is_wanted(old)) {
            let there = match self.all_of(&normal(&old.name)).await {
                Err(error) if is_no_zone(&error) => continue,
                there => there?,
            };
            plan.remove(there.iter().filter(|set| leads_to(set, old)));
        }
        for new in names.wanted {
            let there = self.all_of(&new.name).await?;
            let had: Vec<_> = names.had.iter().filter(|old| old.name == new.name).collect();
            let is_ours = |set: &ResourceRecordSet| {
                leads_to(set, new) || had.iter().any(|old| !old.withdrawn && leads_to(set, old))
            };
            let (ours, others): (Vec<_>, Vec<_>) = there.iter().partition(|set| is_ours(set));
            plan.add(new, &ours, &others);
        }
        Ok(plan)
    }
}

impl Plan {
    fn remove<'s>(&mut self, sets: impl IntoIterator<Item = &'s ResourceRecordSet>) {
        let removals = sets.into_iter().map(|set| dns::change(&ChangeAction::Delete, set.clone()));
        self.changes.extend(removals);
    }

    /// `ours` are the VM's record sets of the name, `others` all others.
    fn add(&mut self, new: &DnsRecord, ours: &[&ResourceRecordSet], others: &[&ResourceRecordSet]) {
        let is_target = |known: &DnsRecord| known.name == new.value;
        let in_the_way: Vec<_> = others.iter().filter(|set| is_in_the_way(set, new)).collect();
        if !in_the_way.is_empty() {
            let shown: Vec<String> = in_the_way.iter().map(|set| dns::shown(set)).collect();
            let shown = shown.join(", ");
            self.left.push(format!("{} ({shown}) already points elsewhere and is left unchanged", new.name));
            return;
        }
        if new.kind == RecordType::Cname.as_str() && !self.ours.iter().any(is_target) {
            self.remove(ours.iter().copied());
            self.left.push(format!("{} isn't created: {} doesn't belong to this VM", new.name, new.value));
            return;
        }
        self.ours.push(new.clone());
        let is_new = |set: &&&ResourceRecordSet| leads_to(set, new) && set.ttl() == Some(i64::from(new.ttl));
        if ours.iter().any(|set| is_new(&set)) {
            return;
        }
        self.remove(ours.iter().copied());
        self.changes.push(dns::change(&ChangeAction::Create, set_of(new)));
    }
}
