//! Stands in for `qemu-system-…` in tests that need no guest: it accepts goloo's command line, binds the ports (each
//! greets like SSH) and more of them when told to, writes the console log and responds on the control socket. It is
//! strict: an unknown flag is an error.
//!
//! `GOLOO_STAND_IN` contains faults, separated by commas:
//! - `dies-under-kvm`: exits at once when told to use KVM, as on hosts with a broken KVM
//! - `stuck-under-kvm`: with KVM, the guest never writes to its disk
//! - `ignores-power-down`: the guest ignores `system_powerdown`
//! - `silent`: responds only to the first control connection; `garbage`: sends invalid data on all others
//! - `closes`: closes each control connection except the first immediately
//! - `dies`: exits at once; `hangs`: never becomes ready
//! - `loses-race`: another program binds the last forwarded port before the machine's first start does
//! - `no-sandbox`: was built without it; `sandbox-kills`: a required system call is denied
//! - `no-virtiofs`: was built without the device
//! - `little-memory`: the host has no more than 1 GiB for the guest
//! - `no-migration`: a shared folder is in use; `stuck-migration`: sending the memory never ends; `other-memory`: the
//!   saved memory is of another machine
//! - `floods`: the guest writes 20 MB to its console, and QEMU 5 MB of messages
#![allow(clippy::unwrap_used, reason = "a test program: a panic is its error message")]

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, exit};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any test; ensures that a forgotten stand-in doesn't stay forever.
const LIFETIME: Duration = Duration::from_secs(900);
/// How long the stand-in stays after its machine's folder was deleted. Longer than any test waits for a QEMU to exit,
/// so that a provider that forgets to end one is detected.
const ORPHANED: Duration = Duration::from_secs(45);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--version") {
        println!("QEMU emulator version 7.2.0 (goloo's stand-in)");
        return ExitCode::SUCCESS;
    }
    let line = match Line::parse(std::env::args().skip(1)) {
        Ok(line) => line,
        Err(message) => {
            eprintln!("qemu-stand-in: {message}");
            return ExitCode::FAILURE;
        }
    };
    if fault("little-memory") && memory_mib() > 1024 {
        eprintln!("qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory");
        return ExitCode::FAILURE;
    }
    match stay(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("qemu-stand-in: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The value of `-m`, which goloo gives in MiB.
fn memory_mib() -> u64 {
    let value = std::env::args().skip_while(|word| word != "-m").nth(1).unwrap_or_default();
    value.trim_end_matches('M').parse().unwrap_or(0)
}

fn fault(name: &str) -> bool {
    std::env::var("GOLOO_STAND_IN").is_ok_and(|faults| faults.split(',').any(|fault| fault == name))
}

#[derive(Default)]
struct Line {
    accel: String,
    forwards: Vec<String>,
    drives: Vec<PathBuf>,
    console: Option<PathBuf>,
    control: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    sandbox: bool,
    machine: String,
    incoming: Option<String>,
    devices: BTreeSet<String>,
    private_network: Option<PathBuf>,
    /// The sockets of the processes that share folders.
    shares: Vec<PathBuf>,
}

impl Line {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut line = Self::default();
        while let Some(flag) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{flag}: requires an argument"));
            match flag.as_str() {
                "-nodefaults" | "-no-user-config" => {}
                "-sandbox" if fault("no-sandbox") => {
                    return Err("-sandbox support is not enabled in this QEMU binary".to_owned());
                }
                "-sandbox" => line.sandbox = split(&value()?)[0] == "on",
                "-machine" => line.machine = value()?,
                "-incoming" => line.incoming = Some(value()?),
                "-name" | "-display" | "-cpu" | "-smp" | "-m" | "-virtfs" | "-serial" | "-mon" => {
                    value()?;
                }
                "-device" => {
                    let value = value()?;
                    if value.starts_with("vhost-user-fs-pci") && fault("no-virtiofs") {
                        return Err(
                            "-device vhost-user-fs-pci: 'vhost-user-fs-pci' is not a valid device model name"
                                .to_owned(),
                        );
                    }
                    line.devices.extend(option(&value, "id"));
                }
                "-object" => {
                    let value = value()?;
                    let is_for_all =
                        value == format!("memory-backend-memfd,id=memory,share=on,size={}M", memory_mib());
                    if !is_for_all {
                        return Err(format!("-object {value}: not the memory of the machine"));
                    }
                }
                "-accel" => line.accel = split(&value()?).swap_remove(0),
                "-pidfile" => line.pid_file = Some(value()?.into()),
                "-drive" => line.drives.extend(option(&value()?, "file").map(PathBuf::from)),
                "-netdev" => {
                    let value = value()?;
                    if split(&value)[0] == "dgram" {
                        line.private_network = option(&value, "local.path").map(PathBuf::from);
                    }
                    for part in split(&value) {
                        let Some(rule) = part.strip_prefix("hostfwd=") else { continue };
                        listener(rule)?;
                        line.forwards.push(rule.to_owned());
                    }
                }
                "-chardev" => {
                    let value = value()?;
                    let path = option(&value, "path").map(PathBuf::from);
                    match split(&value)[0].as_str() {
                        "socket" if option(&value, "id").as_deref() == Some("qmp") => line.control = path,
                        "socket" => line.shares.extend(path),
                        _ => line.console = path,
                    }
                }
                other => return Err(format!("{other}: invalid option")),
            }
        }
        Ok(line)
    }
}

