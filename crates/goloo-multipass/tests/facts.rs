//! What Multipass prints and how goloo interprets it, one row each: stream, exit status, message, meaning. The rows
//! that need neither faults nor instances also run against the real Multipass, which verifies the stand-in.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::World;
use goloo_multipass::errors::Refusal;
use serde_json::{Value, json};

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs a command line and compares its complete result.
#[track_caller]
fn row(world: &World, arguments: &[&str], code: i32, stderr: &str, meaning: &Refusal) {
    let (status, stdout, words) = said(&world.by_hand(arguments));
    assert_eq!((status, words.trim_end()), (Some(code), stderr), "{arguments:?}");
    assert_eq!(&Refusal::of(status, &stdout, &words), meaning, "{arguments:?}");
}

/// The same for messages goloo has no variant for.
#[track_caller]
fn other(world: &World, arguments: &[&str], code: i32, stderr: &str, meaning: &str) {
    row(world, arguments, code, stderr, &Refusal::Other { said: meaning.to_owned() });
}

/// Runs a command that must succeed and returns its output.
#[track_caller]
fn answer(world: &World, arguments: &[&str]) -> Value {
    let (status, stdout, words) = said(&world.by_hand(arguments));
    assert_eq!((status, words.as_str()), (Some(0), ""), "{arguments:?}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {stdout}"))
}

/// Creates a stopped instance with this name.
fn stopped(world: &World, name: &str) {
    world.foreign(name);
    assert!(world.by_hand(&["stop", name]).status.success());
}

