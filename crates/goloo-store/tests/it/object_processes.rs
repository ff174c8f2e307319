//! Real processes as two users of one S3 store. A test starts copies of this program, which run
//! [`one_process`] with their role in the environment.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::object_common::{S3, fast, open_with_deletes_at, settings};
use goloo_model::record::Phase;
use goloo_model::store::{HeldLock, Store, StoreError, VmLock};
use goloo_model::time::Timestamp;
use goloo_store::lease::LeaseTiming;
use goloo_store::object::{Keys, LockTable, ObjectSettings, ObjectStore, Options, Pace};
use goloo_testkit::aws_answers::Reply;
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy};
use goloo_testkit::s3_services::S3Service;
use goloo_testkit::samples::{creating, name, owner, snapshot};
use goloo_testkit::store_suite::run;

const ENDPOINT: &str = "GOLOO_TEST_ENDPOINT";
/// The endpoint of the lock table, for a server without conditional writes: s3rver.
const TABLE: &str = "GOLOO_TEST_TABLE";
const PART: &str = "GOLOO_TEST_PART";
const NAMES: [&str; 3] = ["api", "devbox", "web"];
/// How many writers there are in all, and how many changes each makes.
const MANY: (usize, usize) = (32, 50);
/// The same for two servers that are slow in taking turns: more writers would only wait for each other.
const FEW: (usize, usize) = (8, 25);
/// The pause between two attempts to take a lock that someone else holds.
const TURN: Duration = Duration::from_millis(100);

/// Plays one role and reports the result; run as a regular test, without a role, it does nothing.
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
    start_with(endpoint, part, &[])
}

fn start_with(endpoint: &str, part: &str, environment: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "object_processes::one_process", "--nocapture"])
        .env(ENDPOINT, endpoint)
        .env(PART, part)
        .envs(environment.iter().copied())
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

fn lock_when_free(store: &dyn Store, vm: &str) -> Box<dyn VmLock> {
    let end = Instant::now() + Duration::from_secs(240);
    loop {
        match run(store.lock(&name(vm), &owner(std::process::id()))) {
            Ok(lock) => return lock,
            Err(error) => assert!(Instant::now() < end, "no lock in all this time: {error:?}"),
        }
        std::thread::sleep(TURN);
    }
}

/// The store that two users share.
fn shared(endpoint: &str) -> ObjectStore {
    match std::env::var(TABLE) {
        Ok(table) => ObjectStore::open(s3rver_settings(endpoint, &table), slow()).unwrap(),
        Err(_) => open_with_deletes_at(endpoint, fast()),
    }
}

fn s3rver_settings(endpoint: &str, table: &str) -> ObjectSettings {
    let lock_table = Some(LockTable { name: "locks".to_owned(), endpoint: Some(table.to_owned()) });
    let keys = Keys { access_key_id: "S3RVER".to_owned(), secret_access_key: "S3RVER".to_owned() };
    ObjectSettings { keys: Some(keys), lock_table, ..settings(endpoint) }
}

/// Both servers and all writers share this host's cores: nothing must fail because of delays.
fn slow() -> Options {
    let pace = Pace {
        lease: LeaseTiming { length: Duration::from_secs(150), ..fast().pace.lease },
        answer: Duration::from_secs(60),
        ..fast().pace
    };
    Options { pace, ..fast() }
}

/// Half of the writers, each with its share of changes; each change increments a count in the record.
fn count(endpoint: &str) {
    let (writers, changes) = if std::env::var_os(TABLE).is_some() { FEW } else { MANY };
    std::thread::scope(|scope| {
        for writer in 0..writers / 2 {
            scope.spawn(move || {
                let store = shared(endpoint);
                for change in 0..changes {
                    let vm = NAMES[(writer + change) % NAMES.len()];
                    while !raise(&store, vm, writer, change) {}
                }
            });
        }
    });
    println!("@done");
}

