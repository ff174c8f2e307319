//! UEFI firmware, which Arm machines boot with.

use std::path::{Path, PathBuf};

use goloo_images::Arch;
use goloo_model::provider::ProviderError;

/// Firmware and the template for its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Firmware {
    pub(crate) code: PathBuf,
    /// Copied for each machine, because the firmware writes to it.
    pub(crate) variables: PathBuf,
}

/// Code and variables, in the locations of Debian, Fedora, Arch and Homebrew.
const PLACES: [(&str, &str); 5] = [
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    ("/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"),
    ("/usr/share/edk2/aarch64/QEMU_CODE.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"),
    ("/opt/homebrew/share/qemu/edk2-aarch64-code.fd", "/opt/homebrew/share/qemu/edk2-arm-vars.fd"),
    ("/usr/local/share/qemu/edk2-aarch64-code.fd", "/usr/local/share/qemu/edk2-arm-vars.fd"),
];

/// The firmware a machine of this architecture needs; `None` on x86, where QEMU provides its own.
pub(crate) fn find(arch: Arch) -> Result<Option<Firmware>, ProviderError> {
    if arch == Arch::X86_64 {
        return Ok(None);
    }
    let there =
        PLACES.iter().find(|(code, variables)| Path::new(code).exists() && Path::new(variables).exists());
    let (code, variables) = there.ok_or_else(|| ProviderError::Unavailable {
        what: "there is no UEFI firmware for Arm machines".to_owned(),
        hint: if cfg!(target_os = "macos") {
            "brew reinstall qemu"
        } else {
            "sudo apt-get install --no-install-recommends qemu-efi-aarch64"
        }
        .into(),
    })?;
    Ok(Some(Firmware { code: code.into(), variables: variables.into() }))
}
