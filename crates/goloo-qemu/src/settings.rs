//! The provider's settings.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_images::{Arch, Cache};
use goloo_model::provider::ProviderError;
use goloo_sys::lock::LockTimeouts;

use crate::accel::{self, Accel};
use crate::address;
use crate::virtiofs::VirtiofsdChoice;

/// Time limits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the guest to power off when asked.
    pub power_down: Duration,
    /// Before the guest is asked again: a guest that is still booting ignores the request.
    pub ask_again: Duration,
    /// For QEMU to exit when told to.
    pub quit: Duration,
    /// For a response on the control socket.
    pub answer: Duration,
    /// For QEMU to finish its setup.
    pub launch: Duration,
    /// For a guest to write to its disk, which proves that acceleration works.
    pub proof: Duration,
    /// For a lock that is held for milliseconds.
    pub lock: LockTimeouts,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            power_down: Duration::from_secs(90),
            ask_again: Duration::from_secs(10),
            quit: Duration::from_secs(5),
            answer: Duration::from_secs(3),
            launch: Duration::from_secs(60),
            proof: Duration::from_secs(60),
            lock: LockTimeouts::SHORT_SECTIONS,
        }
    }
}

/// The provider's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of machines: `STATE/vms`, absolute.
    pub vms: PathBuf,
    /// The image cache.
    pub cache: Cache,
    /// The file that caches whether acceleration works.
    pub memory: PathBuf,
    /// A QEMU other than `qemu-system-<arch>` from the search path.
    pub qemu: Option<OsString>,
    /// The program that supervises each QEMU: `goloo`, or another one that calls
    /// [`supervise::answer`](crate::supervise::answer).
    pub supervisor: Option<PathBuf>,
    /// Whether to use QEMU's sandbox where it works.
    pub sandbox: bool,
    /// What shares folders with guests that have virtiofs.
    pub virtiofsd: VirtiofsdChoice,
    /// The acceleration the user chose.
    pub accel: Option<Accel>,
    /// Detects the acceleration the machine offers, as far as that is possible.
    pub offered: fn(Arch) -> Result<Accel, String>,
    /// Whether this system has a loopback address.
    pub has_address: fn(Ipv4Addr) -> bool,
    /// goloo's public client key, if there is one.
    pub client_key: Option<String>,
    /// Time limits.
    pub limits: Limits,
}

impl Settings {
    /// Settings for this state folder and this image cache, both absolute paths.
    pub fn new(state: &Path, cache: Cache) -> Self {
        Self {
            vms: state.join("vms"),
            memory: cache.folder().join("acceleration.json"),
            cache,
            qemu: None,
            supervisor: None,
            sandbox: true,
            virtiofsd: VirtiofsdChoice::Search,
            accel: None,
            offered: accel::offered,
            has_address: address::is_available,
            client_key: None,
            limits: Limits::default(),
        }
    }

    /// The lock held while a machine's ports are picked and recorded. It lies next to the folder of machines, because
    /// other users may be able to open, and thus lock, that folder.
    pub(crate) fn ports_lock(&self) -> PathBuf {
        self.vms.with_extension("lock")
    }

    /// Like [`Self::new`], with overrides from the environment: `GOLOO_QEMU`, `GOLOO_QEMU_ACCEL`, `GOLOO_QEMU_SANDBOX`,
    /// `GOLOO_VIRTIOFSD`, `GOLOO_IMAGE_MIRROR`. This program is the supervisor of each QEMU.
    pub fn from_env(state: &Path, images: &Path) -> Result<Self, ProviderError> {
        let mut settings = Self::new(state, Cache::from_env(images));
        settings.qemu = std::env::var_os("GOLOO_QEMU").filter(|value| !value.is_empty());
        settings.supervisor = std::env::current_exe().ok();
        settings.sandbox = match std::env::var_os("GOLOO_QEMU_SANDBOX").filter(|value| !value.is_empty()) {
            None => true,
            Some(word) if word == "on" => true,
            Some(word) if word == "off" => false,
            Some(word) => {
                return Err(ProviderError::Unsupported {
                    what: format!("GOLOO_QEMU_SANDBOX is invalid: \"{}\"", word.to_string_lossy()),
                    hint: "write on or off, or unset it".into(),
                });
            }
        };
        settings.virtiofsd = match std::env::var_os("GOLOO_VIRTIOFSD").filter(|value| !value.is_empty()) {
            None => VirtiofsdChoice::Search,
            Some(word) if word == "off" => VirtiofsdChoice::Off,
            Some(program) => VirtiofsdChoice::Program(program),
        };
        if let Some(word) = std::env::var_os("GOLOO_QEMU_ACCEL").filter(|value| !value.is_empty()) {
            let accel = word.to_str().and_then(Accel::parse);
            settings.accel = Some(accel.ok_or_else(|| ProviderError::Unsupported {
                what: format!("GOLOO_QEMU_ACCEL is invalid: \"{}\"", word.to_string_lossy()),
                hint: "write kvm, hvf or tcg, or unset it".into(),
            })?);
        }
        Ok(settings)
    }
}
