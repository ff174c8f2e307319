//! A VM that replaces another one: it is created beside it, gets its name, and the other one is deleted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::{VmId, VmName};

/// The VM that a new one is to replace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replacing {
    /// Its identity.
    pub id: VmId,
    /// Its name when the new one was created, which the new one's machine calls itself.
    pub name: VmName,
}

/// The move of a VM's name to the VM that replaces it; identical in the records of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replacement {
    /// The name.
    pub name: VmName,
    /// The VM that has it before.
    pub old: VmId,
    /// The VM that has it afterwards.
    pub new: VmId,
    /// The new VM's name until then.
    pub new_name: VmName,
    /// The old VM's name from then on.
    pub old_name: VmName,
}
