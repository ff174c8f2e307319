//! The tags by which goloo knows what it made.

use goloo_core::provider::Machine;
use serde_json::{Value, json};

/// The VM's name.
pub const NAME: &str = "goloo:name";
/// The VM's id: what carries another one is never touched.
pub const ID: &str = "goloo:id";
/// The operation that made it.
pub const OPERATION: &str = "goloo:operation";
/// On what machines share; its value says what that is.
pub const SHARED: &str = "goloo:shared";

/// Keys and values.
pub type Tags = Vec<(String, String)>;

/// All tags of a VM's stack and of what is in it.
pub fn of(machine: &Machine) -> Tags {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    vec![
        pair("Name", machine.name.as_str()),
        pair(NAME, machine.name.as_str()),
        pair(ID, machine.id.as_str()),
        pair(OPERATION, machine.token.as_str()),
    ]
}

/// The value of a tag.
pub fn value<'t>(tags: &'t [(String, String)], key: &str) -> Option<&'t str> {
    tags.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

/// As templates write them.
pub fn in_template(tags: &[(String, String)]) -> Value {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}
