//! Two users and two hosts share one store: who owns a VM, and who did what to it.

use crate::common;
use std::fs;
use std::process::Stdio;

use crate::common::{NEEDS_THE_MACHINE, World, wait_until};
use serde_json::Value;

/// A world with the running VM `hello`.
fn with_a_vm() -> World {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world
}

/// Changes the record of `hello` to that of a VM on the host `desk`, as another host's goloo would write it.
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

/// The history of `hello`, as `user what outcome`.
fn deeds(world: &World) -> Vec<String> {
    let history = world.json(&["history", "hello", "--json"]);
    let word = |entry: &Value, key: &str| entry[key].as_str().unwrap_or("open").to_owned();
    let line = |entry: &Value| ["user", "what", "outcome"].map(|key| word(entry, key)).join(" ");
    history["history"].as_array().unwrap().iter().map(line).collect()
}

#[test]
fn commands_that_need_the_machine_are_refused_on_another_host() {
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
fn a_vm_of_another_host_is_listed_as_unknown_and_not_as_missing() {
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
fn a_renamed_host_still_owns_its_vms() {
    let world = with_a_vm();
    change(&world, |record| record["createdBy"]["host"] = "old-name".into());
    world.run(&["stop", "hello", "--force"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn forget_archives_only_the_record_of_a_vm_of_another_host() {
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
fn the_history_shows_who_did_what_and_outlives_the_vm() {
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
fn an_unknown_name_has_no_history() {
    let ran = World::new().run(&["history", "nobody"]).expect(3);
    assert!(ran.stderr().contains("no VM is called \"nobody\""), "{ran:?}");
}

#[test]
fn the_history_shows_who_started_and_who_resumed_an_operation() {
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
    assert!(asked.stderr().contains("bob on desk started this stop of hello"), "{asked:?}");
    assert_eq!(world.qemus().len(), 1, "it was done unasked");
    world.run(&["resume", "hello", "--yes"]).expect(0);
    assert_eq!(deeds(&world)[1..], ["bob stop interrupted", "ann resume done"]);
}

/// A world whose goloo was killed while it was waiting for the new VM `hello`.
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

/// An operation as somebody else would write it into a record.
fn forged_operation(kind: &str) -> Value {
    serde_json::json!({
        "id": "01JHN3W1T3K9Q2Z8F6B4C7D5E0", "kind": kind, "step": "intent", "token": "01JHN3W1T3K9Q2Z8F6B4C7D5E0",
        "owner": {"user": "ann", "host": "laptop", "pid": 1, "pidStart": 1},
    })
}

#[test]
fn a_delete_forged_into_a_record_requires_confirmation() {
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
fn only_an_altered_operation_requires_confirmation_to_resume() {
    let world = killed_in_its_create();
    let mut inputs = Value::Null;
    change(&world, |record| {
        inputs = record["operation"]["inputs"].clone();
        record["operation"]["inputs"]["wait"] = false.into();
    });
    let ran = world.run(&["resume", "hello"]).expect(2);
    assert!(ran.stderr().contains("started this create of hello"), "{ran:?}");
    change(&world, |record| record["operation"]["inputs"] = inputs);
    world.ssh_finds(r#"{"status": "done", "errors": [], "recoverable_errors": {}}"#);
    world.run(&["resume", "hello"]).expect(0);
}

#[test]
fn recreate_from_an_altered_record_requires_confirmation() {
    let world = with_a_vm();
    world.run(&["recreate", "hello", "--as", "again", "--no-wait"]).expect(0);
    change(&world, |record| record["hostsEntry"] = true.into());
    let ran = world.run(&["recreate", "hello", "--as", "third", "--no-wait"]).expect(2);
    assert!(ran.stderr().contains("the name third in /etc/hosts"), "{ran:?}");
    change(&world, |record| record["hostsEntry"] = false.into());
    change(&world, |record| record["githubUsers"] = serde_json::json!(["mallory"]));
    let ran = world.run(&["recreate", "hello", "--as", "third", "--no-wait"]).expect(2);
    assert!(ran.stderr().contains("the GitHub user mallory"), "{ran:?}");
}

#[test]
fn a_lost_state_key_is_replaced_and_a_damaged_one_reported() {
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
fn a_finished_operation_put_back_into_a_record_requires_confirmation() {
    let world = killed_in_its_create();
    let mut operation = Value::Null;
    change(&world, |record| operation = record["operation"].clone());
    world.ssh_finds(r#"{"status": "done", "errors": [], "recoverable_errors": {}}"#);
    world.run(&["resume", "hello"]).expect(0);
    assert_eq!(fs::read_dir(world.state().join("operations")).unwrap().count(), 0);
    change(&world, |record| record["operation"] = operation);
    let ran = world.run(&["resume", "hello"]).expect(2);
    assert!(ran.stderr().contains("started this create of hello"), "{ran:?}");
}

#[test]
fn a_clone_of_a_vm_with_altered_files_has_no_proof_of_origin() {
    let world = with_a_vm();
    world.run(&["stop", "hello", "--force"]).expect(0);
    let config = world.state().join("active/hello/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replacen('{', "{\n", 1)).unwrap();
    world.run(&["clone", "hello", "copy"]).expect(0);
    let ran = world.run(&["recreate", "copy", "--as", "third", "--no-wait"]).expect(2);
    assert!(ran.stderr().contains("does not prove that it was created with this state folder"), "{ran:?}");
    assert!(ran.stderr().contains("the image "), "{ran:?}");
}

#[test]
fn records_imported_without_proof_are_listed_as_imported() {
    let (theirs, ours) = (with_a_vm(), World::new());
    let document = ours.path().join("state.json");
    fs::write(&document, theirs.run(&["state", "pull", "-"]).expect(0).stdout()).unwrap();
    ours.run(&["state", "push", document.to_str().unwrap()]).expect(0);
    let id = theirs.json(&["status", "hello", "--json"])["vm"]["id"].as_str().unwrap().to_owned();
    assert_eq!(fs::read_to_string(ours.state().join("imported-vms")).unwrap(), format!("{id}\n"));
    // The user's own records stay theirs after an import.
    let backup = theirs.path().join("state.json");
    fs::write(&backup, theirs.run(&["state", "pull", "-"]).expect(0).stdout()).unwrap();
    theirs.run(&["state", "push", backup.to_str().unwrap()]).expect(0);
    assert!(!theirs.state().join("imported-vms").exists());
}

#[test]
fn ssh_config_skips_a_broken_record() {
    let world = with_a_vm();
    world.run(&["create", "hello", "--as", "other", "--no-wait"]).expect(0);
    let active = world.state().join("active/hello");
    fs::remove_file(active.join("state.json.prev")).unwrap();
    fs::write(active.join("state.json"), "{").unwrap();
    let ran = world.run(&["ssh-config"]).expect(0);
    assert!(ran.stdout().contains("Host other") && ran.stderr().contains("which is broken"), "{ran:?}");
}

#[test]
fn a_damaged_list_of_imported_records_makes_none_of_them_trusted() {
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
    // Its folder is shown but not read, whichever state folder it claims.
    change(&ours, |record| {
        record["createdBy"]["stateId"] = Value::Null;
        record["proof"] = Value::Null;
    });
    let compared = |code| drop(ours.run(&["diff", "hello"]).expect(code));
    compared(1);
    fs::write(&list, "damaged").unwrap();
    compared(1);
    // In a private store, only the list distinguishes it from this user's own records.
    fs::remove_file(&list).unwrap();
    compared(0);
}

/// Anyone who knows a VM's id can write a document with a record of it.
#[test]
fn a_record_without_proof_never_replaces_a_proven_one() {
    let world = with_a_vm();
    let document = world.path().join("state.json");
    let pulled: Value = serde_json::from_str(&world.run(&["state", "pull", "-"]).expect(0).stdout()).unwrap();
    let mut vm = pulled["vms"][0].clone();
    vm["record"]["proof"] = Value::Null;
    vm["record"]["serial"] = 1000.into();
    let mut gone = vm.clone();
    gone["record"]["phase"] = "destroyed".into();
    gone["id"] = "hello-20250115T103000Z-zzzz".into();
    for (vms, archived) in [(vec![vm], vec![]), (vec![], vec![gone])] {
        let forged = serde_json::json!({"schema": 1, "vms": vms, "archived": archived});
        fs::write(&document, forged.to_string()).unwrap();
        for push in [&["state", "push"][..], &["state", "push", "--force"]] {
            let ran = world.run(&[push, &[document.to_str().unwrap()]].concat()).expect(1);
            assert!(ran.stderr().contains("hello was created with this state folder"), "{ran:?}");
        }
        assert_eq!(world.names(), ["hello"]);
    }
    fs::write(&document, pulled.to_string()).unwrap();
    world.run(&["state", "push", document.to_str().unwrap()]).expect(0);
    world.run(&["stop", "hello", "--force"]).expect(0);
}
