//! Network and service faults on the object store: each fault at every request of every operation.

use crate::object_common;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::object_common::{
    BUCKET, Memory, PREFIX, S3, Shifted, SystemClock, fast, known, open_with_deletes_at, rarely_renewed,
};
use goloo_model::record::{Phase, Record};
use goloo_model::store::{Store, StoreError};
use goloo_store::object::{Access, ObjectStore, Options, Pace};
use goloo_testkit::aws_answers::Reply;
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy};
use goloo_testkit::samples::{creating, name, owner, snapshot, time};
use goloo_testkit::store_suite::run;

/// Retries a step, as a caller does who doesn't know its result.
macro_rules! thrice {
    ($step:expr) => {{
        let mut attempt = 1;
        loop {
            match $step {
                Err(_) if attempt < 3 => attempt += 1,
                other => break other?,
            }
        }
    }};
}

/// The life cycle of one VM: lock, create, save, archive, release.
async fn life(store: &dyn Store) -> Result<(), StoreError> {
    let devbox = name("devbox");
    let mut record = creating(&devbox);
    let mut lock = again(async || store.lock(&devbox, &owner(1)).await).await?;
    thrice!(lock.create(&mut record, &snapshot()).await);
    record.stack = "saved".into();
    thrice!(lock.save(&mut record).await);
    record.phase = Phase::Destroyed;
    thrice!(lock.archive(&mut record, time("2025-02-01T00:00:00Z")).await);
    Ok(())
}

async fn again<T>(mut step: impl AsyncFnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match step().await {
            // Our own lease may have been written although a failure was reported.
            Err(_) if Instant::now() < end => tokio::time::sleep(Duration::from_millis(100)).await,
            other => return other,
        }
    }
}

/// What must hold after each life cycle, regardless of faults: one archived VM, nothing active, nothing locked.
fn assert_over(s3: &S3, fault: &str, at: usize) {
    let store = s3.open(fast());
    let archive = run(store.archive_list()).unwrap();
    assert_eq!((archive.entries.len(), archive.broken.len()), (1, 0), "{fault} at {at}");
    let record = &archive.entries[0].record;
    assert_eq!(record.stack, "saved", "{fault} at {at}: a save was lost");
    assert_eq!(run(store.archive_snapshot(&archive.entries[0].id)).unwrap(), snapshot());
    assert_eq!(run(store.names()).unwrap(), [""; 0], "{fault} at {at}");
    let lock = run(again(async || store.lock(&name("devbox"), &owner(2)).await));
    assert!(lock.is_ok(), "{fault} at {at}: the lock is held for ever");
}

/// S3's error responses.
fn refusal(status: u16, code: &str) -> Reply {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code></Error>");
    Reply { status, kind: "application/xml", body }
}

fn sweep(fault: &str, strike: impl Fn(&FaultProxy, usize)) {
    let s3 = S3::ministack();
    let proxy = FaultProxy::start(s3.emulator.endpoint());
    for at in 1..60 {
        proxy.reset();
        strike(&proxy, at);
        // Shorter than the lease, or the test would measure renewals.
        let pace = Pace { lease: rarely_renewed(), ..fast().pace };
        let store = open_with_deletes_at(proxy.endpoint(), Options { pace, ..fast() });
        run(life(&store)).unwrap_or_else(|error| panic!("{fault} at {at}: {error:?}"));
        if proxy.requests().len() < at {
            assert!(at > 9, "too few requests were struck: {at}");
            return;
        }
        assert_over(&s3, fault, at);
        let store = s3.open(fast());
        for archived in run(store.archive_list()).unwrap().entries {
            run(store.archive_delete(&archived.id, &owner(1))).unwrap();
        }
    }
    panic!("a life has no end of requests");
}

#[test]
fn emulator_no_update_is_lost_when_the_connection_drops_before_a_request() {
    sweep("cut before", |proxy, at| proxy.fault(At::Request(at), Fault::CutBefore));
}

#[test]
fn emulator_no_update_is_lost_when_a_response_is_lost() {
    sweep("reply lost", |proxy, at| proxy.fault(At::Request(at), Fault::ReplyLost));
}

