//! Crashes and failing disks: regardless of the operation at which they occur, nothing acknowledged is lost,
//! nothing is incomplete, and the next run can continue.
use std::path::Path;
use std::sync::Arc;

use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{Overrides, Phase, Record, Reprovisioned, to_json};
use goloo_model::store::{Snapshot, Store, StoreError};
use goloo_store::dir::fs::Fs;
use goloo_store::{DirStore, Options};
use goloo_testkit::samples::{creating, name, owner, ready, snapshot, time};
use goloo_testkit::sim_fs::{Crash, EACCES, EIO, ENOSPC, Fault, SimFs};
use goloo_testkit::store_suite::run;

const ROOT: &str = "/home/ann/goloo";
const AT: &str = "2025-02-01T00:00:00Z";

fn store(disk: &SimFs) -> DirStore {
    DirStore::with_fs(Path::new(ROOT), Options::default(), Arc::new(disk.clone()))
}

fn devbox() -> VmName {
    name("devbox")
}

/// Every kind of power loss, and many random variants of the random one.
fn crashes() -> Vec<Crash> {
    [Crash::Lost, Crash::Kept].into_iter().chain((1..=12).map(Crash::Mixed)).collect()
}

/// One of each kind, for crashes during recovery from a crash.
const CRASHES: [Crash; 3] = [Crash::Lost, Crash::Kept, Crash::Mixed(1)];

// Operations, each with the record as its caller holds it.

type Outcome<T> = Result<T, StoreError>;

fn create(disk: &SimFs, record: &mut Record) -> Outcome<()> {
    run(async { store(disk).lock(&devbox(), &owner(1)).await?.create(record, &snapshot()).await })
}

fn save(disk: &SimFs, record: &mut Record) -> Outcome<()> {
    run(async { store(disk).lock(&devbox(), &owner(1)).await?.save(record).await })
}

fn archive(disk: &SimFs, record: &mut Record) -> Outcome<ArchiveId> {
    record.phase = Phase::Destroyed;
    run(async { store(disk).lock(&devbox(), &owner(1)).await?.archive(record, time(AT)).await })
}

fn archive_delete(disk: &SimFs, id: &ArchiveId) -> Outcome<()> {
    run(store(disk).archive_delete(id, &owner(1)))
}

// Stored state.

fn load(disk: &SimFs) -> Option<Record> {
    let loaded = run(store(disk).load(&devbox())).unwrap()?;
    assert_eq!(loaded.recovered, None, "a sound disk needs no recovery");
    Some(loaded.record)
}

fn archived(disk: &SimFs) -> Vec<Record> {
    let listing = run(store(disk).archive_list()).unwrap();
    assert_eq!(listing.broken, []);
    listing.entries.into_iter().map(|archived| archived.record).collect()
}

fn assert_sound(disk: &SimFs) {
    let listing = run(store(disk).list()).unwrap();
    assert_eq!(listing.broken, []);
    archived(disk);
}

fn active_snapshot(disk: &SimFs) -> Snapshot {
    run(store(disk).snapshot(&devbox())).unwrap()
}

/// A durable disk with a VM's record that has been saved before, so that there is a previous version.
fn with_vm() -> (SimFs, Record) {
    let disk = SimFs::new();
    let mut record = ready(&devbox());
    create(&disk, &mut record).unwrap();
    save(&disk, &mut record).unwrap();
    (disk, record)
}

/// Crashes before every operation of `act`, followed by every kind of power loss, and checks the remaining
/// disk. In a last round `act` completes, and the power fails right then.
fn at_every_stop<T>(
    disk: &SimFs,
    crashes: &[Crash],
    act: impl Fn(&SimFs) -> Outcome<T>,
    mut check: impl FnMut(&SimFs, Outcome<T>, &str),
) {
    let whole = disk.crash(Crash::Kept);
    act(&whole).unwrap();
    let operations = whole.operations();
    assert!(operations > 2, "it does something: {operations}");
    for stop in 0..=operations {
        for &crash in crashes {
            let disk = disk.crash(Crash::Kept);
            disk.stop_after(stop);
            let outcome = act(&disk);
            assert_eq!(outcome.is_ok(), stop == operations, "a dead process reports nothing");
            check(&disk.crash(crash), outcome, &format!("stopped before operation {stop}, {crash:?}"));
        }
    }
}

// Crashes.

