//! Moves DNS names from one VM to another.
//!
//! Both VMs are locked throughout, and the intent is saved in both records first. The change itself
//! is atomic, so after a crash at any point the live names tell whether it was applied.

mod pair;

use crate::engine::{Engine, refuse_unfinished};
use crate::error::EngineError;
use goloo_model::dns::{ChangeState, DnsChange, NameStatus, Previous, RecordSet, VmRef};
use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::VmName;
use goloo_model::provider::{DnsNames, LiveState, NamedVm, Observation, ProviderError};
use goloo_model::record::{Operation, OperationKind, Record};
use goloo_model::store::StoreError;

use pair::Pair;

/// The current state of a VM's names.
#[derive(Debug)]
pub struct DnsReport {
    /// The names, each with its record sets and their owners.
    pub names: Vec<NameStatus>,
    /// Their previous owners.
    pub previous: Option<Previous>,
    /// The VM's observed state.
    pub live: Observation,
}

impl<'a> Engine<'a> {
    /// A VM's names with their state in DNS. Changes nothing.
    pub async fn dns_names(&self, name: &VmName) -> Result<DnsReport, EngineError> {
        let dns = self.dns()?;
        let loaded = self.store.load(name).await?;
        let record = loaded.ok_or_else(|| StoreError::NotFound { name: name.clone() })?.record;
        let others = self.others(name).await?;
        let names = dns.names(&record, &others).await.map_err(EngineError::Unrecorded)?;
        let live = self.provider.observe(&[&record]).await.pop().expect("a provider observes each machine");
        Ok(DnsReport { names, previous: dns.previous(&record), live })
    }

    /// Points all names that a VM asks for to it. They are taken from `from`, else from the VM that has them according
    /// to its record. `agreed` is the record that the user confirmed, if they were asked.
    pub async fn dns_swap(
        &self,
        name: &VmName,
        from: Option<&VmName>,
        force: bool,
        agreed: Option<&Record>,
    ) -> Result<DnsChange, EngineError> {
        let dns = self.dns()?;
        let from = match from {
            Some(from) if from == name => return Err(from_itself(name)),
            Some(from) => Some(from.clone()),
            None => self.holder(dns, name).await?,
        };
        let pair = self.take_pair(dns, Some(name), from.as_ref()).await?;
        let taker = pair.expect_taker(name)?;
        self.expect_agreed(taker, agreed)?;
        let giver = from.as_ref().map(|from| pair.expect_giver(from)).transpose()?;
        if let Some(giver) = giver.filter(|giver| giver.provider != taker.provider) {
            return Err(elsewhere(giver));
        }
        let kind = OperationKind::DnsSwap;
        let live = self.addresses(kind, taker, giver, force).await?;
        let change = dns
            .swap(named(taker, &live.taker), giver.map(|giver| named(giver, &live.giver)), force)
            .await
            .map_err(|source| failed(name, kind, source))?;
        self.move_names(pair, name, kind, change).await
    }

    /// Returns the names that a VM got by a swap to their previous owners. `agreed` is the record that the user
    /// confirmed, if they were asked.
    pub async fn dns_rollback(
        &self,
        name: &VmName,
        force: bool,
        agreed: Option<&Record>,
    ) -> Result<DnsChange, EngineError> {
        let dns = self.dns()?;
        let loaded = self.store.load(name).await?;
        let seen = loaded.ok_or_else(|| StoreError::NotFound { name: name.clone() })?.record;
        let vm = dns.previous(&seen).and_then(|previous| previous.vm);
        let pair = self.take_pair(dns, vm.as_ref().map(|vm| &vm.name), Some(name)).await?;
        let giver = pair.expect_giver(name)?;
        self.expect_agreed(giver, agreed)?;
        let Some(previous) = dns.previous(giver) else { return Err(self.no_previous(dns, giver).await?) };
        if previous.vm != vm {
            let (expected, found) = (seen.serial, giver.serial);
            return Err(StoreError::Stale { name: name.clone(), expected, found }.into());
        }
        let taker = vm.as_ref().map(|vm| pair.same_taker(vm).ok_or_else(|| gone(name, vm))).transpose()?;
        let kind = OperationKind::DnsRollback;
        let live = match taker {
            Some(taker) => self.addresses(kind, taker, Some(giver), force).await?,
            None => Addresses::default(),
        };
        let change = dns
            .rollback(
                named(giver, &live.giver),
                taker.map(|taker| named(taker, &live.taker)),
                &previous,
                force,
            )
            .await
            .map_err(|source| failed(name, kind, source))?;
        self.move_names(pair, name, kind, change).await
    }

