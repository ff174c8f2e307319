//! The engine on a disk that dies at any operation: every call of the provider had a durable intent, and afterwards the
//! record refers to everything that was created.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::NoEmergencyDump;
use goloo_engine::plan::CreatePlan;
use goloo_engine::{
    CreateRequest, Engine, EngineError, Interrupt, ReplacementRequest, ResumeInputs, Resumed,
};
use goloo_model::events::NoEvents;
use goloo_model::name::{OperationId, VmId, VmName};
use goloo_model::provider::{Machine, Provider, StopMode};
use goloo_model::record::{CreateInputs, Creator, Overrides, Phase, Record, Replacing};
use goloo_model::spec::ResolvedStack;
use goloo_model::spec::resolved::{ImageRef, Size, SshSource};
use goloo_model::store::{Snapshot, Store, StoreError};
use goloo_store::{DirStore, Options};
use goloo_testkit::fake_provider::{FakeGuest, FakeProvider};
use goloo_testkit::memory_store::MemoryStore;
use goloo_testkit::samples::{creating, name, owner, snapshot};
use goloo_testkit::sim_fs::{Crash, ENOSPC, Fault, SimFs};
use goloo_testkit::store_suite::run;

fn devbox() -> VmName {
    name("devbox")
}

fn store(disk: &SimFs) -> DirStore {
    DirStore::with_fs(Path::new("/goloo"), Options::default(), Arc::new(disk.clone()))
}

fn copy() -> VmName {
    name("copy")
}

/// What would remain of the record after a power loss right now.
fn durable(disk: &SimFs, name: &VmName) -> Option<Record> {
    run(store(&disk.crash(Crash::Lost)).load(name)).unwrap().map(|loaded| loaded.record)
}

/// A provider that, before each call that changes something, checks for the intent on the bare disk.
fn watched(disk: &SimFs) -> FakeProvider {
    let disk = disk.clone();
    FakeProvider::with_witness(Box::new(move |name| {
        // The test's own runtime is busy in this thread.
        let found = std::thread::scope(|scope| scope.spawn(|| durable(&disk, name)).join().unwrap());
        let record = found.expect("the provider is called and no record is durable");
        // A copy has no line in the hosts file: its source has it.
        let named = record.hosts_entry || record.origin.is_some();
        assert!(record.operation.is_some() && named, "no durable intent: {record:?}");
    }))
}

pub fn engine<T>(
    store: &dyn Store,
    provider: &FakeProvider,
    guest: &FakeGuest,
    work: impl AsyncFnOnce(Engine<'_>) -> T,
) -> T {
    let (interrupt, owner) = (Interrupt::default(), owner(1));
    // The engine's pauses between attempts take no time.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(work(Engine {
        store,
        provider,
        guest,
        host_names: provider,
        events: &NoEvents,
        interrupt: &interrupt,
        rescue: &NoEmergencyDump,
        owner: &owner,
        here: &goloo_testkit::samples::here(),
        limit: Duration::from_secs(1),
        follow_log: false,
    }))
}

fn stack() -> ResolvedStack {
    ResolvedStack {
        name: devbox(),
        is_copy: false,
        stack: "devbox".into(),
        folder: "/stacks/devbox".into(),
        cpus: 2,
        memory: Size::gib(2),
        disk: Size::gib(20),
        image: ImageRef::Alias("ubuntu-24.04".into()),
        image_text: "24.04".into(),
        image_sha256: None,
        os: "ubuntu-24.04".into(),
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
        ssh_cidr: vec![SshSource::Me],
        ttl: None,
        dns: None,
        packages: Vec::new(),
        working_dir: String::new(),
        vars: BTreeMap::new(),
        sections: std::collections::BTreeMap::new(),
        cloud_init: None,
        configure: None,
    }
}

fn machine(record: &Record, token: OperationId) -> Machine {
    Machine {
        id: record.id.clone(),
        name: record.name.clone(),
        machine_name: record.machine_name().clone(),
        token,
        stack: stack(),
        user_data: Vec::new(),
        identity: String::new(),
        host_key: record.ssh.clone().unwrap().host_key,
        keep_failed: false,
        force_dns: false,
        baked: None,
        membership: None,
        is_replacement: false,
        is_for_baking: false,
    }
}

