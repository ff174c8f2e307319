//! Two people, two hosts, one store: whose VM it is, and who did what to it.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Stdio;

use common::{NEEDS_THE_MACHINE, World, wait_until};
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
    for command in NEEDS_THE_MACHINE {
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
    let asked = world.run(&["resume", "hello"]).expect(2);
    assert!(asked.stderr().contains("bob on desk is said to have begun this stop of hello"), "{asked:?}");
    assert_eq!(world.qemus().len(), 1, "it was done unasked");
    world.run(&["resume", "hello", "--yes"]).expect(0);
    assert_eq!(deeds(&world)[1..], ["bob stop interrupted", "ann resume done"]);
}

/// A world whose goloo was killed while it waited for the new VM `hello`.
fn killed_in_its_create() -> World {
    let world = World::new();
    let mut create = world.command().args(["create", "hello"]).stderr(Stdio::null()).spawn().unwrap();
    let path = world.state().join("active/hello/state.json");
    let is_waiting = || fs::read_to_string(&path).is_ok_and(|text| text.contains("\"provisioning\""));
    wait_until("it waits for its machine", is_waiting);
    create.kill().unwrap();
    create.wait().unwrap();
    world
}

/// An operation as somebody else writes it into a record.
fn forged_operation(kind: &str) -> Value {
    serde_json::json!({
        "id": "01JHN3W1T3K9Q2Z8F6B4C7D5E0", "kind": kind, "step": "intent", "token": "01JHN3W1T3K9Q2Z8F6B4C7D5E0",
        "owner": {"user": "ann", "host": "laptop", "pid": 1, "pidStart": 1},
    })
}

