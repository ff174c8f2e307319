//! `goloo apply --replace`: a new VM takes the place of an old one.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::common::kill::{CALLS, SAVES_AND_PROGRAMS, at_calls};
use crate::common::{HELLO, Ran, World};

const DONE: &str = r#"{"status": "done", "errors": [], "recoverable_errors": {}}"#;
const FAILED: &str = r#"{"status":"error","errors":["(scripts_user, RuntimeError)"]}"#;
const REPLACE: [&str; 4] = ["apply", "hello", "--replace", "--yes"];

/// With the running VM `hello`, and an `ssh` that answers like a machine.
fn world() -> World {
    let world = World::new();
    world.ssh_finds(DONE);
    world.run(&["create", "hello", "--tag", "team=web"]).expect(0);
    world
}

/// Changes what only a new VM gets.
fn edit(world: &World, text: &str) {
    let file = world.path().join("work/stacks/hello/cloud-init.yaml");
    fs::write(file, format!("#cloud-config\nruncmd: [\"echo {text}\"]\n")).unwrap();
}

fn config(world: &World, keys: Value) {
    let mut config: Value = serde_json::from_str(HELLO).unwrap();
    config["vm"].as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    fs::write(world.path().join("work/stacks/hello/config.json"), config.to_string()).unwrap();
}

fn record(world: &World, name: &str) -> Value {
    world.json(&["status", name, "--json"])["vm"].clone()
}

