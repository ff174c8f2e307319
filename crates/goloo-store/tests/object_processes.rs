//! Real processes as two people on one S3 store. A test starts copies of this very program, which run
//! [`one_process`] with the part they play in the environment.
#![allow(clippy::unwrap_used)]

mod object_common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use goloo_core::record::Phase;
use goloo_core::store::{Store, StoreError, VmLock};
use goloo_core::time::Timestamp;
use goloo_store::object::{ObjectStore, Options, Pace};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy};
use goloo_testkit::samples::{creating, name, owner, snapshot};
use goloo_testkit::store_suite::run;
use object_common::{S3, fast, open_with_deletes_at};

const ENDPOINT: &str = "GOLOO_TEST_ENDPOINT";
const PART: &str = "GOLOO_TEST_PART";
const NAMES: [&str; 3] = ["api", "devbox", "web"];
const WRITERS: usize = 32;
const CHANGES: usize = 50;

/// Plays one part and says how it ended; as a test of its own, without a part, it does nothing.
#[test]
fn one_process() {
    let Ok(part) = std::env::var(PART) else { return };
    let endpoint = std::env::var(ENDPOINT).unwrap();
    match part.as_str() {
        "count" => count(&endpoint),
        "hold" => hold(&open_with_deletes_at(&endpoint, fast())),
        _ => live(&open_with_deletes_at(&endpoint, fast())),
    }
}

fn start(endpoint: &str, part: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "one_process", "--nocapture"])
        .env(ENDPOINT, endpoint)
        .env(PART, part)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    lines.filter_map(|line| line.split_once('@').map(|(_, said)| said.to_owned()))
}

/// Long enough a lease that none ends while its holder lives, however busy this machine is.
fn patient() -> Options {
    let pace = Pace { lease: Duration::from_secs(20), patience: Duration::from_secs(20), ..fast().pace };
    Options { pace: Pace { renew: Duration::from_secs(5), ..pace }, ..fast() }
}

