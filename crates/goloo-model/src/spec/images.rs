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
    /// The user that the AWS image of the same system creates.
    pub aws_user: &'static str,
    /// Whether it is published for AWS only: `vm.os` accepts it, `vm.image` doesn't.
    pub aws_only: bool,
}

const fn anywhere(
    name: &'static str,
    aliases: &'static [&'static str],
    user: &'static str,
    aws_user: &'static str,
) -> Image {
    Image { name, aliases, user, aws_user, aws_only: false }
}

/// Ubuntu's LTS releases, Debian's stable and oldstable, and Amazon's current one, as of November
/// 2026. Amazon Linux 2 is end-of-life, and its sshd reads no drop-in files, which goloo's key requires.
pub const IMAGES: &[Image] = &[
    anywhere("ubuntu-22.04", &["22.04", "jammy"], "ubuntu", "ubuntu"),
    anywhere("ubuntu-24.04", &["24.04", "noble"], "ubuntu", "ubuntu"),
    anywhere("ubuntu-26.04", &["26.04", "resolute"], "ubuntu", "ubuntu"),
    anywhere("debian-12", &["bookworm"], "debian", "admin"),
    anywhere("debian-13", &["trixie"], "debian", "admin"),
    Image {
        name: "amazon-linux-2023",
        aliases: &["al2023"],
        user: "ec2-user",
        aws_user: "ec2-user",
        aws_only: true,
    },
];

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
        ImageKey::Os => find(&stack.os).map(|image| image.aws_user),
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
    let codenames = IMAGES.iter().flat_map(|image| image.aliases.iter().map(|alias| (*alias, image.user)));
    let words = [("ubuntu", "ubuntu"), ("debian", "debian")].into_iter().chain(codenames);
    words.into_iter().find(|(word, _)| text.contains(word)).map(|(_, user)| user)
}
