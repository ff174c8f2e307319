//! Hardware acceleration: used only if a guest really starts with it.
//!
//! A `/dev/kvm` that opens proves little: on some nested hosts QEMU aborts at its first write to a processor register,
//! on others the guest crawls and never reaches userspace. So acceleration has to prove itself once; the result is
//! cached until the kernel or QEMU changes.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use goloo_images::Arch;
use goloo_sys::{durable, private, read};
use serde::{Deserialize, Serialize};

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// Linux's hypervisor.
    Kvm,
    /// macOS's hypervisor.
    Hvf,
    /// QEMU's translator: works everywhere, ten to thirty times slower.
    Tcg,
}

impl Accel {
    /// Parses a value of `GOLOO_QEMU_ACCEL`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "kvm" => Some(Self::Kvm),
            "hvf" => Some(Self::Hvf),
            "tcg" => Some(Self::Tcg),
            _ => None,
        }
    }

    /// The name QEMU uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Tcg => "tcg",
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The acceleration that a machine is started with, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Chosen by the user, or beyond doubt: a failure is an error.
    Settled(Accel),
    /// Hardware acceleration that hasn't proved itself on this machine yet: if it fails, TCG is tried.
    Unproved(Accel),
    /// TCG, because no acceleration is available.
    Without {
        /// The reason, phrased as the second half of a sentence.
        reason: String,
    },
}

impl Choice {
    /// The acceleration to start with.
    pub fn accel(&self) -> Accel {
        match self {
            Self::Settled(accel) | Self::Unproved(accel) => *accel,
            Self::Without { .. } => Accel::Tcg,
        }
    }
}

/// The acceleration that the machine offers, as far as it can be detected.
pub fn offered(guest: Arch) -> Result<Accel, String> {
    if guest != Arch::host() {
        return Err(format!("this machine is {}, the guest {guest}", Arch::host()));
    }
    if cfg!(target_os = "macos") {
        return Ok(Accel::Hvf);
    }
    OpenOptions::new().read(true).write(true).open("/dev/kvm").map_err(|error| no_kvm(&error))?;
    if guest == Arch::X86_64 {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if !has_virtualization(&info) {
            return Err("/dev/kvm exists, but the processor has neither vmx nor svm".to_owned());
        }
    }
    Ok(Accel::Kvm)
}

fn no_kvm(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no /dev/kvm".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "no permission to open /dev/kvm (sudo usermod -aG kvm $USER, then log in again)".to_owned()
        }
        _ => format!("/dev/kvm can't be opened: {error}"),
    }
}

fn has_virtualization(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm")
}

/// The result of probing acceleration on this machine, kept in a file.
#[derive(Debug, Clone)]
pub struct ProbeCache {
    path: PathBuf,
    here: Fingerprint,
}

/// The environment a verdict is valid for: another kernel or another QEMU is probed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Fingerprint {
    kernel: String,
    qemu: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    #[serde(flatten)]
    holds_for: Fingerprint,
    /// The result of probing acceleration; empty before the first attempt.
    #[serde(default)]
    verdict: Option<Verdict>,
    /// The reason for TCG that was last reported to the user.
    #[serde(default)]
    said: Option<String>,
    /// Whether QEMU's sandbox works; empty before the first attempt.
    #[serde(default)]
    sandbox: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Works,
    Fails(String),
}

impl ProbeCache {
    /// The cache in this file, for the running kernel and this QEMU.
    pub fn new(path: PathBuf, qemu: &Path) -> Self {
        Self { path, here: Fingerprint { kernel: kernel(), qemu: identity(qemu) } }
    }

    fn load(&self) -> Remembered {
        read::own(&self.path, read::FILE_MAX)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .filter(|remembered: &Remembered| remembered.holds_for == self.here)
            .unwrap_or(Remembered { holds_for: self.here.clone(), verdict: None, said: None, sandbox: None })
    }

    /// If the file can't be written, the next start only has to repeat the probe.
    fn save(&self, remembered: &Remembered) {
        let Ok(mut text) = serde_json::to_vec_pretty(remembered) else { return };
        text.push(b'\n');
        if let Some(folder) = self.path.parent() {
            let _ = private::create_folders(folder);
        }
        let _ = durable::write(&self.path, &text);
    }

    /// Records that a guest ran with acceleration.
    pub fn works(&self) {
        self.save(&Remembered { verdict: Some(Verdict::Works), ..self.load() });
    }

