//! Locks with leases: what others are told about them, and what happens to a holder whose lease is broken.

use std::process::{Child, Stdio};

use crate::common::{Ran, World, wait_until};
use goloo_model::time::Timestamp;
use serde_json::Value;

const DONE: &str = r#"{"status":"done","errors":[]}"#;

/// A world with its records in a SQLite file, whose machines never answer.
fn world() -> World {
    let world = World::new();
    world.settings(r#"{"localProvider": "qemu", "stateBackend": {"type": "sqlite"}}"#);
    world.program("ssh", "#!/bin/sh\nexit 255\n");
    world
}

/// Starts a create that waits for its machine to answer.
fn waiting_create(world: &World) -> Child {
    let mut command = world.command();
    command.args(["create", "hello"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // This fails until there is a record.
    let step = || world.json(&["status", "hello", "--json"])["vm"]["operation"]["step"].clone();
    wait_until("the machine is there", || step() == "provisioning");
    child
}

fn by_bob(world: &World, arguments: &[&str]) -> Ran {
    Ran(world.command().env("USER", "bob").args(arguments).output().unwrap())
}

fn deeds(world: &World) -> Vec<String> {
    let history = world.json(&["history", "hello", "--json"]);
    let line = |entry: &Value| [&entry["user"], &entry["what"]].map(|word| word.as_str().unwrap()).join(" ");
    history["history"].as_array().unwrap().iter().map(line).collect()
}

#[test]
fn the_error_for_a_leased_vm_shows_the_lease_end_and_the_unlock_command() {
    let world = world();
    let mut create = waiting_create(&world);
    let saved = world.json(&["status", "hello", "--json"])["vm"]["operation"]["leaseEnd"].clone();
    let end = Timestamp::parse(saved.as_str().unwrap()).unwrap();
    let left = end.since(Timestamp::now()).as_secs();
    assert!((1..=90).contains(&left), "{left} s");
    let status = world.run(&["status", "hello"]).expect(0);
    let holder = format!("(pid {}) until ", create.id());
    assert!(status.stdout().contains(&holder), "{status:?}");
    let refused = by_bob(&world, &["protect", "hello"]).expect(5);
    assert!(refused.stderr().contains("the lock expires at 2"), "{refused:?}");
    assert!(refused.stderr().contains("goloo state unlock hello"), "{refused:?}");

    create.kill().unwrap();
    create.wait().unwrap();
    let status = world.run(&["status", "hello"]).expect(0);
    assert!(status.stdout().contains("interrupted, run `goloo resume hello`"), "{status:?}");
    world.ssh_finds(DONE);
    world.run(&["resume", "hello"]).expect(0);
    assert_eq!(deeds(&world), ["ann create", "ann takeover", "ann resume"]);
}

#[test]
fn a_create_that_loses_its_lock_saves_nothing_and_history_shows_the_takeover() {
    let world = world();
    let create = waiting_create(&world);
    by_bob(&world, &["state", "unlock", "hello", "--yes"]).expect(0);
    by_bob(&world, &["protect", "hello"]).expect(0);
    assert_eq!(deeds(&world), ["ann create", "bob takeover", "bob protect"]);
    let history = world.run(&["history", "hello"]).expect(0);
    let former = format!("the lock was held by ann on {}", host());
    assert!(history.stdout().contains(&former), "{history:?}");
    let before = world.run(&["state", "pull", "-"]).expect(0).stdout();

    world.ssh_finds(DONE);
    let woken = Ran(create.wait_with_output().unwrap()).expect(7);
    assert!(woken.stderr().contains("the lock of \"hello\" was lost"), "{woken:?}");
    assert!(
        woken.stderr().contains("wait until the other process has finished (`goloo status hello` shows it)"),
        "{woken:?}"
    );
    assert!(woken.stderr().contains("goloo-rescue-hello-"), "{woken:?}");
    assert_eq!(world.run(&["state", "pull", "-"]).expect(0).stdout(), before);
    world.run(&["resume", "hello"]).expect(0);
    assert_eq!(world.json(&["status", "hello", "--json"])["vm"]["phase"], "ready");
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}
