//! A stack with all defaults filled in and all values checked: no `Option` remains where there is a
//! default.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::Value;

use super::file::BakeKind;
use super::ports::PortForward;
use crate::name::VmName;
use crate::provider_id::ProviderId;

/// A size in bytes. Written with K, M, G, T; `i` and `B` are optional and have no effect: as in
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

/// The image that a machine starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRef {
    /// The canonical name of an image that goloo knows: `ubuntu-24.04`, `debian-12`.
    Alias(String),
    /// The absolute path of an image file on this host.
    Path(PathBuf),
    /// The URL of an image to download.
    Url(String),
}

/// The source of a user's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// `https://github.com/USER.keys`.
    GitHub(String),
    /// Given in the config.
    Inline(String),
    /// The absolute path of a file with one key per line.
    File(PathBuf),
}

/// One entry of `vm.users`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub username: String,
    /// The sources of the keys, in order.
    pub keys: Vec<KeySource>,
}

/// One entry of `vm.mounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Folder on this host, absolute.
    pub source: PathBuf,
    /// Folder in the guest, absolute.
    pub target: String,
    /// Whether the guest can only read it.
    pub readonly: bool,
}

/// Who may reach port 22 in AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshSource {
    /// This host: its public address when the VM is created.
    Me,
    /// The addresses of a CIDR block without host bits: `10.0.0.0/8`.
    Cidr(String),
}

impl SshSource {
    /// A single address.
    pub fn of_address(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self::Cidr(format!("{address}/{length}"))
    }

    /// As a config has it.
    pub fn word(&self) -> &str {
        match self {
            Self::Me => "me",
            Self::Cidr(block) => block,
        }
    }

    /// Whether it includes every address.
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

/// The `dns` section; used by AWS only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// First label.
    pub hostname: String,
    /// The zone's name, or a name below it.
    pub domain: String,
    /// The TTL in seconds.
    pub ttl: u32,
    /// The required hosted zone, if given.
    pub zone_id: Option<String>,
    /// Whether the domain itself also points to the machine.
    pub is_apex_domain: bool,
    /// Additional names in the domain.
    pub cname_aliases: Vec<String>,
}

impl Dns {
    /// All names that the VM gets, in lower case, without a trailing dot and without duplicates: its own, the domain if
    /// that also points to the VM, and the aliases, which are marked by `true`.
    pub fn names(&self) -> Vec<(String, bool)> {
        let plain = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
        let domain = plain(&self.domain);
        let in_domain = |name: &str| {
            let name = plain(name);
            let is_full = name == domain || name.ends_with(&format!(".{domain}"));
            if is_full { name } else { format!("{name}.{domain}") }
        };
        let mut names = vec![(in_domain(&self.hostname), false)];
        let apex = self.is_apex_domain.then(|| (domain.clone(), false));
        let aliases = self.cname_aliases.iter().map(|alias| (in_domain(alias), true));
        for (name, is_alias) in apex.into_iter().chain(aliases) {
            if !names.iter().any(|(known, _)| *known == name) {
                names.push((name, is_alias));
            }
        }
        names
    }
}

/// A resolved stack.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedStack {
    /// The name of the VM.
    pub name: VmName,
    /// Whether that isn't the name that the stack gives to its VM (`--as`).
    pub is_copy: bool,
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
    /// The expected digest of the image, lower-case hex.
    pub image_sha256: Option<String>,
    /// `vm.os`, or the image's canonical alias if it has one, else `unknown`.
    pub os: String,
    /// `vm.instance_type`; otherwise AWS picks one.
    pub instance_type: Option<String>,
    /// `vm.region`; otherwise the SDK's default chain decides.
    pub region: Option<String>,
    /// `vm.vpc_id`; otherwise discovered.
    pub vpc_id: Option<String>,
    /// `vm.subnet_id`; otherwise discovered.
    pub subnet_id: Option<String>,
    /// `vm.iam_instance_profile`: the profile's name, even if its ARN is given.
    pub iam_instance_profile: Option<String>,
    /// `vm.spot`.
    pub spot: bool,
    /// `vm.bake`.
    pub bake: Option<BakeKind>,
    /// Users in addition to the image's own; goloo logs in as the first.
    pub users: Vec<User>,
    /// Folders of this host mounted in the guest.
    pub mounts: Vec<Mount>,
    /// Forwarded or opened ports.
    pub ports: Vec<PortForward>,
    /// Whether ports on which the guest listens are forwarded by themselves, by providers that forward ports.
    pub auto_ports: bool,
    /// Who may reach port 22 in AWS; never empty, without duplicates.
    pub ssh_cidr: Vec<SshSource>,
    /// The number of seconds after which the VM terminates itself.
    pub ttl: Option<u64>,
    /// The `dns` section, if it has a domain.
    pub dns: Option<Dns>,
    /// Template variable `packages`.
    pub packages: Vec<String>,
    /// Template variable `working_dir`; empty if not given.
    pub working_dir: String,
    /// Template variable `vars`.
    pub vars: BTreeMap<String, Value>,
    /// The providers' own sections of the config, each in the form that its provider declared.
    pub sections: BTreeMap<ProviderId, Value>,
    /// The user's cloud-init document, byte for byte; `None` if there is none.
    pub cloud_init: Option<Vec<u8>>,
    /// `configure.sh`, byte for byte; `None` if absent or empty.
    pub configure: Option<Vec<u8>>,
}

impl ResolvedStack {
    /// Who may reach port 22, as CIDR blocks; `None` until this host's address is known.
    pub fn ssh_blocks(&self) -> Option<Vec<String>> {
        let block = |source: &SshSource| match source {
            SshSource::Me => None,
            SshSource::Cidr(block) => Some(block.clone()),
        };
        self.ssh_cidr.iter().map(block).collect()
    }

    /// Replaces this host by its discovered address.
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