pub fn request() -> CreateRequest {
    let sample = creating(&devbox());
    let provider = FakeProvider::default();
    let machine = machine(&sample, OperationId::generate());
    CreateRequest {
        baking: None,
        plan: CreatePlan {
            provider: provider.plan(&machine).unwrap(),
            machine,
            kind: goloo_testkit::providers::QEMU.id,
            ssh: sample.ssh.unwrap(),
            host_key_private: goloo_model::secret::PrivateKey::new("not a key".into()),
            users: Vec::new(),
            warnings: Vec::new(),
            diagnostics: Vec::new(),
        },
        snapshot: snapshot(),
        created_by: sample.created_by,
        github_users: Vec::new(),
        tags: BTreeMap::new(),
        wait: true,
        hosts_entry: true,
        overrides: Overrides::default(),
        applied_config: None,
        replacement: None,
    }
}

fn created_by() -> Creator {
    creating(&devbox()).created_by
}

pub fn rebuild(
    record: &Record,
    _: &CreateInputs,
    _: &Snapshot,
) -> Result<Machine, goloo_engine::RebuildError> {
    let token = record.operation.as_ref().map(|operation| operation.token.clone());
    Ok(machine(record, token.expect("only an operation is resumed")))
}

const CRASHES: [Crash; 6] =
    [Crash::Lost, Crash::Kept, Crash::Mixed(1), Crash::Mixed(2), Crash::Mixed(3), Crash::Mixed(4)];

/// Completes or deletes what the record refers to; afterwards nothing is left at the provider.
fn assert_nothing_is_lost(disk: &SimFs, provider: &FakeProvider, at: &str) {
    let (store, guest) = (store(disk), FakeGuest::provisioned());
    let Some(found) = run(store.load(&devbox())).unwrap() else {
        return assert_nothing_is_left(provider, &format!("without a record, {at}"));
    };
    if found.record.operation.is_some() {
        let resumed = engine(&store, provider, &guest, async |engine| {
            engine.resume(&devbox(), None, ResumeInputs::of_create(&rebuild)).await
        });
        match resumed.unwrap() {
            Resumed::Created(created) => assert_eq!(created.record.phase, Phase::Ready, "{at}"),
            Resumed::Deleted(_) => return assert_nothing_is_left(provider, at),
            other => panic!("{other:?}, {at}"),
        }
    }
    assert_eq!(provider.machines(), 1, "{at}");
    assert_eq!(provider.host_names().into_keys().collect::<Vec<_>>(), [devbox()], "{at}");
    engine(&store, provider, &guest, async |engine| engine.delete(&devbox(), None).await).unwrap();
    assert_nothing_is_left(provider, at);
}

fn assert_nothing_is_left(provider: &FakeProvider, at: &str) {
    assert_eq!((provider.machines(), provider.host_names().len()), (0, 0), "{at}");
}

/// The same for a copy of a stopped machine; the machine and its record are unchanged.
fn assert_no_copy_is_lost(disk: &SimFs, provider: &FakeProvider, at: &str) {
    let (store, guest) = (store(disk), FakeGuest::provisioned());
    let source = run(store.load(&devbox())).unwrap().unwrap().record;
    assert_eq!((source.phase, &source.operation), (Phase::Ready, &None), "{at}");
    let Some(found) = run(store.load(&copy())).unwrap() else {
        return assert_eq!(provider.machines(), 1, "a machine without a record, {at}");
    };
    if found.record.operation.is_some() {
        let resumed = engine(&store, provider, &guest, async |engine| {
            engine.resume(&copy(), None, ResumeInputs::of_create(&rebuild)).await
        });
        let Resumed::Cloned(cloned) = resumed.unwrap() else { panic!("{at}") };
        assert_eq!((cloned.record.phase, cloned.record.operation), (Phase::Ready, None), "{at}");
    }
    assert_eq!(provider.machines(), 2, "{at}");
    engine(&store, provider, &guest, async |engine| engine.delete(&copy(), None).await).unwrap();
    assert_eq!(provider.machines(), 1, "{at}");
}