    /// Continues an interrupted move of names, based on their current state. If nothing has been
    /// applied, it is planned again: addresses may have changed since.
    pub(super) async fn move_names_again(
        &self,
        name: &VmName,
        operation: &Operation,
    ) -> Result<DnsChange, EngineError> {
        let dns = self.dns()?;
        let change = operation.dns.as_ref().ok_or_else(|| EngineError::Refused {
            what: format!("the record of \"{name}\" doesn't list the DNS names to move"),
            hint: NextStep::DnsShow(name.clone())
                .text(" shows the current DNS records; ")
                .step(NextStep::Delete(name.clone()))
                .text(" removes the VM"),
        })?;
        let name_of = |vm: &Option<VmRef>| vm.as_ref().map(|vm| vm.name.clone());
        let (taker, giver) = (name_of(&change.taker), name_of(&change.giver));
        let mut pair = self.take_pair(dns, taker.as_ref(), giver.as_ref()).await?;
        pair.keep_those_under(&operation.id);
        let live = dns.live(change).await.map_err(|source| failed_midway(name, operation.kind, source))?;
        pair.settle(change, &live).await?;
        drop(pair);
        match (change.stand(&live), operation.kind, taker, giver) {
            (ChangeState::After, ..) => Ok(change.clone()),
            (ChangeState::Before, OperationKind::DnsSwap, Some(taker), giver) => {
                self.dns_swap(&taker, giver.as_ref(), change.force, None).await
            }
            (ChangeState::Before, OperationKind::DnsRollback, _, Some(giver)) => {
                self.dns_rollback(&giver, change.force, None).await
            }
            _ => Err(changed_by_others(name, &live)),
        }
    }

    /// Saves the intent in both records, applies the change, and saves the result in both.
    async fn move_names(
        &self,
        mut pair: Pair<'_, 'a>,
        name: &VmName,
        kind: OperationKind,
        change: DnsChange,
    ) -> Result<DnsChange, EngineError> {
        if self.interrupt.is_raised() {
            return Err(failed_midway(name, kind, ProviderError::Interrupted));
        }
        pair.save_intents(kind, &change).await?;
        let done = pair.dns.carry_out(&change).await;
        let live = match &done {
            Ok(()) => change.after(),
            // The change may have been applied and only the response lost.
            Err(_) => {
                let live = pair.dns.live(&change).await;
                live.map_err(|source| failed_midway(name, kind, source))?
            }
        };
        pair.settle(&change, &live).await?;
        match (change.stand(&live), done) {
            (ChangeState::Before, Err(source)) => Err(failed(name, kind, source)),
            (ChangeState::Neither, Err(_)) => Err(changed_by_others(name, &live)),
            _ => Ok(change),
        }
    }

    fn dns(&self) -> Result<&'a dyn DnsNames, EngineError> {
        let kind = self.provider.id();
        self.provider.dns().ok_or_else(|| {
            EngineError::Unrecorded(ProviderError::Unsupported {
                what: format!("{kind} doesn't support DNS names"),
                hint: Hint::from("create the VM in AWS to use DNS names: ")
                    .step(NextStep::CreateInAws { stack: None, name: None }),
            })
        })
    }

    /// The records of this provider's other VMs. Broken ones are skipped: `list` reports them.
    async fn others(&self, name: &VmName) -> Result<Vec<Record>, EngineError> {
        let mut others = Vec::new();
        for summary in self.store.list().await?.entries {
            if summary.provider == self.provider.id() && summary.name != *name {
                others.extend(self.load_unless_broken(&summary.name).await?.map(|loaded| loaded.record));
            }
        }
        Ok(others)
    }

    /// The only VM that has names which this one asks for.
    async fn holder(&self, dns: &dyn DnsNames, name: &VmName) -> Result<Option<VmName>, EngineError> {
        let loaded = self.store.load(name).await?;
        let record = loaded.ok_or_else(|| StoreError::NotFound { name: name.clone() })?.record;
        let others = self.others(name).await?;
        let mut holders: Vec<&VmName> =
            others.iter().filter(|other| dns.shares(&record, other)).map(|other| &other.name).collect();
        match holders.len() {
            0 | 1 => Ok(holders.pop().cloned()),
            _ => {
                let all: Vec<&str> = holders.iter().map(|holder| holder.as_str()).collect();
                Err(EngineError::Refused {
                    what: format!(
                        "several VMs have DNS names that \"{name}\" is configured to use: {}",
                        all.join(", ")
                    ),
                    hint: Hint::from("choose the VM to take them from: ").step(NextStep::DnsSwap {
                        to: Some(name.clone()),
                        from: holders.first().map(|holder| (*holder).clone()),
                        force: false,
                    }),
                })
            }
        }
    }

    /// The current addresses of both. The target must be running; `force` is for the case that this can't
    /// be determined: the address of a stopped machine may have been reassigned.
    async fn addresses(
        &self,
        kind: OperationKind,
        taker: &Record,
        giver: Option<&Record>,
        force: bool,
    ) -> Result<Addresses, EngineError> {
        refuse_unfinished(taker)?;
        giver.map_or(Ok(()), refuse_unfinished)?;
        let records: Vec<&Record> = std::iter::once(taker).chain(giver).collect();
        let mut seen = self.provider.observe(&records).await.into_iter();
        let of_taker = seen.next().expect("a provider observes each machine");
        if !(force && of_taker.state == LiveState::Unknown) {
            expect_running(kind, taker, &of_taker)?;
        }
        Ok(Addresses { taker: of_taker.ip, giver: seen.next().and_then(|seen| seen.ip) })
    }

    /// Why a VM's names can't be returned.
    async fn no_previous(&self, dns: &dyn DnsNames, record: &Record) -> Result<EngineError, EngineError> {
        let name = &record.name;
        let others = self.others(name).await?;
        let is_it = |vm: &VmRef| vm.id == record.id;
        let got = others
            .iter()
            .find(|other| dns.previous(other).and_then(|previous| previous.vm).as_ref().is_some_and(is_it));
        Ok(EngineError::Refused {
            what: format!("\"{name}\" didn't get its DNS names from another VM"),
            hint: match got {
                Some(other) => {
                    let name = &other.name;
                    Hint::from(format!("to return the names that \"{name}\" got from it, run "))
                        .step(NextStep::DnsRollback(name.clone()))
                }
                None => NextStep::DnsShow(name.clone()).text(" shows the current DNS records"),
            },
        })
    }
}

