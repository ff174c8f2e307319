//! The named images and their properties.

use super::resolved::{ImageRef, ResolvedStack};
use crate::provider_info::ImageKey;

/// A named image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Its canonical name, which is also the name of its operating system.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// The user that the image itself creates.
    pub user: &'static str,
    /// The user that the public AMI of the same system creates; `None` if goloo knows of no such AMI.
    pub aws_user: Option<&'static str>,
    /// Whether it is published for AWS only: `vm.os` accepts it, `vm.image` doesn't.
    pub aws_only: bool,
    /// Whether its kernel has the 9p file system, which QEMU shares folders with.
    pub has_9p: bool,
}

/// An image whose publisher also has public AMIs.
const fn anywhere(
    name: &'static str,
    aliases: &'static [&'static str],
    user: &'static str,
    aws_user: &'static str,
) -> Image {
    Image { name, aliases, user, aws_user: Some(aws_user), aws_only: false, has_9p: true }
}

/// An image for VMs on this computer only.
const fn local(name: &'static str, aliases: &'static [&'static str], user: &'static str) -> Image {
    Image { name, aliases, user, aws_user: None, aws_only: false, has_9p: true }
}

/// An image whose kernel is that of RHEL, without 9p.
const fn like_rhel(
    name: &'static str,
    aliases: &'static [&'static str],
    user: &'static str,
    aws_user: &'static str,
) -> Image {
    Image { has_9p: false, ..anywhere(name, aliases, user, aws_user) }
}

/// The systems with published images, as of November 2026. Amazon Linux 2 is end-of-life, and its sshd reads no drop-in
/// files, which goloo's key requires; Alpine has no systemd, which goloo's part of the user-data requires.
pub const IMAGES: &[Image] = &[
    anywhere("ubuntu-22.04", &["22.04", "jammy"], "ubuntu", "ubuntu"),
    anywhere("ubuntu-24.04", &["24.04", "noble"], "ubuntu", "ubuntu"),
    anywhere("ubuntu-26.04", &["26.04", "resolute"], "ubuntu", "ubuntu"),
    anywhere("ubuntu-26.10", &["26.10", "stonking"], "ubuntu", "ubuntu"),
    anywhere("debian-12", &["bookworm"], "debian", "admin"),
    anywhere("debian-13", &["trixie"], "debian", "admin"),
    local("debian-14", &["forky", "debian-testing"], "debian"),
    anywhere("fedora-43", &[], "fedora", "fedora"),
    anywhere("fedora-44", &["fedora"], "fedora", "fedora"),
    like_rhel("almalinux-9", &[], "almalinux", "ec2-user"),
    like_rhel("almalinux-10", &["almalinux"], "almalinux", "ec2-user"),
    like_rhel("rocky-9", &[], "rocky", "rocky"),
    like_rhel("rocky-10", &["rocky"], "rocky", "rocky"),
    local("opensuse-leap-16.0", &["opensuse-leap"], "opensuse"),
    local("archlinux", &["arch"], "arch"),
    Image {
        name: "amazon-linux-2023",
        aliases: &["al2023"],
        user: "ec2-user",
        aws_user: Some("ec2-user"),
        aws_only: true,
        has_9p: true,
    },
];

impl Image {
    /// The system without its version: `ubuntu`, `opensuse-leap`.
    pub fn system(&self) -> &'static str {
        match self.name.rsplit_once('-') {
            Some((system, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => system,
            _ => self.name,
        }
    }
}

/// The image with this name or alias.
pub fn find(name: &str) -> Option<&'static Image> {
    IMAGES.iter().find(|image| image.name == name || image.aliases.contains(&name))
}

/// The image with this name or alias, if local machines can use it.
pub fn find_local(name: &str) -> Option<&'static Image> {
    find(name).filter(|image| !image.aws_only)
}

/// All names and aliases that `vm.image` accepts.
pub fn names() -> impl Iterator<Item = &'static str> {
    let local = IMAGES.iter().filter(|image| !image.aws_only);
    local.flat_map(|image| std::iter::once(image.name).chain(image.aliases.iter().copied()))
}

/// The user that the image makes which the stack names under this key; `None` where that can't be known, as for
/// an AMI that is given by its id.
pub fn user_of(stack: &ResolvedStack, key: ImageKey) -> Option<&'static str> {
    match key {
        ImageKey::Os => find(&stack.os).and_then(|image| image.aws_user),
        ImageKey::Image => default_user(&stack.image),
    }
}

/// The user that the image itself creates: known for a named image, else guessed from the
/// file's name; `None` if the name gives no indication.
pub fn default_user(image: &ImageRef) -> Option<&'static str> {
    let text = match image {
        ImageRef::Alias(name) => return find(name).map(|image| image.user),
        ImageRef::Path(path) => path.file_name()?.to_str()?,
        ImageRef::Url(url) => url.rsplit('/').next()?,
    };
    let text = text.to_lowercase();
    let systems = IMAGES.iter().map(|image| (image.system(), image.user));
    // Short aliases would be found in other words: "arch" is a part of every name with "aarch64".
    let codenames = IMAGES.iter().flat_map(|image| image.aliases.iter().map(|alias| (*alias, image.user)));
    let words = systems.chain(codenames.filter(|(alias, _)| *alias != "arch"));
    words.into_iter().find(|(word, _)| text.contains(word)).map(|(_, user)| user)
}

/// Why folders can't be shared with a VM from this image through 9p; `None` if they can, or if that is unknown.
pub fn lacks_9p(image: &ImageRef) -> Option<&'static str> {
    let ImageRef::Alias(name) = image else { return None };
    find(name).filter(|image| !image.has_9p).map(|image| image.name)
}