#[test]
fn emulator_no_update_is_lost_when_the_service_fails() {
    sweep("500", |proxy, at| proxy.fault(At::Request(at), Fault::Status500));
}

#[test]
fn emulator_no_update_is_lost_when_the_service_is_busy() {
    sweep("503", |proxy, at| proxy.fault(At::Request(at), Fault::Throttled));
}

#[test]
fn emulator_no_update_is_lost_when_a_response_times_out() {
    sweep("stall", |proxy, at| proxy.fault(At::Request(at), Fault::Stall(Duration::from_secs(2))));
}

#[test]
fn emulator_no_update_is_lost_when_a_conflict_is_falsely_reported() {
    sweep("409", |proxy, at| {
        proxy.fault(At::Request(at), Fault::Refused(refusal(409, "ConditionalRequestConflict")));
    });
}

#[test]
fn emulator_no_update_is_lost_when_a_failed_condition_is_falsely_reported() {
    sweep("412", |proxy, at| {
        proxy.fault(At::Request(at), Fault::Refused(refusal(412, "PreconditionFailed")));
    });
}

#[test]
fn emulator_a_service_that_never_answers_is_unreachable() {
    let s3 = S3::ministack();
    let proxy = FaultProxy::start(s3.emulator.endpoint());
    proxy.fault(At::From(1), Fault::Hang);
    let store = object_common::open_at(proxy.endpoint(), fast());
    let start = Instant::now();
    let refused = pollster::block_on(store.list());
    assert!(matches!(refused, Err(StoreError::Unreachable { .. })), "{refused:?}");
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn an_address_without_a_listener_is_unreachable() {
    let store = object_common::open_at("http://127.0.0.1:1", fast());
    let refused = run(store.lock(&name("devbox"), &owner(1)));
    assert!(matches!(refused, Err(StoreError::Unreachable { .. })));
}

/// An in-memory store whose clock is an hour ahead of this host's, or behind.
fn shifted(ahead: i64) -> impl Fn() -> ObjectStore {
    let objects = Arc::new(Shifted { ahead, ..Shifted::default() });
    move || {
        let clock = Arc::new(SystemClock { ahead });
        let access = Access { clock, ..known(objects.clone()) };
        let pace = Pace { lease: rarely_renewed(), ..fast().pace };
        ObjectStore::with_access(access, "memory://", PREFIX, Options { pace, ..fast() }).unwrap()
    }
}

#[test]
fn a_lease_expires_by_the_clock_of_the_service_not_of_this_machine() {
    for ahead in [-3600, 0, 3600] {
        let open = shifted(ahead);
        let (mine, theirs) = (open(), open());
        let devbox = name("devbox");
        let mut lock = run(mine.lock(&devbox, &owner(1))).unwrap();
        let mut record = creating(&devbox);
        let start = Instant::now();
        run(lock.create(&mut record, &snapshot())).unwrap();
        assert!(matches!(run(theirs.lock(&devbox, &owner(2))), Err(StoreError::Locked { .. })), "{ahead}");
        let mut taken = run(again(async || theirs.lock(&devbox, &owner(2)).await)).unwrap();
        // Plus the second that whole-second timestamps may hide.
        let living = fast().pace.lease.length + Duration::from_millis(500);
        assert!(start.elapsed() >= living, "{ahead}: a living lease was taken");
        assert_eq!(taken.taken_over(), Some(&owner(1)));
        let refused = run(lock.save(&mut record));
        let Err(StoreError::LockLost { by: Some(by), .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(by, owner(2).to_string());
        drop(lock);
        // The former holder's release had no effect on the new lock.
        assert!(matches!(run(mine.lock(&devbox, &owner(3))), Err(StoreError::Locked { .. })));
        run(taken.save(&mut record)).unwrap();
    }
}

#[test]
fn a_write_whose_response_is_lost_is_recognized_as_done() {
    let objects = Arc::new(Shifted::default());
    let clock = Arc::new(SystemClock { ahead: 0 });
    let access = Access { clock, ..known(objects.clone()) };
    let store = ObjectStore::with_access(access, "memory://", PREFIX, Options::default()).unwrap();
    let lose_a_reply = || objects.loses_a_reply.store(true, Ordering::Relaxed);
    let devbox = name("devbox");
    let start = Instant::now();
    lose_a_reply();
    let mut lock = run(store.lock(&devbox, &owner(1))).unwrap();
    let mut record = creating(&devbox);
    lose_a_reply();
    run(lock.create(&mut record, &snapshot())).unwrap();
    lose_a_reply();
    run(lock.save(&mut record)).unwrap();
    lose_a_reply();
    drop(lock);
    assert_eq!(run(store.load(&devbox)).unwrap().unwrap().record.serial, 2);
    assert_eq!(run(store.locks()).unwrap(), []);
    assert!(start.elapsed() < Options::default().pace.patience, "a write was repeated to the end");
}

#[test]
fn a_lease_is_renewed_while_the_thread_of_its_owner_is_busy() {
    let bucket = Memory::new();
    let (mine, theirs) = (bucket.open(fast()), bucket.open(fast()));
    let lock = run(mine.lock(&name("devbox"), &owner(1))).unwrap();
    // Longer than the lease; nothing polls meanwhile.
    std::thread::sleep(Duration::from_secs(5));
    assert!(matches!(run(theirs.lock(&name("devbox"), &owner(2))), Err(StoreError::Locked { .. })));
    drop(lock);
    let lock = run(theirs.lock(&name("devbox"), &owner(2))).unwrap();
    assert_eq!(lock.taken_over(), None);
}

#[test]
fn a_takeover_is_remembered_until_the_next_write() {
    let bucket = Memory::new();
    let store = bucket.open(fast());
    let devbox = name("devbox");
    let mut lock = run(store.lock(&devbox, &owner(1))).unwrap();
    let mut record = creating(&devbox);
    run(lock.create(&mut record, &snapshot())).unwrap();
    let broken = run(store.break_lock(&devbox)).unwrap().unwrap();
    assert_eq!(broken.owner, Some(owner(1)));
    assert!(matches!(run(lock.save(&mut record)), Err(StoreError::LockLost { .. })));
    for pid in [2, 3] {
        let lock = run(store.lock(&devbox, &owner(pid))).unwrap();
        assert_eq!(lock.taken_over(), Some(&owner(1)), "whoever only looked leaves it to the next");
    }
    let mut lock = run(store.lock(&devbox, &owner(4))).unwrap();
    run(lock.save(&mut record)).unwrap();
    drop(lock);
    assert_eq!(run(store.lock(&devbox, &owner(5))).unwrap().taken_over(), None);
}

#[test]
fn a_moved_store_is_read_only_and_its_locks_are_broken() {
    let bucket = Memory::new();
    let (mine, theirs) = (bucket.open(fast()), bucket.open(fast()));
    let devbox = name("devbox");
    let mut lock = run(mine.lock(&devbox, &owner(1))).unwrap();
    let mut record = creating(&devbox);
    run(lock.create(&mut record, &snapshot())).unwrap();
    run(theirs.set_moved(None, Some("s3://other"))).unwrap();
    assert_eq!(run(mine.moved_to()).unwrap().as_deref(), Some("s3://other"));
    assert!(matches!(run(lock.save(&mut record)), Err(StoreError::Moved { .. })));
    assert!(
        matches!(run(mine.lock(&devbox, &owner(1))), Err(StoreError::Moved { to, .. }) if to == "s3://other")
    );
    assert_eq!(run(mine.load(&devbox)).unwrap().unwrap().record, record);
    run(theirs.set_moved(Some("s3://other"), None)).unwrap();
    let mut lock = run(mine.lock(&devbox, &owner(1))).unwrap();
    run(lock.save(&mut record)).unwrap();
}

#[test]
fn completing_an_interrupted_move_mark_breaks_remaining_locks() {
    let bucket = Memory::new();
    let (mine, theirs) = (bucket.open(fast()), bucket.open(fast()));
    let mut lock = run(mine.lock(&name("devbox"), &owner(1))).unwrap();
    bucket.put("moved.json", r#"{"to": "s3://other", "write": "by-hand"}"#);
    run(theirs.set_moved(None, Some("s3://other"))).unwrap();
    let made = run(lock.create(&mut creating(&name("devbox")), &snapshot()));
    assert!(matches!(made, Err(StoreError::Moved { .. })), "{made:?}");
}

#[test]
fn emulator_a_half_done_archive_is_completed_under_the_lock_of_the_remover() {
    let s3 = S3::ministack();
    let proxy = FaultProxy::start(s3.emulator.endpoint());
    let store = open_with_deletes_at(proxy.endpoint(), fast());
    let mut record = creating(&name("devbox"));
    let mut lock = run(store.lock(&name("devbox"), &owner(1))).unwrap();
    run(lock.create(&mut record, &snapshot())).unwrap();
    record.phase = Phase::Destroyed;
    run(lock.save(&mut record)).unwrap();
    drop(lock);
    let half = run(store.archive_list()).unwrap().entries.remove(0);
    proxy.reset();
    run(store.archive_delete(&half.id, &owner(42))).unwrap();
    let requests = proxy.requests();
    let locks = requests.iter().filter(|request| {
        request.method == "PUT" && request.path.split('?').next().unwrap().ends_with("/active/devbox.json")
    });
    let first = locks.map(|request| String::from_utf8_lossy(&request.body)).next().unwrap();
    assert!(first.contains(r#""pid":42"#), "{first}");
}

#[test]
fn emulator_a_withdrawn_move_mark_is_kept_as_an_empty_object() {
    let s3 = S3::ministack();
    let store = open_with_deletes_at(s3.emulator.endpoint(), fast());
    run(store.set_moved(None, Some("s3://other"))).unwrap();
    run(store.set_moved(Some("s3://other"), None)).unwrap();
    let key = format!("/{BUCKET}/{PREFIX}/moved.json");
    assert!(s3.emulator.rest("s3", "GET", &key, "").contains(r#""to":null"#));
    assert_eq!(run(store.moved_to()).unwrap(), None);
}

#[test]
fn a_move_mark_whose_response_was_lost_is_recognized_as_set() {
    let objects = Arc::new(Shifted::default());
    let open = || {
        let clock = Arc::new(SystemClock { ahead: 0 });
        let access = Access { clock, ..known(objects.clone()) };
        ObjectStore::with_access(access, "memory://team/goloo", PREFIX, fast()).unwrap()
    };
    let (mine, theirs) = (open(), open());
    for (replaces, to) in
        [(None, Some("s3://one")), (Some("s3://one"), Some("s3://two")), (Some("s3://two"), None)]
    {
        objects.loses_a_reply.store(true, Ordering::Relaxed);
        run(mine.set_moved(replaces, to)).unwrap();
        assert!(!objects.loses_a_reply.load(Ordering::Relaxed), "no reply was lost");
        assert_eq!(run(theirs.moved_to()).unwrap().as_deref(), to);
    }
    run(theirs.set_moved(None, Some("s3://three"))).unwrap();
}

#[test]
fn imported_records_keep_their_id_and_serial() {
    let bucket = Memory::new();
    let store = bucket.open(fast());
    let devbox = name("devbox");
    let mut lock = run(store.lock(&devbox, &owner(1))).unwrap();
    let record = Record { serial: 7, ..creating(&devbox) };
    run(lock.put(&record, &snapshot())).unwrap();
    run(lock.put(&record, &snapshot())).unwrap();
    let older = Record { serial: 6, ..record.clone() };
    assert!(matches!(
        run(lock.put(&older, &snapshot())),
        Err(StoreError::Stale { expected: 6, found: 7, .. })
    ));
    let other = Record { serial: 9, ..creating(&devbox) };
    assert!(matches!(run(lock.put(&other, &snapshot())), Err(StoreError::NameTaken { .. })));
    let newer = Record { serial: 8, ..record };
    run(lock.put(&newer, &snapshot())).unwrap();
    assert_eq!(run(store.records()).unwrap().entries[0].record, newer);
    assert_eq!(run(store.locks()).unwrap()[0].owner, Some(owner(1)));
}
