#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use goloo_model::name::VmName;
use goloo_model::provider::{
    Adopted, Capabilities, ConsolePiece, Endpoints, LiveState, Machine, Orphan, ProviderContext,
    ProviderError, ProviderFactory, ProviderPlan, ResourceUsage, StopMode, Work,
};
use goloo_model::provider_info::ProviderInfo;
use goloo_model::record::{DetailsError, Extra, to_json};
use goloo_model::store::Store;
use goloo_testkit::memory_store::MemoryStore;
use goloo_testkit::providers as known;
use goloo_testkit::samples::{self, name, owner, ready};

use super::*;
use crate::providers::Providers;

const FAST: ProviderInfo = ProviderInfo { id: ProviderId::known("fast"), ..known::QEMU };
const SILENT: ProviderInfo = ProviderInfo { id: ProviderId::known("silent"), ..known::QEMU };
const UNUSABLE: ProviderInfo = ProviderInfo { id: ProviderId::known("unusable"), ..known::QEMU };

/// A provider that is only observed. Its machines use half a CPU.
struct Observed(&'static ProviderInfo, AtomicU32);

#[async_trait]
impl ProviderFactory for Observed {
    fn info(&self) -> &'static ProviderInfo {
        self.0
    }

    fn check_details(&self, _: &Extra) -> Result<(), DetailsError> {
        Ok(())
    }

    async fn open(&self, _: &ProviderContext) -> Result<Box<dyn Provider>, ProviderError> {
        match self.0.id == UNUSABLE.id {
            true => Err(ProviderError::failed("it isn't installed", "install it")),
            false => Ok(Box::new(Self(self.0, AtomicU32::new(0)))),
        }
    }
}

#[async_trait]
impl Provider for Observed {
    fn info(&self) -> &'static ProviderInfo {
        self.0
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { console: false, suspend: false }
    }

    async fn observe(&self, records: &[&Record]) -> Vec<Observation> {
        if self.0.id == SILENT.id {
            std::future::pending::<()>().await;
        }
        vec![Observation::of(LiveState::Running); records.len()]
    }

    fn usage(&self) -> Option<&dyn ResourceUsage> {
        Some(self)
    }

    fn plan(&self, _: &Machine) -> Result<ProviderPlan, ProviderError> {
        unreachable!()
    }

    async fn create(&self, _: &Machine, _: &mut dyn Work) -> Result<Endpoints, ProviderError> {
        unreachable!()
    }

    async fn delete(&self, _: &Record, _: &mut dyn Work) -> Result<(), ProviderError> {
        unreachable!()
    }

    async fn start(&self, _: &Record, _: &mut dyn Work) -> Result<Endpoints, ProviderError> {
        unreachable!()
    }

    async fn stop(&self, _: &Record, _: StopMode, _: &mut dyn Work) -> Result<(), ProviderError> {
        unreachable!()
    }

    async fn console(&self, _: &Record, _: u64) -> Result<ConsolePiece, ProviderError> {
        unreachable!()
    }

    async fn orphans(&self, _: &[&Record]) -> Result<Vec<Orphan>, ProviderError> {
        unreachable!()
    }

    async fn adopt(&self, _: &VmName, _: Option<&str>) -> Result<Adopted, ProviderError> {
        unreachable!()
    }
}

#[async_trait]
impl ResourceUsage for Observed {
    async fn machines(&self, records: &[&Record]) -> Vec<MachineUsage> {
        let count = self.1.fetch_add(1, Ordering::Relaxed);
        // The clock of the samples is the test's own.
        let begun = *BEGUN.get_or_init(std::time::Instant::now);
        let at = begun + Duration::from_secs(2) * count;
        let cpu = CpuSample { used: Duration::from_secs(1) * count, process: (1, 1), at };
        vec![MachineUsage { cpu: Some(cpu), ..MachineUsage::default() }; records.len()]
    }
}

static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();

const OFTEN: WatchOptions = WatchOptions {
    local: Duration::from_millis(5),
    remote: Duration::from_millis(5),
    limit: Duration::from_millis(300),
};
const NEVER_AGAIN: WatchOptions = WatchOptions {
    local: Duration::from_secs(3600),
    remote: Duration::from_secs(3600),
    limit: Duration::from_secs(60),
};

/// A VM whose machine belongs to no host.
fn vm(text: &str, provider: &ProviderInfo) -> Record {
    Record { provider: provider.id, host_bound: false, ..ready(&name(text)) }
}

