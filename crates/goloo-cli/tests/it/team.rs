//! The real command with its records in a bucket: S3 on an emulator, shared by several users.

#![cfg(feature = "s3")]

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use crate::common::{Ran, World, wait_until};
use goloo_model::record::Phase;
use goloo_model::store::Store;
use goloo_store::{DirStore, Options};
use goloo_testkit::aws_answers::Reply;
use goloo_testkit::aws_emulators::{AwsEmulator, Credentials, aim};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy, Request};
use goloo_testkit::samples::{in_aws, name, owner, ready, snapshot, time};
use goloo_testkit::store_suite::run;
use serde_json::{Value, json};

const BUCKET: &str = "team";
/// An unanswered request is retried for half a minute; the rest is margin for a busy machine.
const GIVEN_UP: Duration = Duration::from_secs(55);
/// If nothing listens, the only attempt takes ten seconds; the rest is margin for a busy machine.
const NOBODY: Duration = Duration::from_secs(18);

fn s3() -> AwsEmulator {
    let aws = AwsEmulator::ministack();
    aws.rest("s3", "PUT", &format!("/{BUCKET}"), "");
    aws
}

fn address(endpoint: &str, prefix: &str) -> String {
    format!("s3://{BUCKET}/{prefix}?region=us-east-1&endpoint={endpoint}")
}

/// A user: a computer, and the address of the store.
struct Person {
    world: World,
    user: &'static str,
    store: String,
}

impl Person {
    fn new(user: &'static str, endpoint: &str) -> Self {
        Self { world: World::new(), user, store: address(endpoint, "goloo") }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.command();
        // The store's address contains the endpoint.
        aim(&mut command, "http://127.0.0.1:9", &Credentials::any());
        command.env_remove("AWS_ENDPOINT_URL");
        command.env("GOLOO_STATE_BACKEND", &self.store).env("USER", self.user).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.command(arguments).output().unwrap())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(arguments).expect(0).stdout()).unwrap()
    }

    fn pulled(&self) -> String {
        self.run(&["state", "pull", "-"]).expect(0).stdout()
    }

    fn locks(&self) -> Value {
        self.json(&["state", "locks", "--json"])["locks"].clone()
    }

    fn names(&self) -> Vec<String> {
        let list = self.json(&["list", "--json"]);
        list["vms"].as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap().to_owned()).collect()
    }
}

