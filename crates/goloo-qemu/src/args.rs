//! Builds QEMU's command line as a value; runs no queries and starts nothing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use goloo_images::Arch;
use goloo_model::record::SSH_PORT;
use goloo_switch::{member_socket, switch_end};

use crate::accel::Accel;
use crate::ports::{Forward, Listener};
use crate::private_nic::PrivateNic;
use crate::shared_folder::SharedFolder;
use crate::virtiofs;

/// The name of the QMP socket. QEMU gets it relative to the machine's folder, which is its working directory: a
/// socket's path is limited to 107 bytes, and state folders can be deeply nested.
pub const QMP_SOCKET: &str = "qmp.sock";

/// The socket over which a machine's memory is saved and loaded, in its folder too.
pub(crate) const MEMORY_SOCKET: &str = "memory.sock";

/// Where QEMU writes the console: its standard input, the writing end of a pipe. With a named pipe, QEMU would block
/// forever on opening it when there is no reader.
pub(crate) const CONSOLE_PATH: &str = "/dev/fd/0";

/// Stems of the logs in the machine's folder.
pub(crate) const CONSOLE: &str = "console";
pub(crate) const MESSAGES: &str = "qemu";

/// The id of the machine's network that reaches the internet.
pub(crate) const NETWORK: &str = "net0";

/// The ids of what connects the machine to a private network: QEMU's end of it, the network card, and the PCIe port that
/// the card is plugged into.
pub(crate) const PRIVATE_NETWORK: &str = "private";
pub(crate) const PRIVATE_NIC: &str = "private-nic";
pub(crate) const PRIVATE_PORT: &str = "private-port";

/// The id of the memory that QEMU shares with virtiofsd.
const SHARED_MEMORY: &str = "memory";

/// What the ids of the devices of virtiofs begin with.
pub(crate) const VIRTIOFS: &str = "virtiofs";

/// Precedes the path of the pid file; the two together identify a machine's QEMU.
pub(crate) const PID_FILE_FLAG: &str = "-pidfile";

/// A QEMU that a guest has broken out into can't start programs, become another user or use obsolete system calls. It
/// can't daemonize itself either.
pub(crate) const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The paths of one machine's files; nothing is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// The files in this folder (an absolute path).
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The machine's description, for later starts.
    pub fn machine(&self) -> PathBuf {
        self.folder.join("machine.json")
    }

    /// The overlay, which receives all of the guest's writes.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk.qcow2")
    }

    /// The base image, if it could be linked into the folder.
    pub fn base(&self) -> PathBuf {
        self.folder.join("base.img")
    }

    /// The cloud-init seed.
    pub fn seed(&self) -> PathBuf {
        self.folder.join("seed.img")
    }

    /// The serial console's log, without `.log`.
    pub(crate) fn console(&self) -> PathBuf {
        self.folder.join(CONSOLE)
    }

    /// QEMU's own messages.
    pub fn log(&self) -> PathBuf {
        self.folder.join(MESSAGES).with_extension("log")
    }

    /// QEMU's process id, written by QEMU.
    pub fn pid(&self) -> PathBuf {
        self.folder.join("qemu.pid")
    }

    /// The memory of a suspended machine.
    pub(crate) fn memory(&self) -> PathBuf {
        self.folder.join("memory.lz4")
    }

    /// The UEFI variables, for machines that boot with UEFI.
    pub fn variables(&self) -> PathBuf {
        self.folder.join("uefi-vars.fd")
    }
}

/// The name of the machine's disk in QEMU.
pub(crate) const DISK: &str = "disk";

/// The inputs of one start.
#[derive(Debug, Clone)]
pub struct Start<'a> {
    /// The VM's name, shown in process lists.
    pub name: &'a str,
    /// The guest's architecture.
    pub arch: Arch,
    /// The acceleration.
    pub accel: Accel,
    /// Virtual CPUs.
    pub cpus: u32,
    /// RAM in MiB.
    pub memory_mib: u64,
    /// Whether the guest runs on any CPU of its architecture.
    pub any_cpu: bool,
    /// Forwarded to the guest's port 22.
    pub ssh: Listener,
    /// Additional forwards.
    pub ports: &'a [Forward],
    /// Shared folders; the first one gets the tag `goloo0`.
    pub mounts: &'a [SharedFolder],
    /// Whether they are shared over virtiofs too, with the same tags.
    pub virtiofs: bool,
    /// Whether QEMU drops the system calls it doesn't need.
    pub sandbox: bool,
    /// The UEFI code, on aarch64.
    pub firmware: Option<&'a Path>,
    /// Whether it has a PCIe port for a network card of a private network.
    pub private_port: bool,
    /// The network card in that port.
    pub private_nic: Option<&'a PrivateNic>,
    /// The machine's files.
    pub files: &'a Files,
    /// The full name of the machine type that it was saved with, for a machine that continues from its saved memory.
    pub saved_as: Option<&'a str>,
}