#[test]
fn a_delete_that_was_written_into_a_record_is_not_carried_out_unasked() {
    let world = with_a_vm();
    change(&world, |record| record["operation"] = forged_operation("delete"));
    let ran = world.run(&["resume", "hello"]).expect(2);
    assert!(ran.stderr().contains("goloo resume hello --yes"), "{ran:?}");
    change(&world, |record| record["protected"] = true.into());
    let ran = world.run(&["resume", "hello", "--yes"]).expect(1);
    assert!(ran.stderr().contains("\"hello\" is protected"), "{ran:?}");
    assert_eq!((world.qemus().len(), world.names()), (1, vec!["hello".to_owned()]));
    change(&world, |record| record["protected"] = false.into());
    world.run(&["resume", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete that was agreed to");
}

#[test]
fn an_operation_of_one_s_own_goes_on_unasked_and_one_that_was_changed_does_not() {
    let world = killed_in_its_create();
    let mut inputs = Value::Null;
    change(&world, |record| {
        inputs = record["operation"]["inputs"].clone();
        record["operation"]["inputs"]["wait"] = false.into();
    });
    let ran = world.run(&["resume", "hello"]).expect(2);
    assert!(ran.stderr().contains("begun this create of hello"), "{ran:?}");
    change(&world, |record| record["operation"]["inputs"] = inputs);
    world.ssh_finds(r#"{"status": "done", "errors": [], "recoverable_errors": {}}"#);
    world.run(&["resume", "hello"]).expect(0);
}

#[test]
fn what_a_changed_record_gives_to_a_new_vm_is_asked_first() {
    let world = with_a_vm();
    world.run(&["recreate", "hello", "--as", "again", "--no-wait"]).expect(0);
    change(&world, |record| record["hostsEntry"] = true.into());
    let ran = world.run(&["recreate", "hello", "--as", "third", "--no-wait"]).expect(2);
    assert!(ran.stderr().contains("the name third in /etc/hosts"), "{ran:?}");
    change(&world, |record| record["hostsEntry"] = false.into());
    change(&world, |record| record["githubUsers"] = serde_json::json!(["mallory"]));
    let ran = world.run(&["recreate", "hello", "--as", "third", "--no-wait"]).expect(2);
    assert!(ran.stderr().contains("mallory of GitHub"), "{ran:?}");
}

#[test]
fn a_key_that_is_lost_makes_its_folder_ask_and_loses_nothing() {
    let world = with_a_vm();
    let key = world.state().join("state-key");
    fs::remove_file(&key).unwrap();
    world.run(&["stop", "hello", "--force"]).expect(0);
    assert_eq!(fs::read_to_string(&key).unwrap().len(), 65, "a new one is made");
    fs::write(&key, "garbage").unwrap();
    let ran = world.run(&["create", "hello", "--as", "other", "--no-wait"]).expect(1);
    assert!(ran.stderr().contains("state-key is damaged") && ran.stderr().contains("hint: rm "), "{ran:?}");
    assert!(world.run(&["doctor"]).stdout().contains("state-key is damaged"));
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn an_operation_that_is_over_can_not_be_put_back() {
    let world = killed_in_its_create();
    let mut operation = Value::Null;
    change(&world, |record| operation = record["operation"].clone());
    world.ssh_finds(r#"{"status": "done", "errors": [], "recoverable_errors": {}}"#);
    world.run(&["resume", "hello"]).expect(0);
    assert_eq!(fs::read_dir(world.state().join("operations")).unwrap().count(), 0);
    change(&world, |record| record["operation"] = operation);
    let ran = world.run(&["resume", "hello"]).expect(2);
    assert!(ran.stderr().contains("is said to have begun this create of hello"), "{ran:?}");
}

#[test]
fn a_copy_of_a_vm_whose_files_were_changed_is_not_this_folder_s_own() {
    let world = with_a_vm();
    world.run(&["stop", "hello", "--force"]).expect(0);
    let config = world.state().join("active/hello/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replacen('{', "{\n", 1)).unwrap();
    world.run(&["clone", "hello", "copy"]).expect(0);
    let ran = world.run(&["recreate", "copy", "--as", "third", "--no-wait"]).expect(2);
    assert!(ran.stderr().contains("doesn't prove that this state folder created it"), "{ran:?}");
    assert!(ran.stderr().contains("the image "), "{ran:?}");
}

#[test]
fn records_that_are_imported_without_proof_are_remembered_as_such() {
    let (theirs, ours) = (with_a_vm(), World::new());
    let document = ours.path().join("state.json");
    fs::write(&document, theirs.run(&["state", "pull", "-"]).expect(0).stdout()).unwrap();
    ours.run(&["state", "push", document.to_str().unwrap()]).expect(0);
    let id = theirs.json(&["status", "hello", "--json"])["vm"]["id"].as_str().unwrap().to_owned();
    assert_eq!(fs::read_to_string(ours.state().join("imported-vms")).unwrap(), format!("{id}\n"));
    // One's own come back as one's own.
    let backup = theirs.path().join("state.json");
    fs::write(&backup, theirs.run(&["state", "pull", "-"]).expect(0).stdout()).unwrap();
    theirs.run(&["state", "push", backup.to_str().unwrap()]).expect(0);
    assert!(!theirs.state().join("imported-vms").exists());
}

#[test]
fn a_broken_record_is_skipped_where_others_are_meant() {
    let world = with_a_vm();
    world.run(&["create", "hello", "--as", "other", "--no-wait"]).expect(0);
    let active = world.state().join("active/hello");
    fs::remove_file(active.join("state.json.prev")).unwrap();
    fs::write(active.join("state.json"), "{").unwrap();
    let ran = world.run(&["ssh-config"]).expect(0);
    assert!(ran.stdout().contains("Host other") && ran.stderr().contains("is broken and skipped"), "{ran:?}");
}

#[test]
fn a_list_of_imported_records_that_can_not_be_read_makes_none_of_them_trusted() {
    let (theirs, ours) = (with_a_vm(), World::new());
    let document = ours.path().join("state.json");
    fs::write(&document, theirs.run(&["state", "pull", "-"]).expect(0).stdout()).unwrap();
    let (list, push) = (ours.state().join("imported-vms"), ["state", "push", document.to_str().unwrap()]);
    fs::create_dir_all(ours.state()).unwrap();
    for damaged in ["01M8KZ0HPXCCCCCCCCCCCCCCC", "\u{1}\n"] {
        fs::write(&list, damaged).unwrap();
        let ran = ours.run(&push).expect(1);
        assert!(ran.stderr().contains("imported-vms is damaged, so nothing is imported"), "{ran:?}");
        assert_eq!(ours.names(), [""; 0]);
    }
    fs::remove_file(&list).unwrap();
    ours.run(&push).expect(0);
    // Its folder is named and not read.
    ours.run(&["diff", "hello"]).expect(1);
    fs::write(&list, "damaged").unwrap();
    ours.run(&["diff", "hello"]).expect(1);
}
