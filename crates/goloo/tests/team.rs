//! The real command with its records in a bucket: S3 on an emulator, and people who share it.

#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use common::{Ran, World};
use goloo_core::record::Phase;
use goloo_core::store::Store;
use goloo_store::{DirStore, Options};
use goloo_testkit::aws_emulators::{AwsEmulator, Credentials, aim};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy, Request};
use goloo_testkit::samples::{in_aws, name, owner, ready, snapshot, time};
use goloo_testkit::store_suite::run;
use serde_json::{Value, json};

const BUCKET: &str = "team";

fn s3() -> AwsEmulator {
    let aws = AwsEmulator::ministack();
    aws.rest("s3", "PUT", &format!("/{BUCKET}"), "");
    aws
}

fn address(endpoint: &str, prefix: &str) -> String {
    format!("s3://{BUCKET}/{prefix}?region=us-east-1&endpoint={endpoint}")
}

/// One person: a computer, and the way to the store.
struct Person {
    world: World,
    user: &'static str,
    store: String,
}

impl Person {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.command();
        // The endpoint is the address's business.
        aim(&mut command, "http://127.0.0.1:9", &Credentials::any());
        command.env_remove("AWS_ENDPOINT_URL");
        command.env("GOLOO_STATE_BACKEND", &self.store).env("USER", self.user).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn signal(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

fn ended(child: Child) -> Ran {
    Ran(child.wait_with_output().unwrap())
}

// Moves.

/// A world with two VMs and two in the archive, one of them of a name that is in use again.
fn filled(user: &'static str) -> (World, &'static str) {
    let world = World::new();
    let store = DirStore::open(&world.state(), Options::default());
    let create = |mut record: goloo_core::record::Record| {
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

/// One whose store is what the settings say: moves change it.
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
fn emulator_a_move_round_all_places_keeps_every_byte() {
    let aws = s3();
    let ann = Mover::new();
    let before = ann.pulled();
    let sqlite = format!("sqlite:{}", ann.0.world.path().join("all.db").display());
    for place in [&sqlite, &address(aws.endpoint(), "goloo"), "dir"] {
        ann.run(&["state", "move", place]).expect(0);
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

/// What becomes of the write that a process is killed at.
#[derive(Debug, Clone, Copy)]
enum Write {
    /// It never arrives.
    Lost,
    /// It arrives, and nobody is there for the reply.
    Done,
}

/// Kills a command at its `n`-th PUT or DELETE; `false` when it came to its end before.
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
        if !killed_at(ann.command(&["state", "move", &moving]), &proxy, n, write) {
            assert!(n > 8, "too few writes: {n}");
            return;
        }
        proxy.reset();
        assert_eq!(ann.pulled(), before, "{write:?} at {n}: before the second try");
        let again = ann.run(&["state", "move", &moving]);
        assert_eq!(again.code(), 0, "{write:?} at {n}: {again:?}");
        assert_eq!(ann.pulled(), before, "{write:?} at {n}");
        assert_eq!(ann.locks(), json!([]), "{write:?} at {n}");
    }
    panic!("a move has no end of writes");
}

#[test]
fn emulator_a_move_killed_at_a_write_that_never_arrives_is_gone_on_with() {
    killed_moves(Write::Lost);
}

#[test]
fn emulator_a_move_killed_at_a_write_that_arrives_is_gone_on_with() {
    killed_moves(Write::Done);
}
