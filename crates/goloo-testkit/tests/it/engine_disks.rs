//! Snapshots, clones, adoption and suspension: what the engine allows, and in which order.
use std::time::Duration;

use crate::common::NoEmergencyDump;
use goloo_engine::{AdoptRequest, Engine, EngineError, Interrupt, RebuildError, ResumeInputs, Resumed};
use goloo_model::events::NoEvents;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::host_key::HostKey;
use goloo_model::name::{SnapshotLabel, VmId};
use goloo_model::provider::{Provider, ProviderError, StopMode};
use goloo_model::record::{
    ForeignOwner, Operation, OperationKind, OriginKind, Phase, Record, SERIAL_MAX, SshAccess,
};
use goloo_model::store::{Store, StoreError};
use goloo_testkit::fake_provider::{FakeGuest, FakeProvider};
use goloo_testkit::memory_store::MemoryStore;
use goloo_testkit::provider_suite::{self, SuiteWork};
use goloo_testkit::samples::{creating, here, login, name, owner, snapshot};

/// A store and a provider.
#[derive(Default)]
struct World {
    store: MemoryStore,
    provider: FakeProvider,
}

impl World {
    /// With a stopped machine `devbox`.
    async fn with_devbox() -> Self {
        let world = Self::default();
        world.add("devbox").await;
        world
    }

    /// Creates a stopped machine with its record.
    async fn add(&self, vm: &str) -> Record {
        let mut record = self.machine_without_record(vm).await;
        self.provider.stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
        record.phase = Phase::Ready;
        record.operation = None;
        let mut lock = self.store.lock(&record.name, &owner(1)).await.unwrap();
        lock.create(&mut record, &snapshot()).await.unwrap();
        record
    }

    /// A machine without a record; returns the record it should have.
    async fn machine_without_record(&self, vm: &str) -> Record {
        let record = creating(&name(vm));
        let image = goloo_model::spec::ImageRef::Path("/image".into());
        let machine = provider_suite::machine(vm, image, b"");
        let machine = goloo_model::provider::Machine { id: record.id.clone(), ..machine };
        self.provider.create(&machine, &mut SuiteWork::default()).await.unwrap();
        record
    }

    async fn record(&self, vm: &str) -> Option<Record> {
        self.store.load(&name(vm)).await.unwrap().map(|loaded| loaded.record)
    }

