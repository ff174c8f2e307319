//! An environment of real machines: they continue from the memory of a baked one, each with an identity of its own, and
//! talk to each other by name, whatever dies.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::UNIX_EPOCH;

use serde_json::Value;

use crate::common::{World, wait_until};

const CONFIG: &str =
    r#"{"vm": {"cpus": 1, "memory": "512M", "disk": "3G", "image": "debian-12", "ports": ["8080:80"]}}"#;
const DOCUMENT: &str = "#cloud-config\nruncmd:\n  - echo ran >> /srv/runs\nwrite_files:\n\
    \x20 - path: /var/lib/cloud/scripts/per-instance/mine\n    permissions: '0755'\n\
    \x20   content: \"#!/bin/sh\\nhostname >> /srv/instances\\n\"\n";
const CLUSTER: &str = r#"{"name": "mall", "network": true, "machines": {
    "db": {"stack": "mall", "disk": "4G"},
    "web": {"stack": "mall", "count": 3}}}"#;
const NAMES: [&str; 4] = ["mall-db", "mall-web-1", "mall-web-2", "mall-web-3"];

/// What no two machines share, a line each.
const OWN: &str = "cat /proc/sys/kernel/random/boot_id /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub; hostname; \
    sudo cloud-init query instance_id; head -c 16 /dev/urandom | od -A n -t x1";

struct Mall {
    world: World,
    /// The record of the VM that was baked.
    template: Value,
}

impl Mall {
    /// Baked, with four machines that were made at once.
    fn up() -> Self {
        let world = World::real();
        world.stack("mall", CONFIG, DOCUMENT);
        fs::write(world.path().join("work/goloo.json"), CLUSTER).unwrap();
        // The image cache is that of all tests: one that was killed leaves its image.
        world.run(&["image", "rm", "baked:mall"]);
        let baked = world.run(&["bake", "mall", "--memory"]).expect(0);
        assert!(baked.stdout().contains("memory"), "{baked:?}");
        world.assert_empty("after the bake");
        let archived = world.json(&["archive", "list", "--json"])["archived"][0]["archiveId"].clone();
        let template = world.json(&["archive", "show", archived.as_str().unwrap(), "--json"])["vm"].take();
        let made = world.run(&["up", "--jobs", "4"]).expect(0);
        assert!(!made.stderr().contains("boots"), "{made:?}");
        Self { world, template }
    }

    fn inside(&self, vm: &str, command: &str) -> String {
        self.world.run(&["ssh", vm, "--", command]).expect(0).stdout()
    }

    fn status(&self, vm: &str) -> Value {
        self.world.json(&["status", vm, "--json"])
    }

    fn folder(&self, vm: &str) -> std::path::PathBuf {
        let id = self.status(vm)["vm"]["id"].as_str().unwrap().to_owned();
        self.world.state().join("vms").join(id)
    }

