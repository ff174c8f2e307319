//! `goloo.json` as it is written. The doc comments are the descriptions in the JSON Schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::spec::PortFile;

/// Machines that belong together: `goloo up` makes them, `goloo down` deletes them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "goloo's goloo.json")]
pub struct EnvironmentFile {
    /// The URL of this schema, for editors
    #[serde(rename = "$schema")]
    pub schema: Option<String>,
    /// The environment's name, with which the names of its VMs begin; by default the folder's name
    #[schemars(regex(pattern = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Whether the machines reach each other by their short names on a private network; by default false
    pub network: Option<bool>,
    /// The machines, by their short names
    pub machines: BTreeMap<String, MachineFile>,
}

/// A machine, or several equal ones.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MachineFile {
    /// The stack: a folder relative to this file, or a name as for `goloo create`
    pub stack: Option<String>,
    /// How many of them; each has a number at the end of its name. By default one, without a number
    #[schemars(range(min = 1, max = 100))]
    pub count: Option<u64>,
    /// Machines that must be ready before this one is made
    pub after: Vec<String>,
    /// Variables for the stack's templates, in place of those in its cloud_init.vars
    pub vars: BTreeMap<String, Value>,
    /// Virtual CPUs, in place of the stack's
    #[schemars(range(min = 1, max = 256))]
    pub cpus: Option<u64>,
    /// RAM, in place of the stack's
    pub memory: Option<String>,
    /// Size of the root disk, in place of the stack's
    pub disk: Option<String>,
    /// Reachable ports, in place of the stack's
    pub ports: Option<Vec<PortFile>>,
    /// The provider; by default the one that `goloo up` is given
    pub provider: Option<String>,
}

/// The JSON Schema of `goloo.json`.
pub fn environment_schema() -> Value {
    schemars::SchemaGenerator::default().into_root_schema_for::<EnvironmentFile>().to_value()
}
