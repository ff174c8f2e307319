//! Owners of files that are trusted.

use rustix::process::geteuid;

/// Whether an owner is this user, or root, who can change everything anyway.
pub fn is_trusted_owner(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}
