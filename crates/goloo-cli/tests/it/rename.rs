//! `goloo rename`: a VM gets another name, and its machine stays what it is.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{Ran, World};

/// A world with the running VM `hello`.
fn world() -> World {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world
}

fn record(world: &World, name: &str) -> Value {
    world.json(&["status", name, "--json"])["vm"].clone()
}

fn state_file(world: &World, name: &str) -> std::path::PathBuf {
    world.state().join("active").join(name).join("state.json")
}

fn change(world: &World, name: &str, change: impl FnOnce(&mut Value)) {
    let path = state_file(world, name);
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(&path, serde_json::to_vec_pretty(&record).unwrap()).unwrap();
}

/// An operation as a process that died left it.
fn operation(kind: &str) -> Value {
    let id = "01JHN3W1T3K9Q2Z8F6B4C7D5E0";
    json!({
        "id": id, "kind": kind, "step": "intent", "token": id,
        "owner": {"user": "ann", "host": "laptop", "pid": 1, "pidStart": 1},
    })
}

fn rename_to(new: &str) -> Value {
    let mut rename = operation("rename");
    rename["rename"] = json!({"from": "hello", "to": new});
    rename
}

/// What a rename of `hello` to `shop` leaves that died right before it removed the old record.
fn half_renamed(world: &World) {
    change(world, "hello", |record| record["operation"] = rename_to("shop"));
    let active = world.state().join("active");
    let copied = Command::new("cp").arg("-a").args([active.join("hello"), active.join("shop")]).status();
    assert!(copied.unwrap().success());
    change(world, "shop", |record| {
        record["name"] = "shop".into();
        record["machineName"] = "hello".into();
        record["serial"] = (record["serial"].as_u64().unwrap() + 1).into();
    });
}

