//! From the files to a [`ResolvedStack`]: defaults filled in, every value checked, all diagnostics
//! found at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::diagnostic::{Diagnostic, nearest};
use super::file::{DnsFile, MountFile, PortFile, SshCidrFile, StackFile, UserFile, VmFile};
use super::images;
use super::json::{Json, child};
use super::old_state::is_old_state;
use super::ports::{FORWARDED_PORTS_MAX, PortForward, PortForwardError, PortRange, Protocol};
use super::resolved::{Dns, ImageRef, KeySource, Mount, ResolvedStack, Size, SshSource, User};
use super::shape::ConfigSection;
use super::{json_schema, shape, values};
use crate::authorized_key::{AuthorizedKey, AuthorizedKeyError};
use crate::hint::{Hint, NextStep};
use crate::name::{NameError, VmName};
use crate::provider_id::ProviderId;

/// A stack's files as read, and the other inputs of resolving.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The name on the command line.
    pub given: &'a str,
    /// `--as`.
    pub as_name: Option<&'a VmName>,
    /// The folder's name.
    pub stack: &'a str,
    /// The folder, absolute.
    pub folder: &'a Path,
    /// `config.json`.
    pub config: &'a [u8],
    /// `cloud-init.yaml`.
    pub cloud_init: Option<&'a [u8]>,
    /// `configure.sh`.
    pub configure: Option<&'a [u8]>,
    /// The user's home, for `~`.
    pub home: &'a Path,
    /// The user's default of `vm.auto_ports`.
    pub auto_ports: bool,
    /// The sections of `config.json` that providers own.
    pub sections: &'a [ConfigSection],
}

/// A valid stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The stack.
    pub stack: ResolvedStack,
    /// Information for the user.
    pub notes: Vec<String>,
    /// Possible problems.
    pub warnings: Vec<Diagnostic>,
}

/// Defaults and bounds.
const CPUS: u64 = 2;
/// The maximum of `vm.cpus`.
pub const CPUS_MAX: u64 = 256;
const MEMORY: Size = Size::gib(2);
/// The minimum of `vm.memory`: that of Multipass up to 1.16. Images may need more to boot.
pub const MEMORY_MIN: Size = Size::bytes(128 << 20);
/// The maximum of `vm.memory`.
pub const MEMORY_MAX: Size = Size::gib(16 << 10);
const DISK: Size = Size::gib(20);
const DISK_MIN: Size = Size::bytes(512 << 20);
const DISK_MAX: Size = Size::gib(64 << 10);
const IMAGE: &str = "24.04";
/// The default of `dns.ttl`, in seconds.
pub const DNS_TTL: u32 = 300;
/// A machine that terminates itself before it has started is useless.
const TTL_MIN_SECONDS: u64 = 300;
const TTL_MAX_SECONDS: u64 = 365 * 86_400;

/// Checks a stack's config and fills in the defaults.
pub fn resolve(sources: &Sources<'_>) -> Result<Resolved, Vec<Diagnostic>> {
    let json = Json::parse("config.json", sources.config).map_err(|diagnostic| vec![diagnostic])?;
    let mut checked = shape::check(&json, &json_schema(), sources.sections, is_old_state);
    let sections = take_sections(&mut checked.value, sources.sections);
    let value = std::mem::take(&mut checked.value);
    let file: StackFile = serde_json::from_value(value).map_err(|error| {
        vec![json.at("", error.to_string(), NextStep::ConfigSchema.text(" shows the format"))]
    })?;
    let mut resolver = Resolver { sources, json: &json, diagnostics: Vec::new(), warnings: Vec::new() };
    let stack = ResolvedStack { sections, ..resolver.stack(&file) };
    let mut diagnostics = std::mem::take(&mut checked.diagnostics);
    let found = resolver.diagnostics.into_iter();
    diagnostics.extend(found.filter(|diagnostic| !checked.follows(&diagnostic.pointer)));
    if !diagnostics.is_empty() {
        diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        return Err(diagnostics);
    }
    let mut warnings = resolver.warnings;
    if let Some(first) = checked.old_state.first() {
        let keys: Vec<_> = checked.old_state.iter().map(|pointer| pointer[1..].replace('/', ".")).collect();
        let message = format!("state of goloo v0 ({}) is ignored here", keys.join(", "));
        warnings.push(json.at_key(first, message, NextStep::Migrate.text(" imports its VM")));
    }
    let mut notes = Vec::new();
    if stack.name.as_str() != sources.given && sources.as_name.is_none() {
        notes.push(format!("the VM is named \"{}\", as in its stack", stack.name));
    }
    Ok(Resolved { stack, notes, warnings })
}