fn put(store: &MemoryStore, record: &Record) {
    store.plant(&record.name, &to_json(record));
}

fn watch(
    store: &MemoryStore,
    options: WatchOptions,
    refresh: &RefreshRequest,
    report: impl FnMut(WatchUpdate) -> ControlFlow<()>,
) {
    let folder = tempfile::tempdir().unwrap();
    let one = |info| Observed(info, AtomicU32::new(0));
    let providers = Providers::default().with(one(&FAST)).with(one(&SILENT)).with(one(&UNUSABLE));
    let session = Session::for_test(folder.path(), providers, Box::new(store.clone()));
    session.watch(options, refresh, report).unwrap();
}

#[test]
fn a_provider_that_does_not_answer_is_reported_and_delays_nothing_else() {
    let store = MemoryStore::default();
    let (fast, silent) = (vm("fast", &FAST), vm("silent", &SILENT));
    [&fast, &silent].iter().for_each(|record| put(&store, record));
    let (mut listed, mut answers) = (0, 0);
    watch(&store, OFTEN, &RefreshRequest::default(), |update| {
        match update {
            WatchUpdate::Listed { vms, .. } => {
                assert_eq!(vms.len(), 2);
                listed += 1;
            }
            WatchUpdate::Observed { provider, machines } => {
                assert_eq!((provider, &machines[0].vm), (FAST.id, &fast.id));
                answers += 1;
            }
            WatchUpdate::Unanswered { provider, vms, limit } => {
                assert_eq!((provider, &vms[..], limit), (SILENT.id, &[silent.id.clone()][..], OFTEN.limit));
                return ControlFlow::Break(());
            }
            WatchUpdate::NotListed(error) => panic!("{error}"),
        }
        ControlFlow::Continue(())
    });
    assert!(listed >= 3 && answers >= 3, "the others were asked {listed} and {answers} times meanwhile");
}

#[test]
fn cpu_usage_is_the_average_between_two_answers() {
    let store = MemoryStore::default();
    put(&store, &vm("fast", &FAST));
    let mut seen = Vec::new();
    watch(&store, OFTEN, &RefreshRequest::default(), |update| {
        if let WatchUpdate::Observed { machines, .. } = update {
            seen.push(machines[0].cpus);
        }
        if seen.len() < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert_eq!(seen, [None, Some(0.5), Some(0.5)]);
}

#[test]
fn a_provider_that_cannot_be_opened_is_the_reason_for_an_unknown_state() {
    let store = MemoryStore::default();
    put(&store, &vm("unusable", &UNUSABLE));
    watch(&store, NEVER_AGAIN, &RefreshRequest::default(), |update| match update {
        WatchUpdate::Observed { machines, .. } => {
            assert_eq!(machines[0].live.unknown_reason(), Some("it isn't installed"));
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
}

#[test]
fn a_refresh_request_finds_a_new_vm_before_the_interval_is_over() {
    let store = MemoryStore::default();
    put(&store, &vm("first", &FAST));
    let refresh = RefreshRequest::default();
    let mut answers = Vec::new();
    watch(&store, NEVER_AGAIN, &refresh, |update| {
        if let WatchUpdate::Observed { machines, .. } = update {
            answers.push(machines.len());
            if answers.len() == 1 {
                put(&store, &vm("second", &FAST));
                refresh.send();
            }
        }
        if answers.last() == Some(&2) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(answers.len() <= 3, "{answers:?}");
}

#[test]
fn an_operation_is_interrupted_when_nobody_holds_the_lock() {
    let store = MemoryStore::default();
    let (held, left) = (name("held"), name("left"));
    for vm in [&held, &left] {
        put(&store, &Record { host_bound: false, provider: FAST.id, ..samples::creating(vm) });
    }
    store.plant(&name("broken"), b"{");
    let _lock = pollster::block_on(store.lock(&held, &owner(7))).unwrap();
    watch(&store, NEVER_AGAIN, &RefreshRequest::default(), |update| {
        let WatchUpdate::Listed { vms, broken } = update else { return ControlFlow::Continue(()) };
        let states: Vec<_> = vms.iter().map(|vm| vm.operation.clone().unwrap().state).collect();
        assert_eq!(states, [OperationState::InProgress(Some(owner(7))), OperationState::Interrupted]);
        assert_eq!(broken, 1);
        ControlFlow::Break(())
    });
}
