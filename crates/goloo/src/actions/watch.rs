//! Watches all VMs: what the store has about them, and what their providers report, again and again.
//!
//! The store and each provider are asked independently of each other, and each provider with a time limit: one that
//! doesn't answer delays nothing else.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use goloo_model::name::{OperationId, VmId, VmName};
use goloo_model::provider::{Observation, Provider};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{ForeignOwner, LocalContext, OperationKind, Owner, Record};
use goloo_model::store::{Listing, StoreError};
use goloo_model::usage::{CpuSample, MachineUsage};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::Error;
use crate::session::Session;

/// How often the store and the providers are asked.
#[derive(Debug, Clone, Copy)]
pub struct WatchOptions {
    /// The interval for what is on this computer.
    pub local: Duration,
    /// The interval for services and for stores that others write to: each request may cost something.
    pub remote: Duration,
    /// How long a provider may take to answer.
    pub limit: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            local: Duration::from_secs(2),
            remote: Duration::from_secs(10),
            limit: Duration::from_secs(10),
        }
    }
}

/// Asks a watch to ask the store and all providers now. Clones are handles for the same watch.
#[derive(Debug, Clone, Default)]
pub struct RefreshRequest(Arc<Notify>);

impl RefreshRequest {
    /// Makes the request. Requests before the watch has begun count, too.
    pub fn send(&self) {
        self.0.notify_one();
    }
}

/// News from a watch.
#[derive(Debug)]
pub enum WatchUpdate {
    /// All active VMs, by name.
    Listed {
        /// The VMs.
        vms: Vec<WatchedVm>,
        /// How many records can't be read.
        broken: usize,
    },
    /// The store can't be read now.
    NotListed(Error),
    /// A provider's answer about all its VMs that belong here.
    Observed {
        /// The provider.
        provider: ProviderId,
        /// Its machines.
        machines: Vec<WatchedMachine>,
    },
    /// A provider hasn't answered within the time limit. It will be asked again.
    Unanswered {
        /// The provider.
        provider: ProviderId,
        /// The VMs that it was asked about.
        vms: Vec<VmId>,
        /// The time limit.
        limit: Duration,
    },
}

/// A VM as the store has it.
#[derive(Debug, Clone)]
pub struct WatchedVm {
    /// The record.
    pub record: Arc<Record>,
    /// Where it belongs, if not here: its provider isn't asked about it then.
    pub elsewhere: Option<ForeignOwner>,
    /// The operation in its record.
    pub operation: Option<WatchedOperation>,
}

/// A recorded operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedOperation {
    /// What it does.
    pub kind: OperationKind,
    /// Whether a process is working on it.
    pub state: OperationState,
}

impl WatchedOperation {
    /// Whether a process is working on it.
    pub fn is_in_progress(&self) -> bool {
        matches!(self.state, OperationState::InProgress(_))
    }
}

/// Whether a process is working on an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationState {
    /// Yes; the process, if known.
    InProgress(Option<Owner>),
    /// No: it can be resumed.
    Interrupted,
}

/// A machine as its provider sees it.
#[derive(Debug, Clone)]
pub struct WatchedMachine {
    /// The VM.
    pub vm: VmId,
    /// Its state.
    pub live: Observation,
    /// What it uses of this computer.
    pub usage: MachineUsage,
    /// How many CPUs it has used on average since its provider's previous answer.
    pub cpus: Option<f64>,
}

impl Session {
    /// Watches all VMs until `report` returns [`ControlFlow::Break`]. Nothing is written. VMs of goloo v0 that aren't
    /// imported are left out.
    ///
    /// # Errors
    /// When there is no runtime. Errors of the store and of providers are reported, and the watch continues.
    pub fn watch(
        &self,
        options: WatchOptions,
        refresh: &RefreshRequest,
        report: impl FnMut(WatchUpdate) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.wait_for(Watch::new(self, options).run(refresh, report))
    }
}

/// What a request has found.
enum Answer {
    Listed(Result<(Vec<WatchedVm>, usize), StoreError>),
    Observed(ProviderId, Option<Arc<dyn Provider>>, Vec<WatchedMachine>),
    Unanswered(ProviderId, Vec<VmId>),
}

type Request<'s> = Pin<Box<dyn Future<Output = Answer> + 's>>;

/// When something is asked again; `None` while it is being asked.
type Due = Option<Instant>;

/// A provider that at least one VM names.
struct Watched {
    due: Due,
    interval: Duration,
    /// Opened once. Its settings come from the environment, which doesn't change.
    provider: Option<Arc<dyn Provider>>,
    records: Vec<Arc<Record>>,
    /// The latest sample of each machine.
    samples: BTreeMap<VmId, CpuSample>,
}

