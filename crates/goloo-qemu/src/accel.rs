//! Hardware acceleration: used only where a guest really starts.
//!
//! A `/dev/kvm` that opens proves little: in some nested hosts QEMU aborts at its first write to a
//! processor register, in others the guest crawls and never reaches userspace. So acceleration has
//! to prove itself once; what came of it is remembered until the kernel or QEMU changes.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::arch::Arch;
use crate::files;
use goloo_os::{private, read};

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// Linux's own.
    Kvm,
    /// macOS's own.
    Hvf,
    /// QEMU's translator: works everywhere, ten to thirty times slower.
    Tcg,
}

impl Accel {
    /// As in `GOLOO_QEMU_ACCEL`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "kvm" => Some(Self::Kvm),
            "hvf" => Some(Self::Hvf),
            "tcg" => Some(Self::Tcg),
            _ => None,
        }
    }

    /// As QEMU names it.
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

/// What a machine is started with, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The user's word, or no doubt is possible: a failure is an error.
    Settled(Accel),
    /// Hardware acceleration that hasn't proved itself here yet: on a failure TCG is next.
    Unproved(Accel),
    /// TCG, because there is no acceleration here.
    Without {
        /// Why, in a sentence's second half.
        reason: String,
    },
}

impl Choice {
    /// The one to start with.
    pub fn accel(&self) -> Accel {
        match self {
            Self::Settled(accel) | Self::Unproved(accel) => *accel,
            Self::Without { .. } => Accel::Tcg,
        }
    }
}

/// What the machine offers, as far as looking tells.
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
            return Err("/dev/kvm is there, but the processor shows neither vmx nor svm".to_owned());
        }
    }
    Ok(Accel::Kvm)
}

fn no_kvm(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no /dev/kvm".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "/dev/kvm may not be opened (sudo usermod -aG kvm $USER, then log in again)".to_owned()
        }
        _ => format!("/dev/kvm can't be opened: {error}"),
    }
}

fn has_virtualization(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm")
}

/// What came of acceleration on this machine, kept in a file.
#[derive(Debug, Clone)]
pub struct Memory {
    path: PathBuf,
    here: Fingerprint,
}

/// What the verdict holds for: another kernel or another QEMU asks anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Fingerprint {
    kernel: String,
    qemu: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    #[serde(flatten)]
    holds_for: Fingerprint,
    /// What came of acceleration; nothing while nobody has tried.
    #[serde(default)]
    verdict: Option<Verdict>,
    /// The reason for TCG that the user was told last.
    #[serde(default)]
    said: Option<String>,
    /// Whether QEMU's sandbox works; nothing while nobody has tried.
    #[serde(default)]
    sandbox: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Works,
    Fails(String),
}

impl Memory {
    /// The memory in this file, for the running kernel and this QEMU.
    pub fn new(path: PathBuf, qemu: &Path) -> Self {
        Self { path, here: Fingerprint { kernel: kernel(), qemu: identity(qemu) } }
    }

    fn load(&self) -> Remembered {
        read::file(&self.path, read::FILE_MAX)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .filter(|remembered: &Remembered| remembered.holds_for == self.here)
            .unwrap_or(Remembered { holds_for: self.here.clone(), verdict: None, said: None, sandbox: None })
    }

    /// A memory that can't be written costs the next start a proof, no more.
    fn save(&self, remembered: &Remembered) {
        let Ok(mut text) = serde_json::to_vec_pretty(remembered) else { return };
        text.push(b'\n');
        if let Some(folder) = self.path.parent() {
            let _ = private::create_folders(folder);
        }
        let _ = files::write_durably(&self.path, &text);
    }

    /// Notes that a guest really ran.
    pub fn works(&self) {
        self.save(&Remembered { verdict: Some(Verdict::Works), ..self.load() });
    }

    /// Notes that none did, and why.
    pub fn fails(&self, reason: &str) {
        self.save(&Remembered { verdict: Some(Verdict::Fails(reason.to_owned())), ..self.load() });
    }

    /// Whether QEMU's sandbox works here; `None` while nobody has tried.
    pub fn sandbox(&self) -> Option<bool> {
        self.load().sandbox
    }

    /// Notes whether it does.
    pub fn sandbox_works(&self, works: bool) {
        self.save(&Remembered { sandbox: Some(works), ..self.load() });
    }

    /// Whether the user still has to be told that machines run without acceleration for this
    /// reason; from then on he has been.
    pub fn to_be_said(&self, reason: &str) -> bool {
        let remembered = self.load();
        if remembered.said.as_deref() == Some(reason) {
            return false;
        }
        self.save(&Remembered { said: Some(reason.to_owned()), ..remembered });
        true
    }

    /// What to start a guest with: the user's word, else what the machine [offers](offered) and what
    /// came of it before.
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

/// A program's file, as it is now; cheaper than asking the program for its version.
fn identity(program: &Path) -> String {
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
    fn a_processor_without_vmx_or_svm_can_not_run_guests() {
        assert!(has_virtualization("processor: 0\nflags\t\t: fpu vme svm sse\n"));
        assert!(has_virtualization("flags : vmx\n"));
        assert!(!has_virtualization("flags : fpu vme\nvmx flags : ept\nbugs : svm_bug\n"));
        assert!(!has_virtualization(""));
    }

    #[test]
    fn what_was_learnt_holds_until_qemu_changes() {
        let folder = tempfile::tempdir().unwrap();
        let qemu = folder.path().join("qemu");
        std::fs::write(&qemu, "one").unwrap();
        let path = folder.path().join("accel.json");
        let memory = Memory::new(path.clone(), &qemu);
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
        let upgraded = Memory::new(path, &qemu);
        assert_eq!((upgraded.load().verdict, upgraded.sandbox()), (None, None), "an upgrade probes again");
        upgraded.works();
        assert_eq!(upgraded.load().verdict, Some(Verdict::Works));
    }

    #[test]
    fn acceleration_has_to_prove_itself_unless_the_user_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(folder.path().join("accel.json"), Path::new("qemu"));
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
