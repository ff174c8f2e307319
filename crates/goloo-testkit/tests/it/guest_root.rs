//! The guest root behaves like a machine: verified with a handwritten boothook.

use crate::common::{IMAGES, Keys, image, login, start};
use goloo_testkit::guest_root::{Boot, GuestRoot, Seed};

const META_DATA: &str = "instance-id: first\nlocal-hostname: box\n";

/// Creates the account `goloo` and configures its key for sshd in a drop-in of ssh.service. `reload` is the command
/// that makes systemd read the drop-in.
fn boothook(keys: &Keys, reload: &str) -> String {
    format!(
        "#cloud-boothook\n\
         #!/bin/sh\n\
         echo \"$INSTANCE_ID\" >> /var/tmp/hooks\n\
         id goloo >/dev/null 2>&1 || useradd --system --create-home --shell /bin/sh goloo\n\
         echo 'goloo ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/goloo\n\
         mkdir -p /etc/goloo/keys /etc/systemd/system/ssh.service.d\n\
         echo '{client}' > /etc/goloo/keys/goloo\n\
         cat > /etc/goloo/host_key <<'END'\n{host}END\n\
         chmod 600 /etc/goloo/host_key\n\
         cat > /etc/systemd/system/ssh.service.d/goloo.conf <<'END'\n\
         [Service]\n\
         ExecStart=\n\
         ExecStart=/usr/sbin/sshd -D -o HostKey=/etc/goloo/host_key \\\n\
         \x20 -o \"AuthorizedKeysFile=.ssh/authorized_keys /etc/goloo/keys/%%u\" $SSHD_OPTS\n\
         END\n\
         cat > /etc/systemd/system/goloo-configure.service <<'END'\n\
         [Unit]\n\
         After=cloud-final.service\n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart=/bin/sh -c 'cat /var/tmp/order > /var/tmp/configured'\n\
         END\n\
         {reload}\n",
        client = keys.client,
        host = keys.host_private,
    )
}

const RELOAD: &str = "systemctl daemon-reload\nsystemctl start --no-block goloo-configure.service";

/// A boothook followed by the user's document.
fn user_data(hook: &str, document: &str) -> String {
    format!(
        "Content-Type: multipart/mixed; boundary=\"b-1\"\nMIME-Version: 1.0\n\n\
         --b-1\nContent-Type: text/cloud-boothook\n\n{hook}\n\
         --b-1\nContent-Type: text/cloud-config\n\n{document}\n--b-1--\n"
    )
}

fn boot(root: &GuestRoot, hook: &str, document: &str) -> Boot {
    let user_data = user_data(hook, document);
    root.boot(&Seed { user_data: user_data.as_bytes(), meta_data: META_DATA, vendor_data: None }).unwrap()
}

#[test]
fn vm_a_document_runs_as_on_a_real_machine_and_the_boothook_enables_login() {
    for name in IMAGES {
        let (image, keys) = (image(name), Keys::new());
        let root = start(&image);
        let document = "#cloud-config\n\
                        users: [default, {name: ann, shell: /bin/bash}]\n\
                        write_files: [{path: /etc/written, content: text, owner: 'root:root'}]\n\
                        bootcmd: [echo bootcmd >> /var/tmp/order]\n\
                        runcmd: [echo runcmd >> /var/tmp/order, systemctl restart ssh, (sleep 0 & sleep 0 &) ]\n";
        let ran = boot(&root, &boothook(&keys, RELOAD), document);
        let statuses: Vec<_> = ran.stages.iter().map(|stage| (stage.name, stage.status)).collect();
        let all = ["local", "network", "config", "final"].map(|stage| (stage, Some(0)));
        assert_eq!(statuses, all, "{name}: {ran:#?}\n{:?}", root.file("/var/log/cloud-init.log"));
        assert_eq!(ran.sshd_started, Some(true), "{name}");
        assert_eq!(
            login(&root, &keys, "goloo", "id -un; sudo -n id -u"),
            (Some(0), "goloo\n0\n".to_owned()),
            "{name}"
        );
        assert_ne!(login(&root, &keys, "root", "true").0, Some(0), "{name}: no keys for root");
        assert_ne!(login(&root, &Keys::new(), "goloo", "true").0, Some(0), "{name}: the host key is checked");
        assert_eq!(root.file("/etc/written").as_deref(), Some("text"), "{name}");
        assert!(root.passwd("ann").unwrap().ends_with(":/bin/bash"), "{name}");
        assert_eq!(ran.services, [("goloo-configure.service".to_owned(), true)], "{name}");
        assert_eq!(root.file("/var/tmp/configured").as_deref(), Some("bootcmd\nruncmd\n"), "{name}");
        assert!(
            root.calls().iter().any(|call| call.arguments == ["restart", "ssh"]),
            "{name}: {:?}",
            root.calls()
        );
        assert_eq!(root.zombies().unwrap(), 0, "{name}");
        let status = root.exec(&["cloud-init", "status"]).unwrap();
        assert_eq!((status.status, status.stdout.trim()), (Some(0), "status: done"), "{name}");
        // The log contains no complaint caused by the guest root itself.
        let log = root.file("/var/log/cloud-init.log").unwrap();
        let complaints: Vec<_> = log
            .lines()
            .filter(|line| line.contains("[WARNING]") || line.contains("[ERROR]"))
            .filter(|line| !line.contains("Invalid cloud-config provided"))
            .collect();
        assert_eq!(complaints, [""; 0], "{name}");

        let again = root.second_boot().unwrap();
        assert_eq!(again.sshd_started, Some(true), "{name}");
        assert_eq!(
            login(&root, &keys, "goloo", "cat /var/tmp/hooks"),
            (Some(0), "first\nfirst\n".to_owned()),
            "{name}"
        );
        assert_eq!(root.file("/var/tmp/order").as_deref(), Some("bootcmd\nruncmd\nbootcmd\n"), "{name}");
    }
}

