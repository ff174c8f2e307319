//! Network and service faults on the operations that aren't part of the life cycle in `object_faults.rs`:
//! each fault at every request.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::object_common::acts::Act;
use crate::object_common::{
    PREFIX, S3, SystemClock, fast, known, open_with_deletes_in, rarely_renewed, side_by_side,
};
use futures_util::TryStreamExt;
use goloo_model::store::{Store, StoreError, VmLock};
use goloo_store::object::{Access, ObjectStore, Options, Pace};
use goloo_testkit::aws_answers::Reply;
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy};
use goloo_testkit::samples::{creating, name, owner, snapshot};
use goloo_testkit::store_suite::run;
use object_store::ObjectStore as _;
use object_store::memory::InMemory;

fn options(patience: Duration) -> Options {
    let pace = Pace { lease: rarely_renewed(), patience, ..fast().pace };
    Options { pace, ..fast() }
}

/// Long enough that no response is late just because the host is busy.
const PATIENCE: Duration = Duration::from_secs(4);
/// For a connection that doesn't recover anyway.
const NO_PATIENCE: Duration = Duration::from_millis(200);

/// A separate folder in the bucket, and a faulty connection to it.
struct Case {
    direct: ObjectStore,
    proxy: FaultProxy,
    faulty: ObjectStore,
    prefix: String,
    emulator: String,
}

impl Case {
    fn new(s3: &S3, prefix: String, patience: Duration) -> Self {
        let emulator = s3.emulator.endpoint().to_owned();
        let proxy = FaultProxy::start(&emulator);
        let faulty = open_with_deletes_in(proxy.endpoint(), &prefix, options(patience));
        let direct = open_with_deletes_in(&emulator, &prefix, options(PATIENCE));
        Self { direct, proxy, faulty, prefix, emulator }
    }

    /// The number of requests that the operation makes without faults.
    fn requests_of(&self, act: Act) -> usize {
        act.prepare(&self.direct);
        let holder = self.holder(act);
        act.attempt(&self.faulty).unwrap();
        let requests = self.proxy.requests().len();
        act.assert_over(&self.direct, holder, &format!("{act:?} without a fault"));
        assert!(requests > 0, "{act:?} makes no request");
        requests
    }

    fn holder(&self, act: Act) -> Option<Box<dyn VmLock>> {
        act.holder(|options| open_with_deletes_in(&self.emulator, &self.prefix, options))
    }

    /// Injects the fault, and checks that the reported result is true and that the next attempt succeeds.
    fn strike(&self, act: Act, at: At, fault: Fault, when: &str) {
        act.prepare(&self.direct);
        let holder = self.holder(act);
        self.proxy.fault(at, fault.clone());
        let said = act.attempt(&self.faulty);
        assert!(self.proxy.struck() > 0, "{when}: nothing was struck");
        if let (At::Request(number), Fault::Hang) = (at, &fault) {
            self.proxy.deliver(number);
        }
        self.proxy.reset();
        match said {
            Ok(()) => assert!(act.has_happened(&self.direct, when), "{when}: it was said to be done"),
            Err(error) => {
                assert!(is_failure(&error), "{when}: a fault isn't {error:?}");
                act.again(&self.faulty, when);
            }
        }
        act.assert_over(&self.direct, holder, when);
    }
}

/// Whether the connection or the service failed, as opposed to a statement about what is stored.
fn is_failure(error: &StoreError) -> bool {
    matches!(error, StoreError::Unreachable { .. } | StoreError::Backend { .. } | StoreError::Denied { .. })
}

/// S3's error response.
fn refused(status: u16, code: &str) -> Fault {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code></Error>");
    Fault::Refused(Reply { status, kind: "application/xml", body })
}

/// Each operation in a separate folder of the bucket, with a fault at each of its requests.
fn sweep(fault: &str, patience: Duration, strike: impl Fn(usize) -> (At, Fault) + Sync) {
    let s3 = S3::ministack();
    let cases = Act::ALL.into_iter().flat_map(|act| {
        let requests = Case::new(&s3, format!("{act:?}"), patience).requests_of(act);
        (1..=requests).map(move |number| (act, number, requests))
    });
    let cases: Vec<_> = cases.collect();
    side_by_side(&cases, |&(act, number, requests)| {
        let (at, what) = strike(number);
        let when = format!("{act:?}, {fault} at {number} of {requests}");
        Case::new(&s3, format!("{act:?}-{number}"), patience).strike(act, at, what, &when);
    });
}

