//! What the provider works with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_core::provider::ProviderError;
use goloo_os::lock::LockTimeouts;

use crate::accel::{self, Accel};
use crate::arch::Arch;
use crate::image::Cache;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the guest to power off when asked.
    pub power_down: Duration,
    /// Until the guest is asked again: one that is still starting doesn't hear.
    pub ask_again: Duration,
    /// For QEMU to go when told to.
    pub quit: Duration,
    /// For an answer on the control socket.
    pub answer: Duration,
    /// For QEMU to have set itself up.
    pub launch: Duration,
    /// For a guest to write to its disk, where acceleration has to prove itself.
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

/// What the provider works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of machines: `STATE/vms`, absolute.
    pub vms: PathBuf,
    /// The image cache.
    pub cache: Cache,
    /// Where it is remembered whether acceleration works.
    pub memory: PathBuf,
    /// A QEMU other than `qemu-system-<arch>` of the search path.
    pub qemu: Option<OsString>,
    /// The program that is the process beside each QEMU: `goloo`, or another one that calls
    /// [`supervise::answer`](crate::supervise::answer).
    pub supervisor: Option<PathBuf>,
    /// Whether QEMU's sandbox is used where it works.
    pub sandbox: bool,
    /// The user's word on acceleration.
    pub accel: Option<Accel>,
    /// What acceleration the machine offers, as far as looking tells.
    pub offered: fn(Arch) -> Result<Accel, String>,
    /// Limits.
    pub limits: Limits,
}

impl Settings {
    /// For this state folder and this image cache; both absolute.
    pub fn new(state: &Path, cache: Cache) -> Self {
        Self {
            vms: state.join("vms"),
            memory: cache.folder().join("acceleration.json"),
            cache,
            qemu: None,
            supervisor: None,
            sandbox: true,
            accel: None,
            offered: accel::offered,
            limits: Limits::default(),
        }
    }

    /// Held while a machine's ports are picked and written down: beside the folder of machines, which others may be able
    /// to open, and to lock.
    pub(crate) fn ports_lock(&self) -> PathBuf {
        self.vms.with_extension("lock")
    }

    /// The same, as the environment says: `GOLOO_QEMU`, `GOLOO_QEMU_ACCEL`, `GOLOO_QEMU_SANDBOX`,
    /// `GOLOO_IMAGE_MIRROR`. This program is the one beside each QEMU.
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
                    what: format!("GOLOO_QEMU_SANDBOX is \"{}\"", word.to_string_lossy()),
                    hint: "write on or off, or unset it".to_owned(),
                });
            }
        };
        if let Some(word) = std::env::var_os("GOLOO_QEMU_ACCEL").filter(|value| !value.is_empty()) {
            let accel = word.to_str().and_then(Accel::parse);
            settings.accel = Some(accel.ok_or_else(|| ProviderError::Unsupported {
                what: format!("GOLOO_QEMU_ACCEL is \"{}\"", word.to_string_lossy()),
                hint: "write kvm, hvf or tcg, or leave it away".to_owned(),
            })?);
        }
        Ok(settings)
    }
}
