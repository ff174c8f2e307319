//! A new VM's names in Route 53: what nobody has is made; what others have stays, unless a person asks for it.

use aws_sdk_route53::types::{Change, ChangeAction, ResourceRecordSet, RrType};
use goloo_core::events::Event;
use goloo_core::provider::{ProviderError, Work};

use crate::details::DnsRecord;
use crate::dns::{self, Kind, RESOURCE, Zone, blocks, is_conflict, is_plain, leads_to, set_of};
use crate::error::AwsError;

impl Zone<'_> {
    /// Makes the records in one batch and gives those that lead to the VM now. Records of others stay, with
    /// a warning; with `force` plain ones are replaced in the same batch, exactly as they were read.
    pub async fn publish(
        &self,
        wanted: &[DnsRecord],
        force: bool,
        work: &mut dyn Work,
    ) -> Result<Vec<DnsRecord>, ProviderError> {
        for record in wanted {
            work.made(RESOURCE, &dns::note(self.id, &record.kind, &record.name)).await?;
        }
        work.step("making its names lead to it");
        match self.change(wanted.iter().map(create).collect()).await {
            Err(error) if is_conflict(&error) => self.publish_claims(wanted, force, work).await,
            done => Ok(done.map(|()| wanted.to_vec())?),
        }
    }

    async fn publish_claims(
        &self,
        wanted: &[DnsRecord],
        force: bool,
        work: &mut dyn Work,
    ) -> Result<Vec<DnsRecord>, ProviderError> {
        let mut claims = self.claims(wanted, force).await?;
        if !claims.replaced.is_empty() {
            work.step(&format!("replacing what its names lead to: {}", claims.replaced.join(", ")));
        }
        if !claims.changes.is_empty() {
            match self.change(claims.changes).await {
                // Sent again after its answer was lost, a batch meets what it did itself.
                Err(error) if is_conflict(&error) => {
                    claims = self.claims(wanted, force).await?;
                    if !claims.changes.is_empty() {
                        return Err(error.into());
                    }
                }
                done => done?,
            }
        }
        for text in claims.left {
            work.events().event(Event::Warning(text));
        }
        Ok(claims.ours)
    }

    async fn claims(&self, wanted: &[DnsRecord], force: bool) -> Result<Claims, AwsError> {
        let mut claims = Claims::default();
        for record in wanted {
            let is_target = |known: &DnsRecord| known.name == record.value;
            // An alias of a name that is someone else's is theirs, too.
            if record.kind == Kind::Cname.as_str() && !claims.ours.iter().any(is_target) {
                claims.left.push(format!("{} isn't made: {} isn't this VM's", record.name, record.value));
            } else {
                claims.add(record, self.all_of(&record.name).await?, force);
            }
        }
        Ok(claims)
    }
}

/// What becomes of the names that a VM asks for.
#[derive(Default)]
struct Claims {
    /// Those that lead to the VM once the changes are made.
    ours: Vec<DnsRecord>,
    changes: Vec<Change>,
    /// What others have and lose by that, for people.
    replaced: Vec<String>,
    /// Why names stay as they are, for people.
    left: Vec<String>,
}

impl Claims {
    fn add(&mut self, record: &DnsRecord, there: Vec<ResourceRecordSet>, force: bool) {
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
            if let Some(why) = why_left(force, theirs.iter().all(is_replaceable)) {
                self.left.push(format!("{shown} leads elsewhere already and is left alone; {why}"));
                return;
            }
            self.changes.extend(theirs.into_iter().map(|set| dns::change(&ChangeAction::Delete, set)));
            self.replaced.push(shown);
        }
        self.changes.push(create(record));
        self.ours.push(record.clone());
    }
}

fn why_left(force: bool, is_replaceable: bool) -> Option<&'static str> {
    match (force, is_replaceable) {
        (true, true) => None,
        (true, false) => {
            Some("only plain A, AAAA and CNAME records are replaced: remove it in Route 53 first")
        }
        (false, _) => Some(
            "goloo dns swap moves it from another VM; from anyone else, goloo dns swap --force and create --force",
        ),
    }
}

fn create(record: &DnsRecord) -> Change {
    dns::change(&ChangeAction::Create, set_of(record))
}

/// Whether a set says where a name leads.
fn leads(set: &ResourceRecordSet) -> bool {
    matches!(set.r#type(), RrType::A | RrType::Aaaa | RrType::Cname)
}

/// Whether a name can't have the record beside the set: an alias shares its name with nothing.
fn is_in_the_way(set: &ResourceRecordSet, record: &DnsRecord) -> bool {
    record.kind == Kind::Cname.as_str() || blocks(set)
}
