//! State that the first goloo wrote into configs: where it stands, and what it says of which VMs.
//!
//! That goloo made local VMs as Multipass instances with the VM's name, and EC2 instances each with a
//! CloudFormation stack. It wrote what it knew into `config.json` (a section `local`, a section `aws`,
//! or keys of `vm`), or into a config of its own in a folder `local` or `aws` beside it.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::json::{Json, child};
use super::problem::{Problem, nearest};
use crate::name::VmName;
use crate::provider::Made;
use crate::record::checks::is_aws_field;
use crate::record::{Aws, Extra, Local, ProviderKind, SSH_PORT};

/// Sections beside `vm`.
const SECTIONS: [&str; 2] = ["local", "aws"];
/// The folders beside a config that may hold configs with state.
pub const FOLDERS: [&str; 2] = SECTIONS;
/// Keys of the section `local`.
const LOCAL_KEYS: [&str; 2] = ["ip", HOSTS_ENTRY];
/// In `local` and in `vm`: whether /etc/hosts has the VM's name.
const HOSTS_ENTRY: &str = "hosts_entry";

/// What a value of the section `aws` must be.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    /// An id of AWS with this beginning.
    Id(&'static str),
    Ip,
    Flag,
    StackArn,
    DnsRecords,
}

/// A key of the section `aws`, or of `vm` where the state is flat.
struct AwsKey {
    old: &'static str,
    /// What it is called in a record.
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
    key("stack_name", "stackName", Kind::Text),
    key("security_group", "securityGroupID", Kind::Id("sg-")),
    key("security_group_id", "securityGroupID", Kind::Id("sg-")),
    key("ami_id", "amiID", Kind::Id("ami-")),
    key("fqdn", "fqdn", Kind::Text),
    key("dns_records", "dnsRecords", Kind::DnsRecords),
    key("zone_id", "zoneID", Kind::Text),
    key("region", "region", Kind::Text),
    key("vpc_id", "vpcID", Kind::Id("vpc-")),
    key("subnet_id", "subnetID", Kind::Id("subnet-")),
    key("created_vpc", "createdVPC", Kind::Flag),
    key("created_subnet", "createdSubnet", Kind::Flag),
    key("internet_gateway_id", "internetGatewayID", Kind::Id("igw-")),
    key("route_table_id", "routeTableID", Kind::Id("rtb-")),
    key("route_table_association_id", "routeTableAssociationID", Kind::Id("rtbassoc-")),
];

/// Keys of [`AWS_KEYS`] that a config may have for its own sake; in `vm` they alone are no state.
const CONFIG_KEYS: [&str; 4] = ["region", "vpc_id", "subnet_id", "zone_id"];

/// Whether a key that the schema doesn't know is state of the first goloo.
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

/// Whether a config is worth reading: `false` is certain, `true` isn't.
pub fn may_hold_state(config: &[u8]) -> bool {
    let mut names = SECTIONS.into_iter().chain(flat_keys());
    // Without a parser, since this is asked of every config in every folder of stacks.
    names.any(|name| {
        let quoted = format!("\"{name}\"");
        config.windows(quoted.len()).any(|window| window == quoted.as_bytes())
    })
}

/// A config, and how it is called in problems.
#[derive(Debug, Clone, Copy)]
pub struct OldConfig<'a> {
    /// Its path.
    pub path: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
}

/// A place in a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The config's path.
    pub file: String,
    /// The JSON pointer.
    pub pointer: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
}