fn archived(world: &World) -> Vec<Value> {
    world.json(&["archive", "list", "--json"])["archived"].as_array().unwrap().clone()
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

fn is_reachable(address: &str, port: u16) -> bool {
    TcpStream::connect((address.parse::<IpAddr>().unwrap(), port)).is_ok()
}

#[test]
fn a_new_vm_gets_the_name_and_the_old_one_is_archived() {
    let world = world();
    world.run(&["set", "hello", "memory=768M", "--yes"]).expect(0);
    edit(&world, "new");
    config(&world, json!({"cpus": 2}));
    let old = record(&world, "hello");
    let told = world.run(&["apply", "hello", "--dry-run"]).expect(0).stdout();
    assert!(told.contains("cloud-init.yaml") && told.contains("--reprovision"), "{told}");
    let replaced = world.json(&[&REPLACE[..], &["--json"]].concat());
    let new = record(&world, "hello");
    assert_eq!(replaced["vm"], new);
    assert_eq!((&replaced["done"], &replaced["left"]), (&json!(["cpus", "cloud-init"]), &json!([])));
    assert_eq!((&new["replaces"], &new["replacing"]), (&old["id"], &Value::Null));
    assert_eq!((&new["tags"], &new["overrides"]), (&old["tags"], &old["overrides"]));
    assert_eq!(
        (&new["phase"], &new["operation"], &new["stack"]),
        (&json!("ready"), &Value::Null, &old["stack"])
    );
    assert!(new["machineName"].as_str().unwrap().starts_with("hello-"), "{new}");
    assert_eq!(
        (world.names(), world.qemus().len(), world.machines().len()),
        (vec!["hello".to_owned()], 1, 1)
    );
    let seed = fs::read(world.machines()[0].join("seed.img")).unwrap();
    let hostname = b"local-hostname: \"hello\"\n";
    assert!(seed.windows(hostname.len()).any(|part| part == hostname), "its hostname");
    let [archived] = &archived(&world)[..] else { panic!("one VM is archived") };
    let id = archived["archiveId"].as_str().unwrap();
    assert_eq!((&replaced["replaced"]["archiveId"], &replaced["replaced"]["id"]), (&json!(id), &old["id"]));
    let shown = world.json(&["archive", "show", id, "--json"]);
    assert_eq!((&shown["vm"]["replacedBy"], &shown["vm"]["id"]), (&new["id"], &old["id"]), "{shown}");
    // What it was made from is what its stack says.
    assert_eq!(world.run(&["apply", "hello"]).expect(0).stdout(), "hello is as its stack says\n");
    assert_eq!(world.run(&["diff", "hello"]).expect(0).stdout(), "");
    let history = world.run(&["history", "hello"]).expect(0).stdout();
    assert!(history.contains("replace") && history.contains("create"), "{history}");
    // The next one has the usual machine name again.
    edit(&world, "newer");
    let said = world.run(&REPLACE).expect(0).stdout();
    assert!(said.contains("hello is a new VM; the archived record of the old one is hello-old-"), "{said}");
    assert_eq!(record(&world, "hello")["machineName"], Value::Null);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn a_change_that_keeps_the_machine_replaces_nothing() {
    let world = world();
    let before = record(&world, "hello");
    assert_eq!(world.run(&REPLACE).expect(0).stdout(), "hello is as its stack says\n");
    config(&world, json!({"cpus": 2}));
    world.run(&REPLACE).expect(0);
    assert_eq!(record(&world, "hello")["id"], before["id"]);
}

#[test]
fn a_template_variable_can_be_overridden_for_one_vm() {
    let world = world();
    let old = record(&world, "hello")["id"].clone();
    let set = ["--set", "cloud_init.vars.color=red"];
    world.run(&[&REPLACE[..], &set].concat()).expect(0);
    let new = record(&world, "hello");
    assert_eq!((&new["replaces"], &new["overrides"]["cloud_init.vars.color"]), (&old, &json!("red")));
    assert_eq!(world.run(&["apply", "hello"]).expect(0).stdout(), "hello is as its stack says\n");
    assert_eq!(world.run(&["diff", "hello"]).expect(0).stdout(), "");
}

#[test]
fn a_replacement_is_shown_and_asked_for_with_what_is_lost() {
    let world = world();
    world.run(&["stop", "hello", "--force"]).expect(0);
    world.run(&["snapshot", "hello", "before"]).expect(0);
    edit(&world, "new");
    let before = record(&world, "hello");
    let told = world.run(&["apply", "hello"]).expect(0).stdout();
    assert!(told.contains("`goloo apply hello --replace` makes a new VM"), "{told}");
    let plan = world.json(&["apply", "hello", "--replace", "--dry-run", "--json"]);
    assert_eq!((&plan["replaces"], &plan["changes"][0]["cost"]), (&json!(true), &json!("reprovision")));
    let plan = world.run(&["apply", "hello", "--replace", "--dry-run"]).expect(0).stdout();
    assert!(plan.contains("a new VM would be created as hello-new"), "{plan}");
    let refused = world.run(&["apply", "hello", "--replace"]).expect(2).stderr();
    for said in [
        "apply asks before it replaces a VM",
        "its snapshots: before",
        "with its disk",
        "goloo apply hello --replace --yes",
    ] {
        assert!(refused.contains(said), "{said}: {refused}");
    }
    assert_eq!((record(&world, "hello"), world.names().len()), (before, 1));
}

#[test]
fn a_vm_that_may_not_be_deleted_is_not_replaced() {
    let world = world();
    edit(&world, "new");
    world.run(&["protect", "hello"]).expect(0);
    let before = record(&world, "hello");
    let refused = world.run(&REPLACE).expect(1).stderr();
    assert!(refused.contains("is protected") && refused.contains("goloo unprotect hello"), "{refused}");
    assert_eq!((record(&world, "hello"), world.names().len()), (before, 1));
}

#[test]
fn a_new_vm_that_is_not_ready_leaves_the_old_one_as_it_was() {
    let world = world();
    edit(&world, "broken");
    let (before, qemu) = (record(&world, "hello"), world.qemus());
    world.ssh_finds(FAILED);
    let failed = world.run(&REPLACE).expect(8).stderr();
    assert!(failed.contains("hello is as it was") && failed.contains("goloo logs hello-new"), "{failed}");
    assert_eq!(record(&world, "hello"), before);
    let new = record(&world, "hello-new");
    assert_eq!((&new["phase"], &new["replacing"]["id"]), (&json!("degraded"), &before["id"]));
    assert_eq!((world.qemus().len(), qemu.len()), (2, 1));
    for again in [&REPLACE[..], &["resume", "hello"], &["resume", "hello-new"]] {
        let told = world.run(again).expect(6).stderr();
        assert!(told.contains("\"hello-new\", which is degraded, is to replace \"hello\""), "{told}");
        assert!(told.contains("goloo delete hello-new"), "{told}");
    }
    assert_eq!(record(&world, "hello"), before);
    world.run(&["delete", "hello-new", "--yes"]).expect(0);
    assert_eq!((record(&world, "hello"), world.qemus()), (before, qemu));
    world.ssh_finds(DONE);
    world.run(&REPLACE).expect(0);
    assert_eq!((world.names(), world.qemus().len()), (vec!["hello".to_owned()], 1));
}

#[test]
fn the_new_vm_has_the_ports_of_the_old_one_in_the_end() {
    let world = world();
    let (shared, bound) = (free_port(), free_port());
    config(&world, json!({"ports": [format!("{shared}:80"), format!("127.0.0.1:{bound}:81")]}));
    world.run(&["apply", "hello"]).expect(0);
    edit(&world, "new");
    world.run(&REPLACE).expect(0);
    let new = record(&world, "hello");
    let own = new["endpoint"]["address"].as_str().unwrap();
    assert!(is_reachable("127.0.0.1", shared) && is_reachable(own, shared), "{new:#}");
    assert!(is_reachable("127.0.0.1", bound), "{new:#}");
    let ports: Vec<_> =
        new["endpoint"]["ports"].as_array().unwrap().iter().map(|port| &port["port"]).collect();
    assert_eq!(ports, [&json!(shared), &json!(shared), &json!(bound)], "{new:#}");
    world.run(&["restart", "hello", "--force"]).expect(0);
    assert!(is_reachable("127.0.0.1", shared) && is_reachable("127.0.0.1", bound));
}

#[test]
fn of_two_replacements_at_once_one_is_made() {
    let world = world();
    edit(&world, "new");
    let old = record(&world, "hello")["id"].clone();
    let start = || {
        let mut command = world.command();
        command.args(REPLACE).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let ended: Vec<_> = [start(), start()].map(|child| Ran(child.wait_with_output().unwrap())).into();
    assert!(ended.iter().any(|ran| ran.code() == 0), "{ended:?}");
    for ran in &ended {
        let is_told = ran.stderr().contains("hello") && ran.stderr().contains("hint:");
        assert!(ran.code() == 0 || is_told, "{ran:?}");
    }
    let new = record(&world, "hello");
    assert_eq!((&new["replaces"], &new["operation"]), (&old, &Value::Null));
    assert_eq!((world.names().len(), world.qemus().len(), archived(&world).len()), (1, 1, 1));
}

#[test]
fn the_old_vm_may_be_deleted_or_renamed_meanwhile() {
    let world = world();
    edit(&world, "new");
    let pending = || {
        // A verdict that doesn't come in time.
        world.program("ssh", "#!/bin/sh\nexit 255\n");
        world.run(&[&REPLACE[..], &["--timeout", "1s"]].concat()).expect(8);
        world.ssh_finds(DONE);
        world.run(&["wait", "hello-new"]).expect(0);
    };
    pending();
    world.run(&["rename", "hello", "shop"]).expect(0);
    world.run(&["resume", "shop"]).expect(0);
    assert_eq!((world.names(), world.qemus().len()), (vec!["shop".to_owned()], 1));
    world.run(&["rename", "shop", "hello"]).expect(0);
    edit(&world, "newer");
    pending();
    world.run(&["delete", "hello", "--yes"]).expect(0);
    let told = world.run(&["resume", "hello"]).expect(1).stderr();
    assert!(told.contains("no longer exists") && told.contains("goloo rename hello-new hello"), "{told}");
    world.run(&["rename", "hello-new", "hello"]).expect(0);
    assert_eq!(record(&world, "hello")["replacing"], Value::Null);
}

#[test]
fn multipass_replaces_an_instance() {
    let world = World::multipass();
    world.ssh_finds(DONE);
    world.stack("hello", r#"{"vm": {"cpus": 1, "memory": "1G", "disk": "5G"}}"#, "");
    world.run(&["create", "hello", "--provider", "multipass"]).expect(0);
    edit(&world, "new");
    world.run(&REPLACE).expect(0);
    let machine = record(&world, "hello")["machineName"].as_str().unwrap().to_owned();
    let list = world.by_hand(&["list", "--format", "json"]).stdout();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["list"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["list"][0]["name"], json!(machine));
    assert_eq!(world.names(), ["hello"]);
}

/// After a kill at any call: continues with `resume` of one of the names, or with the same command where nothing was begun.
fn go_on(world: &World, old: &Value, when: &str, n: usize) {
    let names = world.names();
    if names == ["hello"]
        && record_of(world, "hello").is_some_and(|vm| vm["id"] == *old && vm["operation"].is_null())
    {
        world.run(&REPLACE).expect(0);
    } else {
        // By any of them, and by the name that no VM has for a moment.
        let name = if n.is_multiple_of(4) { "hello" } else { &names[n % names.len()] };
        let resumed = world.run(&["resume", name]);
        assert_eq!(resumed.code(), 0, "{when}, resume {name}: {resumed:?}");
    }
    let new = record(world, "hello");
    assert_eq!(
        (&new["replaces"], &new["replacing"], &new["operation"]),
        (old, &Value::Null, &Value::Null),
        "{when}"
    );
    assert_eq!(world.names(), ["hello"], "{when}");
}

fn record_of(world: &World, name: &str) -> Option<Value> {
    let ran = world.run(&["status", name, "--json"]);
    (ran.code() == 0).then(|| serde_json::from_str::<Value>(&ran.stdout()).unwrap()["vm"].clone())
}

fn kill_at(calls: &[&str], world: &World, machines: impl Fn() -> usize) {
    let (number, old) = (std::cell::Cell::new(0), std::cell::RefCell::new(Value::Null));
    let prepare = || {
        number.set(number.get() + 1);
        edit(world, &number.get().to_string());
        old.replace(record(world, "hello")["id"].clone());
    };
    let killed = at_calls(calls, world, &REPLACE, prepare, |when, n| {
        go_on(world, &old.borrow(), when, n);
        assert_eq!(machines(), 1, "{when}");
    });
    assert!(killed > 5 * calls.len(), "a replacement changes something more often than {killed} times");
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert_eq!(machines(), 0);
}

#[test]
fn kill_replace_at_any_call_then_resume_or_apply() {
    let world = world();
    kill_at(&CALLS, &world, || {
        assert_eq!(world.qemus().len(), world.machines().len());
        world.machines().len()
    });
}

#[test]
fn kill_replace_in_multipass_at_any_save_or_program_then_resume_or_apply() {
    let world = World::multipass();
    world.ssh_finds(DONE);
    world.stack("hello", r#"{"vm": {"cpus": 1, "memory": "1G", "disk": "5G"}}"#, "");
    world.run(&["create", "hello", "--provider", "multipass"]).expect(0);
    kill_at(&SAVES_AND_PROGRAMS, &world, || {
        let list = world.by_hand(&["list", "--format", "json"]).stdout();
        serde_json::from_str::<Value>(&list).unwrap()["list"].as_array().unwrap().len()
    });
}
