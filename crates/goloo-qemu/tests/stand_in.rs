//! The provider against the QEMU stand-in: everything except a guest.
#![allow(clippy::unwrap_used)]

mod common;
mod private_network;
mod virtiofs;

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::{SuiteWork, endpoint, kill, machine, processes_of, record, supervisors_of, until};
use goloo_images::{Arch, Cache};
use goloo_model::automatic_ports::AutomaticPorts;
use goloo_model::check::{Check, CheckLevel};
use goloo_model::provider::{LiveState, Machine, Provider, ProviderError, StopMode};
use goloo_model::record::{Endpoint, Record};
use goloo_model::spec::{ImageRef, Mount, Size};
use goloo_qemu::accel::Accel;
use goloo_qemu::{Limits, QemuProvider, Settings, VirtiofsdChoice};
use goloo_sys::lock::LockTimeouts;
use goloo_testkit::programs::qemu_stand_in;
use goloo_testkit::provider_suite::Bench;
use goloo_testkit::samples::forwards;
use rustix::fs::{FlockOperation, flock};

const SOON: Duration = Duration::from_secs(20);

/// A state folder, a cache and an image, all of its own.
struct World {
    folder: tempfile::TempDir,
    state: PathBuf,
    image: PathBuf,
    faults: &'static str,
    accel: Option<Accel>,
    virtiofsd: VirtiofsdChoice,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image.qcow2");
        let made =
            Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("1G").status();
        assert!(made.unwrap().success());
        let state = folder.path().join("state");
        let (accel, virtiofsd) = (Some(Accel::Tcg), VirtiofsdChoice::Off);
        Self { state, image, folder, faults: "", accel, virtiofsd }
    }

    fn with(faults: &'static str) -> Self {
        let mut world = Self::new();
        world.faults = faults;
        world
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::new(&self.state, Cache::new(self.folder.path().join("images")));
        settings.supervisor = Some(common::supervisor());
        settings.accel = self.accel;
        settings.virtiofsd = self.virtiofsd.clone();
        settings.limits = Limits {
            power_down: Duration::from_millis(300),
            ask_again: Duration::from_millis(100),
            answer: Duration::from_millis(500),
            launch: Duration::from_secs(5),
            proof: Duration::from_millis(500),
            lock: LockTimeouts { notice: Duration::from_millis(300), limit: Duration::from_secs(1) },
            ..Limits::default()
        };
        settings.qemu = Some(self.program().into());
        settings
    }

    /// The stand-in, in a wrapper that configures its faults: a test can't set its own environment.
    fn program(&self) -> PathBuf {
        if self.faults.is_empty() { qemu_stand_in() } else { self.wrapper("qemu", &qemu_stand_in()) }
    }

    fn wrapper(&self, name: &str, program: &Path) -> PathBuf {
        let wrapper = self.folder.path().join(name);
        if !wrapper.exists() {
            let line =
                format!("#!/bin/sh\nGOLOO_STAND_IN={} exec '{}' \"$@\"\n", self.faults, program.display());
            std::fs::write(&wrapper, line).unwrap();
            std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        wrapper
    }

    fn qemu(&self) -> QemuProvider {
        QemuProvider::new(self.settings())
    }

    fn vms(&self) -> Vec<PathBuf> {
        match std::fs::read_dir(self.state.join("vms")) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        }
    }

    async fn create(&self, name: &str) -> (Machine, Record, u16) {
        let machine = self.machine(name);
        let made = endpoint(self.qemu().create(&machine, &mut SuiteWork::default()).await.unwrap());
        let record = record(&machine);
        (machine, record, made.ssh_port.unwrap())
    }

    async fn fails(&self, machine: &Machine) -> ProviderError {
        let mut work = SuiteWork::default();
        let error = self.qemu().create(machine, &mut work).await.unwrap_err();
        assert_eq!(work.made, [], "nothing was made");
        assert!(self.vms().is_empty());
        error
    }

    fn argv(&self) -> Vec<String> {
        let pid = processes_of(&self.state).remove(0);
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        line.split('\0').map(str::to_owned).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        kill(&processes_of(&self.state));
        kill(&common::switches_of(&self.state));
        kill(&common::shares_of(&self.state));
    }
}

#[async_trait]
impl Bench for World {
    fn provider(&self) -> Box<dyn Provider> {
        Box::new(self.qemu())
    }

    fn machine(&self, name: &str) -> Machine {
        machine(name, ImageRef::Path(self.image.clone()), b"#cloud-config\n")
    }

    async fn ledger(&self) -> Vec<String> {
        self.vms().iter().map(|path| path.display().to_string()).collect()
    }

    async fn running(&self) -> usize {
        processes_of(&self.state).len()
    }

    async fn crash(&self, record: &Record) {
        let folder = self.state.join("vms").join(record.id.as_str());
        let processes = processes_of(&folder);
        assert_eq!(processes.len(), 1);
        kill(&processes);
    }

    async fn scribble(&self, record: &Record, content: u8) -> bool {
        qemu_io(&self.disk(record), &format!("write -P {content} 0 128k"));
        true
    }

    async fn scribbled(&self, record: &Record) -> u8 {
        let first = qemu_io(&self.disk(record), "read -v 0 1");
        u8::from_str_radix(first.split_whitespace().nth(1).unwrap(), 16).unwrap()
    }
}

impl World {
    fn disk(&self, record: &Record) -> PathBuf {
        self.state.join("vms").join(record.id.as_str()).join("disk.qcow2")
    }
}

/// Runs one `qemu-io` command on a disk and returns its output.
fn qemu_io(disk: &Path, command: &str) -> String {
    let output = Command::new("qemu-io").args(["-f", "qcow2", "-c", command]).arg(disk).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

goloo_testkit::provider_suite!(World::new);

fn text(error: &ProviderError) -> String {
    let hint = match error {
        ProviderError::Unavailable { hint, .. }
        | ProviderError::Unsupported { hint, .. }
        | ProviderError::Permission { hint, .. }
        | ProviderError::Failed { hint, .. } => hint.debug_text(),
        _ => String::new(),
    };
    format!("{error}\nhint: {hint}")
}

#[tokio::test]
async fn usage_is_that_of_the_running_qemu_and_of_the_disk() {
    let world = World::new();
    let (_, record, _) = world.create("used").await;
    let qemu = world.qemu();
    let usage = async || qemu.usage().unwrap().machines(&[&record]).await.remove(0);
    let running = usage().await;
    let cpu = running.cpu.unwrap();
    assert_eq!(cpu.process.0, processes_of(&world.state)[0]);
    assert!(running.memory.unwrap() > 100 << 10, "{running:?}");
    qemu_io_unlocked(&world.disk(&record));
    let later = usage().await;
    assert!(later.disk.unwrap() >= running.disk.unwrap() + (1 << 20), "{running:?} {later:?}");
    assert!(later.cpu.unwrap().cpus_since(&cpu).is_some());
    qemu.stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    let pid_file = world.state.join("vms").join(record.id.as_str()).join("qemu.pid");
    std::fs::write(pid_file, std::process::id().to_string()).unwrap();
    let stopped = usage().await;
    assert_eq!((stopped.cpu, stopped.memory), (None, None), "another process has the id of the QEMU");
    assert_eq!(stopped.disk, later.disk);
}

/// Allocates 1 MiB more of the disk that the stand-in has locked.
fn qemu_io_unlocked(disk: &Path) {
    use std::os::unix::fs::FileExt;
    let disk = std::fs::File::options().write(true).open(disk).unwrap();
    disk.write_all_at(&[1; 1 << 20], 8 << 20).unwrap();
    disk.sync_all().unwrap();
}

#[tokio::test]
async fn the_folder_of_a_machine_is_accessible_only_to_its_owner() {
    let world = World::new();
    world.create("private").await;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let folder = world.vms().remove(0);
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("seed.img")), 0o600, "user-data holds secrets");
    assert_eq!(mode(&folder.join("machine.json")), 0o600);
}