/// The name is either completely claimed or free, and the next run can claim or use it.
fn after_create(disk: &SimFs, first: &Record, acknowledged: bool, at: &str) {
    assert_sound(disk);
    match load(disk) {
        Some(found) => {
            assert_eq!(found, Record { serial: 1, ..first.clone() }, "{at}");
            assert_eq!(active_snapshot(disk), snapshot(), "{at}");
            let mut found = found;
            save(disk, &mut found).unwrap();
            assert_eq!(found.serial, 2, "{at}");
        }
        None => {
            assert!(!acknowledged, "an acknowledged claim is gone: {at}");
            create(disk, &mut creating(&devbox())).unwrap();
        }
    }
    let leftovers: Vec<_> = disk.files().into_iter().filter(|file| file.contains("/.")).collect();
    assert_eq!(leftovers, Vec::<String>::new(), "{at}");
    assert_sound(&disk.crash(Crash::Lost));
    assert!(load(&disk.crash(Crash::Lost)).is_some(), "the next run's claim is not durable: {at}");
}

#[test]
fn a_create_killed_at_any_call_is_atomic() {
    let first = creating(&devbox());
    at_every_stop(
        &SimFs::new(),
        &crashes(),
        |disk| create(disk, &mut first.clone()),
        |disk, outcome, at| after_create(disk, &first, outcome.is_ok(), at),
    );
}

#[test]
fn a_create_after_a_killed_create_may_be_killed_at_any_call() {
    let first = creating(&devbox());
    let act = |disk: &SimFs| create(disk, &mut first.clone());
    at_every_stop(&SimFs::new(), &CRASHES, act, |disk, _, at| {
        if load(disk).is_some() {
            return;
        }
        at_every_stop(disk, &CRASHES, act, |disk, outcome, then| {
            after_create(disk, &first, outcome.is_ok(), &format!("{at}; then {then}"));
        });
    });
}

#[test]
fn a_save_killed_at_any_call_leaves_the_old_or_the_new_record() {
    let (disk, old) = with_vm();
    let act = |disk: &SimFs| {
        let mut new = Record { stack: "new".into(), ..old.clone() };
        new.extra.insert("filler".into(), "new".repeat(2000).into());
        save(disk, &mut new).map(|()| new)
    };
    at_every_stop(&disk, &crashes(), act, |disk, outcome, at| {
        assert_sound(disk);
        assert_eq!(active_snapshot(disk), snapshot(), "{at}");
        let mut found = load(disk).unwrap();
        match outcome {
            Ok(new) => assert_eq!(found, new, "{at}"),
            Err(_) if found.serial == old.serial => assert_eq!(found, old, "{at}"),
            Err(_) => assert_eq!((found.serial, found.stack.as_str()), (old.serial + 1, "new"), "{at}"),
        }
        let before = found.serial;
        save(disk, &mut found).unwrap();
        assert_eq!(found.serial, before + 1);
        assert_eq!(load(&disk.crash(Crash::Lost)).unwrap(), found, "{at}");
    });
}

/// Files that replace a snapshot, and the record that names them.
fn reprovisioned(old: &Record, document: &str) -> (Record, Snapshot) {
    let files = [("config.json", "{}"), ("cloud-init.yaml", document)];
    let files = files.map(|(file, text)| (file.to_owned(), text.as_bytes().to_vec()));
    let snapshot = Snapshot { files: files.into() };
    let reprovisioned = Reprovisioned {
        files: snapshot.digest(),
        overrides: Overrides::default(),
        extra: serde_json::Map::new(),
    };
    (Record { reprovisioned: Some(reprovisioned), ..old.clone() }, snapshot)
}

fn save_with_snapshot(disk: &SimFs, record: &mut Record, snapshot: &Snapshot) -> Outcome<()> {
    run(async { store(disk).lock(&devbox(), &owner(1)).await?.save_with_snapshot(record, snapshot).await })
}

