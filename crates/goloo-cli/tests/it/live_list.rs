//! What `list` and `status` say about machines on this computer, with QEMU's stand-in.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{World, wait_until};

const DONE: &str = r#"{"status":"done","errors":[]}"#;
const FAILED: &str = r#"{"status":"error","errors":["(scripts_user, RuntimeError)"]}"#;

/// The column STATE of a VM. A VM on this computer has 100 ms to answer, which is little on a busy one.
fn state(world: &World, words: &[&str], name: &str) -> String {
    let ran = world.run(words).expect(0);
    let row = ran.stdout().lines().find(|line| line.starts_with(name)).map(str::to_owned);
    let row = row.unwrap_or_else(|| panic!("{name} is missing: {ran:?}"));
    row.split_whitespace().nth(2).unwrap().to_owned()
}

#[track_caller]
fn shows(world: &World, name: &str, expected: &str) {
    wait_until(&format!("{name} is {expected}"), || state(world, &["list"], name) == expected);
}

fn vm(list: &Value) -> &Value {
    &list["vms"][0]
}

#[test]
fn list_says_what_runs_and_puts_recorded_states_in_parentheses() {
    let world = World::new();
    world.ssh_finds(DONE);
    world.run(&["create", "hello"]).expect(0);
    shows(&world, "hello", "running");
    assert_eq!(state(&world, &["list", "--no-refresh"], "hello"), "(ready)");
    assert_eq!(state(&world, &["list", "--refresh"], "hello"), "running");
    world.run(&["stop", "hello", "--force"]).expect(0);
    shows(&world, "hello", "stopped");
    let recorded = world.json(&["list", "--no-refresh", "--json"]);
    let vm_recorded = vm(&recorded);
    assert_eq!((&vm_recorded["state"], &vm_recorded["checked"]), (&"ready".into(), &false.into()));
    assert_eq!(vm_recorded.get("live"), None);
    let asked = world.json(&["list", "--refresh", "--json"]);
    let vm_asked = vm(&asked);
    assert_eq!((&vm_asked["state"], &vm_asked["checked"]), (&"stopped".into(), &true.into()));
    assert_eq!((&vm_asked["live"], &vm_asked["phase"]), (&"stopped".into(), &"ready".into()));
    fs::remove_dir_all(world.machines().remove(0)).unwrap();
    shows(&world, "hello", "missing");
    world.run(&["list", "--refresh", "--no-refresh"]).expect(2);
}

#[test]
fn a_running_machine_that_nobody_has_waited_for_is_unverified_and_a_bad_one_failed() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    shows(&world, "hello", "unverified");
    world.ssh_finds(FAILED);
    world.run(&["wait", "hello"]).expect(8);
    shows(&world, "hello", "failed");
    assert_eq!(state(&world, &["list", "--no-refresh"], "hello"), "(failed)");
}

#[test]
fn a_qemu_that_does_not_answer_delays_no_list_and_hides_no_other_state() {
    let world = World::new();
    world.ssh_finds(DONE);
    let silent =
        world.command().args(["create", "hello", "--as", "mute"]).env("GOLOO_STAND_IN", "silent").status();
    assert!(silent.unwrap().success());
    world.run(&["create", "hello"]).expect(0);
    shows(&world, "hello", "running");
    let begun = Instant::now();
    assert_eq!(state(&world, &["list"], "mute"), "(ready)");
    // Any other question to QEMU waits for 3 s.
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    assert_eq!(state(&world, &["list", "--refresh"], "mute"), "unknown");
}

#[test]
fn list_writes_nothing_while_it_asks() {
    let world = World::new();
    world.ssh_finds(DONE);
    world.run(&["create", "hello"]).expect(0);
    let files = || {
        let mut files = Vec::new();
        collect(&world.state(), &mut files);
        files.sort();
        files
    };
    let before = files();
    shows(&world, "hello", "running");
    assert_eq!(files(), before);
}

/// All paths below a folder, with the times of their last change.
fn collect(folder: &std::path::Path, files: &mut Vec<(std::path::PathBuf, std::time::SystemTime)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let (path, data) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
        if data.is_dir() {
            collect(&path, files);
        }
        files.push((path, data.modified().unwrap()));
    }
}

#[test]
fn status_shows_what_the_machine_has_and_uses() {
    let world = World::new();
    world.ssh_finds(DONE);
    let shared = world.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let more =
        format!(r#""ports": ["0:80"], "mounts": [{{"source": "{}", "target": "/srv"}}]"#, shared.display());
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let more = more.replace("0:80", &format!("{free}:80"));
    world.stack("hello", &crate::common::HELLO.replace(r#""cpus": 1"#, &format!(r#""cpus": 1, {more}"#)), "");
    world.run(&["create", "hello"]).expect(0);
    let status = world.run(&["status", "hello"]).expect(0).stdout();
    let value = |label: &str| {
        let line = status.lines().find(|line| line.split_whitespace().next() == Some(label));
        line.unwrap_or_else(|| panic!("{label} is missing: {status}"))[14..].to_owned()
    };
    assert!(value("cpus") == "1" && value("image").ends_with("/disk.img"), "{status}");
    assert!(value("memory").starts_with("512.0 MiB (") && value("memory").ends_with(" used)"), "{status}");
    assert!(value("disk").starts_with("1.0 GiB (") && value("disk").ends_with(" used)"), "{status}");
    assert!(value("ports").ends_with(&format!(":{free} to 80")), "{}", value("ports"));
    assert_eq!(value("mounts"), format!("{} at /srv", shared.display()));
    assert!(value("uptime").ends_with(" s"), "{status}");
    let json = world.json(&["status", "hello", "--json"]);
    assert!(json["live"]["startedAt"].is_string() && json["usage"]["disk"].is_u64(), "{json}");
    world.run(&["stop", "hello", "--force"]).expect(0);
    let status = world.run(&["status", "hello"]).expect(0).stdout();
    assert!(!status.contains("uptime") && status.contains("memory        512.0 MiB\n"), "{status}");
}
