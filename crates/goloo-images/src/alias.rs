//! Image names that goloo knows, and where their publishers host them.
//!
//! Debian's `generic` images are used, not `genericcloud`: the kernel of the latter lacks the 9p file system, so
//! `vm.mounts` would fail.

use crate::arch::Arch;
use crate::digest::Algorithm;

const UBUNTU: &str = "cloud-images.ubuntu.com";
const DEBIAN: &str = "cloud.debian.org";

/// Canonical name, code name.
const RELEASES: [(&str, &str); 5] = [
    ("ubuntu-22.04", "jammy"),
    ("ubuntu-24.04", "noble"),
    ("ubuntu-26.04", "resolute"),
    ("debian-12", "bookworm"),
    ("debian-13", "trixie"),
];

/// Where one image is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The image's address.
    pub url: String,
    /// The address of the list of digests.
    pub list_url: String,
    /// The image's name in that list.
    pub file: String,
    /// The list's digest algorithm.
    pub algorithm: Algorithm,
}

/// All canonical names.
pub fn names() -> impl Iterator<Item = &'static str> {
    RELEASES.iter().map(|(name, _)| *name)
}

/// A release's code name.
pub fn codename(name: &str) -> Option<&'static str> {
    RELEASES.iter().find(|(known, _)| *known == name).map(|(_, codename)| *codename)
}

/// Where the image is published; with a `mirror`, below `MIRROR/HOST/` instead of `https://HOST/`.
pub fn published(name: &str, arch: Arch, mirror: Option<&str>) -> Option<Published> {
    let codename = codename(name)?;
    let (host, folder, file, list, algorithm) = match name.split_once('-')? {
        ("ubuntu", version) => (
            UBUNTU,
            format!("releases/{codename}/release"),
            format!("ubuntu-{version}-server-cloudimg-{}.img", arch.debian()),
            "SHA256SUMS",
            Algorithm::Sha256,
        ),
        (_, version) => (
            DEBIAN,
            format!("images/cloud/{codename}/latest"),
            format!("debian-{version}-generic-{}.qcow2", arch.debian()),
            "SHA512SUMS",
            Algorithm::Sha512,
        ),
    };
    let base = match mirror {
        Some(mirror) => format!("{}/{host}", mirror.trim_end_matches('/')),
        None => format!("https://{host}"),
    };
    Some(Published {
        url: format!("{base}/{folder}/{file}"),
        list_url: format!("{base}/{folder}/{list}"),
        file,
        algorithm,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_alias_has_a_download_url_for_both_architectures() {
        let all: Vec<String> = names()
            .flat_map(|name| [Arch::X86_64, Arch::Aarch64].map(|arch| published(name, arch, None).unwrap()))
            .map(|place| format!("{}\n  {} ({:?})", place.url, place.list_url, place.algorithm))
            .collect();
        insta::assert_snapshot!(all.join("\n"));
        assert_eq!(published("plan9", Arch::X86_64, None), None);
    }

    #[test]
    fn a_mirror_url_is_prefixed_to_the_download_url() {
        let place = published("debian-12", Arch::X86_64, Some("http://127.0.0.1:1/m/")).unwrap();
        assert!(place.url.starts_with("http://127.0.0.1:1/m/cloud.debian.org/images/cloud/bookworm/"));
    }
}
