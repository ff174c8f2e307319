//! A new VM's names in Route 53: unused names are created, others' names stay unless the user asks to replace them.

use aws_sdk_route53::types::{Change, ChangeAction, ResourceRecordSet, RrType};
use goloo_model::events::Event;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::VmName;
use goloo_model::provider::{ProviderError, Work};

use crate::details::DnsRecord;
use crate::dns::{self, RESOURCE, Zone, blocks, is_conflict, is_plain, leads_to, set_of};
use crate::error::AwsError;
use crate::record_type::RecordType;

/// What happens to names that someone else has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignNames {
    /// They stay, with a warning.
    Stay,
    /// They stay for now: they belong to the VM that the new one replaces.
    StayForNow,
    /// Plain ones are replaced, exactly as they were read.
    Replace,
}

impl Zone<'_> {
    /// Creates the record sets in one batch, which also replaces others' where they are replaced, and returns those that
    /// now point to the VM.
    pub async fn publish(
        &self,
        vm: &VmName,
        wanted: &[DnsRecord],
        foreign: ForeignNames,
        work: &mut dyn Work,
    ) -> Result<Vec<DnsRecord>, ProviderError> {
        for record in wanted {
            work.record_resource(RESOURCE, &dns::note(self.id, &record.kind, &record.name)).await?;
        }
        work.step("pointing its DNS names to it");
        match self.change(wanted.iter().map(create).collect()).await {
            Err(error) if is_conflict(&error) => self.publish_claims(vm, wanted, foreign, work).await,
            done => Ok(done.map(|()| wanted.to_vec())?),
        }
    }

    async fn publish_claims(
        &self,
        vm: &VmName,
        wanted: &[DnsRecord],
        foreign: ForeignNames,
        work: &mut dyn Work,
    ) -> Result<Vec<DnsRecord>, ProviderError> {
        let force = foreign == ForeignNames::Replace;
        let mut claims = self.claims(vm, wanted, force).await?;
        if !claims.replaced.is_empty() {
            work.step(&format!(
                "replacing the existing DNS records of its names: {}",
                claims.replaced.join(", ")
            ));
        }
        if !claims.changes.is_empty() {
            match self.change(claims.changes).await {
                // If the SDK retries after a lost response, the batch conflicts with its own result.
                Err(error) if is_conflict(&error) => {
                    claims = self.claims(vm, wanted, force).await?;
                    if !claims.changes.is_empty() {
                        return Err(error.into());
                    }
                }
                done => done?,
            }
        }
        for Left { what, hint } in claims.left {
            if foreign == ForeignNames::StayForNow {
                work.events().event(Event::Note(what));
                continue;
            }
            work.events().event(Event::Warning(what));
            if !hint.is_empty() {
                work.events().event(Event::Hint(hint));
            }
        }
        Ok(claims.ours)
    }

    async fn claims(&self, vm: &VmName, wanted: &[DnsRecord], force: bool) -> Result<Claims, AwsError> {
        let mut claims = Claims::default();
        for record in wanted {
            let is_target = |known: &DnsRecord| known.name == record.value;
            // An alias of a name owned by someone else is theirs, too.
            if record.kind == RecordType::Cname.as_str() && !claims.ours.iter().any(is_target) {
                let what =
                    format!("{} isn't created: {} doesn't belong to this VM", record.name, record.value);
                claims.left.push(Left { what, hint: Hint::default() });
            } else {
                claims.add(vm, record, self.all_of(&record.name).await?, force);
            }
        }
        Ok(claims)
    }
}

/// What happens to the names a VM requests.
#[derive(Default)]
struct Claims {
    /// Those that point to the VM after the changes.
    ours: Vec<DnsRecord>,
    changes: Vec<Change>,
    /// Messages for the user on what others lose.
    replaced: Vec<String>,
    /// Why names stay as they are.
    left: Vec<Left>,
}

/// A name that stays as it is.
struct Left {
    /// Why, for people.
    what: String,
    /// What to do about it; may be empty.
    hint: Hint,
}

impl Claims {
    fn add(&mut self, vm: &VmName, record: &DnsRecord, there: Vec<ResourceRecordSet>, force: bool) {
        if there.iter().any(|set| leads_to(set, record)) {
            self.ours.push(record.clone());
            return;
        }
        let relevant = there.into_iter().filter(|set| leads(set) || is_in_the_way(set, record));
        let theirs: Vec<ResourceRecordSet> = relevant.collect();
        if theirs.iter().any(|set| is_in_the_way(set, record)) {
            let shown: Vec<String> = theirs.iter().map(dns::shown).collect();
            let shown = format!("{} ({})", record.name, shown.join(", "));
            let is_replaceable = |set: &ResourceRecordSet| leads(set) && is_plain(set);
            let is_left = format!("{shown} already points elsewhere and is left unchanged");
            if !force {
                self.left.push(Left { what: is_left, hint: how_to_take(vm) });
                return;
            }
            if !theirs.iter().all(is_replaceable) {
                let what = format!("{is_left}: only plain A, AAAA and CNAME records are replaced");
                self.left.push(Left { what, hint: "remove it in Route 53 first".into() });
                return;
            }
            self.changes.extend(theirs.into_iter().map(|set| dns::change(&ChangeAction::Delete, set)));
            self.replaced.push(shown);
        }
        self.changes.push(create(record));
        self.ours.push(record.clone());
    }
}

/// How a VM gets a name that someone else has.
pub(crate) fn how_to_take(vm: &VmName) -> Hint {
    let swap = |force| NextStep::DnsSwap { to: Some(vm.clone()), from: None, force };
    swap(false).text(" moves it from another VM; ").step(swap(true)).text(" also replaces records of others")
}

fn create(record: &DnsRecord) -> Change {
    dns::change(&ChangeAction::Create, set_of(record))
}

/// Whether a record set determines where a name points.
fn leads(set: &ResourceRecordSet) -> bool {
    matches!(set.r#type(), RrType::A | RrType::Aaaa | RrType::Cname)
}

/// Whether the record set prevents the name from having the record: a CNAME can't coexist with other record sets.
pub(crate) fn is_in_the_way(set: &ResourceRecordSet, record: &DnsRecord) -> bool {
    record.kind == RecordType::Cname.as_str() || blocks(set)
}
