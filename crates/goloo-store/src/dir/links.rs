//! Symbolic links in a store's folder. Those of this user and root are followed; another user's could redirect any
//! read, write or removal to files of this user.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use goloo_sys::owner::is_trusted_owner;

/// A link that isn't followed; wrapped in an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("{} is a symbolic link of another user (uid {owner}) and isn't followed: remove it", .path.display())]
pub struct ForeignLink {
    path: PathBuf,
    owner: u32,
}

/// Refuses a path that contains such a link, from `root` on. Paths that don't exist or contain no link pass.
///
/// Anyone who can write to a folder of the store can still put a link there after this check: the folders must be
/// private ([`goloo_sys::private`]).
pub(super) fn check(root: &Path, path: &Path) -> io::Result<()> {
    let within = path.ancestors().take_while(|place| place.starts_with(root));
    within.filter_map(foreign_link).next().map_or(Ok(()), |link| Err(io::Error::other(link)))
}

fn foreign_link(place: &Path) -> Option<ForeignLink> {
    let found = fs::symlink_metadata(place).ok().filter(fs::Metadata::is_symlink)?;
    let owner = found.uid();
    (!is_trusted_owner(owner)).then(|| ForeignLink { path: place.to_owned(), owner })
}
