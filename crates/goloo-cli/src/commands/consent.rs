//! What a stack can access on this computer, and whether the user agrees. Asked if the stack comes from a store:
//! somebody else may have written it.

use goloo::grants::{self, Grant};
use goloo_model::provider_info::ProviderInfo;
use goloo_model::record::Record;
use goloo_model::spec::{PortForward, PortRange, Protocol, ResolvedStack};

use super::ask::Question;
use crate::app::App;
use crate::error::CliError;

/// The origin of the stack, and whether the user has agreed already.
#[derive(Debug, Clone)]
pub struct Consent {
    /// `the snapshot of "web", created by bob on desk,`.
    origin: String,
    /// The command that doesn't ask for confirmation.
    again: String,
    /// `--yes`.
    given: bool,
}

impl Consent {
    /// For the VM `what`, recreated from its snapshot in the store.
    pub fn for_snapshot_of(record: &Record, what: &str, given: bool) -> Self {
        let by = &record.created_by;
        Self {
            origin: format!("the snapshot of \"{}\", created by {} on {},", record.name, by.user, by.host),
            again: format!(
                "run `goloo recreate {what} --dry-run` to see what it can access, then `goloo recreate {what} --yes`"
            ),
            given,
        }
    }

    /// Asks for confirmation. A dry run only prints what the VM gets.
    pub fn ask(
        &self,
        app: &App,
        stack: &ResolvedStack,
        provider: &ProviderInfo,
        hosts_entry: bool,
        dry_run: bool,
    ) -> Result<(), CliError> {
        if self.given {
            return Ok(());
        }
        let mut lines = vec![
            format!(
                "{} does not prove that it was created with this state folder, or it was changed later.",
                self.origin
            ),
            "It gives the VM:".to_owned(),
        ];
        let mut grants = grants::of_stack(stack, provider);
        grants.extend(hosts_entry.then(|| Grant::HostsEntry(stack.name.to_string())));
        lines.extend(grants.iter().map(|grant| format!("  {}", text(grant))));
        if dry_run {
            lines.iter().for_each(|line| app.ui.say(line));
            return Ok(());
        }
        let question = Question {
            asks: "recreate asks for confirmation, since somebody else may have written the stack",
            lost: lines,
            question: "Create it?",
            words: None,
            declined: "nothing was created",
            again: self.again.clone(),
        };
        question.ask_showing(app)
    }
}

/// What a VM gets, in words.
pub fn text(grant: &Grant) -> String {
    match grant {
        Grant::Image(image) => format!("the image {image}"),
        Grant::Commands => "the commands in its cloud-init.yaml and scripts, as root in the VM".to_owned(),
        Grant::Folder { path, readonly } => {
            let access = if *readonly { "read" } else { "read and write" };
            format!("{access} access to the folder {}", path.display())
        }
        Grant::ForwardedPort(port) => {
            let open = match port.bind() {
                Some(address) if port.is_open_to_network() => format!(" (open to the network at {address})"),
                _ => String::new(),
            };
            format!(
                "{} of this computer{open}, forwarded to its {}",
                ports(port, port.host()),
                ports(port, port.guest())
            )
        }
        Grant::AutomaticPorts => {
            "ports of a loopback address of this computer, forwarded to those it listens on".to_owned()
        }
        Grant::Instance { instance_type, region } => {
            let kind = instance_type.as_deref().unwrap_or("selected by cpus and memory");
            let region = region.as_deref().unwrap_or("your default region");
            format!("an instance that costs money: {kind}, in {region}")
        }
        Grant::Network(id) => format!("access to the network {id}"),
        Grant::Subnet(id) => format!("access to the subnet {id}"),
        Grant::SshFrom(blocks) => format!("port 22 open to {}", blocks.join(", ")),
        Grant::OpenPort(port) => format!("{} open to everyone", ports(port, port.guest())),
        Grant::DnsName(name) => format!("the DNS name {name}"),
        Grant::TakenDnsNames => "its DNS names, taken over from their current owners".to_owned(),
        Grant::InstanceProfile(profile) => {
            format!("the permissions of the instance profile {profile} in your account")
        }
        Grant::LoginOfGitHubUser { username, github } => {
            format!("login as {username} for the GitHub user {github}")
        }
        Grant::LoginWithKeyFile { username, path } => {
            format!("login as {username} for the keys in {}", path.display())
        }
        Grant::LoginWithInlineKey { username } => format!("login as {username} for a key in its config"),
        Grant::LoginWithKeys { username, count } => format!("{count} keys that log in as {username}"),
        Grant::HostsEntry(name) => format!("the name {name} in /etc/hosts"),
    }
}

/// "port 80", "UDP ports 8000-8010".
fn ports(forward: &PortForward, range: PortRange) -> String {
    let protocol = match forward.protocol() {
        Protocol::Tcp => "",
        Protocol::Udp => "UDP ",
    };
    let noun = if range.count() > 1 { "ports" } else { "port" };
    format!("{protocol}{noun} {range}")
}