fn at_every_stop(
    begin: impl Fn() -> (SimFs, FakeProvider),
    act: impl Fn(&SimFs, &FakeProvider) -> bool,
    assert_all_is_well: impl Fn(&SimFs, &FakeProvider, &str),
) {
    let (disk, provider) = begin();
    let before = disk.operations();
    assert!(act(&disk, &provider));
    let operations = disk.operations() - before;
    assert!(operations > 10, "{operations}");
    for stop in 0..=operations {
        for crash in CRASHES {
            let (disk, provider) = begin();
            disk.stop_after(stop);
            act(&disk, &provider);
            assert_all_is_well(&disk.crash(crash), &unwatched(provider), &format!("{stop}, {crash:?}"));
        }
    }
}

/// The same machines without a witness; the disk it checked is dead.
fn unwatched(mut provider: FakeProvider) -> FakeProvider {
    provider.forget_witness();
    provider
}

fn create(disk: &SimFs, provider: &FakeProvider) -> bool {
    let guest = FakeGuest::provisioned();
    engine(&store(disk), provider, &guest, async |engine| engine.create(request()).await).is_ok()
}

#[test]
fn a_create_stopped_at_any_operation_loses_no_machine() {
    let begin = || {
        let disk = SimFs::new();
        let provider = watched(&disk);
        (disk, provider)
    };
    at_every_stop(begin, create, assert_nothing_is_lost);
}

#[test]
fn a_delete_stopped_at_any_operation_loses_no_machine() {
    let begin = || {
        let disk = SimFs::new();
        let provider = watched(&disk);
        assert!(create(&disk, &provider));
        (disk, provider)
    };
    let delete = |disk: &SimFs, provider: &FakeProvider| {
        let guest = FakeGuest::provisioned();
        engine(&store(disk), provider, &guest, async |engine| engine.delete(&devbox(), None).await).is_ok()
    };
    at_every_stop(begin, delete, assert_nothing_is_lost);
}

#[test]
fn a_clone_stopped_at_any_operation_loses_no_machine() {
    let begin = || {
        let disk = SimFs::new();
        let provider = watched(&disk);
        assert!(create(&disk, &provider));
        let guest = FakeGuest::provisioned();
        let stop = async |engine: Engine<'_>| engine.stop(&devbox(), StopMode::Force).await;
        engine(&store(&disk), &provider, &guest, stop).unwrap();
        (disk, provider)
    };
    let clone = |disk: &SimFs, provider: &FakeProvider| {
        let guest = FakeGuest::provisioned();
        let clone = async |engine: Engine<'_>| engine.clone_vm(&devbox(), &copy(), &created_by()).await;
        engine(&store(disk), provider, &guest, clone).is_ok()
    };
    at_every_stop(begin, clone, assert_no_copy_is_lost);
}

/// The VM has one name, or an interrupted rename that leads from either record to one name.
fn assert_one_name(disk: &SimFs, provider: &FakeProvider, at: &str) {
    let (store, guest) = (store(disk), FakeGuest::provisioned());
    let stored = run(store.records()).unwrap();
    assert!(stored.broken.is_empty(), "{at}: {:?}", stored.broken);
    let records: Vec<Record> = stored.entries.into_iter().map(|loaded| loaded.record).collect();
    let is_explained = records.len() == 2
        && records[0].id == records[1].id
        && records.iter().all(|record| record.name_change().is_some());
    assert!(records.len() == 1 || is_explained, "{at}: {records:?}");
    let one = &records[at.len() % records.len()];
    if one.operation.is_some() {
        let resumed = engine(&store, provider, &guest, async |engine| {
            engine.resume(&one.name, None, ResumeInputs::of_create(&rebuild)).await
        });
        assert!(matches!(resumed, Ok(Resumed::Renamed(_))), "{at}: {resumed:?}");
    }
    let [name] = &run(store.names()).unwrap()[..] else { panic!("{at}: several names") };
    let name = goloo_testkit::samples::name(name);
    let record = run(store.load(&name)).unwrap().unwrap().record;
    assert_eq!((&record.id, record.operation), (&records[0].id, None), "{at}");
    assert_eq!(run(store.snapshot(&name)).unwrap(), snapshot(), "{at}");
    assert_eq!(provider.machines(), 1, "{at}");
    assert_eq!(provider.host_names().into_keys().collect::<Vec<_>>(), std::slice::from_ref(&name), "{at}");
    assert!(run(store.archive_list()).unwrap().entries.is_empty(), "{at}");
    engine(&store, provider, &guest, async |engine| engine.delete(&name, None).await).unwrap();
    assert_nothing_is_left(provider, at);
}

