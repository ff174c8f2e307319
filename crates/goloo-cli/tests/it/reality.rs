//! Records compared with the actual machines, through the real command: refresh, doctor, adopt, list --refresh.

use crate::common;
use std::fs;

use crate::common::{Ran, World};
use goloo_model::record::{LocalContext, StateKey, Trust, from_json, to_json};
use goloo_testkit::samples;

const DONE: &str = r#"{"status":"done","errors":[]}"#;

/// A world with the running VM `hello`.
fn world() -> World {
    let world = World::new();
    world.ssh_finds(DONE);
    world.run(&["create", "hello"]).expect(0);
    world
}

/// Removes the record, as if it were lost. Returns the machine's id.
fn lose_the_record(world: &World) -> String {
    fs::rename(world.state().join("active/hello"), world.path().join("lost")).unwrap();
    let folder = world.machines().remove(0);
    folder.file_name().unwrap().to_str().unwrap().to_owned()
}

fn is_empty(report: &serde_json::Value, part: &str) -> bool {
    report[part].as_array().unwrap().is_empty()
}

#[test]
fn refresh_reports_nothing_when_records_match_the_machines() {
    let world = world();
    let report = world.json(&["refresh", "--json"]);
    for part in ["missing", "unknown", "changed", "strays", "unasked"] {
        assert!(is_empty(&report, part), "{report}");
    }
    world.run(&["refresh"]).expect(0);
    world.run(&["refresh", "hello"]).expect(0);
    world.run(&["refresh", "nobody"]).expect(3);
}

#[test]
fn a_missing_machine_is_reported_without_changing_its_record() {
    let world = world();
    world.run(&["stop", "hello", "--force"]).expect(0);
    fs::remove_dir_all(world.machines().remove(0)).unwrap();
    let record = || fs::read(world.state().join("active/hello/state.json")).unwrap();
    let before = record();
    let said = world.run(&["refresh"]).expect(1);
    assert!(said.stdout().contains("goloo delete hello"), "{said:?}");
    assert!(world.run(&["doctor"]).expect(1).stdout().contains("qemu has no machine hello"));
    let report = world.json(&["refresh", "hello", "--json"]);
    assert_eq!(report["missing"][0]["name"], "hello");
    assert_eq!(record(), before);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.run(&["refresh"]).expect(0);
}

