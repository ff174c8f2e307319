//! A provider whose machines are lines in a ledger, and a guest that is always provisioned: enough to test an engine
//! without a machine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use goloo_model::guest::{Guest, GuestError, OnLine, Output, RunLimits, SshTarget};
use goloo_model::hint::NextStep;
use goloo_model::host_names::{HostNames, HostNamesError};
use goloo_model::name::{VmId, VmName};
use goloo_model::provider::{
    Adopted, Capabilities, Changes, Clones, ConsolePiece, DiskSnapshot, Endpoints, LiveState, Machine,
    MachineChange, Networks, Observation, Orphan, Provider, ProviderError, ProviderPlan, Snapshots, StopMode,
    Work,
};
use goloo_model::provider_info::ProviderInfo;
use goloo_model::record::{Endpoint, PrivateAddress, Record};

use crate::providers;

/// A check that a test runs before a machine is created or removed.
pub type Witness = Box<dyn Fn(&VmName) + Send + Sync>;

/// A machine of the fake provider.
#[derive(Debug, Default)]
struct FakeMachine {
    running: bool,
    snapshots: Vec<String>,
}

/// A provider without real machines, on a computer whose hosts file is a map.
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
    connected: Mutex<Vec<(VmName, PrivateAddress)>>,
    networks_fail: AtomicBool,
}

impl FakeProvider {
    /// Calls `witness` before each change of the ledger.
    pub fn with_witness(witness: Witness) -> Self {
        Self { witness: Some(witness), ..Self::default() }
    }

    /// Removes the witness.
    pub fn forget_witness(&mut self) {
        self.witness = None;
    }

    /// The number of machines.
    pub fn machines(&self) -> usize {
        self.ledger().len()
    }

    /// How a machine was last stopped.
    pub fn last_stop(&self) -> Option<StopMode> {
        *self.last_stop.lock().expect("no holder panics")
    }

    /// The VMs' entries in the hosts file.
    pub fn host_names(&self) -> BTreeMap<VmName, IpAddr> {
        self.host_names.lock().expect("no holder panics").clone()
    }

    /// Sets whether the hosts file refuses changes.
    pub fn deny_hosts(&self, denied: bool) {
        self.hosts_denied.store(denied, Ordering::Relaxed);
    }

    /// Sets the output of its machines' consoles.
    pub fn set_console(&self, text: &[u8]) {
        *self.console.lock().expect("no holder panics") = text.to_vec();
    }

    /// How often the native session was used to restore goloo's access.
    pub fn restores(&self) -> usize {
        self.restores.load(Ordering::Relaxed)
    }

    /// Simulates the machine powering itself off.
    pub fn power_off(&self, record: &Record) {
        self.set_running(record, false);
    }

    /// Makes every create fail from now on.
    pub fn fail_creates(&self) {
        self.creates_fail.store(true, Ordering::Relaxed);
    }

    /// Sets whether connecting machines fails.
    pub fn fail_networks(&self, fails: bool) {
        self.networks_fail.store(fails, Ordering::Relaxed);
    }

