//! The conformance suite of [`Provider`]: each sentence of its contract is a case.
//!
//! A provider's tests implement [`Bench`] and call [`provider_suite!`](crate::provider_suite), which generates a test
//! for each case. Every case gets its own bench.
#![allow(clippy::unwrap_used, reason = "a failing case is to panic, with the line that failed")]

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::sync::Mutex;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use goloo_model::events::{Event, EventContext, Events};
use goloo_model::hint::NextStep;
use goloo_model::name::{OperationId, VmId, VmName};
use goloo_model::provider::{
    Endpoints, LiveState, Machine, Orphan, Provider, ProviderError, StopMode, Work, resource,
};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{Creator, Extra, NewRecord, Phase, Record, SshAccess};
use goloo_model::spec::{ImageRef, ResolvedStack, Size, SshSource};
use goloo_model::store::Snapshot;
use tokio::sync::watch;

/// How long a case waits for something that should take no time.
const SOON: Duration = Duration::from_secs(20);
/// The maximum number of yields of a create or delete.
const POINTS_MAX: usize = 2000;

/// A provider under test, with access to its machines that bypasses it.
#[async_trait]
pub trait Bench: Send + Sync {
    /// A new handle on the same world, like that of a new goloo process.
    fn provider(&self) -> Box<dyn Provider>;

    /// A machine this provider can create.
    fn machine(&self, name: &str) -> Machine;

    /// Everything created at the provider that exists now, machines and their parts, one per line; without what
    /// machines share, such as cached images.
    async fn ledger(&self) -> Vec<String>;

    /// How many machines are running now, counted without the provider.
    async fn running(&self) -> usize;

    /// Cuts this machine's power without the provider.
    async fn crash(&self, record: &Record);

    /// Writes to a stopped machine's disk without the provider; `false` if the bench can't.
    async fn scribble(&self, _: &Record, _: u8) -> bool {
        false
    }

    /// The byte last written by [`Bench::scribble`].
    async fn scribbled(&self, _: &Record) -> u8 {
        unimplemented!("only where one can scribble")
    }

    /// Whether SSH answers in its machines, each at an address and port of its own.
    fn has_ssh(&self) -> bool {
        true
    }

    /// How many more yields each attempt gets before it dies, in the cases that die at any point. More than 1 skips
    /// points, for providers whose machines take minutes.
    fn stride(&self) -> usize {
        1
    }

    /// How long the effect of a completed request may take to become visible.
    fn patience(&self) -> Duration {
        SOON
    }

    /// Does manually what the error asks for, if the provider can't determine the owner of a machine that was begun but
    /// never recorded.
    async fn show_whose(&self, record: &Record, error: &ProviderError) {
        panic!("{}: {error:?}", record.name);
    }
}

/// Where [`SuiteWork`] interrupts the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtMade {
    GoOn,
    Refuse,
    Interrupt,
}

/// The engine's part of the contract, for tests: records what it is told and signals interruptions.
#[derive(Debug)]
pub struct SuiteWork {
    /// What [`Work::record_resource`] was told, in order.
    pub made: Vec<(String, String)>,
    /// The last argument of [`Work::save_addresses`].
    pub addresses: Option<Endpoints>,
    /// What earlier operations recorded.
    before: Vec<(String, String)>,
    seen: Seen,
    stop: watch::Sender<bool>,
    at_made: AtMade,
}

#[derive(Debug, Default)]
struct Seen(Mutex<Vec<Event>>);

