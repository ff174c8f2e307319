//! A VM's life through the real command, with QEMU's stand-in.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;

use common::World;

const DONE: &str = r#"{"status":"done","errors":[]}"#;
const FAILED: &str = r#"{"status":"error","errors":["(scripts_user, RuntimeError)"]}"#;

#[test]
fn a_vm_comes_is_listed_and_goes() {
    let world = World::new();
    world.ssh_finds(DONE);
    let made = world.run(&["create", "hello"]).expect(0);
    assert!(made.stdout().contains("hello is ready"), "{made:?}");
    assert_eq!(world.names(), ["hello"]);
    assert_eq!(world.qemus().len(), 1);
    let status = world.json(&["status", "hello", "--json"]);
    assert_eq!(status["vm"]["phase"], "ready");
    assert_eq!(status["vm"]["provisioning"]["result"], "done");
    assert_eq!(status["live"]["state"], "running");
    assert_eq!(status["drift"], "none");
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
    let archived = world.json(&["archive", "list", "--json"]);
    assert_eq!(archived["archived"][0]["name"], "hello");
    assert_eq!(archived["archived"][0]["phase"], "destroyed");
}

#[test]
fn a_config_is_never_written() {
    let world = World::new();
    let folder = world.path().join("work/stacks/hello");
    let before: Vec<_> = files(&folder);
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert_eq!(files(&folder), before);
}

fn files(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn a_record_holds_no_secret_once_the_create_is_done() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let record = fs::read_to_string(world.state().join("active/hello/state.json")).unwrap();
    assert!(!record.contains("PRIVATE KEY"), "{record}");
}

#[test]
fn failed_provisioning_is_exit_8_with_the_log_s_end_and_the_machine_stays() {
    let world = World::new();
    world.ssh_finds(FAILED);
    let ran = world.run(&["create", "hello"]).expect(8);
    assert!(ran.stderr().contains("the last line of the log"), "{ran:?}");
    assert!(ran.stderr().contains("scripts_user"), "{ran:?}");
    assert_eq!(world.json(&["status", "hello", "--json"])["vm"]["phase"], "degraded");
    assert_eq!(world.qemus().len(), 1);
}

#[test]
fn the_first_verdict_is_kept_and_a_skipped_one_is_read_by_wait() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    assert_eq!(world.json(&["status", "hello", "--json"])["vm"]["phase"], "degraded");
    world.ssh_finds(DONE);
    world.run(&["wait", "hello"]).expect(0);
    assert_eq!(world.json(&["status", "hello", "--json"])["vm"]["phase"], "ready");
    world.ssh_finds(FAILED);
    world.run(&["wait", "hello"]).expect(8);
    assert_eq!(world.json(&["status", "hello", "--json"])["vm"]["phase"], "ready");
}

#[test]
fn a_taken_name_is_refused_and_another_name_makes_a_second_vm() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let refused = world.run(&["create", "hello", "--no-wait"]).expect(3);
    assert!(refused.stderr().contains("hint:"), "{refused:?}");
    world.run(&["create", "hello", "--no-wait", "--as", "hello-2"]).expect(0);
    assert_eq!(world.names(), ["hello", "hello-2"]);
}

#[test]
fn stop_start_and_restart_end_when_it_is_true() {
    let world = World::new();
    world.ssh_finds(DONE);
    world.run(&["create", "hello"]).expect(0);
    world.run(&["stop", "hello"]).expect(0);
    assert_eq!(world.qemus().len(), 0);
    let live = |world: &World| world.json(&["list", "--refresh", "--json"])["vms"][0]["live"].clone();
    assert_eq!(live(&world), "stopped");
    let refused = world.run(&["ssh", "hello"]).expect(1);
    assert!(refused.stderr().contains("goloo start hello"), "{refused:?}");
    world.run(&["start", "hello"]).expect(0);
    assert_eq!(live(&world), "running");
    let before = world.qemus();
    world.run(&["restart", "hello", "--force"]).expect(0);
    assert_eq!(world.qemus().len(), 1);
    assert_ne!(world.qemus(), before);
}