    /// The switches of this world.
    fn switches(&self) -> Vec<u32> {
        let path = self.world.path().display().to_string();
        let all = fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("__switch-network") && line.contains(&path)
        })
        .collect()
    }

    fn assert_own_identities(&self) {
        let all = NAMES.map(|vm| self.inside(vm, OWN));
        let lines: Vec<&str> = all.iter().flat_map(|facts| facts.lines()).collect();
        let distinct: BTreeSet<_> = lines.iter().collect();
        assert_eq!((lines.len(), distinct.len()), (24, 24), "{all:?}");
        for vm in NAMES {
            let seen = self.inside(vm, "cat /srv/runs /srv/instances");
            assert_eq!(seen, format!("ran\nbake-mall\n{vm}\n"), "{vm}: only its own script ran again");
            let ask = "grep bake-mall /etc/hosts /etc/hostname; systemctl is-system-running --wait; \
                cloud-init status --wait | tail -n 1";
            assert_eq!(self.inside(vm, ask), "running\nstatus: done\n", "{vm}");
            let late = self.inside(vm, "date +%s").trim().parse::<u64>().unwrap();
            let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
            assert!(late.abs_diff(now) < 20, "the clock of {vm}: {late}, not {now}");
        }
        let size = |vm: &str| {
            let size = self.inside(vm, "df -B 1M --output=size / | tail -n 1");
            size.trim().parse::<u64>().unwrap()
        };
        assert!(size("mall-db") > size("mall-web-1") + 900, "its disk is larger, and its file system");
    }

    /// Waits until a machine reaches port 22 of another one, by its short name and by its full one. A machine that has
    /// just booted is first to be found by its neighbours.
    fn assert_reaches(&self, from: &str, to: &str) {
        for name in [to.to_owned(), format!("{to}.mall")] {
            let talk = format!("timeout 20 bash -c 'exec 3<>/dev/tcp/{name}/22; head -c 4 <&3'");
            wait_until(&format!("{from} reaches {name}"), || {
                let banner = self.world.run(&["ssh", &format!("mall-{from}"), "--", &talk]);
                banner.stdout() == "SSH-"
            });
        }
    }
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn vm_machines_from_saved_memory_have_own_identities_and_reach_each_other_by_name_whatever_dies() {
    let mall = Mall::up();
    let world = &mall.world;
    mall.assert_own_identities();
    for (from, to) in [("web-1", "db"), ("db", "web-2"), ("web-2", "web-3")] {
        mall.assert_reaches(from, to);
    }

    let switches = mall.switches();
    assert_eq!(switches.len(), 1, "one for the environment");
    kill(switches[0]);
    wait_until("the switch is gone", || mall.switches().is_empty());
    world.run(&["stop", "mall-web-1", "--suspend"]).expect(0);
    world.run(&["up"]).expect(0);
    mall.assert_reaches("web-1", "db");
    mall.assert_reaches("db", "web-1");

    // A machine that dies is started again. It boots from its disk, and takes nothing for new.
    let kept = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub; hostname";
    let before = mall.inside("mall-web-2", kept);
    let pid = fs::read_to_string(mall.folder("mall-web-2").join("qemu.pid")).unwrap();
    kill(pid.trim().parse().unwrap());
    wait_until("it is off", || mall.status("mall-web-2")["live"]["state"] == "stopped");
    world.run(&["up"]).expect(0);
    assert_eq!(mall.inside("mall-web-2", kept), before);
    assert_eq!(mall.inside("mall-web-2", "cat /srv/runs /srv/instances"), "ran\nbake-mall\nmall-web-2\n");
    mall.assert_reaches("web-2", "db");
    mall.assert_reaches("db", "web-2");

    // The names follow when a machine is made again.
    world.run(&["delete", "mall-db", "--yes"]).expect(0);
    world.run(&["up"]).expect(0);
    mall.assert_reaches("web-3", "db");

    world.run(&["stop", "mall-web-2"]).expect(0);
    assert_no_traces(&mall, "mall-web-2");
    world.run(&["down", "--yes"]).expect(0);
    world.run(&["image", "rm", "baked:mall"]).expect(0);
    world.assert_empty("after down");
    wait_until("the switch ends with the last machine", || mall.switches().is_empty());
}

/// Searches the whole disk of a VM, with what was deleted, for the keys of the one that was baked.
fn assert_no_traces(mall: &Mall, vm: &str) {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let text = mall.template["ssh"]["hostKey"].as_str().unwrap();
    let blob = STANDARD.decode(text.split(' ').nth(1).unwrap()).unwrap();
    let key = &blob[blob.len() - 32..];
    // A private key has the public one in it, somewhere in lines of base64.
    let needles = [0, 1, 2, 12, 13, 14].map(|at| STANDARD.encode(&key[at..at + 9]));
    let folder = mall.folder(vm);
    let id = folder.file_name().unwrap().to_str().unwrap();
    let (disk, raw) = (folder.join("disk.qcow2"), mall.world.path().join("raw"));
    let converted =
        Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(disk).arg(&raw).status().unwrap();
    assert!(converted.success());
    let count = |needle: &str| {
        let found = Command::new("grep").args(["-a", "-c", "-F", "-e", needle]).arg(&raw).output().unwrap();
        String::from_utf8(found.stdout).unwrap().trim().parse::<u64>().unwrap()
    };
    assert!(count(id) > 0, "the search finds what is there");
    for needle in &needles {
        assert_eq!(count(needle), 0, "{needle}, a part of the host key of the VM that was baked");
    }
    fs::remove_file(raw).unwrap();
}
