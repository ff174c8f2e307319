//! What `doctor` finds, and how failed creates end.

use std::net::TcpListener;
use std::process::Stdio;

use crate::common::{HELLO, Ran, World, wait_until};

const CREATE: [&str; 5] = ["create", "hello", "--provider", "multipass", "--no-wait"];

#[test]
fn an_operation_in_progress_is_worth_knowing_and_an_interrupted_one_is_wrong() {
    let world = World::multipass();
    world.multipass_faults(&["prepares"]);
    let mut command = world.command();
    let child = command.args(CREATE).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.spawn().unwrap();
    wait_until("it is launched", || !world.multipass_file("ledger").is_empty());
    let said = world.run(&["doctor"]).expect(0).stdout();
    assert!(said.contains("! hello: create in progress by ann on "), "{said}");
    assert!(!said.contains('✗'), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
    let said = world.run(&["doctor"]).expect(1).stdout();
    assert!(said.contains("✗ hello: create was interrupted"), "{said}");
    assert!(said.contains("hint: run `goloo resume hello` to continue, or `goloo delete hello`"), "{said}");
    world.multipass_faults(&[]);
    world.run(&["resume", "hello"]).expect(0);
    assert!(!world.run(&["doctor"]).expect(0).stdout().contains("hello"));
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn a_provider_that_is_not_installed_is_wrong_only_if_something_needs_it() {
    let world = World::multipass();
    let without_qemu = || {
        let mut command = world.command();
        Ran(command.arg("doctor").env("GOLOO_QEMU", "/no/such/qemu").output().unwrap())
    };
    let needed = without_qemu().expect(1).stdout();
    assert!(needed.contains("✗ QEMU isn't installed"), "{needed}");
    world.settings(r#"{"localProvider": "multipass"}"#);
    let unneeded = without_qemu().expect(0).stdout();
    assert!(unneeded.contains("– QEMU isn't installed"), "{unneeded}");
    world.run(&["create", "hello", "--provider", "qemu", "--no-wait"]).expect(0);
    assert!(without_qemu().expect(1).stdout().contains("✗ QEMU isn't installed"), "a VM needs it");
    let json = world.json(&["doctor", "--json"]);
    let levels: Vec<&str> =
        json["findings"].as_array().unwrap().iter().map(|one| one["level"].as_str().unwrap()).collect();
    assert!(levels.contains(&"good") && !levels.contains(&"wrong"), "{json}");
}

/// The last lines of an error: what, why, and what to do.
#[track_caller]
fn assert_ends_with_the_error(ran: &Ran) {
    let stderr = ran.stderr();
    let error = stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect::<Vec<_>>();
    let kinds: Vec<&str> = error.iter().map(|line| line.trim_start().split(':').next().unwrap()).collect();
    assert!(matches!(kinds[..], ["error", .., "hint"]), "{ran:?}");
    assert!(kinds[1..kinds.len() - 1].iter().all(|kind| *kind == "caused by"), "{ran:?}");
}

#[test]
fn a_create_that_made_nothing_leaves_its_error_and_no_archive_entry() {
    let world = World::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    world.stack(
        "hello",
        &HELLO.replace(r#""cpus": 1"#, &format!(r#""cpus": 1, "ports": ["127.0.0.1:{port}:80"]"#)),
        "",
    );
    let failed = world.run(&["create", "hello", "--no-wait"]).expect(1);
    assert!(failed.stderr().contains(&format!("port {port} on 127.0.0.1 is taken")), "{failed:?}");
    assert_ends_with_the_error(&failed);
    world.assert_empty("after the failure");
    assert_eq!(world.run(&["archive", "list"]).expect(0).stdout(), "");
    drop(listener);
    world.run(&["create", "hello", "--no-wait"]).expect(0);
}

#[test]
fn a_create_that_made_something_ends_with_the_error_after_cleaning_up_and_is_archived() {
    let world = World::new();
    let mut command = world.command();
    let failed =
        command.args(["create", "hello", "--no-wait"]).env("GOLOO_STAND_IN", "dies").output().unwrap();
    let failed = Ran(failed).expect(1);
    let stderr = failed.stderr();
    assert!(stderr.find("removing the disk") < stderr.find("error: "), "{failed:?}");
    assert_ends_with_the_error(&failed);
    world.assert_empty("after the failure");
    assert_eq!(world.json(&["archive", "list", "--json"])["archived"].as_array().unwrap().len(), 1);
}