    /// Which machines were connected to the networks of their environments since the last call, in order.
    pub fn connected(&self) -> Vec<(VmName, PrivateAddress)> {
        std::mem::take(&mut self.connected.lock().expect("no holder panics"))
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

    /// Changes the snapshots of a stopped machine.
    fn at_rest(&self, record: &Record, act: impl FnOnce(&mut Vec<String>)) -> Result<(), ProviderError> {
        match self.ledger().get_mut(&record.id) {
            Some(machine) if machine.running => Err(ProviderError::Unsupported {
                what: format!("\"{}\" runs", record.name),
                hint: NextStep::stop(&record.name).into(),
            }),
            Some(machine) => {
                act(&mut machine.snapshots);
                Ok(())
            }
            None => Err(ProviderError::failed("the machine is gone", "make another one")),
        }
    }

    fn made() -> Endpoints {
        Endpoint::loopback(40_022).into()
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
impl Networks for FakeProvider {
    fn takes_addresses(&self) -> bool {
        true
    }

    fn address(&self, record: &Record) -> Option<IpAddr> {
        let network = record.membership.as_ref()?.network?;
        Some(IpAddr::V4(network.address()))
    }

    async fn connect(&self, record: &Record, _: &mut dyn Work) -> Result<(), ProviderError> {
        let is_running = self.ledger().get(&record.id).is_some_and(|machine| machine.running);
        if self.networks_fail.load(Ordering::Relaxed) || !is_running {
            return Err(ProviderError::failed("there is no network", "make one"));
        }
        let network = record.membership.as_ref().and_then(|membership| membership.network);
        let address = network.expect("only VMs with an address are connected");
        self.connected.lock().expect("no holder panics").push((record.name.clone(), address));
        Ok(())
    }
}

#[async_trait]
impl Provider for FakeProvider {
    fn info(&self) -> &'static ProviderInfo {
        &providers::QEMU
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { console: true, suspend: false }
    }

    fn plan(&self, _: &Machine) -> Result<ProviderPlan, ProviderError> {
        Ok(ProviderPlan { steps: Vec::new(), warnings: Vec::new(), detail: serde_json::Value::Null })
    }

    async fn create(&self, machine: &Machine, work: &mut dyn Work) -> Result<Endpoints, ProviderError> {
        work.record_resource("fake-machine", machine.id.as_str()).await?;
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

    async fn start(&self, record: &Record, _: &mut dyn Work) -> Result<Endpoints, ProviderError> {
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
        records.iter().map(|record| Observation::of(state(record))).collect()
    }

    async fn console(&self, _: &Record, offset: u64) -> Result<ConsolePiece, ProviderError> {
        Ok(ConsolePiece::of(&self.console.lock().expect("no holder panics"), offset))
    }

    async fn restore_access(&self, _: &Record) -> Result<bool, ProviderError> {
        self.restores.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    async fn orphans(&self, known: &[&Record]) -> Result<Vec<Orphan>, ProviderError> {
        let ledger = self.ledger();
        let orphans = ledger.keys().filter(|id| !known.iter().any(|record| record.id == **id));
        let orphan = |id: &VmId| Orphan {
            name: id.to_string(),
            id: id.to_string(),
            state: LiveState::Running,
            ours: true,
        };
        Ok(orphans.map(orphan).collect())
    }

    async fn adopt(&self, name: &VmName, id: Option<&str>) -> Result<Adopted, ProviderError> {
        let ledger = self.ledger();
        let found = ledger.keys().find(|known| Some(known.as_str()) == id);
        let found = found.ok_or_else(|| {
            ProviderError::failed(format!("there is no machine \"{name}\""), "give another --id")
        })?;
        let resources = vec![("fake-machine".to_owned(), found.to_string())];
        Ok(Adopted { id: Some(found.clone()), name: None, resources, endpoints: Some(Self::made()) })
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn clones(&self) -> Option<&dyn Clones> {
        Some(self)
    }

    fn networks(&self) -> Option<&dyn Networks> {
        Some(self)
    }

    fn changes(&self) -> Option<&dyn Changes> {
        Some(self)
    }
}

#[async_trait]
impl Changes for FakeProvider {
    async fn change(
        &self,
        record: &Record,
        _: MachineChange<'_>,
        _: &mut dyn Work,
    ) -> Result<Endpoints, ProviderError> {
        self.witness(&record.name);
        Ok(Self::made())
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
        work.record_resource("fake-machine", copy.id.as_str()).await?;
        self.witness(&copy.name);
        self.ledger().entry(copy.id.clone()).or_default();
        Ok(())
    }
}

/// A guest in which cloud-init has finished with this status JSON.
#[derive(Debug, Clone)]
pub struct FakeGuest {
    status: &'static str,
}

impl FakeGuest {
    /// cloud-init finished without errors.
    pub fn provisioned() -> Self {
        Self { status: r#"{"status":"done","errors":[]}"# }
    }

    /// A script run by cloud-init failed.
    pub fn failed() -> Self {
        Self { status: r#"{"status":"error","errors":["('scripts_user', RuntimeError())"]}"# }
    }
}

#[async_trait]
impl Guest for FakeGuest {
    fn pin(&self, _: &Record) {}

    fn unpin(&self, _: &Record) {}

    async fn end_connections(&self, _: &Record) {}

    async fn forget(&self, _: &SshTarget) {}

    async fn run_with_input(
        &self,
        _: &SshTarget,
        command: &str,
        _: &[u8],
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
