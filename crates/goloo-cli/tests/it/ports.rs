//! Ports of this computer that are forwarded to VMs, through the real command.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};

use serde_json::json;

use crate::common::{HELLO, World};

/// A port that nothing listens on, at any address.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// With the stack `web`, which has this entry of `vm.ports`.
fn world_with(entry: &str) -> World {
    let world = World::new();
    world.stack("web", &HELLO.replace("}}", &format!(r#", "ports": ["{entry}"]}}}}"#)), "");
    world
}

fn address(world: &World, name: &str) -> String {
    world.json(&["status", name, "--json"])["vm"]["endpoint"]["address"].as_str().unwrap().to_owned()
}

fn is_reachable(address: &str, port: u16) -> bool {
    TcpStream::connect((address.parse::<IpAddr>().unwrap(), port)).is_ok()
}

#[test]
fn two_vms_of_one_stack_have_the_same_port_at_names_of_their_own() {
    let port = free_port();
    let world = world_with(&format!("{port}:80"));
    fs::create_dir(world.path().join("etc")).unwrap();
    fs::write(world.hosts_file(), "").unwrap();
    let first = world.run(&["create", "web", "--no-wait", "--hosts"]).expect(0);
    let second = world.run(&["create", "web", "--no-wait", "--hosts", "--as", "twin"]).expect(0);
    let (web, twin) = (address(&world, "web"), address(&world, "twin"));
    assert_ne!(web, twin);
    assert!(is_reachable(&web, port) && is_reachable(&twin, port));
    let names = fs::read_to_string(world.hosts_file()).unwrap();
    assert!(names.contains(&format!("{web} web\n")) && names.contains(&format!("{twin} twin\n")), "{names}");
    // Programs that connect to 127.0.0.1 reach the first.
    assert!(first.stdout().contains(&format!("127.0.0.1:{port} to 80\n")), "{first:?}");
    assert!(second.stdout().contains(&format!("ports    {twin}:{port} to 80\n")), "{second:?}");
    let note = format!("127.0.0.1:{port} belongs to the VM \"web\"; port 80 of \"twin\" is at {twin}:{port}");
    assert!(second.stderr().contains(&note), "{second:?}");
    let status = world.run(&["status", "twin"]).expect(0).stdout();
    assert!(status.contains(&format!("ports         {twin}:{port} to 80\n")), "{status}");
    let ports = world.json(&["status", "twin", "--json"])["vm"]["endpoint"]["ports"].clone();
    assert_eq!(ports, json!([{"address": twin, "port": port, "guestPort": 80, "protocol": "tcp"}]));
    world.run(&["delete", "web", "twin", "--yes"]).expect(0);
    assert!(!is_reachable(&web, port) && !is_reachable(&twin, port) && !is_reachable("127.0.0.1", port));
}

#[test]
fn a_create_says_what_has_its_port_and_a_copy_gets_a_free_one() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let world = world_with(&format!("127.0.0.1:{port}:80"));
    let refused = world.run(&["create", "web", "--no-wait"]).expect(1);
    let holder = format!("port {port} on 127.0.0.1 is taken (vm.ports) by ");
    let process = format!(" (process {})", std::process::id());
    assert!(refused.stderr().contains(&holder) && refused.stderr().contains(&process), "{refused:?}");
    assert!(refused.stderr().contains("use another port on this side, such as \""), "{refused:?}");
    world.assert_empty("after a refused create");
    let made = world.run(&["create", "web", "--no-wait", "--as", "copy"]).expect(0);
    let port_of_copy =
        world.json(&["status", "copy", "--json"])["vm"]["endpoint"]["ports"][0]["port"].clone();
    let moved = u16::try_from(port_of_copy.as_u64().unwrap()).unwrap();
    assert_ne!(moved, port);
    assert!(is_reachable("127.0.0.1", moved));
    assert!(made.stderr().contains(&format!("port 80 of \"copy\" is at 127.0.0.1:{moved}")), "{made:?}");
    let status = world.run(&["status", "copy"]).expect(0).stdout();
    assert!(status.contains(&format!("127.0.0.1:{moved} to 80\n")), "{status}");
    // It is the copy's from now on.
    world.run(&["stop", "copy", "--force"]).expect(0);
    drop(taken);
    world.ssh_finds(r#"{"status":"done","errors":[]}"#);
    world.run(&["start", "copy"]).expect(0);
    assert!(is_reachable("127.0.0.1", moved));
    assert!(!is_reachable("127.0.0.1", port));
}

#[test]
fn conflicting_entries_are_refused_by_name() {
    let world = World::new();
    let config = HELLO.replace("}}", r#", "ports": ["8000-8010:80-90", "127.0.0.1:8005:99"]}}"#);
    world.stack("web", &config, "");
    for command in [&["create", "web"][..], &["config", "validate", "web"]] {
        let refused = world.run(command);
        let said = refused.stdout() + &refused.stderr();
        let conflict =
            "\"127.0.0.1:8005:99\" uses port 8005 of this computer, and so does \"8000-8010:80-90\"";
        assert!(!refused.0.status.success() && said.contains(conflict), "{refused:?}");
    }
}

#[test]
fn a_plan_says_which_port_is_open_to_the_network() {
    let world = world_with("0.0.0.0:8080:80/udp");
    let plan = world.json(&["create", "web", "--dry-run", "--json"]);
    let steps = plan["plan"]["steps"].to_string();
    assert!(steps.contains("forward 0.0.0.0:8080/udp, which is open to the network, to port 80"), "{steps}");
    let argv = plan["plan"]["qemu"]["argv"].to_string();
    assert!(argv.contains("hostfwd=udp:0.0.0.0:8080-:80"), "{argv}");
}