impl Place {
    /// A problem with what stands here.
    pub fn problem(&self, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            pointer: self.pointer.clone(),
            line: self.line,
            column: self.column,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// A VM that a config speaks of.
#[derive(Debug, Clone, PartialEq)]
pub struct OldVm {
    /// Its name here: that of a VM in AWS ends in `-aws` where its stack has a local VM of the name.
    pub name: VmName,
    /// Who made it.
    pub provider: ProviderKind,
    /// What leads to it: a resource's kind and id.
    pub resource: (&'static str, String),
    /// Its addresses, where the config has them.
    pub addresses: Option<Made>,
    /// Whether /etc/hosts was to have its name.
    pub hosts_entry: bool,
    /// Where its state stands.
    pub place: Place,
}

impl OldVm {
    /// The command that makes a record for it under another name.
    pub fn adopt_hint(&self, new_name: &str) -> String {
        let id = &self.resource.1;
        // It is meant to be pasted into a shell, and may come from anywhere.
        let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte));
        let id = if plain { id } else { "ID" };
        format!("goloo adopt {new_name} --provider {} --id {id}", self.provider)
    }
}

/// What a stack's configs say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OldState {
    /// The VMs.
    pub vms: Vec<OldVm>,
    /// VMs whose name goloo doesn't allow any more, each with the problem; they are called by one that
    /// is near.
    pub unfit: Vec<(OldVm, Problem)>,
    /// State that leads to no VM of its own, and why.
    pub passed_over: Vec<(Place, String)>,
    /// What can't be taken.
    pub problems: Vec<Problem>,
}

/// Reads the state in a stack: in its config, and in those in the folders beside it, which count first.
/// `folder` is the stack's folder's name: the VM's, where no config has one.
pub fn read(folder: &str, own: Option<OldConfig<'_>>, beside: &[OldConfig<'_>]) -> OldState {
    let mut state = OldState::default();
    let is_there = own.is_some();
    let own = own.and_then(|config| state.parse(config));
    let mut beside: Vec<_> = beside.iter().filter_map(|config| state.parse(*config)).collect();
    if is_there && own.is_none() {
        // Whether it has a name for them can't be known.
        beside.retain(|config| config.name().is_some());
    }
    let name = own.as_ref().and_then(Config::name).unwrap_or(folder).to_owned();
    let found: Vec<Found> =
        beside.iter().chain(own.as_ref()).flat_map(|config| config.find(&name, &mut state)).collect();
    let local: Vec<&str> = found.iter().filter(|vm| vm.provider.is_local()).map(|vm| &*vm.name).collect();
    for vm in &found {
        let clash = !vm.provider.is_local() && local.contains(&&*vm.name);
        let name = if clash { format!("{}-aws", vm.name) } else { vm.name.clone() };
        state.add(vm, &name);
    }
    state
}

impl OldState {
    fn parse<'a>(&mut self, config: OldConfig<'a>) -> Option<Config<'a>> {
        match Json::parse(config.path, config.bytes) {
            Ok(json) => Some(Config { path: config.path, json }),
            Err(problem) => {
                self.problems.push(problem);
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
        let vm = |name| OldVm {
            name,
            provider: found.provider,
            resource: body.resource.clone(),
            addresses: body.addresses.clone(),
            hosts_entry: body.hosts_entry,
            place: found.place.clone(),
        };
        match VmName::parse(name) {
            Ok(name) => self.vms.push(vm(name)),
            Err(error) => {
                let vm = vm(near_name(name));
                let problem = found.place.problem(error.to_string(), vm.adopt_hint(vm.name.as_str()));
                self.unfit.push((vm, problem));
            }
        }
    }
}

/// A name like the one that can't be one.
fn near_name(name: &str) -> VmName {
    let sound = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let near: String = name.chars().map(sound).collect();
    VmName::parse(near.trim_matches('-'))
        .unwrap_or_else(|_| VmName::parse("newname").expect("it keeps the rule"))
}

/// A parsed config.
struct Config<'a> {
    path: &'a str,
    json: Json,
}

/// State that was found, sound or not: one that isn't has its name all the same.
struct Found {
    name: String,
    provider: ProviderKind,
    place: Place,
    body: Option<Body>,
}

/// What the state says.
struct Body {
    resource: (&'static str, String),
    addresses: Option<Made>,
    hosts_entry: bool,
}

impl Config<'_> {
    fn name(&self) -> Option<&str> {
        self.json.value.pointer("/vm/name").and_then(Value::as_str).filter(|name| !name.is_empty())
    }