#[test]
fn a_replacement_of_the_snapshot_killed_at_any_call_leaves_both_old_or_both_new() {
    let (disk, old) = with_vm();
    let (new, files) = reprovisioned(&old, "#cloud-config\n");
    let act = |disk: &SimFs| save_with_snapshot(disk, &mut new.clone(), &files);
    let check = |disk: &SimFs, outcome: Outcome<()>, at: &str| {
        assert_sound(disk);
        let found = load(disk).unwrap();
        match found.reprovisioned {
            None => {
                assert!(outcome.is_err(), "an acknowledged replacement is gone: {at}");
                assert_eq!((found == old, active_snapshot(disk)), (true, snapshot()), "{at}");
            }
            Some(_) => {
                assert_eq!((found.serial, active_snapshot(disk)), (old.serial + 1, files.clone()), "{at}")
            }
        }
        // The next one, with the same files or others, is durable.
        let found = load(disk).unwrap();
        for document in ["#cloud-config\n", "other"] {
            let (mut next, files) =
                reprovisioned(&Record { serial: found.serial, ..found.clone() }, document);
            next.serial = load(disk).unwrap().serial;
            save_with_snapshot(disk, &mut next, &files).unwrap();
            let after = disk.crash(Crash::Lost);
            assert_eq!((load(&after).unwrap(), active_snapshot(&after)), (next, files), "{at}");
        }
    };
    at_every_stop(&disk, &crashes(), act, check);
    at_every_fault(&disk, act, |disk, _, at| {
        let found = load(disk).unwrap();
        let expected = if found.reprovisioned.is_some() { files.clone() } else { snapshot() };
        assert_eq!(active_snapshot(disk), expected, "{at}");
    });
}

#[test]
fn a_save_after_a_killed_save_may_be_killed_at_any_call() {
    let (disk, old) = with_vm();
    let next = |disk: &SimFs| {
        let mut record = load(disk).unwrap();
        save(disk, &mut record).map(|()| record)
    };
    at_every_stop(&disk, &CRASHES, next, |disk, _, _| {
        let between = load(disk).unwrap();
        assert!(between.serial >= old.serial);
        at_every_stop(disk, &CRASHES, next, |disk, outcome, at| {
            assert_sound(disk);
            let found = load(disk).unwrap();
            assert!(found.serial >= outcome.map_or(between.serial, |new| new.serial), "{at}");
        });
    });
}

/// The VM is active or in the archive, and once it is destroyed and the lock was taken again, its name can be
/// reused.
fn after_archive(disk: &SimFs, old: &Record, acknowledged: bool, at: &str) {
    assert_sound(disk);
    let known = archived(disk).len();
    assert!(!acknowledged || known == 1, "an acknowledged archive isn't in the archive: {at}");
    assert!(!acknowledged || load(disk).is_none(), "{at}");
    assert_ne!(load(disk).is_some(), known == 1, "it is active or archived, at any moment: {at}");
    match load(disk) {
        Some(mut found) => {
            assert_eq!((found.id == old.id, known), (true, 0), "{at}");
            archive(disk, &mut found).unwrap();
        }
        None => drop(run(store(disk).lock(&devbox(), &owner(1))).unwrap()),
    }
    let archive = archived(disk);
    assert_eq!(archive.len(), 1, "{at}");
    assert_eq!((&archive[0].id, archive[0].phase), (&old.id, Phase::Destroyed), "{at}");
    let id = run(store(disk).archive_list()).unwrap().entries[0].id.clone();
    assert_eq!(run(store(disk).archive_snapshot(&id)).unwrap(), snapshot(), "{at}");
    create(disk, &mut creating(&devbox())).unwrap();
    assert!(load(disk).unwrap().id != old.id, "{at}");
}

#[test]
fn an_archive_killed_at_any_call_is_completed() {
    let (disk, old) = with_vm();
    at_every_stop(
        &disk,
        &crashes(),
        |disk| archive(disk, &mut old.clone()),
        |disk, outcome, at| after_archive(disk, &old, outcome.is_ok(), at),
    );
}

#[test]
fn completing_a_killed_archive_may_be_killed_at_any_call() {
    let (disk, old) = with_vm();
    // The state after a process died between the save and the move.
    save(&disk, &mut Record { phase: Phase::Destroyed, ..old.clone() }).unwrap();
    let next_lock = |disk: &SimFs| run(store(disk).lock(&devbox(), &owner(1))).map(drop);
    at_every_stop(&disk, &crashes(), next_lock, |disk, outcome, at| {
        after_archive(disk, &old, outcome.is_ok(), at);
    });
}

