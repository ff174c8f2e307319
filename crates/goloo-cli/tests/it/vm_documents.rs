//! Documents that used to lock goloo out of its own machine, or that cloud-init silently dropped, on real machines with
//! cloud-init 22.4 (Debian 12) and 25.1 (Debian 13).

use std::fs;

use crate::common::{Ran, World};

const IMAGES: [&str; 2] = ["debian-12", "debian-13"];

/// Creates a machine from a document and checks the exit code. Its configure.sh leaves a mark.
fn create(image: &str, users: &str, document: &str, code: i32) -> (World, Ran) {
    let world = World::real_with(image);
    let config = format!(
        r#"{{"vm": {{"cpus": 1, "memory": "512M", "disk": "3G", "image": "{image}", "ttl": "8h", "users": [{users}]}}}}"#
    );
    let folder = world.stack("box", &config, document);
    fs::write(folder.join("configure.sh"), "#!/bin/sh\necho configured >> /var/tmp/configured\n").unwrap();
    let ran = world.run(&["create", "box", "--timeout", "12m"]).expect(code);
    (world, ran)
}

/// goloo's own commands work, the ttl runs and configure.sh ran once.
fn assert_way_in(world: &World) {
    let inside = "cat /var/tmp/configured; systemctl is-active goloo-end; sudo -n id -un";
    let ran = world.run(&["exec", "box", "--", "sh", "-c", inside]).expect(0);
    assert_eq!(ran.stdout(), "configured\nactive\nroot\n");
    assert!(world.run(&["logs", "box"]).expect(0).stdout().contains("Cloud-init"));
    fs::write(world.path().join("work/file"), "carried").unwrap();
    world.run(&["cp", "file", "box:/var/tmp/file"]).expect(0);
}

fn login(world: &World) -> Ran {
    world.run(&["ssh", "box", "--", "id -un"]).expect(0)
}

fn delete(world: &World) {
    world.run(&["delete", "box", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

fn users_that_fail_leave_the_stack_s_user(image: &str) {
    let document = "#cloud-config\nusers:\n  - default\n  - name: ops\n    sudo: true\n";
    let (world, ran) = create(image, r#"{"username": "bob"}"#, document, 8);
    assert!(ran.stderr().contains("users-groups") || ran.stderr().contains("users_groups"), "{ran:?}");
    assert_eq!(login(&world).stdout(), "bob\n");
    assert_way_in(&world);
    delete(&world);
}

fn no_users_at_all_leave_goloo_s_account(image: &str) {
    let (world, ran) = create(image, "", "#cloud-config\nusers: []\nruncmd:\n  - exit 0\n", 0);
    assert!(ran.stdout().contains("box is ready"), "{ran:?}");
    let session = login(&world);
    assert_eq!(session.stdout(), "goloo\n");
    assert_way_in(&world);
    // cloud-init may be disabled afterwards: SSH access and the TTL still work.
    world.run(&["exec", "box", "--", "sudo", "touch", "/etc/cloud/cloud-init.disabled"]).expect(0);
    world.run(&["restart", "box"]).expect(0);
    assert_way_in(&world);
    delete(&world);
}

fn a_configuration_that_sshd_refuses_is_left_out_and_warned_of(image: &str) {
    let document = "#cloud-config\nuser: deploy\nwrite_files:\n  - path: /etc/ssh/sshd_config\n    content: |\n      PasswordAuthentication no\n      Nonsense\n";
    let (world, ran) = create(image, "", document, 0);
    assert!(ran.stderr().contains("sshd can't use /etc/ssh/sshd_config"), "{ran:?}");
    assert_eq!(login(&world).stdout(), "deploy\n");
    assert_way_in(&world);
    delete(&world);
}

fn sshd_settings_of_the_document_keep_goloo_s_account(image: &str) {
    let document = "#cloud-config\nbootcmd:\n  - exit 1\nwrite_files:\n  - path: /etc/ssh/sshd_config.d/10-hard.conf\n    content: |\n      Port 2222\n      AllowUsers nobody\n      AuthorizedKeysFile /etc/keys/%u\n      HostKey /etc/ssh/ssh_host_rsa_key\n";
    let (world, ran) = create(image, "", document, 8);
    assert!(ran.stderr().contains("bootcmd"), "{ran:?}");
    let session = login(&world);
    assert_eq!(session.stdout(), "goloo\n");
    assert!(session.stderr().contains("debian can't log in to box"), "{session:?}");
    assert_way_in(&world);
    delete(&world);
}

fn an_include_that_can_t_be_fetched_is_dropped(image: &str) {
    let (world, ran) = create(image, "", "#include\nfile:///nowhere\n", 8);
    assert!(ran.stderr().contains("cloud-init ignored all or part of its configuration"), "{ran:?}");
    assert_eq!(world.json(&["status", "box", "--json"])["vm"]["provisioning"]["result"], "dropped");
    assert_way_in(&world);
    delete(&world);
}

fn a_machine_that_powers_off_ends_the_wait(image: &str) {
    let document = "#cloud-config\nruncmd:\n  - systemctl poweroff\n  - sleep 600\n";
    let (world, ran) = create(image, "", document, 8);
    assert!(ran.stderr().contains("box powered off before its provisioning finished"), "{ran:?}");
    assert!(ran.stderr().contains("Power"), "the console's last lines: {ran:?}");
    let status = world.json(&["status", "box", "--json"]);
    assert_eq!(
        (&status["live"]["state"], &status["vm"]["provisioning"]["result"]),
        (&"stopped".into(), &"ended".into())
    );
    delete(&world);
}

macro_rules! on_one_image {
    ($($(#[$attribute:meta])* $test:ident: $check:ident, $image:expr;)*) => {
        $(
            #[test]
            $(#[$attribute])*
            fn $test() {
                $check(IMAGES[$image]);
            }
        )*
    };
}

// One document of each kind of fault can be booted here; `way_in` in goloo-testkit runs all of them through cloud-init and
// sshd of the images, without booting.
on_one_image! {
    #[ignore = "GOLOO_TEST_ALL=1 make test-slow"]
    vm_13_users_that_fail: users_that_fail_leave_the_stack_s_user, 1;
    vm_12_no_users_at_all: no_users_at_all_leave_goloo_s_account, 0;
    vm_13_broken_sshd_config: a_configuration_that_sshd_refuses_is_left_out_and_warned_of, 1;
    #[ignore = "GOLOO_TEST_ALL=1 make test-slow"]
    vm_12_hard_sshd_config: sshd_settings_of_the_document_keep_goloo_s_account, 0;
    #[ignore = "GOLOO_TEST_ALL=1 make test-slow"]
    vm_13_include_that_fails: an_include_that_can_t_be_fetched_is_dropped, 1;
    vm_12_powers_off: a_machine_that_powers_off_ends_the_wait, 0;
}
