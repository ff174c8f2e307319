//! Records that somebody else wrote: nothing of them becomes an option, a line, a path or a command, and one of them
//! breaks no other.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::World;
use serde_json::{Value, json};

/// The record of an EC2 instance, as a colleague's goloo wrote it.
fn record(name: &str) -> Value {
    json!({
        "schema": 1, "id": "01M8HXK8W3HQXXHS5WXE6KW9AA", "serial": 4, "name": name, "stack": "web", "provider": "aws",
        "phase": "ready", "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
        "createdBy": {"user": "bob", "host": "desk", "hostId": "another", "goloo": "0.1.0"},
        "sourceConfigPath": "/home/bob/web", "tags": {},
        "ssh": {"user": "ubuntu", "account": "goloo",
                "hostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPBHrXZ9PWAMdVINEoBgGDkAopbgCSdE5t/5DKRVYBBa"},
        "operation": null, "resources": [], "aws": {"publicIP": "203.0.113.9", "fqdn": "web.example.com"},
    })
}

fn put(world: &World, name: &str, record: &Value) {
    let folder = world.state().join("active").join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("state.json"), record.to_string()).unwrap();
}

/// A world in which `ssh` and `scp` write their arguments down, a line each.
fn world() -> World {
    let world = World::new();
    let file = world.path().join("argv");
    for program in ["ssh", "scp", "sftp"] {
        world.program(program, &format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >> {}\n", file.display()));
    }
    world
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPBHrXZ9PWAMdVINEoBgGDkAopbgCSdE5t/5DKRVYBBa";

#[test]
fn a_hostile_way_into_a_machine_breaks_that_record_alone_and_runs_nothing() {
    let evil_key = format!("{KEY}\n* {KEY}");
    let cases = [
        ("/ssh/user", "ssh.user", "-oProxyCommand=touch PWNED"),
        ("/ssh/user", "ssh.user", "root\n  ProxyCommand touch PWNED"),
        ("/ssh/user", "ssh.user", "${HOME}%h"),
        ("/ssh/account", "ssh.account", "goloo; touch PWNED"),
        ("/ssh/hostKey", "ssh.hostKey", evil_key.as_str()),
        ("/ssh/hostKey", "ssh.hostKey", "@cert-authority * ssh-ed25519 AAAA"),
        ("/aws/publicIP", "aws.publicIP", "-oProxyCommand=touch PWNED"),
        ("/aws/publicIP", "aws.publicIP", "203.0.113.9\n  ProxyCommand touch PWNED"),
    ];
    for (pointer, path, hostile) in cases {
        let world = world();
        put(&world, "fine", &record("fine"));
        let mut evil = record("evil");
        *evil.pointer_mut(pointer).unwrap() = hostile.into();
        put(&world, "evil", &evil);
        let list = world.json(&["list", "--json"]);
        assert_eq!(list["vms"].as_array().unwrap().len(), 1, "{list}");
        assert_eq!((&list["vms"][0]["name"], &list["broken"][0]["name"]), (&"fine".into(), &"evil".into()));
        let error = list["broken"][0]["error"].as_str().unwrap();
        assert!(error.starts_with(&format!("{path}: ")), "{pointer} {hostile:?}: {error}");
        for command in [
            &["ssh", "evil"][..],
            &["exec", "evil", "--", "true"],
            &["cp", "evil:/etc/motd", "."],
            &["ssh-config", "evil"],
            &["logs", "evil"],
            &["status", "evil"],
        ] {
            let ran = world.run(command);
            assert!(ran.code() != 0 && ran.stderr().contains(path), "{command:?}: {ran:?}");
        }
        assert!(!world.path().join("argv").exists(), "{pointer}: ssh was run");
        let config = world.run(&["ssh-config"]).expect(0).stdout();
        assert!(config.contains("Host fine") && !config.contains("ProxyCommand"), "{config}");
        assert!(!world.path().join("work/PWNED").exists());
    }
}

#[test]
fn a_stack_s_folder_that_a_colleague_s_record_names_is_not_read_unasked() {
    let world = world();
    let theirs = world.stack("theirs", r#"{"vm": {"cpus": 7}}"#, "");
    let moved = world.path().join("planted");
    fs::rename(&theirs, &moved).unwrap();
    let mut planted = record("planted");
    planted["sourceConfigPath"] = moved.display().to_string().into();
    put(&world, "planted", &planted);
    fs::write(world.state().join("active/planted/config.json"), r#"{"vm": {"cpus": 1}}"#).unwrap();
    let status = world.json(&["status", "planted", "--json"]);
    assert_eq!(status["drift"], "unknown");
    let diff = world.run(&["diff", "planted"]).expect(1);
    assert!(diff.stderr().contains("planted") && diff.stderr().contains("-f PATH"), "{diff:?}");
    assert!(!diff.stdout().contains("cpus"), "{diff:?}");
    let diff = world.run(&["diff", "planted", "-f", moved.to_str().unwrap()]).expect(0);
    assert!(diff.stdout().contains("cpus"), "{diff:?}");
    let create = world.run(&["create", "planted", "--dry-run", "--local", "--as", "mine"]).expect(3);
    assert!(
        create.stderr().contains(moved.to_str().unwrap()) && create.stderr().contains("-f PATH"),
        "{create:?}"
    );
}

#[test]
fn what_a_colleague_s_snapshot_takes_of_this_computer_is_asked_for_first() {
    let world = world();
    let image = world.path().join("work/stacks/hello/disk.img");
    let mut theirs = record("theirs");
    theirs["provider"] = "qemu".into();
    put(&world, "theirs", &theirs);
    let config = json!({"vm": {"cpus": 1, "memory": "512M", "disk": "1G", "image": image, "mounts": [
        {"source": world.path().join("home"), "target": "/mnt/home"}]}});
    fs::write(world.state().join("active/theirs/config.json"), config.to_string()).unwrap();
    let again = ["recreate", "theirs", "--as", "mine", "--no-wait"];
    let ran = world.run(&again).expect(2);
    let said = ran.stderr();
    for taken in [world.path().join("home"), image] {
        assert!(said.contains(taken.to_str().unwrap()), "{taken:?} is not in {ran:?}");
    }
    assert!(said.contains("made by bob on desk") && said.contains("--yes"), "{ran:?}");
    assert_eq!(world.qemus(), Vec::<u32>::new());
    world.run(&["recreate", "theirs", "--as", "mine", "--no-wait", "--yes"]).expect(0);
    world.run(&["delete", "mine", "--yes"]).expect(0);
    // One's own is made again without a question.
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["recreate", "hello", "--as", "hello-2", "--no-wait"]).expect(0);
    world.run(&["delete", "hello", "hello-2", "--yes"]).expect(0);
}

#[test]
fn an_endpoint_can_not_be_chosen_by_a_record() {
    let world = world();
    for (pointer, hostile) in [
        ("/aws/region", json!("evil.example/#")),
        ("/aws/stackID", json!("arn:aws:cloudformation:evil.example#:123456789012:stack/goloo-web/1")),
        (
            "/resources",
            json!([{"kind": "cloudformation-stack", "operation": "01M8HXK8W3HQXXHS5WXE6KW9AA",
            "id": "arn:aws:cloudformation:us-east-1.evil.example#:1:stack/x/1"}]),
        ),
    ] {
        let mut evil = record("evil");
        match pointer {
            "/resources" => evil["resources"] = hostile,
            _ => evil["aws"][&pointer[5..]] = hostile,
        }
        put(&world, "evil", &evil);
        let ran = world.run(&["status", "evil"]).expect(1);
        assert!(ran.stderr().contains("evil.example"), "{ran:?}");
    }
}

/// Whoever can write to a store can write its mark: nothing is sent there unasked.
#[test]
fn a_mark_that_names_a_service_of_its_own_is_followed_by_nobody_unasked() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let world = world();
    put(&world, "fine", &record("fine"));
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let place = format!("s3://bucket/goloo?region=us-east-1&endpoint={endpoint}");
    for mark in [place.clone(), format!("{place} (unfinished)")] {
        fs::write(world.state().join("moved.json"), json!({"schema": 1, "to": mark}).to_string()).unwrap();
        for command in
            [&["list"][..], &["status", "fine"], &["doctor"], &["state", "show"], &["protect", "fine"]]
        {
            world.run(command);
        }
        for command in [&["list"][..], &["protect", "fine"]] {
            let said = world.run(command).stderr();
            assert!(said.contains(&format!("credentials are sent to {endpoint}")), "{command:?}: {said}");
        }
        let asked = world.run(&["state", "move", &place]).expect(2);
        assert!(asked.stderr().contains(&endpoint) && asked.stderr().contains("--yes"), "{asked:?}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody connected");
    // And the place is taken back.
    world.run(&["state", "move", "dir"]).expect(2);
    world.run(&["state", "move", "dir", "--yes"]).expect(0);
    world.run(&["protect", "fine"]).expect(0);
}