/// The CPU model. Translated AVX is slower than the code programs use without it: a Debian guest boots in 16 % less
/// time without AVX. Guests that may need it keep it (RHEL 10 does).
fn cpu(start: &Start<'_>) -> &'static str {
    match (start.accel, start.arch) {
        (Accel::Tcg, Arch::X86_64) if start.any_cpu => "max,avx=off,avx2=off,fma=off,f16c=off",
        (Accel::Tcg, _) => "max",
        _ => "host",
    }
}

/// The arguments after the program's name.
pub fn argv(start: &Start<'_>) -> Vec<OsString> {
    let mut line = Line(Vec::new());
    if start.sandbox {
        line.words(&["-sandbox", SANDBOX]);
    }
    line.option("-name", &[b"guest=".as_slice(), start.name.as_bytes()]);
    line.words(&["-nodefaults", "-no-user-config", "-display", "none"]);
    let has_virtiofs = start.virtiofs && !start.mounts.is_empty();
    let memory = if has_virtiofs { format!(",memory-backend={SHARED_MEMORY}") } else { String::new() };
    let machine = start.saved_as.unwrap_or(machine_type(start.arch));
    line.words(&["-machine", &format!("{machine}{memory}"), "-accel", acceleration(start.accel)]);
    line.words(&["-cpu", cpu(start)]);
    line.words(&["-smp", &start.cpus.to_string(), "-m", &format!("{}M", start.memory_mib)]);
    if has_virtiofs {
        // virtiofsd reads and writes it too.
        let size = start.memory_mib;
        line.words(&["-object", &format!("memory-backend-memfd,id={SHARED_MEMORY},share=on,size={size}M")]);
    }
    if let Some(code) = start.firmware {
        let variables = start.files.variables();
        line.option("-drive", &[b"if=pflash,unit=0,format=raw,readonly=on,file=", bytes(code)]);
        line.option("-drive", &[b"if=pflash,unit=1,format=raw,file=", bytes(&variables)]);
    }
    let (disk, seed) = (start.files.disk(), start.files.seed());
    line.option("-drive", &[b"if=none,id=disk,format=qcow2,discard=unmap,file=", bytes(&disk)]);
    line.words(&["-device", "virtio-blk-pci,drive=disk,bootindex=1"]);
    line.option("-drive", &[b"if=none,id=seed,format=raw,readonly=on,file=", bytes(&seed)]);
    line.words(&["-device", "virtio-blk-pci,drive=seed"]);
    line.words(&["-netdev", &network(start.ssh, start.ports)]);
    // An empty romfile disables network boot, which would only cost time.
    line.words(&["-device", &format!("virtio-net-pci,netdev={NETWORK},romfile=")]);
    if start.private_port {
        // At a fixed place, so that it moves no other device.
        line.words(&["-device", &format!("pcie-root-port,id={PRIVATE_PORT},chassis=1,addr=0x1e")]);
    }
    if let Some(nic) = start.private_nic {
        line.words(&["-netdev", &private_network(nic)]);
        line.words(&["-device", &private_nic(nic)]);
    }
    line.words(&["-device", "virtio-rng-pci"]);
    if start.arch == Arch::X86_64 {
        // Tells the guest that its memory was loaded, so that it doesn't repeat random numbers.
        line.words(&["-device", "vmgenid,guid=auto"]);
    }
    for (index, share) in start.mounts.iter().enumerate() {
        let readonly = if share.readonly { ",readonly=on" } else { "" };
        let tag = format!(",mount_tag=goloo{index},security_model=none,multidevs=remap{readonly}");
        line.option("-virtfs", &[b"local,path=", bytes(&share.source), tag.as_bytes()]);
    }
    if has_virtiofs {
        for index in 0..start.mounts.len() {
            let socket = virtiofs::socket(index);
            line.words(&["-chardev", &format!("socket,id=share{index},path={socket}")]);
            let device =
                format!("vhost-user-fs-pci,id={VIRTIOFS}{index},chardev=share{index},tag=goloo{index}");
            line.words(&["-device", &device]);
        }
    }
    line.words(&["-chardev", &format!("file,id=console,append=on,path={CONSOLE_PATH}")]);
    line.words(&["-serial", "chardev:console"]);
    line.words(&["-chardev", &format!("socket,id=qmp,server=on,wait=off,path={QMP_SOCKET}")]);
    line.words(&["-mon", "chardev=qmp,mode=control"]);
    if start.saved_as.is_some() {
        line.words(&["-incoming", &format!("unix:{}", MEMORY_SOCKET)]);
    }
    line.0.push(PID_FILE_FLAG.into());
    line.0.push(start.files.pid().into_os_string());
    line.0
}

/// QEMU's name for the newest version of the machine type.
pub(crate) fn machine_type(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "q35",
        Arch::Aarch64 => "virt",
    }
}