/// The current addresses of the VMs of a change.
#[derive(Default)]
struct Addresses {
    taker: Option<String>,
    giver: Option<String>,
}

fn named<'r>(record: &'r Record, live: &'r Option<String>) -> NamedVm<'r> {
    NamedVm { record, live: live.as_deref() }
}

fn expect_running(kind: OperationKind, record: &Record, seen: &Observation) -> Result<(), EngineError> {
    let name = &record.name;
    let (why, hint) = match seen.state {
        LiveState::Running => return Ok(()),
        LiveState::Stopped | LiveState::Suspended => {
            (format!("is {}", seen.state), NextStep::Start(name.clone()).into())
        }
        LiveState::Missing => ("no longer exists".to_owned(), NextStep::Status(name.clone()).into()),
        LiveState::Unknown => {
            let reason = seen.reason.as_deref().unwrap_or("the provider gave no reason");
            (format!("might not be running: {reason}"), NextStep::Status(name.clone()).text(", or --force"))
        }
    };
    let what = format!("\"{name}\", which would get the names, {why}");
    Err(failed(name, kind, ProviderError::failed(what, hint)))
}

fn failed(name: &VmName, kind: OperationKind, source: ProviderError) -> EngineError {
    EngineError::Provider { name: name.clone(), kind, source }
}

fn failed_midway(name: &VmName, kind: OperationKind, source: ProviderError) -> EngineError {
    EngineError::Midway { name: name.clone(), kind, source }
}

fn from_itself(name: &VmName) -> EngineError {
    EngineError::Refused {
        what: format!("\"{name}\" can't take DNS names from itself"),
        hint: NextStep::DnsShow(name.clone()).text(" shows the owners"),
    }
}

fn elsewhere(record: &Record) -> EngineError {
    EngineError::Refused {
        what: format!("\"{}\" is a VM of {} and has no DNS names", record.name, record.provider),
        hint: NextStep::ListInAws.text(" lists the VMs that can have DNS names"),
    }
}

fn gone(name: &VmName, vm: &VmRef) -> EngineError {
    EngineError::Refused {
        what: format!("\"{}\", which had the DNS names of \"{name}\" before, no longer exists", vm.name),
        hint: NextStep::DnsSwap { to: None, from: Some(name.clone()), force: false }
            .text(" moves them to another VM that is configured to use them"),
    }
}

fn changed_by_others(name: &VmName, live: &[RecordSet]) -> EngineError {
    let live: Vec<String> = live.iter().map(|set| format!("{} {}", set.name, set.shown())).collect();
    let now = if live.is_empty() { "they no longer exist".to_owned() } else { live.join(", ") };
    EngineError::Refused {
        what: format!("someone else changed the DNS names of \"{name}\" in the meantime: {now}"),
        hint: Hint::from("run ")
            .step(NextStep::DnsShow(name.clone()))
            .text(", then run the command again if you still want the change"),
    }
}
