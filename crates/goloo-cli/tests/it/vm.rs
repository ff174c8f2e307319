//! Real machines through the real command: QEMU boots them, cloud-init provisions them, and ssh logs in.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::{Child, Command, Stdio};

use crate::common::{Ran, World, wait_until};
use serde_json::Value;

const CONFIG: &str = r#"{"vm": {"cpus": 1, "memory": "512M", "disk": "3G", "image": "debian-12", "users": [{"username": "ann", "ssh_key_files": ["ann.pub"]}], "mounts": [{"source": "shared", "target": "/srv/shared"}, {"source": ".", "target": "/srv/stack", "readonly": true}], "auto_ports": true}}"#;
const PLAIN: &str = r#"{"vm": {"cpus": 1, "memory": "512M", "disk": "3G", "image": "debian-12"}}"#;

/// Prints the types of the file systems of the host's folders.
const MOUNT_TYPES: &str = "awk '/^goloo[0-9]/ { print $3 }' /proc/mounts";

const CLOUD_INIT: &str = "#cloud-config\n\
    write_files:\n\
    \x20 - path: /etc/made-by\n\
    \x20   permissions: '0644'\n\
    \x20   content: |\n\
    \x20     the user's file: 'quoted' \"twice\"\n\
    runcmd:\n\
    \x20 - echo first >> /var/tmp/order\n\
    \x20 - cat /srv/shared/from-here > /var/tmp/shared\n";

#[test]
fn vm_is_created_used_deleted_and_archived() {
    let world = World::real();
    world.keep_connections();
    let folder = world.stack("box", CONFIG, CLOUD_INIT);
    fs::write(folder.join("configure.sh"), "#!/bin/sh\nset -e\necho last >> /var/tmp/order\n").unwrap();
    let shared = folder.join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("from-here"), "shared").unwrap();
    // Without root the owner stays the user who runs the test.
    let _ = chown(&shared, Some(20_345), None);
    let owner = shared.metadata().unwrap().uid();
    let key = world.path().join("ann");
    keygen(&key);
    fs::copy(key.with_extension("pub"), folder.join("ann.pub")).unwrap();

    let made = world.run(&["create", "box"]).expect(0);
    assert!(made.stdout().contains("box is ready"), "{made:?}");
    let status = world.json(&["status", "box", "--json"]);
    assert_eq!((&status["vm"]["phase"], &status["live"]["state"]), (&"ready".into(), &"running".into()));

    // The user's document and configure.sh took effect, in this order.
    let inside = |command: &str| world.run(&["ssh", "box", "--", command]).expect(0).stdout();
    assert_eq!(inside("whoami; cat /etc/made-by"), "ann\nthe user's file: 'quoted' \"twice\"\n");
    assert_eq!(inside("cat /var/tmp/order; hostname"), "first\nlast\nbox\n");
    assert_eq!(inside("cat /var/tmp/shared"), "shared", "the folder is there when the user's commands run");
    assert_eq!(inside(MOUNT_TYPES), "virtiofs\nvirtiofs\n");
    assert_eq!(inside("id -u; stat -c %u ~ ~/.ssh /srv/shared"), format!("{owner}\n").repeat(4));
    inside("echo mine > /srv/shared/by-ann && mkdir /srv/shared/folder");
    assert_eq!(fs::read_to_string(shared.join("by-ann")).unwrap(), "mine\n");
    assert_eq!(inside("head -n 1 /srv/stack/configure.sh"), "#!/bin/sh\n");
    // The host refuses, not only the guest's own mount options.
    inside("sudo mount -o remount,rw /srv/stack; ! sudo touch /srv/stack/shared/written 2>/dev/null");
    assert!(!folder.join("shared/written").exists());
    // Links are resolved in the guest.
    let secret = world.path().join("secret");
    fs::write(&secret, "a secret of the host").unwrap();
    std::os::unix::fs::symlink(&secret, shared.join("link")).unwrap();
    inside("[ -L /srv/shared/link ] && ! sudo cat /srv/shared/link 2>/dev/null");
    inside("sudo touch /srv/shared/written");
    assert!(folder.join("shared/written").exists());
    assert_eq!(inside("sudo -n id -u"), "0\n");
    // The root file system has grown to vm.disk, which is larger than the image.
    let kib: u64 = inside("df --output=size / | tail -n 1").trim().parse().unwrap();
    assert!(kib > 2_500_000, "the root has {kib} KiB");

    // Exit status, arguments and files pass through.
    world.run(&["exec", "box", "--", "sh", "-c", "exit 7"]).expect(7);
    assert_eq!(
        world.run(&["exec", "box", "--", "printf", "%s|", "a b", "c'd"]).expect(0).stdout(),
        "a b|c'd|"
    );
    let file = world.path().join("work/here");
    fs::write(&file, "carried").unwrap();
    world.run(&["cp", "here", "box:/var/tmp/there"]).expect(0);
    world.run(&["cp", "box:/var/tmp/there", "back"]).expect(0);
    assert_eq!(fs::read_to_string(world.path().join("work/back")).unwrap(), "carried");
    assert!(world.run(&["logs", "box"]).expect(0).stdout().contains("Cloud-init"));
    assert!(world.run(&["logs", "box", "--console"]).expect(0).stdout().contains("login"));
    // One connection as goloo's account and one as ann.
    assert_eq!(world.kept_connections().len(), 2);

    a_server_in_the_guest_is_reachable_while_it_is_running(&world);
    ann_logs_in_with_her_own_key(&world, &key);
    another_host_key_is_refused(&world);

    a_running_vm_is_changed(&world, &folder);
    a_mount_and_memory_are_changed_by_a_restart(&world, &folder);
    assert_eq!(inside("cat /var/tmp/there /srv/shared/from-here"), "carriedshared");
    world.run(&["stop", "box"]).expect(0);
    assert_eq!(world.json(&["status", "box", "--json"])["live"]["state"], "stopped");
    assert!(world.qemus().is_empty() && world.kept_connections().is_empty());

    world.run(&["delete", "box", "--yes"]).expect(0);
    world.assert_empty("after the delete");
    assert_eq!(world.json(&["archive", "list", "--json"])["archived"][0]["name"], "box");
}