#[test]
fn a_qemu_that_was_killed_leaves_a_stopped_vm_that_starts_again() {
    let world = World::new();
    world.ssh_finds(DONE);
    world.run(&["create", "hello"]).expect(0);
    let pid = world.qemus()[0].to_string();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    common::wait_until("QEMU is gone", || world.qemus().is_empty());
    assert_eq!(world.json(&["status", "hello", "--json"])["live"]["state"], "stopped");
    world.run(&["start", "hello"]).expect(0);
    assert_eq!(world.qemus().len(), 1);
}

#[test]
fn commands_work_from_any_folder_and_a_stack_is_found_again() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let elsewhere =
        |arguments: &[&str]| common::Ran(world.command().current_dir("/").args(arguments).output().unwrap());
    elsewhere(&["status", "hello"]).expect(0);
    elsewhere(&["delete", "hello", "--yes"]).expect(0);
    let again = elsewhere(&["create", "hello", "--no-wait"]).expect(0);
    assert!(again.stderr().contains("work/stacks/hello"), "{again:?}");
}

#[test]
fn a_delete_without_a_terminal_wants_yes() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let refused = world.run(&["delete", "hello"]).expect(2);
    assert!(refused.stderr().contains("--yes"), "{refused:?}");
    assert_eq!(world.names(), ["hello"]);
}

#[test]
fn a_failed_create_leaves_nothing_and_the_name_is_free() {
    let world = World::new();
    let folder = world.path().join("work/stacks/hello");
    fs::write(folder.join("disk.img"), "no image").unwrap();
    fs::write(folder.join("config.json"), common::HELLO.replace("./disk.img", "./gone.img")).unwrap();
    let failed = world.run(&["create", "hello", "--no-wait"]);
    assert!(matches!(failed.code(), 1 | 2), "{failed:?}");
    world.assert_empty("after the failed create");
    world.stack("hello", common::HELLO, "");
    world.run(&["create", "hello", "--no-wait"]).expect(0);
}

#[test]
fn recreate_makes_the_same_machine_from_the_archive() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.run(&["recreate", "hello", "--no-wait"]).expect(0);
    assert_eq!(world.names(), ["hello"]);
    world.run(&["recreate", "hello", "--no-wait", "--as", "twin"]).expect(0);
    assert_eq!(world.names(), ["hello", "twin"]);
}

#[test]
fn diff_shows_what_has_changed_since() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.stack("hello", &common::HELLO.replace("512M", "1G"), "#cloud-config\n");
    let diff = world.run(&["diff", "hello"]).expect(0);
    assert!(diff.stdout().contains("\n-{\"vm\"") && diff.stdout().contains("1G"), "{diff:?}");
    assert_eq!(world.json(&["status", "hello", "--json"])["drift"], "changed");
}

#[test]
fn a_dry_run_makes_nothing_and_shows_the_command_line() {
    let world = World::new();
    let plan = world.json(&["create", "hello", "--dry-run", "--json"]);
    let argv = plan["plan"]["qemu"]["argv"].as_array().unwrap();
    assert!(argv.iter().any(|word| word == "-m" || word.as_str().unwrap().starts_with("-m")), "{argv:?}");
    assert!(plan["plan"]["userData"].as_str().unwrap().contains("runcmd"));
    assert!(!world.state().join("active").exists());
    assert!(world.qemus().is_empty());
}

#[test]
fn two_vms_forward_different_ports() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["create", "hello", "--no-wait", "--as", "other"]).expect(0);
    let list = world.json(&["list", "--json"]);
    assert_ne!(list["vms"][0]["sshPort"], list["vms"][1]["sshPort"]);
}

#[test]
fn names_behind_u_are_checked_before_anyone_is_asked() {
    let world = World::new();
    let refused = world.run(&["create", "hello", "-u", "ann, ../evil"]).expect(2);
    assert!(refused.stderr().contains("that is no GitHub user"), "{refused:?}");
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let world = World::new();
    for (arguments, code, word) in [
        (vec!["status", "nobody", "--json"], 3, "not-found"),
        (vec!["status", "NoBody", "--json"], 2, "usage"),
        (vec!["list", "--nonsense", "--json"], 2, "usage"),
        (vec!["create", "gone", "--json"], 3, "not-found"),
    ] {
        let ran = world.run(&arguments).expect(code);
        let json: serde_json::Value = serde_json::from_str(&ran.stdout()).unwrap();
        assert_eq!((&json["schema"], &json["error"]["code"]), (&1.into(), &word.into()), "{ran:?}");
        assert!(!json["error"]["hint"].as_str().unwrap().is_empty(), "{ran:?}");
    }
}

