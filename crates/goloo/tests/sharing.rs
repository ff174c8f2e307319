//! Two people, two hosts, one store: whose VM it is, and who did what to it.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::World;
use serde_json::Value;

/// A world with the VM `hello`, which runs.
fn with_a_vm() -> World {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world
}

/// Makes the record of `hello` the one of a VM on the host `desk`, as another host's goloo wrote it.
fn give_away(world: &World) {
    change(world, |record| {
        record["createdBy"]["hostId"] = "another".into();
        record["createdBy"]["host"] = "desk".into();
    });
}

fn change(world: &World, change: impl FnOnce(&mut Value)) {
    let path = world.state().join("active/hello/state.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(&path, serde_json::to_vec_pretty(&record).unwrap()).unwrap();
}

/// What was done to `hello`, as `user what outcome`.
fn deeds(world: &World) -> Vec<String> {
    let history = world.json(&["history", "hello", "--json"]);
    let word = |entry: &Value, key: &str| entry[key].as_str().unwrap_or("open").to_owned();
    let line = |entry: &Value| ["user", "what", "outcome"].map(|key| word(entry, key)).join(" ");
    history["history"].as_array().unwrap().iter().map(line).collect()
}

#[test]
fn whatever_needs_the_machine_is_refused_on_another_host_and_the_host_is_named() {
    let world = with_a_vm();
    give_away(&world);
    for command in [
        &["start", "hello"][..],
        &["stop", "hello"],
        &["restart", "hello"],
        &["delete", "hello", "--yes"],
        &["delete", "hello", "--yes", "--keep-going"],
        &["resume", "hello"],
        &["wait", "hello"],
        &["ssh", "hello"],
        &["exec", "hello", "--", "true"],
        &["cp", "hello:/etc/hostname", "."],
        &["ssh-config", "hello"],
        &["logs", "hello"],
        &["logs", "hello", "--console"],
        &["snapshot", "hello"],
        &["snapshot", "hello", "--list"],
        &["snapshot", "hello", "--delete", "one"],
        &["restore", "hello", "one", "--yes"],
        &["clone", "hello", "copy"],
        &["refresh", "hello"],
    ] {
        let ran = world.run(command).expect(1);
        assert!(ran.stderr().contains("belongs to the host desk"), "{command:?}: {ran:?}");
        assert!(ran.stderr().contains("run the command on desk"), "{command:?}: {ran:?}");
    }
    assert_eq!(world.qemus().len(), 1, "the machine of this host's was touched");
    assert_eq!(world.names(), ["hello"]);
}

#[test]
fn everyone_sees_a_vm_of_another_host_and_nobody_calls_it_missing() {
    let world = with_a_vm();
    give_away(&world);
    let machine = world.machines().remove(0);
    fs::rename(&machine, world.path().join("elsewhere")).unwrap();
    assert_eq!(world.names(), ["hello"]);
    let status = world.json(&["status", "hello", "--json"]);
    assert_eq!(status["live"]["state"], "unknown");
    assert_eq!(status["live"]["reason"], "it belongs to the host desk");
    let list = world.json(&["list", "--refresh", "--json"]);
    assert_eq!(list["vms"][0]["live"], "unknown");
    assert_eq!(list["vms"][0]["liveReason"], "it belongs to the host desk");
    world.run(&["diff", "hello"]).expect(0);
    let refresh = world.json(&["refresh", "--json"]);
    assert_eq!(refresh["missing"], serde_json::json!([]));
    assert_eq!(refresh["unknown"], serde_json::json!([]));
    assert_eq!(refresh["elsewhere"][0]["host"], "desk");
    let doctor = world.run(&["doctor"]);
    assert!(!doctor.stdout().contains("has no machine hello"), "{doctor:?}");
}

#[test]
fn a_host_that_was_renamed_is_the_same_host() {
    let world = with_a_vm();
    change(&world, |record| record["createdBy"]["host"] = "old-name".into());
    world.run(&["stop", "hello", "--force"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn the_record_of_a_lost_host_s_vm_can_be_archived_and_only_that() {
    let world = with_a_vm();
    let ran = world.run(&["delete", "hello", "--yes", "--forget"]).expect(1);
    assert!(ran.stderr().contains("can be deleted from this host"), "{ran:?}");
    world.run(&["protect", "hello"]).expect(0);
    give_away(&world);
    world.run(&["delete", "hello", "--forget"]).expect(2);
    world.run(&["delete", "hello", "--yes", "--forget"]).expect(1);
    world.run(&["unprotect", "hello"]).expect(0);
    let ran = world.run(&["delete", "hello", "--yes", "--forget"]).expect(0);
    assert!(ran.stderr().contains("may still be on desk"), "{ran:?}");
    assert_eq!(world.names(), [""; 0]);
    assert_eq!(world.qemus().len(), 1, "the machine was touched");
    let deeds = deeds(&world);
    assert_eq!(deeds.last().unwrap(), "ann forget done", "{deeds:?}");
}

#[test]
fn the_history_says_who_did_what_and_outlives_the_vm() {
    let world = with_a_vm();
    let bob = |arguments: &[&str]| {
        let ran = world.command().env("USER", "bob").args(arguments).output().unwrap();
        common::Ran(ran).expect(0);
    };
    bob(&["stop", "hello", "--force"]);
    bob(&["protect", "hello"]);
    bob(&["protect", "hello"]);
    world.run(&["unprotect", "hello"]).expect(0);
    let mut done = vec!["ann create done", "bob stop done", "bob protect done", "ann unprotect done"];
    assert_eq!(deeds(&world), done);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    done.push("ann delete done");
    assert_eq!(deeds(&world), done);
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    done.push("ann create done");
    assert_eq!(deeds(&world), done);
    let table = world.run(&["history", "hello"]).expect(0).stdout();
    assert_eq!(table.lines().count(), 1 + done.len());
    assert!(table.lines().last().unwrap().ends_with("active"), "{table}");
}

#[test]
fn a_name_that_never_was_has_no_history() {
    let ran = World::new().run(&["history", "nobody"]).expect(3);
    assert!(ran.stderr().contains("no VM is called \"nobody\""), "{ran:?}");
}

#[test]
fn an_operation_that_was_interrupted_shows_whose_it_was_and_who_went_on() {
    let world = with_a_vm();
    change(&world, |record| {
        let operation = serde_json::json!({
            "id": "01JHN3W1T3K9Q2Z8F6B4C7D5E0", "kind": "stop", "step": "intent",
            "token": "01JHN3W1T3K9Q2Z8F6B4C7D5E0",
            "owner": {"user": "bob", "host": "desk", "pid": 1, "pidStart": 1},
        });
        record["operation"] = operation;
        let entry =
            serde_json::json!({"at": "2025-01-15T10:30:00Z", "user": "bob", "host": "desk", "what": "stop"});
        record["history"].as_array_mut().unwrap().push(entry);
    });
    assert_eq!(deeds(&world)[1..], ["bob stop open"]);
    world.run(&["resume", "hello"]).expect(0);
    assert_eq!(deeds(&world)[1..], ["bob stop interrupted", "ann resume done"]);
}
