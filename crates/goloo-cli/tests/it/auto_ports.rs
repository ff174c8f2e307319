//! Ports that are forwarded while the guest listens on them, through the real command. A script plays `ssh`, and so the
//! guest; it answers from a file.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::{HELLO, World, wait_until};

/// A guest that listens on nothing yet, of a user whose settings ask for automatic ports.
fn world() -> World {
    let world = World::new();
    world.run(&["settings", "set", "auto_ports", "true"]).expect(0);
    listens(&world, &[]);
    let (file, log) = (file(&world), connections(&world));
    let answer =
        format!("echo >> '{}'; while read -r _; do cat '{}'; echo .; done", log.display(), file.display());
    world.program(
        "ssh",
        &format!(
            "#!/bin/sh\nfor last; do :; done\ncase $last in\n  */proc/net/tcp*) {answer} ;;\n  *goloo:status*) echo '@goloo:status@'; echo '{{\"status\":\"done\",\"errors\":[]}}' ;;\nesac\n"
        ),
    );
    world
}

fn file(world: &World) -> PathBuf {
    world.path().join("listening")
}

/// Has a line for each connection.
fn connections(world: &World) -> PathBuf {
    world.path().join("connections")
}

/// The guest listens on these ports, at these addresses.
fn listens(world: &World, places: &[(Ipv4Addr, u16)]) {
    let line = |(address, port): &(Ipv4Addr, u16)| {
        let address = u32::from_ne_bytes(address.octets());
        format!(
            "   0: {address:08X}:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0\n"
        )
    };
    answers(world, places.iter().map(line).collect::<String>().as_bytes());
}

/// The guest answers this. The file is replaced, so that nobody reads a part of it.
fn answers(world: &World, answer: &[u8]) {
    let new = world.path().join("listening.new");
    fs::write(&new, answer).unwrap();
    fs::rename(new, file(world)).unwrap();
}

fn everywhere(port: u16) -> (Ipv4Addr, u16) {
    (Ipv4Addr::UNSPECIFIED, port)
}

/// A port that nothing listens on, at any address.
fn free_port() -> u16 {
    TcpListener::bind(everywhere(0)).unwrap().local_addr().unwrap().port()
}

fn status(world: &World) -> Value {
    world.json(&["status", "hello", "--json"])["automaticPorts"].clone()
}

fn forwarded(world: &World) -> Vec<u64> {
    let ports = status(world)["forwarded"].as_array().unwrap().clone();
    ports.iter().map(|port| port["port"].as_u64().unwrap()).collect()
}

fn address(world: &World) -> Ipv4Addr {
    let status = world.json(&["status", "hello", "--json"]);
    status["vm"]["endpoint"]["address"].as_str().unwrap().parse().unwrap()
}

/// Whether the stand-in for QEMU has the port.
fn greets(address: impl Into<IpAddr>, port: u16) -> bool {
    let mut greeting = [0; 4];
    let Ok(mut stream) = TcpStream::connect((address.into(), port)) else { return false };
    stream.read_exact(&mut greeting).is_ok() && &greeting == b"SSH-"
}