/// The providers' sections, which the type of the file doesn't have.
fn take_sections(file: &mut Value, sections: &[ConfigSection]) -> BTreeMap<ProviderId, Value> {
    let Value::Object(file) = file else { return BTreeMap::new() };
    let taken = sections
        .iter()
        .filter_map(|section| Some((section.provider, file.shift_remove(section.provider.as_str())?)));
    taken.collect()
}

/// A diagnostic about a value of a `config.json` that was read before.
pub fn diagnostic_at_pointer(
    config: &[u8],
    pointer: &str,
    message: impl Into<String>,
    hint: impl Into<Hint>,
) -> Diagnostic {
    diagnostic_in_file("config.json", config, pointer, message, hint)
}

/// The same for any JSON file.
pub fn diagnostic_in_file(
    file: &str,
    content: &[u8],
    pointer: &str,
    message: impl Into<String>,
    hint: impl Into<Hint>,
) -> Diagnostic {
    match Json::parse(file, content) {
        Ok(json) => json.at(pointer, message, hint),
        Err(diagnostic) => Diagnostic { message: message.into(), hint: hint.into(), ..diagnostic },
    }
}

struct Resolver<'a> {
    sources: &'a Sources<'a>,
    json: &'a Json,
    diagnostics: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Resolver<'_> {
    fn diagnostic(&mut self, pointer: &str, message: impl Into<String>, hint: impl Into<Hint>) {
        self.diagnostics.push(self.json.at(pointer, message, hint));
    }

    fn stack(&mut self, file: &StackFile) -> ResolvedStack {
        let vm = &file.vm;
        let image_text = vm.image.clone().unwrap_or_else(|| IMAGE.to_owned());
        let image = self.image(&image_text);
        let name = self.name(vm);
        ResolvedStack {
            stack: self.sources.stack.to_owned(),
            folder: self.sources.folder.to_owned(),
            cpus: self.cpus(vm.cpus),
            memory: self.size("/vm/memory", vm.memory.as_deref(), MEMORY, MEMORY_MIN, MEMORY_MAX),
            disk: self.size("/vm/disk", vm.disk.as_deref(), DISK, DISK_MIN, DISK_MAX),
            image_sha256: self.digest(vm.image_sha256.as_deref()),
            os: self.os(vm.os.as_deref(), &image),
            instance_type: self.word("/vm/instance_type", vm.instance_type.as_ref(), "t3.small"),
            region: self.word("/vm/region", vm.region.as_ref(), "eu-west-1"),
            vpc_id: self.word("/vm/vpc_id", vm.vpc_id.as_ref(), "vpc-0abc"),
            subnet_id: self.word("/vm/subnet_id", vm.subnet_id.as_ref(), "subnet-0abc"),
            iam_instance_profile: self.instance_profile(vm.iam_instance_profile.as_deref()),
            spot: vm.spot.unwrap_or(false),
            bake: vm.bake,
            users: self.users(&vm.users),
            mounts: self.mounts(&vm.mounts),
            ports: self.ports(&vm.ports),
            auto_ports: vm.auto_ports.unwrap_or(self.sources.auto_ports),
            ssh_cidr: self.ssh_sources(vm.ssh_cidr.as_ref()),
            ttl: self.ttl(vm.ttl.as_deref()),
            dns: self.dns(&file.dns, &name),
            packages: file.cloud_init.packages.clone(),
            working_dir: file.cloud_init.working_dir.clone().unwrap_or_default(),
            vars: file.cloud_init.vars.clone(),
            sections: BTreeMap::new(),
            cloud_init: self.sources.cloud_init.filter(|text| !is_blank(text)).map(<[u8]>::to_vec),
            configure: self.sources.configure.filter(|text| !is_blank(text)).map(<[u8]>::to_vec),
            is_copy: name.as_str() != vm.name.as_deref().unwrap_or(self.sources.stack),
            image,
            image_text,
            name,
        }
    }

    /// `--as`, else the name in the config, else the folder's name.
    fn name(&mut self, vm: &VmFile) -> VmName {
        if let Some(name) = self.sources.as_name {
            return name.clone();
        }
        let (pointer, text, whose) = match &vm.name {
            Some(text) => ("/vm/name", text.as_str(), ""),
            None => {
                ("", self.sources.stack, "the folder's name, which is the VM's name if vm.name is absent: ")
            }
        };
        VmName::parse(text).unwrap_or_else(|error| {
            let hint = match &error {
                NameError::UpperCase { lower, .. } => format!("write \"{lower}\""),
                _ => {
                    let similar = VmName::similar(text);
                    format!("use a name like \"{}\"", similar.as_ref().map_or("web-1", VmName::as_str))
                }
            };
            self.diagnostic(pointer, format!("{whose}{error}"), hint);
            VmName::parse("x").expect("one letter is a name")
        })
    }

    fn cpus(&mut self, cpus: Option<u64>) -> u32 {
        let cpus = cpus.unwrap_or(CPUS);
        if !(1..=CPUS_MAX).contains(&cpus) {
            self.diagnostic(
                "/vm/cpus",
                format!("vm.cpus is {cpus}, which is out of range"),
                format!("write a number from 1 to {CPUS_MAX}"),
            );
        }
        u32::try_from(cpus.min(CPUS_MAX)).expect("the largest is small")
    }

    fn size(&mut self, pointer: &str, text: Option<&str>, default: Size, min: Size, max: Size) -> Size {
        let Some(text) = text else { return default };
        let key = pointer[1..].replace('/', ".");
        let Some(size) = values::size(text) else {
            let has_no_unit = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let hint = if has_no_unit {
                format!("add a unit: \"{text}M\" or \"{text}G\"")
            } else {
                "write a size like 512M, 2G or 1.5GiB".to_owned()
            };
            self.diagnostic(pointer, format!("{key}: \"{text}\" isn't a size"), hint);
            return default;
        };
        if size < min || size > max {
            let hint = format!("write a size from {min} to {max}");
            self.diagnostic(pointer, format!("{key} is {text}, which is out of range"), hint);
        }
        size
    }

    fn image(&mut self, text: &str) -> ImageRef {
        parse_image(text, self.sources.folder, self.sources.home).unwrap_or_else(|diagnostic| {
            self.diagnostic("/vm/image", format!("vm.image: {}", diagnostic.message), diagnostic.hint);
            ImageRef::Alias(String::new())
        })
    }

    fn digest(&mut self, text: Option<&str>) -> Option<String> {
        let text = text?.trim().to_ascii_lowercase();
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            let message = "vm.image_sha256 isn't a SHA-256 digest";
            self.diagnostic("/vm/image_sha256", message, "it has 64 hex digits: sha256sum FILE prints it");
        }
        Some(text)
    }

    fn os(&mut self, text: Option<&str>, image: &ImageRef) -> String {
        let Some(text) = text else {
            return match image {
                ImageRef::Alias(name) => name.clone(),
                _ => "unknown".to_owned(),
            };
        };
        if let Some(image) = images::find(text) {
            return image.name.to_owned();
        }
        let is_ami = text
            .strip_prefix("ami-")
            .is_some_and(|id| id.len() >= 8 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        if !is_ami {
            let in_aws = images::IMAGES.iter().filter(|image| image.aws_user.is_some());
            let known = in_aws.map(|image| image.name);
            let hint = match nearest(text, known.clone()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("write ami-..., or one of {}", known.collect::<Vec<_>>().join(", ")),
            };
            self.diagnostic("/vm/os", format!("vm.os: \"{text}\" is unknown"), hint);
        }
        text.to_owned()
    }

    /// The name of an AWS object: only AWS knows whether it exists.
    fn word(&mut self, pointer: &str, text: Option<&String>, example: &str) -> Option<String> {
        let text = text?;
        if text.is_empty() || text.contains(char::is_whitespace) {
            let key = pointer[1..].replace('/', ".");
            self.diagnostic(
                pointer,
                format!("{key}: \"{text}\" is invalid"),
                format!("write something like {example}"),
            );
        }
        Some(text.clone())
    }

    fn instance_profile(&mut self, text: Option<&str>) -> Option<String> {
        let text = text?;
        let name = values::instance_profile(text);
        if name.is_none() {
            let hint = if text.contains(":role/") {
                "name the instance profile that holds the role: aws iam list-instance-profiles lists them"
            } else {
                "write its name, or arn:aws:iam::ACCOUNT:instance-profile/NAME; aws iam list-instance-profiles lists them"
            };
            let message = format!("vm.iam_instance_profile: \"{text}\" isn't an instance profile");
            self.diagnostic("/vm/iam_instance_profile", message, hint);
        }
        name.map(str::to_owned)
    }

    fn users(&mut self, users: &[UserFile]) -> Vec<User> {
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for (index, user) in users.iter().enumerate() {
            let pointer = format!("/vm/users/{index}");
            let Some(name) = &user.username else {
                self.diagnostic(
                    &child(&pointer, "username"),
                    "this user has no username",
                    "add \"username\": \"ann\"",
                );
                continue;
            };
            let place = child(&pointer, "username");
            if !values::is_username(name) {
                let message = format!("\"{name}\" is not a login name");
                let lower = name.to_ascii_lowercase();
                let hint = if values::is_username(&lower) {
                    format!("write \"{lower}\"")
                } else {
                    "use lower-case letters, digits, _ and -, at most 32, beginning with a letter or _"
                        .to_owned()
                };
                self.diagnostic(&place, message, hint);
            } else if !seen.insert(name.clone()) {
                self.diagnostic(
                    &place,
                    format!("the user \"{name}\" appears twice"),
                    "put all of a user's keys into one entry",
                );
            }
            let keys = self.key_sources(user, &pointer);
            all.push(User { username: name.clone(), keys });
        }
        all
    }

    fn key_sources(&mut self, user: &UserFile, pointer: &str) -> Vec<KeySource> {
        let mut keys = Vec::new();
        if let Some(github) = &user.github_username {
            if !values::is_github_user(github) {
                let place = child(pointer, "github_username");
                self.diagnostic(
                    &place,
                    format!("\"{github}\" is not a GitHub user"),
                    "write the name as it is in github.com/NAME",
                );
            }
            keys.push(KeySource::GitHub(github.clone()));
        }
        keys.extend(self.inline_keys(user, pointer));
        for (index, file) in user.ssh_key_files.iter().enumerate() {
            if file.is_empty() {
                let place = format!("{pointer}/ssh_key_files/{index}");
                self.diagnostic(
                    &place,
                    "the path is empty",
                    "write something like \"~/.ssh/id_ed25519.pub\"",
                );
            }
            keys.push(KeySource::File(self.path(file)));
        }
        keys
    }

    /// An invalid key is skipped, unless no other is left. A private key in a config is always an error.
    fn inline_keys(&mut self, user: &UserFile, pointer: &str) -> Vec<KeySource> {
        let parsed: Vec<_> = user.ssh_keys.iter().map(|key| AuthorizedKey::parse(key)).collect();
        let some_are_good = parsed.iter().any(Result::is_ok);
        let mut keys = Vec::new();
        for (index, key) in parsed.into_iter().enumerate() {
            let place = format!("{pointer}/ssh_keys/{index}");
            match key {
                Ok(key) => keys.push(KeySource::Inline(key.to_string())),
                Err(error) if some_are_good && error != AuthorizedKeyError::Private => {
                    let message = format!("this SSH key is skipped: {error}");
                    self.warnings.push(self.json.at(
                        &place,
                        message,
                        "copy the whole line from the .pub file",
                    ));
                }
                Err(error) => {
                    let hint = "copy the line from the .pub file: ssh-ed25519 AAAA...";
                    self.diagnostic(&place, error.to_string(), hint);
                }
            }
        }
        keys
    }

    fn mounts(&mut self, mounts: &[MountFile]) -> Vec<Mount> {
        let mut targets = BTreeSet::new();
        let mut all = Vec::new();
        for (index, mount) in mounts.iter().enumerate() {
            let pointer = format!("/vm/mounts/{index}");
            let (Some(source), Some(target)) = (&mount.source, &mount.target) else {
                self.diagnostic(
                    &pointer,
                    "a mount needs a source and a target",
                    "add what is missing: {\"source\": \".\", \"target\": \"/srv/site\"}",
                );
                continue;
            };
            if source.is_empty() {
                self.diagnostic(
                    &child(&pointer, "source"),
                    "the source is empty",
                    "write \".\" for the stack's folder",
                );
            }
            let place = child(&pointer, "target");
            if !values::is_mount_target(target) {
                let message = format!("\"{target}\" is not a valid mount target");
                self.diagnostic(
                    &place,
                    message,
                    "write an absolute path below /, without \".\", \"..\" and spaces",
                );
            } else if !targets.insert(target.trim_end_matches('/').to_owned()) {
                self.diagnostic(
                    &place,
                    format!("{target} is the target of two mounts"),
                    "use another folder for one of them",
                );
            }
            let target = target.trim_end_matches('/').to_owned();
            let readonly = mount.readonly.unwrap_or(false);
            all.push(Mount { source: self.path(source), target, readonly });
        }
        all
    }

    fn ports(&mut self, ports: &[PortFile]) -> Vec<PortForward> {
        let mut all: Vec<(PortForward, String)> = Vec::new();
        for (index, port) in ports.iter().enumerate() {
            let pointer = format!("/vm/ports/{index}");
            let (forward, text) = match port {
                PortFile::Same(number) => {
                    let range = u16::try_from(*number).ok().and_then(PortRange::one);
                    (range.map(PortForward::from).ok_or(PortForwardError::NotAPort), number.to_string())
                }
                PortFile::Text(text) => (text.parse(), text.clone()),
            };
            let forward: PortForward = match forward {
                Ok(forward) => forward,
                Err(error) => {
                    self.diagnostic(&pointer, error.message(&text), error.hint());
                    continue;
                }
            };
            if forward.protocol() == Protocol::Tcp && forward.guest().overlap(PortRange::SSH).is_some() {
                let hint = "remove it: goloo doesn't need it for SSH";
                self.diagnostic(&pointer, "port 22 of the machine is reachable without this", hint);
            } else if let Some((other, port)) =
                all.iter().find_map(|(other, text)| Some((text, forward.conflict(other)?)))
            {
                let protocol = forward.protocol().suffix();
                let message = format!(
                    "\"{text}\" uses port {port}{protocol} of this computer, and so does \"{other}\""
                );
                self.diagnostic(&pointer, message, "change the left side of one of them");
            }
            all.push((forward, text));
        }
        let count: usize = all.iter().map(|(port, _)| port.host().count()).sum();
        if count > FORWARDED_PORTS_MAX {
            let message =
                format!("these are {count} ports, but a machine can have at most {FORWARDED_PORTS_MAX}");
            self.diagnostic("/vm/ports", message, "write shorter ranges");
        }
        all.into_iter().map(|(port, _)| port).collect()
    }

    /// Defaults to this host alone.
    fn ssh_sources(&mut self, file: Option<&SshCidrFile>) -> Vec<SshSource> {
        let (texts, is_list) = match file {
            None => return vec![SshSource::Me],
            Some(SshCidrFile::One(text)) => (std::slice::from_ref(text), false),
            Some(SshCidrFile::Several(texts)) => (&texts[..], true),
        };
        if texts.is_empty() {
            let hint = "write something like \"198.51.100.0/24\", or \"me\" for this computer";
            self.diagnostic("/vm/ssh_cidr", "vm.ssh_cidr is empty, so not even goloo could log in", hint);
        }
        let mut sources = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let Some(source) = values::ssh_source(text) else {
                let place = if is_list { format!("/vm/ssh_cidr/{index}") } else { "/vm/ssh_cidr".to_owned() };
                let hint = match text.parse::<IpAddr>() {
                    Ok(address) => format!("write \"{}\"", SshSource::of_address(address)),
                    Err(_) => {
                        "write something like \"198.51.100.0/24\", or \"me\" for this computer".to_owned()
                    }
                };
                self.diagnostic(&place, format!("vm.ssh_cidr: \"{text}\" is not a CIDR block"), hint);
                continue;
            };
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        sources
    }

    fn ttl(&mut self, text: Option<&str>) -> Option<u64> {
        let text = text?;
        let seconds = values::duration_seconds(text);
        match seconds {
            None => self.diagnostic(
                "/vm/ttl",
                format!("vm.ttl: \"{text}\" is not a duration"),
                "write something like \"8h\" or \"2d\"",
            ),
            Some(seconds) if !(TTL_MIN_SECONDS..=TTL_MAX_SECONDS).contains(&seconds) => {
                self.diagnostic(
                    "/vm/ttl",
                    format!("vm.ttl is {text}, which is out of range"),
                    "write a duration from 5m to 365d",
                );
            }
            Some(_) => {}
        }
        seconds
    }

    fn dns(&mut self, dns: &DnsFile, name: &VmName) -> Option<Dns> {
        let Some(domain) = &dns.domain else {
            let others = dns.hostname.is_some()
                || dns.zone_id.is_some()
                || dns.is_apex_domain == Some(true)
                || !dns.cname_aliases.is_empty();
            if others {
                self.diagnostic("/dns/domain", "dns has no domain", "add \"domain\": \"example.com\"");
            }
            return None;
        };
        let hostname = dns.hostname.clone().unwrap_or_else(|| name.to_string());
        self.domain("/dns/domain", domain, "example.com");
        self.domain("/dns/hostname", &hostname, "web");
        for (index, alias) in dns.cname_aliases.iter().enumerate() {
            let place = format!("/dns/cname_aliases/{index}");
            self.domain(&place, alias, "www");
            if is_same_name(alias, domain) {
                let message =
                    format!("the alias \"{alias}\" is the domain itself, which can't have a CNAME record");
                self.diagnostic(
                    &place,
                    message,
                    "remove it; \"is_apex_domain\": true points the domain to the machine",
                );
            }
        }
        let ttl = dns.ttl.map_or(Some(DNS_TTL), |ttl| {
            u32::try_from(ttl).ok().filter(|ttl| *ttl <= i32::MAX.unsigned_abs())
        });
        if ttl.is_none() {
            self.diagnostic("/dns/ttl", "dns.ttl is too large", "write it in seconds; 300 is usual");
        }
        Some(Dns {
            hostname,
            domain: domain.clone(),
            ttl: ttl.unwrap_or(DNS_TTL),
            zone_id: self.word("/dns/zone_id", dns.zone_id.as_ref(), "Z0123456789ABC"),
            is_apex_domain: dns.is_apex_domain.unwrap_or(false),
            cname_aliases: dns.cname_aliases.clone(),
        })
    }

    fn domain(&mut self, pointer: &str, text: &str, example: &str) {
        if !values::is_domain(text) {
            self.diagnostic(
                pointer,
                format!("\"{text}\" is not a DNS name"),
                format!("write something like {example}"),
            );
        }
    }

    fn path(&self, text: &str) -> PathBuf {
        path(text, self.sources.folder, self.sources.home)
    }
}

