//! Image names that goloo knows, and where their publishers host them.
//!
//! Debian's `generic` images are used, not `genericcloud`: the kernel of the latter lacks the 9p file system, so
//! `vm.mounts` would fail.

use crate::arch::Arch;
use crate::digest::Algorithm;

use Publisher::{AlmaLinux, Arch as ArchLinux, Debian, DebianTesting, Fedora, OpenSuseLeap, Rocky, Ubuntu};

/// A named image and its publisher.
struct Release {
    name: &'static str,
    publisher: Publisher,
}

/// Where a publisher keeps an image, in its own scheme.
#[derive(Clone, Copy)]
enum Publisher {
    /// With the release's code name.
    Ubuntu(&'static str),
    /// With the release's code name.
    Debian(&'static str),
    /// Debian's testing release, with its code name; it is built daily.
    DebianTesting(&'static str),
    /// With the number of the final build, which is a part of each file's name.
    Fedora(&'static str),
    AlmaLinux,
    Rocky,
    OpenSuseLeap,
    Arch,
}

const RELEASES: [Release; 15] = [
    Release { name: "ubuntu-22.04", publisher: Ubuntu("jammy") },
    Release { name: "ubuntu-24.04", publisher: Ubuntu("noble") },
    Release { name: "ubuntu-26.04", publisher: Ubuntu("resolute") },
    Release { name: "ubuntu-26.10", publisher: Ubuntu("stonking") },
    Release { name: "debian-12", publisher: Debian("bookworm") },
    Release { name: "debian-13", publisher: Debian("trixie") },
    Release { name: "debian-14", publisher: DebianTesting("forky") },
    Release { name: "fedora-43", publisher: Fedora("1.6") },
    Release { name: "fedora-44", publisher: Fedora("1.7") },
    Release { name: "almalinux-9", publisher: AlmaLinux },
    Release { name: "almalinux-10", publisher: AlmaLinux },
    Release { name: "rocky-9", publisher: Rocky },
    Release { name: "rocky-10", publisher: Rocky },
    Release { name: "opensuse-leap-16.0", publisher: OpenSuseLeap },
    Release { name: "archlinux", publisher: ArchLinux },
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
    RELEASES.iter().map(|release| release.name)
}

/// The code name of a release of Debian or Ubuntu.
pub fn codename(name: &str) -> Option<&'static str> {
    let release = RELEASES.iter().find(|release| release.name == name)?;
    match release.publisher {
        Ubuntu(codename) | Debian(codename) | DebianTesting(codename) => Some(codename),
        _ => None,
    }
}

/// Where the image is published; with a `mirror`, below `MIRROR/HOST/` instead of `https://HOST/`. `None` if the name is
/// unknown, or if there is no image for this architecture.
pub fn published(name: &str, arch: Arch, mirror: Option<&str>) -> Option<Published> {
    let release = RELEASES.iter().find(|release| release.name == name)?;
    let version = name.rsplit_once('-').map_or("", |(_, version)| version);
    let place = release.publisher.place(version, arch)?;
    let base = mirror.map_or_else(|| "https:/".to_owned(), |mirror| mirror.trim_end_matches('/').to_owned());
    Some(Published {
        url: format!("{base}/{}/{}/{}", place.host, place.folder, place.file),
        list_url: format!("{base}/{}/{}/{}", place.list_host, place.folder, place.list),
        file: place.file,
        algorithm: place.algorithm,
    })
}

/// An image and its list of digests, which are in folders of the same name.
struct ImagePlace {
    host: &'static str,
    /// The publisher's own host, where `host` may redirect to a mirror of somebody else.
    list_host: &'static str,
    folder: String,
    file: String,
    list: String,
    algorithm: Algorithm,
}

impl Publisher {
    /// Where the image of this version is; `None` if it isn't published for the architecture.
    fn place(self, version: &str, arch: Arch) -> Option<ImagePlace> {
        let sha256 = |host: &'static str, folder, file, list| ImagePlace {
            host,
            list_host: host,
            folder,
            file,
            list,
            algorithm: Algorithm::Sha256,
        };
        let debian_arch = arch.debian();
        Some(match self {
            Ubuntu(codename) => sha256(
                "cloud-images.ubuntu.com",
                format!("releases/{codename}/release"),
                format!("ubuntu-{version}-server-cloudimg-{debian_arch}.img"),
                "SHA256SUMS".to_owned(),
            ),
            Debian(codename) => {
                debian(format!("{codename}/latest"), format!("debian-{version}-generic-{debian_arch}.qcow2"))
            }
            DebianTesting(codename) => debian(
                format!("{codename}/daily/latest"),
                format!("debian-{version}-generic-{debian_arch}-daily.qcow2"),
            ),
            Fedora(build) => ImagePlace {
                list_host: "dl.fedoraproject.org",
                ..sha256(
                    "download.fedoraproject.org",
                    format!("pub/fedora/linux/releases/{version}/Cloud/{arch}/images"),
                    format!("Fedora-Cloud-Base-Generic-{version}-{build}.{arch}.qcow2"),
                    format!("Fedora-Cloud-{version}-{build}-{arch}-CHECKSUM"),
                )
            },
            AlmaLinux => sha256(
                "repo.almalinux.org",
                format!("almalinux/{version}/cloud/{arch}/images"),
                format!("AlmaLinux-{version}-GenericCloud-latest.{arch}.qcow2"),
                "CHECKSUM".to_owned(),
            ),
            Rocky => {
                let file = format!("Rocky-{version}-GenericCloud-Base.latest.{arch}.qcow2");
                let list = format!("{file}.CHECKSUM");
                sha256("dl.rockylinux.org", format!("pub/rocky/{version}/images/{arch}"), file, list)
            }
            OpenSuseLeap => {
                let file = format!("Leap-{version}-Minimal-VM.{arch}-Cloud.qcow2");
                let list = format!("{file}.sha256");
                let folder = format!("distribution/leap/{version}/appliances");
                sha256("download.opensuse.org", folder, file, list)
            }
            ArchLinux if arch != Arch::X86_64 => return None,
            ArchLinux => {
                let file = "Arch-Linux-x86_64-cloudimg.qcow2".to_owned();
                let list = format!("{file}.SHA256");
                sha256("geo.mirror.pkgbuild.com", "images/latest".to_owned(), file, list)
            }
        })
    }
}

fn debian(folder: String, file: String) -> ImagePlace {
    ImagePlace {
        host: "cloud.debian.org",
        list_host: "cloud.debian.org",
        folder: format!("images/cloud/{folder}"),
        file,
        list: "SHA512SUMS".to_owned(),
        algorithm: Algorithm::Sha512,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_alias_has_a_download_url() {
        let all: Vec<String> = names()
            .flat_map(|name| [Arch::X86_64, Arch::Aarch64].map(|arch| published(name, arch, None)))
            .flatten()
            .map(|place| format!("{}\n  {} ({:?})", place.url, place.list_url, place.algorithm))
            .collect();
        insta::assert_snapshot!(all.join("\n"));
        assert_eq!(published("plan9", Arch::X86_64, None), None);
        assert!(names().all(|name| published(name, Arch::X86_64, None).is_some()));
    }

    #[test]
    fn the_local_images_of_the_model_are_those_that_are_published() {
        use goloo_model::spec::images::IMAGES;
        let local: Vec<&str> =
            IMAGES.iter().filter(|image| !image.aws_only).map(|image| image.name).collect();
        assert_eq!(names().collect::<Vec<_>>(), local);
    }

    #[test]
    fn a_mirror_url_is_prefixed_to_the_download_url() {
        let place = published("debian-12", Arch::X86_64, Some("http://127.0.0.1:1/m/")).unwrap();
        assert!(place.url.starts_with("http://127.0.0.1:1/m/cloud.debian.org/images/cloud/bookworm/"));
    }
}