#[test]
fn a_renamed_vm_keeps_its_running_machine_and_its_history() {
    let world = world();
    world.run(&["ssh-config", "--install", "--yes"]).expect(0);
    let (before, qemus) = (record(&world, "hello"), world.qemus());
    let renamed = world.json(&["rename", "hello", "shop", "--json"]);
    assert_eq!((&renamed["from"], &renamed["hostname"]), (&json!("hello"), &json!("new-at-boot")));
    let after = record(&world, "shop");
    assert_eq!(renamed["vm"], after);
    for same in ["id", "stack", "createdAt", "endpoint", "resources", "phase"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_eq!((&after["machineName"], &after["operation"]), (&json!("hello"), &Value::Null));
    assert_eq!((world.names(), world.qemus()), (vec!["shop".to_owned()], qemus));
    world.run(&["status", "hello"]).expect(3);
    let history = world.run(&["history", "shop"]).expect(0).stdout();
    assert!(history.contains("rename") && history.contains("from hello to shop"), "{history}");
    let ssh = fs::read_to_string(world.state().join("ssh_config")).unwrap();
    assert!(ssh.contains("Host shop\n") && !ssh.contains("Host hello\n"), "{ssh}");
    let seed = fs::read(world.machines()[0].join("seed.img")).unwrap();
    assert!(seed.windows(22).any(|part| part == b"local-hostname: \"shop\""), "the next boot's hostname");
    assert!(!world.run(&["doctor"]).stdout().contains("without a record"));
    world.run(&["delete", "shop", "--yes"]).expect(0);
    world.assert_empty("after the delete");
    let archived = world.json(&["archive", "list", "--json"]);
    assert_eq!(archived["archived"].as_array().unwrap().len(), 1, "{archived}");
}

#[test]
fn a_renamed_vm_is_used_like_any_other() {
    let world = world();
    world.run(&["rename", "hello", "shop"]).expect(0);
    world.run(&["stop", "shop", "--force"]).expect(0);
    world.run(&["snapshot", "shop", "before"]).expect(0);
    world.run(&["restore", "shop", "before", "--yes"]).expect(0);
    world.run(&["clone", "shop", "twin"]).expect(0);
    assert_eq!(record(&world, "twin")["machineName"], Value::Null);
    world.run(&["start", "shop", "--timeout", "1s"]);
    assert_eq!(world.qemus().len(), 1);
    let refreshed = world.run(&["refresh"]).expect(0).stdout();
    assert!(!refreshed.contains("adopt"), "{refreshed}");
    world.run(&["delete", "shop", "twin", "--yes"]).expect(0);
    world.assert_empty("after the delete");
    world.run(&["recreate", "shop", "--no-wait"]).expect(0);
    assert_eq!(record(&world, "shop")["stack"], "hello");
    world.run(&["delete", "shop", "--yes"]).expect(0);
}

#[test]
fn a_new_vm_with_the_old_name_has_a_machine_with_another_name() {
    let world = world();
    world.run(&["rename", "hello", "shop"]).expect(0);
    let created = world.run(&["create", "hello", "--no-wait"]).expect(0);
    let machine = record(&world, "hello")["machineName"].as_str().unwrap().to_owned();
    assert!(machine.starts_with("hello-") && created.stderr().contains(&machine), "{machine}: {created:?}");
    assert_eq!(world.qemus().len(), 2);
    world.run(&["stop", "hello", "--force"]).expect(0);
    // A copy is a new machine, too.
    world.run(&["rename", "shop", "store"]).expect(0);
    world.run(&["clone", "hello", "copy"]).expect(0);
    world.run(&["delete", "hello", "copy", "--yes"]).expect(0);
    assert_eq!((world.names(), world.qemus().len()), (vec!["store".to_owned()], 1));
    // Back to the name of its machine.
    world.run(&["rename", "store", "hello"]).expect(0);
    assert_eq!(record(&world, "hello")["machineName"], Value::Null);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn a_machine_is_adopted_under_another_name_than_its_own() {
    let world = world();
    world.run(&["rename", "hello", "shop"]).expect(0);
    let id = record(&world, "shop")["id"].as_str().unwrap().to_owned();
    fs::remove_dir_all(world.state().join("active/shop")).unwrap();
    let lost = world.run(&["doctor"]).stdout();
    assert!(lost.contains(&id), "{lost}");
    world.run(&["adopt", "box", "--provider", "qemu", "--id", &id]).expect(0);
    assert_eq!(record(&world, "box")["machineName"], "hello");
    world.run(&["stop", "box", "--force"]).expect(0);
    assert!(world.qemus().is_empty());
    world.run(&["delete", "box", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn a_rename_that_cannot_be_done_is_refused_and_changes_nothing() {
    let world = world();
    world.run(&["create", "hello", "--as", "other", "--no-wait"]).expect(0);
    let before = record(&world, "hello");
    for (arguments, code, words) in [
        (["hello", "hello"], 1, "already has that name"),
        (["hello", "other"], 3, "the name \"other\" is taken"),
        (["hello", "Shop"], 2, "\"shop\""),
        (["hello", "no_name"], 2, "not a valid name"),
        (["nothing", "shop"], 3, "no VM is called \"nothing\""),
    ] {
        let refused = world.run(&["rename", arguments[0], arguments[1]]).expect(code);
        assert!(refused.stderr().contains(words), "{arguments:?}: {refused:?}");
    }
    assert_eq!(record(&world, "hello"), before);
    change(&world, "hello", |record| record["operation"] = operation("stop"));
    let pending = world.run(&["rename", "hello", "shop"]).expect(6);
    assert!(pending.stderr().contains("goloo resume hello"), "{pending:?}");
    assert_eq!(world.names(), ["hello", "other"]);
}

#[test]
fn until_a_rename_is_finished_the_vm_is_listed_once_and_not_changed() {
    let world = world();
    half_renamed(&world);
    assert_eq!(world.names(), ["hello"]);
    let refreshed = world.json(&["list", "--refresh", "--json"]);
    assert_eq!(refreshed["vms"].as_array().unwrap().len(), 1, "{refreshed}");
    for arguments in [
        &["delete", "hello", "--yes"][..],
        &["delete", "shop", "--yes"],
        &["stop", "hello"],
        &["tag", "hello", "team=web"],
        &["protect", "shop"],
        &["rename", "hello", "third"],
        &["create", "hello", "--as", "shop"],
    ] {
        let refused = world.run(arguments).expect(6);
        assert!(refused.stderr().contains("goloo resume"), "{arguments:?}: {refused:?}");
    }
    assert_eq!(world.qemus().len(), 1);
    let resumed = world.run(&["resume", "hello", "--yes"]).expect(0);
    assert!(resumed.stdout().contains("hello is called shop now"), "{resumed:?}");
    assert_eq!(
        (world.names(), &record(&world, "shop")["operation"]),
        (vec!["shop".to_owned()], &Value::Null)
    );
    world.run(&["delete", "shop", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn a_rename_is_resumed_by_either_name() {
    for name in ["hello", "shop"] {
        let world = world();
        half_renamed(&world);
        world.run(&["resume", name, "--yes"]).expect(0);
        assert_eq!(world.names(), ["shop"], "{name}");
        assert!(record(&world, "shop")["operation"].is_null(), "{name}");
        world.run(&["delete", "shop", "--yes"]).expect(0);
        world.assert_empty(name);
    }
}

#[test]
fn an_interrupted_rename_to_a_name_that_was_taken_meanwhile_is_given_up() {
    let world = world();
    world.run(&["create", "hello", "--as", "other", "--no-wait"]).expect(0);
    change(&world, "hello", |record| record["operation"] = rename_to("other"));
    let taken = world.run(&["resume", "hello", "--yes"]).expect(3);
    assert!(taken.stderr().contains("the name \"other\" is taken"), "{taken:?}");
    assert!(record(&world, "hello")["operation"].is_null());
    world.run(&["rename", "hello", "shop"]).expect(0);
    world.run(&["delete", "shop", "other", "--yes"]).expect(0);
}

/// In a store that others can write to, the proof of a record's origin covers both names.
#[test]
fn a_renamed_vm_is_still_the_users_in_a_shared_store() {
    let world = World::new();
    let address = format!("sqlite:{}/shared/goloo.db", world.path().display());
    let run = |arguments: &[&str]| {
        Ran(world.command().env("GOLOO_STATE_BACKEND", &address).args(arguments).output().unwrap())
    };
    run(&["create", "hello", "--no-wait"]).expect(0);
    run(&["rename", "hello", "shop"]).expect(0);
    assert_eq!(run(&["list", "-q"]).expect(0).stdout(), "shop\n");
    run(&["stop", "shop", "--force"]).expect(0);
    assert!(world.qemus().is_empty());
    let block = run(&["ssh-config"]).expect(0).stdout();
    assert!(block.contains("Host shop"), "{block}");
    run(&["delete", "shop", "--yes"]).expect(0);
    assert!(world.machines().is_empty());
}

#[test]
fn a_backup_from_before_a_rename_brings_back_no_second_record() {
    let world = world();
    let file = world.path().join("backup.tar.zst").display().to_string();
    world.run(&["state", "backup", &file]).expect(0);
    world.run(&["rename", "hello", "shop"]).expect(0);
    let refused = world.run(&["state", "restore", &file, "--yes"]).expect(1);
    assert!(refused.stderr().contains("hello is called shop in the target store"), "{refused:?}");
    assert_eq!(world.names(), ["shop"]);
    world.run(&["delete", "shop", "--yes"]).expect(0);
}
