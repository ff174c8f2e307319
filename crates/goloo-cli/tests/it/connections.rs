//! SSH connections that are kept for the next command.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::common::{Ran, World, goloo, wait_until};
use goloo_testkit::guest_root::{GuestImage, GuestRoot};
use goloo_testkit::test_cache;
use serde_json::{Value, json};

/// An `ssh` that logs its arguments. With -N it leaves a process that listens at the socket, until `-O exit`.
const SSH: &str = r#"#!/bin/bash
printf '%s\n' "$@" "---" >> "$HOME/ssh-calls"
for word do
    case $word in ControlPath=*) socket=${word#ControlPath=\"}; socket=${socket%\"} ;; esac
done
case " $* " in
*' -O exit '*) kill "$(cat "$socket.pid")"; rm "$socket.pid" ;;
*' -N '*) exec python3 -c '
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
pid = os.fork()
if pid:
    open(sys.argv[1] + ".pid", "w").write(str(pid))
    os._exit(0)
while True:
    listener.accept()
' "$socket" ;;
*) echo in ;;
esac
"#;

fn calls(world: &World) -> Vec<String> {
    let path = world.path().join("home/ssh-calls");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    text.split("---\n").filter(|call| !call.is_empty()).map(str::to_owned).collect()
}

fn is_connecting(call: &&String) -> bool {
    call.contains("\nControlMaster=yes\n")
}

