//! `goloo apply --reprovision` inside a machine: another document takes the place of the first one, in the guest root's
//! cloud-init.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use goloo_cloudinit::{
    BOOTED, ComposeInput, GuestUpdate, InProcessRenderer, TOOK_USER_DATA, compose, reprovision_script,
    update_script,
};
use goloo_model::host_key::HostKey;
use goloo_model::name::OperationId;
use goloo_model::record::{ProvisioningResult, UserKeys};
use goloo_model::secret::PrivateKey;
use goloo_model::spec::{Sources, resolve};
use goloo_testkit::guest_root::{GuestRoot, Login, Seed};

use crate::common::{IMAGES, Keys, image, login, start};
use crate::way_in::verdict;

const FIRST: &str = "#cloud-config\n\
    bootcmd: [echo first >> /var/tmp/boots]\n\
    runcmd: [echo first >> /var/tmp/runs, nosuchcommand]\n\
    users: [default, {name: bob, shell: /bin/bash}]\n";
const SECOND: &str = "#cloud-config\n\
    bootcmd: [echo second >> /var/tmp/boots]\n\
    write_files: [{path: /etc/second, content: second}]\n\
    users: [default, {name: bob, shell: /bin/bash}, {name: cleo, shell: /bin/bash}]\n";

/// What `document` is sent as; to a new machine, it has the host key of `keys`.
fn user_data(keys: &Keys, document: &str, configure: Option<&str>, is_new: bool) -> Vec<u8> {
    let sources = Sources {
        given: "box",
        as_name: None,
        stack: "box",
        folder: Path::new("/stacks/box"),
        config: br#"{"vm": {"image": "debian-12", "ttl": "8h", "users": [{"username": "ann"}]}}"#,
        cloud_init: Some(document.as_bytes()),
        configure: configure.map(str::as_bytes),
        home: Path::new("/home/ann"),
        sections: &[],
        auto_ports: false,
    };
    let stack = resolve(&sources).unwrap().stack;
    let host_key = HostKey::from_private(&PrivateKey::new(keys.host_private.clone())).unwrap();
    let ann = UserKeys { username: "ann".into(), github_username: None, keys: vec![keys.client.clone()] };
    let input = ComposeInput {
        stack: &stack,
        users: &[ann],
        client_key: &keys.client,
        host_key: is_new.then_some(&host_key),
        provider: &goloo_testkit::providers::QEMU,
        network: None,
        renderer: &InProcessRenderer,
    };
    compose(&input).unwrap().user_data
}