fn signal(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

fn ended(child: Child) -> Ran {
    Ran(child.wait_with_output().unwrap())
}

// One user.

#[test]
fn emulator_a_vm_is_created_and_deleted_with_its_record_in_a_bucket() {
    let aws = s3();
    let ann = Person::new("ann", aws.endpoint());
    ann.run(&["create", "hello", "--no-wait"]).expect(0);
    assert_eq!(ann.names(), ["hello"]);
    assert_eq!(ann.json(&["status", "hello", "--json"])["live"]["state"], "running");
    ann.run(&["protect", "hello"]).expect(0);
    ann.run(&["delete", "hello", "--yes"]).expect(1);
    ann.run(&["unprotect", "hello"]).expect(0);
    assert!(!ann.world.state().join("active").exists(), "a record is on this computer");
    ann.run(&["delete", "hello", "--yes"]).expect(0);
    assert_eq!(ann.names(), [""; 0]);
    wait_until("QEMU is gone", || ann.world.qemus().is_empty());

    let archive = ann.json(&["archive", "list", "--json"]);
    let archived = archive["archived"].as_array().unwrap();
    assert_eq!(archived.len(), 1, "{archive}");
    ann.run(&["archive", "show", archived[0]["archiveId"].as_str().unwrap()]).expect(0);
    let history = ann.json(&["history", "hello", "--json"]);
    let deeds: Vec<_> = history["history"].as_array().unwrap().iter().map(|entry| &entry["what"]).collect();
    assert_eq!(deeds, ["create", "protect", "unprotect", "delete"]);
    assert_eq!(ann.locks(), json!([]));
    assert!(!ann.world.state().join("archive").exists(), "a record is on this computer");
}

/// Runs a command that must fail within the time limit.
#[track_caller]
fn fails_in_time(command: Command, code: i32) -> Value {
    fails_within(GIVEN_UP, command, code)
}

#[track_caller]
fn fails_within(limit: Duration, mut command: Command, code: i32) -> Value {
    let start = Instant::now();
    let ran = Ran(command.output().unwrap());
    assert!(start.elapsed() < limit, "{:?}: {ran:?}", start.elapsed());
    let ran = ran.expect(code);
    let error: Value = serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert!(!error["error"]["hint"].as_str().unwrap().is_empty(), "{error}");
    error["error"].clone()
}

const COMMANDS: [&[&str]; 4] = [
    &["list", "--json"],
    &["status", "hello", "--json"],
    &["protect", "hello", "--json"],
    &["create", "hello", "--no-wait", "--json"],
];

#[test]
fn emulator_refused_or_missing_credentials_exit_4_and_leave_nothing() {
    let aws = s3();
    let proxy = FaultProxy::start(aws.endpoint());
    let ann = Person::new("ann", proxy.endpoint());
    let body =
        "<?xml version=\"1.0\"?><Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>";
    let refusal = Reply { status: 403, kind: "application/xml", body: body.to_owned() };
    proxy.fault(At::From(1), Fault::Refused(refusal));
    for arguments in COMMANDS {
        let error = fails_in_time(ann.command(arguments), 4);
        assert_eq!(error["code"], "denied", "{arguments:?}: {error}");
        assert!(error.to_string().contains("InvalidAccessKeyId"), "{error}");
        let mut without = ann.command(arguments);
        without.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        let error = fails_in_time(without, 4);
        assert_eq!(error["code"], "denied", "{arguments:?}: {error}");
    }
    assert!(ann.world.machines().is_empty() && ann.world.qemus().is_empty());
}

#[test]
fn emulator_a_missing_bucket_is_an_error_and_not_an_empty_store() {
    let aws = s3();
    let mut ann = Person::new("ann", aws.endpoint());
    ann.store = ann.store.replace("s3://team/", "s3://taem/");
    std::thread::scope(|scope| {
        for arguments in COMMANDS {
            let command = ann.command(arguments);
            scope.spawn(move || {
                let error = fails_in_time(command, 1);
                assert!(error.to_string().contains("s3://taem/goloo"), "{arguments:?}: {error}");
                assert_eq!(error["code"], "no-bucket", "{arguments:?}: {error}");
            });
        }
    });
    assert!(ann.world.machines().is_empty() && ann.world.qemus().is_empty());
}

#[test]
fn emulator_an_unreachable_store_is_reported_within_the_time_limit() {
    // Nothing listens on a port that was just released.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ann = Person::new("ann", &format!("http://{free}"));
    // The records are read for its VM too.
    ann.world.stack("old", r#"{"vm": {"name": "old"}, "local": {"ip": "10.75.123.45"}}"#, "");
    std::thread::scope(|scope| {
        for arguments in COMMANDS {
            let command = ann.command(arguments);
            scope.spawn(move || {
                let error = fails_within(NOBODY, command, 1);
                assert_eq!(error["code"], "unreachable", "{arguments:?}: {error}");
            });
        }
    });
    assert!(ann.world.machines().is_empty() && ann.world.qemus().is_empty());
}

// Two users.

/// Changes the record of `hello` to that of a VM on the host `desk`, as that host's goloo would write it.
fn give_away(person: &Person) {
    let mut all: Value = serde_json::from_str(&person.pulled()).unwrap();
    let record = &mut all["vms"][0]["record"];
    record["createdBy"]["hostId"] = json!("another");
    record["createdBy"]["host"] = json!("desk");
    record["serial"] = json!(record["serial"].as_u64().unwrap() + 1);
    let file = person.world.path().join("all.json");
    std::fs::write(&file, all.to_string()).unwrap();
    person.run(&["state", "push", &file.display().to_string()]).expect(0);
}

#[test]
fn emulator_all_users_see_a_local_vm_but_only_its_host_changes_it() {
    let aws = s3();
    let (ann, bob) = (Person::new("ann", aws.endpoint()), Person::new("bob", aws.endpoint()));
    ann.run(&["create", "hello", "--no-wait"]).expect(0);
    give_away(&bob);
    assert_eq!(bob.names(), ["hello"]);
    for arguments in [&["stop", "hello"][..], &["ssh", "hello"], &["delete", "hello", "--yes"]] {
        let refused = bob.run(arguments).expect(1);
        assert!(refused.stderr().contains("belongs to the host desk"), "{arguments:?}: {refused:?}");
    }
    // Commands that only change the record work from any host.
    bob.run(&["protect", "hello"]).expect(0);
    let history = ann.json(&["history", "hello", "--json"]);
    let last = history["history"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["user"], &last["what"]), (&json!("bob"), &json!("protect")));
    let taken = bob.run(&["create", "hello", "--no-wait"]).expect(3);
    assert!(taken.stderr().contains("hello"), "{taken:?}");
    assert_eq!((ann.world.qemus().len(), bob.world.machines().len()), (1, 0));
    assert_eq!(ann.locks(), json!([]));
}

/// Starts a command and stops it with SIGSTOP after its `n`-th write of `hello`; returns when it is stopped.
fn stopped_after_write(person: &Person, proxy: &FaultProxy, n: usize, arguments: &[&str]) -> Child {
    let (told, stopped) = mpsc::channel();
    let pid = Arc::new(OnceLock::new());
    let whom = pid.clone();
    let stop = move |_: &Request| {
        signal(*whom.wait(), "-STOP");
        told.send(()).unwrap();
    };
    proxy.fault(At::Action("PUT /team/goloo/active/hello.json", n), Fault::after(stop));
    let child = person.command(arguments).spawn().unwrap();
    pid.set(child.id()).unwrap();
    stopped.recv_timeout(Duration::from_secs(30)).unwrap();
    child
}

#[test]
fn emulator_a_process_whose_lock_was_broken_changes_nothing() {
    let aws = s3();
    let proxy = FaultProxy::start(aws.endpoint());
    let (ann, bob) = (Person::new("ann", proxy.endpoint()), Person::new("bob", aws.endpoint()));
    // The first write is for the lock, the second for the intent.
    let asleep = stopped_after_write(&ann, &proxy, 2, &["create", "hello", "--no-wait"]);
    let locks = bob.locks();
    assert_eq!((&locks[0]["name"], &locks[0]["owner"]["user"]), (&json!("hello"), &json!("ann")));
    assert_eq!(locks[0]["owner"]["pid"], asleep.id());
    assert!(locks[0]["leaseEnd"].is_string(), "{locks}");
    let refused = bob.run(&["protect", "hello"]).expect(5);
    assert!(refused.stderr().contains("ann"), "{refused:?}");
    bob.run(&["state", "unlock", "hello"]).expect(2);
    let broken = bob.run(&["state", "unlock", "hello", "--yes"]).expect(0);
    assert!(broken.stdout().contains("its create may still be in progress"), "{broken:?}");
    bob.run(&["protect", "hello"]).expect(0);
    let before = bob.pulled();

    signal(asleep.id(), "-CONT");
    // It may have created something: that is exit code 6.
    let woken = ended(asleep).expect(6);
    assert!(woken.stderr().contains("the lock of \"hello\" was lost"), "{woken:?}");
    assert_eq!(bob.pulled(), before, "the woken one changed the record");
    assert_eq!(bob.locks(), json!([]));
    // What it may have created is on its host, and recorded.
    ann.run(&["unprotect", "hello"]).expect(0);
    ann.run(&["delete", "hello", "--yes"]).expect(0);
    assert!(ann.world.machines().is_empty());
    wait_until("QEMU is gone", || ann.world.qemus().is_empty());
}

// Moves.

/// A world with two VMs and two archived ones, of which one has a name that is in use again.
fn filled(user: &'static str) -> (World, &'static str) {
    let world = World::new();
    let store = DirStore::open(&world.state(), Options::default());
    let create = |mut record: goloo_model::record::Record| {
        let mut lock = run(store.lock(&record.name, &owner(1))).unwrap();
        run(lock.create(&mut record, &snapshot())).unwrap();
    };
    for vm in ["gone", "web"] {
        create(ready(&name(vm)));
        let mut lock = run(store.lock(&name(vm), &owner(1))).unwrap();
        let mut record = run(lock.load()).unwrap().unwrap().record;
        record.phase = Phase::Destroyed;
        run(lock.archive(&mut record, time("2025-02-01T00:00:00Z"))).unwrap();
    }
    create(in_aws(&name("api")));
    create(ready(&name("web")));
    (world, user)
}

/// A user whose store comes from the settings, which moves change.
struct Mover(Person);

impl Mover {
    fn new() -> Self {
        let (world, user) = filled("ann");
        Self(Person { world, user, store: String::new() })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.0.command(arguments);
        command.env_remove("GOLOO_STATE_BACKEND");
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.command(arguments).output().unwrap())
    }

    fn pulled(&self) -> String {
        self.run(&["state", "pull", "-"]).expect(0).stdout()
    }

    fn locks(&self) -> Value {
        let ran = self.run(&["state", "locks", "--json"]).expect(0);
        serde_json::from_str::<Value>(&ran.stdout()).unwrap()["locks"].clone()
    }
}

