//! State that goloo v0 wrote into configs: where it is, and the VMs that it describes.
//!
//! goloo v0 created local VMs as Multipass instances with the VM's name, and EC2 instances each with a
//! CloudFormation stack. It wrote its state into `config.json` (a section `local`, a section `aws`,
//! or keys of `vm`), or into a separate config in a folder `local` or `aws` next to it.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::diagnostic::{Diagnostic, nearest};
use super::json::{Json, child};
use super::values::is_domain;
use crate::access::Address;
use crate::aws_ids;
use crate::dns::{dns_ttl, is_record_type, is_record_value};
use crate::hint::{Hint, NextStep};
use crate::name::VmName;
use crate::provider::Endpoints;
use crate::provider_id::ProviderId;
use crate::record::{Endpoint, SSH_PORT};

/// The providers of goloo v0.
const MULTIPASS: ProviderId = ProviderId::known("multipass");
const AWS: ProviderId = ProviderId::known("aws");

/// Sections next to `vm`.
const SECTIONS: [&str; 2] = ["local", "aws"];
/// The folders next to a config that may contain configs with state.
pub const FOLDERS: [&str; 2] = SECTIONS;
/// Keys of the section `local`.
const LOCAL_KEYS: [&str; 2] = ["ip", HOSTS_ENTRY];
/// In `local` and in `vm`: whether /etc/hosts contains the VM's name.
const HOSTS_ENTRY: &str = "hosts_entry";

/// The expected value of a key in the section `aws`.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A text that keeps a rule.
    Text(fn(&str) -> bool),
    /// An AWS id with this prefix.
    Id(&'static str),
    Ip,
    Flag,
    StackArn,
    DnsRecords,
}

/// A key of the section `aws`, or of `vm` if the state is flat.
struct AwsKey {
    old: &'static str,
    /// Its name in a record.
    new: &'static str,
    kind: Kind,
}

const fn key(old: &'static str, new: &'static str, kind: Kind) -> AwsKey {
    AwsKey { old, new, kind }
}

const AWS_KEYS: [AwsKey; 18] = [
    key("public_ip", "publicIP", Kind::Ip),
    key("instance_id", "instanceID", Kind::Id("i-")),
    key("stack_id", "stackID", Kind::StackArn),
    key("stack_name", "stackName", Kind::Text(aws_ids::is_stack_name)),
    key("security_group", "securityGroupID", Kind::Id("sg-")),
    key("security_group_id", "securityGroupID", Kind::Id("sg-")),
    key("ami_id", "amiID", Kind::Id("ami-")),
    key("fqdn", "fqdn", Kind::Text(is_domain)),
    key("dns_records", "dnsRecords", Kind::DnsRecords),
    key("zone_id", "zoneID", Kind::Text(aws_ids::is_zone)),
    key("region", "region", Kind::Text(aws_ids::is_region)),
    key("vpc_id", "vpcID", Kind::Id("vpc-")),
    key("subnet_id", "subnetID", Kind::Id("subnet-")),
    key("created_vpc", "createdVPC", Kind::Flag),
    key("created_subnet", "createdSubnet", Kind::Flag),
    key("internet_gateway_id", "internetGatewayID", Kind::Id("igw-")),
    key("route_table_id", "routeTableID", Kind::Id("rtb-")),
    key("route_table_association_id", "routeTableAssociationID", Kind::Id("rtbassoc-")),
];

/// Keys of [`AWS_KEYS`] that a config may also use as settings; in `vm` they alone aren't state.
const CONFIG_KEYS: [&str; 4] = ["region", "vpc_id", "subnet_id", "zone_id"];

/// Whether a key that the schema doesn't know is state of goloo v0.
pub(super) fn is_old_state(pointer: &str, key: &str) -> bool {
    match pointer {
        "" => SECTIONS.contains(&key),
        "/vm" => key == HOSTS_ENTRY || flat_keys().any(|flat| flat == key),
        _ => false,
    }
}

fn flat_keys() -> impl Iterator<Item = &'static str> {
    AWS_KEYS.iter().map(|key| key.old).filter(|key| !CONFIG_KEYS.contains(key))
}

