//! An environment of real machines, which continue from the memory of a baked one and talk to each other by name.

use std::fs;
use std::process::Command;

use crate::common::{World, wait_until};

const PLAIN: &str = r#"{"vm": {"cpus": 1, "memory": "512M", "disk": "3G", "image": "debian-12"}}"#;
const CLUSTER: &str = r#"{"name": "cluster", "network": true, "machines": {
    "db": {"stack": "node"},
    "web": {"stack": "node", "count": 2, "after": ["db"]}}}"#;

/// The processes of this world that have this word in their command lines.
fn processes(world: &World, word: &str) -> Vec<u32> {
    let path = world.path().display().to_string();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = format!("{} {}", String::from_utf8_lossy(&line), folder.display());
        line.contains(word) && line.contains(&path)
    })
    .collect()
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
}

/// Whether a machine reaches port 22 of another one by its short name and by its full one.
fn assert_reaches(world: &World, from: &str, to: &str) {
    for name in [to.to_owned(), format!("{to}.cluster")] {
        let talk = format!("timeout 20 bash -c 'exec 3<>/dev/tcp/{name}/22; head -c 4 <&3'");
        let banner = world.run(&["ssh", &format!("cluster-{from}"), "--", &talk]);
        assert_eq!(banner.stdout(), "SSH-", "from {from} to {name}: {banner:?}");
    }
}

#[test]
fn vm_machines_of_an_environment_reach_each_other_by_name_whatever_dies() {
    let world = World::real();
    world.stack("node", PLAIN, "");
    fs::write(world.path().join("work/goloo.json"), CLUSTER).unwrap();
    world.run(&["image", "rm", "baked:node"]);
    world.run(&["bake", "node", "--memory"]).expect(0);

    world.run(&["up"]).expect(0);
    for (from, to) in [("web-1", "db"), ("db", "web-2"), ("web-2", "web-1")] {
        assert_reaches(&world, from, to);
    }
    let switches = processes(&world, "__switch-network");
    assert_eq!(switches.len(), 1, "one for the environment");
    kill(switches[0]);
    wait_until("the switch is gone", || processes(&world, "__switch-network").is_empty());
    world.run(&["up"]).expect(0);
    assert_reaches(&world, "web-1", "db");

    // A machine that dies is started again, from its disk.
    let id = world.json(&["status", "cluster-web-2", "--json"])["vm"]["id"].as_str().unwrap().to_owned();
    let pid = fs::read_to_string(world.state().join("vms").join(id).join("qemu.pid")).unwrap();
    kill(pid.trim().parse().unwrap());
    wait_until("it is off", || {
        world.json(&["status", "cluster-web-2", "--json"])["live"]["state"] == "stopped"
    });
    world.run(&["up"]).expect(0);
    assert_reaches(&world, "web-2", "db");
    assert_reaches(&world, "db", "web-2");

    // The names follow when a machine is made again.
    world.run(&["delete", "cluster-db", "--yes"]).expect(0);
    world.run(&["up"]).expect(0);
    assert_reaches(&world, "web-1", "db");
    world.run(&["down", "--yes"]).expect(0);
    world.run(&["image", "rm", "baked:node"]).expect(0);
    world.assert_empty("after down");
    wait_until("the switch ends with the last machine", || processes(&world, "__switch-network").is_empty());
}