fn sweep_once(fault: &str, what: Fault) {
    sweep(fault, PATIENCE, |number| (At::Request(number), what.clone()));
}

#[test]
fn emulator_no_operation_is_lost_when_the_connection_drops_before_a_request() {
    sweep_once("cut before", Fault::CutBefore);
}

#[test]
fn emulator_no_operation_is_lost_when_a_response_is_lost() {
    sweep_once("reply lost", Fault::ReplyLost);
}

#[test]
fn emulator_no_operation_is_lost_when_the_service_fails() {
    sweep_once("500", Fault::Status500);
}

#[test]
fn emulator_no_operation_is_lost_when_the_service_is_busy() {
    sweep_once("503", Fault::Throttled);
}

#[test]
fn emulator_no_operation_is_lost_when_a_conflict_is_falsely_reported() {
    sweep_once("409", refused(409, "ConditionalRequestConflict"));
}

#[test]
fn emulator_no_operation_is_lost_when_a_failed_condition_is_falsely_reported() {
    sweep_once("412", refused(412, "PreconditionFailed"));
}

/// A request that arrives after everything is over changes nothing more.
#[test]
fn emulator_no_operation_is_undone_by_a_late_request() {
    sweep_once("arrives late", Fault::Hang);
}

#[test]
fn emulator_an_operation_that_loses_its_permission_can_be_retried() {
    sweep("403 from there on", NO_PATIENCE, |number| (At::From(number), refused(403, "AccessDenied")));
}

#[test]
fn emulator_an_operation_that_loses_its_connection_can_be_retried() {
    sweep("cut from there on", NO_PATIENCE, |number| (At::From(number), Fault::CutBefore));
}

#[test]
fn emulator_breaking_a_lock_does_not_break_the_lock_of_the_next_owner() {
    let s3 = S3::ministack();
    let case = Case::new(&s3, "next".to_owned(), PATIENCE);
    let vm = name("devbox");
    let former = run(case.direct.lock(&vm, &owner(1))).unwrap();
    let (next, take) = (Arc::new(Mutex::new(None)), case.direct.clone());
    let (taken, asked) = (next.clone(), vm.clone());
    // The reply to the write is so late that its result is unknown, and by then someone else has the lock.
    let hook = move |_: &_| {
        *taken.lock().unwrap() = Some(run(take.lock(&asked, &owner(2))).unwrap());
        thread::sleep(fast().pace.answer * 2);
    };
    case.proxy.fault(At::Action("PUT /team/next/active/devbox.json", 1), Fault::after(hook));
    let broken = run(case.faulty.break_lock(&vm)).unwrap().unwrap();
    assert_eq!(broken.owner, Some(owner(1)));
    let mut next = next.lock().unwrap().take().unwrap();
    run(next.create(&mut creating(&vm), &snapshot())).unwrap();
    drop(former);
}

#[test]
fn removal_soon_after_a_write_leaves_an_empty_object_against_late_requests() {
    for (seconds_later, left) in [(0, 1), (3600, 0)] {
        let objects = Arc::new(InMemory::new());
        let open = |ahead| {
            let clock = Arc::new(SystemClock { ahead });
            let access = Access { clock, conditional_delete: true, ..known(objects.clone()) };
            ObjectStore::with_access(access, "memory://", PREFIX, fast()).unwrap()
        };
        let (act, when) = (Act::ArchiveDelete, format!("{seconds_later} s later"));
        act.prepare(&open(0));
        let others = run(open(0).names()).unwrap().len();
        act.attempt(&open(seconds_later)).unwrap();
        assert!(act.has_happened(&open(0), &when), "{when}");
        let all = run(objects.list(None).try_collect::<Vec<_>>()).unwrap();
        assert_eq!(all.len() - others, left, "{when}: {all:?}");
    }
}