/// Whether a config may contain state: `false` is certain, `true` isn't.
pub fn may_hold_state(config: &[u8]) -> bool {
    let mut names = SECTIONS.into_iter().chain(flat_keys());
    // Avoids the parser, since this is called for every config in every stack folder.
    names.any(|name| {
        let quoted = format!("\"{name}\"");
        config.windows(quoted.len()).any(|window| window == quoted.as_bytes())
    })
}

/// A config, and its name in diagnostics.
#[derive(Debug, Clone, Copy)]
pub struct V0Config<'a> {
    /// Its path.
    pub path: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
}

/// A place in a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigLocation {
    /// The config's path.
    pub file: String,
    /// The JSON pointer.
    pub pointer: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
}

impl ConfigLocation {
    /// A diagnostic about the value.
    pub fn diagnostic(&self, message: impl Into<String>, hint: impl Into<Hint>) -> Diagnostic {
        Diagnostic {
            file: self.file.clone(),
            pointer: self.pointer.clone(),
            line: self.line,
            column: self.column,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// A VM described by a config.
#[derive(Debug, Clone, PartialEq)]
pub struct V0Vm {
    /// Its new name: that of a VM in AWS ends in `-aws` if its stack has a local VM with the name.
    pub name: VmName,
    /// The provider of its machine.
    pub provider: ProviderId,
    /// Whether its machine belongs to one host.
    pub host_bound: bool,
    /// The reference to its machine: a resource's kind and id.
    pub resource: (&'static str, String),
    /// Its addresses, if the config contains them.
    pub endpoints: Option<Endpoints>,
    /// Whether /etc/hosts was supposed to contain its name.
    pub hosts_entry: bool,
    /// The position of its state.
    pub place: ConfigLocation,
}

impl V0Vm {
    /// The operation that makes a record for it under another name.
    pub fn adopt_step(&self, name: VmName) -> NextStep {
        // It may come from anywhere, and is to be pasted into a shell.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
        let id = if self.resource.1.bytes().all(is_plain) { &self.resource.1 } else { "ID" };
        NextStep::Adopt { name, provider: self.provider, id: Some(id.to_owned()) }
    }
}

/// The state in a stack's configs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct V0State {
    /// The VMs.
    pub vms: Vec<V0Vm>,
    /// VMs whose name goloo no longer allows, each with the diagnostic; they are called by one that
    /// is near.
    pub unfit: Vec<(V0Vm, Diagnostic)>,
    /// State that identifies no VM of its own, with the reason.
    pub passed_over: Vec<(ConfigLocation, String)>,
    /// State that can't be imported.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads the state of a stack: from its config, and from those in the folders next to it, which take precedence.
/// `folder` is the name of the stack's folder: the VM's name, if no config has one.
pub fn read(folder: &str, own: Option<V0Config<'_>>, beside: &[V0Config<'_>]) -> V0State {
    let mut state = V0State::default();
    let is_there = own.is_some();
    let own = own.and_then(|config| state.parse(config));
    let mut beside: Vec<_> = beside.iter().filter_map(|config| state.parse(*config)).collect();
    if is_there && own.is_none() {
        // The unreadable config may contain their name.
        beside.retain(|config| config.name().is_some());
    }
    let name = own.as_ref().and_then(Config::name).unwrap_or(folder).to_owned();
    let found: Vec<Found> =
        beside.iter().chain(own.as_ref()).flat_map(|config| config.find(&name, &mut state)).collect();
    let local: Vec<&str> = found.iter().filter(|vm| vm.is_local()).map(|vm| &*vm.name).collect();
    for vm in &found {
        let clash = !vm.is_local() && local.contains(&&*vm.name);
        let name = if clash { format!("{}-aws", vm.name) } else { vm.name.clone() };
        state.add(vm, &name);
    }
    state
}

impl V0State {
    fn parse<'a>(&mut self, config: V0Config<'a>) -> Option<Config<'a>> {
        match Json::parse(config.path, config.bytes) {
            Ok(json) => Some(Config { path: config.path, json }),
            Err(diagnostic) => {
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    fn add(&mut self, found: &Found, name: &str) {
        let Some(body) = &found.body else { return };
        let known = self.vms.iter().find(|vm| vm.resource == body.resource);
        if let Some(known) = known {
            let reason = format!("it is the machine of {}", known.place.file);
            self.passed_over.push((found.place.clone(), reason));
            return;
        }
        let vm = |name| V0Vm {
            name,
            provider: found.provider,
            host_bound: found.is_local(),
            resource: body.resource.clone(),
            endpoints: body.endpoints.clone(),
            hosts_entry: body.hosts_entry,
            place: found.place.clone(),
        };
        match VmName::parse(name) {
            Ok(name) => self.vms.push(vm(name)),
            Err(error) => {
                let vm = vm(near_name(name));
                let diagnostic = found.place.diagnostic(error.to_string(), vm.adopt_step(vm.name.clone()));
                self.unfit.push((vm, diagnostic));
            }
        }
    }
}

/// A valid name similar to an invalid one.
fn near_name(name: &str) -> VmName {
    let sound = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let near: String = name.chars().map(sound).collect();
    VmName::parse(near.trim_matches('-'))
        .unwrap_or_else(|_| VmName::parse("newname").expect("it keeps the rule"))
}

struct Config<'a> {
    path: &'a str,
    json: Json,
}

/// State that was found, valid or not: invalid state has its name too.
struct Found {
    name: String,
    provider: ProviderId,
    place: ConfigLocation,
    body: Option<Body>,
}

impl Found {
    fn is_local(&self) -> bool {
        self.provider == MULTIPASS
    }
}

/// The content of the state.
struct Body {
    resource: (&'static str, String),
    endpoints: Option<Endpoints>,
    hosts_entry: bool,
}

impl Config<'_> {
    fn name(&self) -> Option<&str> {
        self.json.value.pointer("/vm/name").and_then(Value::as_str).filter(|name| !name.is_empty())
    }

    fn place(&self, pointer: &str) -> ConfigLocation {
        let at = self.json.at(pointer, "", "");
        ConfigLocation { file: self.path.to_owned(), pointer: at.pointer, line: at.line, column: at.column }
    }

    fn diagnostic(&self, pointer: &str, message: impl Into<String>, hint: impl Into<Hint>) -> Diagnostic {
        self.place(pointer).diagnostic(message, hint)
    }

    /// All state in this config; empty or invalid state is added to `state`.
    fn find(&self, stack_name: &str, state: &mut V0State) -> Vec<Found> {
        let name = self.name().unwrap_or(stack_name);
        let mut found = Vec::new();
        for (pointer, provider) in [("/local", MULTIPASS), ("/aws", AWS), ("/vm", AWS)] {
            let Some(value) = self.json.value.pointer(pointer).filter(|value| !value.is_null()) else {
                continue;
            };
            if self.holds_nothing(pointer, value) {
                if pointer != "/vm" {
                    let reason = format!("{pointer} is empty: there is no VM");
                    state.passed_over.push((self.place(pointer), reason));
                }
                continue;
            }
            let body = match self.body(pointer, value, name) {
                Ok(body) => Some(body),
                Err(diagnostics) => {
                    state.diagnostics.extend(diagnostics);
                    None
                }
            };
            found.push(Found { name: name.to_owned(), provider, place: self.place(pointer), body });
        }
        found
    }

    fn holds_nothing(&self, pointer: &str, value: &Value) -> bool {
        let Value::Object(section) = value else { return pointer == "/vm" };
        match pointer {
            "/vm" => flat_keys().all(|key| section.get(key).is_none_or(is_blank)),
            _ => section.values().all(is_blank),
        }
    }

    fn body(&self, pointer: &str, value: &Value, name: &str) -> Result<Body, Vec<Diagnostic>> {
        let Value::Object(section) = value else {
            let hint = "write it as a section with keys, as goloo v0 did, or remove it";
            return Err(vec![self.diagnostic(pointer, format!("{} must be an object", &pointer[1..]), hint)]);
        };
        let odd_name =
            self.json.value.pointer("/vm/name").is_some_and(|name| !name.is_null() && !name.is_string());
        if odd_name {
            let message = "vm.name must be a string, since it is the machine's name";
            return Err(vec![self.diagnostic("/vm/name", message, "put it into double quotes")]);
        }
        let mut reader = Reader { config: self, pointer, section, diagnostics: self.doubles(pointer) };
        let hosts_entry = reader.flag(HOSTS_ENTRY)
            || self.json.value.pointer("/vm/hosts_entry").is_some_and(|flag| flag == &Value::Bool(true));
        let (resource, endpoints) = match pointer {
            "/local" => (Some(("multipass-instance", name.to_owned())), reader.local()),
            _ => reader.aws(),
        };
        match resource {
            Some(resource) if reader.diagnostics.is_empty() => Ok(Body { resource, endpoints, hosts_entry }),
            _ => Err(reader.diagnostics),
        }
    }

    /// Duplicate keys in the state: which one applies is unknown.
    fn doubles(&self, pointer: &str) -> Vec<Diagnostic> {
        let ours = |place: &str| match place.strip_prefix(pointer) {
            Some(rest) if pointer == "/vm" => rest.is_empty() || is_old_state(pointer, &rest[1..]),
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        let doubles = self.json.doubles.iter().filter(|(place, _)| ours(place));
        let diagnostic = |(place, offset): &(String, usize)| {
            let message = format!("{} appears twice", dotted(place));
            self.json.diagnostic(place, *offset, message, "remove the one that is wrong".into())
        };
        doubles.map(diagnostic).collect()
    }
}

/// A value that goloo v0 wrote in place of missing data.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(array) => array.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// Reads one section and collects its problems.
struct Reader<'c> {
    config: &'c Config<'c>,
    pointer: &'c str,
    section: &'c Map<String, Value>,
    diagnostics: Vec<Diagnostic>,
}

impl<'c> Reader<'c> {
    fn diagnostic(&mut self, key: &str, message: impl Into<String>, hint: impl Into<Hint>) {
        let place = child(self.pointer, key);
        self.diagnostics.push(self.config.diagnostic(
            &place,
            format!("{} {}", dotted(&place), message.into()),
            hint,
        ));
    }

    fn get(&self, key: &str) -> Option<&'c Value> {
        self.section.get(key).filter(|value| !is_blank(value))
    }

    fn flag(&mut self, key: &str) -> bool {
        match self.get(key) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.diagnostic(key, "must be true or false", "write true or false without quotes");
                false
            }
        }
    }

