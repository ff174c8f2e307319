//! The life cycle of a Multipass VM through the real command, with Multipass's stand-in.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Ran, World, wait_until};

const DONE: &str = r#"{"status":"done","errors":[]}"#;
const FAILED: &str = r#"{"status":"error","errors":["(scripts_user, RuntimeError)"]}"#;
const CREATE: [&str; 4] = ["create", "hello", "--provider", "multipass"];

#[test]
fn a_vm_is_created_listed_stopped_started_and_deleted() {
    let world = World::multipass();
    world.ssh_finds(DONE);
    let made = world.run(&CREATE).expect(0);
    assert!(made.stdout().contains("hello is ready"), "{made:?}");
    let list = world.json(&["list", "--json"]);
    assert_eq!(list["vms"][0]["provider"], "multipass");
    assert_eq!(list["vms"][0]["ip"], "127.0.0.2");
    let live = || world.json(&["list", "--refresh", "--json"])["vms"][0]["live"].clone();
    assert_eq!(live(), "running");
    let status = world.json(&["status", "hello", "--json"]);
    assert_eq!((&status["vm"]["phase"], &status["live"]["state"]), (&"ready".into(), &"running".into()));
    world.run(&["stop", "hello"]).expect(0);
    assert_eq!(live(), "stopped");
    world.run(&["start", "hello"]).expect(0);
    world.run(&["restart", "hello"]).expect(0);
    assert_eq!(live(), "running");
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
    assert_eq!(world.multipass_file("ledger").last().unwrap(), "purge hello by goloo");
    assert_eq!(world.json(&["archive", "list", "--json"])["archived"][0]["phase"], "destroyed");
}

#[test]
fn failed_provisioning_exits_8_and_keeps_the_instance() {
    let world = World::multipass();
    world.multipass_faults(&["never-initialized"]);
    world.ssh_finds(FAILED);
    let ran = world.run(&CREATE).expect(8);
    assert!(ran.stderr().contains("scripts_user"), "{ran:?}");
    assert_eq!(world.json(&["status", "hello", "--json"])["vm"]["phase"], "degraded");
    assert_eq!(world.json(&["list", "--refresh", "--json"])["vms"][0]["live"], "running");
}

#[test]
fn a_hung_daemon_delays_no_list_and_refresh_shows_unknown_if_the_daemon_is_down() {
    let world = World::multipass();
    world.run(&[&CREATE[..], &["--no-wait"]].concat()).expect(0);
    wait_until("the list has the answer of Multipass", || {
        world.run(&["list"]).expect(0).stdout().contains(" unverified ")
    });
    world.multipass_faults(&["hangs"]);
    let calls = || world.multipass_file("calls").len();
    let before = calls();
    for words in [&["list", "--no-refresh"][..], &["list", "-q"]] {
        world.run(words).expect(0);
    }
    assert_eq!(calls(), before, "nobody is asked");
    let begun = Instant::now();
    let ran = world.run(&["list"]).expect(0);
    // Multipass itself has 20 s.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(ran.stdout().contains(" (unverified) ") && ran.stderr().is_empty(), "{ran:?}");
    world.multipass_faults(&["daemon-down"]);
    let ran = world.run(&["list", "--refresh"]).expect(0);
    assert!(ran.stdout().contains("unknown"), "{ran:?}");
    assert!(ran.stderr().contains("its daemon isn't running"), "{ran:?}");
    let status = world.run(&["status", "hello"]).expect(0);
    assert!(status.stdout().contains("unknown: "), "{status:?}");
}

