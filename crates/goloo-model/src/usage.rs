//! What machines use of a computer's resources, and what their guests report about their own. Each figure is optional:
//! providers differ in what they know.

use std::time::{Duration, Instant};

/// What a machine uses of the computer that it is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MachineUsage {
    /// The CPU time of its process.
    pub cpu: Option<CpuSample>,
    /// The resident memory of its process, in bytes.
    pub memory: Option<u64>,
    /// The space allocated for its disk, in bytes; without what it shares with other machines.
    pub disk: Option<u64>,
}

/// The CPU time that a process has used up to a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuSample {
    /// Used by all its threads since it started.
    pub used: Duration,
    /// Distinguishes the process from others: samples of different processes can't be compared.
    pub process: (u32, u64),
    /// When it was read.
    pub at: Instant,
}

impl CpuSample {
    /// How many CPUs the process has used on average since an earlier sample; `None` if that was another process, or no
    /// time has passed.
    pub fn cpus_since(&self, earlier: &Self) -> Option<f64> {
        let elapsed = self.at.checked_duration_since(earlier.at)?;
        let used = self.used.checked_sub(earlier.used)?;
        let is_comparable = self.process == earlier.process && !elapsed.is_zero();
        is_comparable.then(|| used.as_secs_f64() / elapsed.as_secs_f64())
    }
}

/// What a guest reports about its own resources.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GuestUsage {
    /// Its memory.
    pub memory: Option<Share>,
    /// Its root file system.
    pub disk: Option<Share>,
    /// Its load averages over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
}

/// A part of something, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// What is in use.
    pub used: u64,
    /// The whole.
    pub total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_compared_only_within_one_process() {
        let earlier = CpuSample { used: Duration::from_secs(10), process: (7, 1), at: Instant::now() };
        let later = CpuSample {
            used: Duration::from_secs(13),
            at: earlier.at + Duration::from_secs(2),
            process: earlier.process,
        };
        assert_eq!(later.cpus_since(&earlier), Some(1.5));
        assert_eq!(later.cpus_since(&later), None, "no time has passed");
        assert_eq!(earlier.cpus_since(&later), None);
        let restarted = CpuSample { process: (7, 2), ..later };
        assert_eq!(restarted.cpus_since(&earlier), None);
    }
}
