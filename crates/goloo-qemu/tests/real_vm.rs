//! Real guests under real QEMU, which takes minutes. The image is built once by the real builder (root and the
//! builder's tools are required) and kept in the test cache.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{SuiteWork, endpoint, kill, machine, processes_of, record};
use goloo_images::{Cache, Watch, build};
use goloo_model::events::Event;
use goloo_model::provider::{LiveState, Machine, Provider, StopMode};
use goloo_model::record::{Endpoint, Record};
use goloo_model::spec::{ImageRef, Mount};
use goloo_qemu::accel::Accel;
use goloo_qemu::{QemuProvider, Settings};
use goloo_testkit::test_cache::{self, IMAGE_LOCK};
use rustix::fs::{FlockOperation, flock};

const IMAGE: &str = "debian-12";
const BOOT: Duration = Duration::from_secs(400);

struct Stderr;

impl Watch for Stderr {
    fn event(&self, event: Event) {
        if let Event::Step { what } = event {
            eprintln!("{what}");
        }
    }

    fn stopped(&self) -> bool {
        false
    }
}

/// The cache of test images, containing this image.
fn cache_with(image: &str) -> Cache {
    let cache = Cache::new(test_cache::folder().join("images"));
    let _lock = test_cache::lock(IMAGE_LOCK);
    if cache.built(image).is_none() {
        build::build(&cache, image, &Stderr).unwrap();
    }
    cache
}

/// At most two guests at a time: on few cores they would only slow each other down.
fn turn() -> File {
    for name in ["guest-1.lock", "guest-2.lock"] {
        let file = test_cache::lock_file(name);
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return file;
        }
    }
    test_cache::lock("guest-1.lock")
}

/// Without acceleration, so that the tests behave the same everywhere.
fn provider(state: &Path) -> QemuProvider {
    let mut settings = Settings::new(state, cache_with(IMAGE));
    settings.supervisor = Some(common::supervisor());
    settings.accel = Some(Accel::Tcg);
    QemuProvider::new(settings)
}

/// A guest with keys generated for this test.
struct Guest {
    _folder: tempfile::TempDir,
    state: PathBuf,
    key: PathBuf,
    known_hosts: PathBuf,
    host_key: String,
    provider: QemuProvider,
    machine: Machine,
    record: Record,
    work: SuiteWork,
    /// Where SSH answers.
    address: String,
    port: u16,
}

fn make_key(path: &Path) -> (String, String) {
    let status =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(path).status();
    assert!(status.unwrap().success());
    let private = std::fs::read_to_string(path).unwrap();
    let mut public = path.as_os_str().to_owned();
    public.push(".pub");
    let public = std::fs::read_to_string(public).unwrap();
    (private, public.trim().to_owned())
}