fn acceleration(accel: Accel) -> &'static str {
    match accel {
        Accel::Kvm => "kvm",
        Accel::Hvf => "hvf",
        // The default translation buffer takes 1.2 GB of RAM; 256 MiB are just as fast.
        Accel::Tcg => "tcg,thread=multi,tb-size=256",
    }
}

fn network(ssh: Listener, ports: &[Forward]) -> String {
    let mut text = format!("user,id={NETWORK}");
    let active = ports.iter().filter(|forward| forward.is_active());
    let rules = active.map(|forward| forward.listener().rule(forward.guest));
    for rule in std::iter::once(ssh.rule(SSH_PORT)).chain(rules) {
        text.push_str(&format!(",hostfwd={rule}"));
    }
    text
}

/// Names of environments and addresses have no commas.
fn private_network(nic: &PrivateNic) -> String {
    format!(
        "dgram,id={PRIVATE_NETWORK},local.type=unix,local.path={},remote.type=unix,remote.path={}",
        nic.socket(&member_socket(nic.address)),
        nic.socket(&switch_end(nic.address)),
    )
}

fn private_nic(nic: &PrivateNic) -> String {
    let mac = nic.address.mac();
    format!("virtio-net-pci,id={PRIVATE_NIC},netdev={PRIVATE_NETWORK},bus={PRIVATE_PORT},mac={mac},romfile=")
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

struct Line(Vec<OsString>);

impl Line {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    /// Adds a flag and its value. The parts at odd indices are external input: QEMU requires commas in them to be
    /// doubled.
    fn option(&mut self, flag: &str, parts: &[&[u8]]) {
        let mut value = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            if index % 2 == 1 {
                value.extend(double_commas(part));
            } else {
                value.extend_from_slice(part);
            }
        }
        self.0.push(OsStr::new(flag).to_owned());
        self.0.push(OsString::from_vec(value));
    }
}

