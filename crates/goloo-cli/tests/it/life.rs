//! The life cycle of a VM through the real command, with QEMU's stand-in.

use crate::common;
use std::fs;

use crate::common::World;

const DONE: &str = r#"{"status":"done","errors":[]}"#;
const FAILED: &str = r#"{"status":"error","errors":["(scripts_user, RuntimeError)"]}"#;

#[test]
fn a_vm_is_created_listed_and_deleted() {
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
fn a_record_holds_no_private_key_after_the_create() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let record = fs::read_to_string(world.state().join("active/hello/state.json")).unwrap();
    assert!(!record.contains("PRIVATE KEY"), "{record}");
}

#[test]
fn failed_provisioning_exits_8_shows_the_log_and_keeps_the_machine() {
    let world = World::new();
    world.ssh_finds(FAILED);
    let ran = world.run(&["create", "hello"]).expect(8);
    assert!(ran.stderr().contains("the last line of the log"), "{ran:?}");
    assert!(ran.stderr().contains("scripts_user"), "{ran:?}");
    assert_eq!(world.json(&["status", "hello", "--json"])["vm"]["phase"], "degraded");
    assert_eq!(world.qemus().len(), 1);
}

#[test]
fn wait_records_a_skipped_provisioning_result_and_keeps_the_first() {
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
fn create_refuses_an_existing_name_and_accepts_another() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let refused = world.run(&["create", "hello", "--no-wait"]).expect(3);
    assert!(refused.stderr().contains("hint:"), "{refused:?}");
    world.run(&["create", "hello", "--no-wait", "--as", "hello-2"]).expect(0);
    assert_eq!(world.names(), ["hello", "hello-2"]);
}

#[test]
fn stop_start_and_restart_return_when_the_state_is_reached() {
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
fn a_killed_qemu_leaves_a_stopped_vm_that_can_be_started() {
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
fn commands_work_from_any_folder_and_find_the_last_stack_folder() {
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
fn delete_without_a_terminal_requires_yes() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let refused = world.run(&["delete", "hello"]).expect(2);
    assert!(refused.stderr().contains("--yes"), "{refused:?}");
    assert_eq!(world.names(), ["hello"]);
}

#[test]
fn a_failed_create_leaves_nothing_and_frees_the_name() {
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
fn recreate_creates_a_vm_from_its_archived_record() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.run(&["recreate", "hello", "--no-wait"]).expect(0);
    assert_eq!(world.names(), ["hello"]);
    world.run(&["recreate", "hello", "--no-wait", "--as", "twin"]).expect(0);
    assert_eq!(world.names(), ["hello", "twin"]);
}

#[test]
fn diff_shows_changes_since_the_create() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.stack("hello", &common::HELLO.replace("512M", "1G"), "#cloud-config\n");
    let diff = world.run(&["diff", "hello"]).expect(0);
    assert!(diff.stdout().contains("\n-{\"vm\"") && diff.stdout().contains("1G"), "{diff:?}");
    assert_eq!(world.json(&["status", "hello", "--json"])["drift"], "changed");
}

#[test]
fn a_dry_run_shows_the_qemu_command_line_and_creates_nothing() {
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
fn github_user_names_are_validated_before_any_request() {
    let world = World::new();
    let refused = world.run(&["create", "hello", "-u", "ann, ../evil"]).expect(2);
    assert!(refused.stderr().contains("this is not a GitHub user name"), "{refused:?}");
}

#[test]
fn errors_are_json_with_option_json() {
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
fn a_broken_record_is_reported_and_left_unchanged() {
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
fn init_writes_each_starter_stack_once_and_it_is_valid() {
    let world = World::new();
    for template in ["base", "dev", "python-dev", "go-dev", "node-dev", "rust-dev", "docker", "web"] {
        world.run(&["init", template]).expect(0);
        world.run(&["config", "validate", template]).expect(0);
        let again = world.run(&["init", template]).expect(1);
        assert!(again.stderr().contains("already exists"), "{again:?}");
    }
    assert_eq!(world.json(&["config", "list", "--json"])["stacks"].as_array().unwrap().len(), 9);
}

#[test]
fn completion_offers_vm_names() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let mut command = world.command();
    command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").args(["--", "goloo", "ssh", "he"]);
    let offered = common::Ran(command.output().unwrap());
    assert!(offered.stdout().contains("hello"), "{offered:?}");
}

#[test]
fn a_failed_start_leaves_no_operation_and_can_be_retried() {
    let world = World::new();
    world.ssh_finds(DONE);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let config = common::HELLO.replace("}}", &format!(r#", "ports": ["127.0.0.1:{port}:80"]}}}}"#));
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
    // Repeating it changes nothing, and all other commands still work.
    world.run(&["protect", "hello"]).expect(0);
    world.run(&["stop", "hello", "--force"]).expect(0);
    world.run(&["unprotect", "hello"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn a_create_that_made_nothing_reports_no_cleanup() {
    let world = World::new();
    fs::remove_file(world.path().join("work/stacks/hello/disk.img")).unwrap();
    let failed = world.run(&["create", "hello", "--no-wait"]).expect(1);
    assert!(!failed.stderr().contains("remov") && !failed.stderr().contains("stopping QEMU"), "{failed:?}");
    world.assert_empty("after the failed create");
}

#[test]
fn the_error_of_a_create_quotes_qemu_but_not_the_path_of_its_log() {
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
fn delete_handles_a_repeated_name_once() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["create", "hello", "--no-wait", "--as", "other"]).expect(0);
    let deleted = world.json(&["delete", "hello", "other", "hello", "--yes", "--json"]);
    let names: Vec<_> = deleted["deleted"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["hello", "other"]);
    world.assert_empty("after the delete");
}

/// Adds a guest that accepts connections but whose logins hang.
fn ssh_hangs(world: &World) {
    world.program("ssh", "#!/bin/sh\nexec sleep 600\n");
}

#[test]
fn ctrl_c_while_start_waits_suggests_wait_instead_of_resume() {
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
fn the_timeout_applies_to_the_whole_command() {
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
fn stop_forces_power_off_after_the_timeout() {
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
fn a_state_folder_may_have_any_path_that_ssh_accepts() {
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
    // This path's tokens are expanded later, including `%%`.
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