/// Runs the script as goloo does; returns its status and all that it said.
fn prepare(root: &GuestRoot, keys: &Keys, script: &str, input: &[u8]) -> (Option<i32>, String) {
    let (identity, host_key) = keys.login();
    let mut ssh = root.ssh("goloo", Login { identity: &identity, host_key }).unwrap();
    let script = script.replace('\'', "'\\''");
    let mut child = ssh
        .arg(format!("exec sudo -n /bin/sh -c '{script}'"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn inside(root: &GuestRoot, command: &str) -> String {
    root.exec(&["sh", "-c", command]).unwrap().stdout
}

/// What must be the same afterwards: host keys, users and their homes, the end, the hostname.
const IDENTITY: &str = "cat /etc/ssh/ssh_host_* /etc/ssh/goloo_host_*; grep -E '^(goloo|ann|bob|debian):' /etc/passwd; \
    cat /home/bob/mine /var/lib/goloo/end /etc/hostname /etc/machine-id";

#[test]
fn vm_another_document_takes_the_place_of_the_first_at_every_boot() {
    for name in IMAGES {
        let (image, keys) = (image(name), Keys::new());
        let root = start(&image);
        let first = user_data(&keys, FIRST, Some("#!/bin/sh\necho first >> /var/tmp/configured\n"), true);
        let seed = Seed {
            user_data: &first,
            meta_data: "instance-id: i-1\nlocal-hostname: box\n",
            vendor_data: None,
        };
        root.boot(&seed).unwrap();
        let user = goloo_model::access::LoginName::parse("ann").unwrap();
        assert_eq!(verdict(&root, &keys, &user).unwrap().result, ProvisioningResult::Failed, "{name}");
        inside(
            &root,
            "ssh-keygen -q -t rsa -b 1024 -N '' -f /etc/ssh/ssh_host_rsa_key; echo mine > /home/bob/mine",
        );
        // An apply has moved the end since.
        let later = GuestUpdate { end: Some(Some(4_102_444_800)), ..GuestUpdate::default() };
        let script = update_script(&later).replace('\'', "'\\''");
        let updated = login(&root, &keys, "goloo", &format!("exec sudo -n /bin/sh -c '{script}'"));
        assert_eq!(updated.0, Some(0), "{name}: {updated:?}");
        let before = inside(&root, IDENTITY);
        assert!(before.contains("BEGIN") && before.contains("mine\n4102444800\nbox\n"), "{name}: {before}");

        let second = user_data(&keys, SECOND, Some("#!/bin/sh\necho second >> /var/tmp/configured\n"), false);
        let operation = OperationId::generate();
        let script = reprovision_script(&operation, &second);
        let cut = prepare(&root, &keys, &script, &second[..second.len() / 2]);
        assert!(cut.0 == Some(1) && cut.1.contains("didn't arrive in full"), "{name}: {cut:?}");
        for _ in 0..2 {
            let (status, said) = prepare(&root, &keys, &script, &second);
            assert!(status == Some(0) && !said.contains(BOOTED), "{name}: {said}");
        }
        let mode = inside(&root, "stat -c '%a %U' /opt/goloo/user-data; ls /opt/goloo");
        assert!(mode.starts_with("600 root\n") && !mode.contains("later"), "{name}: {mode}");
        assert_eq!(
            inside(&root, "cat /var/tmp/runs /var/tmp/boots /var/tmp/configured"),
            "first\n".repeat(3)
        );

        for boot in 1..=2 {
            let ran = root.second_boot().unwrap();
            let evidence =
                || inside(&root, "tail -n 60 /var/log/cloud-init.log; cat /run/goloo-harness/*.log");
            let judged = verdict(&root, &keys, &user).unwrap();
            assert_eq!(judged.result, ProvisioningResult::Done, "{name}: {judged:?} {ran:?}\n{}", evidence());
            let took = prepare(&root, &keys, TOOK_USER_DATA, &[]);
            assert_eq!(took.0, Some(0), "{name}: {took:?}");
            assert_eq!(
                inside(&root, "cat /var/tmp/runs"),
                "first\n",
                "{name}: the first document's commands"
            );
            assert_eq!(inside(&root, "cat /var/tmp/boots"), "first\n".to_owned() + &"second\n".repeat(boot));
            assert_eq!(inside(&root, "cat /var/tmp/configured"), "first\nsecond\n", "{name}, boot {boot}");
            assert_eq!(inside(&root, "cat /etc/second"), "second", "{name}");
            assert!(root.passwd("cleo").is_some(), "{name}");
            assert_eq!(inside(&root, IDENTITY), before, "{name}, boot {boot}");
            for user in ["goloo", "ann"] {
                let entered = login(&root, &keys, user, "sudo -n true");
                assert_eq!(entered.0, Some(0), "{name}: {user}: {entered:?}");
            }
            let (status, said) = prepare(&root, &keys, &script, &second);
            assert!(status == Some(0) && said.contains(BOOTED), "{name}: it has booted since: {said}");
        }

        // Without configure.sh, and what was written for the document before doesn't run.
        let third = user_data(&keys, "#cloud-config\nruncmd: [echo third >> /var/tmp/runs]\n", None, false);
        let script = reprovision_script(&OperationId::generate(), &third);
        assert_eq!(prepare(&root, &keys, &script, &third).0, Some(0), "{name}");
        root.second_boot().unwrap();
        assert_eq!(verdict(&root, &keys, &user).unwrap().result, ProvisioningResult::Done, "{name}");
        assert_eq!(inside(&root, "cat /var/tmp/runs /var/tmp/configured"), "first\nthird\nfirst\nsecond\n");
        assert_eq!(inside(&root, IDENTITY), before, "{name}");
    }
}

#[test]
fn vm_a_machine_that_goloo_did_not_provision_is_left_alone() {
    let (image, keys) = (image(IMAGES[1]), Keys::new());
    let root = start(&image);
    let first = user_data(&keys, FIRST, None, true);
    let seed = Seed { user_data: &first, meta_data: "instance-id: i-1\n", vendor_data: None };
    root.boot(&seed).unwrap();
    inside(&root, "rm /etc/ssh/goloo_host_ed25519_key");
    let second = user_data(&keys, SECOND, None, false);
    let (status, said) =
        prepare(&root, &keys, &reprovision_script(&OperationId::generate(), &second), &second);
    assert!(status == Some(1) && said.contains("didn't provision this machine"), "{said}");
    assert_eq!(
        inside(&root, "ls /opt/goloo | grep user-data; ls /var/log/cloud-init.log"),
        "/var/log/cloud-init.log\n"
    );
}