#[test]
fn an_archive_delete_killed_at_any_call_is_atomic() {
    let (disk, mut old) = with_vm();
    let id = archive(&disk, &mut old).unwrap();
    at_every_stop(
        &disk,
        &crashes(),
        |disk| archive_delete(disk, &id),
        |disk, outcome, at| {
            assert_sound(disk);
            match run(store(disk).archive_load(&id)).unwrap() {
                Some(found) => {
                    assert!(outcome.is_err(), "a removed record is back: {at}");
                    assert_eq!(found.record, old, "{at}");
                    assert_eq!(run(store(disk).archive_snapshot(&id)).unwrap(), snapshot(), "{at}");
                    archive_delete(disk, &id).unwrap();
                }
                None => {
                    let again = archive_delete(disk, &id);
                    assert!(matches!(again, Err(StoreError::NotArchived { .. })), "{at}: {again:?}");
                }
            }
            let left: Vec<_> = disk.files().into_iter().filter(|file| file.contains("archive")).collect();
            assert!(left.iter().all(|path| path.ends_with("/archive")), "secrets are left, {at}: {left:?}");
        },
    );
}

// Records from another store, and the marker of a moved store.

fn put(disk: &SimFs, record: &Record) -> Outcome<()> {
    run(async { store(disk).lock(&devbox(), &owner(1)).await?.put(record, &snapshot()).await })
}

/// A durable store without any VM.
fn without_vm() -> SimFs {
    let disk = SimFs::new();
    drop(run(store(&disk).lock(&devbox(), &owner(1))).unwrap());
    disk.crash(Crash::Kept)
}

fn set_moved(disk: &SimFs, replaces: Option<&str>, to: Option<&str>) -> Outcome<()> {
    run(store(disk).set_moved(replaces, to))
}

/// Regardless of the state left behind, repeating the operation stores `record` permanently.
fn after_put(disk: &SimFs, record: &Record, at: &str) {
    put(disk, record).unwrap_or_else(|error| panic!("{at}: {error}"));
    let after = disk.crash(Crash::Lost);
    assert_eq!(load(&after).as_ref(), Some(record), "{at}");
    assert_eq!(active_snapshot(&after), snapshot(), "{at}");
    let leftovers: Vec<_> = after.files().into_iter().filter(|file| file.contains("/.")).collect();
    assert_eq!(leftovers, Vec::<String>::new(), "{at}");
}

#[test]
fn a_put_of_a_new_record_killed_at_any_call_is_atomic() {
    let record = Record { serial: 17, ..ready(&devbox()) };
    let act = |disk: &SimFs| put(disk, &record);
    at_every_stop(&SimFs::new(), &crashes(), act, |disk, outcome, at| {
        assert_sound(disk);
        match load(disk) {
            Some(found) => assert_eq!(found, record, "{at}"),
            None => assert!(outcome.is_err(), "an acknowledged record is gone: {at}"),
        }
        after_put(disk, &record, at);
    });
    at_every_fault(&without_vm(), act, |disk, _, at| after_put(disk, &record, at));
}

#[test]
fn a_put_killed_at_any_call_leaves_the_old_or_the_new_record() {
    let (disk, old) = with_vm();
    let new = Record { serial: 17, stack: "new".into(), ..old.clone() };
    let act = |disk: &SimFs| put(disk, &new);
    at_every_stop(&disk, &crashes(), act, |disk, outcome, at| {
        assert_sound(disk);
        let found = load(disk).unwrap();
        assert!(found == new || outcome.is_err() && found == old, "{at}");
        after_put(disk, &new, at);
    });
    at_every_fault(&disk, act, |disk, _, at| after_put(disk, &new, at));
}

#[test]
fn an_archive_put_killed_at_any_call_is_atomic() {
    let (disk, mut record) = with_vm();
    let id = archive(&disk, &mut record).unwrap();
    let now = run(store(&disk).archive_load(&id)).unwrap().unwrap();
    let mut next = now.clone();
    next.record.serial += 1;
    for (disk, before) in [(disk, Some(now)), (without_vm(), None)] {
        let act = |disk: &SimFs| run(store(disk).archive_put(&next, &snapshot()));
        let again = |disk: &SimFs, at: &str| {
            assert_sound(disk);
            act(disk).unwrap_or_else(|error| panic!("{at}: {error}"));
            let after = disk.crash(Crash::Lost);
            assert_eq!(run(store(&after).archive_load(&id)).unwrap().as_ref(), Some(&next), "{at}");
            assert_eq!(run(store(&after).archive_snapshot(&id)).unwrap(), snapshot(), "{at}");
        };
        at_every_stop(&disk, &crashes(), act, |disk, outcome, at| {
            let found = run(store(disk).archive_load(&id)).unwrap();
            assert!(found.as_ref() == Some(&next) || outcome.is_err() && found == before, "{at}");
            again(disk, at);
        });
        at_every_fault(&disk, act, |disk, _, at| again(disk, at));
    }
}

