//! Who does an operation.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::extra::Extra;
use crate::text::Label;

/// A process that runs an operation. A pid alone proves nothing, because pids are reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The user's login name.
    pub user: Label,
    /// The host's name.
    pub host: Label,
    /// The process.
    pub pid: u32,
    /// When it started, in the kernel's ticks since boot.
    pub pid_start: u64,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} (pid {})", self.user, self.host, self.pid)
    }
}