/// A larger disk, a port and another user, all while the guest runs.
fn a_running_vm_is_changed(world: &World, folder: &std::path::Path) {
    let port = std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap().local_addr().unwrap().port();
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config["vm"]["disk"] = "4G".into();
    config["vm"]["ports"] = serde_json::json!([format!("{port}:8766")]);
    let bob = serde_json::json!({"username": "bob", "ssh_key_files": ["ann.pub"]});
    config["vm"]["users"].as_array_mut().unwrap().push(bob);
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let qemu = world.qemus();
    let applied = world.run(&["apply", "box"]).expect(0);
    assert!(applied.stdout().contains("changed box: vm.disk, vm.ports, vm.users\n"), "{applied:?}");
    assert_eq!(world.qemus(), qemu, "it wasn't restarted");
    let inside = |command: &str| world.run(&["ssh", "box", "--", command]).expect(0).stdout();
    let kib: u64 = inside("df --output=size / | tail -n 1").trim().parse().unwrap();
    assert!(kib > 3_500_000, "the root has {kib} KiB");
    assert_eq!(inside("getent passwd bob | cut -d : -f 6"), "/home/bob\n");
    let address = world.json(&["status", "box", "--json"])["live"]["ip"].as_str().unwrap().to_owned();
    let pid = serve(world, 8766);
    wait_until("the server is reachable", || fetch(&address, port).is_ok_and(|text| text == "served"));
    world.run(&["ssh", "box", "--", "kill", &pid]).expect(0);
    ann_logs_in_with_her_own_key(world, &world.path().join("ann"));
}

