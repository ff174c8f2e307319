//! Fields of later versions.

use serde_json::{Map, Value};

/// Fields of a section that are unknown to this version.
pub type Extra = Map<String, Value>;
