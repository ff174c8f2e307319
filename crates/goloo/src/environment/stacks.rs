//! The stacks of an environment's machines: finds them, and resolves each with what `goloo.json` says about the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use goloo_cloudinit::used_machine_variables;
use goloo_model::environment::{EnvironmentMachine, pointer_in_environment};
use goloo_model::name::VmName;
use goloo_model::record::{Membership, Overrides};
use goloo_model::spec::{Diagnostic, Resolved, child_pointer, nearest};
use serde_json::{Value, json};

use super::source::EnvironmentSource;
use crate::error::Error;
use crate::session::Session;
use crate::stack::{self, Found, StackError};

/// The stack of one VM.
pub(super) struct MemberStack {
    pub found: Found,
    pub resolved: Resolved,
    pub overrides: Overrides,
}

/// The members of an environment with their addresses, for templates.
pub(super) type Members<'m> = &'m [(&'m EnvironmentMachine, Membership)];

/// All stacks, in the order of the members.
///
/// # Errors
/// All problems of all files.
pub(super) fn resolve(
    session: &Session,
    source: &EnvironmentSource,
    members: Members<'_>,
    name: impl Fn(&Membership) -> VmName,
) -> Result<Vec<MemberStack>, Error> {
    let (mut folders, mut problems, mut stacks) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (machine, member) in members {
        let folder = folders.entry(machine.name.clone()).or_insert_with(|| find(session, source, machine));
        let Ok(folder) = folder else { continue };
        match member_stack(session, source, folder, (machine, member), members, &name(member)) {
            Ok(stack) => stacks.push(stack),
            Err(Failed::Problems(found)) => problems.extend(found),
            Err(Failed::Other(error)) => return Err(error),
        }
    }
    problems.extend(folders.into_values().filter_map(Result::err));
    if problems.is_empty() {
        return Ok(stacks);
    }
    // Several machines have the same stack.
    problems.sort_by(|a, b| {
        (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message))
    });
    problems.dedup();
    Err(source.invalid(problems).into())
}

enum Failed {
    Problems(Vec<Diagnostic>),
    Other(Error),
}

/// The folder of a machine's stack; a diagnostic with all places that were tried.
fn find(
    session: &Session,
    source: &EnvironmentSource,
    machine: &EnvironmentMachine,
) -> Result<PathBuf, Diagnostic> {
    let is_path = machine.stack.contains('/') || machine.stack == "." || machine.stack == "..";
    let own = source.folder();
    let places: Vec<PathBuf> = match is_path {
        true => vec![own.join(&machine.stack)],
        false => {
            let beside = [own.join(&machine.stack), own.join("stacks").join(&machine.stack)];
            let usual =
                stack::folders_of_stacks(&session.paths.config).map(|folder| folder.join(&machine.stack));
            beside.into_iter().chain(usual).collect()
        }
    };
    let pointer = child_pointer(&child_pointer("/machines", machine.name.as_str()), "stack");
    let Some(found) = places.iter().find(|place| place.join("config.json").is_file()) else {
        return Err(not_found(session, source, machine, &pointer, &places));
    };
    let is_beside = found.starts_with(own);
    match stack::foreign(found).filter(|_| !is_beside) {
        Some(reason) => {
            let message = format!("the stack {} is not used: {reason}", found.display());
            Err(source.diagnostic(&pointer, message, "if you trust it, write its path"))
        }
        None => Ok(found.clone()),
    }
}

fn not_found(
    session: &Session,
    source: &EnvironmentSource,
    machine: &EnvironmentMachine,
    pointer: &str,
    places: &[PathBuf],
) -> Diagnostic {
    let mut tried: Vec<String> =
        places.iter().map(|place| stack::absolute(place).join("config.json").display().to_string()).collect();
    tried.dedup();
    let message = format!("there is no stack \"{}\": {} does not exist", machine.stack, tried.join(" or "));
    let known = stack::all(&session.paths.config);
    let hint = match nearest(&machine.stack, known.keys().map(String::as_str)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "write the path of a folder with a config.json, relative to this file".to_owned(),
    };
    source.diagnostic(pointer, message, hint)
}

fn member_stack(
    session: &Session,
    source: &EnvironmentSource,
    folder: &Path,
    (machine, member): (&EnvironmentMachine, &Membership),
    members: Members<'_>,
    name: &VmName,
) -> Result<MemberStack, Failed> {
    let given = machine.stack.as_str();
    let in_stack = |problems: Vec<Diagnostic>| {
        let shown = folder.strip_prefix(source.folder()).unwrap_or(folder).to_owned();
        let of_file = move |problem: Diagnostic| {
            let file = shown.join(&problem.file).display().to_string();
            Diagnostic { file, ..problem }
        };
        Failed::Problems(problems.into_iter().map(of_file).collect())
    };
    let found = Found::read(folder, given).map_err(|error| as_problems(error, &in_stack))?;
    let mut overrides = machine.overrides.clone();
    let values = own_values(machine, member, members, &found, name);
    for (key, value) in values {
        if overrides.put(&key, value).is_err() {
            let pointer = child_pointer("/machines", machine.name.as_str());
            let message = format!("the machine {} has too many variables", machine.name);
            return Err(Failed::Problems(vec![source.diagnostic(
                &pointer,
                message,
                "remove some of its vars",
            )]));
        }
    }
    let resolved = found
        .overridden(&overrides)
        .and_then(|changed| changed.resolved_silently(session, given, Some(name)));
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(error) => {
            // What is wrong without the overrides is wrong in the stack.
            found
                .resolved_silently(session, given, Some(name))
                .map_err(|error| as_problems(error, &in_stack))?;
            let in_environment = |problems: Vec<Diagnostic>| {
                let moved = problems.into_iter().map(|problem| {
                    let pointer = pointer_in_environment(&machine.name, &problem.pointer);
                    source.diagnostic(&pointer, problem.message, problem.hint)
                });
                Failed::Problems(moved.collect())
            };
            return Err(as_problems(error, &in_environment));
        }
    };
    Ok(MemberStack { found, resolved, overrides })
}

fn as_problems(error: Error, place: &dyn Fn(Vec<Diagnostic>) -> Failed) -> Failed {
    match error {
        Error::Stack(StackError::Invalid { problems, .. }) => place(problems),
        error => Failed::Other(error),
    }
}

/// What a VM has because of its place in the environment: the name that a machine without a number has instead of its
/// stack's, so that it isn't a copy whose ports may move, and the variables of other machines that its template uses.
fn own_values(
    machine: &EnvironmentMachine,
    member: &Membership,
    members: Members<'_>,
    found: &Found,
    name: &VmName,
) -> Vec<(String, Value)> {
    let mut values = Vec::new();
    if machine.count.is_none() && member.number.is_none() {
        values.push(("vm.name".to_owned(), json!(name.as_str())));
    }
    let document =
        String::from_utf8_lossy(found.file(goloo_cloudinit::FILE).unwrap_or_default()).into_owned();
    for (variable, field) in used_machine_variables(&document) {
        let is_meant =
            |other: &&(&EnvironmentMachine, Membership)| other.1.short_name().replace('-', "_") == variable;
        let Some((_, other)) = members.iter().find(is_meant) else { continue };
        let value = match field.as_str() {
            "name" => Some(json!(other.short_name())),
            "address" => other.network.map(|network| json!(network.address().to_string())),
            _ => None,
        };
        values.extend(value.map(|value| (format!("cloud_init.vars.machines.{variable}.{field}"), value)));
    }
    values
}