#[test]
fn leftovers_of_a_killed_archive_put_are_removed_by_the_next_delete() {
    let archived = {
        let (disk, mut record) = with_vm();
        let id = archive(&disk, &mut record).unwrap();
        run(store(&disk).archive_load(&id)).unwrap().unwrap()
    };
    let act = |disk: &SimFs| run(store(disk).archive_put(&archived, &snapshot()));
    at_every_stop(&SimFs::new(), &crashes(), act, |disk, _, at| {
        let _ = archive_delete(disk, &archived.id);
        let left: Vec<_> = disk.files().into_iter().filter(|file| file.contains("archive/")).collect();
        assert_eq!(left, Vec::<String>::new(), "secrets are left, {at}");
    });
}

#[test]
fn a_moved_mark_killed_at_any_call_is_atomic_and_can_be_set_again() {
    let (disk, _) = with_vm();
    let marked = disk.crash(Crash::Kept);
    set_moved(&marked, None, Some("dir:/first")).unwrap();
    for (disk, before, to) in [
        (&disk, None, Some("dir:/second")),
        (&marked, Some("dir:/first"), Some("dir:/second")),
        (&marked, Some("dir:/first"), None),
    ] {
        let act = |disk: &SimFs| set_moved(disk, before, to);
        let now = |disk: &SimFs| run(store(disk).moved_to()).unwrap();
        at_every_stop(disk, &crashes(), act, |disk, outcome, at| {
            let found = now(disk);
            assert!(found.as_deref() == to || outcome.is_err() && found.as_deref() == before, "{at}");
            set_moved(disk, before, to).unwrap();
            assert_eq!(now(&disk.crash(Crash::Lost)).as_deref(), to, "{at}");
        });
        at_every_fault(disk, act, |disk, outcome, at| {
            let found = now(disk);
            assert!(found.as_deref() == to || outcome.is_err() && found.as_deref() == before, "{at}");
            set_moved(disk, before, to).unwrap();
            assert_eq!(now(&disk.crash(Crash::Lost)).as_deref(), to, "{at}");
        });
    }
}

// Records that were damaged outside of goloo.

/// The state of a VM whose newest record, serial `damaged`, can't be read.
fn damaged() -> (SimFs, Record) {
    let (disk, mut record) = with_vm();
    save(&disk, &mut record).unwrap();
    let state = Path::new(ROOT).join("active/devbox/state.json");
    disk.remove_file(&state).unwrap();
    let mut file = disk.create_file(&state).unwrap();
    file.write(b"{\"schema\": 1, \"ser").unwrap();
    file.sync().unwrap();
    (disk.crash(Crash::Kept), record)
}

fn recovered(disk: &SimFs) -> Record {
    run(store(disk).load(&devbox())).unwrap().unwrap().record
}

#[test]
fn a_save_over_a_damaged_record_never_reverts_to_an_older_one() {
    let (disk, lost) = damaged();
    let act = |disk: &SimFs| {
        let mut record = recovered(disk);
        save(disk, &mut record).map(|()| record)
    };
    at_every_stop(&disk, &crashes(), act, |disk, outcome, at| {
        assert_sound(disk);
        let loaded = run(store(disk).load(&devbox())).unwrap().unwrap();
        let mut found = loaded.record;
        if loaded.recovered.is_none() {
            assert!(found.serial > lost.serial, "{at}: {} after {}", found.serial, lost.serial);
        }
        if let Ok(new) = outcome {
            assert_eq!(found, new, "{at}");
            assert!(new.serial > lost.serial, "{at}: {} after {}", new.serial, lost.serial);
        }
        save(disk, &mut found).unwrap();
        assert!(found.serial > lost.serial, "{at}: {} after {}", found.serial, lost.serial);
        let aside = Path::new(ROOT).join("active/devbox/state.json.broken-1");
        let mut kept = Vec::new();
        disk.read(&aside, &mut kept).unwrap();
        assert_eq!(kept, b"{\"schema\": 1, \"ser", "{at}");
    });
}

// Failing disks.

/// Errors of a disk.
const DISK: [i32; 2] = [ENOSPC, EIO];
/// Errors of a system: permission may be lost during an operation.
const ANY: [i32; 3] = [ENOSPC, EIO, EACCES];

