//! What a stack takes of this computer, and whether it may. Asked where the stack comes from a store, and so
//! somebody else may have written it.

use goloo_core::record::{ProviderKind, Record};
use goloo_core::spec::{ImageRef, KeySource, ResolvedStack};

use super::ask::Question;
use crate::app::App;
use crate::error::CliError;

/// Whose the stack is, and whether the question is spared.
#[derive(Debug, Clone)]
pub struct Consent {
    /// `the snapshot of "web", made by bob on desk`.
    origin: String,
    /// The command that doesn't ask.
    again: String,
    /// `--yes`.
    given: bool,
}

impl Consent {
    /// For a VM that is made again as `what`, from its snapshot in the store.
    pub fn for_snapshot_of(record: &Record, what: &str, given: bool) -> Self {
        let by = &record.created_by;
        Self {
            origin: format!("the snapshot of \"{}\", made by {} on {},", record.name, by.user, by.host),
            again: format!(
                "read what it takes: goloo recreate {what} --dry-run; then goloo recreate {what} --yes"
            ),
            given,
        }
    }

    /// Asks, where there is something to ask for. A dry run only says it.
    pub fn ask(
        self,
        app: &App,
        stack: &ResolvedStack,
        provider: ProviderKind,
        hosts_entry: bool,
        dry_run: bool,
    ) -> Result<(), CliError> {
        let mut taken = taken(stack, provider);
        taken.extend(hosts_entry.then(|| format!("the name {} in /etc/hosts", stack.name)));
        if self.given {
            return Ok(());
        }
        let mut lines = vec![
            format!("{} doesn't prove that this state folder created it, or was changed since.", self.origin),
            "It gives to the VM:".to_owned(),
        ];
        lines.extend(taken.iter().map(|line| format!("  {line}")));
        if dry_run {
            lines.iter().for_each(|line| app.ui.say(line));
            return Ok(());
        }
        let question = Question {
            asks: "recreate asks before a stack of somebody else is given something of this computer",
            lost: lines,
            question: "Make it?",
            words: None,
            declined: "nothing was made",
            again: self.again,
        };
        question.ask_showing(app)
    }
}

/// What the VM gets of this computer and this person's account, a line each.
pub fn taken(stack: &ResolvedStack, provider: ProviderKind) -> Vec<String> {
    let mut taken = vec![match &stack.image {
        ImageRef::Path(path) => format!("the image {}", path.display()),
        _ => format!("the image {}", stack.image_text),
    }];
    if stack.cloud_init.is_some() || stack.configure.is_some() {
        taken.push("the commands in its cloud-init.yaml and scripts, as root in the VM".to_owned());
    }
    if provider.is_local() {
        let mounts = stack.mounts.iter();
        taken.extend(mounts.map(|mount| format!("the folder {}, to read and write", mount.source.display())));
        let ports = stack.ports.iter();
        taken.extend(
            ports.map(|port| format!("port {} of this computer, for its port {}", port.host, port.guest)),
        );
    } else {
        let blocks: Vec<String> = stack.ssh_cidr.iter().map(ToString::to_string).collect();
        taken.push(format!("an instance that costs money, with port 22 open to {}", blocks.join(", ")));
        taken.extend(
            stack
                .dns
                .iter()
                .map(|dns| format!("the DNS name {} in {}, and its aliases", dns.hostname, dns.domain)),
        );
    }
    for user in &stack.users {
        taken.extend(user.keys.iter().map(|source| match source {
            KeySource::GitHub(github) => format!("a login as {} for {github} of GitHub", user.username),
            KeySource::File(path) => {
                format!("a login as {} for the keys in {}", user.username, path.display())
            }
            KeySource::Inline(_) => format!("a login as {} for a key in its config", user.username),
        }));
    }
    if provider == ProviderKind::Aws {
        let profile = stack.iam_instance_profile.iter();
        taken.extend(
            profile.map(|profile| format!("the rights of the instance profile {profile} in your account")),
        );
    }
    taken
}
