//! S3-compatible servers that aren't AWS emulators: each is accepted or refused by how it handles conditions.
#![cfg(feature = "s3")]

use std::time::Duration;

use crate::object_common::{S3, fast, settings_of};
use goloo_model::store::{Store, StoreError};
use goloo_store::object::{LockTable, ObjectSettings, ObjectStore, Options, Pace};
use goloo_testkit::aws_answers::Reply;
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy, Request};
use goloo_testkit::s3_services::S3Service;
use goloo_testkit::samples::{name, owner};
use goloo_testkit::store_suite::run;

fn open(settings: ObjectSettings) -> ObjectStore {
    ObjectStore::open(settings, Options::default()).unwrap()
}

fn with_table(settings: ObjectSettings, endpoint: &str) -> ObjectSettings {
    let lock_table = Some(LockTable { name: "locks".to_owned(), endpoint: Some(endpoint.to_owned()) });
    ObjectSettings { lock_table, ..settings }
}

fn assert_refused(service: &S3Service) {
    let refused = run(open(settings_of(service)).lock(&name("devbox"), &owner(1))).map(drop);
    let Err(StoreError::UnsafeWrites { place, seen, lock_table: true }) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        seen.contains("ignores If-None-Match") && place.contains("endpoint=http://127"),
        "{place}: {seen}"
    );
    assert_eq!(run(open(settings_of(service)).records()).unwrap().entries.len(), 0);
}

fn assert_serves(settings: &ObjectSettings) {
    let first = open(settings.clone());
    let lock = run(first.lock(&name("devbox"), &owner(1))).unwrap();
    let refused = run(open(settings.clone()).lock(&name("devbox"), &owner(2))).map(drop);
    assert!(matches!(refused, Err(StoreError::Locked { .. })), "{refused:?}");
    drop(lock);
    run(open(settings.clone()).lock(&name("devbox"), &owner(2))).unwrap();
}

#[test]
fn emulator_s3rver_works_only_with_a_lock_table() {
    let (s3rver, dynalite) = (S3Service::s3rver(), S3Service::dynalite("locks"));
    assert_refused(&s3rver);
    assert_serves(&with_table(settings_of(&s3rver), dynalite.endpoint()));
    // A store without the table is still refused.
    assert_refused(&s3rver);
}

#[test]
fn emulator_rclone_works_only_with_a_lock_table() {
    let (rclone, dynalite) = (S3Service::rclone(), S3Service::dynalite("locks"));
    assert_refused(&rclone);
    assert_serves(&with_table(settings_of(&rclone), dynalite.endpoint()));
}

#[test]
fn emulator_aws_emulators_pass_the_write_check() {
    for s3 in [S3::ministack(), S3::moto()] {
        run(open(s3.settings()).require_safe_writes()).unwrap();
    }
}

#[test]
fn emulator_a_lock_row_the_table_does_not_reveal_is_busy_rather_than_foreign() {
    let (s3rver, dynalite) = (S3Service::s3rver(), S3Service::dynalite("locks"));
    let settings = with_table(settings_of(&s3rver), dynalite.endpoint());
    run(open(settings.clone()).require_safe_writes()).unwrap();
    // A row that remains, as after a process died during a write.
    let proxy = FaultProxy::start(s3rver.endpoint());
    proxy.fault(At::Each("PUT /team/goloo/active/devbox.json"), Fault::Hang);
    let pace = Pace { answer: Duration::from_secs(2), patience: Duration::from_secs(1), ..fast().pace };
    let slow = ObjectSettings { endpoint: Some(proxy.endpoint().to_owned()), ..settings.clone() };
    let dying = ObjectStore::open(slow, Options { pace, ..fast() }).unwrap();
    run(dying.lock(&name("devbox"), &owner(1))).map(drop).unwrap_err();
    let next = ObjectStore::open(settings, Options { pace, ..fast() }).unwrap();
    let refused = run(next.lock(&name("devbox"), &owner(2))).map(drop).unwrap_err();
    let StoreError::LockTable { source, .. } = &refused else { panic!("{refused:?}") };
    assert!(source.is_busy(), "{refused:?}");
}

/// A fault doesn't prove that a service loses records: it is never reported as unsafe, and the next check passes.
#[test]
fn emulator_connection_faults_never_make_a_service_appear_unsafe() {
    let s3 = S3::ministack();
    let proxy = FaultProxy::start(s3.emulator.endpoint());
    let pace = Pace { patience: Duration::from_secs(4), ..fast().pace };
    let mut accepted = 0;
    let faults = [(Fault::ReplyLost, 1), (Fault::CutBefore, 4), (Fault::Status500, 4), (Fault::Throttled, 4)];
    for (fault, step) in faults {
        for at in (1..).step_by(step) {
            proxy.reset();
            proxy.fault(At::Request(at), fault.clone());
            let prefix = format!("{fault:?}-{at}");
            let settings =
                ObjectSettings { prefix, endpoint: Some(proxy.endpoint().to_owned()), ..s3.settings() };
            let store = ObjectStore::open(settings, Options { pace, ..fast() }).unwrap();
            match run(store.require_safe_writes()) {
                Ok(()) => accepted += 1,
                Err(StoreError::UnsafeWrites { seen, .. }) => panic!("{fault:?} at {at}: {seen}"),
                Err(_) => run(store.require_safe_writes()).unwrap(),
            }
            if proxy.struck() == 0 {
                assert!(at > 40, "too few requests were struck: {at}");
                break;
            }
        }
    }
    assert!(accepted > 50, "only {accepted} checks came through a fault");
}

/// A table that ignores conditions gives each row to everybody.
#[test]
fn emulator_a_lock_table_that_ignores_conditions_is_refused() {
    let (s3rver, dynalite) = (S3Service::s3rver(), S3Service::dynalite("locks"));
    let done = || Reply { status: 200, kind: "application/x-amz-json-1.0", body: "{}".to_owned() };
    // Of every write, and only of those that take a row.
    for ignored in ["ConditionExpression", "attribute_not_exists"] {
        let proxy = FaultProxy::start(dynalite.endpoint());
        let is_ignored =
            move |request: &Request| String::from_utf8_lossy(&request.body).contains(ignored).then(done);
        proxy.answer("PutItem", is_ignored);
        let settings = with_table(settings_of(&s3rver), proxy.endpoint());
        let refused = run(open(settings).require_safe_writes());
        let Err(StoreError::UnsafeWrites { seen, lock_table: false, .. }) = refused else {
            panic!("{ignored}: {refused:?}")
        };
        assert!(seen.contains("ignores conditions on writes"), "{seen}");
    }
}
