//! Random operations by two handles on a few names, compared with a model of a dozen lines: the folder, the
//! SQLite file, the in-memory store, and the object store in memory and on an S3 emulator.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::object_common::{Memory, S3};
use goloo_model::name::ArchiveId;
use goloo_model::record::{Phase, Record};
use goloo_model::store::{Archived, Snapshot, Store, StoreError};
use goloo_model::time::Timestamp;
use goloo_store::object::{self, ObjectStore};
use goloo_store::{DirStore, Options, SqliteStore};
use goloo_testkit::memory_store::MemoryStore;
use goloo_testkit::samples::{name, owner, ready, snapshot};
use goloo_testkit::store_suite::run;
use proptest::prelude::*;
use tempfile::TempDir;

const NAMES: [&str; 3] = ["a", "web", "web-1"];

/// One step; the numbers choose a name, a handle, or an entry of the archive.
#[derive(Debug, Clone)]
enum Step {
    Create {
        name: usize,
    },
    Save {
        name: usize,
        stack: String,
    },
    /// With the record as of an earlier step.
    SaveStale {
        name: usize,
    },
    Archive {
        name: usize,
    },
    Remove {
        which: usize,
    },
    LockTwice {
        name: usize,
    },
    /// From another store: the same VM with this many more saves, or another VM.
    Put {
        name: usize,
        further: u64,
        same: bool,
    },
    /// The same for an entry of the archive, or a new one if the archive is empty.
    PutArchived {
        which: usize,
        further: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let name = 0..NAMES.len();
    let step = prop_oneof![
        3 => name.clone().prop_map(|name| Step::Create { name }),
        4 => (name.clone(), "[a-z\"\n]{0,40}").prop_map(|(name, stack)| Step::Save { name, stack }),
        1 => name.clone().prop_map(|name| Step::SaveStale { name }),
        2 => name.clone().prop_map(|name| Step::Archive { name }),
        1 => (0..8usize).prop_map(|which| Step::Remove { which }),
        1 => name.clone().prop_map(|name| Step::LockTwice { name }),
        2 => (name, 0..3u64, prop::bool::weighted(0.8))
            .prop_map(|(name, further, same)| Step::Put { name, further, same }),
        1 => (0..8usize, 0..3u64).prop_map(|(which, further)| Step::PutArchived { which, further }),
    ];
    prop::collection::vec((0..2usize, step), 1..40)
}

#[derive(Default)]
struct Model {
    active: BTreeMap<&'static str, Record>,
    stale: BTreeMap<&'static str, Record>,
    archive: BTreeMap<ArchiveId, Record>,
    clock: i64,
}

async fn take(model: &mut Model, store: &dyn Store, step: Step) {
    match step {
        Step::Create { name: n } => {
            let vm = name(NAMES[n]);
            let mut record = ready(&vm);
            let done = store.lock(&vm, &owner(1)).await.unwrap().create(&mut record, &snapshot()).await;
            match model.active.get(NAMES[n]) {
                Some(_) => assert!(matches!(done, Err(StoreError::NameTaken { .. })), "{done:?}"),
                None => {
                    done.unwrap();
                    model.active.insert(NAMES[n], record);
                }
            }
        }
        Step::Save { name: n, stack } => {
            let vm = name(NAMES[n]);
            let mut lock = store.lock(&vm, &owner(1)).await.unwrap();
            let Some(known) = model.active.get_mut(NAMES[n]) else {
                let done = lock.save(&mut Record { serial: 1, ..ready(&vm) }).await;
                return assert!(matches!(done, Err(StoreError::NotFound { .. })), "{done:?}");
            };
            model.stale.insert(NAMES[n], known.clone());
            known.stack = stack.into();
            let serial = known.serial;
            lock.save(known).await.unwrap();
            assert_eq!(known.serial, serial + 1);
        }
        Step::SaveStale { name: n } => {
            let Some(mut stale) = model.stale.get(NAMES[n]).cloned() else { return };
            let done = store.lock(&name(NAMES[n]), &owner(1)).await.unwrap().save(&mut stale).await;
            let refused = matches!(done, Err(StoreError::Stale { .. } | StoreError::NotFound { .. }));
            assert!(refused, "{done:?}");
        }
        Step::Archive { name: n } => {
            let Some(mut record) = model.active.remove(NAMES[n]) else { return };
            record.phase = Phase::Destroyed;
            model.clock += 1;
            let at = Timestamp::from_unix(1_738_368_000 + model.clock).unwrap();
            let mut lock = store.lock(&name(NAMES[n]), &owner(1)).await.unwrap();
            let id = lock.archive(&mut record, at).await.unwrap();
            model.archive.insert(id, record);
        }
        Step::Remove { which } => {
            let Some(id) = model.archive.keys().nth(which).cloned() else { return };
            store.archive_delete(&id, &owner(1)).await.unwrap();
            model.archive.remove(&id);
        }
        Step::LockTwice { name: n } => {
            let _held = store.lock(&name(NAMES[n]), &owner(1)).await.unwrap();
            assert!(matches!(store.lock(&name(NAMES[n]), &owner(2)).await, Err(StoreError::Locked { .. })));
        }
        Step::Put { name: n, further, same } => {
            let vm = name(NAMES[n]);
            let known = model.active.get(NAMES[n]);
            let record = match known.filter(|_| same) {
                // `further` is 0 for an older one, 1 for the same, 2 for a newer one.
                Some(known) => Record { serial: known.serial + further - 1, ..known.clone() },
                None => Record { serial: further + 1, ..ready(&vm) },
            };
            let done = store.lock(&vm, &owner(1)).await.unwrap().put(&record, &snapshot()).await;
            match known {
                Some(_) if !same => assert!(matches!(done, Err(StoreError::NameTaken { .. })), "{done:?}"),
                Some(_) if further == 0 => {
                    assert!(matches!(done, Err(StoreError::Stale { .. })), "{done:?}");
                }
                _ => {
                    done.unwrap();
                    model.stale.remove(NAMES[n]);
                    model.active.insert(NAMES[n], record);
                }
            }
        }
        Step::PutArchived { which, further } => {
            let archived = match model.archive.iter().nth(which) {
                Some((id, known)) => {
                    let record = Record { serial: known.serial + further - 1, ..known.clone() };
                    Archived { id: id.clone(), deleted_at: id.deleted_at(), record }
                }
                None => {
                    let record = Record { serial: 7, phase: Phase::Destroyed, ..ready(&name("gone")) };
                    let deleted_at = Timestamp::from_unix(1_700_000_000).unwrap();
                    Archived { id: ArchiveId::new(&record.name, deleted_at, &record.id), deleted_at, record }
                }
            };
            let done = store.archive_put(&archived, &snapshot()).await;
            if further == 0 && model.archive.contains_key(&archived.id) {
                return assert!(matches!(done, Err(StoreError::Stale { .. })), "{done:?}");
            }
            done.unwrap();
            model.archive.insert(archived.id, archived.record);
        }
    }
}

async fn compare(model: &Model, store: &dyn Store) {
    for vm in NAMES {
        let found = store.load(&name(vm)).await.unwrap().map(|loaded| loaded.record);
        assert_eq!(found.as_ref(), model.active.get(vm));
        let snapshot_found = store.snapshot(&name(vm)).await.ok();
        assert_eq!(snapshot_found, model.active.get(vm).map(|_| snapshot()));
    }
    assert_eq!(store.names().await.unwrap(), model.active.keys().copied().collect::<Vec<_>>());
    let expected: Vec<_> = model.active.values().map(goloo_model::store::Summary::from).collect();
    assert_eq!(store.list().await.unwrap().entries, expected);
    let archived = store.archive_list().await.unwrap();
    assert!(archived.broken.is_empty());
    let archived: BTreeMap<_, _> = archived.entries.into_iter().map(|a| (a.id, a.record)).collect();
    assert_eq!(archived, model.archive);
    for id in model.archive.keys() {
        let found: Snapshot = store.archive_snapshot(id).await.unwrap();
        assert_eq!(found, snapshot());
    }
}

fn check(handles: [&dyn Store; 2], steps: Vec<(usize, Step)>) {
    let mut model = Model::default();
    run(async {
        for (handle, step) in steps {
            take(&mut model, handles[handle], step).await;
            // Each handle sees the other's changes.
            compare(&model, handles[1 - handle]).await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_folder_store_matches_the_model(steps in steps()) {
        let folder = TempDir::new().unwrap();
        let open = || DirStore::open(&folder.path().join("goloo"), Options::default());
        check([&open(), &open()], steps);
    }

    #[test]
    fn the_sqlite_store_matches_the_model(steps in steps()) {
        let folder = TempDir::new().unwrap();
        let open = || SqliteStore::open(&folder.path().join("goloo.db"), Options::default());
        check([&open(), &open()], steps);
    }

    #[test]
    fn the_memory_store_matches_the_model(steps in steps()) {
        let store = MemoryStore::default();
        check([&store, &store.clone()], steps);
    }

    #[test]
    fn the_object_store_in_memory_matches_the_model(steps in steps()) {
        let bucket = Memory::new();
        let open = || bucket.open(object::Options::default());
        check([&open(), &open()], steps);
    }
}

/// One emulator for all cases, each in a separate folder: emulators start slowly.
fn on_emulator(s3: &S3, open: impl Fn(&S3) -> ObjectStore) {
    let count = Cell::new(0);
    let config = ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in steps())| {
        count.set(count.get() + 1);
        let place = s3.beside(&format!("case-{}", count.get()));
        check([&open(&place), &open(&place)], steps);
    });
}

#[test]
fn emulator_the_object_store_on_ministack_matches_the_model() {
    on_emulator(&S3::ministack(), |s3| s3.open_with_deletes(object::Options::default()));
}

#[test]
fn emulator_the_object_store_on_moto_matches_the_model() {
    on_emulator(&S3::moto(), |s3| s3.open(object::Options::default()));
}