#[tokio::test]
async fn qemu_is_detached_and_inherits_no_descriptors() {
    let world = World::new();
    let (_, record, _) = world.create("alone").await;
    let pid = processes_of(&world.state).remove(0);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session: u32 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert_eq!(session, supervisors_of(&world.state)[0], "a session of its own, with its supervisor");
    let images = world.folder.path().join("images");
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert!(!target.starts_with(&images), "{} is open", target.display());
        assert_ne!(target, world.state.join("vms.lock"), "the lock is inherited");
    }
    world.qemu().delete(&record, &mut SuiteWork::default()).await.unwrap();
}

#[tokio::test]
async fn a_deeply_nested_state_folder_works() {
    let mut world = World::new();
    world.state = world.folder.path().join("deep, with a comma/".repeat(8)).join("state");
    let (_, record, _) = world.create("deep").await;
    assert_eq!(world.qemu().observe(&[&record]).await[0].state, LiveState::Running);
    world.qemu().stop(&record, StopMode::Graceful, &mut SuiteWork::default()).await.unwrap();
    world.qemu().delete(&record, &mut SuiteWork::default()).await.unwrap();
    assert!(world.vms().is_empty());
}

#[tokio::test]
async fn the_ssh_port_is_kept_unless_another_process_uses_it() {
    let world = World::new();
    let (_, record, port) = world.create("port").await;
    let stop = async || world.qemu().stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    let start = async || {
        endpoint(world.qemu().start(&record, &mut SuiteWork::default()).await.unwrap()).ssh_port.unwrap()
    };
    stop().await;
    let (_, _, other) = world.create("other").await;
    assert_ne!(other, port, "a stopped machine keeps its port");
    assert_eq!(start().await, port);
    stop().await;
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let second = start().await;
    assert_ne!(second, port);
    stop().await;
    drop(taken);
    assert_eq!(start().await, second, "the new port is the machine's from now on");
}

