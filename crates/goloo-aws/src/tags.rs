//! The tags by which goloo recognizes its resources.

use aws_sdk_ec2::types::Tag;
use goloo_model::name::VmName;
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

/// The name of the environment whose security group this is.
pub const ENVIRONMENT: &str = "goloo:environment";
/// Its id.
pub const ENVIRONMENT_ID: &str = "goloo:environment-id";

/// Marks baked images and their snapshots; the value is the image's key.
pub const BAKED: &str = "goloo:baked";
/// The stack that a baked image was made of.
pub const STACK: &str = "goloo:stack";

/// Key-value pairs.
pub type Tags = Vec<(String, String)>;

/// All tags of a VM's stack and its resources.
pub fn of(machine: &Machine) -> Tags {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut tags: Tags = of_name(&machine.name).map(|(key, value)| pair(key, value)).into();
    tags.extend([pair(ID, machine.id.as_str()), pair(OPERATION, machine.token.as_str())]);
    tags
}

/// The tags with a VM's name.
pub fn of_name(name: &VmName) -> [(&'static str, &str); 2] {
    [("Name", name.as_str()), (NAME, name.as_str())]
}

/// The value of a tag.
pub fn value<'t>(tags: &'t [(String, String)], key: &str) -> Option<&'t str> {
    tags.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

/// Tags as EC2 returns them.
pub fn in_ec2(tags: &[Tag]) -> Tags {
    tags.iter().filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()))).collect()
}

/// Tags in the form that EC2 takes.
pub fn to_ec2(tags: &[(&str, &str)]) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect()
}

/// Tags in the form used in templates.
pub fn in_template(tags: &[(String, String)]) -> Value {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}