#[test]
fn emulator_moves_through_all_backends_preserve_every_byte() {
    let aws = s3();
    let ann = Mover::new();
    let before = ann.pulled();
    let sqlite = format!("sqlite:{}", ann.0.world.path().join("all.db").display());
    for place in [&sqlite, &address(aws.endpoint(), "goloo"), "dir"] {
        ann.run(&["state", "move", "--yes", place]).expect(0);
        assert_eq!(ann.pulled(), before, "{place}");
        assert_eq!(ann.locks(), json!([]), "{place}");
        let shown: Value =
            serde_json::from_str(&ann.run(&["state", "show", "--json"]).expect(0).stdout()).unwrap();
        assert_eq!(
            (&shown["address"], &shown["vms"], &shown["archived"]),
            (&json!(place), &json!(2), &json!(2))
        );
    }
}

/// What happens to the write at which a process is killed.
#[derive(Debug, Clone, Copy)]
enum Write {
    /// It never arrives.
    Lost,
    /// It arrives, but nobody receives the response.
    Done,
}

/// Kills a command at its `n`-th PUT or DELETE; `false` if it completed before.
fn killed_at(mut command: Command, proxy: &FaultProxy, n: usize, write: Write) -> bool {
    proxy.reset();
    let pid = Arc::new(OnceLock::new());
    let (whom, writes) = (pid.clone(), AtomicUsize::new(0));
    let kill = move |request: &Request| {
        if !["PUT", "DELETE"].contains(&request.method.as_str()) {
            return;
        }
        if writes.fetch_add(1, Ordering::Relaxed) + 1 == n {
            signal(*whom.wait(), "-KILL");
            if matches!(write, Write::Lost) {
                loop {
                    std::thread::park();
                }
            }
        }
    };
    proxy.fault(At::From(1), Fault::before(kill));
    let child = command.spawn().unwrap();
    pid.set(child.id()).unwrap();
    let ran = ended(child);
    if ran.code() == 0 {
        return false;
    }
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(ran.0.status.signal(), Some(9), "{write:?} at {n}: {ran:?}");
    true
}