#[tokio::test]
async fn the_port_of_a_stopped_machine_stays_reserved() {
    let world = World::new();
    let (machine, second, port) = world.create("second").await;
    world.qemu().delete(&second, &mut SuiteWork::default()).await.unwrap();
    let (_, first, _) = world.create("first").await;
    world.qemu().stop(&first, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    let note = world.vms().remove(0).join("machine.json");
    let mut noted: serde_json::Value = serde_json::from_slice(&std::fs::read(&note).unwrap()).unwrap();
    noted["sshPort"] = port.into();
    std::fs::write(&note, noted.to_string()).unwrap();
    // The same machine would get the same port again.
    let again = endpoint(world.qemu().create(&machine, &mut SuiteWork::default()).await.unwrap());
    assert_ne!(again.ssh_port.unwrap(), port);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_creates_never_conflict() {
    let world = std::sync::Arc::new(World::new());
    let tasks: Vec<_> = (0..12)
        .map(|number| {
            let world = std::sync::Arc::clone(&world);
            tokio::spawn(async move { world.create(&format!("vm-{number}")).await.2 })
        })
        .collect();
    let mut ports = std::collections::BTreeSet::new();
    for task in tasks {
        ports.insert(task.await.unwrap());
    }
    assert_eq!(ports.len(), 12);
    assert_eq!(processes_of(&world.state).len(), 12);
}

/// A port that nothing listens on, at any address.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// Waits for the stand-in's greeting: others may be listening there.
fn greets(address: IpAddr, port: u16) -> bool {
    let mut greeting = [0; 4];
    let Ok(mut stream) = std::net::TcpStream::connect((address, port)) else { return false };
    std::io::Read::read_exact(&mut stream, &mut greeting).is_ok() && &greeting == b"SSH-"
}

/// The ports of an endpoint: `127.0.0.1:8080-80`, with the machine's own address as `own`.
fn forwarded(endpoint: &Endpoint) -> Vec<String> {
    let own = endpoint.address.as_ref().unwrap();
    let place = |at: IpAddr| if at.to_string() == own.as_str() { "own".to_owned() } else { at.to_string() };
    endpoint
        .ports
        .iter()
        .map(|port| {
            format!("{}:{}-{}{}", place(port.address), port.port, port.guest_port, port.protocol.suffix())
        })
        .collect()
}

impl World {
    fn with_ports(&self, name: &str, ports: &[String]) -> Machine {
        let mut machine = self.machine(name);
        machine.stack.ports = forwards(&ports.iter().map(String::as_str).collect::<Vec<_>>());
        machine
    }

    async fn create_machine(&self, machine: &Machine) -> (Endpoint, Vec<String>) {
        let mut work = SuiteWork::default();
        let made = self.qemu().create(machine, &mut work).await.unwrap();
        (endpoint(made), work.said())
    }
}

fn address_of(endpoint: &Endpoint) -> IpAddr {
    endpoint.address.as_ref().unwrap().as_str().parse().unwrap()
}

#[tokio::test]
async fn machines_have_addresses_of_their_own_and_may_have_the_same_ports() {
    let world = World::new();
    let port = free_port();
    let (one, two) =
        (world.with_ports("one", &[format!("{port}:80")]), world.with_ports("two", &[format!("{port}:80")]));
    let (first, said) = world.create_machine(&one).await;
    assert_eq!(said, [""; 0]);
    assert_eq!(forwarded(&first), [format!("own:{port}-80"), format!("127.0.0.1:{port}-80")]);
    let (second, said) = world.create_machine(&two).await;
    assert_eq!(forwarded(&second), [format!("own:{port}-80")]);
    let (a, b) = (address_of(&first), address_of(&second));
    assert_eq!(
        said,
        [format!("127.0.0.1:{port} belongs to the VM \"one\"; port 80 of \"two\" is at {b}:{port}")]
    );
    assert!(a != b && a.is_loopback() && b.is_loopback());
    for (address, port) in [(a, port), (b, port), (a, first.ssh_port.unwrap()), (b, second.ssh_port.unwrap())]
    {
        assert!(greets(address, port), "{address}:{port}");
    }
    let records = [record(&one), record(&two)];
    let seen = world.qemu().observe(&[&records[0], &records[1]]).await;
    assert_eq!(
        seen.iter().map(|seen| seen.ip.clone().unwrap()).collect::<Vec<_>>(),
        [a, b].map(|ip| ip.to_string())
    );
    // A running machine says the same again, and a stopped one keeps its address.
    assert_eq!(endpoint(world.qemu().start(&records[1], &mut SuiteWork::default()).await.unwrap()), second);
    world.qemu().stop(&records[0], StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    let (third, _) = world.create_machine(&world.with_ports("three", &[format!("{port}:80")])).await;
    assert_eq!(forwarded(&third), [format!("own:{port}-80")], "127.0.0.1 stays reserved for the first");
    assert_eq!(endpoint(world.qemu().start(&records[0], &mut SuiteWork::default()).await.unwrap()), first);
}

#[tokio::test]
async fn ranges_udp_and_addresses_are_forwarded() {
    let world = World::new();
    let port = free_port();
    let machine = world.with_ports(
        "one",
        &[format!("127.9.8.7:{port}-{}:80-82", port + 2), format!("127.9.8.6:{port}:53/udp")],
    );
    let (made, _) = world.create_machine(&machine).await;
    assert_eq!(
        forwarded(&made),
        [
            format!("127.9.8.7:{port}-80"),
            format!("127.9.8.7:{}-81", port + 1),
            format!("127.9.8.7:{}-82", port + 2),
            format!("127.9.8.6:{port}-53/udp"),
        ]
    );
    assert!(greets([127, 9, 8, 7].into(), port + 2));
    assert!(std::net::UdpSocket::bind(("127.9.8.6", port)).is_err(), "nothing listens for UDP");
}

#[tokio::test]
async fn a_port_in_use_is_an_error_before_anything_is_created() {
    let world = World::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let machine = world.with_ports("taken", &[format!("127.0.0.1:{port}:80")]);
    let error = world.fails(&machine).await;
    let this = format!("port {port} on 127.0.0.1 is taken (vm.ports) by ");
    let process = format!(" (process {})", std::process::id());
    assert!(text(&error).contains(&this) && text(&error).contains(&process), "{}", text(&error));
    let suggested = text(&error).split("such as \"").nth(1).unwrap().split(':').next().unwrap().to_owned();
    TcpListener::bind((Ipv4Addr::LOCALHOST, suggested.parse::<u16>().unwrap())).unwrap();
    drop(taken);
    world.qemu().create(&machine, &mut SuiteWork::default()).await.unwrap();
    assert!(greets(Ipv4Addr::LOCALHOST.into(), port));
    let other = world.with_ports("other", &[format!("127.0.0.1:{port}:80")]);
    let error = world.qemu().create(&other, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("by the VM \"taken\""), "{}", text(&error));
}

#[tokio::test]
async fn an_address_that_this_computer_lacks_is_an_error_before_anything_is_created() {
    let world = World::new();
    let error = world.fails(&world.with_ports("one", &["192.0.2.1:8080:80".to_owned()])).await;
    assert!(text(&error).contains("doesn't have the address 192.0.2.1 (vm.ports)"), "{}", text(&error));
}

#[tokio::test]
async fn a_copy_of_a_stack_gets_a_free_port_for_one_that_is_taken() {
    let world = World::new();
    let port = free_port();
    let ports = [format!("127.0.0.1:{port}:80")];
    let first = world.with_ports("first", &ports);
    world.create_machine(&first).await;
    // Even that of a stopped machine, which must be able to start again.
    for is_running in [true, false] {
        if !is_running {
            let record = record(&first);
            world.qemu().stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
        }
        let mut copy = world.with_ports("copy", &ports);
        copy.stack.is_copy = true;
        let (made, said) = world.create_machine(&copy).await;
        let moved = made.ports[0].port;
        assert_ne!(moved, port);
        assert!(greets(Ipv4Addr::LOCALHOST.into(), moved));
        let note = format!(
            "127.0.0.1:{port} belongs to the VM \"first\"; port 80 of \"copy\" is at 127.0.0.1:{moved}"
        );
        assert_eq!(said, [note]);
    }
    world.qemu().start(&record(&first), &mut SuiteWork::default()).await.unwrap();
}

#[tokio::test]
async fn a_port_that_another_program_binds_before_qemu_is_replaced_only_for_a_copy() {
    let world = World::with("loses-race");
    let port = free_port();
    let ports = [format!("127.0.0.1:{port}:80")];
    let error = world.qemu().create(&world.with_ports("plain", &ports), &mut SuiteWork::default()).await;
    assert!(text(&error.unwrap_err()).contains(&format!("port {port} on 127.0.0.1 is taken")));
    let mut copy = world.with_ports("copy", &[format!("127.0.0.2:{port}:80")]);
    copy.stack.is_copy = true;
    let (made, said) = world.create_machine(&copy).await;
    let moved = made.ports[0].port;
    assert!(moved != port && greets([127, 0, 0, 2].into(), moved));
    assert!(said[0].ends_with(&format!("port 80 of \"copy\" is at 127.0.0.2:{moved}")), "{said:?}");
    // The last forward is the one at 127.0.0.1, which the machine can do without.
    let port = free_port();
    let (made, said) = world.create_machine(&world.with_ports("own", &[format!("{port}:80")])).await;
    assert_eq!(forwarded(&made), [format!("own:{port}-80")]);
    assert_eq!(said.len(), 1, "{said:?}");
}

#[tokio::test]
async fn a_forward_at_127_0_0_1_is_left_out_of_a_start_where_it_is_taken() {
    let world = World::new();
    let port = free_port();
    let machine = world.with_ports("one", &[format!("{port}:80")]);
    let (made, _) = world.create_machine(&machine).await;
    let record = record(&machine);
    let stop = async || world.qemu().stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    stop().await;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut work = SuiteWork::default();
    let started = endpoint(world.qemu().start(&record, &mut work).await.unwrap());
    assert_eq!(forwarded(&started), [format!("own:{port}-80")]);
    let said = work.said().concat();
    assert!(said.contains(&format!("127.0.0.1:{port} belongs to ")) && said.contains("(process "), "{said}");
    stop().await;
    drop(taken);
    assert_eq!(endpoint(world.qemu().start(&record, &mut SuiteWork::default()).await.unwrap()), made);
}

#[tokio::test]
async fn a_system_without_other_loopback_addresses_uses_127_0_0_1_and_says_so() {
    let world = World::new();
    let without = || {
        let mut settings = world.settings();
        settings.has_address = |_| false;
        QemuProvider::new(settings)
    };
    let port = free_port();
    let first = world.with_ports("first", &[format!("{port}:80")]);
    let mut work = SuiteWork::default();
    let made = endpoint(without().create(&first, &mut work).await.unwrap());
    assert_eq!(address_of(&made), Ipv4Addr::LOCALHOST);
    assert_eq!(forwarded(&made), [format!("own:{port}-80")]);
    assert!(work.said()[0].contains("no loopback addresses besides 127.0.0.1"), "{:?}", work.said());
    let mut copy = world.with_ports("copy", &[format!("{port}:80")]);
    let error = without().create(&copy, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("by the VM \"first\""), "{}", text(&error));
    copy.stack.is_copy = true;
    let copied = endpoint(without().create(&copy, &mut SuiteWork::default()).await.unwrap());
    assert!(copied.ports[0].port != port && greets(Ipv4Addr::LOCALHOST.into(), copied.ports[0].port));
}

#[tokio::test]
async fn of_two_guests_at_127_0_0_1_the_first_gets_an_automatic_port() {
    let world = World::new();
    let mut settings = world.settings();
    settings.has_address = |_| false;
    let qemu = QemuProvider::new(settings);
    let (port, reserved) = (free_port(), free_port());
    let stopped = world.with_ports("stopped", &[format!("{reserved}:80")]);
    qemu.create(&stopped, &mut SuiteWork::default()).await.unwrap();
    qemu.stop(&record(&stopped), StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    let line = |port: u16| {
        format!("0: 00000000:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1 0")
    };
    let script =
        format!("while read -r _; do echo '{}'; echo '{}'; echo .; done\n", line(port), line(reserved));
    std::fs::write(world.state.join("guest.sh"), script).unwrap();
    let ports = async |machine: &Machine| qemu.automatic_ports(&record(machine)).await.unwrap();
    let create = async |name: &str| {
        let mut machine = world.machine(name);
        machine.stack.auto_ports = true;
        qemu.create(&machine, &mut SuiteWork::default()).await.unwrap();
        let settled = format!("the ports of {name} are settled");
        until(&settled, SOON, async || !ports(&machine).await.refused.is_empty()).await;
        ports(&machine).await
    };
    let reason = |ports: &AutomaticPorts, port: u16| {
        let refused = ports.refused.iter().find(|refused| refused.guest_port == port);
        refused.map(|refused| refused.reason.clone()).unwrap_or_default()
    };
    let first = create("first").await;
    let [forwarded] = first.forwarded[..] else { panic!("{first:?}") };
    assert_eq!((forwarded.address, forwarded.port), (Ipv4Addr::LOCALHOST.into(), port));
    assert_eq!(reason(&first, reserved), format!("127.0.0.1:{reserved} is taken by the VM \"stopped\""));
    let second = create("second").await;
    assert_eq!((&second.forwarded[..], second.refused.len()), (&[][..], 2));
    assert!(reason(&second, port).starts_with(&format!("127.0.0.1:{port} is taken by ")), "{second:?}");
}

#[tokio::test]
async fn a_machine_of_an_earlier_version_keeps_127_0_0_1() {
    let world = World::new();
    let port = free_port();
    let machine = world.with_ports("old", &[format!("{port}:80")]);
    world.create_machine(&machine).await;
    let record = record(&machine);
    world.qemu().stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    let file = world.vms().remove(0).join("machine.json");
    let mut noted: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    noted.as_object_mut().unwrap().remove("address");
    noted["ports"] = serde_json::json!([{"host": port, "guest": 80}]);
    std::fs::write(&file, noted.to_string()).unwrap();
    let made = endpoint(world.qemu().start(&record, &mut SuiteWork::default()).await.unwrap());
    assert_eq!(address_of(&made), Ipv4Addr::LOCALHOST);
    assert_eq!(forwarded(&made), [format!("own:{port}-80")]);
    let ip = world.qemu().observe(&[&record]).await.remove(0).ip;
    assert_eq!(ip.as_deref(), Some("127.0.0.1"));
}

#[tokio::test]
async fn a_clone_has_the_ports_of_its_source_at_an_address_of_its_own() {
    let world = World::new();
    let (port, fixed) = (free_port(), free_port());
    let machine = world.with_ports("source", &[format!("{port}:80"), format!("127.0.0.1:{fixed}:81")]);
    let (qemu, source) = (world.qemu(), record(&machine));
    let (of_source, _) = world.create_machine(&machine).await;
    qemu.stop(&source, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    let (copy, mut work) = (record(&world.machine("copy")), SuiteWork::default());
    qemu.clones().unwrap().clone_machine(&source, &copy, &mut work).await.unwrap();
    let started = async |record| endpoint(qemu.start(record, &mut SuiteWork::default()).await.unwrap());
    assert_eq!(started(&source).await, of_source);
    let copied = started(&copy).await;
    let moved = copied.ports[1].port;
    assert_ne!(moved, fixed);
    assert_eq!(forwarded(&copied), [format!("own:{port}-80"), format!("127.0.0.1:{moved}-81")]);
    let note = format!(
        "127.0.0.1:{fixed} belongs to the VM \"source\"; port 81 of \"copy\" is at 127.0.0.1:{moved}"
    );
    assert_eq!(work.said(), [note]);
    assert!(greets(address_of(&copied), port) && greets(Ipv4Addr::LOCALHOST.into(), moved));
    assert_ne!(address_of(&copied), address_of(&of_source));
}

#[tokio::test]
async fn a_copy_keeps_the_cached_image_that_its_source_uses() {
    let world = World::new();
    let (_, source, _) = world.create("source").await;
    let qemu = world.qemu();
    qemu.stop(&source, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    // Simulates a cache on another file system.
    let folder = world.vms().remove(0);
    std::fs::remove_file(folder.join("base.img")).unwrap();
    let cache = Cache::new(world.folder.path().join("images"));
    let image = cache.ensure(&ImageRef::Path(world.image.clone()), None, &goloo_images::Unwatched);
    cache.hold(&image.unwrap(), &folder).unwrap();
    let copy = record(&world.machine("copy"));
    qemu.clones().unwrap().clone_machine(&source, &copy, &mut SuiteWork::default()).await.unwrap();
    qemu.delete(&source, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(cache.prune(&world.state.join("vms")).unwrap().files, 0, "the copy's image went");
}

#[tokio::test]
async fn a_missing_mount_source_is_an_error_before_anything_is_created() {
    let world = World::new();
    let mut machine = world.machine("mount");
    machine.stack.mounts =
        vec![Mount { source: "/no/such/folder".into(), target: "/mnt".to_owned(), readonly: false }];
    let error = world.fails(&machine).await;
    assert!(text(&error).contains("/no/such/folder"), "{error}");
}

#[tokio::test]
async fn a_disk_smaller_than_its_image_is_an_error_before_anything_is_created() {
    let world = World::new();
    let mut machine = world.machine("small");
    machine.stack.disk = Size::bytes(512 << 20);
    let error = text(&world.fails(&machine).await);
    assert_eq!(
        error,
        "vm.disk is 512M, but the image the test image has a disk of 1G\nhint: write \"disk\": \"1G\" or more"
    );
}

/// Other blocks of the same 64 KiB stay in use.
#[tokio::test]
async fn a_block_that_the_guest_of_a_machine_for_baking_discards_leaves_the_disk() {
    let world = World::new();
    for (name, is_for_baking, left) in [("plain", false, "07"), ("baked", true, "00")] {
        let machine = Machine { is_for_baking, ..world.machine(name) };
        world.create_machine(&machine).await;
        let record = record(&machine);
        world.qemu().stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
        let disk = world.disk(&record);
        qemu_io(&disk, "write -P 7 0 64k");
        let mut discard = Command::new("qemu-io");
        discard.args(["-d", "unmap", "-f", "qcow2", "-c", "discard 4k 4k"]).arg(&disk);
        assert!(discard.output().unwrap().status.success());
        let read = qemu_io(&disk, "read -v 4k 1");
        assert!(read.starts_with(&format!("00001000:  {left}")), "{name}: {read}");
        assert!(qemu_io(&disk, "read -v 8k 1").starts_with("00002000:  07"), "{name}");
    }
}

#[tokio::test]
async fn a_missing_qemu_is_an_error_before_anything_is_created() {
    let world = World::new();
    let mut settings = world.settings();
    settings.qemu = Some("no-such-qemu".into());
    let mut work = SuiteWork::default();
    let error = QemuProvider::new(settings).create(&world.machine("none"), &mut work).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable { .. }), "{error}");
    assert_eq!(work.made, []);
}

#[tokio::test]
async fn a_qemu_that_exits_early_is_reported_with_its_reason() {
    let world = World::with("dies");
    let machine = world.machine("dies");
    let error = world.qemu().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("failed to set MSR"), "{error}");
    assert!(!text(&error).contains("qemu.log"), "a create that fails takes it away: {}", text(&error));
    world.qemu().delete(&record(&machine), &mut SuiteWork::default()).await.unwrap();
    assert!(world.vms().is_empty());
}

#[tokio::test]
async fn a_qemu_that_never_becomes_ready_times_out_and_is_removed() {
    let world = World::with("hangs");
    let machine = world.machine("hangs");
    let mut settings = world.settings();
    settings.limits.launch = Duration::from_millis(300);
    let provider = QemuProvider::new(settings);
    let error = provider.create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("wasn't ready within"), "{error}");
    provider.delete(&record(&machine), &mut SuiteWork::default()).await.unwrap();
    assert_eq!(processes_of(&world.state), [0; 0]);
    assert!(world.vms().is_empty());
}

#[tokio::test]
async fn a_guest_that_ignores_power_down_is_forced_off_with_a_notice() {
    let world = World::with("ignores-power-down");
    let (_, record, _) = world.create("deaf").await;
    let mut work = SuiteWork::default();
    world.qemu().stop(&record, StopMode::Graceful, &mut work).await.unwrap();
    assert_eq!(work.said(), ["the guest hasn't powered off within 0 s; forcing power off"]);
    assert_eq!(world.qemu().observe(&[&record]).await[0].state, LiveState::Stopped);
    assert_eq!(processes_of(&world.state), [0; 0]);
}

#[tokio::test]
async fn a_power_down_can_be_interrupted() {
    let world = World::with("ignores-power-down");
    let (_, record, _) = world.create("deaf").await;
    let mut settings = world.settings();
    settings.limits.power_down = Duration::from_secs(600);
    let mut work = SuiteWork::default();
    work.stopper().send_replace(true);
    let error = QemuProvider::new(settings).stop(&record, StopMode::Graceful, &mut work).await.unwrap_err();
    assert!(matches!(error, ProviderError::Interrupted), "{error}");
    assert_eq!(world.qemu().observe(&[&record]).await[0].state, LiveState::Running);
}

#[tokio::test]
async fn an_unresponsive_qemu_is_unknown_and_does_not_block() {
    for faults in ["silent", "garbage", "closes"] {
        let world = World::with(faults);
        let (machine, first, _) = world.create("silent").await;
        let others: Vec<Record> = (0..20).map(|_| first.clone()).collect();
        let begun = Instant::now();
        let seen = world.qemu().observe(&others.iter().collect::<Vec<_>>()).await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{faults}: {:?}", begun.elapsed());
        for one in seen {
            assert_eq!(one.state, LiveState::Unknown, "{faults}");
            assert!(one.reason.is_some_and(|reason| !reason.is_empty()));
        }
        let error = world.qemu().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
        assert!(text(&error).contains("force: true"), "{}", text(&error));
        world.qemu().stop(&first, StopMode::Graceful, &mut SuiteWork::default()).await.unwrap();
        assert_eq!(world.qemu().observe(&[&first]).await[0].state, LiveState::Stopped);
        assert_eq!(processes_of(&world.state), [0; 0]);
    }
}

#[tokio::test]
async fn an_unreadable_machine_is_unknown_rather_than_missing() {
    let world = World::new();
    let (_, record, _) = world.create("unread").await;
    let folder = world.vms().remove(0);
    std::fs::write(folder.join("machine.json"), "{").unwrap();
    let seen = world.qemu().observe(&[&record]).await.remove(0);
    assert_eq!(seen.state, LiveState::Unknown);
    assert!(seen.reason.unwrap().contains("machine.json"));
    // It can still be deleted together with everything that belongs to it.
    world.qemu().delete(&record, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(processes_of(&world.state), [0; 0]);
    assert!(world.vms().is_empty());
}

#[tokio::test]
async fn a_foreign_folder_is_left_unchanged() {
    let world = World::new();
    let (_, record, _) = world.create("mine").await;
    let stranger = world.state.join("vms/stranger");
    std::fs::create_dir(&stranger).unwrap();
    std::fs::write(stranger.join("machine.json"), "not goloo's").unwrap();
    world.create("second").await;
    world.qemu().delete(&record, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(std::fs::read_to_string(stranger.join("machine.json")).unwrap(), "not goloo's");
}

#[tokio::test]
async fn a_foreign_process_is_never_killed() {
    let world = World::new();
    let (_, record, _) = world.create("dead").await;
    world.crash(&record).await;
    until("the stand-in is gone", SOON, async || processes_of(&world.state).is_empty()).await;
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    let folder = world.vms().remove(0);
    std::fs::write(folder.join("qemu.pid"), stranger.id().to_string()).unwrap();
    let noted = std::fs::read_to_string(folder.join("machine.json")).unwrap();
    let mut noted: serde_json::Value = serde_json::from_str(&noted).unwrap();
    noted["process"]["pid"] = stranger.id().into();
    std::fs::write(folder.join("machine.json"), noted.to_string()).unwrap();
    assert_eq!(world.qemu().observe(&[&record]).await[0].state, LiveState::Stopped);
    world.qemu().stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    world.qemu().delete(&record, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(stranger.try_wait().unwrap(), None, "the stranger was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_machine_works_after_the_image_cache_is_removed() {
    let world = World::new();
    let (_, record, _) = world.create("base").await;
    world.qemu().stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    std::fs::remove_dir_all(world.folder.path().join("images")).unwrap();
    let disk = world.vms().remove(0).join("disk.qcow2");
    let checked = Command::new("qemu-img").args(["info", "--backing-chain"]).arg(&disk).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    world.qemu().start(&record, &mut SuiteWork::default()).await.unwrap();
}

#[tokio::test]
async fn prune_keeps_images_that_machines_use() {
    let world = World::new();
    let cache = Cache::new(world.folder.path().join("images"));
    let (_, record, _) = world.create("base").await;
    assert!(cache.list().unwrap()[0].in_use);
    cache.prune(&world.state.join("vms")).unwrap();
    assert_eq!(cache.list().unwrap().len(), 1);
    world.qemu().delete(&record, &mut SuiteWork::default()).await.unwrap();
    assert!(!cache.list().unwrap()[0].in_use);
    assert!(cache.prune(&world.state.join("vms")).unwrap().bytes > 0);
    assert_eq!(cache.list().unwrap(), []);
}

/// Creates a machine on a host that offers `offered`; returns the messages and QEMU's command line.
async fn create_under(world: &World, offered: fn(Arch) -> Result<Accel, String>) -> (Vec<String>, String) {
    let mut settings = world.settings();
    settings.accel = None;
    settings.offered = offered;
    let provider = QemuProvider::new(settings);
    let machine = world.machine("accel");
    let mut work = SuiteWork::default();
    provider.create(&machine, &mut work).await.unwrap();
    let argv = world.argv();
    let place = argv.iter().position(|word| word == "-accel").unwrap();
    provider.delete(&record(&machine), &mut SuiteWork::default()).await.unwrap();
    (work.said(), argv[place + 1].split(',').next().unwrap().to_owned())
}

fn kvm(_: Arch) -> Result<Accel, String> {
    Ok(Accel::Kvm)
}

#[tokio::test]
async fn missing_acceleration_is_reported_once() {
    let world = World::new();
    let nothing = |_| Err("there is no /dev/kvm".to_owned());
    let (said, accel) = create_under(&world, nothing).await;
    assert_eq!(said, ["no hardware acceleration, so machines are slow here: there is no /dev/kvm"]);
    assert_eq!(accel, "tcg");
    assert_eq!(create_under(&world, nothing).await, (vec![], "tcg".to_owned()));
}

#[tokio::test]
async fn acceleration_that_works_is_used_and_remembered() {
    let world = World::new();
    for _ in 0..2 {
        assert_eq!(create_under(&world, kvm).await, (vec![], "kvm".to_owned()));
    }
    let memory = std::fs::read_to_string(world.settings().memory).unwrap();
    assert!(memory.contains("\"verdict\": \"works\""), "{memory}");
}

#[tokio::test]
async fn acceleration_that_fails_falls_back_once_and_is_remembered() {
    for (faults, reason) in
        [("dies-under-kvm", "failed to set MSR"), ("stuck-under-kvm", "nothing was written")]
    {
        let world = World::with(faults);
        let (said, accel) = create_under(&world, kvm).await;
        assert!(said[0].contains(reason) && said.len() == 1, "{said:?}");
        assert_eq!(accel, "tcg");
        assert_eq!(create_under(&world, kvm).await, (vec![], "tcg".to_owned()), "{faults}");
    }
}

#[tokio::test]
async fn an_acceleration_chosen_by_the_user_has_no_fallback() {
    let mut world = World::with("dies-under-kvm");
    world.accel = Some(Accel::Kvm);
    let machine = world.machine("kvm");
    let error = world.qemu().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("GOLOO_QEMU_ACCEL=tcg"), "{}", text(&error));
}

#[test]
fn doctor_reports_qemu_its_version_and_its_tools() {
    let world = World::new();
    let checks = goloo_qemu::doctor(&world.settings());
    let said = |word: &str| checks.iter().any(|check| check.is_ok() && check.what.contains(word));
    assert!(said("QEMU emulator version"), "{checks:?}");
    assert!(said("qemu-img version"), "{checks:?}");
    assert!(said("machines use tcg"), "{checks:?}");
    let mut settings = world.settings();
    settings.qemu = Some("no-such-qemu".into());
    let checks = goloo_qemu::doctor(&settings);
    let is_absent = |check: &Check| check.level == CheckLevel::Absent;
    assert!(
        checks.iter().any(|check| is_absent(check) && check.hint.debug_text().contains("apt-get install"))
    );
}

/// A QEMU is identified by a path on its command line, and a folder can have many paths.
#[tokio::test]
async fn a_machine_is_recognized_by_any_path_to_its_state_folder() {
    let world = World::new();
    let (machine, record, port) = world.create("one").await;
    let other = world.folder.path().join("other");
    std::os::unix::fs::symlink(&world.state, &other).unwrap();
    for state in [other, world.state.join("../state")] {
        let mut settings = world.settings();
        settings.vms = state.join("vms");
        let qemu = QemuProvider::new(settings);
        assert_eq!(qemu.observe(&[&record]).await[0].state, LiveState::Running, "{}", state.display());
        let again = endpoint(qemu.create(&machine, &mut SuiteWork::default()).await.unwrap());
        assert_eq!(again.ssh_port.unwrap(), port);
        assert_eq!(processes_of(&world.state).len(), 1);
    }
    let mut settings = world.settings();
    settings.vms = world.folder.path().join("other/vms");
    QemuProvider::new(settings).delete(&record, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(processes_of(&world.state), [0; 0], "a QEMU is left that nobody knows of");
}

/// A script may hold a lock while it runs goloo. QEMU, which outlives both, must not inherit it.
#[tokio::test]
async fn qemu_inherits_no_descriptor_passed_to_goloo() {
    let world = World::new();
    let path = world.folder.path().join("script.lock");
    let given = std::fs::File::create(&path).unwrap();
    rustix::io::fcntl_setfd(&given, rustix::io::FdFlags::empty()).unwrap();
    world.create("clean").await;
    let pid = processes_of(&world.state).remove(0);
    let held: Vec<PathBuf> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .collect();
    assert!(!held.is_empty());
    assert!(!held.contains(&path), "{held:?}");
}

fn log_size(folder: &Path) -> u64 {
    let logs = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let logs = logs.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"));
    logs.map(|entry| entry.metadata().unwrap().len()).sum()
}

/// The guest writes 20 MB and QEMU 5 MB before anything is read.
#[tokio::test]
async fn console_logs_of_a_flooding_guest_are_bounded() {
    let world = World::with("floods");
    let (machine, record, _) = world.create("flood").await;
    let folder = world.state.join("vms").join(machine.id.as_str());
    let size = log_size(&folder);
    assert!((1_000_000..6_000_000).contains(&size), "{size} bytes of logs");
    let (mut offset, mut kept) = (0, Vec::new());
    loop {
        let piece = world.qemu().console(&record, offset).await.unwrap();
        if piece.bytes.is_empty() {
            break;
        }
        kept.extend(piece.bytes);
        offset = piece.next;
    }
    assert!(offset > 19_000_000, "{offset}: offsets count from the beginning");
    assert!(kept.len() < 5_000_000 && kept.ends_with(b"the console's end\n"), "{} bytes", kept.len());
    world.qemu().delete(&record, &mut SuiteWork::default()).await.unwrap();
    assert!(world.vms().is_empty());
    assert_eq!(supervisors_of(&world.state), [0; 0]);
}

#[tokio::test]
async fn a_machine_keeps_running_without_its_supervisor() {
    let world = World::new();
    let (_, record, port) = world.create("orphan").await;
    kill(&supervisors_of(&world.state));
    until("it is gone", SOON, async || supervisors_of(&world.state).is_empty()).await;
    assert_eq!(world.qemu().observe(&[&record]).await[0].state, LiveState::Running);
    let mut work = SuiteWork::default();
    world.qemu().stop(&record, StopMode::Graceful, &mut work).await.unwrap();
    // The next start assigns one again.
    assert_eq!(endpoint(world.qemu().start(&record, &mut work).await.unwrap()).ssh_port, Some(port));
    assert_eq!(supervisors_of(&world.state).len(), 1);
}

/// If goloo dies before QEMU is started, the supervisor doesn't start it anymore.
#[tokio::test]
async fn a_supervisor_that_has_not_started_qemu_yet_is_terminated() {
    let world = World::new();
    let (_, record, _) = world.create("half").await;
    world.qemu().stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    let folder = world.state.join("vms").join(record.id.as_str());
    let mut waits = Command::new(common::supervisor())
        .args([goloo_qemu::supervise::SUPERVISE, "-pidfile"])
        .arg(folder.canonicalize().unwrap().join("qemu.pid"))
        .current_dir(&folder)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    world.qemu().delete(&record, &mut SuiteWork::default()).await.unwrap();
    assert!(!waits.wait().unwrap().success());
    assert!(world.vms().is_empty());
}

#[tokio::test]
async fn qemu_is_started_with_its_sandbox() {
    let world = World::new();
    let (_, _, _) = world.create("boxed").await;
    let argv = world.argv();
    let sandbox = argv.iter().position(|word| word == "-sandbox").map(|at| argv[at + 1].as_str());
    assert_eq!(sandbox, Some("on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"));
}

/// Detected once, reported once, and then cached.
#[tokio::test]
async fn a_qemu_without_sandbox_support_is_started_without_it() {
    for fault in ["no-sandbox", "sandbox-kills"] {
        let world = World::with(fault);
        for (name, warnings) in [("first", 1), ("second", 0)] {
            let mut work = SuiteWork::default();
            world.qemu().create(&world.machine(name), &mut work).await.unwrap();
            let said = work.said().iter().filter(|text| text.contains("sandbox doesn't work")).count();
            assert_eq!(said, warnings, "{fault}, {name}: {:?}", work.said());
        }
        assert!(!world.argv().contains(&"-sandbox".to_owned()), "{fault}");
    }
}

/// A process with the machine's own command line, run by another user: it is neither mistaken for the machine's QEMU
/// nor waited for.
#[tokio::test]
async fn a_process_of_another_user_with_the_same_command_line_is_ignored() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can run a process as another user");
        return;
    }
    // The second one simulates a program with root's set-user-ID bit, started by another user.
    for ids in [&["--reuid=65534", "--regid=65534", "--clear-groups"][..], &["--ruid=65534"]] {
        blocks_nothing(ids).await;
    }
}

async fn blocks_nothing(ids: &[&str]) {
    let world = World::new();
    let (_, record, _) = world.create("mine").await;
    let mut foreign = Command::new("setpriv")
        .args(ids)
        .args(["sh", "-p", "-c", "read line; true"])
        .args(world.argv())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let is_running = || {
        let line = std::fs::read(format!("/proc/{}/cmdline", foreign.id())).unwrap();
        line.starts_with(b"sh\0")
    };
    until("it runs as another user", SOON, async || is_running()).await;
    let mut work = SuiteWork::default();
    let begun = Instant::now();
    world.qemu().stop(&record, StopMode::Graceful, &mut work).await.unwrap();
    assert_eq!(world.qemu().observe(&[&record]).await[0].state, LiveState::Stopped);
    // Its id may even be in the pid file.
    let folder = world.state.join("vms").join(record.id.as_str());
    std::fs::write(folder.join("qemu.pid"), foreign.id().to_string()).unwrap();
    assert_eq!(world.qemu().observe(&[&record]).await[0].state, LiveState::Stopped);
    world.qemu().start(&record, &mut work).await.unwrap();
    world.qemu().delete(&record, &mut work).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(foreign.try_wait().unwrap().is_none(), "the other user's process was touched");
    drop(foreign.stdin.take());
    foreign.wait().unwrap();
}

/// Something that keeps starting a machine's process must not block goloo forever.
#[tokio::test]
async fn repeatedly_restarted_processes_are_an_error_that_names_them() {
    let world = World::new();
    let (_, record, _) = world.create("again").await;
    let folder = world.state.join("vms").join(record.id.as_str());
    let stop = world.folder.path().join("stop");
    let again = "while [ ! -e \"$STOP\" ]; do sh -c 'read word < \"$FIFO\"' sh -pidfile \"$PID\"; done";
    let fifo = world.folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // Two, so that one is always alive.
    let mut starters: Vec<_> = (0..2)
        .map(|_| {
            let mut sh = Command::new("sh");
            sh.args(["-c", again]).env("STOP", &stop).env("FIFO", &fifo).env("PID", folder.join("qemu.pid"));
            sh.spawn().unwrap()
        })
        .collect();
    let mut work = SuiteWork::default();
    let error = text(&world.qemu().stop(&record, StopMode::Force, &mut work).await.unwrap_err());
    assert!(error.contains("QEMU processes for this machine keep starting; running now: "), "{error}");
    assert!(error.contains("`ps -fp "), "{error}");
    std::fs::write(&stop, "").unwrap();
    world.qemu().delete(&record, &mut work).await.unwrap();
    for starter in &mut starters {
        starter.wait().unwrap();
    }
}

/// Someone who may read the folder of machines can lock it forever. A lock file that only its owner can open is waited
/// for, but with a limit.
#[tokio::test]
async fn waiting_for_locks_is_limited() {
    let world = World::new();
    let (_, record, _) = world.create("locked").await;
    let mut work = SuiteWork::default();
    world.qemu().stop(&record, StopMode::Force, &mut work).await.unwrap();
    let folder = std::fs::File::open(world.state.join("vms")).unwrap();
    flock(&folder, FlockOperation::LockExclusive).unwrap();
    let begun = Instant::now();
    world.qemu().start(&record, &mut work).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    world.qemu().stop(&record, StopMode::Force, &mut work).await.unwrap();

    let path = world.state.join("vms.lock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let lock = std::fs::File::open(&path).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let begun = Instant::now();
    let error = world.qemu().start(&record, &mut work).await.unwrap_err().to_string();
    assert!(error.contains("has been locked for 1 s"), "{error}");
    assert!((1..10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(work.said().iter().any(|text| text.contains("waiting for it")), "{:?}", work.said());
}

fn memory_of(world: &World, record: &Record) -> PathBuf {
    world.disk(record).with_file_name("memory.lz4")
}

async fn stop(world: &World, record: &Record, mode: StopMode) -> Result<(), ProviderError> {
    world.qemu().stop(record, mode, &mut SuiteWork::default()).await
}

async fn start(world: &World, record: &Record) -> Result<(), ProviderError> {
    world.qemu().start(record, &mut SuiteWork::default()).await.map(drop)
}

async fn state_of(world: &World, record: &Record) -> LiveState {
    world.qemu().observe(&[record]).await[0].state
}

#[tokio::test]
async fn a_suspended_machine_continues_from_its_memory() {
    let world = World::new();
    let (_, record, port) = world.create("asleep").await;
    for _ in 0..2 {
        stop(&world, &record, StopMode::Suspend).await.unwrap();
        assert_eq!(
            (state_of(&world, &record).await, processes_of(&world.state)),
            (LiveState::Suspended, vec![])
        );
        let memory = memory_of(&world, &record);
        assert_eq!(std::fs::metadata(&memory).unwrap().permissions().mode() & 0o777, 0o600);
        let made = endpoint(world.qemu().start(&record, &mut SuiteWork::default()).await.unwrap());
        assert_eq!((made.ssh_port, state_of(&world, &record).await), (Some(port), LiveState::Running));
        let argv = world.argv();
        assert!(argv.iter().any(|word| word == "pc-q35-7.2"), "{argv:?}");
        assert!(!memory.exists(), "the disk is newer than this memory");
    }
    let left = std::fs::read_dir(world.disk(&record).parent().unwrap()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.contains("part")), "{left:?}");
}

#[tokio::test]
async fn a_suspended_machine_is_stopped_only_by_force_which_discards_its_memory() {
    let world = World::new();
    let (_, record, _) = world.create("asleep").await;
    stop(&world, &record, StopMode::Suspend).await.unwrap();
    stop(&world, &record, StopMode::Suspend).await.unwrap();
    let mut work = SuiteWork::default();
    world.qemu().stop(&record, StopMode::Graceful, &mut work).await.unwrap();
    assert_eq!(work.said(), ["asleep is suspended: its memory is kept"]);
    assert_eq!(state_of(&world, &record).await, LiveState::Suspended);
    let memory = memory_of(&world, &record);
    assert!(memory.exists());
    stop(&world, &record, StopMode::Force).await.unwrap();
    assert_eq!((state_of(&world, &record).await, memory.exists()), (LiveState::Stopped, false));
    start(&world, &record).await.unwrap();
    assert!(!world.argv().iter().any(|word| word == "-incoming"), "it boots");
}

#[tokio::test]
async fn a_machine_that_cannot_be_suspended_keeps_running() {
    let mounts = |machine: &mut Machine, folder: &Path| {
        machine.stack.mounts =
            vec![Mount { source: folder.to_owned(), target: "/srv".into(), readonly: false }];
    };
    let world = World::with("no-migration");
    let mut machine = world.machine("busy");
    mounts(&mut machine, world.folder.path());
    world.qemu().create(&machine, &mut SuiteWork::default()).await.unwrap();
    let record = record(&machine);
    let refused = text(&stop(&world, &record, StopMode::Suspend).await.unwrap_err());
    assert!(refused.contains("vm.mounts") && refused.contains("Stop"), "{refused}");
    assert_eq!(state_of(&world, &record).await, LiveState::Running);
    assert!(!memory_of(&world, &record).exists());

    let world = World::with("stuck-migration");
    let (_, record, _) = world.create("slow").await;
    let mut work = SuiteWork::default();
    work.stopper().send_replace(true);
    let error = world.qemu().stop(&record, StopMode::Suspend, &mut work).await.unwrap_err();
    assert!(matches!(error, ProviderError::Interrupted), "{error}");
    let files = std::fs::read_dir(world.disk(&record).parent().unwrap()).unwrap();
    let files: Vec<_> = files.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!files.iter().any(|name| name.starts_with("memory.") && name != "memory.sock"), "{files:?}");
    start(&world, &record).await.unwrap();
    assert_eq!(processes_of(&world.state).len(), 1, "the same QEMU continues");
    let argv = world.argv();
    assert!(!argv.iter().any(|word| word == "-incoming"), "{argv:?}");
}

#[tokio::test]
async fn memory_that_qemu_refuses_is_kept_with_a_way_out() {
    let world = World::with("other-memory");
    let (_, record, _) = world.create("asleep").await;
    stop(&world, &record, StopMode::Suspend).await.unwrap();
    for _ in 0..2 {
        let refused = text(&start(&world, &record).await.unwrap_err());
        assert!(refused.contains("memory.lz4: ") && refused.contains("force: true"), "{refused}");
        assert!(refused.contains("load of migration failed: Invalid argument"), "{refused}");
        assert_eq!(
            (state_of(&world, &record).await, processes_of(&world.state)),
            (LiveState::Suspended, vec![])
        );
    }
    stop(&world, &record, StopMode::Force).await.unwrap();
    start(&world, &record).await.unwrap();
}

#[tokio::test]
async fn memory_that_was_damaged_is_an_error_that_says_so() {
    let world = World::new();
    let (_, record, _) = world.create("asleep").await;
    stop(&world, &record, StopMode::Suspend).await.unwrap();
    let memory = memory_of(&world, &record);
    let whole = std::fs::read(&memory).unwrap();
    let mut other = whole.clone();
    // A byte of the first text in it, which is kept as it is.
    let at = whole.windows(6).position(|bytes| bytes == b"secret").unwrap();
    other[at] = b'S';
    for damaged in [&other[..], &whole[..whole.len() / 2], &whole[..whole.len() - 1]] {
        std::fs::write(&memory, damaged).unwrap();
        let error = world.qemu().start(&record, &mut SuiteWork::default()).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(!cause.contains("control socket"), "{cause}");
        let state = (state_of(&world, &record).await, processes_of(&world.state));
        assert_eq!(state, (LiveState::Suspended, vec![]), "{cause}");
    }
    std::fs::write(&memory, whole).unwrap();
    start(&world, &record).await.unwrap();
}

#[tokio::test]
async fn a_suspended_machine_is_neither_copied_nor_changed() {
    use goloo_model::change::Setting;
    use goloo_model::provider::{ChangeTime, MachineChange};
    use goloo_model::record::RecordedStack;
    let world = World::new();
    let (machine, record, _) = world.create("asleep").await;
    stop(&world, &record, StopMode::Suspend).await.unwrap();
    let qemu = world.qemu();
    let target = RecordedStack::of(&machine.stack).unwrap();
    let change =
        |setting: &'static [Setting], time| MachineChange { settings: setting, target: &target, time };
    let mut work = SuiteWork::default();
    let changes = qemu.changes().unwrap();
    let refused = [
        qemu.snapshots().unwrap().take(&record, "a").await.unwrap_err(),
        changes
            .change(&record, change(&[Setting::Cpus], ChangeTime::NextStart), &mut work)
            .await
            .unwrap_err(),
        changes.change(&record, change(&[Setting::Disk], ChangeTime::Now), &mut work).await.unwrap_err(),
    ];
    for error in refused {
        assert!(text(&error).contains("\"asleep\" is suspended"), "{}", text(&error));
    }
    start(&world, &record).await.unwrap();
}
