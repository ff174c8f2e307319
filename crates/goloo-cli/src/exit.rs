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

/// From what matters most to what matters least.
const BY_WEIGHT: [u8; 9] =
    [NOT_SAVED, MIDWAY, INTERRUPTED, FAILED, PERMISSION, LOCKED, NOT_FOUND, USAGE, DEGRADED];

/// The exit code for several results: that of the worst one.
pub fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    let codes: Vec<u8> = codes.into_iter().collect();
    let known = BY_WEIGHT.into_iter().find(|code| codes.contains(code));
    // Programs in a VM end with codes of their own.
    known.or_else(|| codes.iter().copied().max()).unwrap_or(DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_exit_code_counts() {
        assert_eq!(worst([]), DONE);
        assert_eq!(worst([DONE, DEGRADED, DONE]), DEGRADED);
        assert_eq!(worst([DEGRADED, FAILED, NOT_FOUND]), FAILED);
        assert_eq!(worst([NOT_SAVED, INTERRUPTED, MIDWAY]), NOT_SAVED);
        assert_eq!(worst([DONE, 42, 17]), 42);
    }
}