#[test]
fn a_rename_stopped_at_any_operation_leaves_one_name() {
    let begin = || {
        let disk = SimFs::new();
        let provider = watched(&disk);
        assert!(create(&disk, &provider));
        (disk, provider)
    };
    let rename = |disk: &SimFs, provider: &FakeProvider| {
        let guest = FakeGuest::provisioned();
        engine(&store(disk), provider, &guest, async |engine| engine.rename(&devbox(), &copy()).await).is_ok()
    };
    at_every_stop(begin, rename, assert_one_name);
}

/// A request for a VM that is to replace this one.
fn replacement(old: Record) -> CreateRequest {
    let first = request();
    let machine = Machine {
        id: VmId::generate(),
        machine_name: name("devbox-2"),
        is_replacement: true,
        ..first.plan.machine.clone()
    };
    let name = name("devbox-new");
    CreateRequest {
        plan: CreatePlan { machine, ..first.plan.clone() },
        replacement: Some(ReplacementRequest { old, name }),
        ..first
    }
}

fn replace(disk: &SimFs, provider: &FakeProvider) -> bool {
    let (store, guest) = (store(disk), FakeGuest::provisioned());
    let old = run(store.load(&devbox())).unwrap().unwrap().record;
    let request = replacement(old);
    let replace = async |engine: Engine<'_>| {
        let created = engine.create(request).await?;
        engine.finish_replacement(&created.record.name).await
    };
    engine(&store, provider, &guest, replace).is_ok()
}

/// There is the old VM as it was, or a replacement that any of its VMs continues, up to one VM.
fn assert_replaced_or_as_before(disk: &SimFs, provider: &FakeProvider, at: &str) {
    let (store, guest) = (store(disk), FakeGuest::provisioned());
    let stored = run(store.records()).unwrap();
    assert!(stored.broken.is_empty(), "{at}: {:?}", stored.broken);
    let records: Vec<Record> = stored.entries.into_iter().map(|loaded| loaded.record).collect();
    let is_begun = |record: &&Record| record.operation.is_some() || record.replacing.is_some();
    let begun: Vec<_> = records.iter().filter(is_begun).collect();
    if let Some(one) = begun.get(at.len() % begun.len().max(1)) {
        let resumed = engine(&store, provider, &guest, async |engine| {
            engine.resume(&one.name, None, ResumeInputs::of_create(&rebuild)).await
        });
        let is_done = matches!(resumed, Ok(Resumed::Replaced(_) | Resumed::Deleted(_)));
        assert!(is_done, "{at}: {} {resumed:?}", one.name);
    }
    // The next command that takes the name completes a move to the archive.
    drop(run(store.lock(&name("devbox-old"), &owner(1))).unwrap());
    assert_eq!(run(store.names()).unwrap(), ["devbox"], "{at}");
    let record = run(store.load(&devbox())).unwrap().unwrap().record;
    let archived = run(store.archive_list()).unwrap().entries;
    assert_eq!((&record.operation, &record.replacing, record.phase), (&None, &None, Phase::Ready), "{at}");
    assert_eq!(archived.first().map(|one| &one.record.id), record.replaces.as_ref(), "{at}");
    assert_eq!(
        archived.first().and_then(|one| one.record.replaced_by.clone()).is_some(),
        record.replaces.is_some()
    );
    assert_eq!(run(store.snapshot(&devbox())).unwrap(), snapshot(), "{at}");
    assert_eq!(provider.machines(), 1, "{at}");
    assert_eq!(provider.host_names().into_keys().collect::<Vec<_>>(), [devbox()], "{at}");
    engine(&store, provider, &guest, async |engine| engine.delete(&devbox(), None).await).unwrap();
    assert_nothing_is_left(provider, at);
}