fn a_mount_and_memory_are_changed_by_a_restart(world: &World, folder: &std::path::Path) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let more = world.path().join("work/more");
    fs::create_dir(&more).unwrap();
    fs::write(more.join("file"), "more").unwrap();
    let mount = serde_json::json!({"source": more, "target": "/srv/more"});
    config["vm"]["mounts"].as_array_mut().unwrap().push(mount);
    fs::write(&path, config.to_string()).unwrap();
    let mut apply = world.command();
    // The guest finds that it has to use 9p.
    apply.args(["apply", "box", "--set", "memory=640M", "--yes"]).env("GOLOO_VIRTIOFSD", "off");
    let applied = Ran(apply.output().unwrap()).expect(0);
    assert!(applied.stdout().contains("changed box: vm.memory, vm.mounts\n"), "{applied:?}");
    let inside = |command: &str| world.run(&["ssh", "box", "--", command]).expect(0).stdout();
    assert_eq!(inside("cat /srv/more/file"), "more");
    assert_eq!(inside(MOUNT_TYPES), "9p\n9p\n9p\n");
    assert!(world.shares().is_empty());
    let kib: u64 =
        inside("sed -n 's/^MemTotal: *//p' /proc/meminfo").split(' ').next().unwrap().parse().unwrap();
    assert!(kib > 540_000, "the machine has {kib} KiB");
}

/// What a server at this port sends.
fn fetch(address: &str, port: u16) -> std::io::Result<String> {
    let mut text = String::new();
    TcpStream::connect((address, port))?.read_to_string(&mut text)?;
    Ok(text)
}

/// Starts a server in the guest; returns its process id.
fn serve(world: &World, port: u16) -> String {
    let server = format!(
        "import socket\nserver = socket.create_server((\"\", {port}))\n\
         while True: server.accept()[0].sendall(b\"served\")"
    );
    let start = format!("nohup python3 -c '{server}' >/dev/null 2>&1 & echo $!");
    world.run(&["ssh", "box", "--", &start]).expect(0).stdout().trim().to_owned()
}

fn a_server_in_the_guest_is_reachable_while_it_is_running(world: &World) {
    let address = world.json(&["status", "box", "--json"])["live"]["ip"].as_str().unwrap().to_owned();
    let fetch = || fetch(&address, 8765);
    assert!(fetch().is_err());
    let pid = serve(world, 8765);
    wait_until("the server is reachable", || fetch().is_ok_and(|text| text == "served"));
    let ports = world.json(&["status", "box", "--json"])["automaticPorts"]["forwarded"].clone();
    assert_eq!((&ports[0]["port"], &ports[1]), (&8765.into(), &Value::Null), "{ports}");
    world.run(&["ssh", "box", "--", "kill", &pid]).expect(0);
    wait_until("its port is closed", || fetch().is_err());
}

fn keygen(path: &std::path::Path) {
    let status = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(status.unwrap().success());
}

fn ann_logs_in_with_her_own_key(world: &World, key: &std::path::Path) {
    let config = world.path().join("ssh_config");
    fs::write(&config, world.run(&["ssh-config", "box"]).expect(0).stdout()).unwrap();
    let identity = format!("IdentityFile={}", key.display());
    let ssh = |agent: &str| {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(&config).args(["-o", &identity, "-o", agent, "box", "true"]);
        Ran(command.output().unwrap())
    };
    ssh("BatchMode=yes").expect(0);
}

fn another_host_key_is_refused(world: &World) {
    let path = world.state().join("active/box/state.json");
    let sound = fs::read_to_string(&path).unwrap();
    let record: Value = serde_json::from_str(&sound).unwrap();
    let other = world.path().join("other");
    keygen(&other);
    let public = fs::read_to_string(other.with_extension("pub")).unwrap();
    let public: Vec<_> = public.split(' ').take(2).collect();
    let pinned = record["ssh"]["hostKey"].as_str().unwrap();
    fs::write(&path, sound.replace(pinned, &public.join(" "))).unwrap();
    let refused = world.run(&["ssh", "box", "--", "true"]).expect(255);
    assert!(refused.stderr().contains("Host key verification failed"), "{refused:?}");
    fs::write(&path, sound).unwrap();
    world.run(&["ssh", "box", "--", "true"]).expect(0);
}