fn killed_moves(write: Write) {
    let aws = s3();
    let proxy = FaultProxy::start(aws.endpoint());
    for n in 1..60 {
        let ann = Mover::new();
        let before = ann.pulled();
        let moving = address(proxy.endpoint(), &format!("move-{n}"));
        if !killed_at(ann.command(&["state", "move", "--yes", &moving]), &proxy, n, write) {
            assert!(n > 8, "too few writes: {n}");
            return;
        }
        proxy.reset();
        assert_eq!(ann.pulled(), before, "{write:?} at {n}: before the second try");
        let again = ann.run(&["state", "move", "--yes", &moving]);
        assert_eq!(again.code(), 0, "{write:?} at {n}: {again:?}");
        assert_eq!(ann.pulled(), before, "{write:?} at {n}");
        assert_eq!(ann.locks(), json!([]), "{write:?} at {n}");
    }
    panic!("a move has no end of writes");
}

#[test]
fn emulator_a_move_killed_before_a_write_arrives_can_be_continued() {
    killed_moves(Write::Lost);
}

#[test]
fn emulator_a_move_killed_after_a_write_arrives_can_be_continued() {
    killed_moves(Write::Done);
}

// Concurrency.

const NAMES: [&str; 3] = ["api", "db", "web"];
const ROUNDS: usize = 10;