    fn text(&mut self, key: &str) -> Option<&'c str> {
        let value = self.get(key)?;
        if value.as_str().is_none() {
            self.diagnostic(key, "must be a string", "put it into double quotes");
        }
        value.as_str()
    }

    fn ip(&mut self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        if text.parse::<IpAddr>().is_err() {
            let hint = format!("write the machine's address, or remove {key}: goloo looks it up again");
            self.diagnostic(key, format!("is \"{text}\", which is not an IP address"), hint);
            return None;
        }
        Some(text.to_owned())
    }

    fn unknown_keys(&mut self, known: &[&'static str]) {
        let unknown: Vec<&String> =
            self.section.keys().filter(|key| !known.contains(&key.as_str())).collect();
        for key in unknown {
            let hint = match nearest(key, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "remove it if you know that it identifies no resource".to_owned(),
            };
            self.diagnostic(key, "is unknown", hint);
        }
    }

    fn local(&mut self) -> Option<Endpoints> {
        self.unknown_keys(&LOCAL_KEYS);
        let ip: IpAddr = self.ip("ip")?.parse().ok()?;
        Some(Endpoint::new(ip.into(), SSH_PORT).into())
    }

    fn aws(&mut self) -> (Option<(&'static str, String)>, Option<Endpoints>) {
        if self.pointer != "/vm" {
            let known: Vec<_> = AWS_KEYS.iter().map(|key| key.old).chain([HOSTS_ENTRY]).collect();
            self.unknown_keys(&known);
        }
        let mut fields = Map::new();
        for key in &AWS_KEYS {
            if let Some(value) = self.aws_value(key) {
                fields.entry(key.new).or_insert(value);
            }
        }
        let Some(arn) = self.stack_arn(&mut fields) else { return (None, None) };
        // Where one of them doesn't fit, a diagnostic says so.
        let mut text = |key: &str| match fields.shift_remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let address = text("publicIP").and_then(|ip| Address::parse(&ip).ok());
        let endpoint =
            Endpoint { address, fqdn: text("fqdn"), ssh_port: Some(SSH_PORT), ..Endpoint::default() };
        (Some(("cloudformation-stack", arn)), Some(Endpoints { endpoint, details: fields }))
    }

    fn aws_value(&mut self, key: &AwsKey) -> Option<Value> {
        match key.kind {
            Kind::Flag => self.get(key.old).is_some().then(|| Value::Bool(self.flag(key.old))),
            Kind::Ip => self.ip(key.old).map(Value::String),
            Kind::DnsRecords => {
                let value = self.dns_records(key.old)?;
                let fits = value.as_array().is_some_and(|records| records.iter().all(is_dns_record));
                self.fits(key, value, fits)
            }
            Kind::Text(rule) => {
                let text = self.text(key.old)?;
                self.fits(key, text.into(), rule(text))
            }
            // Checked with all that follows from it.
            Kind::StackArn => self.text(key.old).map(Value::from),
            Kind::Id(prefix) => {
                let text = self.text(key.old)?;
                let rest = text.strip_prefix(prefix).unwrap_or_default();
                if rest.is_empty() || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    let what =
                        format!("is \"{text}\", which is not such an ID: these IDs begin with \"{prefix}\"");
                    self.diagnostic(key.old, what, "look it up in the AWS console and write it here");
                    return None;
                }
                self.fits(key, text.into(), aws_ids::is_id(text, prefix))
            }
        }
    }

    /// The value, where a record takes it; where it doesn't, that is a diagnostic.
    fn fits(&mut self, key: &AwsKey, value: Value, fits: bool) -> Option<Value> {
        if !fits {
            let what = format!("is {value}, which can't be a {}", key.new);
            self.diagnostic(key.old, what, "look it up in the AWS console and write it here");
        }
        fits.then_some(value)
    }

    /// The stack's ARN, which identifies everything that was created, and the fields derived from it.
    fn stack_arn(&mut self, fields: &mut Map<String, Value>) -> Option<String> {
        let name = fields.get("stackName").and_then(Value::as_str).unwrap_or("STACK").to_owned();
        let region = fields.get("region").and_then(Value::as_str).unwrap_or("REGION");
        let hint = format!(
            "aws cloudformation describe-stacks --region {region} --stack-name {name} --query 'Stacks[0].StackId' shows it"
        );
        let Some(text) = fields.get("stackID").and_then(Value::as_str).map(str::to_owned) else {
            if self.get("stack_id").is_none() {
                self.diagnostic("stack_id", "is missing, and nothing else identifies the machine", hint);
            }
            return None;
        };
        let is_arn = aws_ids::is_stack_arn(&text);
        let Some((region, stack)) = region_and_stack(&text).filter(|_| is_arn) else {
            self.diagnostic("stack_id", format!("is \"{text}\", which is not the ARN of a stack"), hint);
            return None;
        };
        fields.insert("region".to_owned(), region.into());
        if fields.get("stackName").is_some_and(|name| name != stack) {
            self.diagnostic("stack_name", format!("is \"{name}\", and stack_id says \"{stack}\""), hint);
        }
        fields.insert("stackName".to_owned(), stack.into());
        Some(text)
    }

    fn dns_records(&mut self, key: &str) -> Option<Value> {
        let value = self.get(key)?;
        let text = |record: &Value, field: &str| record.get(field).is_some_and(Value::is_string);
        let sound = |record: &Value| {
            ["name", "type", "value"].iter().all(|field| text(record, field))
                && record.get("ttl").is_none_or(Value::is_u64)
        };
        if !value.as_array().is_some_and(|records| records.iter().all(sound)) {
            let hint = r#"write them as [{"name": ..., "type": "A", "value": ..., "ttl": 300}]"#;
            self.diagnostic(key, "must be a list of records with name, type, value and ttl", hint);
            return None;
        }
        Some(value.clone())
    }
}

/// Whether a record takes it.
fn is_dns_record(record: &Value) -> bool {
    let keeps = |field: &str, rule: fn(&str) -> bool| record[field].as_str().is_some_and(rule);
    let ttl = record.get("ttl").unwrap_or(&Value::Null);
    keeps("name", is_domain)
        && keeps("type", is_record_type)
        && keeps("value", is_record_value)
        && (record.get("ttl").is_none() || dns_ttl(ttl).is_ok())
}

/// Region and stack name in this ARN.
fn region_and_stack(arn: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", partition, "cloudformation", region, _, resource] = parts[..] else { return None };
    let (name, id) = resource.strip_prefix("stack/")?.split_once('/')?;
    let sound = partition.starts_with("aws") && !region.is_empty() && !name.is_empty() && !id.is_empty();
    sound.then_some((region, name))
}
