//! The switch as a process, with plain sockets as machines.
#![allow(clippy::unwrap_used)]

mod world;

use std::time::{Duration, Instant};

use world::{Switch, World, broadcast, frame};

#[test]
fn frames_reach_the_machine_that_they_are_for_and_broadcasts_all_others() {
    let world = World::new("shop");
    let [a, b, c] = [1, 2, 3].map(|last| world.machine(last));
    let switch = world.switch();
    a.send(&frame(1, 2, b"to b"));
    assert_eq!(b.receive(), Some(frame(1, 2, b"to b")));
    a.send(&broadcast(1, b"to all"));
    for other in [&b, &c] {
        assert_eq!(other.receive(), Some(broadcast(1, b"to all")), "nothing else came before");
    }
    assert!(a.is_silent(), "not back to the sender");
    drop(switch);
}

#[test]
fn a_killed_switch_is_replaced_without_its_machines_doing_anything() {
    let world = World::new("shop");
    let [a, b] = [1, 2].map(|last| world.machine(last));
    let mut switch = world.switch();
    a.send(&frame(1, 2, b"before"));
    assert_eq!(b.receive(), Some(frame(1, 2, b"before")));
    switch.kill();
    assert!(!world.folder.has_switch());
    assert!(a.try_send(&frame(1, 2, b"lost")).is_err());
    let _switch = world.switch();
    b.send(&frame(2, 1, b"again"));
    assert_eq!(a.receive(), Some(frame(2, 1, b"again")));
    a.send(&frame(1, 2, b"again"));
    assert_eq!(b.receive(), Some(frame(1, 2, b"again")));
}

#[test]
fn a_machine_that_starts_again_gets_its_frames() {
    let world = World::new("shop");
    let [a, b] = [1, 2].map(|last| world.machine(last));
    let _switch = world.switch();
    a.send(&frame(1, 2, b"first"));
    assert_eq!(b.receive(), Some(frame(1, 2, b"first")));
    drop(b);
    a.send(&frame(1, 2, b"early"));
    a.send(&broadcast(1, b"early"));
    let b = world.late_machine(2);
    b.send(&frame(2, 1, b"here"));
    assert_eq!(a.receive(), Some(frame(2, 1, b"here")));
    a.send(&frame(1, 2, b"second"));
    // A frame that the switch had not looked at may still arrive.
    assert!(std::iter::from_fn(|| b.receive()).any(|got| got == frame(1, 2, b"second")));
}

/// Nobody sends anything meanwhile, so that the switch can't notice by a failed frame. On most file systems the new
/// socket has the inode of the old one.
#[test]
fn a_machine_that_starts_again_unnoticed_is_heard() {
    let world = World::new("shop");
    let [a, mut b] = [1, 2].map(|last| world.machine(last));
    let _switch = world.switch();
    for _ in 0..10 {
        drop(b);
        b = world.late_machine(2);
        b.send(&frame(2, 1, b"here"));
        assert_eq!(a.receive(), Some(frame(2, 1, b"here")));
    }
}

/// goloo removes both sockets of a machine that is deleted. The switch may not have noticed when another one has its
/// address.
#[test]
fn a_machine_that_is_made_again_with_the_address_of_a_deleted_one_is_heard() {
    let world = World::new("shop");
    let [a, mut b] = [1, 2].map(|last| world.machine(last));
    let _switch = world.switch();
    for _ in 0..3 {
        drop(b);
        world.delete(2);
        b = world.late_machine(2);
        b.send(&frame(2, 1, b"here"));
        assert_eq!(a.receive(), Some(frame(2, 1, b"here")));
        a.send(&frame(1, 2, b"there"));
        assert_eq!(b.receive(), Some(frame(1, 2, b"there")));
    }
}

/// goloo tells the switch; this is for when it died before.
#[test]
fn a_machine_that_nobody_announced_is_found_after_a_while() {
    let world = World::new("shop");
    let a = world.machine(1);
    let _switch = world.switch();
    let b = world.machine(2);
    let begun = Instant::now();
    while b.try_send(&frame(2, 1, b"found")).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(a.receive(), Some(frame(2, 1, b"found")));
}

