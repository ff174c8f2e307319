//! A provider whose machines are lines in a ledger, and a guest that is always provisioned: what an
//! engine needs to be tested without a machine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use goloo_core::guest::{Guest, GuestError, OnLine, Output, RunLimits, SshTarget};
use goloo_core::host_names::{HostNames, HostNamesError};
use goloo_core::name::{VmId, VmName};
use goloo_core::provider::{
    Adopted, Capabilities, Clones, ConsolePiece, DiskSnapshot, LiveState, Machine, Made, Observation,
    Provider, ProviderError, ProviderPlan, Snapshots, StopMode, Stray, Work,
};
use goloo_core::record::{Local, ProviderKind, Record};

/// What a test looks at before a machine is made or removed.
pub type Witness = Box<dyn Fn(&VmName) + Send + Sync>;

/// A machine of the fake provider's.
#[derive(Debug, Default)]
struct FakeMachine {
    running: bool,
    snapshots: Vec<String>,
}

/// A provider without machines, on a computer whose hosts file is a map.
#[derive(Default)]
pub struct FakeProvider {
    ledger: Mutex<BTreeMap<VmId, FakeMachine>>,
    host_names: Mutex<BTreeMap<VmName, IpAddr>>,
    hosts_denied: AtomicBool,
    creates_fail: AtomicBool,
    witness: Option<Witness>,
    last_stop: Mutex<Option<StopMode>>,
    console: Mutex<Vec<u8>>,
    restores: AtomicUsize,
}

impl FakeProvider {
    /// Calls `witness` before each change of the ledger.
    pub fn with_witness(witness: Witness) -> Self {
        Self { witness: Some(witness), ..Self::default() }
    }

    /// The witness sees no more.
    pub fn forget_witness(&mut self) {
        self.witness = None;
    }

    /// How many machines there are.
    pub fn machines(&self) -> usize {
        self.ledger().len()
    }

    /// How a machine was stopped last.
    pub fn last_stop(&self) -> Option<StopMode> {
        *self.last_stop.lock().expect("no holder panics")
    }

    /// What the computer calls its VMs.
    pub fn host_names(&self) -> BTreeMap<VmName, IpAddr> {
        self.host_names.lock().expect("no holder panics").clone()
    }

    /// Whether the hosts file refuses changes from now on.
    pub fn deny_hosts(&self, denied: bool) {
        self.hosts_denied.store(denied, Ordering::Relaxed);
    }

    /// What its machines' consoles show from now on.
    pub fn set_console(&self, text: &[u8]) {
        *self.console.lock().expect("no holder panics") = text.to_vec();
    }

    /// How often its own way in was used to restore goloo's.
    pub fn restores(&self) -> usize {
        self.restores.load(Ordering::Relaxed)
    }

    /// The machine powers itself off.
    pub fn power_off(&self, record: &Record) {
        self.set_running(record, false);
    }

    /// Every create fails from now on.
    pub fn fail_creates(&self) {
        self.creates_fail.store(true, Ordering::Relaxed);
    }

    fn change_hosts(&self, name: &VmName, ip: Option<IpAddr>) -> Result<(), HostNamesError> {
        if self.hosts_denied.load(Ordering::Relaxed) {
            return Err(HostNamesError::Denied { place: "/etc/hosts".into(), reason: "no".into() });
        }
        self.witness(name);
        let mut names = self.host_names.lock().expect("no holder panics");
        match ip {
            Some(ip) => names.insert(name.clone(), ip),
            None => names.remove(name),
        };
        Ok(())
    }

    fn ledger(&self) -> MutexGuard<'_, BTreeMap<VmId, FakeMachine>> {
        self.ledger.lock().expect("no holder panics")
    }

    fn witness(&self, name: &VmName) {
        if let Some(witness) = &self.witness {
            witness(name);
        }
    }

    fn set_running(&self, record: &Record, running: bool) {
        if let Some(machine) = self.ledger().get_mut(&record.id) {
            machine.running = running;
        }
    }

    /// Does something to the snapshots of a machine that is at rest.
    fn at_rest(&self, record: &Record, act: impl FnOnce(&mut Vec<String>)) -> Result<(), ProviderError> {
        match self.ledger().get_mut(&record.id) {
            Some(machine) if machine.running => Err(ProviderError::Unsupported {
                what: format!("\"{}\" runs", record.name),
                hint: format!("goloo stop {}", record.name),
            }),
            Some(machine) => {
                act(&mut machine.snapshots);
                Ok(())
            }
            None => Err(ProviderError::failed("the machine is gone", "make another one")),
        }
    }

    fn made() -> Made {
        Made::Local(Local::loopback(40_022))
    }
}

impl HostNames for FakeProvider {
    fn set(&self, name: &VmName, ip: IpAddr) -> Result<(), HostNamesError> {
        self.change_hosts(name, Some(ip))
    }

    fn remove(&self, name: &VmName) -> Result<(), HostNamesError> {
        self.change_hosts(name, None)
    }
}