    fn place(&self, pointer: &str) -> Place {
        let at = self.json.at(pointer, "", "");
        Place { file: self.path.to_owned(), pointer: at.pointer, line: at.line, column: at.column }
    }

    fn problem(&self, pointer: &str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        self.place(pointer).problem(message, hint)
    }

    /// All state in this config; what is empty or unsound is told to `state`.
    fn find(&self, stack_name: &str, state: &mut OldState) -> Vec<Found> {
        let name = self.name().unwrap_or(stack_name);
        let mut found = Vec::new();
        for (pointer, provider) in
            [("/local", ProviderKind::Multipass), ("/aws", ProviderKind::Aws), ("/vm", ProviderKind::Aws)]
        {
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
                Err(problems) => {
                    state.problems.extend(problems);
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

    fn body(&self, pointer: &str, value: &Value, name: &str) -> Result<Body, Vec<Problem>> {
        let Value::Object(section) = value else {
            let hint = "it is a section with keys as the first goloo wrote it, or it can be removed";
            return Err(vec![self.problem(pointer, format!("{} must be an object", &pointer[1..]), hint)]);
        };
        let odd_name =
            self.json.value.pointer("/vm/name").is_some_and(|name| !name.is_null() && !name.is_string());
        if odd_name {
            let message = "vm.name must be a string, since the machine is called that";
            return Err(vec![self.problem("/vm/name", message, "put it into double quotes")]);
        }
        let mut reader = Reader { config: self, pointer, section, problems: self.doubles(pointer) };
        let hosts_entry = reader.flag(HOSTS_ENTRY)
            || self.json.value.pointer("/vm/hosts_entry").is_some_and(|flag| flag == &Value::Bool(true));
        let (resource, addresses) = match pointer {
            "/local" => (Some(("multipass-instance", name.to_owned())), reader.local()),
            _ => reader.aws(),
        };
        match resource {
            Some(resource) if reader.problems.is_empty() => Ok(Body { resource, addresses, hosts_entry }),
            _ => Err(reader.problems),
        }
    }

    /// Keys of the state that are there twice: which one holds can't be known.
    fn doubles(&self, pointer: &str) -> Vec<Problem> {
        let ours = |place: &str| match place.strip_prefix(pointer) {
            Some(rest) if pointer == "/vm" => rest.is_empty() || is_old_state(pointer, &rest[1..]),
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        let doubles = self.json.doubles.iter().filter(|(place, _)| ours(place));
        let problem = |(place, offset): &(String, usize)| {
            let message = format!("{} is there twice", dotted(place));
            self.json.problem(place, *offset, message, "remove the one that is wrong".to_owned())
        };
        doubles.map(problem).collect()
    }
}

/// What the first goloo left where it had nothing to say.
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

/// Reads one section and gathers what is wrong with it.
struct Reader<'c> {
    config: &'c Config<'c>,
    pointer: &'c str,
    section: &'c Map<String, Value>,
    problems: Vec<Problem>,
}

impl<'c> Reader<'c> {
    fn problem(&mut self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        let place = child(self.pointer, key);
        self.problems.push(self.config.problem(
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
                self.problem(key, "must be true or false", "write true or false without quotes");
                false
            }
        }
    }

    fn text(&mut self, key: &str) -> Option<&'c str> {
        let value = self.get(key)?;
        if value.as_str().is_none() {
            self.problem(key, "must be a string", "put it into double quotes");
        }
        value.as_str()
    }

    fn ip(&mut self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        if text.parse::<IpAddr>().is_err() {
            let hint = format!("write the machine's address, or remove {key}: it is asked for again");
            self.problem(key, format!("is \"{text}\", which is no IP address"), hint);
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
                None => "remove it, if you know that it leads to nothing".to_owned(),
            };
            self.problem(key, "isn't known", hint);
        }
    }

    fn local(&mut self) -> Option<Made> {
        self.unknown_keys(&LOCAL_KEYS);
        let ip: IpAddr = self.ip("ip")?.parse().ok()?;
        Some(Made::Local(Local { ip: ip.into(), ssh_port: SSH_PORT, extra: Extra::new() }))
    }

    fn aws(&mut self) -> (Option<(&'static str, String)>, Option<Made>) {
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
        // Where one of them doesn't fit, a problem has said so.
        let Ok(aws) = serde_json::from_value::<Aws>(Value::Object(fields)) else { return (None, None) };
        (Some(("cloudformation-stack", arn)), Some(Made::Aws(aws)))
    }

    fn aws_value(&mut self, key: &AwsKey) -> Option<Value> {
        match key.kind {
            Kind::Flag => self.get(key.old).is_some().then(|| Value::Bool(self.flag(key.old))),
            Kind::Ip => self.ip(key.old).map(Value::String),
            Kind::DnsRecords => {
                let value = self.dns_records(key.old)?;
                self.fits(key, &value).then_some(value)
            }
            Kind::Text | Kind::StackArn => {
                let value = Value::from(self.text(key.old)?);
                self.fits(key, &value).then_some(value)
            }
            Kind::Id(prefix) => {
                let text = self.text(key.old)?;
                let rest = text.strip_prefix(prefix).unwrap_or_default();
                if rest.is_empty() || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    let what = format!("is \"{text}\", which is no such id: they begin with \"{prefix}\"");
                    self.problem(key.old, what, "look it up in the AWS console and write it here");
                    return None;
                }
                let value = Value::from(text);
                self.fits(key, &value).then_some(value)
            }
        }
    }

    /// Whether a record takes the value; where it doesn't, that is a problem.
    fn fits(&mut self, key: &AwsKey, value: &Value) -> bool {
        let fits = key.new == "stackID" || is_aws_field(key.new, value);
        if !fits {
            let what = format!("is {value}, which can't be a {}", key.new);
            self.problem(key.old, what, "look it up in the AWS console and write it here");
        }
        fits
    }

    /// The stack's ARN, which leads to all that was made, and what follows from it.
    fn stack_arn(&mut self, fields: &mut Map<String, Value>) -> Option<String> {
        let name = fields.get("stackName").and_then(Value::as_str).unwrap_or("STACK").to_owned();
        let hint = format!(
            "aws cloudformation describe-stacks --stack-name {name} --query 'Stacks[0].StackId' shows it"
        );
        let Some(text) = fields.get("stackID").and_then(Value::as_str).map(str::to_owned) else {
            if self.get("stack_id").is_none() {
                self.problem("stack_id", "is missing, and nothing else leads to the machine", hint);
            }
            return None;
        };
        let is_arn = is_aws_field("stackID", &Value::from(text.as_str()));
        let Some((region, stack)) = region_and_stack(&text).filter(|_| is_arn) else {
            self.problem("stack_id", format!("is \"{text}\", which is no stack's ARN"), hint);
            return None;
        };
        fields.insert("region".to_owned(), region.into());
        if fields.get("stackName").is_some_and(|name| name != stack) {
            self.problem("stack_name", format!("is \"{name}\", and stack_id says \"{stack}\""), hint);
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
            let hint = r#"write them as [{"name": …, "type": "A", "value": …, "ttl": 300}]"#;
            self.problem(key, "must be a list of records with name, type, value and ttl", hint);
            return None;
        }
        Some(value.clone())
    }
}

/// Region and name of the stack with this ARN.
fn region_and_stack(arn: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", partition, "cloudformation", region, _, resource] = parts[..] else { return None };
    let (name, id) = resource.strip_prefix("stack/")?.split_once('/')?;
    let sound = partition.starts_with("aws") && !region.is_empty() && !name.is_empty() && !id.is_empty();
    sound.then_some((region, name))
}
