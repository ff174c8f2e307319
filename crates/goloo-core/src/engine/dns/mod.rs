//! DNS names that move from one VM to another.
//!
//! Both VMs are locked throughout, and the records of both say what is to happen before it does. The change
//! itself is whole or nothing, so whatever dies in between, the live names tell how far it came.

mod pair;

use super::{Engine, EngineError, refuse_unfinished};
use crate::dns::{DnsChange, NameNow, Previous, RecordSet, Stand, VmRef};
use crate::name::VmName;
use crate::provider::{DnsNames, LiveState, NamedVm, Observation, ProviderError};
use crate::record::{Operation, OperationKind, Record};
use crate::store::StoreError;

use pair::Pair;

/// A VM's names as they are.
#[derive(Debug)]
pub struct DnsReport {
    /// Each with what it has and whose that is.
    pub names: Vec<NameNow>,
    /// Who had them before.
    pub previous: Option<Previous>,
    /// What the VM does now.
    pub live: Observation,
}

impl<'a> Engine<'a> {
    /// A VM's names, each with what DNS says. Changes nothing.
    pub async fn dns_names(&self, name: &VmName) -> Result<DnsReport, EngineError> {
        let dns = self.dns()?;
        let loaded = self.store.load(name).await?;
        let record = loaded.ok_or_else(|| StoreError::NotFound { name: name.clone() })?.record;
        let others = self.others(name).await?;
        let names = dns.names(&record, &others).await.map_err(EngineError::Unrecorded)?;
        let live = self.provider.observe(&[&record]).await.pop().expect("a provider observes each machine");
        Ok(DnsReport { names, previous: dns.previous(&record), live })
    }

    /// Lets all names that a VM asks for lead to it. They come from `from`, else from the VM that has them by
    /// its record.
    pub async fn dns_swap(
        &self,
        name: &VmName,
        from: Option<&VmName>,
        force: bool,
    ) -> Result<DnsChange, EngineError> {
        let dns = self.dns()?;
        let from = match from {
            Some(from) if from == name => return Err(from_itself(name)),
            Some(from) => Some(from.clone()),
            None => self.holder(dns, name).await?,
        };
        let pair = self.take_pair(dns, Some(name), from.as_ref()).await?;
        let taker = pair.expect_taker(name)?;
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

    /// Gives the names that a VM got by a swap back to who had them before.
    pub async fn dns_rollback(&self, name: &VmName, force: bool) -> Result<DnsChange, EngineError> {
        let dns = self.dns()?;
        let loaded = self.store.load(name).await?;
        let seen = loaded.ok_or_else(|| StoreError::NotFound { name: name.clone() })?.record;
        let vm = dns.previous(&seen).and_then(|previous| previous.vm);
        let pair = self.take_pair(dns, vm.as_ref().map(|vm| &vm.name), Some(name)).await?;
        let giver = pair.expect_giver(name)?;
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

    /// Goes on with a move of names that was interrupted, from what the names are now. Where nothing of it
    /// has happened it begins anew: addresses may have changed since.
    pub(super) async fn move_names_again(
        &self,
        name: &VmName,
        operation: &Operation,
    ) -> Result<DnsChange, EngineError> {
        let dns = self.dns()?;
        let change = operation.dns.as_ref().ok_or_else(|| EngineError::Refused {
            what: format!("the record of \"{name}\" doesn't say which names were to move"),
            hint: format!("goloo dns show {name} shows where they lead; goloo delete {name} removes the VM"),
        })?;
        let name_of = |vm: &Option<VmRef>| vm.as_ref().map(|vm| vm.name.clone());
        let (taker, giver) = (name_of(&change.taker), name_of(&change.giver));
        let mut pair = self.take_pair(dns, taker.as_ref(), giver.as_ref()).await?;
        pair.keep_those_under(&operation.id);
        let live = dns.live(change).await.map_err(|source| failed_midway(name, operation.kind, source))?;
        pair.settle(change, &live).await?;
        drop(pair);
        match (change.stand(&live), operation.kind, taker, giver) {
            (Stand::After, ..) => Ok(change.clone()),
            (Stand::Before, OperationKind::DnsSwap, Some(taker), giver) => {
                self.dns_swap(&taker, giver.as_ref(), change.force).await
            }
            (Stand::Before, OperationKind::DnsRollback, _, Some(giver)) => {
                self.dns_rollback(&giver, change.force).await
            }
            _ => Err(changed_by_others(name, &live)),
        }
    }

    /// Durable intent in both records, the change, durable result in both.
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
            // The answer may have been lost and not the change.
            Err(_) => {
                let live = pair.dns.live(&change).await;
                live.map_err(|source| failed_midway(name, kind, source))?
            }
        };
        pair.settle(&change, &live).await?;
        match (change.stand(&live), done) {
            (Stand::Before, Err(source)) => Err(failed(name, kind, source)),
            (Stand::Neither, Err(_)) => Err(changed_by_others(name, &live)),
            _ => Ok(change),
        }
    }