fn faults(operations: usize, errnos: &'static [i32]) -> impl Iterator<Item = Fault> {
    (0..operations).flat_map(move |at| {
        errnos.iter().flat_map(move |&errno| {
            [false, true].into_iter().map(move |lasting| Fault { at, lasting, errno })
        })
    })
}

/// Makes every operation of `act` fail, once and permanently.
fn at_every_fault<T>(
    disk: &SimFs,
    act: impl Fn(&SimFs) -> Outcome<T>,
    check: impl FnMut(&SimFs, Outcome<T>, &str),
) {
    at_every_fault_of(&ANY, disk, act, check);
}

fn at_every_fault_of<T>(
    errnos: &'static [i32],
    disk: &SimFs,
    act: impl Fn(&SimFs) -> Outcome<T>,
    mut check: impl FnMut(&SimFs, Outcome<T>, &str),
) {
    let whole = disk.crash(Crash::Kept);
    act(&whole).unwrap();
    for fault in faults(whole.operations(), errnos) {
        let disk = disk.crash(Crash::Kept);
        disk.fail(fault);
        let outcome = act(&disk);
        disk.heal();
        check(&disk, outcome, &format!("{fault:?}"));
    }
}

#[test]
fn a_failed_create_on_a_failing_disk_leaves_the_name_free() {
    let act = |disk: &SimFs| {
        let mut record = creating(&devbox());
        let outcome = create(disk, &mut record);
        assert_eq!(record.serial, u64::from(outcome.is_ok()));
        outcome
    };
    let mut refused = 0;
    let mut check = |disk: &SimFs, outcome: Outcome<()>, at: &str| {
        assert_sound(disk);
        match outcome {
            Ok(()) => assert!(load(&disk.crash(Crash::Lost)).is_some(), "{at}"),
            Err(error) => {
                assert!(matches!(error, StoreError::Io { .. }), "{at}: {error}");
                refused += 1;
                // If the disk also failed to undo the claim, the claim is complete.
                if load(disk).is_none() {
                    create(disk, &mut creating(&devbox())).unwrap();
                }
            }
        }
        assert_sound(disk);
        assert_eq!(active_snapshot(disk), snapshot(), "{at}");
    };
    // Folders above the store may not be syncable by us.
    at_every_fault_of(&DISK, &SimFs::new(), act, &mut check);
    at_every_fault(&without_vm(), act, &mut check);
    assert!(refused > 40, "{refused}");
}

#[test]
fn a_save_on_a_failing_disk_can_be_retried_under_the_same_lock() {
    let (disk, old) = with_vm();
    let whole = disk.crash(Crash::Kept);
    save(&whole, &mut old.clone()).unwrap();
    for fault in faults(whole.operations(), &ANY) {
        let disk = disk.crash(Crash::Kept);
        let mut held = run(store(&disk).lock(&devbox(), &owner(1))).unwrap();
        let mut record = Record { stack: "new".into(), ..old.clone() };
        disk.fail(fault);
        let outcome = run(held.save(&mut record));
        disk.heal();
        if outcome.is_err() {
            assert_eq!((record.serial, record.updated_at), (old.serial, old.updated_at), "{fault:?}");
            let found = load(&disk).unwrap();
            assert!(found == old || found.stack == "new", "{fault:?}");
            run(held.save(&mut record)).unwrap();
        }
        assert!(record.serial > old.serial, "{fault:?}");
        assert_eq!(load(&disk.crash(Crash::Lost)).unwrap(), record, "{fault:?}");
    }
}

/// Fails at `first`, then at `second` on the retry, and must succeed on the third attempt, all under one lock.
fn assert_third_try_saves(disk: &SimFs, old: &Record, first: Fault, second: Fault) {
    let disk = disk.crash(Crash::Kept);
    let mut held = run(store(&disk).lock(&devbox(), &owner(1))).unwrap();
    let mut record = Record { stack: "new".into(), ..old.clone() };
    for fault in [first, second] {
        disk.fail(fault);
        let outcome = run(held.save(&mut record));
        disk.heal();
        if outcome.is_ok() {
            break;
        }
        assert_eq!(record.serial, old.serial, "{first:?}, {second:?}");
    }
    run(held.save(&mut record)).unwrap_or_else(|error| panic!("{first:?}, {second:?}: {error}"));
    drop(held);
    assert_eq!(load(&disk.crash(Crash::Lost)).unwrap(), record, "{first:?}, {second:?}");
}