#[test]
fn vm_with_a_failing_runcmd_is_kept_with_its_log_and_provisioned_again() {
    let world = World::real();
    world.stack("broken", PLAIN, "#cloud-config\nruncmd:\n  - echo going wrong\n  - nosuchcommand\n");
    let ran = world.run(&["create", "broken", "-v"]).expect(8);
    // With -v the log is shown as it grows, and its end again after the failed parts.
    for words in ["│ going wrong", "nosuchcommand: not found", "runcmd", "goloo logs broken"] {
        assert!(ran.stderr().contains(words), "{words} isn't in {ran:?}");
    }
    let vm = world.json(&["status", "broken", "--json"])["vm"].clone();
    assert_eq!((&vm["phase"], &vm["provisioning"]["result"]), (&"degraded".into(), &"failed".into()));
    assert_eq!(world.run(&["ssh", "broken", "--", "whoami"]).expect(0).stdout(), "debian\n");
    // The corrected document is run in the machine, which stays the same.
    let identity = "cat /etc/machine-id /etc/ssh/ssh_host_*; hostname; echo mine >> ~/mine; head -n 1 ~/mine";
    let before = world.run(&["ssh", "broken", "--", identity]).expect(0).stdout();
    world.stack("broken", PLAIN, "#cloud-config\nruncmd:\n  - echo going well >> /var/tmp/runs\n");
    let again = world.run(&["apply", "broken", "--reprovision", "--yes"]).expect(0);
    assert!(again.stdout().contains("broken is provisioned again"), "{again:?}");
    let vm = world.json(&["status", "broken", "--json"])["vm"].clone();
    assert_eq!((&vm["phase"], &vm["provisioning"]["result"]), (&"ready".into(), &"done".into()));
    assert_eq!(world.run(&["ssh", "broken", "--", identity]).expect(0).stdout(), before);
    let runs = world.run(&["ssh", "broken", "--", "cat /var/tmp/runs"]).expect(0).stdout();
    assert_eq!(runs, "going well\n");
    world.run(&["delete", "broken", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn vm_create_that_was_interrupted_and_killed_is_finished_by_resume() {
    let world = World::real();
    world.stack("slow", PLAIN, "");
    let create = spawn(&world, &["create", "slow"]);
    wait_for_step(&world, "provisioning");
    signal(&create, "INT");
    let stopped = Ran(create.wait_with_output().unwrap()).expect(6);
    assert!(stopped.stderr().contains("goloo resume slow"), "{stopped:?}");
    let first = world.qemus();
    assert_eq!(first.len(), 1);

    let resume = spawn(&world, &["resume", "slow"]);
    wait_until("resume is at work", || {
        world.json(&["status", "slow", "--json"])["vm"]["operation"]["owner"]["pid"] == resume.id()
    });
    signal(&resume, "KILL");
    resume.wait_with_output().unwrap();

    world.run(&["resume", "slow"]).expect(0);
    assert_eq!(world.qemus(), first, "resume found the machine and made no other");
    assert_eq!(world.json(&["status", "slow", "--json"])["vm"]["phase"], "ready");
    world.run(&["delete", "slow", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn vm_is_restored_from_a_snapshot_and_its_clone_is_independent() {
    let world = World::real();
    world.stack("box", PLAIN, "#cloud-config\nruncmd:\n  - echo run >> /var/tmp/runs\n");
    world.run(&["create", "box"]).expect(0);
    let inside = |vm: &str, command: &str| world.run(&["ssh", vm, "--", command]).expect(0).stdout();
    inside("box", "echo old > /var/tmp/it");
    let boot = inside("box", "cat /proc/sys/kernel/random/boot_id");
    // Something writes to its disk and knows in its memory how far it is.
    let writer = "echo $$ >/var/tmp/writer; while sleep 1; do i=$((i + 1)); echo $i >>/var/tmp/count; done";
    inside("box", &format!("setsid sh -c '{writer}' </dev/null >/dev/null 2>&1 &"));
    world.run(&["clone", "box", "twin"]).expect(0);
    assert_eq!(inside("box", "cat /proc/sys/kernel/random/boot_id"), boot, "it only paused");
    world.run(&["stop", "box"]).expect(0);
    world.run(&["snapshot", "box", "old"]).expect(0);

    let starts = ["box", "twin"].map(|vm| spawn(&world, &["start", vm]));
    for start in starts {
        Ran(start.wait_with_output().unwrap()).expect(0);
    }
    assert_eq!(inside("twin", "hostname; cat /proc/sys/kernel/random/boot_id"), format!("twin\n{boot}"));
    assert_eq!(
        inside(
            "twin",
            "sync; echo 3 | sudo tee /proc/sys/vm/drop_caches; awk 'NR != $1 { bad = 1 } END { print bad + 0 }' /var/tmp/count"
        ),
        "3\n0\n",
        "its disk and its memory are of one moment"
    );
    assert_eq!(
        inside(
            "twin",
            "sudo dmesg --level=err,crit,alert,emerg | grep -ci ext4; kill $(cat /var/tmp/writer)"
        ),
        "0\n"
    );
    assert_eq!(
        inside("box", "hostname; cat /var/tmp/it /var/tmp/runs"),
        "box\nold\nrun\n",
        "nothing ran again"
    );
    inside("box", "echo new > /var/tmp/it");
    world.run(&["stop", "box"]).expect(0);
    world.run(&["restore", "box", "old", "--yes"]).expect(0);
    another_computer_goes_on_with_it(&world);
    world.run(&["delete", "box", "--yes"]).expect(0);
    inside("twin", "echo its own > /var/tmp/it");

    // A running guest gets the hostname of a rename now, a stopped one at its next boot.
    assert_eq!(world.json(&["rename", "twin", "shop", "--json"])["hostname"], "new");
    assert_eq!(inside("shop", "hostname; sudo hostname"), "shop\nshop\n");
    world.run(&["stop", "shop"]).expect(0);
    assert_eq!(world.json(&["rename", "shop", "store", "--json"])["hostname"], "new-at-boot");
    world.run(&["start", "store"]).expect(0);
    assert_eq!(inside("store", "hostname; cat /var/tmp/it"), "store\nits own\n");
    inside("store", "sudo hostnamectl set-hostname mine");
    assert_eq!(world.json(&["rename", "store", "twin", "--json"])["hostname"], "own");
    assert_eq!(inside("twin", "hostname"), "mine\n");
    world.run(&["delete", "twin", "--yes"]).expect(0);
    world.assert_empty("after the deletes");
}

/// With a client key of its own, the same host key, and the restored disk.
fn another_computer_goes_on_with_it(world: &World) {
    let there = World::real();
    world.run(&["export", "box", "box.goloo"]).expect(0);
    let file = world.path().join("work/box.goloo").display().to_string();
    there.run(&["import", &file, "--as", "moved"]).expect(0);
    there.run(&["start", "moved"]).expect(0);
    let inside = |command: &str| there.run(&["ssh", "moved", "--", command]).expect(0).stdout();
    assert_eq!(inside("whoami; hostname; cat /var/tmp/it /var/tmp/runs"), "debian\nmoved\nold\nrun\n");
    assert_eq!(there.run(&["exec", "moved", "--", "sudo", "-n", "id", "-u"]).expect(0).stdout(), "0\n");
    let key = |world: &World| fs::read(world.state().join("keys/id_ed25519")).unwrap();
    assert_ne!(key(world), key(&there));
    let host_key =
        |world: &World, vm: &str| world.json(&["status", vm, "--json"])["vm"]["ssh"]["hostKey"].clone();
    assert_eq!(host_key(world, "box"), host_key(&there, "moved"));
    there.run(&["delete", "moved", "--yes"]).expect(0);
    there.assert_empty("after the delete");
}

fn spawn(world: &World, arguments: &[&str]) -> Child {
    world.command().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

fn wait_for_step(world: &World, step: &str) {
    wait_until(step, || {
        world.names() == ["slow"]
            && world.json(&["status", "slow", "--json"])["vm"]["operation"]["step"] == step
    });
}