#[test]
fn a_broken_record_is_shown_and_left_alone() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let folder = world.state().join("active/broken");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("state.json"), "{torn").unwrap();
    let list = world.json(&["list", "--json"]);
    assert_eq!(list["vms"][0]["name"], "hello");
    assert!(list["broken"][0]["path"].as_str().unwrap().contains("active/broken"), "{list}");
    let doctor = world.run(&["doctor"]).expect(1);
    assert!(doctor.stdout().contains("active/broken"), "{doctor:?}");
    assert_eq!(fs::read_to_string(folder.join("state.json")).unwrap(), "{torn");
}

#[test]
fn every_starter_stack_is_written_once_and_is_sound() {
    let world = World::new();
    for template in ["base", "dev", "python-dev", "go-dev", "node-dev", "rust-dev", "docker", "web"] {
        world.run(&["init", template]).expect(0);
        world.run(&["config", "validate", template]).expect(0);
        let again = world.run(&["init", template]).expect(1);
        assert!(again.stderr().contains("is there already"), "{again:?}");
    }
    assert_eq!(world.json(&["config", "list", "--json"])["stacks"].as_array().unwrap().len(), 9);
}

#[test]
fn completion_offers_the_names_of_vms() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let mut command = world.command();
    command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").args(["--", "goloo", "ssh", "he"]);
    let offered = common::Ran(command.output().unwrap());
    assert!(offered.stdout().contains("hello"), "{offered:?}");
}

