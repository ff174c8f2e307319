//! Exit codes. They are public: scripts depend on them, so a number never changes its meaning.

/// Success.
pub const DONE: u8 = 0;
/// It failed.
pub const FAILED: u8 = 1;
/// The command line is wrong, or a config doesn't validate.
pub const USAGE: u8 = 2;
/// The VM, stack or archived record doesn't exist, or the name is taken.
pub const NOT_FOUND: u8 = 3;
/// Credentials are missing, or lack a permission.
pub const PERMISSION: u8 = 4;
/// Another process is working on the same VM.
pub const LOCKED: u8 = 5;
/// Interrupted: resources may exist; the message names them and the command that continues.
pub const MIDWAY: u8 = 6;
/// The state couldn't be saved; the message says where the emergency copy is.
pub const NOT_SAVED: u8 = 7;
/// The machine is running and its provisioning failed.
pub const DEGRADED: u8 = 8;
/// Interrupted before anything was started, or by a second Ctrl-C.
pub const INTERRUPTED: u8 = 130;
