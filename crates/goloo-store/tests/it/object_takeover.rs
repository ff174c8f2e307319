//! A lock that was taken over: the engine inspects the machine first, and reports the former holder.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use crate::object_common::{Memory, fast};
use goloo_engine::{EmergencyDump, Engine, EngineError, Interrupt};
use goloo_model::events::{Event, EventContext, Events};
use goloo_model::name::VmName;
use goloo_model::provider::StopMode;
use goloo_model::record::{OperationKind, Phase, Record};
use goloo_model::store::Store;
use goloo_store::object::ObjectStore;
use goloo_testkit::fake_provider::{FakeGuest, FakeProvider};
use goloo_testkit::samples::{creating, name, owner, ready, snapshot};
use goloo_testkit::store_suite::run;

struct NoEmergencyDump;

impl EmergencyDump for NoEmergencyDump {
    fn keep(&self, _: &VmName, _: &[u8]) -> io::Result<PathBuf> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<Event>>);

impl Events for Heard {
    fn receive(&self, _: &EventContext, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Heard {
    fn warnings(&self) -> Vec<String> {
        let warning = |event: &Event| match event {
            Event::Warning(text) => Some(text.clone()),
            _ => None,
        };
        self.0.lock().unwrap().iter().filter_map(warning).collect()
    }
}

/// Leaves a record whose writer's lock was broken.
fn taken_from_owner_1(store: &ObjectStore, mut record: Record) {
    let vm = record.name.clone();
    let mut lock = run(store.lock(&vm, &owner(1))).unwrap();
    run(lock.create(&mut record, &snapshot())).unwrap();
    run(store.break_lock(&vm)).unwrap().unwrap();
}

fn stop(store: &ObjectStore, events: &Heard) -> Result<Record, EngineError> {
    let (provider, guest, me) = (FakeProvider::default(), FakeGuest::provisioned(), owner(2));
    let engine = Engine {
        store,
        provider: &provider,
        guest: &guest,
        host_names: &provider,
        events,
        interrupt: &Interrupt::default(),
        rescue: &NoEmergencyDump,
        owner: &me,
        here: &goloo_testkit::samples::here(),
        limit: Duration::from_secs(1),
        follow_log: false,
    };
    run(engine.stop(&name("devbox"), StopMode::Force))
}

#[test]
fn a_takeover_names_the_former_owner_and_its_unfinished_operation() {
    let (bucket, heard) = (Memory::new(), Heard::default());
    let store = bucket.open(fast());
    taken_from_owner_1(&store, creating(&name("devbox")));
    let refused = stop(&store, &heard);
    let kind = OperationKind::Create;
    assert!(matches!(refused, Err(EngineError::Unfinished { kind: found, .. }) if found == kind));
    let [warning] = heard.warnings().try_into().unwrap();
    assert_eq!(
        warning,
        "the lock of \"devbox\" was taken over from ann on laptop (pid 1); \
         the create in progress is treated as interrupted"
    );
    // The machine was inspected.
    assert!(heard.0.lock().unwrap().contains(&Event::Note("\"devbox\" is missing".to_owned())));
}

#[test]
fn a_released_lock_is_acquired_without_a_warning() {
    let (bucket, heard) = (Memory::new(), Heard::default());
    let store = bucket.open(fast());
    let devbox = name("devbox");
    let mut record = Record { phase: Phase::Ready, ..ready(&devbox) };
    run(run(store.lock(&devbox, &owner(1))).unwrap().create(&mut record, &snapshot())).unwrap();
    let _ = stop(&store, &heard);
    assert_eq!(heard.warnings(), [""; 0]);
}