#[test]
fn a_replacement_stopped_at_any_operation_leaves_one_vm() {
    let begin = || {
        let (disk, provider) = (SimFs::new(), FakeProvider::default());
        assert!(create(&disk, &provider));
        (disk, provider)
    };
    at_every_stop(begin, replace, assert_replaced_or_as_before);
}

#[test]
fn a_replacement_waits_for_no_lock() {
    let (store, provider, guest) =
        (MemoryStore::default(), FakeProvider::default(), FakeGuest::provisioned());
    engine(&store, &provider, &guest, async |engine| {
        let old = engine.create(request()).await.unwrap().record;
        let new = engine.create(replacement(old.clone())).await.unwrap().record.name;
        let other = owner(2);
        for held in [devbox(), new.clone(), name("devbox-old")] {
            let lock = store.lock(&held, &other).await.unwrap();
            let refused = engine.finish_replacement(&new).await;
            assert!(
                matches!(refused, Err(EngineError::Store(StoreError::Locked { .. }))),
                "{held}: {refused:?}"
            );
            let now = store.load(&devbox()).await.unwrap().unwrap().record;
            assert_eq!(now, old, "{held}");
            drop(lock);
        }
        let second = engine.create(replacement(old)).await;
        assert!(matches!(second, Err(EngineError::ReplacementExists { .. })), "{second:?}");
        engine.finish_replacement(&new).await.unwrap();
    });
}

/// In a shared store, somebody else can write that a VM is to replace another one.
#[test]
fn a_record_that_proves_nothing_replaces_no_vm() {
    let (store, provider, guest) =
        (MemoryStore::default(), FakeProvider::default(), FakeGuest::provisioned());
    let mut here = goloo_testkit::samples::here();
    here.trust.store_is_private = false;
    engine(&store, &provider, &guest, async |engine| {
        let engine = Engine { here: &here, ..engine };
        let old = engine.create(request()).await.unwrap().record;
        let other = CreateRequest { replacement: None, ..replacement(old.clone()) };
        let machine = Machine { name: copy(), machine_name: copy(), ..other.plan.machine.clone() };
        let other = CreateRequest { plan: CreatePlan { machine, ..other.plan.clone() }, ..other };
        let mut record = engine.create(other).await.unwrap().record;
        record.replacing = Some(Replacing { id: old.id.clone(), name: old.name.clone() });
        store.lock(&copy(), &owner(2)).await.unwrap().save(&mut record).await.unwrap();
        let refused = engine.resume(&copy(), None, ResumeInputs::of_create(&rebuild)).await;
        let Err(EngineError::Refused { what, .. }) = refused else { panic!("{refused:?}") };
        assert!(what.contains("doesn't prove that it was created with this state folder"), "{what}");
        assert_eq!(store.load(&devbox()).await.unwrap().unwrap().record, old);
    });
    assert_eq!(provider.machines(), 2);
}

/// Of two operations that want the same name, exactly one gets it.
#[test]
fn a_rename_waits_for_no_lock_and_takes_no_name_that_is_locked() {
    let (store, provider, guest) =
        (MemoryStore::default(), FakeProvider::default(), FakeGuest::provisioned());
    engine(&store, &provider, &guest, async |engine| {
        engine.create(request()).await.unwrap();
        let held = store.lock(&copy(), &owner(2)).await.unwrap();
        let locked = engine.rename(&devbox(), &copy()).await;
        assert!(matches!(locked, Err(EngineError::Store(StoreError::Locked { .. }))), "{locked:?}");
        drop(held);
        let record = store.load(&devbox()).await.unwrap().unwrap().record;
        assert_eq!(record.operation, None);
        engine.rename(&devbox(), &copy()).await.unwrap();
    });
    assert_eq!(run(store.names()).unwrap(), ["copy"]);
}

