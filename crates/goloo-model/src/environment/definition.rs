//! From `goloo.json` to an [`Environment`]: every value is checked, and all problems are found at once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::file::{EnvironmentFile, MachineFile};
use crate::name::{NAME_MAX, VmName};
use crate::provider_id::ProviderId;
use crate::record::{Extra, Membership, Overrides};
use crate::spec::{self, Diagnostic, InvalidValue, PortFile, child_pointer, nearest};

/// The file's usual name.
pub const ENVIRONMENT_FILE: &str = "goloo.json";

/// How many equal machines there can be.
pub const COUNT_MAX: u16 = 100;

/// The variable with the other machines.
const MACHINES_VARIABLE: &str = "machines";

/// A valid `goloo.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    /// Its name.
    pub name: VmName,
    /// Whether its machines are on a private network.
    pub network: bool,
    /// Its machines, by name.
    pub machines: Vec<EnvironmentMachine>,
}

/// A machine of an environment, or several equal ones.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvironmentMachine {
    /// Its name in the file.
    pub name: VmName,
    /// The stack: a path relative to the file, or a name.
    pub stack: String,
    /// How many there are; `None` for one without a number.
    pub count: Option<u16>,
    /// What must be ready before.
    pub after: Vec<VmName>,
    /// What it has in place of its stack's values.
    pub overrides: Overrides,
    /// Its provider, if the file names one.
    pub provider: Option<ProviderId>,
}

impl Environment {
    /// Reads the file. `folder` is the name of its folder, and `providers` are those that it can name.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place.
    pub fn read(
        file: &str,
        bytes: &[u8],
        folder: &str,
        providers: &[ProviderId],
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut valid = None;
        spec::read_json(file, bytes, |read: &EnvironmentFile| {
            let mut check = Check { folder, providers, invalid: Vec::new() };
            valid = check.environment(read);
            check.invalid
        })
        .map_err(in_order)?;
        Ok(valid.expect("an environment without problems is complete"))
    }

    /// All VMs that it is to have, in the order of their names.
    pub fn members(&self) -> impl Iterator<Item = (&EnvironmentMachine, Membership)> {
        self.machines
            .iter()
            .flat_map(|machine| machine.members(&self.name).map(move |member| (machine, member)))
    }
}

impl EnvironmentMachine {
    /// The VMs of this machine.
    pub fn members(&self, environment: &VmName) -> impl Iterator<Item = Membership> {
        let numbers: Vec<Option<u16>> = match self.count {
            Some(count) => (1..=count).map(Some).collect(),
            None => vec![None],
        };
        let (environment, machine) = (environment.clone(), self.name.clone());
        numbers.into_iter().map(move |number| Membership {
            environment: environment.clone(),
            machine: machine.clone(),
            number,
            network: None,
            environment_id: None,
            extra: Extra::new(),
        })
    }
}

/// Where the file says what a config.json with a machine's overrides has at `pointer`; the machine itself for all that
/// the file doesn't say.
pub fn pointer_in_environment(machine: &VmName, pointer: &str) -> String {
    let machine = child_pointer("/machines", machine.as_str());
    let below = |part: &str| pointer.strip_prefix(part).map(|rest| format!("{machine}{rest}"));
    let is_own = |place: &String| {
        let key = place[machine.len()..].split('/').nth(1).unwrap_or_default();
        ["cpus", "memory", "disk", "ports", "vars"].contains(&key)
    };
    below("/vm").or_else(|| below("/cloud_init")).filter(is_own).unwrap_or(machine)
}

fn in_order(mut problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems
}

struct Check<'a> {
    folder: &'a str,
    providers: &'a [ProviderId],
    invalid: Vec<InvalidValue>,
}