    async fn run<T>(&self, work: impl AsyncFnOnce(Engine<'_>) -> T) -> T {
        self.run_with(&Interrupt::default(), work).await
    }

    async fn run_with<T>(&self, interrupt: &Interrupt, work: impl AsyncFnOnce(Engine<'_>) -> T) -> T {
        let (guest, owner) = (FakeGuest::provisioned(), owner(1));
        work(Engine {
            store: &self.store,
            provider: &self.provider,
            guest: &guest,
            host_names: &self.provider,
            events: &NoEvents,
            interrupt,
            rescue: &NoEmergencyDump,
            owner: &owner,
            here: &goloo_testkit::samples::here(),
            limit: Duration::from_secs(1),
            follow_log: false,
        })
        .await
    }

    async fn clone(&self, source: &str, copy: &str) -> Result<Record, EngineError> {
        let by = creating(&name(source)).created_by;
        self.run(async |engine| engine.clone_vm(&name(source), &name(copy), &by).await)
            .await
            .map(|copy| copy.record)
    }

    /// A clone that the user interrupted before the machine was copied.
    async fn interrupted_clone(&self) {
        let interrupt = Interrupt::default();
        interrupt.raise();
        let by = creating(&name("devbox")).created_by;
        let clone = async |engine: Engine<'_>| engine.clone_vm(&name("devbox"), &name("copy"), &by).await;
        let stopped = self.run_with(&interrupt, clone).await;
        assert!(matches!(stopped, Err(EngineError::Midway { .. })), "{stopped:?}");
    }

    async fn resume(&self, vm: &str) -> Result<Resumed, EngineError> {
        let never = |_: &_, _: &_, _: &_| {
            Err(RebuildError { what: "there is no create".into(), hint: Hint::default() })
        };
        self.run(async |engine| engine.resume(&name(vm), None, ResumeInputs::of_create(&never)).await).await
    }

    async fn adopt(&self, vm: &str, id: &VmId) -> Result<Record, EngineError> {
        let request = AdoptRequest {
            name: name(vm),
            id: Some(id.to_string()),
            created_by: creating(&name(vm)).created_by,
            access: &|_| {
                Some(SshAccess {
                    user: login("ann"),
                    account: None,
                    login_problem: None,
                    host_key: HostKey::generate().public_openssh,
                    extra: Default::default(),
                })
            },
        };
        self.run(async |engine| engine.adopt(&request).await).await
    }
}

fn label(text: &str) -> SnapshotLabel {
    SnapshotLabel::parse(text).unwrap()
}

#[tokio::test]
async fn a_clone_has_the_config_of_its_source_and_its_own_identity() {
    let world = World::with_devbox().await;
    let copy = world.clone("devbox", "copy").await.unwrap();
    let source = world.record("devbox").await.unwrap();
    assert_eq!(world.record("copy").await.unwrap(), copy);
    assert_eq!(
        (&copy.stack, &copy.ssh, &copy.github_users, &copy.tags, copy.phase, &copy.operation),
        (&source.stack, &source.ssh, &source.github_users, &source.tags, Phase::Ready, &None)
    );
    let origin = copy.origin.unwrap();
    assert_eq!((origin.how, origin.from.as_str()), (OriginKind::Cloned, "devbox"));
    assert_ne!(copy.id, source.id);
    assert_ne!(copy.resources, source.resources);
    assert!(copy.endpoint.is_empty(), "it has no address before it starts");
    assert_eq!(world.store.snapshot(&name("copy")).await.unwrap(), snapshot());
}

#[tokio::test]
async fn a_refused_clone_claims_no_name() {
    let world = World::with_devbox().await;
    world.add("other").await;
    for taken in ["other", "devbox"] {
        let refused = world.clone("devbox", taken).await;
        assert!(matches!(refused, Err(EngineError::NameTaken { .. })), "{refused:?}");
    }
    world.run(async |engine| engine.start(&name("devbox")).await).await.unwrap();
    match world.clone("devbox", "copy").await {
        Err(EngineError::Provider { source: ProviderError::Unsupported { hint, .. }, .. }) => {
            assert_eq!(hint, NextStep::stop(&name("devbox")).into());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.record("copy").await, None);
    assert!(world.store.archive_list().await.unwrap().entries.is_empty());
    assert_eq!(world.provider.machines(), 2);
}

#[tokio::test]
async fn clone_locks_source_and_target() {
    let world = World::with_devbox().await;
    for held in ["devbox", "copy"] {
        let lock = world.store.lock(&name(held), &owner(2)).await.unwrap();
        let refused = world.clone("devbox", "copy").await;
        assert!(matches!(refused, Err(EngineError::Store(StoreError::Locked { .. }))), "{refused:?}");
        drop(lock);
    }
    world.clone("devbox", "copy").await.unwrap();
}

#[tokio::test]
async fn an_interrupted_clone_is_resumed_only_from_its_original_source() {
    let world = World::with_devbox().await;
    world.interrupted_clone().await;
    let unfinished = world.clone("copy", "third").await;
    assert!(
        matches!(unfinished, Err(EngineError::Unfinished { kind: OperationKind::Clone, .. })),
        "{unfinished:?}"
    );
    // It can't be resumed while its source is running, and trying does no harm.
    world.run(async |engine| engine.start(&name("devbox")).await).await.unwrap();
    let refused = world.resume("copy").await;
    assert!(matches!(refused, Err(EngineError::Provider { .. })), "{refused:?}");
    world.run(async |engine| engine.delete(&name("devbox"), None).await).await.unwrap();
    world.add("devbox").await;
    let refused = world.resume("copy").await;
    assert!(matches!(refused, Err(EngineError::Refused { .. })), "{refused:?}");
    assert_eq!(world.provider.machines(), 1);
    world.run(async |engine| engine.delete(&name("copy"), None).await).await.unwrap();
}

#[tokio::test]
async fn snapshots_require_the_lock_a_finished_machine_and_a_valid_label() {
    let world = World::with_devbox().await;
    let devbox = name("devbox");
    let take = async |text| world.run(async |engine| engine.take_snapshot(&devbox, &label(text)).await).await;
    take("a").await.unwrap();
    assert!(matches!(take("a").await, Err(EngineError::Snapshot { taken: true, .. })));
    let lock = world.store.lock(&devbox, &owner(2)).await.unwrap();
    assert!(matches!(take("b").await, Err(EngineError::Store(StoreError::Locked { .. }))));
    drop(lock);
    world
        .run(async |engine| {
            let missing = engine.restore_snapshot(&devbox, &label("b")).await;
            assert!(matches!(missing, Err(EngineError::Snapshot { taken: false, .. })), "{missing:?}");
            let missing = engine.remove_snapshot(&devbox, &label("b")).await;
            assert!(matches!(missing, Err(EngineError::Snapshot { taken: false, .. })), "{missing:?}");
            engine.restore_snapshot(&devbox, &label("a")).await.unwrap();
            engine.remove_snapshot(&devbox, &label("a")).await.unwrap();
            assert_eq!(engine.snapshots(&devbox).await.unwrap(), []);
            engine.start(&devbox).await.unwrap();
            let running = engine.take_snapshot(&devbox, &label("b")).await;
            assert!(matches!(running, Err(EngineError::Unrecorded(_))), "{running:?}");
        })
        .await;
    world.run(async |engine| engine.stop(&devbox, StopMode::Force).await).await.unwrap();
    world.interrupted_clone().await;
    let unfinished = world.run(async |engine| engine.take_snapshot(&name("copy"), &label("a")).await).await;
    assert!(matches!(unfinished, Err(EngineError::Unfinished { .. })), "{unfinished:?}");
}

#[tokio::test]
async fn an_adopted_machine_gets_one_record() {
    let world = World::with_devbox().await;
    let lost = world.machine_without_record("lost").await;
    let taken = world.adopt("devbox", &lost.id).await;
    assert!(matches!(taken, Err(EngineError::NameTaken { .. })), "{taken:?}");
    let adopted = world.adopt("found", &lost.id).await.unwrap();
    assert_eq!((&adopted.id, adopted.phase, &adopted.provisioning), (&lost.id, Phase::Ready, &None));
    let origin = adopted.origin.clone().unwrap();
    assert_eq!((origin.how, origin.from.as_str()), (OriginKind::Adopted, lost.id.as_str()));
    assert_eq!(adopted.ssh.as_ref().unwrap().user, "ann");
    assert!(adopted.address().is_some());
    match world.adopt("again", &lost.id).await {
        Err(EngineError::Refused { hint, .. }) => assert_eq!(hint, NextStep::Status(name("found")).into()),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.record("again").await, None);
    world.run(async |engine| engine.delete(&name("found"), None).await).await.unwrap();
    assert_eq!(world.provider.machines(), 1, "it is goloo's from now on");
}

#[tokio::test]
async fn adopts_never_run_concurrently() {
    let world = World::default();
    let lost = world.machine_without_record("lost").await;
    let lock = world.store.lock(&goloo_engine::adopt_lock(), &owner(2)).await.unwrap();
    let refused = world.adopt("found", &lost.id).await;
    assert!(matches!(refused, Err(EngineError::Store(StoreError::Locked { .. }))), "{refused:?}");
    drop(lock);
    let vm = world.store.lock(&name("goloo-adopt"), &owner(2)).await.unwrap();
    world.adopt("found", &lost.id).await.unwrap();
    drop(vm);
    goloo_model::name::VmName::parse(goloo_engine::adopt_lock().as_str()).unwrap_err();
}

#[tokio::test]
async fn an_interrupted_suspend_is_resumed_as_suspend() {
    let world = World::with_devbox().await;
    let devbox = name("devbox");
    let mut lock = world.store.lock(&devbox, &owner(1)).await.unwrap();
    let mut record = lock.load().await.unwrap().unwrap().record;
    let mut operation = creating(&devbox).operation.unwrap();
    operation.kind = OperationKind::Suspend;
    record.operation = Some(operation);
    record.prove_operation(&here());
    lock.save(&mut record).await.unwrap();
    drop(lock);
    let resumed = world.resume("devbox").await.unwrap();
    assert!(matches!(resumed, Resumed::Power(OperationKind::Suspend)), "{resumed:?}");
    assert_eq!(world.provider.last_stop(), Some(StopMode::Suspend));
}

#[tokio::test]
async fn an_interrupted_stop_or_restart_is_resumed_with_its_force_option() {
    for kind in [OperationKind::Stop, OperationKind::Restart] {
        for (force, mode) in [(true, StopMode::Force), (false, StopMode::Graceful)] {
            let world = World::with_devbox().await;
            let mut lock = world.store.lock(&name("devbox"), &owner(1)).await.unwrap();
            let mut record = lock.load().await.unwrap().unwrap().record;
            let operation = creating(&name("devbox")).operation.unwrap();
            record.operation = Some(Operation { kind, force, inputs: None, ..operation });
            record.prove_operation(&here());
            lock.save(&mut record).await.unwrap();
            drop(lock);
            world.resume("devbox").await.unwrap();
            assert_eq!(world.provider.last_stop(), Some(mode), "{kind}");
        }
    }
}

#[tokio::test]
async fn operations_refuse_a_vm_of_another_host_and_leave_it_unchanged() {
    let world = World::with_devbox().await;
    let mut lock = world.store.lock(&name("devbox"), &owner(1)).await.unwrap();
    let mut record = lock.load().await.unwrap().unwrap().record;
    record.created_by.host_id = "another".into();
    lock.save(&mut record).await.unwrap();
    drop(lock);
    let vm = &name("devbox");
    let refused = [
        world.run(async |engine| engine.start(vm).await).await.map(drop),
        world.run(async |engine| engine.stop(vm, StopMode::Force).await).await.map(drop),
        world.run(async |engine| engine.restart(vm, StopMode::Force).await).await.map(drop),
        world.run(async |engine| engine.delete(vm, None).await).await.map(drop),
        world.run(async |engine| engine.wait(vm).await).await.map(drop),
        world.run(async |engine| engine.snapshots(vm).await).await.map(drop),
        world.run(async |engine| engine.take_snapshot(vm, &label("one")).await).await,
        world.run(async |engine| engine.restore_snapshot(vm, &label("one")).await).await,
        world.run(async |engine| engine.remove_snapshot(vm, &label("one")).await).await,
        world.clone("devbox", "copy").await.map(drop),
        world.resume("devbox").await.map(drop),
    ];
    for result in refused {
        assert!(
            matches!(&result, Err(EngineError::Elsewhere { place: ForeignOwner::Host { host }, .. }) if *host == "laptop"),
            "{result:?}"
        );
    }
    assert_eq!((world.record("devbox").await.unwrap(), world.provider.machines()), (record, 1));
}

#[tokio::test]
async fn delete_refuses_a_record_changed_after_its_confirmation() {
    let world = World::with_devbox().await;
    let agreed = world.record("devbox").await.unwrap();
    let mut lock = world.store.lock(&name("devbox"), &owner(1)).await.unwrap();
    let mut record = lock.load().await.unwrap().unwrap().record;
    record.github_users = vec!["mallory".to_owned()];
    lock.save(&mut record).await.unwrap();
    drop(lock);
    let refused = world.run(async |engine| engine.delete(&name("devbox"), Some(&agreed)).await).await;
    assert!(refused.unwrap_err().to_string().contains("was changed in the meantime"));
    let agreed = world.record("devbox").await.unwrap();
    // Only the serial and the phase differ, as if someone had protected the VM and unprotected it again.
    let reported = Record { serial: 1, phase: Phase::Degraded, ..agreed };
    world.run(async |engine| engine.delete(&name("devbox"), Some(&reported)).await).await.unwrap();
}

#[tokio::test]
async fn an_unusable_record_is_refused_before_the_provider_is_called() {
    for (is_full, said) in [(false, "was changed in the meantime"), (true, "can't be saved again")] {
        let world = World::with_devbox().await;
        let mut record = world.record("devbox").await.unwrap();
        if is_full {
            (record.name, record.id, record.serial) = (name("full"), VmId::generate(), SERIAL_MAX);
        }
        let (vm, before) = (&record.name.clone(), world.provider.last_stop());
        let mut lock = world.store.lock(vm, &owner(1)).await.unwrap();
        if is_full {
            lock.put(&record, &snapshot()).await.unwrap();
        } else {
            record.provider = goloo_testkit::providers::MULTIPASS.id;
            lock.save(&mut record).await.unwrap();
        }
        drop(lock);
        for refused in [
            world.run(async |engine| engine.stop(vm, StopMode::Force).await).await.map(drop),
            world.run(async |engine| engine.delete(vm, None).await).await.map(drop),
        ] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(world.provider.last_stop(), before);
    }
}