impl Events for Seen {
    fn receive(&self, _: &EventContext, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Default for SuiteWork {
    fn default() -> Self {
        Self {
            made: Vec::new(),
            addresses: None,
            before: Vec::new(),
            seen: Seen::default(),
            stop: watch::channel(false).0,
            at_made: AtMade::GoOn,
        }
    }
}

impl SuiteWork {
    fn refusing() -> Self {
        Self { at_made: AtMade::Refuse, ..Self::default() }
    }

    fn interrupting() -> Self {
        Self { at_made: AtMade::Interrupt, ..Self::default() }
    }

    /// For an operation that continues what an earlier one began and recorded.
    pub fn after(earlier: &Self) -> Self {
        Self { before: earlier.notes().cloned().collect(), ..Self::default() }
    }

    /// Everything recorded for the VM, in order.
    pub fn notes(&self) -> impl Iterator<Item = &(String, String)> {
        self.before.iter().chain(&self.made)
    }

    /// The notes and warnings so far.
    pub fn said(&self) -> Vec<String> {
        let seen = self.seen.0.lock().unwrap();
        seen.iter()
            .filter_map(|event| match event {
                Event::Note(text) | Event::Warning(text) => Some(text.clone()),
                Event::Hint(hint) => Some(hint.debug_text()),
                _ => None,
            })
            .collect()
    }

    /// Sending true signals that the user interrupts.
    pub fn stopper(&self) -> watch::Sender<bool> {
        self.stop.clone()
    }
}

#[async_trait]
impl Work for SuiteWork {
    async fn record_resource(&mut self, kind: &str, id: &str) -> Result<(), ProviderError> {
        if self.at_made == AtMade::Refuse {
            return Err(ProviderError::failed("the record can't be saved", "free some room"));
        }
        self.made.push((kind.to_owned(), id.to_owned()));
        if self.at_made == AtMade::Interrupt {
            self.stop.send_replace(true);
        }
        Ok(())
    }

    async fn save_addresses(&mut self, endpoints: Endpoints) -> Result<(), ProviderError> {
        self.addresses = Some(endpoints);
        Ok(())
    }

    fn recorded_resource(&self, kind: &str) -> Option<&str> {
        self.notes().filter(|(known, _)| known == kind).map(|(_, id)| id.as_str()).last()
    }

    fn events(&self) -> &dyn Events {
        &self.seen
    }

    fn interrupted(&self) -> bool {
        *self.stop.borrow()
    }

    async fn interruption(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives in `self`, so this can't fail during the wait.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// A machine with one CPU, 512M of RAM and a disk of 4G.
pub fn machine(name: &str, image: ImageRef, user_data: &[u8]) -> Machine {
    let name = VmName::parse(name).unwrap();
    let stack = ResolvedStack {
        name: name.clone(),
        is_copy: false,
        stack: name.to_string(),
        folder: "/stacks".into(),
        cpus: 1,
        memory: Size::bytes(512 << 20),
        disk: Size::gib(4),
        image_text: "the test image".to_owned(),
        image,
        image_sha256: None,
        os: "unknown".to_owned(),
        instance_type: None,
        region: None,
        vpc_id: None,
        subnet_id: None,
        iam_instance_profile: None,
        spot: false,
        bake: None,
        users: Vec::new(),
        mounts: Vec::new(),
        ports: Vec::new(),
        auto_ports: false,
        ssh_cidr: vec![SshSource::Cidr("0.0.0.0/0".to_owned())],
        ttl: None,
        dns: None,
        packages: Vec::new(),
        working_dir: String::new(),
        vars: std::collections::BTreeMap::default(),
        sections: std::collections::BTreeMap::default(),
        cloud_init: None,
        configure: None,
    };
    let user_data = user_data.to_owned();
    let host_key = goloo_model::host_key::HostKey::generate().public_openssh;
    Machine {
        id: VmId::generate(),
        machine_name: name.clone(),
        name,
        token: OperationId::generate(),
        stack,
        user_data,
        identity: String::new(),
        host_key,
        keep_failed: false,
        force_dns: false,
        baked: None,
        membership: None,
        is_replacement: false,
        is_for_baking: false,
    }
}

/// The engine's record of a machine.
pub fn record(machine: &Machine, provider: ProviderId) -> Record {
    let mut record = Record::new(NewRecord {
        id: machine.id.clone(),
        name: machine.name.clone(),
        stack: machine.stack.stack.as_str().into(),
        provider,
        host_bound: provider != crate::providers::AWS.id,
        phase: Phase::Creating,
        created_by: Creator {
            user: "ann".into(),
            host: "laptop".into(),
            host_id: "1".into(),
            state_id: None,
            goloo: "0".into(),
            extra: Extra::new(),
        },
    });
    record.serial = 1;
    record.ssh = Some(SshAccess {
        user: crate::samples::login("ann"),
        account: None,
        login_problem: None,
        host_key: machine.host_key.clone(),
        extra: Extra::new(),
    });
    record
}

/// The same after these resources were recorded in it.
pub fn record_with(machine: &Machine, provider: ProviderId, work: &SuiteWork) -> Record {
    let resources = work.notes().map(|(kind, id)| resource(kind, id, &machine.token)).collect();
    proven(Record { resources, ..record(machine, provider) })
}

/// The record as the tests' state folder creates it.
pub fn proven(mut record: Record) -> Record {
    record.prove(&crate::samples::here(), Snapshot::default().digest());
    record
}

/// A created machine, with its record as the engine would have it.
struct Created {
    machine: Machine,
    record: Record,
    made: Endpoints,
}

async fn create(bench: &dyn Bench, name: &str) -> Created {
    let machine = bench.machine(name);
    let provider = bench.provider();
    let mut work = SuiteWork::default();
    let made = provider.create(&machine, &mut work).await.unwrap();
    let mut record = record_with(&machine, provider.id(), &work);
    keep(&mut record, &made);
    Created { machine, record, made }
}

fn keep(record: &mut Record, made: &Endpoints) {
    made.clone().write_to(record);
    record.prove_again(&crate::samples::here());
}

async fn state(bench: &dyn Bench, record: &Record) -> LiveState {
    bench.provider().observe(&[record]).await.remove(0).state
}

async fn until<T: PartialEq + Debug>(bench: &dyn Bench, wanted: T, mut now: impl AsyncFnMut() -> T) {
    let end = Instant::now() + bench.patience();
    loop {
        let seen = now().await;
        if seen == wanted {
            return;
        }
        assert!(Instant::now() < end, "{wanted:?} is waited for, {seen:?} is seen");
        tokio::task::yield_now().await;
    }
}

/// Polls a future until it has yielded `points` times, then drops it, as if the process had died. Returns `None` if it
/// was dropped.
async fn die_after<T>(points: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = Box::pin(work);
    let mut polled = 0;
    poll_fn(|context| {
        if let Poll::Ready(value) = work.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        polled += 1;
        if polled > points { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// A plan creates nothing.
pub async fn a_plan_makes_nothing(bench: &dyn Bench) {
    let plan = bench.provider().plan(&bench.machine("planned")).unwrap();
    assert!(!plan.steps.is_empty());
    assert!(plan.detail.is_object());
    assert_eq!(bench.ledger().await, [""; 0]);
}

/// A created machine has an address and is running.
pub async fn a_created_machine_runs(bench: &dyn Bench) {
    let created = create(bench, "new").await;
    assert!(created.record.ip().is_some());
    assert_eq!(created.record.ssh_port().is_some_and(|port| port > 0), bench.has_ssh());
    let seen = bench.provider().observe(&[&created.record]).await.remove(0);
    assert_eq!((seen.state, seen.reason), (LiveState::Running, None));
    assert_eq!(seen.ip.as_deref(), created.record.ip());
    assert_eq!(bench.running().await, 1);
}

/// What can't be recorded isn't created.
pub async fn nothing_is_made_before_it_is_recorded(bench: &dyn Bench) {
    let machine = bench.machine("unrecorded");
    bench.provider().create(&machine, &mut SuiteWork::refusing()).await.unwrap_err();
    assert_eq!(bench.ledger().await, [""; 0]);
    assert_eq!(bench.running().await, 0);
}

/// An interruption ends a create with an error, and the same create can be resumed.
pub async fn an_interrupted_create_goes_on_later(bench: &dyn Bench) {
    let machine = bench.machine("later");
    let mut work = SuiteWork::interrupting();
    let error = bench.provider().create(&machine, &mut work).await.unwrap_err();
    assert!(matches!(error, ProviderError::Interrupted), "{error:?}");
    bench.provider().create(&machine, &mut SuiteWork::after(&work)).await.unwrap();
    assert_eq!(bench.running().await, 1);
}

/// Repeating a create finds the first machine.
pub async fn the_same_create_again_makes_no_second_machine(bench: &dyn Bench) {
    let created = create(bench, "twice").await;
    let before = bench.ledger().await;
    let again = bench.provider().create(&created.machine, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(again, created.made);
    assert_eq!(bench.ledger().await, before);
    assert_eq!(bench.running().await, 1);
}

/// A create that died at any point is completed by the next one.
pub async fn a_create_that_died_anywhere_is_finished(bench: &dyn Bench) {
    for points in (0..POINTS_MAX).step_by(bench.stride()) {
        let machine = bench.machine("died");
        let mut work = SuiteWork::default();
        let provider = bench.provider();
        let ended = die_after(points, provider.create(&machine, &mut work)).await.is_some();
        if !bench.ledger().await.is_empty() {
            assert!(!work.made.is_empty(), "something was made and not recorded");
        }
        let mut again = SuiteWork::after(&work);
        bench.provider().create(&machine, &mut again).await.unwrap();
        assert_eq!(bench.running().await, 1, "after {points} points");
        let record = record_with(&machine, provider.id(), &again);
        bench.provider().delete(&record, &mut SuiteWork::default()).await.unwrap();
        assert_eq!(bench.ledger().await, [""; 0], "after {points} points");
        assert_eq!(bench.running().await, 0, "after {points} points");
        if ended {
            return;
        }
    }
    panic!("a create that never ends");
}

/// A create that died at any point can be deleted.
pub async fn a_create_that_died_anywhere_can_be_deleted(bench: &dyn Bench) {
    for points in (0..POINTS_MAX).step_by(bench.stride()) {
        let machine = bench.machine("died");
        let provider = bench.provider();
        let mut work = SuiteWork::default();
        let ended = die_after(points, provider.create(&machine, &mut work)).await.is_some();
        let record = record_with(&machine, provider.id(), &work);
        bench.provider().delete(&record, &mut SuiteWork::default()).await.unwrap();
        assert_eq!(bench.ledger().await, [""; 0], "after {points} points");
        until(bench, 0, async || bench.running().await).await;
        if ended {
            return;
        }
    }
    panic!("a create that never ends");
}

/// A delete that died at any point is completed by the next one.
pub async fn a_delete_that_died_anywhere_is_finished(bench: &dyn Bench) {
    for points in (0..POINTS_MAX).step_by(bench.stride()) {
        let created = create(bench, "doomed").await;
        let provider = bench.provider();
        let mut work = SuiteWork::default();
        let ended = die_after(points, provider.delete(&created.record, &mut work)).await.is_some();
        bench.provider().delete(&created.record, &mut SuiteWork::default()).await.unwrap();
        assert_eq!(bench.ledger().await, [""; 0], "after {points} points");
        assert_eq!(bench.running().await, 0, "after {points} points");
        if ended {
            return;
        }
    }
    panic!("a delete that never ends");
}

/// Deleting a machine that no longer exists or was never created succeeds.
pub async fn deleting_what_is_gone_is_success(bench: &dyn Bench) {
    let never = record(&bench.machine("never"), bench.provider().id());
    bench.provider().delete(&never, &mut SuiteWork::default()).await.unwrap();
    let created = create(bench, "gone").await;
    for _ in 0..2 {
        bench.provider().delete(&created.record, &mut SuiteWork::default()).await.unwrap();
        assert_eq!(bench.ledger().await, [""; 0]);
        assert_eq!(state(bench, &created.record).await, LiveState::Missing);
    }
    assert_eq!(bench.running().await, 0);
}

/// Deleting, stopping or crashing one machine doesn't affect the others.
pub async fn other_machines_are_left_alone(bench: &dyn Bench) {
    let one = create(bench, "one").await;
    let two = create(bench, "two").await;
    let place = |created: &Created| (created.record.address().cloned(), created.record.ssh_port());
    assert!(place(&one) != place(&two) || !bench.has_ssh(), "two machines at one address");
    bench.provider().stop(&one.record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(state(bench, &two.record).await, LiveState::Running);
    bench.provider().delete(&one.record, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(state(bench, &two.record).await, LiveState::Running);
    assert_eq!(bench.running().await, 1);
}

/// All machines are observed at once, each in its own state, in the order of the query.
pub async fn all_are_observed_in_order(bench: &dyn Bench) {
    let running = create(bench, "running").await;
    let stopped = create(bench, "stopped").await;
    let missing = record(&bench.machine("missing"), bench.provider().id());
    bench.provider().stop(&stopped.record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    let seen = bench.provider().observe(&[&stopped.record, &missing, &running.record, &stopped.record]).await;
    let states: Vec<LiveState> = seen.iter().map(|observation| observation.state).collect();
    assert_eq!(states, [LiveState::Stopped, LiveState::Missing, LiveState::Running, LiveState::Stopped]);
    assert_eq!(bench.provider().observe(&[]).await.len(), 0);
}

/// Stop returns when the machine is off, in either mode, and doesn't change a stopped machine. Start brings a machine
/// up, and doesn't change a running one.
pub async fn a_machine_stops_and_starts(bench: &dyn Bench) {
    let mut created = create(bench, "power").await;
    for mode in [StopMode::Graceful, StopMode::Force] {
        for _ in 0..2 {
            bench.provider().stop(&created.record, mode, &mut SuiteWork::default()).await.unwrap();
            assert_eq!(state(bench, &created.record).await, LiveState::Stopped);
            assert_eq!(bench.running().await, 0);
        }
        let first = bench.provider().start(&created.record, &mut SuiteWork::default()).await.unwrap();
        keep(&mut created.record, &first);
        let again = bench.provider().start(&created.record, &mut SuiteWork::default()).await.unwrap();
        assert_eq!(first, again);
        assert_eq!(state(bench, &created.record).await, LiveState::Running);
        assert_eq!(bench.running().await, 1);
    }
}

/// A machine whose power was cut is stopped, not broken, and can be started again.
pub async fn a_crashed_machine_is_stopped_and_starts(bench: &dyn Bench) {
    let created = create(bench, "crashed").await;
    bench.crash(&created.record).await;
    until(bench, LiveState::Stopped, async || state(bench, &created.record).await).await;
    bench.provider().stop(&created.record, StopMode::Graceful, &mut SuiteWork::default()).await.unwrap();
    bench.provider().start(&created.record, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(state(bench, &created.record).await, LiveState::Running);
    bench.crash(&created.record).await;
    bench.provider().delete(&created.record, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(bench.ledger().await, [""; 0]);
}

/// A missing machine can't be started or stopped, and the error says what to do.
pub async fn a_missing_machine_cannot_be_started(bench: &dyn Bench) {
    let missing = record(&bench.machine("missing"), bench.provider().id());
    bench.provider().start(&missing, &mut SuiteWork::default()).await.unwrap_err();
    bench.provider().stop(&missing, StopMode::Graceful, &mut SuiteWork::default()).await.unwrap_err();
    assert_eq!(bench.ledger().await, [""; 0]);
}

/// Reading the console can be resumed from an offset.
pub async fn the_console_is_read_on(bench: &dyn Bench) {
    let created = create(bench, "talking").await;
    let provider = bench.provider();
    if !provider.capabilities().console {
        return;
    }
    until(bench, true, async || !provider.console(&created.record, 0).await.unwrap().bytes.is_empty()).await;
    let all = provider.console(&created.record, 0).await.unwrap();
    assert_eq!(all.next, all.bytes.len() as u64);
    let rest = provider.console(&created.record, 3).await.unwrap();
    assert!(rest.bytes.starts_with(&all.bytes[3..]));
    let later = u64::from(u32::MAX);
    let none = provider.console(&created.record, later).await.unwrap();
    assert_eq!((none.bytes.as_slice(), none.next), (&b""[..], later));
}

async fn create_stopped(bench: &dyn Bench, name: &str) -> Created {
    let created = create(bench, name).await;
    bench.provider().stop(&created.record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    created
}

async fn labels(bench: &dyn Bench, record: &Record) -> Vec<String> {
    let provider = bench.provider();
    let listed = provider.snapshots().unwrap().list(record).await.unwrap();
    listed.into_iter().map(|snapshot| snapshot.label).collect()
}

/// Snapshots are listed oldest first; a label can be taken only once, and is free again after its snapshot is removed.
pub async fn snapshots_come_and_go(bench: &dyn Bench) {
    let provider = bench.provider();
    let Some(snapshots) = provider.snapshots() else { return };
    let Created { record, .. } = create_stopped(bench, "snapped").await;
    assert_eq!(labels(bench, &record).await, [""; 0]);
    snapshots.take(&record, "zero").await.unwrap();
    snapshots.take(&record, "one").await.unwrap();
    assert_eq!(labels(bench, &record).await, ["zero", "one"]);
    snapshots.take(&record, "zero").await.unwrap_err();
    assert_eq!(labels(bench, &record).await, ["zero", "one"]);
    snapshots.remove(&record, "zero").await.unwrap();
    snapshots.remove(&record, "zero").await.unwrap();
    assert_eq!(labels(bench, &record).await, ["one"]);
    snapshots.restore(&record, "zero").await.unwrap_err();
    snapshots.restore(&record, "one").await.unwrap();
    assert_eq!(labels(bench, &record).await, ["one"], "the snapshot stays");
    assert_eq!(state(bench, &record).await, LiveState::Stopped);
}

/// A restored disk has its former content, whatever the labels look like.
pub async fn a_restore_brings_back_the_disk(bench: &dyn Bench) {
    let provider = bench.provider();
    let Some(snapshots) = provider.snapshots() else { return };
    let Created { record, .. } = create_stopped(bench, "restored").await;
    // Labels that could be mistaken for each other's ids.
    for (content, label) in [(7, "2"), (8, "1")] {
        if !bench.scribble(&record, content).await {
            return;
        }
        snapshots.take(&record, label).await.unwrap();
    }
    bench.scribble(&record, 9).await;
    for (content, label) in [(7, "2"), (8, "1"), (7, "2")] {
        snapshots.restore(&record, label).await.unwrap();
        assert_eq!(bench.scribbled(&record).await, content, "{label}");
    }
}

fn wants_it_stopped(result: Result<(), ProviderError>, name: &VmName) {
    match result {
        Err(ProviderError::Unsupported { hint, .. }) => assert_eq!(hint, NextStep::stop(name).into()),
        other => panic!("{other:?}"),
    }
}

/// A running machine can't be snapshotted or restored, and only be cloned with its memory; it keeps running.
pub async fn a_running_machine_keeps_its_disk_to_itself(bench: &dyn Bench) {
    let provider = bench.provider();
    let Created { record: running, .. } = create(bench, "running").await;
    let before = bench.ledger().await;
    if let Some(snapshots) = provider.snapshots() {
        wants_it_stopped(snapshots.take(&running, "a").await, &running.name);
        wants_it_stopped(snapshots.restore(&running, "a").await, &running.name);
        assert_eq!(labels(bench, &running).await, [""; 0]);
    }
    if let Some(clones) = provider.clones() {
        let copy = record(&bench.machine("copy"), provider.id());
        let mut work = SuiteWork::default();
        let cloned = clones.clone_machine(&running, &copy, &mut work).await;
        if clones.with_memory() {
            cloned.unwrap();
            assert_eq!(state(bench, &copy).await, LiveState::Suspended);
            provider.delete(&copy, &mut SuiteWork::after(&work)).await.unwrap();
        } else {
            wants_it_stopped(cloned, &running.name);
        }
        assert_eq!(bench.ledger().await, before);
        assert_eq!(state(bench, &copy).await, LiveState::Missing);
    }
    assert_eq!(state(bench, &running).await, LiveState::Running);
}

/// A copy is stopped, starts with its source's disk, has its own addresses, and outlives its source.
pub async fn a_copy_is_a_machine_of_its_own(bench: &dyn Bench) {
    let provider = bench.provider();
    let Some(clones) = provider.clones() else { return };
    let Created { record: source, .. } = create_stopped(bench, "source").await;
    let scribbles = bench.scribble(&source, 7).await;
    if let Some(snapshots) = provider.snapshots() {
        snapshots.take(&source, "a").await.unwrap();
    }
    let copy = record(&bench.machine("copy"), provider.id());
    let mut work = SuiteWork::default();
    clones.clone_machine(&source, &copy, &mut work).await.unwrap();
    assert!(!work.made.is_empty(), "something was made and not recorded");
    assert_eq!(state(bench, &copy).await, LiveState::Stopped);
    if provider.snapshots().is_some() {
        assert_eq!(labels(bench, &copy).await, [""; 0], "snapshots stay with their machine");
    }
    if scribbles {
        bench.scribble(&source, 8).await;
        assert_eq!(bench.scribbled(&copy).await, 7);
    }
    let start = async |record| provider.start(record, &mut SuiteWork::default()).await.unwrap();
    assert_ne!(start(&source).await, start(&copy).await, "two machines at one address");
    provider.delete(&source, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(state(bench, &copy).await, LiveState::Running);
    assert_eq!(bench.running().await, 1);
}

/// A copy that died at any point, or was interrupted, is completed by the next attempt, or can be deleted; its source
/// is unchanged.
pub async fn a_copy_that_died_anywhere_leads_to_one_machine(bench: &dyn Bench) {
    let provider = bench.provider();
    let Some(clones) = provider.clones() else { return };
    let Created { record: source, .. } = create_stopped(bench, "source").await;
    let before = bench.ledger().await;
    for points in (0..POINTS_MAX).step_by(bench.stride()) {
        let machine = bench.machine("copy");
        // A copy has its source's host key.
        let copy = |work: &SuiteWork| {
            proven(Record { ssh: source.ssh.clone(), ..record_with(&machine, provider.id(), work) })
        };
        let mut work = SuiteWork::default();
        let begun = copy(&work);
        let ended = die_after(points, clones.clone_machine(&source, &begun, &mut work)).await.is_some();
        if (points / bench.stride()).is_multiple_of(2) {
            for _ in 0..2 {
                let mut again = SuiteWork::after(&work);
                clones.clone_machine(&source, &copy(&work), &mut again).await.unwrap();
                work = again;
                assert_eq!(state(bench, &copy(&work)).await, LiveState::Stopped);
                assert_eq!(bench.ledger().await.len(), before.len() + 1, "after {points} points");
            }
            provider.start(&copy(&work), &mut SuiteWork::after(&work)).await.unwrap();
        }
        if let Err(error) = provider.delete(&copy(&work), &mut SuiteWork::after(&work)).await {
            assert!(!ended, "{error:?}");
            bench.show_whose(&copy(&work), &error).await;
            provider.delete(&copy(&work), &mut SuiteWork::after(&work)).await.unwrap();
        }
        assert_eq!(bench.ledger().await, before, "after {points} points");
        if ended {
            return;
        }
    }
    panic!("a copy that never ends");
}

/// What can't be recorded isn't copied.
pub async fn nothing_is_copied_before_it_is_recorded(bench: &dyn Bench) {
    let provider = bench.provider();
    let Some(clones) = provider.clones() else { return };
    let Created { record: source, .. } = create_stopped(bench, "source").await;
    let before = bench.ledger().await;
    let copy = record(&bench.machine("copy"), provider.id());
    clones.clone_machine(&source, &copy, &mut SuiteWork::refusing()).await.unwrap_err();
    assert_eq!(bench.ledger().await, before);
}

/// A machine whose record was lost is found and can be adopted by name or id; nothing else is mistaken for it.
pub async fn a_lost_machine_is_found_and_adopted(bench: &dyn Bench) {
    let provider = bench.provider();
    let Created { record: kept, .. } = create(bench, "kept").await;
    let lost = bench.machine("lost");
    let mut work = SuiteWork::default();
    provider.create(&lost, &mut work).await.unwrap();
    let before = bench.ledger().await;
    let found = async |known: &[&Record]| {
        let orphans = provider.orphans(known).await.unwrap();
        // An account may contain others, too.
        let is_own =
            |orphan: &Orphan| [&kept.name, &lost.name].iter().any(|name| orphan.name == name.as_str());
        orphans.into_iter().filter(|orphan| orphan.ours && is_own(orphan)).collect::<Vec<_>>()
    };
    let orphans = found(&[&kept]).await;
    let [orphan] = &orphans[..] else { panic!("{orphans:?}") };
    assert_eq!(orphan.state, LiveState::Running);
    for id in [None, Some(orphan.id.as_str())] {
        let adopted = provider.adopt(&lost.name, id).await.unwrap();
        assert!(!adopted.resources.is_empty(), "nothing leads to it");
        assert!(adopted.resources.iter().all(|found| work.made.contains(found)), "{:?}", adopted.resources);
        let mut again = record(&lost, provider.id());
        again.id = adopted.id.unwrap_or(again.id);
        let operation = OperationId::generate();
        again.resources.extend(adopted.resources.iter().map(|(kind, id)| resource(kind, id, &operation)));
        keep(&mut again, &adopted.endpoints.unwrap());
        assert_eq!(state(bench, &again).await, LiveState::Running);
        assert_eq!(found(&[&kept, &again]).await, []);
    }
    let nobody = VmName::parse("nobody").unwrap();
    provider.adopt(&nobody, None).await.unwrap_err();
    provider.adopt(&lost.name, Some("nobody")).await.unwrap_err();
    assert_eq!(bench.ledger().await, before, "adopting changes nothing");
}

/// Generates a test for each case: `provider_suite!(make_a_bench)`; the function returns a new [`Bench`].
#[macro_export]
macro_rules! provider_suite {
    ($make:expr) => {
        $crate::provider_suite!($make; a_plan_makes_nothing a_created_machine_runs
            nothing_is_made_before_it_is_recorded an_interrupted_create_goes_on_later
            the_same_create_again_makes_no_second_machine a_create_that_died_anywhere_is_finished
            a_create_that_died_anywhere_can_be_deleted a_delete_that_died_anywhere_is_finished
            deleting_what_is_gone_is_success other_machines_are_left_alone all_are_observed_in_order
            a_machine_stops_and_starts a_crashed_machine_is_stopped_and_starts
            a_missing_machine_cannot_be_started the_console_is_read_on snapshots_come_and_go
            a_restore_brings_back_the_disk a_running_machine_keeps_its_disk_to_itself
            a_copy_is_a_machine_of_its_own a_copy_that_died_anywhere_leads_to_one_machine
            nothing_is_copied_before_it_is_recorded a_lost_machine_is_found_and_adopted);
    };
    ($make:expr; $($case:ident)+) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::provider_suite::$case(&$make()).await;
            }
        )+
    };
}
