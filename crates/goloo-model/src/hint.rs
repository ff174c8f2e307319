//! What the user can do about an error, as data.
//!
//! Libraries propose goloo operations as [`NextStep`]; a front end renders them with the name of its own command.

use serde::{Deserialize, Serialize};

use crate::name::{ArchiveId, VmName};
use crate::provider_id::ProviderId;

/// What to do next: text with embedded goloo operations. It starts with a verb or with an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hint {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Part {
    /// Text, including the spaces around it.
    Text(String),
    Step(NextStep),
}

/// An operation of goloo that solves a problem or shows more of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NextStep {
    /// Import a machine at its provider as a VM.
    Adopt {
        /// The VM's name.
        name: VmName,
        /// The machine's provider.
        provider: ProviderId,
        /// The machine's id at the provider, if the name isn't enough.
        id: Option<String>,
    },
    /// Show a deleted VM's record.
    ArchiveShow(ArchiveId),
    /// Show the format of config.json.
    ConfigSchema,
    /// Check a stack's files.
    ConfigValidate,
    /// Copy files from a VM to this computer.
    CopyFrom(VmName),
    /// Create a VM in AWS.
    CreateInAws {
        /// The stack; `None` where the person has to choose one.
        stack: Option<String>,
        /// The VM's name, where it isn't the stack's.
        name: Option<VmName>,
    },
    /// Show what a create would do, with the user-data.
    CreateDryRun(ProviderId),
    /// Delete a VM.
    Delete(VmName),
    /// Archive a VM's record and leave the machine alone.
    DeleteForget(VmName),
    /// Return the DNS names that a VM got to the VM that had them.
    DnsRollback(VmName),
    /// Show a VM's DNS names and their owners.
    DnsShow(VmName),
    /// Move DNS names to a VM.
    DnsSwap {
        /// The VM that gets them; `None` where the person has to choose one.
        to: Option<VmName>,
        /// The VM that has them; `None` where goloo finds it.
        from: Option<VmName>,
        /// Take names over from any owner.
        force: bool,
    },
    /// Diagnose this machine.
    Doctor,
    /// Build an image, which needs root.
    ImageBuild(String),
    /// List the VMs in AWS.
    ListInAws,
    /// Show a VM's provisioning log.
    Logs(VmName),
    /// Import the VMs of goloo v0.
    Migrate,
    /// Restart a VM's system from inside.
    Reboot(VmName),
    /// Create another VM from the same files.
    Recreate {
        /// The VM that has the files.
        vm: VmName,
        /// The name of the new one.
        name: VmName,
    },
    /// Give a VM another name.
    Rename {
        /// The VM.
        vm: VmName,
        /// The other name.
        to: VmName,
    },
    /// Finish an interrupted operation.
    Resume(VmName),
    /// Stop a VM and start it.
    Restart(VmName),
    /// Change a setting.
    SettingsSet {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
    },
    /// Start a VM.
    Start(VmName),
    /// Provision a VM again with its stack as it is now.
    Reprovision(VmName),
    /// Move all records to another store, which the person has to choose.
    StateMove,
    /// Replace records by older copies, which the person has to choose.
    StatePushOlder,
    /// Restore records from a backup, which the person has to choose.
    StateRestore,
    /// Show details of a VM.
    Status(VmName),
    /// Stop a VM.
    Stop {
        /// The VM.
        vm: VmName,
        /// Force power off.
        force: bool,
    },
    /// Allow deleting a protected VM.
    Unprotect(VmName),
    /// Show the tags of a VM.
    Tags(VmName),
    /// Wait until a VM is ready.
    Wait(VmName),
}

impl NextStep {
    /// Stop a VM by asking its guest.
    pub fn stop(vm: &VmName) -> Self {
        Self::Stop { vm: vm.clone(), force: false }
    }

    /// Stop a VM by forcing power off.
    pub fn force_stop(vm: &VmName) -> Self {
        Self::Stop { vm: vm.clone(), force: true }
    }

    /// A hint that begins with this operation.
    pub fn text(self, text: impl Into<String>) -> Hint {
        Hint::from(self).text(text)
    }
}

impl Hint {
    /// Adds words. Spaces and punctuation between parts belong to the text.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.parts.push(Part::Text(text));
        }
        self
    }

    /// Adds an operation of goloo.
    pub fn step(mut self, step: NextStep) -> Self {
        self.parts.push(Part::Step(step));
        self
    }

    /// Adds all parts of another hint.
    pub fn hint(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// The same with other words.
    pub fn map_text(self, change: impl Fn(&str) -> String) -> Self {
        let part = |part| match part {
            Part::Text(text) => Part::Text(change(&text)),
            step @ Part::Step(_) => step,
        };
        Self { parts: self.parts.into_iter().map(part).collect() }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The operations that the hint proposes.
    pub fn steps(&self) -> impl Iterator<Item = &NextStep> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Step(step) => Some(step),
        })
    }

    /// The operation, where the hint is nothing else.
    pub fn only_step(&self) -> Option<&NextStep> {
        match &self.parts[..] {
            [Part::Step(step)] => Some(step),
            _ => None,
        }
    }

    /// The hint as text, with each operation rendered by `render`.
    pub fn render(&self, render: impl Fn(&NextStep) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Step(step) => render(step),
        };
        self.parts.iter().map(part).collect()
    }

    /// The hint for logs and tests: operations stand in it as values, not as commands.
    pub fn debug_text(&self) -> String {
        self.render(|step| format!("{step:?}"))
    }
}

impl From<&str> for Hint {
    fn from(text: &str) -> Self {
        Self::default().text(text)
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self::default().text(text)
    }
}

impl From<NextStep> for Hint {
    fn from(step: NextStep) -> Self {
        Self::default().step(step)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn web() -> VmName {
        VmName::parse("web").unwrap()
    }

    #[test]
    fn a_hint_keeps_the_order_of_its_words_and_operations() {
        let hint = Hint::from("run ").step(NextStep::Status(web())).text(", then run the command again");
        assert_eq!(
            hint.debug_text(),
            format!("run {:?}, then run the command again", NextStep::Status(web()))
        );
        assert_eq!(hint.steps().collect::<Vec<_>>(), [&NextStep::Status(web())]);
        assert_eq!(hint.only_step(), None);
        assert_eq!(Hint::from(NextStep::Doctor).only_step(), Some(&NextStep::Doctor));
    }

    #[test]
    fn a_hint_is_the_same_after_serialization() {
        let hint = NextStep::force_stop(&web()).text(" powers it off");
        let json = serde_json::to_string(&hint).unwrap();
        assert_eq!(serde_json::from_str::<Hint>(&json).unwrap(), hint);
    }

    #[test]
    fn no_words_are_no_part() {
        assert!(Hint::from("").is_empty());
    }
}