#[test]
fn of_two_switches_started_at_once_one_stays() {
    let world = World::new("shop");
    let [a, b] = [1, 2].map(|last| world.machine(last));
    let mut switches: Vec<_> = (0..4).map(|_| world.start_switch()).collect();
    let begun = Instant::now();
    while !world.folder.has_switch()
        || switches.iter_mut().map(Switch::is_running).filter(|running| *running).count() > 1
    {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    a.send(&frame(1, 2, b"one"));
    assert_eq!(b.receive(), Some(frame(1, 2, b"one")));
    assert!(b.is_silent(), "one switch, one frame");
}

#[test]
fn a_second_switch_ends_and_leaves_the_first_one_alone() {
    let world = World::new("shop");
    let [a, b] = [1, 2].map(|last| world.machine(last));
    let mut first = world.switch();
    world.start_switch().wait();
    a.send(&frame(1, 2, b"one"));
    assert_eq!(b.receive(), Some(frame(1, 2, b"one")));
    assert!(first.is_running());
}

#[test]
fn a_machine_that_does_not_read_delays_no_other() {
    let world = World::new("shop");
    let [a, stuck, c] = [1, 2, 3].map(|last| world.machine(last));
    let _switch = world.switch();
    let large = vec![7; 9000];
    for _ in 0..1000 {
        a.send(&frame(1, 2, &large));
    }
    for number in 0..100_u8 {
        a.send(&frame(1, 3, &[number]));
        assert_eq!(c.receive(), Some(frame(1, 3, &[number])));
    }
    let kept = std::iter::from_fn(|| stuck.receive()).count();
    assert!((50..500).contains(&kept), "{kept} of 1000: some are kept, and not all");
    a.send(&frame(1, 2, b"and on"));
    assert_eq!(stuck.receive(), Some(frame(1, 2, b"and on")));
}

#[test]
fn frames_that_were_kept_are_sent_when_the_machine_reads_again() {
    let world = World::new("shop");
    let [a, slow] = [1, 2].map(|last| world.machine(last));
    let _switch = world.switch();
    let sent: Vec<_> = (0..60_u8).map(|number| frame(1, 2, &[number])).collect();
    sent.iter().for_each(|frame| a.send(frame));
    let received: Vec<_> = std::iter::from_fn(|| slow.receive()).collect();
    assert_eq!(received, sent, "in their order");
}

#[test]
fn a_machine_cant_speak_for_another_one() {
    let world = World::new("shop");
    let [a, b, hostile] = [1, 2, 3].map(|last| world.machine(last));
    let _switch = world.switch();
    hostile.send(&frame(1, 2, b"as a"));
    let mut forged = frame(3, 2, b"with a's address");
    forged[26..30].copy_from_slice(&[10, 88, 3, 1]);
    hostile.send(&forged);
    let refused = hostile.send_as(&a, &frame(1, 2, b"through a's port")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    for bytes in [vec![], vec![0xff; 13], vec![0xff; 70_000]] {
        let _ = hostile.try_send(&bytes);
    }
    hostile.send(&frame(3, 2, b"as itself"));
    assert_eq!(b.receive(), Some(frame(3, 2, b"as itself")), "nothing else arrives");
    // The frames of a still reach it.
    b.send(&frame(2, 1, b"to a"));
    assert_eq!(a.receive(), Some(frame(2, 1, b"to a")));
    assert!(hostile.is_silent());
}

#[test]
fn two_environments_dont_hear_each_other() {
    let (shop, other) = World::two("shop", "lab");
    let (a, b) = (shop.machine(1), other.machine(2));
    let _switches = (shop.switch(), other.switch());
    a.send(&broadcast(1, b"in shop"));
    a.send(&frame(1, 2, b"in shop"));
    b.send(&broadcast(2, b"in lab"));
    assert!(b.is_silent() && a.is_silent());
}

#[test]
fn a_switch_ends_with_its_last_machine_and_not_while_goloo_looks_for_one() {
    let world = World::new("shop");
    let a = world.machine(1);
    let mut switch = world.switch();
    drop(a);
    let start_lock = world.start_lock();
    drop(world.machine(9));
    world.ask();
    // It stays, and looks for machines again.
    world.until_looked_for(9);
    let b = world.late_machine(2);
    assert!(switch.is_running(), "goloo is starting a machine");
    drop((b, start_lock));
    world.ask();
    switch.wait();
    assert!(!world.folder.path().join("switch").exists());
    let _next = world.switch();
}

#[test]
fn a_switch_ends_when_its_folder_is_removed() {
    let world = World::new("shop");
    let _a = world.machine(1);
    let mut switch = world.switch();
    world.folder.remove().unwrap();
    switch.wait();
    world.folder.remove().unwrap();
}

/// Frames of guests are untrusted input.
#[test]
fn a_switch_is_confined() {
    let world = World::new("shop");
    let _a = world.machine(1);
    let limits = world.switch().limits();
    let memory = limits.lines().find(|line| line.starts_with("Max address space")).unwrap();
    let words: Vec<&str> = memory.split_whitespace().collect();
    assert_eq!(words[3], (2_u64 << 30).to_string(), "{limits}");
}

#[test]
fn another_user_cant_send_frames() {
    let world = World::new("shop");
    let _a = world.machine(1);
    let _switch = world.switch();
    let socket = world.folder.path().join("switch");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let program = "import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).connect(sys.argv[1])";
    let connect = |user: &str| {
        let ids = [format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()];
        let mut command = std::process::Command::new("setpriv");
        command.args(ids).args(["/usr/bin/env", "python3", "-c", program]).arg(&socket);
        command.output().unwrap()
    };
    // The temporary folder above it is private too: the network's own folder is what is tested.
    world.open_parents();
    assert_eq!(world.mode(), 0o700);
    assert!(connect("0").status.success());
    let refused = connect("65534");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("PermissionError"), "{said}");
}
