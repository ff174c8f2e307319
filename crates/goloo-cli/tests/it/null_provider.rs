//! A provider from outside (`examples/null-provider`), added to the command by one line (`examples/with-null`), and the
//! command without it, which only shows its VMs.

use std::fs;
use std::process::Command;

use crate::common::{Ran, World, goloo};
use serde_json::{Value, json};

/// The command that has the provider.
fn with_null(world: &World, arguments: &[&str]) -> Ran {
    let mut command = Command::new(goloo().with_file_name("examples").join("with-null"));
    world.settle(&mut command);
    Ran(command.args(arguments).output().unwrap())
}

fn json_of(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn machines(world: &World) -> usize {
    fs::read_dir(world.state().join("null")).map_or(0, Iterator::count)
}

fn world() -> World {
    let world = World::new();
    world.stack("x", r#"{"vm": {"image": "./disk.img"}, "null": {"note": "a note"}}"#, "");
    world
}

#[test]
fn a_vm_of_a_provider_from_outside_lives_and_ends_like_any_other() {
    let world = world();
    let plan =
        json_of(&with_null(&world, &["create", "x", "--provider", "null", "--dry-run", "--json"]).expect(0));
    assert!(plan["plan"]["null"]["path"].is_string(), "{plan}");
    with_null(&world, &["create", "x", "--provider", "null", "--no-wait"]).expect(0);
    assert_eq!(machines(&world), 1);
    let list =
        json_of(&with_null(&world, &["list", "--json", "--local", "--filter", "provider=null"]).expect(0));
    let vm = &list["vms"][0];
    assert_eq!((&vm["name"], &vm["provider"], &vm["ip"]), (&json!("x"), &json!("null"), &json!("127.0.0.1")));
    assert_eq!(vm["sshPort"], Value::Null);
    let status = json_of(&with_null(&world, &["status", "x", "--json"]).expect(0));
    assert_eq!(status["vm"]["null"], json!({"note": "a note"}));
    assert_eq!(status["vm"]["endpoint"], json!({"address": "127.0.0.1"}));
    assert_eq!(status["vm"]["resolved"]["sections"], json!({"null": {"note": "a note"}}));
    assert_eq!(status["live"]["state"], "running");
    with_null(&world, &["stop", "x"]).expect(0);
    let live =
        |world: &World| json_of(&with_null(world, &["status", "x", "--json"]))["live"]["state"].clone();
    assert_eq!(live(&world), "stopped");
    with_null(&world, &["start", "x"]).expect(0);
    assert_eq!(live(&world), "running");
    with_null(&world, &["refresh"]).expect(0);
    let ssh = with_null(&world, &["ssh-config", "x"]);
    assert!(ssh.stderr().contains("skipped x") && ssh.stdout().is_empty(), "it has no SSH: {ssh:?}");
    with_null(&world, &["delete", "x", "--yes"]).expect(0);
    assert_eq!(machines(&world), 0);
    let archive = json_of(&with_null(&world, &["archive", "list", "--json"]).expect(0));
    assert_eq!(archive["archived"][0]["provider"], "null", "{archive}");
}

#[test]
fn a_provider_s_section_of_config_json_is_checked_with_its_places() {
    let world = world();
    let check = |config: &str| {
        world.stack("x", config, "");
        let ran = with_null(&world, &["config", "validate", "x"]);
        (ran.code(), ran.stderr() + &ran.stdout())
    };
    assert_eq!(check(r#"{"vm": {"image": "./disk.img"}, "null": {"note": "fine"}}"#).0, 0);
    let (code, said) = check("{\"null\": {\"note\": 1,\n \"nota\": \"x\"}, \"nul\": {}}");
    assert_eq!(code, 2, "{said}");
    for expected in [
        "config.json:1:19: /null/note: null.note must be a string, not the number 1",
        "config.json:2:2: /null/nota: unknown key \"nota\" (did you mean \"note\"?)",
        "unknown key \"nul\" (did you mean \"null\"?)",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
    // Without the provider, its section is an unknown key.
    world.stack("x", r#"{"vm": {"image": "./disk.img"}, "null": {"note": "fine"}}"#, "");
    let said = world.run(&["config", "validate", "x"]).expect(2);
    assert!(said.stderr().contains("unknown key \"null\""), "{said:?}");
}

#[test]
fn a_vm_whose_provider_a_build_lacks_is_shown_and_left_alone() {
    let world = world();
    with_null(&world, &["create", "x", "--provider", "null", "--no-wait"]).expect(0);
    let record = world.state().join("active/x/state.json");
    let before = fs::read(&record).unwrap();
    let list = world.json(&["list", "--json"]);
    assert_eq!((&list["vms"][0]["provider"], &list["broken"]), (&json!("null"), &json!([])), "{list}");
    assert_eq!(world.json(&["list", "--local", "--json"])["vms"].as_array().unwrap().len(), 1);
    let status = world.json(&["status", "x", "--json"]);
    assert_eq!(status["vm"]["null"], json!({"note": "a note"}));
    assert_eq!(status["live"]["state"], "unknown");
    assert!(
        status["live"]["reason"].as_str().unwrap().contains("does not include the provider \"null\""),
        "{status}"
    );
    for refused in
        [&["start", "x"][..], &["stop", "x"], &["delete", "x", "--yes"], &["snapshot", "x"], &["wait", "x"]]
    {
        let ran = world.run(refused).expect(2);
        assert!(ran.stderr().contains("does not include the provider \"null\""), "{refused:?}: {ran:?}");
        assert!(ran.stderr().contains("qemu, multipass"), "{refused:?}: {ran:?}");
    }
    assert_eq!(fs::read(&record).unwrap(), before);
    let unknown = world.run(&["create", "hello", "--provider", "null"]).expect(2);
    assert!(unknown.stderr().contains("the providers are qemu, multipass"), "{unknown:?}");
    // Its record alone can be put away.
    world.run(&["delete", "x", "--forget", "--yes"]).expect(0);
    assert_eq!(machines(&world), 1);
}

#[test]
fn a_section_of_a_record_that_breaks_its_provider_s_rules_breaks_that_record() {
    let world = world();
    with_null(&world, &["create", "x", "--provider", "null", "--no-wait"]).expect(0);
    let path = world.state().join("active/x/state.json");
    let own: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (pointer, hostile, said) in [
        ("/null/note", json!("a\u{1b}]0;x\u{7}"), "null.note: "),
        ("/null", json!([1]), "null: "),
        ("/endpoint/address", json!("192.0.2.1"), "endpoint.address: "),
        ("/endpoint/address", json!("-oProxyCommand=x"), "endpoint.address: "),
    ] {
        let mut record = own.clone();
        *record.pointer_mut(pointer).unwrap() = hostile;
        fs::write(&path, record.to_string()).unwrap();
        fs::remove_file(path.with_file_name("state.json.prev")).ok();
        for command in [&["status", "x"][..], &["stop", "x"], &["delete", "x", "--yes"]] {
            let ran = with_null(&world, command);
            assert!(ran.code() != 0 && ran.stderr().contains(said), "{pointer} {command:?}: {ran:?}");
        }
    }
    // The copy before the last save is used instead, where there is a valid one.
    let mut record = own.clone();
    record["endpoint"]["address"] = json!("192.0.2.1");
    fs::write(&path, record.to_string()).unwrap();
    fs::write(path.with_file_name("state.json.prev"), own.to_string()).unwrap();
    let ran = with_null(&world, &["status", "x"]).expect(0);
    assert!(ran.stderr().contains("endpoint.address: ") && !ran.stdout().contains("192.0.2.1"), "{ran:?}");
    let ran = with_null(&world, &["list", "--json"]).expect(0);
    let listed: Value = serde_json::from_str(&ran.stdout()).unwrap();
    assert_eq!(listed["vms"][0]["name"], "x", "{ran:?}");
    assert_eq!(listed["vms"][0]["ip"], own["endpoint"]["address"], "{ran:?}");
    // A record can't free a machine from its host: the provider decides.
    let mut record = own.clone();
    record["hostBound"] = json!(false);
    record["createdBy"]["hostId"] = json!("another");
    fs::write(&path, record.to_string()).unwrap();
    let ran = with_null(&world, &["stop", "x"]).expect(1);
    assert!(ran.stderr().contains("belongs to"), "{ran:?}");
    fs::write(&path, own.to_string()).unwrap();
    with_null(&world, &["delete", "x", "--yes"]).expect(0);
}
