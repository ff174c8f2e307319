//! What networks and services do to the operations that the life of a VM in `object_faults.rs` doesn't have:
//! every request of each, each fault.
#![allow(clippy::unwrap_used)]

mod object_common;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use futures_util::TryStreamExt;
use goloo_core::store::{Store, StoreError, VmLock};
use goloo_store::object::{Access, ObjectStore, Options, Pace};
use goloo_testkit::aws_answers::Reply;
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy};
use goloo_testkit::samples::{creating, name, owner, snapshot};
use goloo_testkit::store_suite::run;
use object_common::acts::Act;
use object_common::{PREFIX, S3, SystemClock, fast, known, open_with_deletes_in, side_by_side};
use object_store::ObjectStore as _;
use object_store::memory::InMemory;

fn options(patience: Duration) -> Options {
    let pace = Pace { renew: Duration::from_secs(60), patience, ..fast().pace };
    Options { pace, ..fast() }
}

/// Long enough that no answer is late only because the machine is busy.
const PATIENCE: Duration = Duration::from_secs(4);
/// Of a line that isn't mended anyway.
const NO_PATIENCE: Duration = Duration::from_millis(200);

/// A folder of its own in the bucket, and a faulty line to it.
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

    /// How many requests the act makes when nothing strikes.
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

    /// Strikes, and sees to it that what is said is true and that the next attempt ends well.
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

/// The line's or the service's failure, as opposed to a verdict on what is stored.
fn is_failure(error: &StoreError) -> bool {
    matches!(error, StoreError::Unreachable { .. } | StoreError::Backend { .. } | StoreError::Denied { .. })
}

/// S3's refusal, in its words.
fn refused(status: u16, code: &str) -> Fault {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code></Error>");
    Fault::Refused(Reply { status, kind: "application/xml", body })
}

/// Each act on a bucket of its own folder, struck at each of its requests.
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
fn emulator_no_act_is_lost_when_the_line_is_cut_before_a_request() {
    sweep_once("cut before", Fault::CutBefore);
}

#[test]
fn emulator_no_act_is_lost_when_the_reply_to_a_request_is() {
    sweep_once("reply lost", Fault::ReplyLost);
}

#[test]
fn emulator_no_act_is_lost_when_the_service_fails() {
    sweep_once("500", Fault::Status500);
}

#[test]
fn emulator_no_act_is_lost_when_the_service_is_busy() {
    sweep_once("503", Fault::Throttled);
}

#[test]
fn emulator_no_act_is_lost_when_a_write_conflicts_with_nobody() {
    sweep_once("409", refused(409, "ConditionalRequestConflict"));
}

#[test]
fn emulator_no_act_is_lost_when_a_condition_is_said_to_fail() {
    sweep_once("412", refused(412, "PreconditionFailed"));
}

/// The request arrives when all is over: it changes nothing more.
#[test]
fn emulator_no_act_is_undone_by_a_request_that_arrives_long_after_it() {
    sweep_once("arrives late", Fault::Hang);
}

#[test]
fn emulator_an_act_whose_permission_ends_midway_says_so_and_can_be_done_later() {
    sweep("403 from there on", NO_PATIENCE, |number| (At::From(number), refused(403, "AccessDenied")));
}

#[test]
fn emulator_an_act_whose_line_ends_midway_says_so_and_can_be_done_later() {
    sweep("cut from there on", NO_PATIENCE, |number| (At::From(number), Fault::CutBefore));
}

#[test]
fn emulator_breaking_a_lock_leaves_that_of_the_next_one_alone() {
    let s3 = S3::ministack();
    let case = Case::new(&s3, "next".to_owned(), PATIENCE);
    let vm = name("devbox");
    let former = run(case.direct.lock(&vm, &owner(1))).unwrap();
    let (next, take) = (Arc::new(Mutex::new(None)), case.direct.clone());
    let (taken, asked) = (next.clone(), vm.clone());
    // The answer to the write comes so late that it isn't known, and by then someone else has the lock.
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
fn what_is_removed_soon_after_it_was_written_leaves_an_empty_object_in_the_way_of_late_requests() {
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