/// Reads what `vm.image` may hold. Relative paths count from `folder`; the diagnostic has no place.
pub fn parse_image(text: &str, folder: &Path, home: &Path) -> Result<ImageRef, Diagnostic> {
    let diagnostic = |message: String, hint: String| Diagnostic {
        file: "config.json".to_owned(),
        pointer: String::new(),
        line: 1,
        column: 1,
        message,
        hint: hint.into(),
    };
    if let Some(image) = images::find_local(text) {
        return Ok(ImageRef::Alias(image.name.to_owned()));
    }
    if let Some((scheme, _)) = text.split_once("://").filter(|(scheme, _)| *scheme != "file") {
        return match scheme {
            _ if values::is_safe_url(text) => Ok(ImageRef::Url(text.to_owned())),
            "http" => Err(diagnostic(format!("{text} is insecure"), "use https".to_owned())),
            _ => Err(diagnostic(
                format!("{text} can't be downloaded"),
                "use an https address or a path".to_owned(),
            )),
        };
    }
    let is_path = text.contains('/')
        || text.starts_with("file:")
        || [".img", ".qcow2", ".raw"].iter().any(|end| text.ends_with(end));
    if is_path {
        let text = match text.strip_prefix("file://") {
            Some(url) => percent_decode_str(url).decode_utf8_lossy(),
            None => text.strip_prefix("file:").unwrap_or(text).into(),
        };
        return Ok(ImageRef::Path(path(&text, folder, home)));
    }
    let hint = match nearest(text, images::names()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!(
            "write a path, an https address, or one of {}",
            images::IMAGES
                .iter()
                .filter(|image| !image.aws_only)
                .map(|image| image.name)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    Err(diagnostic(format!("unknown image \"{text}\""), hint))
}

/// An absolute path with `.` and `..` resolved lexically.
fn path(text: &str, folder: &Path, home: &Path) -> PathBuf {
    let joined = match text.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(&rest[1..]),
        _ => folder.join(text),
    };
    let mut clean = PathBuf::new();
    for component in joined.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

/// Whether two texts are the same DNS name.
fn is_same_name(one: &str, other: &str) -> bool {
    let plain = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
    plain(one) == plain(other)
}

fn is_blank(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}

/// `-u`: the first GitHub user's keys become the login user's; the others become separate users.
pub fn with_github_users(mut stack: ResolvedStack, users: &[String]) -> ResolvedStack {
    let mut users = users.iter().map(|user| user.trim()).filter(|user| !user.is_empty());
    if let Some(first) = users.next() {
        let keys = vec![KeySource::GitHub(first.to_owned())];
        match stack.users.first_mut() {
            Some(login) => login.keys = keys,
            None => {
                let username = images::default_user(&stack.image).unwrap_or("goloo").to_owned();
                stack.users.push(User { username, keys });
            }
        }
    }
    for user in users {
        let key = KeySource::GitHub(user.to_owned());
        let username = login_name(user);
        match stack.users.iter_mut().find(|known| known.username == username) {
            Some(known) if known.keys.contains(&key) => {}
            Some(known) => known.keys.push(key),
            None => stack.users.push(User { username, keys: vec![key] }),
        }
    }
    stack
}

/// A GitHub user's name as a login name: lower case, not beginning with a digit.
fn login_name(github: &str) -> String {
    let lower = github.to_ascii_lowercase();
    let lower = if lower.starts_with(|c: char| c.is_ascii_digit()) { format!("_{lower}") } else { lower };
    lower.chars().take(32).collect()
}
