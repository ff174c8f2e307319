//! A test environment for the command: separate folders, a stack, an image, and a stand-in for QEMU.

#![allow(dead_code, clippy::unwrap_used)]

pub mod kill;
pub mod tmux;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use goloo_testkit::test_cache::{self, IMAGE_LOCK};
use serde_json::Value;

/// One user's machine, as far as goloo can see it.
pub struct World {
    folder: tempfile::TempDir,
    /// The cache of real images; unused with QEMU's stand-in.
    real: Option<PathBuf>,
    /// The port at which its Multipass instances answer SSH; `None` means that Multipass isn't installed.
    multipass: Option<u16>,
}

pub const HELLO: &str = r##"{"vm": {"cpus": 1, "memory": "512M", "disk": "1G", "image": "./disk.img"}}"##;

/// Commands that need the machine of `hello`, and so are refused on any other host.
pub const NEEDS_THE_MACHINE: [&[&str]; 21] = [
    &["start", "hello"],
    &["stop", "hello"],
    &["restart", "hello"],
    &["delete", "hello", "--yes"],
    &["delete", "hello", "--yes", "--keep-going"],
    &["resume", "hello"],
    &["wait", "hello"],
    &["ssh", "hello"],
    &["exec", "hello", "--", "true"],
    &["cp", "hello:/etc/hostname", "."],
    &["ssh-config", "hello"],
    &["logs", "hello"],
    &["logs", "hello", "--console"],
    &["snapshot", "hello"],
    &["snapshot", "hello", "--list"],
    &["snapshot", "hello", "--delete", "one"],
    &["restore", "hello", "one", "--yes"],
    &["clone", "hello", "copy"],
    &["export", "hello", "hello.goloo"],
    &["rename", "hello", "copy"],
    &["refresh", "hello"],
];

/// The provider is fixed, so that it doesn't depend on what is installed on the machine that runs the tests.
const SETTINGS: &str = r#"{"localProvider": "qemu"}"#;

