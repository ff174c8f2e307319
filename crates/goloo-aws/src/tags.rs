//! The tags by which goloo recognizes its resources.

use goloo_model::provider::Machine;
use serde_json::{Value, json};

/// The VM's name.
pub const NAME: &str = "goloo:name";
/// The VM's id: a resource with another VM's id is never touched.
pub const ID: &str = "goloo:id";
/// The operation that created it.
pub const OPERATION: &str = "goloo:operation";
/// Marks resources shared by VMs; the value names the resource.
pub const SHARED: &str = "goloo:shared";

/// Key-value pairs.
pub type Tags = Vec<(String, String)>;

/// All tags of a VM's stack and its resources.
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

/// Tags in the form used in templates.
pub fn in_template(tags: &[(String, String)]) -> Value {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}