#[test]
fn a_start_that_failed_is_over_and_can_be_tried_again() {
    let world = World::new();
    world.ssh_finds(DONE);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let config = common::HELLO.replace("}}", &format!(r#", "ports": ["{port}:80"]}}}}"#));
    world.stack("hello", &config, "");
    world.run(&["create", "hello"]).expect(0);
    world.run(&["stop", "hello"]).expect(0);
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let failed = world.run(&["start", "hello"]).expect(1);
    assert!(failed.stderr().contains(&port.to_string()), "{failed:?}");
    assert!(world.json(&["status", "hello", "--json"])["vm"]["operation"].is_null());
    drop(taken);
    world.run(&["start", "hello"]).expect(0);
    assert_eq!(world.qemus().len(), 1);
}

#[test]
fn a_protected_vm_is_not_deleted() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["protect", "hello"]).expect(0);
    let refused = world.run(&["delete", "hello", "--yes"]).expect(1);
    assert!(refused.stderr().contains("goloo unprotect hello"), "{refused:?}");
    assert_eq!((world.names(), world.qemus().len()), (vec!["hello".to_owned()], 1));
    assert_eq!(world.json(&["status", "hello", "--json"])["vm"]["protected"], true);
    // Said twice it is one change, and all else goes on.
    world.run(&["protect", "hello"]).expect(0);
    world.run(&["stop", "hello", "--force"]).expect(0);
    world.run(&["unprotect", "hello"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn a_create_that_made_nothing_says_nothing_of_removing() {
    let world = World::new();
    fs::remove_file(world.path().join("work/stacks/hello/disk.img")).unwrap();
    let failed = world.run(&["create", "hello", "--no-wait"]).expect(1);
    assert!(!failed.stderr().contains("remov") && !failed.stderr().contains("ending QEMU"), "{failed:?}");
    world.assert_empty("after the failed create");
}

#[test]
fn what_qemu_said_is_in_the_error_of_a_create_and_its_log_s_path_is_not() {
    let world = World::new();
    let qemu = world.path().join("bin/failing-qemu");
    world.program(
        "failing-qemu",
        "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'QEMU emulator version 7.2.0'; exit; }\nfor n in 1 2 3 4 5; do echo \"reason $n\" >&2; done\nexit 1\n",
    );
    let create = |more: &[&str]| {
        let mut command = world.command();
        command.env("GOLOO_QEMU", &qemu).args(["create", "hello", "--no-wait"]).args(more);
        common::Ran(command.output().unwrap()).expect(1)
    };
    let failed = create(&[]);
    let said = failed.stderr();
    assert!(said.contains("reason 1; reason 2; reason 3; reason 4; reason 5"), "{failed:?}");
    assert!(!said.contains("qemu.log"), "the file is deleted: {failed:?}");
    world.assert_empty("after the failed create");
}

#[test]
fn a_name_that_is_given_twice_is_deleted_once() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["create", "hello", "--no-wait", "--as", "other"]).expect(0);
    let deleted = world.json(&["delete", "hello", "other", "hello", "--yes", "--json"]);
    let names: Vec<_> = deleted["deleted"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["hello", "other"]);
    world.assert_empty("after the delete");
}

/// A guest that accepts connections and whose logins hang.
fn ssh_hangs(world: &World) {
    world.program("ssh", "#!/bin/sh\nexec sleep 600\n");
}

#[test]
fn ctrl_c_while_a_started_machine_is_waited_for_offers_to_wait_and_not_to_resume() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["stop", "hello", "--force"]).expect(0);
    ssh_hangs(&world);
    let mut command = world.command();
    command
        .args(["start", "hello"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let is_over = || {
        let text = fs::read_to_string(world.state().join("active/hello/state.json")).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let last = json["history"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
        last["what"] == "start" && last["outcome"] == "done"
    };
    common::wait_until("the start is recorded as done", is_over);
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ended = common::Ran(child.wait_with_output().unwrap()).expect(6);
    assert!(ended.stderr().contains("goloo wait hello"), "{ended:?}");
    assert!(!ended.stderr().contains("resume"), "{ended:?}");
    assert_eq!(world.qemus().len(), 1);
}

#[test]
fn a_limit_holds_for_the_whole_command() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    ssh_hangs(&world);
    for command in [&["wait", "hello"][..], &["restart", "hello", "--force"], &["start", "hello"]] {
        let begun = std::time::Instant::now();
        let ran = world.run(&[command, &["--timeout", "2s"]].concat()).expect(8);
        let took = begun.elapsed().as_secs();
        assert!((1..20).contains(&took), "{command:?} took {took} s: {ran:?}");
    }
}

#[test]
fn a_guest_that_ignores_a_stop_loses_its_power_when_the_time_is_over() {
    let world = World::new();
    let deaf = |arguments: &[&str]| {
        let mut command = world.command();
        let ran = command.env("GOLOO_STAND_IN", "ignores-power-down").args(arguments).output().unwrap();
        common::Ran(ran).expect(0)
    };
    deaf(&["create", "hello", "--no-wait"]);
    let begun = std::time::Instant::now();
    let stopped = deaf(&["stop", "hello", "--timeout", "1s"]);
    assert!(begun.elapsed().as_secs() < 20, "{stopped:?}");
    assert!(stopped.stderr().contains("hasn't powered off within 1 s"), "{stopped:?}");
    assert_eq!(world.qemus().len(), 0);
}

#[test]
fn a_state_folder_may_have_any_name_that_ssh_can_be_told() {
    let world = World::new();
    let state = world.path().join("100% \"mine\", $x ~\\y's");
    let run = |arguments: &[&str]| {
        common::Ran(world.command().env("GOLOO_STATE_DIR", &state).args(arguments).output().unwrap())
    };
    run(&["create", "hello", "--no-wait"]).expect(0);
    let config = world.path().join("ssh_config");
    fs::write(&config, run(&["ssh-config"]).expect(0).stdout()).unwrap();
    let mut ssh = std::process::Command::new("ssh");
    let effective = ssh.arg("-G").arg("-F").arg(&config).arg("hello").output().unwrap();
    let effective = String::from_utf8(effective.stdout).unwrap();
    let keys = state.join("keys").display().to_string();
    // The tokens of this one are expanded later, `%%` among them.
    let identity = format!("identityfile {}/id_ed25519", keys.replace('%', "%%"));
    assert!(effective.lines().any(|line| line == identity), "{identity} isn't in {effective}");
    assert!(effective.contains(&format!("\nuserknownhostsfile {keys}/known_hosts.d/")), "{effective}");
    run(&["stop", "hello"]).expect(0);
    run(&["delete", "hello", "--yes"]).expect(0);
    let odd = world.path().join("a${HOME}b");
    let refused =
        common::Ran(world.command().env("GOLOO_STATE_DIR", &odd).args(["create", "hello"]).output().unwrap());
    assert!(refused.stderr().contains("ssh can't use the path"), "{refused:?}");
}