impl World {
    /// With one stack, `hello`, whose image is an empty disk.
    pub fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap(), real: None, multipass: None };
        world.settings(SETTINGS);
        world.stack("hello", HELLO, "#cloud-config\nruncmd: [\"true\"]\n");
        world
    }

    /// With Multipass's stand-in. Its first two instances have the addresses 127.0.0.2 and 127.0.0.3, where this process
    /// sends an SSH banner.
    pub fn multipass() -> Self {
        let (port, listeners) = ssh_listeners();
        for listener in listeners {
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let _ = stream.write_all(b"SSH-2.0-stand-in\r\n");
                }
            });
        }
        let mut world = Self::new();
        world.multipass = Some(port);
        world
    }

    /// The folder of Multipass's stand-in.
    pub fn daemon(&self) -> PathBuf {
        self.path().join("daemon")
    }

    /// Enables these faults of Multipass's stand-in, and disables all others.
    pub fn multipass_faults(&self, faults: &[&str]) {
        fs::create_dir_all(self.daemon()).unwrap();
        fs::write(self.daemon().join("faults"), faults.join("\n")).unwrap();
    }

    /// The lines of one of the stand-in's files: `calls`, `ledger`, `violations`.
    pub fn multipass_file(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.daemon().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Runs `multipass` itself, without goloo.
    pub fn by_hand(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(multipass_stand_in());
        self.settle(&mut command);
        Ran(command.env("GOLOO_STAND_IN_BY", "someone").args(arguments).output().unwrap())
    }

    /// With the real QEMU, which emulates so that the tests behave the same everywhere, and with the image `debian-12`,
    /// which is built if it isn't in the test cache.
    pub fn real() -> Self {
        Self::real_with("debian-12")
    }

    /// Like [`Self::real`], with another image.
    pub fn real_with(image: &str) -> Self {
        let real = Some(test_cache::folder());
        let world = Self { folder: tempfile::tempdir().unwrap(), real, multipass: None };
        world.settings(SETTINGS);
        let _lock = test_cache::lock(IMAGE_LOCK);
        let images = world.json(&["image", "list", "--json"]);
        if !images["images"].as_array().unwrap().iter().any(|listed| listed["name"] == image) {
            world.run(&["image", "build", image]).expect(0);
        }
        world
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn state(&self) -> PathBuf {
        self.path().join("data/goloo")
    }

    /// Writes the settings.
    pub fn settings(&self, json: &str) {
        let path = self.path().join("config/settings.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, json).unwrap();
    }

    /// Writes a stack below `./stacks`.
    pub fn stack(&self, name: &str, config: &str, cloud_init: &str) -> PathBuf {
        let folder = self.path().join("work/stacks").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), config).unwrap();
        if !cloud_init.is_empty() {
            fs::write(folder.join("cloud-init.yaml"), cloud_init).unwrap();
        }
        // A raw disk without an operating system, but with a boot sector signature.
        let mut sector = vec![0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        fs::write(folder.join("disk.img"), sector).unwrap();
        let disk = fs::File::options().write(true).open(folder.join("disk.img")).unwrap();
        disk.set_len(64 << 20).unwrap();
        folder
    }

    /// Adds a script as the first program of this name on the PATH.
    pub fn program(&self, name: &str, script: &str) {
        let path = self.path().join("bin").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Adds an `ssh` that answers the engine's queries like a provisioned machine.
    pub fn ssh_finds(&self, status_json: &str) {
        self.program(
            "ssh",
            &format!(
                "#!/bin/sh\nfor last; do :; done\ncase $last in\n  *goloo:status*) echo '@goloo:status@'; echo '{status_json}' ;;\n  *tail*) echo 'the last line of the log' ;;\nesac\n"
            ),
        );
    }

    /// From now on, SSH connections are kept.
    pub fn keep_connections(&self) {
        let folder = self.path().join("run");
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    }

    /// The sockets of kept connections.
    pub fn kept_connections(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path().join("run/goloo")).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_none()).collect()
    }

    /// This world's hosts file; it doesn't exist until it is written.
    pub fn hosts_file(&self) -> PathBuf {
        self.path().join("etc/hosts")
    }

    /// The environment variables that confine a command to this world.
    pub fn env(&self) -> Vec<(String, String)> {
        let at = |name: &str| self.path().join(name).display().to_string();
        let path = format!("{}:{}", at("bin"), std::env::var("PATH").unwrap());
        let own = || {
            [
                ("GOLOO_QEMU", stand_in().display().to_string()),
                ("GOLOO_VIRTIOFSD", beside_goloo("goloo-virtiofsd-stand-in").display().to_string()),
                ("GOLOO_CACHE_DIR", at("cache")),
            ]
        };
        let shared = |cache: &PathBuf| {
            vec![
                ("GOLOO_VIRTIOFSD", virtiofsd().display().to_string()),
                ("GOLOO_CACHE_DIR", cache.display().to_string()),
            ]
        };
        let machines = self.real.as_ref().map_or_else(|| own().to_vec(), shared);
        let pairs = [
            ("HOME", at("home")),
            ("PATH", path),
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("USER", "ann".to_owned()),
            ("XDG_DATA_HOME", at("data")),
            ("GOLOO_CONFIG_DIR", at("config")),
            ("GOLOO_HOSTS_FILE", at("etc/hosts")),
            ("GOLOO_QEMU_ACCEL", "tcg".to_owned()),
            ("EDITOR", at("bin/edit")),
            // It exists only in a world that keeps connections.
            ("XDG_RUNTIME_DIR", at("run")),
        ];
        let multipass = match self.multipass {
            Some(port) => vec![
                ("GOLOO_MULTIPASS", multipass_stand_in().display().to_string()),
                ("GOLOO_MULTIPASS_SSH_PORT", port.to_string()),
                ("GOLOO_STAND_IN_MULTIPASS", at("daemon")),
            ],
            None => vec![("GOLOO_MULTIPASS", at("no-multipass-here"))],
        };
        fs::create_dir_all(self.path().join("home")).unwrap();
        fs::create_dir_all(self.path().join("work")).unwrap();
        pairs
            .into_iter()
            .chain(machines)
            .chain(multipass)
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// The `goloo` command in this world, without arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(goloo());
        self.settle(&mut command);
        command
    }

    /// Gives a command this world's environment and working folder.
    pub fn settle(&self, command: &mut Command) {
        command.env_clear().envs(self.env()).current_dir(self.path().join("work"));
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.command().args(arguments).output().unwrap())
    }

    /// Runs a command line of goloo on a terminal, and answers its question.
    pub fn answering(&self, answer: &str, line: &str) -> Ran {
        let mut command = Command::new("script");
        self.settle(&mut command);
        command.args(["-qec", &format!("{} {line}", goloo().display()), "/dev/null"]);
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        script.stdin.take().unwrap().write_all(format!("{answer}\n").as_bytes()).unwrap();
        Ran(script.wait_with_output().unwrap())
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(arguments);
        serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// Names of the active VMs.
    pub fn names(&self) -> Vec<String> {
        let list = self.json(&["list", "--json"]);
        list["vms"].as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The existing machine folders.
    pub fn machines(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.state().join("vms")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// What the QEMU of a VM says about its guest, such as `running` or `postmigrate`.
    pub fn run_state(&self, vm: &str) -> String {
        let id = self.json(&["status", vm, "--json"])["vm"]["id"].as_str().unwrap().to_owned();
        let stream = UnixStream::connect(self.state().join("vms").join(id).join("qmp.sock")).unwrap();
        let mut lines = BufReader::new(&stream).lines();
        let mut answer = |request: &str| -> serde_json::Value {
            (&stream).write_all(request.as_bytes()).unwrap();
            serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
        };
        // The first answer is the greeting.
        answer("{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-status\"}\n");
        answer("");
        answer("")["return"]["status"].as_str().unwrap().to_owned()
    }

    /// The pids of this world's QEMU processes.
    pub fn qemus(&self) -> Vec<u32> {
        let marker = self.path().display().to_string();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("qemu") && line.contains("-netdev") && line.contains(&marker)
        })
        .collect()
    }

    /// Asserts that nothing of any VM is left.
    pub fn assert_empty(&self, when: &str) {
        assert_eq!(self.names(), Vec::<String>::new(), "{when}: VMs are left");
        assert!(self.machines().is_empty(), "{when}: machines are left: {:?}", self.machines());
        wait_until(&format!("{when}: QEMU is gone"), || self.qemus().is_empty());
        wait_until(&format!("{when}: no folder is shared"), || self.shares().is_empty());
    }

    /// The processes that share folders with this world's machines.
    pub fn shares(&self) -> Vec<u32> {
        let start = format!("virtiofsd:{}/", self.path().display());
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let is_one = |pid: &u32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(start.as_bytes()))
        };
        pids.filter(is_one).collect()
    }
}