#[test]
fn a_save_that_fails_twice_in_different_ways_can_be_retried() {
    let (sound, old) = with_vm();
    let damaged = sound.crash(Crash::Kept);
    let state = Path::new(ROOT).join("active/devbox/state.json");
    damaged.remove_file(&state).unwrap();
    let recovered = run(store(&damaged).load(&devbox())).unwrap().unwrap().record;
    for (disk, old) in [(sound, old), (damaged, recovered)] {
        let whole = disk.crash(Crash::Kept);
        save(&whole, &mut old.clone()).unwrap();
        for first in faults(whole.operations(), &DISK) {
            for second in faults(whole.operations(), &DISK) {
                assert_third_try_saves(&disk, &old, first, second);
            }
        }
    }
}

#[test]
fn an_archive_on_a_failing_disk_can_be_retried_under_the_same_lock() {
    let (disk, old) = with_vm();
    let whole = disk.crash(Crash::Kept);
    archive(&whole, &mut old.clone()).unwrap();
    for fault in faults(whole.operations(), &ANY) {
        let disk = disk.crash(Crash::Kept);
        let mut held = run(store(&disk).lock(&devbox(), &owner(1))).unwrap();
        let mut record = Record { phase: Phase::Destroyed, ..old.clone() };
        disk.fail(fault);
        let outcome = run(held.archive(&mut record, time(AT)));
        disk.heal();
        if outcome.is_err() {
            run(held.archive(&mut record, time(AT))).unwrap();
        }
        drop(held);
        let after = disk.crash(Crash::Lost);
        assert_eq!(archived(&after), [record], "{fault:?}");
        assert_eq!(load(&after), None, "{fault:?}");
        create(&after, &mut creating(&devbox())).unwrap();
    }
}

#[test]
fn an_archive_delete_on_a_failing_disk_is_completed_by_the_next_one() {
    let (disk, mut old) = with_vm();
    let id = archive(&disk, &mut old).unwrap();
    at_every_fault(
        &disk,
        |disk| archive_delete(disk, &id),
        |disk, outcome, at| {
            assert_sound(disk);
            if outcome.is_err() {
                let again = archive_delete(disk, &id);
                assert!(matches!(again, Ok(()) | Err(StoreError::NotArchived { .. })), "{at}: {again:?}");
            }
            assert_eq!(archived(&disk.crash(Crash::Lost)), [], "{at}");
        },
    );
}

#[test]
fn a_file_whose_sync_failed_is_never_synced_again() {
    let (disk, mut record) = with_vm();
    for at in 0..8 {
        disk.fail(Fault { at, lasting: false, errno: EIO });
        let mut held = run(store(&disk).lock(&devbox(), &owner(1))).unwrap();
        if run(held.save(&mut record)).is_err() {
            run(held.save(&mut record)).unwrap();
        }
        // A file whose sync failed reports success the next time, and is empty after a power loss.
        assert_eq!(load(&disk.crash(Crash::Lost)).unwrap(), record, "{at}");
    }
}

#[test]
fn a_store_on_a_network_file_system_is_refused_unless_allowed() {
    let disk = SimFs::new();
    disk.on_network("NFS");
    let refused = run(store(&disk).lock(&devbox(), &owner(1)));
    let Err(StoreError::Unsuitable { filesystem, path }) = refused else { panic!("it was not refused") };
    assert_eq!((filesystem.as_str(), path.as_path()), ("NFS", Path::new(ROOT)));
    assert_eq!(disk.operations(), 0, "a refused store stays untouched");
    let id = ArchiveId::parse("devbox-20250115T103000Z-3f9c").unwrap();
    assert!(matches!(archive_delete(&disk, &id), Err(StoreError::Unsuitable { .. })));
    assert_eq!(load(&disk), None);
    let allowed = DirStore::with_fs(
        Path::new(ROOT),
        Options { allow_network: true, ..Options::default() },
        Arc::new(disk.clone()),
    );
    run(allowed.lock(&devbox(), &owner(1))).unwrap();
}

#[test]
fn a_record_is_written_in_the_documented_format() {
    let (disk, record) = with_vm();
    let mut bytes = Vec::new();
    disk.read(&Path::new(ROOT).join("active/devbox/state.json"), &mut bytes).unwrap();
    assert_eq!(bytes, to_json(&record));
}