/// Splits at commas; a doubled comma is a literal one.
fn split(value: &str) -> Vec<String> {
    value.replace(",,", "\0").split(',').map(|part| part.replace('\0', ",")).collect()
}

fn option(value: &str, key: &str) -> Option<String> {
    split(value).iter().find_map(|part| part.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
}

enum Listener {
    Tcp(SocketAddrV4),
    Udp(SocketAddrV4),
}

fn listener(rule: &str) -> Result<Listener, String> {
    let (host, _) = rule.split_once("-:").ok_or("bad hostfwd")?;
    let (protocol, place) = host.split_once(':').ok_or("bad hostfwd")?;
    let place = place.parse().map_err(|_| format!("bad {rule}"))?;
    match protocol {
        "tcp" => Ok(Listener::Tcp(place)),
        "udp" => Ok(Listener::Udp(place)),
        _ => Err(format!("bad {rule}")),
    }
}

/// The ports that it forwards, by the rules that say so.
#[derive(Default)]
struct Forwards(Vec<(String, Socket)>);

enum Socket {
    Tcp(TcpListener, thread::JoinHandle<()>),
    Udp(#[expect(dead_code, reason = "it is held open")] UdpSocket),
}

impl Forwards {
    fn add(&mut self, rule: &str) -> Result<(), String> {
        let refused = |_| format!("Could not set up host forwarding rule '{rule}'");
        let socket = match listener(rule)? {
            Listener::Tcp(place) => {
                let listener = TcpListener::bind(place).map_err(refused)?;
                let ours = listener.try_clone().map_err(refused)?;
                Socket::Tcp(ours, thread::spawn(move || greet(&listener)))
            }
            Listener::Udp(place) => Socket::Udp(UdpSocket::bind(place).map_err(refused)?),
        };
        self.0.push((rule.to_owned(), socket));
        Ok(())
    }

    fn remove(&mut self, place: &str) -> bool {
        let found =
            self.0.iter().position(|(rule, _)| rule.split_once("-:").is_some_and(|(of, _)| of == place));
        let Some(index) = found else { return false };
        if let (_, Socket::Tcp(listener, thread)) = self.0.remove(index) {
            let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
            let _ = thread.join();
        }
        true
    }

    /// As QEMU prints them.
    fn table(&self) -> String {
        let mut table = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n".to_owned();
        for (rule, _) in &self.0 {
            let (place, guest) = rule.split_once("-:").unwrap();
            let mut parts = place.split(':');
            let (protocol, address, port) =
                (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            let address = address.replace("0.0.0.0", "*");
            let kind = format!("{}[HOST_FORWARD]", protocol.to_uppercase());
            table += &format!(
                "  {kind:<19} {:>3} {address:>15} {port:>5} {:>15} {guest:>5} {:>5} {:>5}\r\n",
                9, "10.0.2.15", 0, 0
            );
        }
        table
    }

    /// What QEMU's monitor for people prints.
    fn monitor(&mut self, command: &str) -> String {
        let words: Vec<&str> = command.split(' ').collect();
        match words[..] {
            ["info", "usernet"] => self.table(),
            ["hostfwd_add", "net0", rule] => {
                self.add(rule).map_or_else(|error| error + "\r\n", |()| String::new())
            }
            ["hostfwd_remove", "net0", place] => {
                let result = if self.remove(place) { "removed" } else { "not found" };
                format!("host forwarding rule for {place} {result}\r\n")
            }
            _ => format!("unknown command: '{command}'\r\n"),
        }
    }
}

/// The devices that have an id, and the socket of the private network. Without a guest nothing comes from it.
struct Devices {
    ids: BTreeSet<String>,
    private_network: Option<UnixDatagram>,
}

impl Devices {
    fn of(line: &Line) -> Result<Self, String> {
        let mut devices = Self { ids: line.devices.clone(), private_network: None };
        line.private_network.iter().try_for_each(|path| devices.bind(path))?;
        Ok(devices)
    }

    /// Like QEMU: a socket that is there already is replaced.
    fn bind(&mut self, path: &Path) -> Result<(), String> {
        let _ = std::fs::remove_file(path);
        let socket = UnixDatagram::bind(path).map_err(|error| format!("-netdev dgram: {error}"))?;
        self.private_network = Some(socket);
        Ok(())
    }

    fn add_network(&mut self, arguments: &serde_json::Value) -> Result<(), String> {
        assert_eq!((&arguments["type"], &arguments["id"]), (&"dgram".into(), &"private".into()));
        if self.private_network.is_some() {
            return Err("Duplicate ID 'private'".to_owned());
        }
        self.bind(Path::new(arguments["local"]["path"].as_str().unwrap()))
    }

    fn add(&mut self, arguments: &serde_json::Value) -> Result<(), String> {
        let text = |key: &str| arguments[key].as_str().unwrap();
        let (id, bus) = (text("id"), text("bus"));
        if !self.ids.contains(bus) {
            return Err(format!("Bus '{bus}' not found"));
        }
        if self.private_network.is_none() || text("netdev") != "private" {
            return Err(format!("Property 'virtio-net-pci.netdev' can't find value '{}'", text("netdev")));
        }
        match self.ids.insert(id.to_owned()) {
            true => Ok(()),
            false => Err(format!("Duplicate device ID '{id}'")),
        }
    }

    fn list(&self) -> serde_json::Value {
        let devices = self.ids.iter().map(|id| serde_json::json!({"name": id, "type": "child<device>"}));
        std::iter::once(serde_json::json!({"name": "type", "type": "string"})).chain(devices).collect()
    }
}

fn folder_of(pid_file: &Path) -> Result<&Path, String> {
    pid_file.parent().ok_or_else(|| "a pid file without a folder".to_owned())
}

fn stay(line: &Line) -> Result<(), String> {
    if line.sandbox && fault("sandbox-kills") {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::SYS);
    }
    if fault("dies") || (fault("dies-under-kvm") && line.accel == "kvm") {
        return Err("error: failed to set MSR 0x10a to 0x0".to_owned());
    }
    let pid_file = line.pid_file.as_ref().ok_or("no pid file")?;
    std::fs::write(pid_file, format!("{}\n", std::process::id())).map_err(|error| error.to_string())?;
    let folder = folder_of(pid_file)?.to_owned();
    thread::spawn(move || end_some_day(&folder));
    if fault("hangs") {
        thread::sleep(LIFETIME);
    }
    // Like QEMU: two of them can't share a disk.
    let mut disks = Vec::new();
    for drive in &line.drives {
        let file =
            OpenOptions::new().read(true).open(drive).map_err(|e| format!("{}: {e}", drive.display()))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| format!("Failed to get \"write\" lock on {}", drive.display()))?;
        disks.push(file);
    }
    let race = folder_of(pid_file)?.join("race-lost");
    if fault("loses-race") && !race.exists() {
        std::fs::write(&race, "").map_err(|error| error.to_string())?;
        let rule = line.forwards.last().ok_or("no forwards")?;
        return Err(format!("-netdev user,id=net0: Could not set up host forwarding rule '{rule}'"));
    }
    let mut forwards = Forwards::default();
    for rule in &line.forwards {
        forwards.add(rule).map_err(|error| format!("-netdev user,id=net0: {error}"))?;
    }
    let mut shares = Vec::new();
    for path in &line.shares {
        let failed = |error| format!("-chardev socket,path={}: {error}", path.display());
        let mut share = UnixStream::connect(path).map_err(failed)?;
        share.read_exact(&mut [0]).map_err(|_| "vhost_backend_init failed: Protocol error".to_owned())?;
        shares.push(share);
    }
    if let Some(console) = &line.console {
        let log = OpenOptions::new().append(true).create(true).open(console);
        let mut log = log.map_err(|e| e.to_string())?;
        writeln!(log, "the stand-in's console").map_err(|e| e.to_string())?;
        if fault("floods") {
            flood(&mut log, 20_000_000);
            flood(&mut io::stderr(), 5_000_000);
            writeln!(log, "the console's end").map_err(|e| e.to_string())?;
        }
        // Stays open, as in QEMU.
        std::mem::forget(log);
    }
    let mut devices = Devices::of(line)?;
    let control = line.control.as_ref().ok_or("no control socket")?;
    let _ = std::fs::remove_file(control);
    let control = UnixListener::bind(control).map_err(|error| format!("control socket: {error}"))?;
    let guest = Arc::new(Mutex::new(Guest { state: "running", migration: None }));
    match &line.incoming {
        Some(uri) => receive(uri, &line.machine, &guest)?,
        None => note_run(),
    }
    for (count, connection) in control.incoming().enumerate() {
        let parts = (&mut forwards, &mut devices);
        let _ = talk(&connection.unwrap(), line, parts, &guest, count > 0);
    }
    drop((disks, shares));
    Ok(())
}

fn end_some_day(folder: &Path) {
    let begun = Instant::now();
    let mut last_seen = Instant::now();
    while begun.elapsed() < LIFETIME && last_seen.elapsed() < ORPHANED {
        thread::sleep(Duration::from_secs(1));
        if folder.exists() {
            last_seen = Instant::now();
        }
    }
    exit(1);
}

fn greet(listener: &TcpListener) {
    // The loop ends when the listener is shut down.
    while let Ok((mut stream, _)) = listener.accept() {
        let _ = TcpStream::write_all(&mut stream, b"SSH-2.0-stand-in\r\n");
    }
}

/// Writes many lines, and fails if there is no reader anymore.
fn flood(to: &mut impl Write, bytes: usize) {
    let lines = "a guest that talks too much\n".repeat(1000);
    for _ in 0..bytes / lines.len() {
        if to.write_all(lines.as_bytes()).is_err() {
            return;
        }
    }
}

/// The size in the header of the disk, a qcow2 file in the working folder.
fn disk_size() -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let mut size = [0; 8];
    std::fs::File::open("disk.qcow2")?.read_exact_at(&mut size, 24)?;
    Ok(u64::from_be_bytes(size))
}