/// A successful command: its user, and the resulting record.
struct Success {
    user: String,
    vm: Value,
}

/// Sets the protection of one VM, retrying while others hold the lock. Each attempt has its own user, so that the
/// history distinguishes them.
fn set(person: &Person, vm: &str, protected: bool, round: usize) -> Success {
    let what = if protected { "protect" } else { "unprotect" };
    for attempt in 0.. {
        let user = format!("{}-{round}-{attempt}", person.user);
        let mut command = person.command(&[what, vm, "--json"]);
        let ran = Ran(command.env("USER", &user).output().unwrap());
        if ran.code() == 0 {
            let result: Value = serde_json::from_str(&ran.stdout()).unwrap();
            return Success { user, vm: result["vm"].clone() };
        }
        assert!(attempt < 200, "{ran:?}");
        let ran = ran.expect(5);
        assert!(ran.stdout().contains("\"locked\""), "{ran:?}");
    }
    unreachable!("a loop without an end")
}

#[test]
fn emulator_two_users_with_lost_replies_make_one_change_per_success() {
    let aws = s3();
    let proxy = FaultProxy::start(aws.endpoint());
    // The first write by this address checks whether the service supports conditional writes. That check needs
    // clear answers of writers that race, so no reply is lost yet.
    let setup = Person::new("setup", proxy.endpoint());
    for vm in NAMES {
        setup.run(&["create", "hello", "--as", vm, "--no-wait"]).expect(0);
    }
    proxy.reset();
    let setup = Person::new("setup", aws.endpoint());
    let serial = |record: &Value| record["serial"].as_u64().unwrap();
    let record = |vm: &str| setup.json(&["status", vm, "--json"])["vm"].clone();
    let first: BTreeMap<_, _> = NAMES.map(|vm| (vm, serial(&record(vm)))).into();
    for at in (3..4000).step_by(5) {
        proxy.fault(At::Request(at), Fault::ReplyLost);
    }
    let people = ["ann", "bob"].map(|user| Person::new(user, proxy.endpoint()));
    let successes: Vec<Success> = std::thread::scope(|scope| {
        let work = |person: &Person, first: usize| {
            let rounds = (0..ROUNDS).flat_map(|round| NAMES.map(|vm| (round, vm)));
            rounds
                .map(|(round, vm)| set(person, vm, (round + first).is_multiple_of(2), round))
                .collect::<Vec<_>>()
        };
        let running: Vec<_> = people
            .iter()
            .enumerate()
            .map(|(first, person)| scope.spawn(move || work(person, first)))
            .collect();
        running.into_iter().flat_map(|ran| ran.join().unwrap()).collect()
    });
    assert_eq!(successes.len(), 2 * ROUNDS * NAMES.len());
    assert!(proxy.struck() > 30, "replies were lost: {}", proxy.struck());
    for vm in NAMES {
        let last = record(vm);
        let deeds: Vec<_> = last["history"].as_array().unwrap()[1..].iter().collect();
        assert_eq!(
            serial(&last),
            first[vm] + deeds.len() as u64,
            "{vm}: a step without a deed, or the reverse"
        );
        for (n, deed) in deeds.iter().enumerate() {
            assert_eq!(deed["what"], ["protect", "unprotect"][n % 2], "{vm}: step {n} changed nothing");
            let step = first[vm] + n as u64 + 1;
            let by: Vec<_> = successes
                .iter()
                .filter(|success| success.vm["name"] == vm && deed["user"] == success.user.as_str())
                .collect();
            assert_eq!(by.len(), 1, "{vm}: {deed} was told as a success {} times", by.len());
            assert_eq!(serial(&by[0].vm), step, "{vm}: {deed}");
        }
    }
    assert_eq!(setup.locks(), json!([]));
    assert_eq!(setup.names(), NAMES);
    assert_eq!(setup.json(&["list", "--json"])["broken"], json!([]));
}