/// Increments the count, unless this change was made already; `false` if the lock was lost and that is unknown.
fn raise(store: &dyn Store, vm: &str, writer: usize, change: usize) -> bool {
    let mut lock = lock_when_free(store, vm);
    let mut record = run(lock.load()).unwrap().unwrap().record;
    let (writer, change) = (format!("{}-{writer}", std::process::id()), change.to_string());
    if record.tags.get(&writer) == Some(&change) {
        return true;
    }
    let count = record.tags.get("count").map_or(0, |count| count.parse::<u64>().unwrap());
    record.tags.insert("count".to_owned(), (count + 1).to_string());
    record.tags.insert(writer, change);
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match run(lock.save(&mut record)) {
            Ok(()) => return true,
            Err(StoreError::LockLost { .. }) => return false,
            Err(StoreError::Unreachable { .. } | StoreError::Backend { .. }) if Instant::now() < end => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// A minimal S3 error response.
fn refusal(status: u16, code: &str) -> Fault {
    let body = format!("<Error><Code>{code}</Code></Error>");
    Fault::Refused(Reply { status, kind: "application/xml", body })
}

/// Injects a fault into about every 13th request, each kind in turn.
fn strike_all_the_time(proxy: &FaultProxy) {
    for at in 0..2000 {
        let fault = match at % 7 {
            0 | 1 => Fault::ReplyLost,
            2 => Fault::CutBefore,
            3 => refusal(409, "ConditionalRequestConflict"),
            4 => refusal(412, "PreconditionFailed"),
            5 => Fault::Status500,
            // Longer than the lease: the request may arrive when someone else has the lock.
            _ if at % 20 == 0 => Fault::Stall(fast().pace.lease.length * 2),
            _ => Fault::Throttled,
        };
        proxy.fault(At::Request(7 + at * 13), fault);
    }
}

/// Stops a process during a change until each of its locks was taken by someone else.
fn sleep_past_the_lease(store: &dyn Store, person: &mut Child) {
    let pid = person.id();
    let holds = |held: &HeldLock| held.owner.as_ref().is_some_and(|owner| owner.pid == pid);
    let holds_any = || run(store.locks()).unwrap().iter().any(holds);
    loop {
        while !holds_any() {
            assert_eq!(person.try_wait().unwrap(), None, "they ended before they were stopped");
            std::thread::sleep(TURN);
        }
        signal(person, "-STOP");
        if holds_any() {
            break;
        }
        signal(person, "-CONT");
    }
    while holds_any() {
        std::thread::sleep(TURN);
    }
    signal(person, "-CONT");
}

/// Two processes with 16 writers each, 50 changes per writer; takes about 80 s.
#[test]
fn emulator_two_processes_lose_no_update_on_an_unreliable_connection() {
    let s3 = S3::ministack();
    let store = s3.open(fast());
    for vm in NAMES {
        run(lock_when_free(&store, vm).create(&mut creating(&name(vm)), &snapshot())).unwrap();
    }
    let proxy = FaultProxy::start(s3.emulator.endpoint());
    strike_all_the_time(&proxy);
    let mut people = [start(proxy.endpoint(), "count"), start(proxy.endpoint(), "count")];
    sleep_past_the_lease(&store, &mut people[0]);
    for person in &mut people {
        assert_eq!(lines(person).last().as_deref(), Some("done"));
        assert!(person.wait().unwrap().success());
    }
    assert!(proxy.struck() > 100, "only {} faults struck", proxy.struck());
    assert_all_counted(&store, MANY);
}

fn assert_all_counted(store: &dyn Store, (writers, changes): (usize, usize)) {
    let listing = run(store.records()).unwrap();
    assert_eq!(listing.broken, []);
    let counts = listing.entries.iter().map(|loaded| loaded.record.tags["count"].parse::<usize>().unwrap());
    assert_eq!(counts.sum::<usize>(), writers * changes);
    for loaded in &listing.entries {
        assert!(loaded.record.serial > loaded.record.tags["count"].parse().unwrap());
    }
    assert_eq!(run(store.locks()).unwrap(), []);
}

/// The same on a server that ignores conditions, with a lock table whose refusals don't contain the row.
#[test]
fn emulator_two_processes_lose_no_update_on_s3rver_with_a_lock_table() {
    let (s3rver, dynalite) = (S3Service::s3rver(), S3Service::dynalite("locks"));
    let settings = s3rver_settings(s3rver.endpoint(), dynalite.endpoint());
    let store = ObjectStore::open(settings, slow()).unwrap();
    for vm in NAMES {
        run(lock_when_free(&store, vm).create(&mut creating(&name(vm)), &snapshot())).unwrap();
    }
    let person = || start_with(s3rver.endpoint(), "count", &[(TABLE, dynalite.endpoint())]);
    for mut person in [person(), person()] {
        assert_eq!(lines(&mut person).last().as_deref(), Some("done"));
        assert!(person.wait().unwrap().success());
    }
    assert_all_counted(&store, FEW);
}

/// Creates a VM, then waits under its lock for a message, and writes.
fn hold(store: &ObjectStore) {
    let devbox = name("devbox");
    let mut lock = lock_when_free(store, "devbox");
    let mut record = creating(&devbox);
    run(lock.create(&mut record, &snapshot())).unwrap();
    println!("@held");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    record.stack = "from the past".into();
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
fn emulator_an_owner_suspended_during_a_takeover_changes_nothing() {
    let s3 = S3::ministack();
    let mut sleeper = start(s3.emulator.endpoint(), "hold");
    let mut said = lines(&mut sleeper);
    assert_eq!(said.next().as_deref(), Some("held"));
    signal(&sleeper, "-STOP");
    let store = s3.open(fast());
    let mut lock = lock_when_free(&store, "devbox");
    assert_eq!(lock.taken_over().map(|owner| owner.pid), Some(sleeper.id()));
    let mut record = run(lock.load()).unwrap().unwrap().record;
    record.stack = "from now".into();
    run(lock.save(&mut record)).unwrap();
    signal(&sleeper, "-CONT");
    sleeper.stdin.take().unwrap().write_all(b"x").unwrap();
    assert_eq!(said.next().as_deref(), Some("lost"));
    assert_eq!(said.next().as_deref(), Some("gone"));
    sleeper.wait().unwrap();
    assert_eq!(run(store.load(&name("devbox"))).unwrap().unwrap().record, record);
    // The suspended process released nothing that it no longer held.
    assert!(matches!(run(s3.open(fast()).lock(&name("devbox"), &owner(9))), Err(StoreError::Locked { .. })));
    run(lock.save(&mut record)).unwrap();
}

/// The life cycle of a VM: continues what a killed process left behind.
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
fn emulator_kill_at_every_request_and_the_next_process_continues() {
    let s3 = S3::ministack();
    let store = s3.open(fast());
    for after in [false, true] {
        for at in 1.. {
            let proxy = FaultProxy::start(s3.emulator.endpoint());
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
            // The killed process may have completed its life cycle, in which case the next one added another.
            assert!(archive.broken.is_empty() && (1..=2).contains(&archive.entries.len()), "{archive:?}");
            for archived in archive.entries {
                assert_eq!(run(store.archive_snapshot(&archived.id)).unwrap(), snapshot());
                run(store.archive_delete(&archived.id, &owner(1))).unwrap();
            }
            if lived && proxy.requests().len() < at {
                assert!(at > 8, "too few requests were struck: {at}");
                break;
            }
        }
    }
}
