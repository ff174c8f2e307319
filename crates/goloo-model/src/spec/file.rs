//! `config.json` as it is written. The doc comments are the descriptions in the JSON Schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// A goloo stack: the definition of a VM, for every provider.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "goloo's config.json")]
pub struct StackFile {
    /// The URL of this schema, for editors
    #[serde(rename = "$schema")]
    pub schema: Option<String>,
    /// The machine
    pub vm: VmFile,
    /// Its DNS names; used only in AWS
    pub dns: DnsFile,
    /// Variables for templates
    pub cloud_init: CloudInitFile,
}

/// The machine.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VmFile {
    /// The VM's name and hostname; by default the folder's name
    #[schemars(regex(pattern = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Virtual CPUs; by default 2
    #[schemars(range(min = 1, max = 256))]
    pub cpus: Option<u64>,
    /// RAM, such as 512M, 2G or 1.5GiB; by default 2G
    pub memory: Option<String>,
    /// Size of the root disk; by default 20G
    pub disk: Option<String>,
    /// The image: an alias such as 24.04 or debian-12, a path, or an https URL; by default 24.04
    pub image: Option<String>,
    /// The SHA-256 digest that the image must have, as 64 hex digits
    pub image_sha256: Option<String>,
    /// AWS: an AMI alias such as ubuntu-24.04, or ami-…; by default the AMI that corresponds to image
    pub os: Option<String>,
    /// AWS: the instance type; by default the smallest burstable one with these CPUs and this memory
    pub instance_type: Option<String>,
    /// AWS: the region
    pub region: Option<String>,
    /// AWS: the VPC
    pub vpc_id: Option<String>,
    /// AWS: the subnet
    pub subnet_id: Option<String>,
    /// AWS: the name or ARN of the instance profile whose role the machine's programs use
    pub iam_instance_profile: Option<String>,
    /// AWS: whether the machine is a Spot Instance, which AWS may terminate at any time; by default false
    pub spot: Option<bool>,
    /// Whether the stack is baked after the first good create: its "disk", or also its "memory" where the provider can;
    /// by default neither
    pub bake: Option<BakeKind>,
    /// Users besides the image's own; the first one is the login user
    pub users: Vec<UserFile>,
    /// Folders of this computer to mount in the machine
    pub mounts: Vec<MountFile>,
    /// Reachable ports: 80, or "8080:80" for port 8080 of this computer; also "8000-8010", "53:53/udp" and
    /// "127.0.0.2:8080:80"
    pub ports: Vec<PortFile>,
    /// Local providers: whether TCP ports on which the machine listens are forwarded while it does; by default as in
    /// settings.json
    pub auto_ports: Option<bool>,
    /// AWS: who may connect to port 22: a CIDR block, a list of them, or "me"; by default "me", this computer
    pub ssh_cidr: Option<SshCidrFile>,
    /// How long until the machine terminates itself, such as 8h
    pub ttl: Option<String>,
}

/// What is kept of a machine that is baked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "a description of each would become a schema of each")]
pub enum BakeKind {
    Disk,
    Memory,
}

/// A user of the machine.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserFile {
    /// Login name
    #[schemars(regex(pattern = r"^[a-z_][a-z0-9_-]{0,31}$"))]
    pub username: Option<String>,
    /// A GitHub user whose public keys are used
    pub github_username: Option<String>,
    /// Public keys
    pub ssh_keys: Vec<String>,
    /// Files with public keys, one per line
    pub ssh_key_files: Vec<String>,
}

/// A folder of this computer to mount in the machine.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MountFile {
    /// The folder on this computer; relative paths are resolved from the stack's folder
    pub source: Option<String>,
    /// The absolute path in the machine
    pub target: Option<String>,
    /// Whether the machine can only read it; by default false
    pub readonly: Option<bool>,
}

/// A reachable port.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PortFile {
    /// The same port on both sides
    Same(u64),
    /// [ADDRESS:]HOST[:GUEST][/udp]: ports or ranges of this computer and of the machine
    Text(String),
}

impl PortFile {
    /// As it is written.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Same(port) => Value::from(*port),
            Self::Text(text) => Value::from(text.as_str()),
        }
    }
}

/// Who may connect to port 22.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SshCidrFile {
    /// One CIDR block, or "me" for this computer's public address
    One(String),
    /// A list of them
    Several(Vec<String>),
}

/// DNS names.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DnsFile {
    /// First label; by default the VM's name
    pub hostname: Option<String>,
    /// The domain
    pub domain: Option<String>,
    /// Time to live in seconds; by default 300
    #[schemars(range(max = 2_147_483_647))]
    pub ttl: Option<u64>,
    /// The ID of the hosted zone; by default found by the domain
    pub zone_id: Option<String>,
    /// Whether the domain itself points to the machine too
    pub is_apex_domain: Option<bool>,
    /// Additional names in the domain
    pub cname_aliases: Vec<String>,
}

/// Variables for templates.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CloudInitFile {
    /// The variable packages
    pub packages: Vec<String>,
    /// The variable working_dir
    pub working_dir: Option<String>,
    /// The variable vars
    pub vars: BTreeMap<String, Value>,
}

/// The JSON Schema of `config.json`.
pub fn json_schema() -> Value {
    let schema = schemars::SchemaGenerator::default().into_root_schema_for::<StackFile>();
    schema.to_value()
}
