//! Snapshots, clones and suspension through the real command, with QEMU's stand-in and real disks.

use std::process::Command;

use crate::common::World;

const DONE: &str = r#"{"status":"done","errors":[]}"#;

/// A world with the stopped VM `hello`.
fn world() -> World {
    let world = World::new();
    world.ssh_finds(DONE);
    world.run(&["create", "hello"]).expect(0);
    world.run(&["stop", "hello", "--force"]).expect(0);
    world
}

fn qemu_io(world: &World, command: &str) -> bool {
    let disk = world.machines().remove(0).join("disk.qcow2");
    Command::new("qemu-io").args(["-c", command]).arg(disk).output().unwrap().status.success()
}

fn labels(world: &World) -> Vec<String> {
    let listed = world.json(&["snapshot", "hello", "--list", "--json"]);
    let snapshots = listed["snapshots"].as_array().unwrap().iter();
    snapshots
        .map(|one| {
            assert!(one["createdAt"].as_str().unwrap().ends_with('Z'), "{one}");
            one["label"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn restoring_a_snapshot_restores_the_disk() {
    let world = world();
    assert!(qemu_io(&world, "write -q -P 7 0 64k"));
    let taken = world.run(&["snapshot", "hello", "before"]).expect(0);
    assert!(taken.stdout().contains("goloo restore hello before"), "{taken:?}");
    assert!(qemu_io(&world, "write -q -P 8 0 64k"));
    let asked = world.run(&["restore", "hello", "before"]).expect(2);
    assert!(asked.stderr().contains("goloo restore --yes hello before"), "{asked:?}");
    assert!(qemu_io(&world, "read -q -P 8 0 64k"), "a restore that only asked changed the disk");
    world.run(&["restore", "hello", "before", "--yes"]).expect(0);
    assert!(qemu_io(&world, "read -q -P 7 0 64k"));
    world.run(&["start", "hello"]).expect(0);
    assert_eq!(world.qemus().len(), 1);
}

#[test]
fn snapshots_are_listed_and_deleted_by_label() {
    let world = world();
    world.run(&["snapshot", "hello", "one"]).expect(0);
    let taken = world.json(&["snapshot", "hello", "--json"]);
    let unnamed = taken["snapshot"]["label"].as_str().unwrap().to_owned();
    assert!(unnamed.starts_with("at-2"), "{unnamed}");
    assert_eq!(labels(&world), ["one".to_owned(), unnamed.clone()]);
    for (arguments, code) in [
        (vec!["snapshot", "hello", "one"], 3),
        (vec!["snapshot", "hello", "Not A Label"], 2),
        (vec!["snapshot", "hello", "--delete", "two"], 3),
        (vec!["restore", "hello", "two", "--yes"], 3),
        (vec!["snapshot", "nobody"], 3),
        (vec!["snapshot", "hello", "two", "--list"], 2),
    ] {
        let refused = world.run(&arguments).expect(code);
        assert!(!refused.stderr().is_empty(), "{refused:?}");
    }
    world.run(&["snapshot", "hello", "--delete", "one"]).expect(0);
    assert_eq!(labels(&world), [unnamed]);
}

#[test]
fn a_running_vm_cannot_be_snapshotted_or_restored() {
    let world = world();
    world.run(&["snapshot", "hello", "one"]).expect(0);
    world.run(&["start", "hello"]).expect(0);
    for arguments in [vec!["snapshot", "hello"], vec!["restore", "hello", "one", "--yes"]] {
        let refused = world.run(&arguments).expect(2);
        assert!(refused.stderr().contains("goloo stop hello"), "{refused:?}");
    }
    assert_eq!(labels(&world), ["one"], "a running VM's snapshots can be listed");
    assert_eq!(world.names(), ["hello"]);
    assert_eq!(world.json(&["archive", "list", "--json"])["archived"].as_array().unwrap().len(), 0);
}

#[test]
fn a_clone_runs_alongside_its_source_and_outlives_it() {
    let world = world();
    assert!(qemu_io(&world, "write -q -P 7 0 64k"));
    let copied = world.run(&["clone", "hello", "twin"]).expect(0);
    assert!(copied.stdout().contains("created twin, a stopped copy of hello"), "{copied:?}");
    world.run(&["clone", "hello", "twin"]).expect(3);
    let status = world.json(&["status", "twin", "--json"]);
    assert_eq!((&status["live"]["state"], &status["vm"]["phase"]), (&"stopped".into(), &"ready".into()));
    assert_eq!(status["vm"]["origin"]["from"], "hello");
    for name in ["hello", "twin"] {
        world.run(&["start", name]).expect(0);
    }
    let list = world.json(&["list", "--json"]);
    assert_ne!(list["vms"][0]["sshPort"], list["vms"][1]["sshPort"]);
    let key = |name| world.json(&["status", name, "--json"])["vm"]["ssh"]["hostKey"].clone();
    assert_eq!(key("hello"), key("twin"), "the host key is on the disk");
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert_eq!(world.names(), ["twin"]);
    world.run(&["stop", "twin", "--force"]).expect(0);
    assert!(qemu_io(&world, "read -q -P 7 0 64k"));
    world.run(&["delete", "twin", "--yes"]).expect(0);
    world.assert_empty("after the deletes");
}

#[test]
fn a_suspended_vm_is_shown_as_such_and_gets_the_time_when_it_continues() {
    let world = world();
    world.run(&["start", "hello"]).expect(0);
    world.run(&["stop", "hello", "--suspend", "--force"]).expect(2);
    world.run(&["stop", "hello", "--suspend"]).expect(0);
    assert!(world.qemus().is_empty());
    let status = world.json(&["status", "hello", "--json"]);
    assert_eq!((&status["live"]["state"], &status["vm"]["operation"]), (&"suspended".into(), &().into()));
    assert!(world.run(&["list"]).expect(0).stdout().contains("suspended"));
    let refused = world.run(&["ssh", "hello", "true"]).expect(1);
    assert!(
        refused.stderr().contains("is suspended") && refused.stderr().contains("goloo start hello"),
        "{refused:?}"
    );
    let refused = world.run(&["snapshot", "hello"]).expect(2);
    assert!(refused.stderr().contains("is suspended"), "{refused:?}");

    let said = commands_over_ssh(&world);
    world.run(&["start", "hello"]).expect(0);
    assert_eq!(world.qemus().len(), 1);
    let said = said();
    let set = said.lines().find_map(|line| line.split("date -u -s @").nth(1)).unwrap();
    let set: u64 = set.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now - 60..=now).contains(&set), "{set} at {now}");
}

#[test]
fn a_failed_clone_leaves_nothing_and_frees_the_name() {
    let world = world();
    let machine = world.machines().remove(0);
    let (seed, away) = (machine.join("seed.img"), world.path().join("seed.img"));
    std::fs::rename(&seed, &away).unwrap();
    let failed = world.run(&["clone", "hello", "twin"]).expect(1);
    assert!(failed.stderr().contains("\"twin\" could not be created"), "{failed:?}");
    assert_eq!((world.names(), world.machines()), (vec!["hello".to_owned()], vec![machine]));
    assert_eq!(world.json(&["archive", "list", "--json"])["archived"][0]["name"], "twin");
    std::fs::rename(&away, &seed).unwrap();
    world.run(&["clone", "hello", "twin"]).expect(0);
}

/// Has the last word of each `ssh` in a file, whose content is returned by the function.
fn commands_over_ssh(world: &World) -> impl Fn() -> String {
    let said = world.path().join("said");
    world.program(
        "ssh",
        &format!("#!/bin/sh\nfor last; do :; done\necho \"$last\" >>'{}'\necho new\n", said.display()),
    );
    move || std::fs::read_to_string(&said).unwrap_or_default()
}

fn state(world: &World, vm: &str) -> String {
    world.json(&["status", vm, "--json"])["live"]["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_running_vm_is_cloned_with_its_memory_and_continues() {
    let world = world();
    world.run(&["start", "hello"]).expect(0);
    let cloned = world.run(&["clone", "hello", "twin"]).expect(0);
    let text = "created twin, a suspended copy of hello; run `goloo start twin` to continue";
    assert!(cloned.stdout().contains(text), "{cloned:?}");
    assert_eq!(world.run_state("hello"), "running");
    assert_eq!((state(&world, "hello"), state(&world, "twin")), ("running".into(), "suspended".into()));
    assert_eq!(world.qemus().len(), 1);

    let said = commands_over_ssh(&world);
    world.run(&["start", "twin"]).expect(0);
    assert!(said().contains("date -u -s @") && said().contains("set -- hello twin yes"), "{}", said());
    assert_eq!((world.run_state("twin"), world.qemus().len()), ("running".into(), 2));
    let ports = world.json(&["list", "--json"])["vms"].clone();
    assert_ne!(ports[0]["sshPort"], ports[1]["sshPort"]);
    assert!(
        !world.machines().iter().any(|machine| machine.join("memory.lz4").exists()),
        "it is needed no more"
    );

    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.run(&["restart", "twin"]).expect(0);
    assert_eq!(world.run_state("twin"), "running");
    world.run(&["delete", "twin", "--yes"]).expect(0);
    world.assert_empty("after the deletes");
}

#[test]
fn a_suspended_vm_and_its_clone_both_continue() {
    let world = world();
    world.run(&["start", "hello"]).expect(0);
    world.run(&["stop", "hello", "--suspend"]).expect(0);
    world.run(&["clone", "hello", "twin"]).expect(0);
    assert_eq!((state(&world, "hello"), state(&world, "twin")), ("suspended".into(), "suspended".into()));
    let said = commands_over_ssh(&world);
    world.run(&["start", "hello"]).expect(0);
    assert!(!said().contains("set --"), "it has its name: {}", said());
    world.run(&["start", "twin"]).expect(0);
    for vm in ["hello", "twin"] {
        assert_eq!(world.run_state(vm), "running");
    }
}

#[test]
fn memory_is_not_kept_for_a_machine_that_is_to_start_with_other_settings() {
    let world = world();
    world.run(&["start", "hello"]).expect(0);
    world.run(&["set", "hello", "cpus=2", "--no-restart"]).expect(0);
    for (arguments, what) in
        [(["stop", "hello", "--suspend"], "suspended"), (["clone", "hello", "twin"], "cloned")]
    {
        let refused = world.run(&arguments).expect(1);
        assert!(refused.stderr().contains(&format!("can't be {what}")), "{refused:?}");
        assert!(refused.stderr().contains("goloo restart hello"), "{refused:?}");
    }
    assert_eq!((world.names(), world.run_state("hello")), (vec!["hello".to_owned()], "running".into()));
    world.run(&["restart", "hello"]).expect(0);
    world.run(&["clone", "hello", "twin"]).expect(0);
    world.run(&["start", "twin"]).expect(0);
    world.run(&["stop", "hello", "--suspend"]).expect(0);
    world.run(&["start", "hello"]).expect(0);
}

#[test]
fn a_vm_whose_memory_or_disk_cannot_be_copied_keeps_running() {
    let world = world();
    let machine = world.machines().remove(0);
    let start = |fault: &str| {
        let mut command = world.command();
        assert!(command.args(["start", "hello"]).env("GOLOO_STAND_IN", fault).status().unwrap().success());
    };
    start("no-migration");
    let refused = world.run(&["clone", "hello", "twin"]).expect(2);
    assert!(refused.stderr().contains("\"hello\" can't be cloned while it runs"), "{refused:?}");
    assert!(refused.stderr().contains("goloo stop hello"), "{refused:?}");
    assert_eq!((world.names(), world.run_state("hello")), (vec!["hello".to_owned()], "running".into()));
    world.run(&["stop", "hello", "--force"]).expect(0);
    start("no-cont");
    let failed = world.run(&["clone", "hello", "twin"]).expect(1);
    assert!(failed.stderr().contains("the paused machine can't continue"), "{failed:?}");
    assert_eq!((world.names(), world.run_state("hello")), (vec!["hello".to_owned()], "running".into()));
    world.run(&["stop", "hello", "--force"]).expect(0);
    start("");
    std::fs::rename(machine.join("seed.img"), world.path().join("seed.img")).unwrap();
    let failed = world.run(&["clone", "hello", "twin"]).expect(1);
    assert!(failed.stderr().contains("\"twin\" could not be created"), "{failed:?}");
    assert_eq!((world.names(), world.run_state("hello")), (vec!["hello".to_owned()], "running".into()));
    assert_eq!(world.machines(), [machine]);
}