/// The state of the guest, and of its migration.
struct Guest {
    state: &'static str,
    migration: Option<&'static str>,
}

/// How often the guest has begun to run: from then on its disk differs from any memory that was saved before.
const RUNS: &str = "stand-in-runs";

fn runs() -> u64 {
    std::fs::read_to_string(RUNS).map_or(0, |text| text.parse().unwrap())
}

fn note_run() {
    std::fs::write(RUNS, (runs() + 1).to_string()).unwrap();
}

/// The guest's memory: it names the machine type and the state of the disk, and has a secret.
fn memory(machine: &str) -> Vec<u8> {
    let full = if machine == "q35" { "pc-q35-7.2" } else { machine };
    format!("QEVM {full} run {} a secret of the guest;", runs()).repeat(50_000).into_bytes()
}

/// Whether a machine that has never run receives the memory of another one: of a baked one, or of the one that it is a
/// clone of.
fn is_of_another(received: &[u8]) -> bool {
    runs() == 0 && received.starts_with(b"QEVM pc-q35-7.2 run ")
}

/// Waits for the memory beside the control socket.
fn receive(uri: &str, machine: &str, guest: &Arc<Mutex<Guest>>) -> Result<(), String> {
    let path = uri.strip_prefix("unix:").ok_or("-incoming: only sockets are allowed here")?;
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(|error| format!("-incoming: {error}"))?;
    guest.lock().unwrap().state = "inmigrate";
    let (expected, guest) = (memory(machine), Arc::clone(guest));
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received);
        if fault("other-memory") || (received != expected && !is_of_another(&received)) {
            eprintln!("qemu-system-x86_64: load of migration failed: Invalid argument");
            exit(1);
        }
        guest.lock().unwrap().state = "paused";
    });
    Ok(())
}