#[async_trait]
impl Provider for FakeProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Qemu
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { console: true, suspend: false }
    }

    fn plan(&self, _: &Machine) -> Result<ProviderPlan, ProviderError> {
        Ok(ProviderPlan { steps: Vec::new(), warnings: Vec::new(), detail: serde_json::Value::Null })
    }

    async fn create(&self, machine: &Machine, work: &mut dyn Work) -> Result<Made, ProviderError> {
        work.made("fake-machine", machine.id.as_str()).await?;
        if self.creates_fail.load(Ordering::Relaxed) {
            return Err(ProviderError::failed("it fails", "nothing helps"));
        }
        self.witness(&machine.name);
        self.ledger().insert(machine.id.clone(), FakeMachine { running: true, ..FakeMachine::default() });
        Ok(Self::made())
    }

    async fn delete(&self, record: &Record, _: &mut dyn Work) -> Result<(), ProviderError> {
        self.witness(&record.name);
        self.ledger().remove(&record.id);
        Ok(())
    }

    async fn start(&self, record: &Record, _: &mut dyn Work) -> Result<Made, ProviderError> {
        self.set_running(record, true);
        Ok(Self::made())
    }

    async fn stop(&self, record: &Record, mode: StopMode, _: &mut dyn Work) -> Result<(), ProviderError> {
        *self.last_stop.lock().expect("no holder panics") = Some(mode);
        self.set_running(record, false);
        Ok(())
    }

    async fn observe(&self, records: &[&Record]) -> Vec<Observation> {
        let ledger = self.ledger();
        let state = |record: &&Record| match ledger.get(&record.id) {
            Some(machine) if machine.running => LiveState::Running,
            Some(_) => LiveState::Stopped,
            None => LiveState::Missing,
        };
        records.iter().map(|record| Observation { state: state(record), ip: None, reason: None }).collect()
    }

    async fn console(&self, _: &Record, offset: u64) -> Result<ConsolePiece, ProviderError> {
        Ok(ConsolePiece::of(&self.console.lock().expect("no holder panics"), offset))
    }

    async fn restore_access(&self, _: &Record) -> Result<bool, ProviderError> {
        self.restores.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    async fn strays(&self, known: &[&Record]) -> Result<Vec<Stray>, ProviderError> {
        let ledger = self.ledger();
        let strays = ledger.keys().filter(|id| !known.iter().any(|record| record.id == **id));
        let stray = |id: &VmId| Stray {
            name: id.to_string(),
            id: id.to_string(),
            state: LiveState::Running,
            ours: true,
        };
        Ok(strays.map(stray).collect())
    }

    async fn adopt(&self, name: &VmName, id: Option<&str>) -> Result<Adopted, ProviderError> {
        let ledger = self.ledger();
        let found = ledger.keys().find(|known| Some(known.as_str()) == id);
        let found = found.ok_or_else(|| {
            ProviderError::failed(format!("there is no machine \"{name}\""), "give another --id")
        })?;
        let resources = vec![("fake-machine".to_owned(), found.to_string())];
        Ok(Adopted { id: Some(found.clone()), resources, made: Some(Self::made()) })
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn clones(&self) -> Option<&dyn Clones> {
        Some(self)
    }
}

#[async_trait]
impl Snapshots for FakeProvider {
    async fn list(&self, record: &Record) -> Result<Vec<DiskSnapshot>, ProviderError> {
        let ledger = self.ledger();
        let labels = ledger.get(&record.id).into_iter().flat_map(|machine| &machine.snapshots);
        Ok(labels.map(|label| DiskSnapshot { label: label.clone(), created_at: None }).collect())
    }

    async fn take(&self, record: &Record, label: &str) -> Result<(), ProviderError> {
        self.at_rest(record, |snapshots| snapshots.push(label.to_owned()))
    }

    async fn restore(&self, record: &Record, _: &str) -> Result<(), ProviderError> {
        self.at_rest(record, |_| {})
    }

    async fn remove(&self, record: &Record, label: &str) -> Result<(), ProviderError> {
        self.at_rest(record, |snapshots| snapshots.retain(|taken| taken != label))
    }
}

#[async_trait]
impl Clones for FakeProvider {
    async fn clone_machine(
        &self,
        source: &Record,
        copy: &Record,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        self.at_rest(source, |_| {})?;
        work.made("fake-machine", copy.id.as_str()).await?;
        self.witness(&copy.name);
        self.ledger().entry(copy.id.clone()).or_default();
        Ok(())
    }
}

/// A guest in which cloud-init has ended with this status JSON.
#[derive(Debug, Clone)]
pub struct FakeGuest {
    status: &'static str,
}

impl FakeGuest {
    /// cloud-init is done without errors.
    pub fn provisioned() -> Self {
        Self { status: r#"{"status":"done","errors":[]}"# }
    }

    /// A script that cloud-init ran has failed.
    pub fn failed() -> Self {
        Self { status: r#"{"status":"error","errors":["('scripts_user', RuntimeError())"]}"# }
    }
}

#[async_trait]
impl Guest for FakeGuest {
    async fn run(
        &self,
        _: &SshTarget,
        command: &str,
        _: RunLimits,
        line: &mut OnLine<'_>,
    ) -> Result<Output, GuestError> {
        if command.contains("cloud-init status") {
            line("@goloo:status@");
            line(self.status);
        }
        Ok(Output { status: 0, stdout: String::new(), stderr: String::new() })
    }
}