    /// Records that no guest ran, and why.
    pub fn fails(&self, reason: &str) {
        self.save(&Remembered { verdict: Some(Verdict::Fails(reason.to_owned())), ..self.load() });
    }

    /// Whether QEMU's sandbox works here; `None` before the first attempt.
    pub fn sandbox(&self) -> Option<bool> {
        self.load().sandbox
    }

    /// Records whether the sandbox works.
    pub fn sandbox_works(&self, works: bool) {
        self.save(&Remembered { sandbox: Some(works), ..self.load() });
    }

    /// Whether the user has yet to be told that machines run without acceleration for this reason. Marks the reason as
    /// reported.
    pub fn to_be_said(&self, reason: &str) -> bool {
        let remembered = self.load();
        if remembered.said.as_deref() == Some(reason) {
            return false;
        }
        self.save(&Remembered { said: Some(reason.to_owned()), ..remembered });
        true
    }

    /// The acceleration to start a guest with: the user's choice, otherwise what the machine [offers](offered) and how
    /// it worked before.
    pub fn choose(&self, word: Option<Accel>, offered: Result<Accel, String>) -> Choice {
        if let Some(accel) = word {
            return Choice::Settled(accel);
        }
        let accel = match offered {
            Ok(accel) => accel,
            Err(reason) => return Choice::Without { reason },
        };
        match self.load().verdict {
            Some(Verdict::Works) => Choice::Settled(accel),
            Some(Verdict::Fails(reason)) => Choice::Without { reason },
            None => Choice::Unproved(accel),
        }
    }
}

fn kernel() -> String {
    let name = rustix::system::uname();
    format!("{} {}", name.release().to_string_lossy(), name.version().to_string_lossy())
}

/// Identifies the current version of a program's file; cheaper than running the program to get its version.
pub(crate) fn identity(program: &Path) -> String {
    match std::fs::metadata(program) {
        Ok(data) => format!("{} {} {}", program.display(), data.len(), data.mtime()),
        Err(_) => program.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn virtualization_requires_the_vmx_or_svm_cpu_flag() {
        assert!(has_virtualization("processor: 0\nflags\t\t: fpu vme svm sse\n"));
        assert!(has_virtualization("flags : vmx\n"));
        assert!(!has_virtualization("flags : fpu vme\nvmx flags : ept\nbugs : svm_bug\n"));
        assert!(!has_virtualization(""));
    }

    #[test]
    fn cached_probe_results_are_valid_until_qemu_changes() {
        let folder = tempfile::tempdir().unwrap();
        let qemu = folder.path().join("qemu");
        std::fs::write(&qemu, "one").unwrap();
        let path = folder.path().join("accel.json");
        let memory = ProbeCache::new(path.clone(), &qemu);
        assert_eq!(memory.load().verdict, None);
        assert!(memory.to_be_said("it died"));
        assert!(!memory.to_be_said("it died"), "said twice");
        assert!(memory.to_be_said("another reason"));
        assert_eq!(memory.load().verdict, None, "what was said is no verdict");
        memory.fails("it died");
        memory.sandbox_works(false);
        assert_eq!(memory.load().verdict, Some(Verdict::Fails("it died".to_owned())));
        assert_eq!(memory.sandbox(), Some(false));
        std::fs::write(&qemu, "two, longer").unwrap();
        let upgraded = ProbeCache::new(path, &qemu);
        assert_eq!((upgraded.load().verdict, upgraded.sandbox()), (None, None), "an upgrade probes again");
        upgraded.works();
        assert_eq!(upgraded.load().verdict, Some(Verdict::Works));
    }

    #[test]
    fn acceleration_is_probed_unless_the_user_chose_it() {
        let folder = tempfile::tempdir().unwrap();
        let memory = ProbeCache::new(folder.path().join("accel.json"), Path::new("qemu"));
        let nothing = || Err("there is no /dev/kvm".to_owned());
        assert_eq!(memory.choose(Some(Accel::Kvm), nothing()), Choice::Settled(Accel::Kvm));
        assert_eq!(memory.choose(None, nothing()).accel(), Accel::Tcg);
        assert_eq!(memory.choose(None, Ok(Accel::Kvm)), Choice::Unproved(Accel::Kvm));
        memory.works();
        assert_eq!(memory.choose(None, Ok(Accel::Kvm)), Choice::Settled(Accel::Kvm));
        memory.fails("it died");
        assert_eq!(memory.choose(None, Ok(Accel::Kvm)), Choice::Without { reason: "it died".to_owned() });
    }
}