#[test]
fn the_second_command_uses_the_connection_of_the_first() {
    let world = World::new();
    world.keep_connections();
    let config = r#"{"vm": {"image": "./disk.img", "users": [{"username": "tester"}]}}"#;
    world.stack("hello", config, "");
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.program("ssh", SSH);
    let exec = || world.run(&["exec", "hello", "--", "true"]).expect(0);
    exec();
    let first = calls(&world);
    assert_eq!(first.iter().filter(is_connecting).count(), 1, "{first:#?}");
    exec();
    world.program("scp", "#!/bin/sh\nprintf '%s\\n' \"$@\"\n");
    let copied = world.run(&["cp", "hello:/etc/motd", "."]).expect(0).stdout();
    let second = calls(&world);
    assert_eq!(second.iter().filter(is_connecting).count(), 0, "{second:#?}");
    let socket = |text: &str| text.lines().find(|line| line.starts_with("ControlPath=")).map(str::to_owned);
    let kept = socket(&first[0]).unwrap();
    for use_of_it in [&first[1], &second[0], &copied] {
        assert_eq!(socket(use_of_it).as_ref(), Some(&kept));
        assert!(use_of_it.contains("ControlMaster=no\n"), "{use_of_it}");
    }

    // What is forwarded ends with the session, and other commands can't use it.
    for options in [&["-A"][..], &["-L", "8080:localhost:80"], &["-R", "9090:localhost:90"]] {
        world.run(&[&["ssh"], options, &["hello", "true"]].concat()).expect(0);
        let own = calls(&world);
        assert!(own.len() == 1 && socket(&own[0]).is_none(), "{options:?}: {own:#?}");
    }
    world.run(&["ssh", "-t", "hello", "true"]).expect(0);
    assert!(calls(&world).iter().all(|call| socket(call).is_some()));

    // Another account has another connection. Both end with the machine.
    assert_eq!(world.kept_connections().len(), 2);
    world.run(&["stop", "hello", "--force"]).expect(0);
    assert_eq!(calls(&world).iter().filter(|call| call.contains("-O\nexit\n")).count(), 2);
    assert_eq!(world.kept_connections(), Vec::<PathBuf>::new());
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn without_a_private_folder_each_command_connects_itself() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.program("ssh", SSH);
    // The folder doesn't exist.
    assert_eq!(world.run(&["exec", "hello", "--", "true"]).expect(0).stdout(), "in\n");
    world.keep_connections();
    fs::create_dir(world.path().join("run/goloo")).unwrap();
    Command::new("chmod").arg("0770").arg(world.path().join("run/goloo")).status().unwrap();
    world.run(&["exec", "hello", "--", "true"]).expect(0);
    let made = calls(&world);
    assert!(made.len() == 2 && made.iter().all(|call| !call.contains("Control")), "{made:#?}");
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

/// goloo in the network of a guest that has sshd and the account "goloo", without a boot.
struct Guest {
    world: World,
    root: GuestRoot,
}

impl Guest {
    fn new() -> Self {
        // The machine itself is QEMU's stand-in: its SSH port is the one in the record.
        let world = World::new();
        world.keep_connections();
        world.run(&["create", "hello", "--no-wait"]).expect(0);
        let root = start_guest(&world);
        let path = world.state().join("active/hello/state.json");
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record["endpoint"]["sshPort"] = json!(22);
        record["ssh"]["hostKey"] = json!(root.file("/etc/ssh/goloo_test.pub").unwrap().trim());
        record["ssh"]["user"] = json!("goloo");
        fs::write(path, record.to_string()).unwrap();
        fs::remove_dir_all(world.state().join("keys/known_hosts.d")).unwrap();
        Self { world, root }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.root.in_network(goloo());
        self.world.settle(&mut command);
        Ran(command.args(arguments).output().unwrap())
    }

    fn handshakes(&self) -> usize {
        let log = self.root.file("/run/goloo-test.log").unwrap();
        log.lines().filter(|line| line.contains("Accepted publickey")).count()
    }
}

fn start_guest(world: &World) -> GuestRoot {
    let images = World::real().json(&["image", "list", "--json"]);
    let image =
        images["images"].as_array().unwrap().iter().find(|image| image["name"] == "debian-12").unwrap();
    let digest = image["sha256"].as_str().unwrap();
    let disk = test_cache::folder().join("images/store").join(format!("{digest}.img"));
    let image = GuestImage::extract(&test_cache::folder(), "debian-12", &disk, digest).unwrap();
    let root = GuestRoot::start(&image, std::time::Duration::from_secs(120)).unwrap();
    let key =
        Command::new("ssh-keygen").arg("-y").arg("-f").arg(world.state().join("keys/id_ed25519")).output();
    root.write("/home/goloo/.ssh/authorized_keys", &key.unwrap().stdout).unwrap();
    let set_up = "useradd -M -d /home/goloo -s /bin/bash -p '*' goloo && chown -R goloo: /home/goloo && \
                  ssh-keygen -q -t ed25519 -N '' -C '' -f /etc/ssh/goloo_test && mkdir -p /run/sshd && \
                  mkdir -p /opt/goloo && printf '#!/bin/sh\\nPATH=$PATH:/usr/lib/openssh\\nshift\\nexec \"$@\"\\n' > /opt/goloo/as && chmod 755 /opt/goloo/as && \
                  /usr/sbin/sshd -E /run/goloo-test.log -f /dev/null -h /etc/ssh/goloo_test \
                  -o AllowAgentForwarding=yes -o 'Subsystem=sftp internal-sftp'";
    let done = root.exec(&["sh", "-c", set_up]).unwrap();
    assert_eq!(done.status, Some(0), "{done:?}");
    root
}

#[test]
fn vm_commands_share_one_handshake_until_the_machine_is_stopped() {
    let guest = Guest::new();
    for _ in 0..3 {
        assert_eq!(guest.run(&["exec", "hello", "--", "echo", "a  b"]).expect(0).stdout(), "a  b\n");
    }
    guest.run(&["exec", "hello", "--", "sh", "-c", "exit 7"]).expect(7);
    assert_eq!(guest.run(&["ssh", "hello", "id -un"]).expect(0).stdout(), "goloo\n");
    fs::write(guest.world.path().join("work/file"), "carried").unwrap();
    guest.run(&["cp", "file", "hello:/tmp/file"]).expect(0);
    assert_eq!(guest.root.file("/tmp/file").as_deref(), Some("carried"));
    assert_eq!((guest.handshakes(), guest.world.kept_connections().len()), (1, 1));

    forwarding_has_a_connection_of_its_own(&guest);
    another_host_key_in_the_record_is_refused(&guest);

    // The process of the connection that was killed: the next command connects again.
    let socket = guest.world.kept_connections().remove(0);
    end_process_of(&socket);
    guest.run(&["exec", "hello", "--", "true"]).expect(0);
    assert_eq!(guest.handshakes(), 3);
    assert_eq!(guest.world.kept_connections(), std::slice::from_ref(&socket));

    guest.run(&["stop", "hello", "--force"]).expect(0);
    assert_eq!(guest.world.kept_connections(), Vec::<PathBuf>::new());
    wait_until("the connection has ended", || process_of(&socket).is_none());
    guest.run(&["delete", "hello", "--yes"]).expect(0);
}

fn forwarding_has_a_connection_of_its_own(guest: &Guest) {
    let agent = guest.world.path().join("agent");
    let mut process = Command::new("ssh-agent").arg("-D").arg("-a").arg(&agent).spawn().unwrap();
    wait_until("the agent listens", || agent.exists());
    let ask = "echo ${SSH_AUTH_SOCK:+forwarded}";
    let with_agent = |arguments: &[&str]| {
        let mut command = guest.root.in_network(goloo());
        guest.world.settle(&mut command);
        Ran(command.env("SSH_AUTH_SOCK", &agent).args(arguments).output().unwrap()).expect(0).stdout()
    };
    assert_eq!(with_agent(&["ssh", "-A", "hello", ask]), "forwarded\n");
    assert_eq!(with_agent(&["ssh", "hello", ask]), "\n");
    assert_eq!(guest.handshakes(), 2);
    process.kill().unwrap();
    process.wait().unwrap();
}

fn another_host_key_in_the_record_is_refused(guest: &Guest) {
    let path = guest.world.state().join("active/hello/state.json");
    let valid = fs::read_to_string(&path).unwrap();
    let mut record: Value = serde_json::from_str(&valid).unwrap();
    record["ssh"]["hostKey"] = json!(goloo_model::host_key::HostKey::generate().public_openssh.to_string());
    fs::write(&path, record.to_string()).unwrap();
    guest.run(&["exec", "hello", "--", "true"]).expect(255);
    fs::write(&path, valid).unwrap();
}

/// The `ssh` that keeps the connection of this socket.
fn process_of(socket: &std::path::Path) -> Option<i32> {
    let name = socket.file_name().unwrap().to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&name)
    })
}

fn end_process_of(socket: &std::path::Path) {
    let pid = rustix::process::Pid::from_raw(process_of(socket).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_until("it has ended", || process_of(socket).is_none());
}
