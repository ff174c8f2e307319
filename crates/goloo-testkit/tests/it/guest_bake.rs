//! What a bake removes from a machine and what copies of it do, by the guest root's shell, cloud-init and sshd.

use std::path::Path;

use goloo_cloudinit::{ComposeInput, InProcessRenderer, compose, generalize_script};
use goloo_engine::{GuestReport, report_command};
use goloo_model::guest::Output;
use goloo_model::host_key::HostKey;
use goloo_model::record::{ProvisioningResult, UserKeys};
use goloo_model::secret::PrivateKey;
use goloo_model::spec::{Sources, resolve};
use goloo_testkit::guest_root::{GuestRoot, Seed};

use crate::common::{IMAGES, Keys, image, login, start};

const DOCUMENT: &str = "#cloud-config
write_files:
  - path: /var/lib/cloud/scripts/per-instance/mine
    permissions: '0755'
    content: |
      #!/bin/sh
      cat /etc/hostname >> /srv/instances
chpasswd:
  expire: false
  users:
    - {name: ann, type: RANDOM}
manage_etc_hosts: true
runcmd:
  - echo ran >> /srv/runs
";
const CONFIGURE: &str = "#!/bin/sh\necho configured >> /srv/runs\n";

/// The same user-data for each machine, but for its host key.
fn user_data(keys: &Keys, client: &str) -> Vec<u8> {
    let sources = Sources {
        given: "box",
        as_name: None,
        stack: "box",
        folder: Path::new("/stacks/box"),
        config: br#"{"vm": {"image": "debian-12", "users": [{"username": "ann"}]}}"#,
        cloud_init: Some(DOCUMENT.as_bytes()),
        configure: Some(CONFIGURE.as_bytes()),
        home: Path::new("/home/ann"),
        sections: &[],
        auto_ports: false,
    };
    let stack = resolve(&sources).unwrap().stack;
    let users = [UserKeys { username: "ann".to_owned(), github_username: None, keys: Vec::new() }];
    let input = ComposeInput {
        stack: &stack,
        users: &users,
        client_key: client,
        host_key: Some(&HostKey::from_private(&PrivateKey::new(keys.host_private.clone())).unwrap()),
        provider: &goloo_testkit::providers::QEMU,
        network: None,
        renderer: &InProcessRenderer,
    };
    compose(&input).unwrap().user_data
}

fn boot(root: &GuestRoot, keys: &Keys, client: &str, name: &str) {
    let boot = root
        .boot(&Seed {
            user_data: &user_data(keys, client),
            meta_data: &format!("instance-id: i-{name}\nlocal-hostname: {name}\n"),
            vendor_data: None,
        })
        .unwrap();
    let failed: Vec<_> = boot.stages.iter().filter(|stage| stage.status != Some(0)).collect();
    assert!(failed.is_empty(), "{name}: {failed:?}");
}

/// Runs a command as goloo's account, with the key of `client`.
fn inside(root: &GuestRoot, keys: &Keys, client: &Keys, command: &str) -> (Option<i32>, String) {
    let (identity, _) = client.login();
    let login = goloo_testkit::guest_root::Login { identity: &identity, host_key: &keys.host };
    let ran = root.login("goloo", login, command).unwrap();
    (ran.status, ran.stdout + &ran.stderr)
}

fn result(root: &GuestRoot, keys: &Keys, client: &Keys) -> ProvisioningResult {
    let (status, said) = inside(root, keys, client, &report_command(false, "ann"));
    let mut report = GuestReport::default();
    said.lines().for_each(|line| {
        report.take(line);
    });
    let verdict = report.verdict(&Output { status: status.unwrap(), stdout: said, stderr: String::new() });
    println!("{:?}", verdict.errors);
    verdict.result
}

fn shell(root: &GuestRoot, command: &str) -> String {
    root.exec(&["sh", "-c", command]).unwrap().stdout
}

#[test]
fn vm_copies_of_a_baked_machine_have_identities_of_their_own_and_repeat_nothing() {
    for name in IMAGES {
        let (image, client, template, copy) = (image(name), Keys::new(), Keys::new(), Keys::new());
        let root = start(&image);
        boot(&root, &template, &client.client, "template");
        assert_eq!(result(&root, &template, &client), ProvisioningResult::Done, "{name}");
        assert_eq!(shell(&root, "cat /srv/runs /srv/instances"), "ran\nconfigured\ntemplate\n", "{name}");
        let password = shell(&root, "grep ^ann: /etc/shadow");
        let secret = template.host_private.lines().nth(2).unwrap();
        let found = format!("grep -rlF '{secret}' /etc /var /root /home /opt 2>/dev/null");
        assert_ne!(shell(&root, &found), "", "{name}: the search finds what is there");

        let generalize = format!("exec sudo -n /bin/sh -c '{}'", generalize_script().replace('\'', "'\\''"));
        for _ in 0..2 {
            let (status, said) = inside(&root, &template, &client, &generalize);
            assert_eq!(status, Some(0), "{name}: {said}");
        }
        assert_eq!(shell(&root, &found), "", "{name}: its private key is left");
        assert_eq!(shell(&root, "cat /etc/machine-id; ls /etc/ssh/ssh_host*key*"), "", "{name}");

        root.exec(&["sh", "-c", "kill -KILL -1"]).unwrap();
        boot(&root, &copy, &client.client, "copy");
        assert_eq!(result(&root, &copy, &client), ProvisioningResult::Done, "{name}");
        assert_eq!(shell(&root, "cat /srv/runs"), "ran\nconfigured\n", "{name}: nothing ran twice");
        assert_eq!(shell(&root, "tail -n 1 /srv/instances; hostname"), "copy\ncopy\n", "{name}");
        assert!(
            shell(&root, "cat /etc/hosts").contains("copy"),
            "{name}: settings for each boot still count"
        );
        assert_ne!(shell(&root, "grep ^ann: /etc/shadow"), password, "{name}: the password is its own");
        assert_eq!(
            login(&root, &copy, "goloo", "true").0,
            Some(255),
            "{name}: only the client's key opens it"
        );

        // Another instance, as a reprovision makes it, does all of it again.
        root.exec(&["sh", "-c", "kill -KILL -1"]).unwrap();
        boot(&root, &copy, &client.client, "again");
        assert!(shell(&root, "cat /srv/runs").ends_with("ran\n"), "{name}");
    }
}
