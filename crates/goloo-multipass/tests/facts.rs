//! What Multipass says and what goloo takes it for, a row each: stream, exit status, words, meaning. The
//! rows that need no fault run against the real Multipass too, and so show whether the stand-in is true.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Output, Stdio};

use common::World;
use goloo_multipass::errors::Refusal;

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs a command line and compares all that it leaves.
#[track_caller]
fn row(world: &World, arguments: &[&str], code: i32, stderr: &str, meaning: &Refusal) {
    check(&world.by_hand(arguments), arguments, code, stderr, meaning);
}

#[track_caller]
fn check(output: &Output, arguments: &[&str], code: i32, stderr: &str, meaning: &Refusal) {
    let (status, stdout, words) = said(output);
    assert_eq!((status, words.trim_end()), (Some(code), stderr), "{arguments:?}");
    assert_eq!(&Refusal::of(status, &stdout, &words), meaning, "{arguments:?}");
}

fn launch_with(world: &World, document: &str) -> Output {
    let mut child = Command::new(world.program())
        .args(["launch", "24.04", "--name", "goloo-test-yaml", "--cloud-init", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), document.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn what_is_missing() {
    let world = World::new();
    let x = "goloo-test-nobody";
    for command in [&["info", x][..], &["delete", "--purge", x], &["exec", x, "--", "true"], &["stop", x]] {
        let words =
            format!("{} failed: The following errors occurred:\ninstance \"{x}\" does not exist", command[0]);
        row(&world, command, 2, &words, &Refusal::Missing);
    }
    let words = format!("start failed: instance(s) missing\nInstance '{x}' does not exist.");
    row(&world, &["start", x], 2, &words, &Refusal::Missing);
    let restored = format!("{x}.snap");
    for command in [&["snapshot", x][..], &["restore", "--destructive", &restored], &["clone", x]] {
        let words = format!("{} failed: instance \"{x}\" does not exist", command[0]);
        row(&world, command, 2, &words, &Refusal::Missing);
    }
    let key = format!("local.{x}.goloo.name");
    let words =
        format!("get failed: Cannot access snapshot settings; instance: {x}; reason: No such instance");
    row(&world, &["get", &key], 2, &words, &Refusal::Missing);
}

#[test]
fn what_launch_refuses() {
    let world = World::new();
    let launch = |more: &[&'static str]| [&["launch"], more].concat();
    let words = "launch failed: Invalid arguments supplied\nInvalid instance name supplied: goloo_x";
    let said = words.trim_start_matches("launch failed: ").replace('\n', "; ");
    row(&world, &launch(&["24.04", "--name", "goloo_x"]), 2, words, &Refusal::InvalidName { said });
    let words = "launch failed: Invalid arguments supplied\nInvalid memory size value supplied: 128M.";
    let said = words.trim_start_matches("launch failed: ").replace('\n', "; ");
    row(
        &world,
        &launch(&["24.04", "--memory", "128M", "--name", "goloo-test-small"]),
        2,
        words,
        &Refusal::InvalidSize { said },
    );
    let words = "launch failed: Unable to find an image matching \"zz\" in remote \"\".";
    let said = words.trim_start_matches("launch failed: ").to_owned();
    row(&world, &launch(&["zz", "--name", "goloo-test-zz"]), 2, words, &Refusal::UnknownImage { said });
    let words = "Could not load cloud-init configuration: bad file: /no/such\nPlease ensure that Multipass can read it.";
    let said = "bad file: /no/such; Please ensure that Multipass can read it.".to_owned();
    row(
        &world,
        &launch(&["24.04", "--name", "goloo-test-gone", "--cloud-init", "/no/such"]),
        1,
        words,
        &Refusal::CloudInitUnreadable { said },
    );
}

#[test]
fn a_document_that_is_no_yaml() {
    let world = World::new();
    let output = launch_with(&world, "#cloud-config\nfinal_message: a\nhostname: b: c\n");
    let (status, stdout, words) = said(&output);
    assert_eq!(status, Some(1));
    assert!(
        words.starts_with("Could not load cloud-init configuration: yaml-cpp: error at line 3"),
        "{words}"
    );
    assert!(words.trim_end().ends_with(": illegal map value"), "{words}");
    let meaning = Refusal::of(status, &stdout, &words);
    assert!(
        matches!(meaning, Refusal::BadCloudInit { said } if said.starts_with("yaml-cpp: error at line 3"))
    );
}

#[test]
fn a_name_that_is_taken_also_in_the_trash() {
    let world = World::stand_in();
    world.foreign("x");
    let words = "launch failed: instance \"x\" already exists";
    row(&world, &["launch", "24.04", "--name", "x"], 2, words, &Refusal::Exists);
    world.by_hand(&["delete", "x"]);
    row(&world, &["launch", "24.04", "--name", "x"], 2, words, &Refusal::Exists);
    for command in [&["stop", "x"][..], &["exec", "x", "--", "true"]] {
        let words =
            format!("{} failed: The following errors occurred:\ninstance \"x\" is deleted", command[0]);
        row(&world, command, 2, &words, &Refusal::InTrash);
    }
    world.by_hand(&["delete", "--purge", "x"]);
    assert_eq!(said(&world.by_hand(&["info", "x"])).0, Some(2), "a trashed one is purged by its name");
}

#[test]
fn a_launch_that_comes_to_a_bad_end() {
    for (fault, words, meaning, state) in [
        (
            "no-ssh",
            "launch failed: The following errors occurred:\nx: timed out waiting for response",
            Refusal::NoSsh,
            "Unknown",
        ),
        (
            "never-initialized",
            "launch failed: The following errors occurred:\ntimed out waiting for initialization to complete",
            Refusal::NotInitialized,
            "Running",
        ),
    ] {
        let world = World::with(&[fault]);
        row(&world, &["launch", "24.04", "--name", "x"], 2, words, &meaning);
        assert_eq!(world.instance("x")["state"], state, "the instance is kept");
    }
    let world = World::with(&["prepares"]);
    let waits = ["launch", "24.04", "--name", "x", "--timeout", "1"];
    row(&world, &waits, 5, "Timed out waiting for instance launch.", &Refusal::ClientTimeout);
    assert_eq!(world.instance("x")["state"], "preparing", "the daemon goes on");
    let words = "launch failed: instance \"x\" is being prepared";
    row(&world, &["launch", "24.04", "--name", "x"], 2, words, &Refusal::BeingPrepared);
    let words =
        "get failed: Cannot access snapshot settings; instance: x; reason: instance is being prepared";
    row(&world, &["get", "local.x.goloo.name"], 2, words, &Refusal::BeingPrepared);
    let info = "info failed: The following errors occurred:\ninstance \"x\" does not exist";
    row(&world, &["info", "x"], 2, info, &Refusal::Missing);
}

#[test]
fn what_wants_a_stopped_instance() {
    let world = World::stand_in();
    world.foreign("x");
    let words = "snapshot failed: Multipass can only take snapshots of stopped instances.";
    row(&world, &["snapshot", "x"], 2, words, &Refusal::NotStopped);
    let words = "clone failed: Multipass can only clone stopped instances.";
    row(&world, &["clone", "x"], 2, words, &Refusal::NotStopped);
    world.by_hand(&["suspend", "x"]);
    let words = "stop failed: Cannot shut down suspended instance x.\nUse --force to power it off.";
    row(&world, &["stop", "x"], 2, words, &Refusal::Suspended);
    world.by_hand(&["stop", "--force", "x"]);
    let words = "restore failed: No such snapshot: x.snap";
    row(&world, &["restore", "x.snap"], 2, words, &Refusal::NoSuchSnapshot);
    world.by_hand(&["snapshot", "x", "--name", "snap"]);
    let words = "snapshot failed: Snapshot already exists: x.snap";
    row(&world, &["snapshot", "x", "--name", "snap"], 2, words, &Refusal::SnapshotExists);
}

#[test]
fn a_daemon_that_is_down() {
    let world = World::with(&["daemon-down"]);
    for command in ["list", "info", "start", "delete", "launch"] {
        let words = format!(
            "{command} failed: cannot connect to the multipass socket\nPlease ensure multipassd is running and '/var/snap/multipass/common/multipass_socket' is accessible"
        );
        row(&world, &[command, "x"], 2, &words, &Refusal::DaemonDown);
    }
    let (status, stdout, _) = said(&world.by_hand(&["version", "--format", "json"]));
    assert_eq!(status, Some(0));
    assert!(stdout.contains("\"multipass\"") && !stdout.contains("multipassd"), "{stdout}");
}

#[test]
fn a_spinner_writes_to_standard_output_without_a_terminal() {
    let world = World::stand_in();
    let launched = world.by_hand(&["launch", "24.04", "--name", "x"]);
    assert!(launched.stdout.starts_with(b"\x1b["), "{launched:?}");
}

#[test]
fn an_old_multipass_doesn_t_know_clone() {
    let world = World::with(&["era-1.13"]);
    let (status, stdout, stderr) = said(&world.by_hand(&["clone", "x"]));
    assert_eq!((status, stderr.as_str()), (Some(1), ""), "it says so on standard output");
    assert!(matches!(Refusal::of(status, &stdout, &stderr), Refusal::BadCommandLine { .. }));
}

#[test]
fn every_refusal_has_a_hint() {
    for words in ["x already exists", "is being prepared", "does not exist", "is deleted", "odd"] {
        assert!(!Refusal::of(Some(2), "", words).hint().is_empty(), "{words}");
    }
}
