//! A stack with all defaults filled in and all values checked: no `Option` is left where a default
//! exists.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::Value;

use crate::name::VmName;

/// A size in bytes. Written with K, M, G, T; `i` and `B` are optional and change nothing: as in
/// Multipass and QEMU, `2G`, `2GB` and `2GiB` are all 2 × 2³⁰ bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// From bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// From units of 2³⁰ bytes.
    pub const fn gib(gib: u64) -> Self {
        Self(gib << 30)
    }

    /// In bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// In units of 2²⁰ bytes, rounded up.
    pub const fn as_mib(self) -> u64 {
        self.0.div_ceil(1 << 20)
    }
}

impl fmt::Display for Size {
    /// In the largest unit that divides it: `2G`, `1536M`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return f.pad(&format!("{}{unit}", self.0 >> shift));
            }
        }
        f.pad(&self.0.to_string())
    }
}

/// Which image a machine starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRef {
    /// A name that goloo knows, in its canonical form: `ubuntu-24.04`, `debian-12`.
    Alias(String),
    /// An image file on this machine, absolute.
    Path(PathBuf),
    /// An image to download.
    Url(String),
}

/// Where a user's keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// `https://github.com/USER.keys`.
    GitHub(String),
    /// Written out in the config.
    Inline(String),
    /// A file with a key a line, absolute.
    File(PathBuf),
}

/// One entry of `vm.users`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub username: String,
    /// Where the keys come from, in order.
    pub keys: Vec<KeySource>,
}

/// One entry of `vm.mounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Folder on this machine, absolute.
    pub source: PathBuf,
    /// Folder in the guest, absolute.
    pub target: String,
}

/// One entry of `vm.ports`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortForward {
    /// Port on 127.0.0.1 of this machine (local providers).
    pub host: u16,
    /// Port in the guest; the one that AWS opens.
    pub guest: u16,
}

/// Who may reach port 22 in AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshSource {
    /// This computer: its public address when the VM is made.
    Me,
    /// The addresses of a CIDR block without host bits: `10.0.0.0/8`.
    Cidr(String),
}

impl SshSource {
    /// One address.
    pub fn of_address(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self::Cidr(format!("{address}/{length}"))
    }

    /// Whether it is every address.
    pub fn is_everyone(&self) -> bool {
        matches!(self, Self::Cidr(block) if block == "0.0.0.0/0" || block == "::/0")
    }
}

impl fmt::Display for SshSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Me => f.pad("this computer's public address"),
            Self::Cidr(block) => f.pad(block),
        }
    }
}

/// The `dns` section; AWS alone acts on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// First label.
    pub hostname: String,
    /// The zone's name, or a name below it.
    pub domain: String,
    /// Seconds.
    pub ttl: u32,
    /// A hosted zone, when it must be this one.
    pub zone_id: Option<String>,
    /// Whether the domain itself points here too.
    pub is_apex_domain: bool,
    /// Further names in the domain.
    pub cname_aliases: Vec<String>,
}

/// A stack, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedStack {
    /// What the VM will be called.
    pub name: VmName,
    /// The stack's own name: its folder's.
    pub stack: String,
    /// The stack's folder, absolute.
    pub folder: PathBuf,
    /// Virtual CPUs.
    pub cpus: u32,
    /// RAM.
    pub memory: Size,
    /// Size of the root disk.
    pub disk: Size,
    /// The image.
    pub image: ImageRef,
    /// `vm.image` as the user wrote it, or the default.
    pub image_text: String,
    /// The digest that the image must have, lower-case hex.
    pub image_sha256: Option<String>,
    /// `vm.os`, or the canonical alias of the image where it has one, else `unknown`.
    pub os: String,
    /// `vm.instance_type`; AWS picks one otherwise.
    pub instance_type: Option<String>,
    /// `vm.region`; the SDK's chain decides otherwise.
    pub region: Option<String>,
    /// `vm.vpc_id`; discovered otherwise.
    pub vpc_id: Option<String>,
    /// `vm.subnet_id`; discovered otherwise.
    pub subnet_id: Option<String>,
    /// `vm.iam_instance_profile`: the profile's name, also where its ARN is given.
    pub iam_instance_profile: Option<String>,
    /// `vm.spot`.
    pub spot: bool,
    /// Users beside the image's own; the first is the one that goloo logs in as.
    pub users: Vec<User>,
    /// Folders of this machine in the guest.
    pub mounts: Vec<Mount>,
    /// Ports that are reachable.
    pub ports: Vec<PortForward>,
    /// Who may reach port 22 in AWS; never empty, each once.
    pub ssh_cidr: Vec<SshSource>,
    /// After how many seconds the VM ends itself.
    pub ttl: Option<u64>,
    /// The `dns` section, when there is a domain.
    pub dns: Option<Dns>,
    /// Template variable `packages`.
    pub packages: Vec<String>,
    /// Template variable `working_dir`; empty when not given.
    pub working_dir: String,
    /// Template variable `vars`.
    pub vars: BTreeMap<String, Value>,
    /// The user's cloud-init document, byte for byte; `None` when there is none.
    pub cloud_init: Option<Vec<u8>>,
    /// `configure.sh`, byte for byte; `None` when absent or empty.
    pub configure: Option<Vec<u8>>,
}

impl ResolvedStack {
    /// Who may reach port 22, as CIDR blocks; `None` as long as this computer's address isn't known.
    pub fn ssh_blocks(&self) -> Option<Vec<String>> {
        let block = |source: &SshSource| match source {
            SshSource::Me => None,
            SshSource::Cidr(block) => Some(block.clone()),
        };
        self.ssh_cidr.iter().map(block).collect()
    }

    /// Puts what was learnt in the place of this computer.
    pub fn replace_me(&mut self, learnt: &SshSource) {
        let mut sources = Vec::new();
        for source in &self.ssh_cidr {
            let source = if *source == SshSource::Me { learnt } else { source };
            if !sources.contains(source) {
                sources.push(source.clone());
            }
        }
        self.ssh_cidr = sources;
    }
}