/// A port that is free at the addresses of two instances.
fn ssh_listeners() -> (u16, [TcpListener; 2]) {
    loop {
        let first = TcpListener::bind(("127.0.0.2", 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = TcpListener::bind(("127.0.0.3", port)) {
            return (port, [first, second]);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A failed test must not leave machines behind.
        for pid in self.qemus().into_iter().chain(self.shares()) {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        if self.multipass.is_some() {
            // Clients that still wait for a launch exit when the faults are disabled.
            self.multipass_faults(&[]);
        }
        if !std::thread::panicking() {
            assert_eq!(self.multipass_file("violations"), [""; 0], "goloo touched what it didn't make");
        }
    }
}

/// The output of a command.
pub struct Ran(pub Output);

impl Ran {
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self:?}");
        self
    }
}

impl std::fmt::Debug for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}\n--- stdout\n{}\n--- stderr\n{}", self.0.status, self.stdout(), self.stderr())
    }
}

pub fn goloo() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_goloo"))
}

/// The path of the testkit's program, which `scripts/test.sh` builds next to goloo.
pub fn stand_in() -> PathBuf {
    beside_goloo("goloo-qemu-stand-in")
}

pub fn multipass_stand_in() -> PathBuf {
    beside_goloo("goloo-multipass-stand-in")
}

/// A real virtiofsd, which is built if this system has none.
fn virtiofsd() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/virtiofsd.sh");
        let output = Command::new(script).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().into()
    };
    PROGRAM.get_or_init(find).clone()
}

fn beside_goloo(name: &str) -> PathBuf {
    let path = goloo().with_file_name(name);
    assert!(path.exists(), "{} is missing: cargo build -p goloo-testkit --bins", path.display());
    path
}

/// Waits for a condition, with a time limit that is only exceeded if there is a bug.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
