//! The process's file mode creation mask. goloo's own files are private regardless of the user's mask; files that
//! a command creates for the user get the user's own mask.

use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::umask;

static USERS: OnceLock<Mode> = OnceLock::new();

/// Makes everything that this process creates from now on private to its user: files 0600, folders 0700. To be called
/// by `main`, once, before there are threads.
pub fn make_private() {
    let users = umask(Mode::RWXG | Mode::RWXO);
    USERS.get_or_init(|| users);
}

/// The mask with which the process was started.
pub fn users() -> u32 {
    USERS.get().map_or(0o022, |mask| mask.bits() & 0o777)
}

/// Restores the mask with which the process was started, for a command that creates the user's own files.
pub fn restore() {
    if let Some(users) = USERS.get() {
        umask(*users);
    }
}

/// Sets the mask of the root account, for files that belong to an operating system's image.
pub fn for_system_files() {
    umask(Mode::WGRP | Mode::WOTH);
}