#[test]
fn a_port_is_forwarded_at_the_vm_s_own_address_while_the_guest_listens_on_it() {
    let world = world();
    let (port, local) = (free_port(), free_port());
    listens(&world, &[everywhere(22), everywhere(port), (Ipv4Addr::LOCALHOST, local)]);
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let own = address(&world);
    wait_until("the port is forwarded", || greets(own, port));
    let expected = json!([{"address": own, "port": port, "guestPort": port, "protocol": "tcp"}]);
    assert_eq!(status(&world), json!({"forwarded": expected, "refused": [], "followed": true}));
    assert!(!greets(Ipv4Addr::LOCALHOST, port), "127.0.0.1 is for configured ports");
    let text = world.run(&["status", "hello"]).expect(0).stdout();
    assert!(text.contains(&format!("auto ports    {own}:{port} to {port}\n")), "{text}");

    listens(&world, &[everywhere(22)]);
    wait_until("the port is no longer forwarded", || !greets(own, port));
    wait_until("status says so", || forwarded(&world).is_empty());
    assert!(world.run(&["status", "hello"]).expect(0).stdout().contains("auto ports    none\n"));

    listens(&world, &[everywhere(port)]);
    wait_until("it is forwarded again", || greets(own, port));
    world.run(&["restart", "hello", "--force"]).expect(0);
    wait_until("also after a restart", || greets(own, port));
    world.run(&["stop", "hello", "--force"]).expect(0);
    assert_eq!(status(&world), Value::Null);
    assert!(!greets(own, port));
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn status_says_what_is_not_forwarded_and_why_until_it_is() {
    let world = world();
    let taken = TcpListener::bind(everywhere(0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    listens(&world, &[everywhere(port)]);
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let own = address(&world);
    wait_until("it is refused", || status(&world)["refused"][0]["guestPort"] == port);
    let ports = status(&world);
    let reason = ports["refused"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with(&format!("{own}:{port} is taken by ")), "{ports}");
    assert!(reason.ends_with(&format!("(process {})", std::process::id())), "{ports}");
    let text = world.run(&["status", "hello"]).expect(0).stdout();
    assert!(text.contains(&format!("auto ports    {port} is not forwarded: {reason}\n")), "{text}");
    drop(taken);
    wait_until("it is forwarded", || greets(own, port));
    assert_eq!(status(&world)["refused"], json!([]));

    let supervisor = supervisor(&world);
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    wait_until("the supervisor has ended", || status(&world)["followed"] == false);
    assert_eq!(forwarded(&world), [u64::from(port)], "QEMU still forwards it");
    let text = world.run(&["status", "hello"]).expect(0).stdout();
    assert!(text.contains("not updated") && text.contains("`goloo restart hello`"), "{text}");
}

fn supervisor(world: &World) -> rustix::process::Pid {
    let machine = world.machines().remove(0).display().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let found = pids.find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("__supervise-qemu") && line.contains(&machine)
    });
    rustix::process::Pid::from_raw(found.unwrap()).unwrap()
}

#[test]
fn the_stack_decides_rather_than_the_settings() {
    let world = world();
    let port = free_port();
    listens(&world, &[everywhere(port)]);
    let stack = |name: &str, auto: bool| {
        world.stack(name, &HELLO.replace("}}", &format!(r#", "auto_ports": {auto}}}}}"#)), "");
        world.run(&["create", name, "--no-wait"]).expect(0);
        world.json(&["status", name, "--json"])
    };
    let without = stack("without", false);
    assert_eq!(
        (&without["automaticPorts"], &without["vm"]["resolved"]["autoPorts"]),
        (&Value::Null, &Value::Null)
    );
    world.run(&["settings", "set", "auto_ports", "false"]).expect(0);
    let with = stack("with", true);
    assert_eq!(with["vm"]["resolved"]["autoPorts"], true);
    let ports =
        || world.json(&["status", "with", "--json"])["automaticPorts"]["forwarded"][0]["port"].clone();
    wait_until("it is forwarded", || ports() == port);
    let plan = world.run(&["create", "with", "--as", "other", "--dry-run"]).expect(0).stdout();
    assert!(plan.contains("forward other TCP ports to the VM while it listens on them"), "{plan}");
}

#[test]
fn a_hostile_guest_gets_64_ports_of_its_own_address_and_nothing_else() {
    let world = world();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let own = address(&world);
    let ssh = world.json(&["status", "hello", "--json"])["vm"]["endpoint"]["sshPort"].as_u64().unwrap();
    let ssh = u16::try_from(ssh).unwrap();
    let first = 40_000;
    let mut places: Vec<_> = (first..first + 500).map(everywhere).collect();
    places.extend([everywhere(0), everywhere(22), everywhere(ssh)]);
    listens(&world, &places);
    let mut answer = b"\xff\xfe garbage: 0A\n   1: zz:zz 0:0 0A\n0 : : 0A 0 0 0 0 0 0\n".to_vec();
    answer.extend(fs::read(file(&world)).unwrap());
    answers(&world, &answer);
    wait_until("ports are forwarded", || forwarded(&world).len() == 64);
    let expected: Vec<u64> = (u64::from(first)..u64::from(first) + 64).collect();
    assert_eq!(forwarded(&world), expected);
    assert!(greets(own, first) && greets(own, ssh));
    let refused = || status(&world)["refused"].clone();
    // They are reported once the forwarded ones are.
    wait_until("the others are refused", || refused().as_array().is_some_and(|refused| !refused.is_empty()));
    let refused = refused();
    assert_eq!(refused.as_array().unwrap().len(), 64, "a bounded report");
    assert!(refused.to_string().contains("64 ports are forwarded already"), "{refused}");

    // An answer that is too long ends the connection and changes nothing; the next one counts.
    assert_eq!(fs::read_to_string(connections(&world)).unwrap(), "\n");
    answers(&world, &vec![b'x'; 1 << 20]);
    wait_until("goloo connects again", || fs::read_to_string(connections(&world)).unwrap().len() > 1);
    assert_eq!(forwarded(&world), expected);
    listens(&world, &[]);
    wait_until("nothing is forwarded", || forwarded(&world).is_empty());
    assert!(greets(own, ssh));
}
