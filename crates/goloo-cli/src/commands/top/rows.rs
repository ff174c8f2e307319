//! One VM of the list as top shows it, and how the list is filtered and sorted. Pure.

use std::cmp::{Ordering, Reverse};
use std::time::Duration;

use goloo::actions::{OperationState, WatchedMachine, WatchedVm};
use goloo_model::provider::LiveState;
use goloo_model::record::{Membership, Phase};

/// What is known about a VM's machine.
#[derive(Debug, Clone)]
pub enum MachineState {
    /// Its provider hasn't been asked, or hasn't answered yet.
    Pending,
    /// Its provider's answer.
    Known(Box<WatchedMachine>),
    /// Its provider didn't answer within this time.
    Unanswered(Duration),
}

/// What goloo is doing to a VM, started by a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnOperation {
    /// `start`, `stop` or `delete`.
    pub verb: &'static str,
    /// The current step.
    pub step: Option<String>,
}

/// A VM with all that is known about it.
#[derive(Debug, Clone, Copy)]
pub struct Row<'m> {
    pub vm: &'m WatchedVm,
    pub machine: &'m MachineState,
    pub operation: Option<&'m OwnOperation>,
}

impl<'m> Row<'m> {
    /// The provider's answer.
    pub fn known(&self) -> Option<&'m WatchedMachine> {
        match self.machine {
            MachineState::Known(machine) => Some(machine.as_ref()),
            MachineState::Pending | MachineState::Unanswered(_) => None,
        }
    }

    pub fn is_running(&self) -> bool {
        self.known().is_some_and(|machine| machine.live.state == LiveState::Running)
    }

    /// Which machine of which environment it is.
    pub fn membership(&self) -> Option<&'m Membership> {
        self.vm.record.membership.as_ref()
    }

    /// The state in one or two words.
    pub fn state(&self) -> &'static str {
        match self.machine {
            _ if self.vm.elsewhere.is_some() => "elsewhere",
            MachineState::Known(machine) => machine.live.state.as_str(),
            MachineState::Pending => "...",
            MachineState::Unanswered(_) => "no answer",
        }
    }

    /// What is being done to it, or what its record's phase says where that is more than `ready`.
    pub fn activity(&self) -> String {
        if let Some(OwnOperation { verb, step }) = self.operation {
            return step.as_ref().map_or_else(|| (*verb).to_owned(), |step| format!("{verb}: {step}"));
        }
        match &self.vm.operation {
            Some(operation) => match &operation.state {
                OperationState::InProgress(Some(owner)) => format!("{} by {owner}", operation.kind),
                OperationState::InProgress(None) => operation.kind.to_string(),
                OperationState::Interrupted => format!("{} interrupted", operation.kind),
            },
            None if self.vm.record.phase == Phase::Ready => String::new(),
            None => self.vm.record.phase.to_string(),
        }
    }

    /// Whether each word of the filter is in the name, its place in an environment (`shop/web-1`), provider, state, activity,
    /// stack or a tag, in any case.
    pub fn matches(&self, filter: &str) -> bool {
        if filter.trim().is_empty() {
            return true;
        }
        let record = &self.vm.record;
        let mut texts = vec![
            record.name.to_string(),
            record.provider.to_string(),
            self.state().to_owned(),
            self.activity(),
            record.stack.to_string(),
        ];
        texts.extend(self.membership().map(Membership::path));
        texts.extend(record.tags.iter().map(|(key, value)| format!("{key}={value}")));
        texts.iter_mut().for_each(|text| *text = text.to_lowercase());
        filter.to_lowercase().split_whitespace().all(|word| texts.iter().any(|text| text.contains(word)))
    }
}

/// What the list is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortKey {
    /// Alphabetically.
    #[default]
    Name,
    /// Running ones first.
    State,
    /// The highest first.
    Cpu,
    /// The largest first.
    Memory,
    /// The largest first.
    Disk,
    /// The youngest first.
    Age,
    /// The first to expire first.
    Ttl,
    /// Those of one environment together; those of none last.
    Environment,
}

impl SortKey {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::State => "state",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Age => "age",
            Self::Ttl => "ttl",
            Self::Environment => "environment",
        }
    }

    /// The next one, in a circle.
    pub fn next(self) -> Self {
        match self {
            Self::Name => Self::State,
            Self::State => Self::Cpu,
            Self::Cpu => Self::Memory,
            Self::Memory => Self::Disk,
            Self::Disk => Self::Age,
            Self::Age => Self::Ttl,
            Self::Ttl => Self::Environment,
            Self::Environment => Self::Name,
        }
    }

    /// Unknown figures are last.
    fn compare(self, a: &Row<'_>, b: &Row<'_>) -> Ordering {
        let usage = |row: &Row<'_>| row.known().map(|machine| machine.usage).unwrap_or_default();
        let rank = |row: &Row<'_>| match row.known().map(|machine| machine.live.state) {
            Some(LiveState::Running) => 0,
            Some(LiveState::Stopped | LiveState::Suspended) => 1,
            Some(LiveState::Missing) => 2,
            Some(LiveState::Unknown) | None => 3,
        };
        match self {
            Self::Name => Ordering::Equal,
            Self::State => rank(a).cmp(&rank(b)),
            Self::Cpu => {
                let cpus = |row: &Row<'_>| row.known().and_then(|machine| machine.cpus).unwrap_or(-1.0);
                cpus(b).total_cmp(&cpus(a))
            }
            Self::Memory => usage(b).memory.cmp(&usage(a).memory),
            Self::Disk => usage(b).disk.cmp(&usage(a).disk),
            Self::Age => b.vm.record.created_at.cmp(&a.vm.record.created_at),
            Self::Ttl => {
                let end = |row: &Row<'_>| row.vm.record.ends_at.map(Reverse);
                end(b).cmp(&end(a))
            }
            Self::Environment => {
                let (own, other) = (a.membership(), b.membership());
                let both = own.zip(other).map(|(own, other)| own.environment.cmp(&other.environment));
                both.unwrap_or_else(|| other.is_some().cmp(&own.is_some()))
            }
        }
    }
}

/// The order of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowOrder {
    pub key: SortKey,
    pub is_reversed: bool,
}

impl RowOrder {
    /// Equal rows are in the order of their names.
    pub fn sort(self, rows: &mut [Row<'_>]) {
        rows.sort_by(|a, b| {
            let names = || a.vm.record.name.cmp(&b.vm.record.name);
            let order = self.key.compare(a, b);
            match (self.is_reversed, self.key) {
                (false, _) => order.then_with(names),
                (true, SortKey::Name) => names().reverse(),
                (true, _) => order.reverse().then_with(names),
            }
        });
    }
}