struct Watch<'s> {
    session: &'s Session,
    options: WatchOptions,
    list_due: Due,
    providers: BTreeMap<ProviderId, Watched>,
    requests: FuturesUnordered<Request<'s>>,
}

impl<'s> Watch<'s> {
    fn new(session: &'s Session, options: WatchOptions) -> Self {
        let requests = FuturesUnordered::new();
        Self { session, options, list_due: Some(Instant::now()), providers: BTreeMap::new(), requests }
    }

    async fn run(mut self, refresh: &RefreshRequest, mut report: impl FnMut(WatchUpdate) -> ControlFlow<()>) {
        loop {
            self.ask_what_is_due();
            let next = self.next_due();
            let answer = tokio::select! {
                Some(answer) = self.requests.next() => answer,
                () = refresh.0.notified() => {
                    self.make_all_due();
                    continue;
                }
                () = sleep_until(next) => continue,
            };
            if report(self.receive(answer)).is_break() {
                return;
            }
        }
    }

    fn ask_what_is_due(&mut self) {
        let now = Instant::now();
        let is_due = |due: &mut Due| due.take_if(|due| *due <= now).is_some();
        if is_due(&mut self.list_due) {
            let session = self.session;
            self.requests.push(Box::pin(async move { Answer::Listed(list(session).await) }));
        }
        for (id, watched) in &mut self.providers {
            if is_due(&mut watched.due) {
                let request = ask(
                    self.session,
                    *id,
                    watched.provider.clone(),
                    watched.records.clone(),
                    self.options.limit,
                );
                self.requests.push(Box::pin(request));
            }
        }
    }

    fn next_due(&self) -> Due {
        self.list_due.into_iter().chain(self.providers.values().filter_map(|watched| watched.due)).min()
    }

    /// What is being asked already isn't asked twice.
    fn make_all_due(&mut self) {
        let now = Instant::now();
        let dues = self.providers.values_mut().map(|watched| &mut watched.due);
        std::iter::once(&mut self.list_due).chain(dues).flatten().for_each(|due| *due = now);
    }

    fn receive(&mut self, answer: Answer) -> WatchUpdate {
        let now = Instant::now();
        match answer {
            Answer::Listed(listed) => {
                let interval =
                    if self.session.is_shared() { self.options.remote } else { self.options.local };
                self.list_due = Some(now + interval);
                match listed {
                    Ok((vms, broken)) => {
                        self.distribute(&vms);
                        WatchUpdate::Listed { vms, broken }
                    }
                    Err(error) => WatchUpdate::NotListed(error.into()),
                }
            }
            Answer::Observed(id, provider, mut machines) => {
                if let Some(watched) = self.providers.get_mut(&id) {
                    // VMs that were listed meanwhile are asked about at once.
                    let asked: BTreeSet<&VmId> = machines.iter().map(|machine| &machine.vm).collect();
                    let is_whole = watched.records.iter().all(|record| asked.contains(&record.id));
                    watched.due = Some(if is_whole { now + watched.interval } else { now });
                    watched.provider = provider;
                    watched.compare(&mut machines);
                }
                WatchUpdate::Observed { provider: id, machines }
            }
            Answer::Unanswered(id, vms) => {
                if let Some(watched) = self.providers.get_mut(&id) {
                    watched.due = Some(now + watched.interval);
                }
                WatchUpdate::Unanswered { provider: id, vms, limit: self.options.limit }
            }
        }
    }

    /// Gives each provider its VMs. One that gets its first or a new VM is asked at once.
    fn distribute(&mut self, vms: &[WatchedVm]) {
        let mut records: BTreeMap<ProviderId, Vec<Arc<Record>>> = BTreeMap::new();
        for vm in vms.iter().filter(|vm| vm.elsewhere.is_none()) {
            records.entry(vm.record.provider).or_default().push(Arc::clone(&vm.record));
        }
        // A provider that is being asked stays, so that it isn't asked twice at the same time.
        self.providers.retain(|id, watched| records.contains_key(id) || watched.due.is_none());
        let now = Instant::now();
        for (id, records) in records {
            let interval = self.interval_of(id);
            let watched = self.providers.entry(id).or_insert_with(|| Watched {
                due: Some(now),
                interval,
                provider: None,
                records: Vec::new(),
                samples: BTreeMap::new(),
            });
            let known: BTreeSet<&VmId> = watched.records.iter().map(|record| &record.id).collect();
            let is_new = !records.iter().all(|record| known.contains(&record.id));
            watched.due = watched.due.map(|due| if is_new { now } else { due });
            watched.records = records;
        }
    }