impl Guest {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (_, client) = make_key(&folder.path().join("client"));
        let (private, public) = make_key(&folder.path().join("host"));
        let indented: String = private.lines().map(|line| format!("    {line}\n")).collect();
        let user_data = format!(
            "#cloud-config\nssh_deletekeys: true\nssh_genkeytypes: [ed25519]\nssh_authorized_keys: ['{client}']\n\
             ssh_keys:\n  ed25519_public: '{public}'\n  ed25519_private: |\n{indented}"
        );
        let state = folder.path().join("state");
        let machine = machine(name, ImageRef::Alias(IMAGE.to_owned()), user_data.as_bytes());
        Self {
            key: folder.path().join("client"),
            known_hosts: folder.path().join("known_hosts"),
            host_key: public,
            provider: provider(&state),
            record: record(&machine),
            machine,
            work: SuiteWork::default(),
            address: String::new(),
            port: 0,
            state,
            _folder: folder,
        }
    }

    async fn create(&mut self) {
        let begun = Instant::now();
        let made = endpoint(self.provider.create(&self.machine, &mut self.work).await.unwrap());
        eprintln!("create took {} ms", begun.elapsed().as_millis());
        self.reach(&made).await;
    }

    async fn start(&mut self) {
        let made = endpoint(self.provider.start(&self.record, &mut self.work).await.unwrap());
        let place = (made.address.as_ref().unwrap().to_string(), made.ssh_port.unwrap());
        assert_eq!(place, (self.address.clone(), self.port), "the address and the SSH port stay");
        self.reach(&made).await;
    }

    async fn stop(&mut self, mode: StopMode) {
        self.provider.stop(&self.record, mode, &mut self.work).await.unwrap();
    }

    async fn reach(&mut self, made: &Endpoint) {
        self.address = made.address.as_ref().unwrap().to_string();
        self.port = made.ssh_port.unwrap();
        self.write_known_hosts();
        let begun = Instant::now();
        while !self.greets() {
            assert!(begun.elapsed() < BOOT, "no SSH; the console's end:\n{}", self.console());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        eprintln!("SSH after {:.1} s", begun.elapsed().as_secs_f64());
    }

    fn write_known_hosts(&self) {
        let line = format!("[{}]:{} {}\n", self.address, self.port, self.host_key);
        std::fs::write(&self.known_hosts, line).unwrap();
    }

    fn folder(&self) -> PathBuf {
        self.state.join("vms").join(self.machine.id.as_str())
    }

    fn log_size(&self) -> u64 {
        let entries = std::fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap());
        let logs = entries.filter(|entry| entry.file_name().as_encoded_bytes().ends_with(b".log"));
        logs.map(|entry| entry.metadata().unwrap().len()).sum()
    }

    /// The guest writes 5 MB while goloo is not running: the log stays small and keeps its end. Then nothing reads the
    /// console anymore, and the guest keeps running.
    async fn flood_the_console(&self) {
        let begun = Instant::now();
        self.run(
            "yes A line that is written again and again | head -c 5000000 | sudo tee /dev/ttyS0 >/dev/null",
        );
        eprintln!("5 MB on the console in {:.1} s", begun.elapsed().as_secs_f64());
        self.run("echo the end of the flood | sudo tee /dev/ttyS0 >/dev/null");
        common::until("the end is in the log", Duration::from_secs(10), async || {
            self.console().contains("the end of the flood")
        })
        .await;
        let size = self.log_size();
        assert!((2_000_000..4_500_000).contains(&size), "{size} bytes");

        let supervisors = common::supervisors_of(&self.state);
        let status = std::fs::read_to_string(format!("/proc/{}/status", supervisors[0])).unwrap();
        let memory = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("RssAnon"));
        eprintln!("the supervisor's memory: {:?}", memory.collect::<Vec<_>>());
        kill(&supervisors);
        self.run("yes | head -c 200000 | sudo tee /dev/ttyS0 >/dev/null");
        assert_eq!(self.state().await, LiveState::Running);
        assert!(self.log_size() <= size, "nobody writes to it");
    }

    /// Reported by the kernel: 2 means a seccomp filter is active.
    fn is_in_its_sandbox(&self) {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", processes_of(&self.state)[0])).unwrap();
        assert!(status.lines().any(|line| line == "Seccomp:\t2"), "{status}");
    }

    /// A process of the guest lives on, and its random numbers differ from those that another start of the same memory
    /// would give.
    async fn is_suspended_and_continues(&mut self) {
        self.run("echo $$ >before; nohup sleep 10000 >/dev/null 2>&1 & echo $! >sleeper");
        let (boot, secret) = (self.run("cat /proc/sys/kernel/random/boot_id"), "a secret in memory");
        self.run(&format!("printf '{secret}' >/dev/shm/secret"));
        let begun = Instant::now();
        self.stop(StopMode::Suspend).await;
        let saved = begun.elapsed();
        assert_eq!((self.state().await, processes_of(&self.state)), (LiveState::Suspended, vec![]));
        let size = std::fs::metadata(self.folder().join("memory.lz4")).unwrap().len();
        let begun = Instant::now();
        self.start().await;
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!(
            "suspended in {:.1} s ({} MB), continued in {seconds:.1} s",
            saved.as_secs_f64(),
            size >> 20
        );
        assert_eq!(self.run("cat /proc/sys/kernel/random/boot_id"), boot, "it hasn't booted");
        assert_eq!(self.run("kill -0 $(cat sleeper) && cat /dev/shm/secret note"), format!("{secret}kept"));
        assert!(!self.folder().join("memory.lz4").exists());
        assert_eq!(self.run("test -e /sys/bus/acpi/devices/QEMUVGID:00 && echo reseeded"), "reseeded");
    }

    /// What docs/security.md says about QEMU's user network: if this fails, `vm.host_access` becomes possible.
    fn sees_the_hosts_loopback(&self) {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        self.run(&format!(
            "python3 -c 'import socket; socket.create_connection((\"10.0.2.2\", {port}), 10)'"
        ));
    }

    fn greets(&self) -> bool {
        let mut start = [0; 4];
        let Ok(mut stream) = TcpStream::connect((self.address.as_str(), self.port)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream.read_exact(&mut start).is_ok() && &start == b"SSH-"
    }

    fn console(&self) -> String {
        let log = self.folder().join("console.log");
        let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    fn ssh(&self, command: &str) -> Output {
        Command::new("ssh")
            .args(["-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null"])
            .args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", self.known_hosts.display()))
            .arg("-i")
            .arg(&self.key)
            .args(["-p", &self.port.to_string(), &format!("debian@{}", self.address), command])
            .output()
            .unwrap()
    }

    fn run(&self, command: &str) -> String {
        let output = self.ssh(command);
        assert!(output.status.success(), "{command}: {output:?}\nconsole:\n{}", self.console());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    async fn state(&self) -> LiveState {
        self.provider.observe(&[&self.record]).await.remove(0).state
    }

    async fn delete(mut self) {
        self.provider.delete(&self.record, &mut self.work).await.unwrap();
        assert_eq!(self.state().await, LiveState::Missing);
        assert_eq!(std::fs::read_dir(self.state.join("vms")).unwrap().count(), 0);
        assert_eq!(processes_of(&self.state), [0; 0]);
    }
}

impl Drop for Guest {
    /// A failed test leaves no QEMU behind.
    fn drop(&mut self) {
        kill(&processes_of(&self.state));
    }
}

#[tokio::test]
async fn vm_keeps_its_data_after_power_down_forced_power_off_and_killed_qemu() {
    let _turn = turn();
    let mut guest = Guest::new("real");
    guest.create().await;
    assert_eq!(guest.state().await, LiveState::Running);
    assert_eq!(guest.run("hostname"), "real");
    guest.run("test -e /run/cloud-init/result.json || sudo cloud-init status --wait");
    assert_eq!(guest.run("sudo cloud-init status"), "status: done");
    let root: u64 = guest.run("df --output=size -B1 / | tail -1").parse().unwrap();
    assert!(root > 3_700_000_000, "the root has grown to the disk's 4G: {root}");
    guest.run("echo kept > note && sync");

    std::fs::write(&guest.known_hosts, {
        let (_, other) = make_key(&guest.key.with_file_name("other"));
        format!("[{}]:{} {other}\n", guest.address, guest.port)
    })
    .unwrap();
    assert!(!guest.ssh("true").status.success(), "another host key is refused");

    guest.write_known_hosts();
    guest.flood_the_console().await;
    guest.is_in_its_sandbox();
    guest.sees_the_hosts_loopback();

    guest.is_suspended_and_continues().await;

    let begun = Instant::now();
    guest.stop(StopMode::Graceful).await;
    eprintln!("off after {:.1} s", begun.elapsed().as_secs_f64());
    assert!(guest.work.said().iter().all(|text| !text.contains("power")), "{:?}", guest.work.said());
    assert_eq!(guest.state().await, LiveState::Stopped);
    assert_eq!(processes_of(&guest.state), [0; 0]);

    guest.start().await;
    assert_eq!(guest.run("cat note"), "kept");
    guest.stop(StopMode::Force).await;
    assert_eq!(guest.state().await, LiveState::Stopped);

    guest.start().await;
    assert_eq!(guest.run("cat note"), "kept");
    kill(&processes_of(&guest.state));
    common::until("a killed QEMU is a stopped machine", Duration::from_secs(10), async || {
        guest.state().await == LiveState::Stopped
    })
    .await;
    guest.delete().await;
}

#[tokio::test]
async fn vm_can_access_a_mounted_host_folder() {
    let _turn = turn();
    let shared = tempfile::tempdir().unwrap();
    std::fs::write(shared.path().join("from-host"), "hello").unwrap();
    let mut guest = Guest::new("shared");
    guest.machine.stack.mounts =
        vec![Mount { source: shared.path().to_owned(), target: "/mnt/shared".to_owned(), readonly: false }];
    guest.create().await;
    guest.run(
        "sudo mkdir -p /mnt/shared && sudo mount -t 9p -o trans=virtio,version=9p2000.L goloo0 /mnt/shared",
    );
    assert_eq!(guest.run("cat /mnt/shared/from-host"), "hello");
    guest.run("echo back | sudo tee /mnt/shared/from-guest");
    assert_eq!(std::fs::read_to_string(shared.path().join("from-guest")).unwrap(), "back\n");

    // Symlinks are resolved in the guest, no matter who created them, so none gives access to a host file.
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "a secret of the host").unwrap();
    std::os::unix::fs::symlink(&secret, shared.path().join("host-link")).unwrap();
    std::os::unix::fs::symlink(outside.path(), shared.path().join("host-folder")).unwrap();
    let (secret, outside) = (secret.display(), outside.path().display());
    guest.run(&format!(
        "sudo ln -s {secret} /mnt/shared/guest-link; sudo ln -s {outside} /mnt/shared/guest-folder"
    ));
    guest.run("sudo ln -s ../../../../../../../.. /mnt/shared/up");
    for path in
        ["host-link", "host-folder/secret", "guest-link", "guest-folder/secret", &format!("up{secret}")]
    {
        let read = guest.ssh(&format!("sudo cat /mnt/shared/{path}"));
        assert!(!read.status.success(), "{path}: {read:?}");
        assert!(!String::from_utf8_lossy(&read.stdout).contains("secret of the host"), "{path}");
        guest.ssh(&format!("echo changed | sudo tee /mnt/shared/{path}"));
    }
    assert_eq!(std::fs::read_to_string(secret.to_string()).unwrap(), "a secret of the host");
    guest.delete().await;
}