impl Check<'_> {
    fn add(&mut self, pointer: &str, message: impl Into<String>, hint: impl Into<String>) {
        let (pointer, message, hint) = (pointer.to_owned(), message.into(), hint.into());
        self.invalid.push(InvalidValue { pointer, message, hint });
    }

    /// `None` if there is no environment to speak of; what is wrong with it is noted in any case.
    fn environment(&mut self, file: &EnvironmentFile) -> Option<Environment> {
        let name = self.name(file);
        if file.machines.is_empty() {
            self.add(
                "/machines",
                "the environment has no machines",
                "add \"machines\": {\"web\": {\"stack\": \"web\"}}",
            );
        }
        let mut machines = Vec::new();
        for (key, machine) in &file.machines {
            machines.extend(self.machine(key, machine, &file.machines));
        }
        let name = name?;
        self.lengths(&name, &machines);
        self.collisions(&machines);
        self.cycles(&machines);
        Some(Environment { name, network: file.network.unwrap_or(false), machines })
    }

    fn name(&mut self, file: &EnvironmentFile) -> Option<VmName> {
        let (pointer, text, whose) = match &file.name {
            Some(text) => ("/name", text.as_str(), ""),
            None => {
                ("", self.folder, "the folder's name, which is the environment's if \"name\" is absent: ")
            }
        };
        self.parsed(pointer, whose, text)
    }

    fn parsed(&mut self, pointer: &str, whose: &str, text: &str) -> Option<VmName> {
        match VmName::parse(text) {
            Ok(name) => Some(name),
            Err(error) => {
                let similar = VmName::similar(text);
                let similar = similar.as_ref().map_or("web", VmName::as_str);
                self.add(pointer, format!("{whose}{error}"), format!("use a name like \"{similar}\""));
                None
            }
        }
    }

    fn machine(
        &mut self,
        key: &str,
        machine: &MachineFile,
        all: &BTreeMap<String, MachineFile>,
    ) -> Option<EnvironmentMachine> {
        let pointer = child_pointer("/machines", key);
        let name = self.parsed(&pointer, "", key);
        let stack = machine.stack.clone().filter(|stack| !stack.is_empty());
        if stack.is_none() {
            let place = child_pointer(&pointer, "stack");
            self.add(&place, format!("the machine {key} has no stack"), "add \"stack\": \"stacks/web\"");
        }
        let count = machine.count.map(|count| self.count(&pointer, count));
        let after = self.after(&pointer, key, &machine.after, all);
        let overrides = self.overrides(&pointer, machine);
        let provider = machine.provider.as_ref().and_then(|text| self.provider(&pointer, text));
        Some(EnvironmentMachine { name: name?, stack: stack?, count, after, overrides, provider })
    }

    fn count(&mut self, machine: &str, count: u64) -> u16 {
        match u16::try_from(count).ok().filter(|count| (1..=COUNT_MAX).contains(count)) {
            Some(count) => count,
            None => {
                let place = child_pointer(machine, "count");
                let hint = format!("write a number from 1 to {COUNT_MAX}");
                self.add(&place, format!("count is {count}, which is out of range"), hint);
                1
            }
        }
    }

    fn after(
        &mut self,
        machine: &str,
        key: &str,
        names: &[String],
        all: &BTreeMap<String, MachineFile>,
    ) -> Vec<VmName> {
        let mut after = BTreeSet::new();
        for (index, name) in names.iter().enumerate() {
            let place = format!("{machine}/after/{index}");
            if name == key {
                self.add(&place, format!("the machine {key} can't come after itself"), "remove it");
            } else if !all.contains_key(name) {
                let hint = match nearest(name, all.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => {
                        format!("the machines are {}", all.keys().cloned().collect::<Vec<_>>().join(", "))
                    }
                };
                self.add(&place, format!("there is no machine \"{name}\""), hint);
            } else {
                after.extend(VmName::parse(name));
            }
        }
        after.into_iter().collect()
    }

    fn overrides(&mut self, machine: &str, file: &MachineFile) -> Overrides {
        let text = |value: &Option<String>| value.clone().map(Value::from);
        let ports = file.ports.as_ref().map(|ports| ports.iter().map(PortFile::to_value).collect());
        let own = [
            ("vm.cpus", file.cpus.map(Value::from)),
            ("vm.memory", text(&file.memory)),
            ("vm.disk", text(&file.disk)),
            ("vm.ports", ports),
        ];
        let mut overrides = Overrides::default();
        for (key, value) in own.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            overrides.put(key, value).expect("these keys are valid");
        }
        for (name, value) in &file.vars {
            let place = child_pointer(&child_pointer(machine, "vars"), name);
            if name == MACHINES_VARIABLE {
                let hint = "use another name; {{ machines.db.name }} is the short name of the machine db";
                self.add(&place, "the variable machines is goloo's own", hint);
            } else if name.contains('.')
                || overrides.put(&format!("cloud_init.vars.{name}"), value.clone()).is_err()
            {
                let hint = "use letters, digits, \"_\" and \"-\", and at most 100 variables";
                self.add(&place, format!("the variable \"{name}\" can't be used"), hint);
            }
        }
        overrides
    }

    fn provider(&mut self, machine: &str, text: &str) -> Option<ProviderId> {
        let found = self.providers.iter().copied().find(|id| id.as_str() == text);
        if found.is_none() {
            let known: Vec<&str> = self.providers.iter().map(ProviderId::as_str).collect();
            let hint = format!("the providers are {}", known.join(", "));
            self.add(&child_pointer(machine, "provider"), format!("there is no provider \"{text}\""), hint);
        }
        found
    }

    fn lengths(&mut self, environment: &VmName, machines: &[EnvironmentMachine]) {
        for machine in machines {
            let longest =
                machine.members(environment).map(|member| member.short_name()).max_by_key(String::len);
            let Some(short) = longest else { continue };
            if environment.as_str().len() + 1 + short.len() > NAME_MAX {
                let pointer = child_pointer("/machines", machine.name.as_str());
                let message = format!(
                    "the VM \"{environment}-{short}\" would have a name of more than {NAME_MAX} characters"
                );
                self.add(&pointer, message, "shorten the name of the machine or of the environment");
            }
        }
    }

    fn collisions(&mut self, machines: &[EnvironmentMachine]) {
        let any = VmName::parse("x").expect("one letter is a name");
        let mut owners: BTreeMap<String, &VmName> = BTreeMap::new();
        for machine in machines {
            for member in machine.members(&any) {
                let short = member.short_name();
                if let Some(other) = owners.get(&short).copied() {
                    let pointer = child_pointer("/machines", machine.name.as_str());
                    let message =
                        format!("{other} and {} both have a machine called \"{short}\"", machine.name);
                    self.add(&pointer, message, "rename one of the two");
                    break;
                }
                owners.insert(short, &machine.name);
            }
        }
    }

    /// Reports each cycle once, with its path.
    fn cycles(&mut self, machines: &[EnvironmentMachine]) {
        let mut done = BTreeSet::new();
        for machine in machines {
            let mut path = Vec::new();
            if let Some(cycle) = cycle_from(&machine.name, machines, &mut path, &mut done) {
                let pointer = child_pointer(&child_pointer("/machines", cycle[0].as_str()), "after");
                let names: Vec<&str> = cycle.iter().chain(cycle.first()).map(|name| name.as_str()).collect();
                let message = format!("these machines wait for each other: {}", names.join(" after "));
                self.add(&pointer, message, "remove one of them from \"after\"");
            }
        }
    }
}

/// The first cycle that is reached from a machine. Those in `done` were followed to their ends.
fn cycle_from(
    name: &VmName,
    machines: &[EnvironmentMachine],
    path: &mut Vec<VmName>,
    done: &mut BTreeSet<VmName>,
) -> Option<Vec<VmName>> {
    if let Some(start) = path.iter().position(|known| known == name) {
        return Some(path[start..].to_vec());
    }
    if !done.insert(name.clone()) {
        return None;
    }
    path.push(name.clone());
    let machine = machines.iter().find(|machine| machine.name == *name);
    let after = machine.map_or(&[][..], |machine| &machine.after);
    let found = after.iter().find_map(|next| cycle_from(next, machines, path, done));
    path.pop();
    found
}