#[test]
fn the_command_in_the_doctor_hint_recreates_a_lost_record() {
    let world = world();
    let id = lose_the_record(&world);
    let report = world.json(&["refresh", "--json"]);
    assert_eq!(report["strays"][0]["id"], id.as_str());
    assert_eq!(report["strays"][0]["ours"], true);
    let adopt = format!("goloo adopt hello --provider qemu --id {id}");
    for command in ["refresh", "doctor"] {
        let said = world.run(&[command]).expect(1);
        assert!(said.stdout().contains(&adopt), "{said:?}");
    }
    let words: Vec<&str> = adopt.split(' ').skip(1).chain(["--user", "debian"]).collect();
    world.run(&words).expect(0);
    let status = world.json(&["status", "hello", "--json"]);
    assert_eq!((&status["vm"]["id"], &status["live"]["state"]), (&id.as_str().into(), &"running".into()));
    assert_eq!(status["vm"]["phase"], "ready");
    assert_eq!(status["vm"]["origin"]["how"], "adopted");
    let old: serde_json::Value =
        serde_json::from_slice(&fs::read(world.path().join("lost/state.json")).unwrap()).unwrap();
    assert_eq!(status["vm"]["ssh"]["hostKey"], old["ssh"]["hostKey"], "the pinned host key is kept");
    assert_eq!(status["vm"]["endpoint"], old["endpoint"]);
    world.run(&["refresh"]).expect(0);
    let second = world.run(&["adopt", "other", "--provider", "qemu", "--id", &id]).expect(1);
    assert!(second.stderr().contains("goloo status hello"), "{second:?}");
    world.run(&words).expect(1);
    assert_eq!(world.names(), ["hello"]);
    for command in ["diff", "recreate"] {
        let unknown = world.run(&[command, "hello"]).expect(1);
        assert!(unknown.stderr().contains("its record has no stack files"), "{unknown:?}");
    }
    world.run(&["restart", "hello", "--force"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn a_broken_record_of_an_existing_machine_can_be_recreated() {
    let world = world();
    let folder = world.state().join("active/hello");
    fs::write(folder.join("state.json"), "{torn").unwrap();
    fs::write(folder.join("state.json.prev"), "{torn").unwrap();
    let adopt: &[&str] = &["adopt", "hello", "--provider", "qemu"];
    world.run(adopt).expect(1);
    assert!(world.run(&["refresh", "hello"]).expect(1).stderr().contains("can't be read"));
    assert_eq!(world.json(&["refresh", "--json"])["broken"][0]["name"], "hello");
    let said = world.run(&["doctor"]).expect(1).stdout();
    let command = said.lines().find_map(|line| line.split_once("or recreate it: ")).unwrap().1;
    assert_eq!(said.matches("goloo adopt").count(), 1, "{said}");
    // Run as a user would, with goloo on the PATH.
    let mut shell = std::process::Command::new("sh");
    world.settle(&mut shell);
    let bin = common::goloo().parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    Ran(shell.env("PATH", path).args(["-ec", command]).output().unwrap()).expect(0);
    world.run(&["refresh"]).expect(0);
    assert_eq!(world.names(), ["hello"]);
    assert_eq!(fs::read_to_string(world.path().join("work/hello.broken/state.json")).unwrap(), "{torn");
}

#[test]
fn an_unavailable_provider_is_reported_and_affects_no_other() {
    let world = world();
    let run = |arguments: &[&str]| {
        Ran(world.command().env("GOLOO_QEMU_ACCEL", "nonsense").args(arguments).output().unwrap())
    };
    let list = run(&["list", "--refresh", "--json"]).expect(0);
    let json: serde_json::Value = serde_json::from_str(&list.stdout()).unwrap();
    assert_eq!(json["vms"][0]["live"], "unknown");
    assert!(list.stderr().contains("GOLOO_QEMU_ACCEL is invalid: \"nonsense\""), "{list:?}");
    let refresh = run(&["refresh", "--json"]).expect(1);
    let json: serde_json::Value = serde_json::from_str(&refresh.stdout()).unwrap();
    assert_eq!(json["unknown"][0]["name"], "hello");
    assert_eq!(json["unasked"][0]["provider"], "qemu");
    assert!(is_empty(&json, "missing"), "{json}");
    let doctor = run(&["doctor"]).expect(1);
    assert!(doctor.stdout().contains("VM records: 1"), "{doctor:?}");
    assert!(doctor.stdout().contains("state is stored in"), "{doctor:?}");
}

#[test]
fn a_damaged_record_does_not_prevent_listing_the_others() {
    let world = world();
    world.run(&["create", "hello", "--no-wait", "--as", "other"]).expect(0);
    // Valid in everything that a list reads.
    let folder = world.state().join("active/other");
    let state = fs::read_to_string(folder.join("state.json")).unwrap();
    fs::write(folder.join("state.json"), state.replace("\"createdBy\": {", "\"createdBy\": {\"user\": 1, "))
        .unwrap();
    fs::remove_file(folder.join("state.json.prev")).unwrap();
    let list = world.json(&["list", "--refresh", "--json"]);
    assert_eq!(list["vms"][0]["name"], "hello");
    assert!(list["broken"][0]["path"].as_str().unwrap().contains("active/other"), "{list}");
}

#[test]
fn a_changed_address_is_reported_and_saved_by_start() {
    let world = world();
    let path = world.state().join("active/hello/state.json");
    let state = fs::read_to_string(&path).unwrap();
    let own = world.json(&["status", "hello", "--json"])["vm"]["endpoint"]["address"].clone();
    fs::write(&path, state.replace(own.as_str().unwrap(), "127.0.0.9")).unwrap();
    let said = world.run(&["refresh", "hello"]).expect(1);
    assert!(said.stdout().contains("goloo start hello"), "{said:?}");
    let changed = world.json(&["refresh", "--json"])["changed"][0].clone();
    assert_eq!((&changed["ip"], &changed["recordedIp"]), (&own, &"127.0.0.9".into()));
    assert!(fs::read_to_string(&path).unwrap().contains("127.0.0.9"), "refresh changes nothing");
    world.run(&["start", "hello"]).expect(0);
    world.run(&["refresh"]).expect(0);
}

#[test]
fn refresh_archives_only_missing_vms_that_have_expired() {
    let world = world();
    let ttl = common::HELLO.replace(r#"{"vm": {"#, r#"{"vm": {"ttl": "5m", "#);
    world.stack("brief", &ttl, "");
    world.run(&["create", "brief"]).expect(0);
    let listed = world.run(&["list"]).expect(0);
    assert!(
        listed.stdout().contains("  TTL  ")
            && [" 4 min  brief", " 5 min  brief"].iter().any(|left| listed.stdout().contains(left)),
        "{listed:?}"
    );
    // Both machines disappear, and later the TTL of one expires.
    for name in ["hello", "brief"] {
        world.run(&["stop", name, "--force"]).expect(0);
    }
    for folder in world.machines() {
        fs::remove_dir_all(folder).unwrap();
    }
    assert_eq!(world.json(&["refresh", "--json"])["ended"], serde_json::json!([]), "its time isn't up");
    let state = world.state().join("active/brief/state.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    assert!(record["endsAt"].is_string(), "{record}");
    record["endsAt"] = "2025-01-15T10:30:00Z".into();
    fs::write(&state, record.to_string()).unwrap();
    // Somebody else may have written that to get something deleted.
    let refreshed = world.run(&["refresh"]).expect(1);
    assert!(refreshed.stdout().contains("qemu has no machine brief"), "{refreshed:?}");
    prove(&world, &state);
    let refreshed = world.run(&["refresh"]).expect(1);
    assert!(refreshed.stdout().contains("the TTL of brief has expired"), "{refreshed:?}");
    assert!(refreshed.stdout().contains("qemu has no machine hello"), "{refreshed:?}");
    assert_eq!(world.names(), ["hello"]);
    assert_eq!(world.json(&["archive", "list", "--json"])["archived"][0]["name"], "brief");
}

/// Renews the proof of the record in a file, as this world's goloo does after a change of its own.
fn prove(world: &World, state: &std::path::Path) {
    let key = StateKey::parse(fs::read_to_string(world.state().join("state-key")).unwrap().trim_end());
    let here = samples::here();
    let here = LocalContext { trust: Trust { key, ..here.trust }, ..here };
    let mut record = from_json(&fs::read(state).unwrap()).unwrap();
    record.prove_again(&here);
    fs::write(state, to_json(&record)).unwrap();
}
