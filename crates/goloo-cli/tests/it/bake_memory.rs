//! VMs that continue from the memory of a baked one, through the real command, with QEMU's stand-in: its memory can be
//! loaded by a machine that never ran, or by the machine that it was saved of, and by none that has run since.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::common::kill::at_calls;
use crate::common::{Ran, World, wait_until};

const CONFIG: &str =
    r#"{"vm": {"cpus": 1, "memory": "512M", "disk": "1G", "image": "./disk.img", "ports": ["8080:80"]}}"#;
const DOCUMENT: &str = "#cloud-config\nruncmd: [echo]\n";

/// Where files change their names or go, programs and QEMU are started, and QEMU and guests are asked. What is written
/// in between is in files that have no names yet.
const CALLS: [&str; 9] =
    ["rename", "renameat", "renameat2", "unlink", "unlinkat", "linkat", "clone", "clone3", "connect"];

/// A world with the stack `shop`. Its `ssh` notes how the machine was when it got its own identity.
fn world() -> World {
    let world = World::new();
    world.stack("shop", CONFIG, DOCUMENT);
    let notes = world.path().join("identities");
    fs::create_dir(&notes).unwrap();
    world.program(
        "ssh",
        &format!(
            r#"#!/bin/sh
for last; do :; done
case $last in
*goloo:status*) echo '@goloo:status@'; echo '{{"status":"done","errors":[]}}' ;;
*old_instance=*)
    while [ -e '{notes}/hold' ]; do : >'{notes}/held'; sleep 0.02; done
    name=$(printf '%s\n' "$last" | sed -n 's/.* name=\([^ ]*\) .*/\1/p')
    cat >'{notes}/'"$name.input"
    printf '%s\n' "$last" >'{notes}/'"$name.script"
    grep -l '"template"' '{vms}'/*/machine.json >'{notes}/'"$name.closed"
    cat '{notes}/problem' 2>/dev/null
    exit 0 ;;
*'date -u -s @'*)
    echo once >>'{notes}/clock'
    cat '{notes}/clock-problem' >&2 2>/dev/null && exit 1
    exit 0 ;;
esac
"#,
            notes = notes.display(),
            vms = world.state().join("vms").display(),
        ),
    );
    world
}

fn config(world: &World, text: &str) {
    fs::write(world.path().join("work/stacks/shop/config.json"), text).unwrap();
}

fn machine_file(world: &World, vm: &str) -> (PathBuf, Value) {
    let id = world.json(&["status", vm, "--json"])["vm"]["id"].as_str().unwrap().to_owned();
    let file = world.state().join("vms").join(id).join("machine.json");
    (file.clone(), serde_json::from_slice(&fs::read(file).unwrap()).unwrap())
}

/// Whether the VM's QEMU was started to receive memory, without its ports.
fn continued(world: &World, vm: &str) -> bool {
    let (_, machine) = machine_file(world, vm);
    let pid = machine["process"]["pid"].as_u64().unwrap();
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let line = String::from_utf8_lossy(&line);
    assert_eq!(line.contains("-incoming"), !line.contains(":8080-:80"), "{line}");
    line.contains("-incoming")
}

fn answers(world: &World, vm: &str) -> bool {
    let ip = world.json(&["status", vm, "--json"])["live"]["ip"].as_str().unwrap().to_owned();
    TcpStream::connect((ip.as_str(), 8080)).is_ok()
}

fn memories(world: &World) -> Vec<PathBuf> {
    let files = fs::read_dir(world.path().join("cache/images/store")).into_iter().flatten().flatten();
    files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|it| it == "mem")).collect()
}

fn with_faults(world: &World, faults: &str, arguments: &[&str]) -> Ran {
    Ran(world.command().env("GOLOO_STAND_IN", faults).args(arguments).output().unwrap())
}

#[test]
fn copies_continue_from_memory_and_are_closed_until_they_have_their_own_identity() {
    let world = world();
    let baked = world.run(&["bake", "shop", "--memory"]).expect(0);
    assert!(baked.stdout().contains("memory"), "{baked:?}");
    world.assert_empty("after the bake");
    let memory = memories(&world);
    assert_eq!(memory.len(), 1, "{memory:?}");
    assert_eq!(memory[0].metadata().unwrap().mode() & 0o077, 0, "only its owner can read it");
    assert!(world.json(&["bake", "shop", "--memory", "--json"])["memory"].as_u64().unwrap() > 0);

    for vm in ["one", "two"] {
        let made = world.run(&["create", "shop", "--as", vm, "--no-wait"]).expect(0);
        assert!(!made.stderr().contains("boots"), "{made:?}");
        assert!(continued(&world, vm), "{vm}");
        let notes = world.path().join("identities").join(vm);
        let script = fs::read_to_string(notes.with_extension("script")).unwrap();
        assert!(script.contains(&format!("name={vm} ")) && script.contains("old_name=bake-shop"), "{script}");
        let input = fs::read_to_string(notes.with_extension("input")).unwrap();
        assert!(input.contains("PRIVATE KEY"), "{input}");
        let (file, machine) = machine_file(&world, vm);
        let closed = fs::read_to_string(notes.with_extension("closed")).unwrap();
        assert_eq!(closed.trim(), file.display().to_string());
        assert_eq!((&machine["template"], &machine["suspended"]), (&Value::Null, &Value::Null));
        assert!(answers(&world, vm), "{vm}: its port is open in the end");
        assert!(!file.with_file_name("memory.lz4").exists(), "it isn't needed any more");
        let status = world.json(&["status", vm, "--json"]);
        assert_eq!(status["vm"]["provisioning"]["result"], "done", "its state is known without a wait");
    }
    let pins = fs::read_dir(world.state().join("keys/known_hosts.d")).into_iter().flatten().flatten();
    let pins: Vec<_> = pins.map(|file| file.file_name().into_string().unwrap()).collect();
    assert!(!pins.iter().any(|name| name.ends_with("-before")), "{pins:?}");
    let key = |vm: &str| world.json(&["status", vm, "--json"])["vm"]["ssh"]["hostKey"].clone();
    assert_ne!(key("one"), key("two"));

    world.run(&["image", "prune"]).expect(0);
    assert_eq!(memories(&world), memory, "as long as a VM needs the image");
    world.run(&["delete", "one", "two", "--yes"]).expect(0);
    world.run(&["image", "prune"]).expect(0);
    assert_eq!(memories(&world), [""; 0].map(PathBuf::from));
    world.run(&["bake", "shop", "--memory"]).expect(0);
    world.run(&["image", "rm", "baked:shop"]).expect(0);
    assert_eq!(memories(&world), [""; 0].map(PathBuf::from));
}

#[test]
fn a_memory_that_does_not_fit_or_load_is_replaced_by_a_boot_from_the_baked_disk() {
    let world = world();
    world.run(&["bake", "shop", "--memory"]).expect(0);
    let larger = CONFIG.replace("512M", "1G");
    config(&world, &larger);
    let made = world.run(&["create", "shop", "--as", "larger"]).expect(0);
    assert!(made.stderr().contains("1 CPU and 512M of memory, not 1 CPU and 1G"), "{made:?}");
    assert!(!continued(&world, "larger") && answers(&world, "larger"));
    config(
        &world,
        &CONFIG.replace(r#""ports""#, r#""mounts": [{"source": ".", "target": "/srv/x"}], "ports""#),
    );
    assert!(!world.run(&["doctor"]).stdout().contains("baked:shop"));
    let other = world.path().join("another-qemu");
    fs::copy(crate::common::stand_in(), &other).unwrap();
    let doctor = Ran(world.command().env("GOLOO_QEMU", &other).arg("doctor").output().unwrap());
    assert!(
        doctor.stdout().contains("the memory of baked:shop can't be used: QEMU was replaced"),
        "{doctor:?}"
    );
    let refused = world.run(&["bake", "shop", "--memory"]).expect(2);
    assert!(refused.stderr().contains("vm.mounts"), "{refused:?}");

    config(&world, CONFIG);
    let made = with_faults(&world, "other-memory", &["create", "shop", "--as", "broken"]).expect(0);
    assert!(
        made.stderr().contains("boots from the baked disk") && made.stderr().contains("load of migration"),
        "{made:?}"
    );
    assert!(!continued(&world, "broken") && answers(&world, "broken"));
    assert_eq!(machine_file(&world, "broken").1["template"], Value::Null);

    config(&world, &larger);
    let again = world.run(&["bake", "shop", "--memory"]).expect(0);
    assert!(!again.stdout().contains("already"), "the memory is of another machine: {again:?}");
    world.run(&["create", "shop", "--as", "fits"]).expect(0);
    assert!(continued(&world, "fits"));
}

#[test]
fn what_happens_at_a_boot_can_not_be_baked_with_memory() {
    let world = world();
    let document = "#cloud-config\nruncmd: [echo]\nphone_home: {url: \"https://example.com\"}\n";
    world.stack("shop", CONFIG, document);
    let refused = world.run(&["bake", "shop", "--memory"]).expect(2);
    assert!(refused.stderr().contains("cloud-init.yaml:3:1"), "{refused:?}");
    assert!(refused.stderr().contains("without --memory"), "{refused:?}");
    world.assert_empty("after a refused bake");
}

#[test]
fn what_fails_on_a_copy_is_its_result() {
    let world = world();
    world.run(&["bake", "shop", "--memory"]).expect(0);
    fs::write(world.path().join("identities/problem"), "/x/per-instance/mine failed with status 3\n")
        .unwrap();
    fs::write(world.path().join("identities/clock-problem"), "date: cannot set date\n").unwrap();
    let failed = world.run(&["create", "shop", "--as", "one"]).expect(8);
    assert!(failed.stderr().contains("mine failed with status 3"), "{failed:?}");
    assert!(failed.stderr().contains("can't be set: date: cannot set date"), "{failed:?}");
    assert_eq!(fs::read_to_string(world.path().join("identities/clock")).unwrap(), "once\n");
    let status = world.json(&["status", "one", "--json"]);
    assert_eq!((&status["vm"]["phase"], &status["live"]["state"]), (&"degraded".into(), &"running".into()));
}

/// A copy has the port of its own address; that of 127.0.0.1 only as long as nothing else has it.
#[test]
fn a_port_of_127_0_0_1_that_is_taken_before_a_copy_is_ready_is_left_out() {
    let world = world();
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    config(&world, &CONFIG.replace("8080", &port.to_string()));
    world.run(&["bake", "shop", "--memory"]).expect(0);
    let (hold, held) = ["hold", "held"].map(|name| world.path().join("identities").join(name)).into();
    fs::write(&hold, "").unwrap();
    let mut create = world.command();
    create.args(["create", "shop", "--as", "one", "--no-wait"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let create = create.spawn().unwrap();
    wait_until("the copy gets its identity", || held.exists());
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    fs::remove_file(&hold).unwrap();
    Ran(create.wait_with_output().unwrap()).expect(0);
    let status = world.json(&["status", "one", "--json"]);
    let own = status["live"]["ip"].as_str().unwrap();
    assert!(TcpStream::connect((own, port)).is_ok());
    let (_, machine) = machine_file(&world, "one");
    let forwards = machine["ports"].as_array().unwrap().iter();
    let skipped: Vec<_> = forwards.filter(|forward| forward["necessity"] == "skipped").collect();
    assert_eq!(skipped.len(), 1, "{machine}");
    assert_eq!(skipped[0]["address"], "127.0.0.1");
    drop(taken);
}

#[test]
fn kill_bake_with_memory_at_any_call_then_resume_or_delete() {
    let world = world();
    world.run(&["image", "pull", "./stacks/shop/disk.img"]).expect(0);
    let forget = || drop(world.run(&["image", "rm", "baked:shop"]));
    let killed = at_calls(&CALLS, &world, &["bake", "shop", "--memory"], forget, |when, n| {
        if !world.names().is_empty() {
            match n.is_multiple_of(2) {
                true => drop(world.run(&["resume", "bake-shop"]).expect(0)),
                false => drop(world.run(&["delete", "bake-shop", "--yes"]).expect(0)),
            }
        }
        world.assert_empty(when);
        world.run(&["bake", "shop", "--memory"]).expect(0);
        assert_eq!(memories(&world).len(), 1, "{when}");
    });
    assert!(killed > 40, "a bake changes something more often than {killed} times");
}

#[test]
fn kill_create_from_memory_at_any_call_then_resume_or_delete() {
    let world = world();
    world.run(&["bake", "shop", "--memory"]).expect(0);
    let notes = world.path().join("identities");
    let check = |when: &str, n: usize| {
        if n.is_multiple_of(2) && !world.names().is_empty() {
            let resumed = world.run(&["resume", "shop"]);
            let list = world.json(&["list", "--json"]);
            assert!(resumed.code() == 0 || list["vms"][0]["phase"] == "ready", "{when}: {resumed:?}");
            let (_, machine) = machine_file(&world, "shop");
            assert_eq!((&machine["template"], &machine["suspended"]), (&Value::Null, &Value::Null), "{when}");
            assert!(answers(&world, "shop"), "{when}");
            assert!(notes.join("shop.input").exists(), "{when}: it has got its own identity");
        }
        if !world.names().is_empty() {
            world.run(&["delete", "shop", "--yes"]).expect(0);
        }
        world.assert_empty(when);
        let _ = fs::remove_file(notes.join("shop.input"));
    };
    let killed = at_calls(&CALLS, &world, &["create", "shop"], || {}, check);
    assert!(killed > 40, "a create changes something more often than {killed} times");
}