#[test]
fn create_refuses_an_existing_name_and_makes_no_second_machine() {
    let (store, provider, guest) =
        (MemoryStore::default(), FakeProvider::default(), FakeGuest::provisioned());
    engine(&store, &provider, &guest, async |engine| {
        engine.create(request()).await.unwrap();
        let again = engine.create(request()).await;
        assert!(matches!(again, Err(EngineError::NameTaken { phase: Phase::Ready, .. })), "{again:?}");
        let held = store.lock(&devbox(), &owner(2)).await.unwrap();
        let locked = engine.delete(&devbox(), None).await;
        assert!(matches!(locked, Err(EngineError::Store(StoreError::Locked { .. }))), "{locked:?}");
        drop(held);
    });
    assert_eq!(provider.machines(), 1);
}

#[test]
fn a_machine_with_failed_provisioning_is_kept_as_degraded() {
    let (store, provider) = (MemoryStore::default(), FakeProvider::default());
    let guest = FakeGuest::failed();
    let created = engine(&store, &provider, &guest, async |engine| engine.create(request()).await).unwrap();
    assert_eq!(created.record.phase, Phase::Degraded);
    assert_eq!(created.verdict.unwrap().errors, ["('scripts_user', RuntimeError())"]);
    assert_eq!(provider.machines(), 1);
}