/// Escapes text inside an option's value by doubling commas, as QEMU requires.
pub(crate) fn double_commas(text: &[u8]) -> Vec<u8> {
    let mut doubled = Vec::with_capacity(text.len());
    for byte in text {
        doubled.push(*byte);
        if *byte == b',' {
            doubled.push(b',');
        }
    }
    doubled
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use goloo_model::name::VmName;
    use goloo_model::spec::Protocol;

    use super::*;
    use crate::ports::Necessity;

    fn lines(start: &Start<'_>) -> String {
        let mut text = String::new();
        for word in argv(start) {
            let word = word.into_string().unwrap();
            if word.starts_with('-') && !text.is_empty() {
                text.push('\n');
            } else if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&word);
        }
        text
    }

    fn plain(files: &Files) -> Start<'_> {
        Start {
            name: "devbox",
            arch: Arch::X86_64,
            accel: Accel::Kvm,
            cpus: 2,
            memory_mib: 2048,
            any_cpu: false,
            ssh: Listener::tcp([127, 66, 1, 2].into(), 20022),
            ports: &[],
            mounts: &[],
            virtiofs: false,
            sandbox: true,
            firmware: None,
            private_port: true,
            private_nic: None,
            files,
            saved_as: None,
        }
    }

    #[test]
    fn a_member_of_an_environment_has_a_second_network_card() {
        let files = Files::new("/state/vms/ID".into());
        let nic = PrivateNic {
            environment: VmName::parse("shop").unwrap(),
            address: "10.88.3.5/24".to_owned().try_into().unwrap(),
        };
        let before = lines(&plain(&files));
        let all = lines(&Start { private_nic: Some(&nic), ..plain(&files) });
        let added: Vec<_> = all.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
        assert_eq!(
            added,
            [
                "-netdev dgram,id=private,local.type=unix,local.path=../../net/shop-10.88.3.0/10.88.3.5,\
                 remote.type=unix,remote.path=../../net/shop-10.88.3.0/10.88.3.5.sw",
                "-device virtio-net-pci,id=private-nic,netdev=private,bus=private-port,mac=02:67:6c:58:03:05,romfile=",
            ]
        );
    }

    #[test]
    fn arguments_with_kvm() {
        let files = Files::new("/state/vms/ID".into());
        insta::assert_snapshot!(lines(&plain(&files)));
    }

    #[test]
    fn arguments_without_acceleration() {
        let files = Files::new("/state/vms/ID".into());
        let start = Start { accel: Accel::Tcg, cpus: 1, memory_mib: 512, ..plain(&files) };
        insta::assert_snapshot!(lines(&start));
    }

    #[test]
    fn an_any_cpu_guest_has_no_avx_without_acceleration() {
        let files = Files::new("/state/vms/ID".into());
        let cpu_of = |start: &Start<'_>| {
            let all = lines(start);
            all.lines().find_map(|line| line.strip_prefix("-cpu ")).unwrap().to_owned()
        };
        let any = Start { any_cpu: true, ..plain(&files) };
        assert_eq!(cpu_of(&any), "host");
        let any = Start { accel: Accel::Tcg, ..any };
        assert_eq!(cpu_of(&any), "max,avx=off,avx2=off,fma=off,f16c=off");
        assert_eq!(cpu_of(&Start { arch: Arch::Aarch64, firmware: None, ..any }), "max");
        assert_eq!(cpu_of(&Start { accel: Accel::Tcg, ..plain(&files) }), "max");
    }

    #[test]
    fn arguments_forward_ports_and_share_folders() {
        let files = Files::new("/state/vms/ID".into());
        let web = Forward::new(Listener::tcp([127, 66, 1, 2].into(), 8080), 80);
        let ports = [
            web,
            Forward { address: Ipv4Addr::LOCALHOST, necessity: Necessity::Optional, ..web },
            Forward { address: Ipv4Addr::UNSPECIFIED, necessity: Necessity::Skipped, ..web },
            Forward { host: 53, guest: 53, protocol: Protocol::Udp, ..web },
        ];
        let mounts = [
            SharedFolder { source: "/home/ann/code".into(), readonly: false },
            SharedFolder { source: "/srv/a,b".into(), readonly: true },
        ];
        let start = Start { ports: &ports, mounts: &mounts, ..plain(&files) };
        insta::assert_snapshot!(lines(&start));
        let without: Vec<String> = lines(&start).lines().map(str::to_owned).collect();
        let with = lines(&Start { virtiofs: true, ..start });
        let (kept, added): (Vec<_>, Vec<_>) =
            with.lines().partition(|line| without.iter().any(|old| old == line));
        assert_eq!(
            added,
            [
                "-machine q35,memory-backend=memory",
                "-object memory-backend-memfd,id=memory,share=on,size=2048M",
                "-chardev socket,id=share0,path=share0.sock",
                "-device vhost-user-fs-pci,id=virtiofs0,chardev=share0,tag=goloo0",
                "-chardev socket,id=share1,path=share1.sock",
                "-device vhost-user-fs-pci,id=virtiofs1,chardev=share1,tag=goloo1",
            ]
        );
        assert_eq!(kept.len(), without.len() - 1, "9p stays beside it");
        let nothing_shared = Start { virtiofs: true, ..plain(&files) };
        assert_eq!(lines(&nothing_shared), lines(&plain(&files)));
    }

    #[test]
    fn a_machine_that_continues_has_the_machine_type_that_it_was_saved_with() {
        let files = Files::new("/state/vms/ID".into());
        let all = lines(&Start { saved_as: Some("pc-q35-7.2"), ..plain(&files) });
        let before = lines(&plain(&files));
        let changed: Vec<_> = all.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
        assert_eq!(changed, ["-machine pc-q35-7.2", "-incoming unix:memory.sock"]);
    }

    #[test]
    fn arm_machines_boot_with_uefi_firmware() {
        let files = Files::new("/state/vms/ID".into());
        let firmware = Path::new("/usr/share/AAVMF/AAVMF_CODE.fd");
        let start =
            Start { arch: Arch::Aarch64, accel: Accel::Hvf, firmware: Some(firmware), ..plain(&files) };
        insta::assert_snapshot!(lines(&start));
    }

    #[test]
    fn commas_in_paths_are_doubled_only_in_option_lists() {
        let files = Files::new("/st,ate/vms/ID".into());
        let all = argv(&plain(&files));
        let find = |start: &str| all.iter().find(|word| word.to_str().unwrap().contains(start)).unwrap();
        assert!(find("disk.qcow2").to_str().unwrap().ends_with("file=/st,,ate/vms/ID/disk.qcow2"));
        assert_eq!(find("qemu.pid"), "/st,ate/vms/ID/qemu.pid");
    }
}