#[test]
fn vm_a_drop_in_takes_effect_once_systemd_has_read_it() {
    for name in IMAGES {
        let (image, keys) = (image(name), Keys::new());
        let root = start(&image);
        boot(&root, &boothook(&keys, ""), "#cloud-config\n{}\n");
        assert_ne!(
            login(&root, &keys, "goloo", "true").0,
            Some(0),
            "{name}: sshd has never heard of the key"
        );
        // The next boot reads it.
        root.second_boot().unwrap();
        assert_eq!(login(&root, &keys, "goloo", "true").0, Some(0), "{name}");
    }
}

#[test]
fn vm_sshd_starts_as_defined_by_its_unit() {
    for name in IMAGES {
        let (image, keys) = (image(name), Keys::new());
        let root = start(&image);
        let hook = boothook(&keys, RELOAD);
        let document = "#cloud-config\n\
                        write_files:\n\
                        - {path: /etc/default/ssh, content: \"SSHD_OPTS=-oAllowUsers=nobody\\n\"}\n\
                        - {path: /etc/ssh/sshd_config.d/bad.conf, content: \"Nonsense\\n\"}\n";
        let ran = boot(&root, &hook, document);
        assert_eq!(ran.sshd_started, Some(false), "{name}: ExecStartPre tests the configuration");
        root.exec(&["rm", "/etc/ssh/sshd_config.d/bad.conf"]).unwrap();
        root.exec(&["systemctl", "start", "ssh"]).unwrap();
        let refused = login(&root, &keys, "goloo", "true");
        assert!(refused.1.contains("Permission denied"), "{name}: SSHD_OPTS counts: {refused:?}");
        root.write("/etc/default/ssh", b"SSHD_OPTS=\n").unwrap();
        root.exec(&["systemctl", "restart", "sshd.service"]).unwrap();
        assert_eq!(login(&root, &keys, "goloo", "true").0, Some(0), "{name}");
    }
}

#[test]
fn vm_a_deadlocked_systemctl_start_is_detected() {
    let (image, keys) = (image(IMAGES[1]), Keys::new());
    let root = start(&image);
    boot(
        &root,
        &boothook(&keys, "systemctl daemon-reload\nsystemctl start goloo-configure"),
        "#cloud-config\n{}\n",
    );
    assert!(root.calls().iter().any(|call| call.program == "deadlock"), "{:?}", root.calls());
}

#[test]
fn vm_shutdown_and_reboot_are_detected_and_not_executed() {
    for name in IMAGES {
        let (image, keys) = (image(name), Keys::new());
        let ended_by = |document: &str| {
            let root = start(&image);
            let ended_by = boot(&root, &boothook(&keys, RELOAD), document).ended_by;
            assert_eq!(login(&root, &keys, "goloo", "true").0, Some(0), "{name}");
            ended_by.map(|call| call.program)
        };
        assert_eq!(
            ended_by("#cloud-config\npower_state: {mode: poweroff, delay: now}\n").as_deref(),
            Some("shutdown")
        );
        assert_eq!(ended_by("#cloud-config\nruncmd: [systemctl reboot]\n").as_deref(), Some("systemctl"));
        assert_eq!(ended_by("#cloud-config\nruncmd: [systemctl status ssh]\n"), None);
    }
}

#[test]
fn vm_endless_output_of_a_document_is_bounded() {
    let (image, keys) = (image(IMAGES[0]), Keys::new());
    let root = start(&image);
    let ran = boot(&root, &boothook(&keys, RELOAD), "#cloud-config\nruncmd: [['yes', '5']]\n");
    assert!(ran.stages.iter().all(|stage| stage.output.len() <= 2 << 20));
    let size = root.exec(&["stat", "-c", "%s", "/var/log/cloud-init-output.log"]).unwrap().stdout;
    assert!(size.trim().parse::<u64>().unwrap() <= 1 << 28, "{size}");
    assert_eq!(login(&root, &keys, "goloo", "true").0, Some(0));
}

#[test]
fn vm_a_run_leaves_no_processes_mounts_or_files() {
    let (image, keys) = (image(IMAGES[0]), Keys::new());
    let root = start(&image);
    let document = "#cloud-config\nruncmd: [setsid sleep 4242.25 &]\n";
    boot(&root, &boothook(&keys, RELOAD), document);
    let sleepers = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| line == "sleep\x004242.25\x00").count()
    };
    assert_eq!(sleepers(), 1);
    let path = root.path().to_owned();
    drop(root);
    assert_eq!(sleepers(), 0);
    assert!(!path.exists());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(path.to_str().unwrap()));
}
