//! Limits that a process sets on itself before it processes untrusted input.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits of a process from now on. The system kills it with a signal if it exceeds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnLimits {
    /// Address space in bytes. macOS accepts this limit but doesn't enforce it.
    pub memory: u64,
    /// CPU time in seconds, from the process's start.
    pub cpu: u64,
}

/// Lowers this process's limits; those that are already lower are kept. If it is killed by a signal, no core file is
/// written: its input may be secret.
pub fn confine(limits: OwnLimits) {
    lower(Resource::Core, 0);
    lower(Resource::Cpu, limits.cpu);
    lower(Resource::As, limits.memory);
    // The core file limit doesn't apply to programs that the system pipes core dumps to.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

fn lower(resource: Resource, limit: u64) {
    let limits = getrlimit(resource);
    let lowered = |limit_now: Option<u64>| Some(limit_now.map_or(limit, |now| now.min(limit)));
    let lowered = Rlimit { current: lowered(limits.current), maximum: lowered(limits.maximum) };
    // Lowering a limit is always permitted.
    let _ = setrlimit(resource, lowered);
}