    fn interval_of(&self, id: ProviderId) -> Duration {
        let is_here = self.session.providers.info(id).is_none_or(|info| info.is_host_bound());
        if is_here { self.options.local } else { self.options.remote }
    }
}

impl Watched {
    /// Computes CPU usage since the previous answer.
    fn compare(&mut self, machines: &mut [WatchedMachine]) {
        let samples = std::mem::take(&mut self.samples);
        for machine in machines {
            let Some(sample) = machine.usage.cpu else { continue };
            machine.cpus = samples.get(&machine.vm).and_then(|earlier| sample.cpus_since(earlier));
            self.samples.insert(machine.vm.clone(), sample);
        }
    }
}

async fn sleep_until(due: Due) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        // Everything is being asked.
        None => std::future::pending().await,
    }
}

async fn list(session: &Session) -> Result<(Vec<WatchedVm>, usize), StoreError> {
    let Listing { entries, broken } = session.store.records().await?;
    let here = session.here();
    let records: Vec<Record> = entries.into_iter().map(|loaded| loaded.record).collect();
    let mut operations: BTreeMap<VmName, WatchedOperation> =
        operations(session, &records).await?.into_iter().collect();
    let vms = records.into_iter().map(|record| {
        let operation = operations.remove(&record.name);
        watched(record, operation, &here)
    });
    Ok((vms.collect(), broken.len()))
}

/// The recorded operations, and whether processes are working on them.
pub(super) async fn operations(
    session: &Session,
    records: &[Record],
) -> Result<Vec<(VmName, WatchedOperation)>, StoreError> {
    let mut operations = Vec::new();
    // Asked only if there are any: in a bucket that is one more request.
    if records.iter().all(|record| record.operation.is_none()) {
        return Ok(operations);
    }
    let locks = session.store.locks().await?;
    for record in records {
        let Some(operation) = &record.operation else { continue };
        let state = match locks.iter().find(|lock| lock.name == record.name) {
            Some(lock) => OperationState::InProgress(lock.owner.clone()),
            None if is_still_recorded(session, record, &operation.id).await? => OperationState::Interrupted,
            None => continue,
        };
        operations.push((record.name.clone(), WatchedOperation { kind: operation.kind, state }));
    }
    Ok(operations)
}

/// An operation that ended between the two readings, of the records and of the locks, wasn't interrupted.
async fn is_still_recorded(
    session: &Session,
    record: &Record,
    operation: &OperationId,
) -> Result<bool, StoreError> {
    let now = session.store.load(&record.name).await?.and_then(|loaded| loaded.record.operation);
    Ok(now.is_some_and(|now| now.id == *operation))
}

fn watched(record: Record, operation: Option<WatchedOperation>, here: &LocalContext) -> WatchedVm {
    WatchedVm { elsewhere: record.elsewhere(here), operation, record: Arc::new(record) }
}

async fn ask(
    session: &Session,
    id: ProviderId,
    provider: Option<Arc<dyn Provider>>,
    records: Vec<Arc<Record>>,
    limit: Duration,
) -> Answer {
    let references: Vec<&Record> = records.iter().map(|record| &**record).collect();
    let asked = async {
        match open(session, id, provider).await {
            Ok(provider) => {
                let machines = observe(&*provider, &references).await;
                Answer::Observed(id, Some(provider), machines)
            }
            Err(error) => {
                let unknown = |record: &&Record| WatchedMachine {
                    vm: record.id.clone(),
                    live: Observation::unknown(error.in_one_line()),
                    usage: MachineUsage::default(),
                    cpus: None,
                };
                Answer::Observed(id, None, references.iter().map(unknown).collect())
            }
        }
    };
    let answer = tokio::time::timeout(limit, asked).await;
    answer
        .unwrap_or_else(|_| Answer::Unanswered(id, records.iter().map(|record| record.id.clone()).collect()))
}

async fn open(
    session: &Session,
    id: ProviderId,
    opened: Option<Arc<dyn Provider>>,
) -> Result<Arc<dyn Provider>, Error> {
    match opened {
        Some(provider) => Ok(provider),
        None => Ok(session.open_provider(id).await?.into()),
    }
}

async fn observe(provider: &dyn Provider, records: &[&Record]) -> Vec<WatchedMachine> {
    let live = provider.observe(records).await;
    let usage = match provider.usage() {
        Some(usage) => usage.machines(records).await,
        None => Vec::new(),
    };
    let mut usage = usage.into_iter();
    let machines = records.iter().zip(live).map(|(record, live)| WatchedMachine {
        vm: record.id.clone(),
        live,
        usage: usage.next().unwrap_or_default(),
        cpus: None,
    });
    machines.collect()
}