#[test]
fn a_hung_daemon_delays_status_no_longer_than_its_limit() {
    let world = World::multipass();
    world.run(&[&CREATE[..], &["--no-wait"]].concat()).expect(0);
    world.multipass_faults(&["hangs"]);
    let begun = Instant::now();
    let status = world.run(&["status", "hello"]).expect(0);
    assert!(status.stdout().contains("unknown: Multipass doesn't answer within 5 s"), "{status:?}");
    // Multipass itself has 20 s.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn an_existing_instance_of_the_same_name_is_refused_and_left_unchanged() {
    let world = World::multipass();
    world.by_hand(&["launch", "24.04", "--name", "hello"]).expect(0);
    let refused = world.run(&CREATE).expect(1);
    assert!(refused.stderr().contains("goloo adopt hello --provider multipass"), "{refused:?}");
    world.assert_empty("after the refusal");
    assert_eq!(world.multipass_file("ledger"), ["launch hello by someone"]);
}

#[test]
fn ctrl_c_during_launch_leaves_a_record_and_resume_finds_the_machine() {
    let world = World::multipass();
    world.multipass_faults(&["prepares"]);
    let mut command = world.command();
    let child = command.args([&CREATE[..], &["--no-wait"]].concat());
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it is launched", || !world.multipass_file("ledger").is_empty());
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let stopped = Ran(child.wait_with_output().unwrap()).expect(6);
    assert!(stopped.stderr().contains("goloo resume hello"), "{stopped:?}");
    let unknown = world.run(&["list", "--refresh"]).expect(0);
    assert!(unknown.stderr().contains("may still be preparing it"), "{unknown:?}");
    world.multipass_faults(&[]);
    world.run(&["resume", "hello"]).expect(0);
    assert_eq!(world.multipass_file("ledger"), ["launch hello by goloo"], "no second one");
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

/// A create that was killed while Multipass was preparing the instance; then the host was shut down.
fn killed_and_off() -> World {
    let world = World::multipass();
    world.multipass_faults(&["prepares"]);
    let mut command = world.command();
    let child = command.args([&CREATE[..], &["--no-wait"]].concat());
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("it is launched", || !world.multipass_file("ledger").is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    world.multipass_faults(&[]);
    world.by_hand(&["stop", "--force", "hello"]).expect(0);
    world
}

#[test]
fn resume_keeps_an_unreadable_instance_and_continues_once_it_runs() {
    let world = killed_and_off();
    let kept = world.run(&["resume", "hello"]).expect(6);
    assert!(kept.stderr().contains("multipass start hello"), "{kept:?}");
    world.by_hand(&["start", "hello"]).expect(0);
    world.run(&["resume", "hello"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn delete_keeps_an_unreadable_instance_until_it_runs() {
    let world = killed_and_off();
    let refused = world.run(&["delete", "hello", "--yes"]).expect(6);
    assert!(refused.stderr().contains("it's unknown whether"), "{refused:?}");
    assert!(refused.stderr().contains("multipass start hello"), "{refused:?}");
    assert_eq!(world.names(), ["hello"]);
    world.by_hand(&["start", "hello"]).expect(0);
    world.run(&["resume", "hello"]).expect(0);
    world.assert_empty("after the delete");
    assert_eq!(world.multipass_file("ledger").last().unwrap(), "purge hello by goloo");
}

#[test]
fn a_machine_without_an_ssh_key_uses_native_sessions() {
    let world = World::multipass();
    world.run(&[&CREATE[..], &["--no-wait"]].concat()).expect(0);
    let state = world.state().join("active/hello/state.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    record.as_object_mut().unwrap().remove("ssh");
    std::fs::write(&state, record.to_string()).unwrap();
    let says = |arguments: &[&str], code: i32, wanted: &str| {
        let ran = world.run(arguments).expect(code);
        assert!(ran.stdout().contains(wanted), "{ran:?}");
    };
    says(&["ssh", "hello"], 0, "a shell in hello");
    says(&["exec", "hello", "--", "echo", "a b"], 0, "a b");
    says(&["exec", "hello", "--", "false"], 1, "");
    says(&["logs", "hello"], 0, "the log of hello");
    std::fs::write(world.path().join("work/a:b"), "content").unwrap();
    world.run(&["cp", "./a:b", "hello:/tmp/there"]).expect(0);
    world.run(&["cp", "hello:/tmp/there", "back"]).expect(0);
    assert_eq!(std::fs::read_to_string(world.path().join("work/back")).unwrap(), "content");
    world.run(&["stop", "hello", "--force"]).expect(0);
    let refused = world.run(&["exec", "hello", "--", "true"]).expect(1);
    assert!(refused.stderr().contains("goloo start hello"), "{refused:?}");
    let started = world.multipass_file("ledger").into_iter().filter(|line| line.starts_with("start"));
    assert_eq!(started.count(), 0, "nobody started it by looking");
}

#[test]
fn doctor_reports_multipass_problems_and_accepts_its_absence() {
    let world = World::multipass();
    let lines = |world: &World, code: i32| world.run(&["doctor"]).expect(code).stdout();
    assert!(lines(&world, 0).contains("✓ Multipass 1.16.3"));
    for (fault, wanted) in [
        ("daemon-down", "its daemon isn't running"),
        ("no-certificate", "its daemon isn't running"),
        ("access-denied", "this user has no permission to use Multipass's socket"),
        ("not-authenticated", "this user isn't authenticated with Multipass"),
    ] {
        world.multipass_faults(&[fault]);
        let said = lines(&world, 1);
        assert!(said.contains(wanted), "{fault}: {said}");
    }
    assert!(lines(&World::new(), 0).contains("– Multipass isn't installed"));
}

#[test]
fn a_user_without_permission_for_multipass_gets_exit_4() {
    for fault in ["access-denied", "not-authenticated"] {
        let world = World::multipass();
        world.run(&[&CREATE[..], &["--no-wait"]].concat()).expect(0);
        world.multipass_faults(&[fault]);
        for command in [
            &["create", "hello", "--as", "other", "--provider", "multipass"][..],
            &["stop", "hello"],
            &["stop", "--force", "hello"],
            &["start", "hello"],
            &["snapshot", "hello", "one"],
            &["adopt", "box", "--provider", "multipass"],
            &["delete", "hello", "--yes"],
        ] {
            let refused = world.run(command).expect(4);
            assert!(refused.stderr().contains("hint: "), "{command:?}: {refused:?}");
        }
        let status = world.run(&["status", "hello"]).expect(0);
        assert!(status.stdout().contains("unknown: "), "{fault}: {status:?}");
        world.multipass_faults(&[]);
        world.run(&["resume", "hello"]).expect(0);
        world.assert_empty("after the delete that was refused before");
    }
}

/// Waits until the instance is running without a lease, which requires the fault `no-lease`.
fn wait_until_unknown(world: &World, name: &str) {
    wait_until("it has no lease yet", || {
        let list = world.by_hand(&["list", "--no-ipv4", "--format", "json"]).stdout();
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        list["list"].as_array().unwrap().iter().any(|one| one["name"] == name && one["state"] == "Unknown")
    });
}

#[test]
fn a_booting_machine_is_shown_and_can_be_resumed_stopped_or_deleted() {
    let create = [&CREATE[..], &["--no-wait"]].concat();
    for then in [&["resume", "hello"][..], &["delete", "hello", "--yes"]] {
        let world = World::multipass();
        world.multipass_faults(&["no-lease"]);
        let mut child =
            world.command().args(&create).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until_unknown(&world, "hello");
        child.kill().unwrap();
        child.wait().unwrap();
        let status = world.run(&["status", "hello"]).expect(0).stdout();
        assert!(status.contains("unknown: it is booting"), "{status}");
        let asked = world.multipass_file("calls").len();
        let child = world.command().args(then).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("it waits for the lease", || world.multipass_file("calls").len() > asked + 5);
        world.multipass_faults(&[]);
        Ran(child.wait_with_output().unwrap()).expect(0);
        if then[0] == "resume" {
            world.run(&["delete", "hello", "--yes"]).expect(0);
        }
        world.assert_empty("after the delete");
        assert_eq!(
            world.multipass_file("ledger"),
            ["launch hello by goloo", "purge hello by goloo"],
            "{then:?}"
        );
    }
}

#[test]
fn a_frozen_machine_is_shown_and_can_be_force_stopped_and_deleted() {
    let world = World::multipass();
    world.run(&[&CREATE[..], &["--no-wait"]].concat()).expect(0);
    // The stand-in's addresses belong to this computer, which answers; this one doesn't answer.
    let state = world.state().join("active/hello/state.json");
    let record = std::fs::read_to_string(&state).unwrap();
    std::fs::write(&state, record.replace("127.0.0.2", "255.255.255.255")).unwrap();
    world.by_hand(&["stop", "hello"]).expect(0);
    world.by_hand(&["start", "hello"]).expect(0);
    world.multipass_faults(&["frozen hello"]);
    world.run(&["stop", "hello", "--force"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
    assert_eq!(world.multipass_file("busy"), [""; 0], "the daemon was never held up");
}

#[test]
fn a_dry_run_shows_the_launch_command_and_cloud_init_without_a_call() {
    let world = World::multipass();
    let plan = world.json(&[&CREATE[..], &["--dry-run", "--json"]].concat());
    let argv = plan["plan"]["multipass"]["argv"].as_array().unwrap();
    assert_eq!((&argv[0], &argv[1]), (&"multipass".into(), &"launch".into()));
    assert!(plan["plan"]["multipass"]["cloudInit"].as_str().unwrap().contains("runcmd"));
    assert_eq!(world.multipass_file("calls"), [""; 0]);
}

#[test]
fn a_create_with_the_daemon_down_fails_with_a_hint() {
    let world = World::multipass();
    world.multipass_faults(&["daemon-down"]);
    let began = Instant::now();
    let failed = world.run(&CREATE).expect(1);
    assert!(failed.stderr().contains("hint: sudo"), "{failed:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    world.assert_empty("after the failed create");
}

#[test]
fn multipass_gets_one_document_merged_from_the_user_and_goloo_parts() {
    let world = World::multipass();
    let plan = world.json(&[&CREATE[..], &["--dry-run", "--json"]].concat());
    let document = plan["plan"]["multipass"]["cloudInit"].as_str().unwrap();
    assert!(document.starts_with("#cloud-config\n"), "{document}");
    assert!(
        document.contains("runcmd: [\"true\"]") && document.contains("/etc/ssh/goloo_host_ed25519_key"),
        "{document}"
    );
    assert!(!document.contains("MIME"), "{document}");
}

#[test]
fn a_manually_created_instance_can_be_adopted_and_used() {
    let world = World::multipass();
    world.by_hand(&["launch", "24.04", "--name", "My-Box"]).expect(0);
    std::fs::write(world.daemon().join("adopted"), "My-Box\n").unwrap();
    world.run(&["adopt", "box", "--provider", "multipass", "--id", "My-Box"]).expect(0);
    let status = || world.json(&["status", "box", "--json"]);
    assert_eq!((&status()["vm"]["phase"], &status()["live"]["state"]), (&"ready".into(), &"running".into()));
    let said = world.run(&["exec", "box", "--", "echo", "a b"]).expect(0);
    assert_eq!(said.stdout().trim(), "a b");
    world.run(&["stop", "box", "--suspend"]).expect(0);
    assert_eq!(status()["live"]["state"], "suspended");
    world.run(&["start", "box"]).expect(0);
    assert_eq!(status()["live"]["state"], "running");
    let refused = world.run(&["snapshot", "box", "a"]).expect(2);
    assert!(refused.stderr().contains("hint: goloo stop box"), "{refused:?}");
    world.run(&["stop", "box"]).expect(0);
    world.run(&["snapshot", "box", "a"]).expect(0);
    world.run(&["restore", "box", "a", "--yes"]).expect(0);
    world.run(&["clone", "box", "twin"]).expect(0);
    let off = world.run(&["ssh", "twin"]).expect(1);
    assert!(off.stderr().contains("hint: goloo start twin"), "{off:?}");
    world.run(&["refresh"]).expect(0);
    world.run(&["delete", "box", "twin", "--yes"]).expect(0);
    world.assert_empty("after the delete");
    let mut ledger = world.multipass_file("ledger");
    // Both are deleted at the same time.
    let last = ledger.len() - 2;
    ledger[last..].sort_unstable();
    assert!(ledger.ends_with(&["purge My-Box by goloo".into(), "purge twin by goloo".into()]), "{ledger:?}");
}

#[test]
fn a_renamed_vm_keeps_its_instance_and_a_new_one_gets_another() {
    let world = World::multipass();
    let create = |name: &str| {
        world.run(&["create", "hello", "--as", name, "--provider", "multipass", "--no-wait"]).expect(0)
    };
    create("box");
    world.run(&["rename", "box", "shop"]).expect(0);
    assert_eq!(world.json(&["status", "shop", "--json"])["live"]["state"], "running");
    create("box");
    let machine = world.json(&["status", "box", "--json"])["vm"]["machineName"].as_str().unwrap().to_owned();
    assert!(machine.starts_with("box-"), "{machine}");
    assert!(!world.run(&["refresh"]).expect(0).stdout().contains("adopt"));
    world.run(&["stop", "shop"]).expect(0);
    assert_eq!(world.json(&["status", "box", "--json"])["live"]["state"], "running");
    world.run(&["clone", "shop", "twin"]).expect(0);
    world.run(&["delete", "shop", "twin", "--yes"]).expect(0);
    assert_eq!(world.json(&["status", "box", "--json"])["live"]["state"], "running");
    world.run(&["delete", "box", "--yes"]).expect(0);
    let ledger = world.multipass_file("ledger");
    assert!(ledger.ends_with(&[format!("purge {machine} by goloo")]), "{ledger:?}");
}

const OLD: &str = r#"{"vm": {"cpus": 1}, "local": {"ip": "10.0.0.1"}}"#;

#[test]
fn vms_of_goloo_v0_are_checked_in_multipass() {
    let world = World::multipass();
    for name in ["runs", "off", "gone"] {
        world.stack(name, OLD, "");
    }
    world.by_hand(&["launch", "24.04", "--name", "runs"]).expect(0);
    world.by_hand(&["launch", "24.04", "--name", "off"]).expect(0);
    world.by_hand(&["stop", "off"]).expect(0);
    std::fs::write(world.daemon().join("adopted"), "runs\noff\n").unwrap();
    let report = world.json(&["migrate", "--json"]);
    let migrated = report["migrated"].as_array().unwrap();
    let told: Vec<_> = migrated.iter().map(|vm| (&vm["name"], &vm["live"], &vm["checked"])).collect();
    let (yes, off, runs) = (true.into(), "off".into(), "runs".into());
    assert_eq!(told, [(&off, &"stopped".into(), &yes), (&runs, &"running".into(), &yes)]);
    assert!(
        report["skipped"][0]["reason"].as_str().unwrap().contains("\"gone\" no longer exists"),
        "{report}"
    );
    assert_eq!(world.names(), ["off", "runs"]);
    let said = world.run(&["exec", "runs", "--", "echo", "in"]).expect(0);
    assert_eq!(said.stdout().trim(), "in");
    world.run(&["start", "off"]).expect(0);
    world.run(&["delete", "off", "runs", "--yes"]).expect(0);
    // Their configs still exist but don't bring the records back.
    assert_eq!(world.names(), Vec::<String>::new());
}

#[test]
fn a_vm_of_goloo_v0_that_cannot_be_checked_is_marked() {
    let world = World::multipass();
    world.stack("old", OLD, "");
    world.multipass_faults(&["daemon-down"]);
    let shown = world.run(&["ssh-config", "old"]).expect(0);
    assert!(shown.stderr().contains("not checked"), "{shown:?}");
    let state = std::fs::read(world.state().join("active/old/state.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert_eq!((&record["phase"], &record["origin"]["checked"]), (&"degraded".into(), &false.into()));
}