    fn dns(&self) -> Result<&'a dyn DnsNames, EngineError> {
        let kind = self.provider.kind();
        self.provider.dns().ok_or_else(|| {
            EngineError::Unrecorded(ProviderError::Unsupported {
                what: format!("{kind} keeps no DNS names for its machines"),
                hint: "names in DNS are for VMs in AWS: goloo create NAME --aws".to_owned(),
            })
        })
    }

    /// The records of this provider's other VMs. Broken ones are left out: `list` shows them.
    async fn others(&self, name: &VmName) -> Result<Vec<Record>, EngineError> {
        let mut others = Vec::new();
        for summary in self.store.list().await?.entries {
            if summary.provider == self.provider.kind() && summary.name != *name {
                others.extend(self.load_unless_broken(&summary.name).await?.map(|loaded| loaded.record));
            }
        }
        Ok(others)
    }

    /// The one VM that has names which this one asks for.
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
                    what: format!("several VMs have names that \"{name}\" asks for: {}", all.join(", ")),
                    hint: format!("say whose are to move: goloo dns swap {name} --from {}", all[0]),
                })
            }
        }
    }

    /// Where both are reached now. The one that is to get the names must run; `force` is for where that can't
    /// be told: the address of a stopped machine may be someone else's by now.
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

    /// Why a VM's names can't go back.
    async fn no_previous(&self, dns: &dyn DnsNames, record: &Record) -> Result<EngineError, EngineError> {
        let name = &record.name;
        let others = self.others(name).await?;
        let is_it = |vm: &VmRef| vm.id == record.id;
        let got = others
            .iter()
            .find(|other| dns.previous(other).and_then(|previous| previous.vm).as_ref().is_some_and(is_it));
        Ok(EngineError::Refused {
            what: format!("\"{name}\" got its names from nobody"),
            hint: match got {
                Some(other) => format!("\"{0}\" got names from it: goloo dns rollback {0}", other.name),
                None => format!("goloo dns show {name} shows where they lead"),
            },
        })
    }
}

/// Where the VMs of a change are reached now.
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
        LiveState::Stopped => ("is stopped".to_owned(), format!("goloo start {name}")),
        LiveState::Missing => ("is gone".to_owned(), format!("goloo status {name}")),
        LiveState::Unknown => {
            let reason = seen.reason.as_deref().unwrap_or("the provider doesn't say why");
            (format!("can't be asked whether it runs: {reason}"), format!("goloo status {name}, or --force"))
        }
    };
    let what = format!("\"{name}\", which is to get the names, {why}");
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
        what: format!("\"{name}\" can't get its names from itself"),
        hint: format!("goloo dns show {name} shows whose they are"),
    }
}

fn elsewhere(record: &Record) -> EngineError {
    EngineError::Refused {
        what: format!("\"{}\" is a VM of {} and has no names to give", record.name, record.provider),
        hint: "goloo list --aws shows the others".to_owned(),
    }
}

fn gone(name: &VmName, vm: &VmRef) -> EngineError {
    EngineError::Refused {
        what: format!("\"{}\", which had the names of \"{name}\" before, is gone", vm.name),
        hint: format!("goloo dns swap OTHER --from {name} gives them to another VM that asks for them"),
    }
}

fn changed_by_others(name: &VmName, live: &[RecordSet]) -> EngineError {
    let live: Vec<String> = live.iter().map(|set| format!("{} {}", set.name, set.shown())).collect();
    let now = if live.is_empty() { "they are gone".to_owned() } else { live.join(", ") };
    EngineError::Refused {
        what: format!("someone else changed the names of \"{name}\" meanwhile: {now}"),
        hint: format!("goloo dns show {name}, then run the command again if it is still wanted"),
    }
}
