//! Records for machines that goloo didn't create.
use std::time::Duration;

use crate::common::NoEmergencyDump;
use goloo_engine::{Engine, EngineError, Interrupt, register};
use goloo_model::events::NoEvents;
use goloo_model::name::VmId;
use goloo_model::record::{Extra, Origin, OriginKind, Phase, Record};
use goloo_model::store::{Store, StoreError};
use goloo_model::time::Timestamp;
use goloo_testkit::fake_provider::{FakeGuest, FakeProvider};
use goloo_testkit::memory_store::MemoryStore;
use goloo_testkit::samples::{here, in_aws, name, owner, ready, snapshot};
use goloo_testkit::store_suite::run;

fn from(record: Record, how: OriginKind, from: &str) -> Record {
    let origin = Origin { how, from: from.into(), checked: true, export: None, extra: Extra::new() };
    Record { origin: Some(origin), ..record }
}

fn migrated(place: &str) -> Record {
    from(ready(&name("devbox")), OriginKind::Migrated, place)
}

fn put(store: &MemoryStore, record: &Record) -> Result<Record, EngineError> {
    run(register(store, &owner(1), &here(), record.clone(), &snapshot()))
}

fn delete(store: &MemoryStore, record: &Record) {
    run(async {
        let mut lock = store.lock(&record.name, &owner(1)).await.unwrap();
        let mut record = Record { phase: Phase::Destroyed, ..record.clone() };
        lock.archive(&mut record, Timestamp::now()).await.unwrap();
    });
}

#[test]
fn record_and_snapshot_appear_together() {
    let store = MemoryStore::default();
    let made = put(&store, &migrated("/old/config.json")).unwrap();
    assert_eq!(made.serial, 1);
    assert_eq!(run(store.load(&made.name)).unwrap().unwrap().record, made);
    assert_eq!(run(store.snapshot(&made.name)).unwrap(), snapshot());
}

#[test]
fn an_existing_name_is_refused_and_its_record_kept() {
    let store = MemoryStore::default();
    let first = put(&store, &ready(&name("devbox"))).unwrap();
    let refused = put(&store, &migrated("/old/config.json")).unwrap_err();
    assert!(matches!(refused, EngineError::NameTaken { .. }), "{refused}");
    assert_eq!(run(store.load(&first.name)).unwrap().unwrap().record, first);
}

#[test]
fn a_held_lock_is_reported() {
    let store = MemoryStore::default();
    let held = run(store.lock(&name("devbox"), &owner(2))).unwrap();
    let refused = put(&store, &migrated("/old/config.json")).unwrap_err();
    assert!(matches!(refused, EngineError::Store(StoreError::Locked { .. })), "{refused}");
    drop(held);
    put(&store, &migrated("/old/config.json")).unwrap();
}

#[test]
fn a_migrated_and_deleted_vm_is_not_imported_again() {
    let store = MemoryStore::default();
    let first = put(&store, &migrated("/old/config.json")).unwrap();
    delete(&store, &first);
    let again = Record { id: VmId::generate(), serial: 0, ..first };
    let refused = put(&store, &again).unwrap_err();
    assert!(matches!(refused, EngineError::Refused { .. }), "{refused}");
    assert!(run(store.load(&name("devbox"))).unwrap().is_none());
}

#[test]
fn a_local_machine_from_another_config_is_a_different_machine() {
    let store = MemoryStore::default();
    let first = put(&store, &migrated("/old/config.json")).unwrap();
    delete(&store, &first);
    let other = from(Record { serial: 0, ..first }, OriginKind::Migrated, "/other/config.json");
    put(&store, &other).unwrap();
}

#[test]
fn a_deleted_aws_stack_is_recognized_after_its_config_moved() {
    let store = MemoryStore::default();
    let stack = goloo_model::record::Resource {
        kind: "cloudformation-stack".into(),
        id: "arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-web/1".into(),
        ..resource()
    };
    let vm = Record { resources: vec![stack], ..in_aws(&name("web")) };
    let first = put(&store, &from(vm, OriginKind::Migrated, "/old/config.json")).unwrap();
    delete(&store, &first);
    let moved = from(Record { serial: 0, ..first }, OriginKind::Migrated, "/moved/config.json");
    put(&store, &moved).unwrap_err();
}

fn resource() -> goloo_model::record::Resource {
    ready(&name("devbox")).resources.remove(0)
}

#[test]
fn a_local_machine_on_another_host_is_a_different_machine() {
    let store = MemoryStore::default();
    let first = put(&store, &migrated("/old/config.json")).unwrap();
    delete(&store, &first);
    let mut other = Record { serial: 0, ..first };
    other.created_by.host_id = "another".into();
    put(&store, &other).unwrap();
}

#[test]
fn a_machine_can_be_adopted_again_after_its_record_is_deleted() {
    let store = MemoryStore::default();
    let adopted = from(ready(&name("devbox")), OriginKind::Adopted, "devbox");
    let first = put(&store, &adopted).unwrap();
    delete(&store, &first);
    put(&store, &Record { serial: 0, ..first }).unwrap();
}

#[test]
fn waiting_for_a_machine_without_a_key_keeps_it_ready() {
    let store = MemoryStore::default();
    let made =
        put(&store, &Record { ssh: None, provisioning: None, ..migrated("/old/config.json") }).unwrap();
    let (provider, guest) = (FakeProvider::default(), FakeGuest::provisioned());
    let (interrupt, owner) = (Interrupt::default(), owner(1));
    let engine = Engine {
        store: &store,
        provider: &provider,
        guest: &guest,
        host_names: &provider,
        events: &NoEvents,
        interrupt: &interrupt,
        rescue: &NoEmergencyDump,
        owner: &owner,
        here: &goloo_testkit::samples::here(),
        limit: Duration::from_secs(1),
        follow_log: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (after, _) = runtime.block_on(engine.wait(&made.name)).unwrap();
    assert_eq!((after.phase, after.provisioning), (Phase::Ready, None));
}