fn lock_when_free(store: &dyn Store, vm: &str) -> Box<dyn VmLock> {
    let end = Instant::now() + Duration::from_secs(240);
    loop {
        match run(store.lock(&name(vm), &owner(std::process::id()))) {
            Ok(lock) => return lock,
            Err(error) => assert!(Instant::now() < end, "no lock in all this time: {error:?}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Half of the writers, each with its share of changes; each change raises a count in the record by one.
fn count(endpoint: &str) {
    std::thread::scope(|scope| {
        for n in 0..WRITERS / 2 {
            scope.spawn(move || {
                let store = open_with_deletes_at(endpoint, patient());
                for change in 0..CHANGES {
                    raise(&store, NAMES[(n + change) % NAMES.len()]);
                }
            });
        }
    });
    println!("@done");
}

fn raise(store: &dyn Store, vm: &str) {
    let mut lock = lock_when_free(store, vm);
    let mut record = run(lock.load()).unwrap().unwrap().record;
    let count: u64 = record.tags.get("count").map_or(0, |count| count.parse().unwrap());
    record.tags.insert("count".to_owned(), (count + 1).to_string());
    let end = Instant::now() + Duration::from_secs(60);
    while let Err(error) = run(lock.save(&mut record)) {
        let may_pass = matches!(error, StoreError::Unreachable { .. } | StoreError::Backend { .. });
        assert!(may_pass && Instant::now() < end, "{error:?}");
    }
}

#[test]
fn emulator_two_people_lose_nothing_on_a_line_that_fails_all_the_time() {
    let s3 = S3::ministack();
    let store = s3.open(fast());
    for vm in NAMES {
        run(lock_when_free(&store, vm).create(&mut creating(&name(vm)), &snapshot())).unwrap();
    }
    let proxy = FaultProxy::start(s3.0.endpoint());
    let refusal = |status, code: &str| {
        let body = format!("<Error><Code>{code}</Code></Error>");
        Fault::Refused(goloo_testkit::aws_answers::Reply { status, kind: "application/xml", body })
    };
    // Every 13th request or so, each kind of fault in turn.
    for at in 0..2000 {
        let fault = match at % 7 {
            0 | 1 => Fault::ReplyLost,
            2 => Fault::CutBefore,
            3 => refusal(409, "ConditionalRequestConflict"),
            4 => refusal(412, "PreconditionFailed"),
            5 => Fault::Status500,
            _ if at % 20 == 0 => Fault::Stall(Duration::from_secs(2)),
            _ => Fault::Throttled,
        };
        proxy.fault(At::Request(7 + at * 13), fault);
    }
    let mut people = [start(proxy.endpoint(), "count"), start(proxy.endpoint(), "count")];
    for person in &mut people {
        assert_eq!(lines(person).last().as_deref(), Some("done"));
        assert!(person.wait().unwrap().success());
    }
    assert!(proxy.struck() > 100, "only {} faults struck", proxy.struck());
    let listing = run(store.records()).unwrap();
    assert_eq!(listing.broken, []);
    let counts = listing.entries.iter().map(|loaded| loaded.record.tags["count"].parse::<usize>().unwrap());
    assert_eq!(counts.sum::<usize>(), WRITERS * CHANGES);
    for loaded in &listing.entries {
        assert!(loaded.record.serial > loaded.record.tags["count"].parse().unwrap());
    }
    assert_eq!(run(store.locks()).unwrap(), []);
}

/// Makes a VM, then waits under its lock for a word, and writes.
fn hold(store: &ObjectStore) {
    let devbox = name("devbox");
    let mut lock = lock_when_free(store, "devbox");
    let mut record = creating(&devbox);
    run(lock.create(&mut record, &snapshot())).unwrap();
    println!("@held");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    record.stack = "from the past".to_owned();
    match run(lock.save(&mut record)) {
        Err(StoreError::LockLost { .. }) => println!("@lost"),
        other => println!("@{other:?}"),
    }
    drop(lock);
    println!("@gone");
}

fn signal(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn emulator_a_holder_who_slept_through_a_takeover_changes_nothing() {
    let s3 = S3::ministack();
    let mut sleeper = start(s3.0.endpoint(), "hold");
    let mut said = lines(&mut sleeper);
    assert_eq!(said.next().as_deref(), Some("held"));
    signal(&sleeper, "-STOP");
    let store = s3.open(fast());
    let mut lock = lock_when_free(&store, "devbox");
    assert_eq!(lock.taken_over().map(|owner| owner.pid), Some(sleeper.id()));
    let mut record = run(lock.load()).unwrap().unwrap().record;
    record.stack = "from now".to_owned();
    run(lock.save(&mut record)).unwrap();
    signal(&sleeper, "-CONT");
    sleeper.stdin.take().unwrap().write_all(b"x").unwrap();
    assert_eq!(said.next().as_deref(), Some("lost"));
    assert_eq!(said.next().as_deref(), Some("gone"));
    sleeper.wait().unwrap();
    assert_eq!(run(store.load(&name("devbox"))).unwrap().unwrap().record, record);
    // The sleeper gave nothing back that wasn't theirs.
    assert!(matches!(run(s3.open(fast()).lock(&name("devbox"), &owner(9))), Err(StoreError::Locked { .. })));
    run(lock.save(&mut record)).unwrap();
}

/// A whole life of a VM: what a killed one left is gone on with.
fn live(store: &ObjectStore) {
    let devbox = name("devbox");
    let mut lock = lock_when_free(store, "devbox");
    let mut record = match run(lock.load()).unwrap() {
        Some(loaded) => loaded.record,
        None => {
            let mut record = creating(&devbox);
            run(lock.create(&mut record, &snapshot())).unwrap();
            record
        }
    };
    run(lock.save(&mut record)).unwrap();
    record.phase = Phase::Destroyed;
    run(lock.archive(&mut record, Timestamp::now())).unwrap();
    drop(lock);
    println!("@lived");
}

#[test]
fn emulator_kill_at_every_request_and_the_next_goes_on() {
    let s3 = S3::ministack();
    let store = s3.open(fast());
    for after in [false, true] {
        for at in 1.. {
            let proxy = FaultProxy::start(s3.0.endpoint());
            let mut child = start(proxy.endpoint(), "live");
            let pid = child.id().to_string();
            let kill = move |_: &_| drop(Command::new("kill").args(["-KILL", &pid]).status());
            proxy.fault(At::Request(at), if after { Fault::after(kill) } else { Fault::before(kill) });
            let lived = lines(&mut child).last().as_deref() == Some("lived");
            child.wait().unwrap();
            let known = run(store.records()).unwrap();
            assert!(known.broken.is_empty() && known.entries.len() <= 1, "{known:?}");
            live(&store);
            assert_eq!(run(store.names()).unwrap(), [""; 0], "killed at {at}");
            let archive = run(store.archive_list()).unwrap();
            // The killed one may have had a whole life, in which case the next had another.
            assert!(archive.broken.is_empty() && (1..=2).contains(&archive.entries.len()), "{archive:?}");
            for archived in archive.entries {
                assert_eq!(run(store.archive_snapshot(&archived.id)).unwrap(), snapshot());
                run(store.archive_delete(&archived.id)).unwrap();
            }
            if lived && proxy.requests().len() < at {
                assert!(at > 8, "too few requests were struck: {at}");
                break;
            }
        }
    }
}