fn send(uri: &str, machine: &str, guest: &Arc<Mutex<Guest>>) -> io::Result<()> {
    let mut stream = UnixStream::connect(uri.strip_prefix("unix:").unwrap())?;
    let (memory, guest) = (memory(machine), Arc::clone(guest));
    guest.lock().unwrap().migration = Some("active");
    thread::spawn(move || {
        let half = memory.len() / 2;
        let mut sent = stream.write_all(&memory[..half]);
        while fault("stuck-migration") && guest.lock().unwrap().migration == Some("active") {
            thread::sleep(Duration::from_millis(5));
        }
        if guest.lock().unwrap().migration == Some("active") {
            sent = sent.and_then(|()| stream.write_all(&memory[half..]));
            let mut guest = guest.lock().unwrap();
            guest.migration = Some(if sent.is_ok() { "completed" } else { "failed" });
            guest.state = if sent.is_ok() { "postmigrate" } else { "paused" };
        }
    });
    Ok(())
}

fn talk(
    stream: &UnixStream,
    line: &Line,
    (forwards, devices): (&mut Forwards, &mut Devices),
    guest: &Arc<Mutex<Guest>>,
    is_started: bool,
) -> io::Result<()> {
    let fault = |name: &str| is_started && fault(name);
    if fault("closes") {
        return Ok(());
    }
    let mut out = stream;
    if fault("silent") {
        thread::sleep(LIFETIME);
    }
    if fault("garbage") {
        return out.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    }
    out.write_all(b"{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7}}, \"capabilities\": []}}\r\n")?;
    for request in BufReader::new(stream).lines() {
        let request: serde_json::Value = serde_json::from_str(&request?)?;
        let writes = u8::from(!(self::fault("stuck-under-kvm") && line.accel == "kvm"));
        let answer = match request["execute"].as_str().unwrap_or_default() {
            "qmp_capabilities" | "quit" => serde_json::json!({}),
            "system_powerdown" => {
                out.write_all(
                    b"{\"event\": \"POWERDOWN\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\r\n",
                )?;
                serde_json::json!({})
            }
            "human-monitor-command" => {
                let command = request["arguments"]["command-line"].as_str().unwrap_or_default();
                forwards.monitor(command).into()
            }
            "qom-list" => devices.list(),
            "netdev_del" => {
                devices.private_network = None;
                serde_json::json!({})
            }
            "netdev_add" | "device_add" => {
                let arguments = &request["arguments"];
                let added = match request["execute"] == "netdev_add" {
                    true => devices.add_network(arguments),
                    false => devices.add(arguments),
                };
                if let Err(desc) = added {
                    let error = serde_json::json!({"error": {"class": "GenericError", "desc": desc}});
                    writeln!(out, "{error}\r")?;
                    continue;
                }
                serde_json::json!({})
            }
            "query-block" => {
                let size = disk_size()?;
                serde_json::json!([{"device": "disk", "inserted": {"image": {"virtual-size": size}}}])
            }
            "block_resize" => {
                let size = request["arguments"]["size"].to_string();
                let resized =
                    Command::new("qemu-img").args(["resize", "-q", "disk.qcow2", &size]).status()?;
                assert!(resized.success(), "qemu-img resize");
                serde_json::json!({})
            }
            "query-status" => {
                let state = guest.lock().unwrap().state;
                serde_json::json!({"running": state == "running", "singlestep": false, "status": state})
            }
            "stop" => {
                let mut guest = guest.lock().unwrap();
                assert_eq!(guest.state, "running", "stop");
                guest.state = "paused";
                serde_json::json!({})
            }
            "cont" => {
                let mut guest = guest.lock().unwrap();
                assert_ne!(guest.state, "inmigrate", "cont");
                if fault("no-cont") && guest.state == "postmigrate" && guest.migration.take().is_some() {
                    let desc = "Could not reopen qcow2 layer: No space left on device";
                    let error = serde_json::json!({"error": {"class": "GenericError", "desc": desc}});
                    writeln!(out, "{error}\r")?;
                    continue;
                }
                note_run();
                *guest = Guest { state: "running", migration: None };
                serde_json::json!({})
            }
            "query-machines" => serde_json::json!([
                {"name": "pc-q35-7.1", "cpu-max": 288},
                {"name": "pc-q35-7.2", "alias": "q35", "cpu-max": 288},
            ]),
            "query-migrate" if self::fault("no-migration") => serde_json::json!({"blocked-reasons": [
                "Migration is disabled when VirtFS export path '/srv' is mounted in the guest using mount_tag 'goloo0'"
            ]}),
            "query-migrate" => match guest.lock().unwrap().migration {
                Some(status) => serde_json::json!({"status": status}),
                None => serde_json::json!({}),
            },
            "migrate-set-parameters" => serde_json::json!({}),
            "migrate_cancel" => {
                guest.lock().unwrap().migration = Some("cancelled");
                serde_json::json!({})
            }
            "migrate" => {
                assert_eq!(guest.lock().unwrap().state, "paused", "migrate");
                send(request["arguments"]["uri"].as_str().unwrap(), &line.machine, guest)?;
                serde_json::json!({})
            }
            "query-blockstats" => serde_json::json!([{"device": "disk", "stats": {"wr_operations": writes}}]),
            other => {
                let desc = format!("The command {other} has not been found");
                let error = serde_json::json!({"error": {"class": "CommandNotFound", "desc": desc}});
                writeln!(out, "{error}\r")?;
                continue;
            }
        };
        writeln!(out, "{}\r", serde_json::json!({ "return": answer }))?;
        let ends = match request["execute"].as_str() {
            Some("quit") => true,
            Some("system_powerdown") => !self::fault("ignores-power-down"),
            _ => false,
        };
        if ends {
            let _ = line.pid_file.as_ref().map(std::fs::remove_file);
            exit(0);
        }
    }
    Ok(())
}
