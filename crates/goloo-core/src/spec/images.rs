//! The images that have names, and what is in them.

use super::resolved::ImageRef;

/// An image with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Its canonical name, which is also the name of the system in it.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// The user that the image itself makes.
    pub user: &'static str,
}

/// Ubuntu's LTS releases and Debian's stable and old stable ones, as of November 2026.
pub const IMAGES: &[Image] = &[
    Image { name: "ubuntu-22.04", aliases: &["22.04", "jammy"], user: "ubuntu" },
    Image { name: "ubuntu-24.04", aliases: &["24.04", "noble"], user: "ubuntu" },
    Image { name: "ubuntu-26.04", aliases: &["26.04", "resolute"], user: "ubuntu" },
    Image { name: "debian-12", aliases: &["bookworm"], user: "debian" },
    Image { name: "debian-13", aliases: &["trixie"], user: "debian" },
];

/// The image with this name or alias.
pub fn find(name: &str) -> Option<&'static Image> {
    IMAGES.iter().find(|image| image.name == name || image.aliases.contains(&name))
}

/// All names and aliases.
pub fn names() -> impl Iterator<Item = &'static str> {
    IMAGES.iter().flat_map(|image| std::iter::once(image.name).chain(image.aliases.iter().copied()))
}

/// The user that the image itself makes: known for an image with a name, else guessed from the
/// file's name; `None` where that tells nothing.
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