fn launch_with(world: &World, document: &str) -> Output {
    let mut child = Command::new(world.program())
        .args(["launch", "24.04", "--name", &world.name("yaml"), "--cloud-init", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), document.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

// ---- refusals that need no instance ----

#[test]
fn commands_on_missing_instances_and_settings_are_refused() {
    let world = World::new();
    let x = &world.name("nobody");
    for command in [
        &["info", x][..],
        &["delete", "--purge", x],
        &["stop", x],
        &["suspend", x],
        &["recover", x],
        &["exec", "-n", x, "--", "true"],
    ] {
        let words =
            format!("{} failed: The following errors occurred:\ninstance \"{x}\" does not exist", command[0]);
        row(&world, command, 2, &words, &Refusal::Missing);
    }
    let once = format!("exec failed: The following errors occurred:\ninstance \"{x}\" does not exist");
    row(&world, &["exec", x, "--", "true"], 2, &format!("{once}\n{once}"), &Refusal::Missing);
    let words = format!("start failed: instance(s) missing\nInstance '{x}' does not exist.");
    row(&world, &["start", x], 2, &words, &Refusal::Missing);
    let restored = format!("{x}.snap");
    for command in [&["snapshot", x][..], &["restore", "--destructive", &restored], &["clone", x]] {
        let words = format!("{} failed: instance \"{x}\" does not exist", command[0]);
        row(&world, command, 2, &words, &Refusal::Missing);
    }
    let words = format!("mount failed: The following errors occurred:\ninstance '{x}' does not exist");
    let folder = std::env::temp_dir().display().to_string();
    if !common::is_real() {
        row(&world, &["mount", &folder, &format!("{x}:/m")], 2, &words, &Refusal::Missing);
    }
    let key = format!("local.{x}.goloo.name");
    let words =
        format!("get failed: Cannot access snapshot settings; instance: {x}; reason: No such instance");
    row(&world, &["get", &key], 2, &words, &Refusal::Missing);
    let words = "get failed: Unrecognized settings key: 'local.nosuch'";
    other(&world, &["get", "local.nosuch"], 2, words, "Unrecognized settings key: 'local.nosuch'");
}

#[test]
fn launch_refuses_invalid_names_sizes_and_images() {
    let world = World::new();
    let launch = |name: &str, more: &[&str]| {
        let name = world.name(name);
        [&["launch"], more, &["--name", &name]].concat().iter().map(|word| (*word).to_owned()).collect()
    };
    let check = |arguments: Vec<String>, words: &str, meaning: &dyn Fn(String) -> Refusal| {
        let said = words.trim_start_matches("launch failed: ").replace('\n', "; ");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        row(&world, &arguments, 2, words, &meaning(said));
    };
    let words = "launch failed: Invalid arguments supplied\nInvalid instance name supplied: goloo_x";
    let bad_name = ["launch", "24.04", "--name", "goloo_x"].map(str::to_owned).to_vec();
    check(bad_name, words, &|said| Refusal::InvalidName { said });
    let words = "launch failed: Invalid arguments supplied\nInvalid memory size value supplied: 64M.";
    check(launch("small", &["24.04", "--memory", "64M"]), words, &|said| Refusal::InvalidSize { said });
    let words = "launch failed: Invalid arguments supplied\nInvalid disk size value supplied: 100M.";
    check(launch("small", &["24.04", "--disk", "100M"]), words, &|said| Refusal::InvalidSize { said });
    let words = "launch failed: Unable to find an image matching \"zz\" in remote \"\".";
    check(launch("zz", &["zz"]), words, &|said| Refusal::UnknownImage { said });
    let words = "launch failed: Custom image `/no/such.img` does not exist.";
    check(launch("file", &["file:///no/such.img"]), words, &|said| Refusal::UnknownImage { said });
    let words = "launch failed: Custom image `/no/a` does not exist.";
    let as_url = launch("file", &["file:///no/a#b %41.img"]);
    check(as_url, words, &|said| Refusal::UnknownImage { said });
    let words = "launch failed: Custom image `/no/a#b %41.img` does not exist.";
    let encoded = launch("file", &["file:///no/a%23b%20%2541.img"]);
    check(encoded, words, &|said| Refusal::UnknownImage { said });
}

#[test]
fn the_client_refuses_bad_files_and_arguments_itself() {
    let world = World::new();
    let words = "Could not load cloud-init configuration: bad file: /no/such\nPlease ensure that Multipass can read it.";
    let unreadable = "bad file: /no/such; Please ensure that Multipass can read it.".to_owned();
    let arguments = ["launch", "24.04", "--name", &world.name("gone"), "--cloud-init", "/no/such"];
    row(&world, &arguments, 1, words, &Refusal::CloudInitUnreadable { said: unreadable });
    let (status, stdout, words) =
        said(&world.by_hand(&["launch", "24.04", "--memory", "1T", "--name", &world.name("large")]));
    assert_eq!(status, Some(1));
    assert!(
        words.contains("] [error] [client] Caught an unhandled exception: 1T is not a valid memory size"),
        "{words}"
    );
    let meaning = Refusal::of(status, &stdout, &words);
    assert!(matches!(&meaning, Refusal::Other { said } if said.starts_with("1T is not")), "{meaning:?}");
    let said = "Unknown option 'nosuch'.".to_owned();
    row(&world, &["list", "--nosuch"], 1, &said, &Refusal::BadCommandLine { said: said.clone() });
    let (status, stdout, stderr) = self::said(&world.by_hand(&["frobnicate"]));
    assert_eq!((status, stderr.as_str()), (Some(1), ""), "it says so on standard output");
    let words =
        "Error: Unknown command or alias 'frobnicate' (try \"multipass help\" or \"multipass aliases\")";
    assert_eq!(stdout.trim_end(), words);
    assert!(matches!(Refusal::of(status, &stdout, &stderr), Refusal::BadCommandLine { .. }));
}

#[test]
fn launch_refuses_a_document_that_is_not_yaml() {
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
fn the_client_reports_the_name_of_the_primary_instance() {
    let (status, stdout, stderr) = said(&World::new().by_hand(&["get", "client.primary-name"]));
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert!(!stdout.trim().is_empty());
}

// ---- a daemon that can't be reached ----

#[test]
fn an_unreachable_daemon_is_reported_by_every_command() {
    for (fault, words, meaning) in [
        ("daemon-down", "cannot connect to the multipass socket", Refusal::DaemonDown),
        ("access-denied", "multipass socket access denied", Refusal::AccessDenied),
        (
            "not-authenticated",
            "The client is not authenticated with the Multipass service.\nPlease use 'multipass authenticate' before proceeding.",
            Refusal::NotAuthenticated,
        ),
    ] {
        let world = World::with(&[fault]);
        for command in ["list", "info", "start", "stop", "delete", "launch", "exec"] {
            row(&world, &[command, "x"], 2, &format!("{command} failed: {words}"), &meaning);
        }
        assert_eq!(
            answer(&world, &["version", "--format", "json"]),
            json!({"multipass": "1.16.3"}),
            "{fault}"
        );
        assert_eq!(said(&world.by_hand(&["get", "client.primary-name"])).1, "primary\n", "{fault}");
    }
}

#[test]
fn a_daemon_that_never_ran_is_reported_as_a_missing_certificate() {
    let world = World::with(&["no-certificate"]);
    for command in [&["list"][..], &["version", "--format", "json"], &["get", "client.primary-name"]] {
        let (status, stdout, words) = said(&world.by_hand(command));
        assert_eq!((status, stdout.as_str()), (Some(1), ""), "{command:?}");
        assert!(
            words.contains("multipassd/multipass_root_cert.pem': No such file or directory(2)"),
            "{words}"
        );
        assert_eq!(Refusal::of(status, &stdout, &words), Refusal::DaemonDown);
    }
}

#[test]
fn log_lines_may_precede_the_refusal() {
    let world = World::with(&["logs"]);
    world.foreign("x");
    let (status, stdout, words) = said(&world.by_hand(&["launch", "24.04", "--name", "x"]));
    assert!(words.starts_with("[2026-11-28T19:51:35.021] [warning] [client] "), "{words}");
    assert_eq!(Refusal::of(status, &stdout, &words), Refusal::Exists);
    let world = World::with(&["images-down"]);
    let (status, stdout, words) = said(&world.by_hand(&["launch", "24.04", "--name", "x"]));
    assert_eq!(words.lines().count(), 3, "{words}");
    assert!(words.trim_end().ends_with("launch failed: Remote \"\" is unknown or unreachable."), "{words}");
    assert_eq!(Refusal::of(status, &stdout, &words), Refusal::ImagesUnreachable);
}

// ---- instances: states, output, and which operations each state refuses ----

#[test]
fn a_name_in_the_trash_is_still_in_use() {
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
    let words = "start failed: instance(s) missing\nInstance 'x' is deleted. Use 'recover' to recover it or 'purge' to permanently delete it.";
    row(&world, &["start", "x"], 2, words, &Refusal::InTrash);
    let words = "get failed: Cannot access snapshot settings; reason: No such snapshot: x.goloo";
    row(&world, &["get", "local.x.goloo.name"], 2, words, &Refusal::NoSuchSnapshot);
    world.by_hand(&["delete", "--purge", "x"]);
    assert_eq!(said(&world.by_hand(&["info", "x"])).0, Some(2), "a trashed one is purged by its name");
}

#[test]
fn arguments_and_images_are_checked_before_the_name() {
    let world = World::with(&["images-down"]);
    world.faults(&[]);
    world.foreign("x");
    world.faults(&["images-down"]);
    let first = |arguments: &[&str]| {
        let (status, stdout, words) = said(&world.by_hand(arguments));
        Refusal::of(status, &stdout, &words)
    };
    assert_eq!(first(&["launch", "24.04", "--name", "x"]), Refusal::ImagesUnreachable);
    world.faults(&[]);
    assert!(matches!(first(&["launch", "zz", "--name", "x"]), Refusal::UnknownImage { .. }));
    let small = first(&["launch", "24.04", "--memory", "64M", "--name", "x"]);
    assert!(matches!(small, Refusal::InvalidSize { .. }));
    assert_eq!(first(&["launch", "24.04", "--name", "x"]), Refusal::Exists);
    assert_eq!(first(&["launch", "24.04", "--disk", "1G", "--name", "x"]), Refusal::Exists);
}

#[test]
fn the_minimum_sizes_depend_on_the_version() {
    let launch = ["launch", "24.04", "--name", "x", "--memory", "128M"];
    assert!(World::stand_in().by_hand(&launch).status.success());
    let words = "launch failed: Invalid arguments supplied\nInvalid memory size value supplied: 128M.";
    let said = "Invalid arguments supplied; Invalid memory size value supplied: 128M.".to_owned();
    row(&World::with(&["era-1.17"]), &launch, 2, words, &Refusal::InvalidSize { said });
    let words =
        "launch failed: Requested disk (1073741824 bytes) below minimum for this image (2147483648 bytes)";
    let said = words.trim_start_matches("launch failed: ").to_owned();
    let launch = ["launch", "24.04", "--name", "x", "--disk", "1G"];
    row(&World::stand_in(), &launch, 2, words, &Refusal::DiskTooSmall { said });
}

#[test]
fn a_launch_that_fails_after_creation_keeps_the_instance() {
    for (fault, words, meaning, state) in [
        ("no-ssh", "\nx: timed out waiting for response", Refusal::NoSsh, "Unknown"),
        (
            "ends-while-starting",
            "\nx: shutdown called while starting",
            Refusal::EndedWhileStarting,
            "Unknown",
        ),
        (
            "never-initialized",
            "\ntimed out waiting for initialization to complete",
            Refusal::NotInitialized,
            "Running",
        ),
    ] {
        let world = World::with(&[fault]);
        let words = format!("launch failed: The following errors occurred:{words}");
        row(&world, &["launch", "24.04", "--name", "x"], 2, &words, &meaning);
        assert_eq!(world.instance("x")["state"], state, "the instance is kept");
    }
}

#[test]
fn an_instance_being_prepared_is_not_listed() {
    let world = World::with(&["prepares"]);
    let waits = ["launch", "24.04", "--name", "x", "--timeout", "1"];
    row(&world, &waits, 5, "Timed out waiting for instance launch.", &Refusal::ClientTimeout);
    assert_eq!(
        answer(&world, &["list", "--format", "json"]),
        json!({"list": []}),
        "the launch is still being prepared"
    );
    let words = "launch failed: instance \"x\" is being prepared";
    row(&world, &["launch", "24.04", "--name", "x"], 2, words, &Refusal::BeingPrepared);
    let words =
        "get failed: Cannot access snapshot settings; instance: x; reason: instance is being prepared";
    row(&world, &["get", "local.x.goloo.name"], 2, words, &Refusal::BeingPrepared);
    let info = "info failed: The following errors occurred:\ninstance \"x\" does not exist";
    row(&world, &["info", "x"], 2, info, &Refusal::Missing);
}

/// What `info` and `list` report about an instance.
fn states(world: &World, name: &str) -> (Value, Value) {
    let info = answer(world, &["info", name, "--no-runtime-information", "--format", "json"]);
    let list = answer(world, &["list", "--format", "json"]);
    (info["info"][name].clone(), list["list"][0].clone())
}

#[test]
fn a_booting_instance_is_starting_then_unknown_until_it_has_a_lease() {
    let world = World::with(&["boots", "no-lease"]);
    let mut launch = Command::new(world.program());
    let launch = launch.args(["launch", "24.04", "--name", "x"]).stdout(Stdio::null()).spawn();
    let has_state = |state: &str| {
        let end = Instant::now() + Duration::from_secs(20);
        while world.instance("x")["state"] != state {
            assert!(Instant::now() < end, "never {state}");
            world.by_hand(&["list"]);
        }
    };
    has_state("Starting");
    let words = "stop failed: Cannot shut down instance x while starting.\nUse --force to power it off.";
    row(&world, &["stop", "x"], 2, words, &Refusal::Busy);
    world.faults(&["no-lease"]);
    has_state("Unknown");
    let (info, list) = states(&world, "x");
    assert_eq!((&info["state"], &info["ipv4"]), (&json!("Unknown"), &json!([])));
    assert_eq!((&list["state"], &list["ipv4"]), (&json!("Unknown"), &json!([])));
    let words = "start failed: The following errors occurred:\nInstance 'x' is already running, but in an unknown state.\nTry to stop it first.";
    row(&world, &["start", "x"], 2, words, &Refusal::AlreadyOn);
    world.faults(&[]);
    assert!(launch.unwrap().wait().unwrap().success());
    assert_eq!(states(&world, "x").1["state"], "Running");
}

#[test]
fn running_and_stopped_instances_are_reported_by_info_and_list() {
    let world = World::stand_in();
    assert_eq!(answer(&world, &["list", "--format", "json"]), json!({"list": []}));
    world.foreign("x");
    let (info, list) = states(&world, "x");
    let listed = json!({
        "ipv4": ["127.0.0.2", "172.17.0.1"], "name": "x", "release": "Ubuntu 24.04 LTS", "state": "Running",
    });
    assert_eq!(list, listed);
    assert_eq!(
        (&info["state"], &info["ipv4"], &info["release"]),
        (&json!("Running"), &json!([]), &json!(""))
    );
    assert_eq!((&info["cpu_count"], &info["disks"]), (&json!(""), &json!({"sda1": {}})));
    assert_eq!(info["image_hash"].as_str().map(str::len), Some(64));
    let whole = answer(&world, &["info", "x", "--format", "json"]);
    assert_eq!(whole["info"]["x"]["ipv4"], json!(["127.0.0.2", "172.17.0.1"]));
    assert_eq!(whole["info"]["x"]["snapshot_count"], "0");
    let all = answer(&world, &["info", "--no-runtime-information", "--format", "json"]);
    assert_eq!(all["info"]["x"], info, "without a name: all of them");
    world.by_hand(&["stop", "x"]);
    assert!(world.by_hand(&["stop", "x"]).status.success(), "stopped already");
    let (info, list) = states(&world, "x");
    assert_eq!((&info["state"], &list["ipv4"]), (&json!("Stopped"), &json!([])));
    let user_data = world.instance("x")["userData"].clone();
    assert_eq!(user_data, "#cloud-config\n{}\n", "launched without a document");
}

#[test]
fn an_unknown_address_is_listed_as_n_a() {
    let world = World::with(&["no-address"]);
    world.foreign("x");
    assert_eq!(states(&world, "x").1["ipv4"], json!(["N/A"]));
}

#[test]
fn the_order_of_json_keys_depends_on_the_version() {
    let order = |world: &World| {
        world.foreign("x");
        let text = said(&world.by_hand(&["list", "--format", "json"])).1;
        let at = |key: &str| text.find(&format!("\"{key}\"")).unwrap();
        (at("ipv4") < at("name"), text.contains("\"zone\""))
    };
    assert_eq!(order(&World::stand_in()), (true, false));
    assert_eq!(order(&World::with(&["era-1.17"])), (false, true));
}

#[test]
fn snapshot_and_clone_require_a_stopped_instance() {
    let world = World::stand_in();
    world.foreign("x");
    let words = "snapshot failed: Multipass can only take snapshots of stopped instances.";
    row(&world, &["snapshot", "x"], 2, words, &Refusal::NotStopped);
    let words = "clone failed: Multipass can only clone stopped instances.";
    row(&world, &["clone", "x"], 2, words, &Refusal::NotStopped);
    world.by_hand(&["suspend", "x"]);
    let words = "stop failed: Cannot shut down suspended instance x.\nUse --force to power it off.";
    row(&world, &["stop", "x"], 2, words, &Refusal::Suspended);
}

#[test]
fn a_stopped_instance_can_be_snapshotted_restored_and_cloned() {
    let world = World::stand_in();
    stopped(&world, "x");
    let words = "restore failed: No such snapshot: x.nope";
    row(&world, &["restore", "x.nope"], 2, words, &Refusal::NoSuchSnapshot);
    let words = "snapshot failed: Invalid snapshot name: \"o_e\".";
    other(&world, &["snapshot", "x", "--name", "o_e"], 2, words, "Invalid snapshot name: \"o_e\".");
    world.by_hand(&["snapshot", "x", "--name", "one"]);
    let words = "snapshot failed: Snapshot already exists: x.one";
    row(&world, &["snapshot", "x", "--name", "one"], 2, words, &Refusal::SnapshotExists);
    let listed = answer(&world, &["list", "--snapshots", "--format", "json"]);
    assert_eq!(listed, json!({"errors": [], "info": {"x": {"one": {"comment": "", "parent": ""}}}}));
    for (arguments, text) in [
        (&["restore", "x.one"][..], "Unable to query client for confirmation. Use '--destructive'"),
        (&["delete", "x.one"], "Snapshots can only be purged (after deletion, they cannot be recovered)."),
    ] {
        let (status, stdout, words) = said(&world.by_hand(arguments));
        assert_eq!(status, Some(1));
        let meaning = Refusal::of(status, &stdout, &words);
        assert!(matches!(&meaning, Refusal::Other { said } if said.starts_with(text)), "{meaning:?}");
    }
    stopped(&world, "taken");
    let words = "clone failed: instance \"taken\" already exists";
    row(&world, &["clone", "x", "--name", "taken"], 2, words, &Refusal::Exists);
}

// ---- unresponsive guests, and the daemon's single thread ----

#[test]
fn only_commands_that_enter_the_guest_fail_without_sshd() {
    let world = World::stand_in();
    world.foreign("x");
    world.faults(&["no-sshd"]);
    let said = "ssh connection failed: 'Connection refused'".to_owned();
    for command in [&["info", "x"][..], &["exec", "-n", "x", "--", "true"]] {
        let words = format!("{} failed: {said}", command[0]);
        row(&world, command, 2, &words, &Refusal::SshFailed { said: said.clone() });
    }
    let (info, list) = states(&world, "x");
    assert_eq!((&info["state"], &list["state"]), (&json!("Running"), &json!("Running")));
    assert_eq!(list["ipv4"][0], "127.0.0.2");
    assert!(world.by_hand(&["stop", "x"]).status.success());
}

/// Whether a command line completes, given plenty of time.
fn answers(world: &World, arguments: &[&str]) -> bool {
    ends_within(world, arguments, Duration::from_secs(20))
}

/// Whether a command line hasn't completed after a moment; its client is then killed.
fn hangs(world: &World, arguments: &[&str]) -> bool {
    !ends_within(world, arguments, Duration::from_millis(500))
}

fn ends_within(world: &World, arguments: &[&str], limit: Duration) -> bool {
    let mut command = Command::new(world.program());
    command.env("GOLOO_STAND_IN_BY", "someone").args(arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

#[test]
fn a_frozen_guest_blocks_the_daemon_once_it_is_queried() {
    let state = ["info", "x", "--no-runtime-information"];
    for question in [&["list"][..], &["info", "x"]] {
        let world = World::stand_in();
        world.foreign("x");
        world.faults(&["frozen x"]);
        assert!(answers(&world, &state), "nobody asked the guest");
        assert!(hangs(&world, &["exec", "-n", "x", "--", "true"]));
        assert!(answers(&world, &state), "exec holds up its client alone");
        assert!(answers(&world, &["list", "--no-ipv4"]));
        assert!(hangs(&world, question));
        for later in [&state[..], &["list"], &["version"], &["stop", "--force", "x"]] {
            assert!(hangs(&world, later), "{later:?} after {question:?}");
        }
    }
    let world = World::stand_in();
    world.foreign("x");
    world.faults(&["frozen x"]);
    assert!(answers(&world, &["stop", "--force", "x"]), "before anybody asked the guest");
    assert_eq!(world.instance("x")["state"], "Stopped");
}

#[test]
fn a_pending_stop_blocks_the_daemon_even_after_its_client_is_killed() {
    let world = World::stand_in();
    world.foreign("x");
    world.faults(&["deaf"]);
    world.shutdown_limit(Duration::from_secs(4));
    assert!(hangs(&world, &["stop", "x"]), "its client is killed");
    for later in [&["list"][..], &["stop", "--force", "x"]] {
        assert!(hangs(&world, later), "{later:?}");
    }
    assert!(world.by_hand(&["stop", "--force", "x"]).status.success(), "when Multipass's own limit is over");
    assert_eq!(world.instance("x")["state"], "Stopped");
}

#[test]
fn a_start_during_an_interrupted_launch_never_succeeds() {
    let world = World::with(&["initializes"]);
    assert!(
        hangs(&world, &["launch", "24.04", "--name", "x"]),
        "the launch ended before its client was killed"
    );
    assert!(answers(&world, &["stop", "--force", "x"]));
    assert!(hangs(&world, &["start", "x"]));
    assert_eq!(world.instance("x")["state"], "Starting");
    world.faults(&[]);
    assert!(!world.by_hand(&["start", "x"]).status.success());
    assert_eq!(world.instance("x")["state"], "Starting", "the state stays");
}

#[test]
fn the_spinner_writes_to_standard_output_without_a_terminal() {
    let world = World::stand_in();
    for command in [&["launch", "24.04", "--name", "x"][..], &["stop", "x"], &["start", "x"]] {
        let output = world.by_hand(command);
        assert!(output.stdout.starts_with(b"\x1b[2K\x1b[0A\x1b[0E"), "{output:?}");
    }
}

#[test]
fn an_old_multipass_does_not_support_clone() {
    let world = World::with(&["era-1.13"]);
    let (status, stdout, stderr) = said(&world.by_hand(&["clone", "x"]));
    assert_eq!((status, stderr.as_str()), (Some(1), ""), "it says so on standard output");
    assert!(matches!(Refusal::of(status, &stdout, &stderr), Refusal::BadCommandLine { .. }));
}

#[test]
fn every_refusal_has_a_hint() {
    for words in [
        "instance \"x\" already exists",
        "instance \"x\" is being prepared",
        "instance \"x\" does not exist",
        "instance \"x\" is deleted",
        "multipass socket access denied",
        "odd",
    ] {
        assert!(!Refusal::of(Some(2), "", words).hint().is_empty(), "{words}");
    }
}
