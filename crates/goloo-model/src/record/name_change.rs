//! What a rename changes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::VmName;

/// A change of a VM's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NameChange {
    /// The old name.
    pub from: VmName,
    /// The new name.
    pub to: VmName,
}