#[test]
fn a_result_that_cannot_be_saved_is_returned_and_create_can_resume() {
    let disk = SimFs::new();
    let full = disk.clone();
    let provider = FakeProvider::with_witness(Box::new(move |_| {
        full.fail(Fault { at: 0, lasting: true, errno: ENOSPC });
    }));
    let guest = FakeGuest::provisioned();
    let create = engine(&store(&disk), &provider, &guest, async |engine| engine.create(request()).await);
    match create {
        Err(EngineError::NotSaved { rescued: None, json, .. }) => {
            assert!(json.contains("40022"), "the machine's address is lost: {json}");
            assert!(!json.contains("not a key"), "the private key would be on a terminal: {json}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(provider.machines(), 1);
    disk.heal();
    assert_nothing_is_lost(&disk, &unwatched(provider), "after the disk was full");
}

#[test]
fn an_interrupted_create_leaves_a_record_and_can_be_resumed() {
    let (store, provider, guest) =
        (MemoryStore::default(), FakeProvider::default(), FakeGuest::provisioned());
    engine(&store, &provider, &guest, async |engine| {
        engine.interrupt.raise();
        let stopped = engine.create(request()).await;
        assert!(matches!(stopped, Err(EngineError::Midway { .. })), "{stopped:?}");
    });
    assert_eq!(provider.machines(), 0, "the provider was called after the interrupt");
    engine(&store, &provider, &guest, async |engine| {
        let again = engine.create(request()).await;
        assert!(matches!(again, Err(EngineError::Unfinished { .. })), "{again:?}");
        let resumed = engine.resume(&devbox(), None, ResumeInputs::of_create(&rebuild)).await.unwrap();
        assert!(matches!(resumed, Resumed::Created(_)), "{resumed:?}");
    });
    assert_eq!(provider.machines(), 1);
}

#[test]
fn a_failed_hosts_entry_does_not_fail_create_and_is_added_by_start() {
    let (store, provider, guest) =
        (MemoryStore::default(), FakeProvider::default(), FakeGuest::provisioned());
    provider.deny_hosts(true);
    let created = engine(&store, &provider, &guest, async |engine| engine.create(request()).await).unwrap();
    assert_eq!((created.record.phase, provider.host_names().len()), (Phase::Ready, 0));
    provider.deny_hosts(false);
    engine(&store, &provider, &guest, async |engine| engine.start(&devbox()).await).unwrap();
    assert_eq!(provider.host_names().len(), 1);
}

#[test]
fn a_hosts_entry_that_cannot_be_removed_keeps_the_record() {
    let (store, provider, guest) =
        (MemoryStore::default(), FakeProvider::default(), FakeGuest::provisioned());
    engine(&store, &provider, &guest, async |engine| engine.create(request()).await).unwrap();
    provider.deny_hosts(true);
    let denied = engine(&store, &provider, &guest, async |engine| engine.delete(&devbox(), None).await);
    assert!(matches!(denied, Err(EngineError::HostName { .. })), "{denied:?}");
    let record = run(store.load(&devbox())).unwrap().unwrap().record;
    assert_eq!((record.phase, record.operation.is_some()), (Phase::Deleting, true));
    provider.deny_hosts(false);
    engine(&store, &provider, &guest, async |engine| engine.delete(&devbox(), None).await).unwrap();
    assert_nothing_is_left(&provider, "after the second delete");
    assert!(run(store.load(&devbox())).unwrap().is_none());
}

#[test]
fn a_vm_without_hosts_entry_in_its_record_gets_none() {
    let (store, provider, guest) =
        (MemoryStore::default(), FakeProvider::default(), FakeGuest::provisioned());
    let request = CreateRequest { hosts_entry: false, ..request() };
    engine(&store, &provider, &guest, async |engine| engine.create(request).await).unwrap();
    engine(&store, &provider, &guest, async |engine| engine.start(&devbox()).await).unwrap();
    assert!(provider.host_names().is_empty());
}

#[test]
fn a_resumed_create_that_fails_removes_its_hosts_entry() {
    let disk = SimFs::new();
    let (full, calls) = (disk.clone(), AtomicUsize::new(0));
    let provider = FakeProvider::with_witness(Box::new(move |_| {
        // The second call sets the name: everything after it isn't saved.
        if calls.fetch_add(1, Ordering::Relaxed) == 1 {
            full.fail(Fault { at: 0, lasting: true, errno: ENOSPC });
        }
    }));
    assert!(!create(&disk, &provider));
    assert_eq!(provider.host_names().len(), 1);
    disk.heal();
    provider.fail_creates();
    let (store, guest) = (store(&disk), FakeGuest::provisioned());
    let resumed = engine(&store, &provider, &guest, async |engine| {
        engine.resume(&devbox(), None, ResumeInputs::of_create(&rebuild)).await
    });
    assert!(matches!(resumed, Err(EngineError::CreateFailed { .. })), "{resumed:?}");
    assert_nothing_is_left(&provider, "after the failed create");
    assert!(run(store.load(&devbox())).unwrap().is_none());
}

#[test]
fn a_start_stays_open_until_its_hosts_entry_is_set() {
    let disk = SimFs::new();
    // Checks for the open operation whenever the name is set.
    let provider = watched(&disk);
    assert!(create(&disk, &provider));
    let (store, guest) = (store(&disk), FakeGuest::provisioned());
    engine(&store, &provider, &guest, async |engine| engine.start(&devbox()).await).unwrap();
    assert_eq!(provider.host_names().len(), 1);
}

#[test]
fn a_failed_create_is_kept_with_keep_failed() {
    let (store, provider, guest) =
        (MemoryStore::default(), FakeProvider::default(), FakeGuest::provisioned());
    provider.fail_creates();
    let mut request = request();
    request.plan.machine.keep_failed = true;
    engine(&store, &provider, &guest, async |engine| {
        let failed = engine.create(request).await;
        assert!(matches!(failed, Err(EngineError::Midway { .. })), "{failed:?}");
        let record = store.load(&devbox()).await.unwrap().unwrap().record;
        assert_eq!((record.phase, record.resources.len()), (Phase::Creating, 1));
        engine.delete(&devbox(), None).await.unwrap();
    });
    assert!(run(store.load(&devbox())).unwrap().is_none());
}
