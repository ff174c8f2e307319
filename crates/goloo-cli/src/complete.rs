//! Shell completion: VM names come from the store, stacks from where `create` finds them.
//!
//! A completion can't report an error; it offers nothing in that case.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};
use goloo::Session;
use goloo::operation::RunOptions;
use goloo_engine::Interrupt;
use goloo_model::events::NoEvents;
use goloo_model::name::VmName;
use goloo_model::provider::DiskSnapshot;
use goloo_model::query::Order;
use goloo_model::record::Membership;

use goloo_store::Options;

use goloo::backend::Backend;
use goloo::paths::{self, Paths};
use goloo::registry::{self, Registry};
use goloo::{settings::Settings, stack};

use crate::completion_words::Words;

/// How long the question for a VM's snapshots may take.
const LABELS_LIMIT: Duration = Duration::from_secs(1);

/// The names of all active VMs, and of environments and their machines.
pub fn vm_names() -> Vec<CompletionCandidate> {
    offered(|settings, paths| {
        let mut names = names_in(&settings.backend(&paths.home).ok()?, &paths)?;
        names.extend(members(&settings, &paths).iter().flat_map(|member| {
            let environment = &member.environment;
            let of_machine = |machine: &str| format!("{environment}/{machine}");
            [environment.to_string(), of_machine(member.machine.as_str()), of_machine(&member.short_name())]
        }));
        Some(names.into_iter().collect::<BTreeSet<_>>())
    })
}

/// The names of environments that have VMs.
pub fn environments() -> Vec<CompletionCandidate> {
    offered(|settings, paths| {
        let members = members(&settings, &paths).into_iter();
        Some(members.map(|member| member.environment.to_string()).collect::<BTreeSet<_>>())
    })
}

/// The machines in the goloo.json of this folder.
pub fn machines() -> Vec<CompletionCandidate> {
    let read = || {
        let session = Session::open(Arc::new(NoEvents), crate::providers::all().clone()).ok()?;
        let environment = session.read_environment(None).ok()?.environment;
        let names =
            environment.members().flat_map(|(_, member)| [member.machine.to_string(), member.short_name()]);
        Some(names.collect::<BTreeSet<_>>())
    };
    read().into_iter().flatten().map(CompletionCandidate::new).collect()
}

/// The memberships of all VMs in environments, where they are stored on this computer.
fn members(settings: &Settings, paths: &Paths) -> Vec<Membership> {
    let list = || {
        let backend = local_backend(settings, paths)?;
        let seal = settings.seal(&paths.home).ok()?;
        let store = backend.open(paths, Options { seal, ..Options::default() }).ok()?;
        Some(pollster::block_on(store.list()).ok()?.entries)
    };
    let vms = list().unwrap_or_default().into_iter();
    vms.filter_map(|vm| vm.membership).map(|member| *member).collect()
}

/// The names of all active VMs, where they are stored on this computer.
pub fn local_vm_names() -> Vec<String> {
    found(|settings, paths| names_in(&local_backend(&settings, &paths)?, &paths))
}

/// The backend, unless it is a service: that takes time, and may cost something.
fn local_backend(settings: &Settings, paths: &Paths) -> Option<Backend> {
    settings.backend(&paths.home).ok().filter(|backend| !backend.files(paths).is_empty())
}

/// Names aren't encrypted: no key is needed.
fn names_in(backend: &Backend, paths: &Paths) -> Option<Vec<String>> {
    let store = backend.open(paths, Options::default()).ok()?;
    pollster::block_on(store.names()).ok()
}

/// The ids in the archive, newest first, where they are stored on this computer: a bucket would have to be read whole.
pub fn archive_ids() -> Vec<CompletionCandidate> {
    offered(|settings, paths| {
        let backend = local_backend(&settings, &paths)?;
        let seal = settings.seal(&paths.home).ok()?;
        let store = backend.open(&paths, Options { seal, ..Options::default() }).ok()?;
        let archive = pollster::block_on(store.archive_list()).ok()?;
        Some(archive.entries.into_iter().map(|archived| archived.id.to_string()).collect::<Vec<_>>())
    })
}

/// The keys of settings.json.
pub fn settings_keys() -> Vec<CompletionCandidate> {
    goloo::settings::KEYS.into_iter().map(CompletionCandidate::new).collect()
}

/// The providers of this build.
pub fn providers() -> Vec<CompletionCandidate> {
    crate::providers::all().ids().into_iter().map(|id| CompletionCandidate::new(id.as_str())).collect()
}

/// What `list` sorts by.
pub fn sort_keys() -> Vec<CompletionCandidate> {
    Order::names().map(CompletionCandidate::new).collect()
}

/// The names of published images.
pub fn images() -> Vec<CompletionCandidate> {
    goloo_images::alias::names().map(CompletionCandidate::new).collect()
}

/// The images that can be built from packages.
pub fn buildable_images() -> Vec<CompletionCandidate> {
    goloo_images::alias::names()
        .filter(|name| name.starts_with("debian-"))
        .map(CompletionCandidate::new)
        .collect()
}

/// The commands.
pub fn commands() -> Vec<CompletionCandidate> {
    crate::help::commands().map(CompletionCandidate::new).collect()
}

/// One side of a copy: a path on this computer, or a VM, which is followed by a colon.
pub fn copy_paths(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = PathCompleter::any().complete(current);
    let vms = vm_names().into_iter().map(|vm| format!("{}:", vm.get_value().to_string_lossy()));
    let start = current.to_string_lossy();
    found.extend(vms.filter(|vm| vm.starts_with(&*start)).map(CompletionCandidate::new));
    found
}

/// The labels of the snapshots of the VM that the command line names before.
pub fn snapshot_labels() -> Vec<CompletionCandidate> {
    let argv: Vec<_> = std::env::args_os().collect();
    let words = Words::of(&argv).map_or_else(Vec::new, |words| words.all);
    // After the program and the command.
    let Some(vm) = words.iter().skip(2).find_map(|word| VmName::parse(word.to_str()?).ok()) else {
        return Vec::new();
    };
    let (send, receive) = std::sync::mpsc::channel();
    // It waits while another process works on the VM: the thread ends with this process.
    std::thread::spawn(move || send.send(labels_of(&vm)));
    let labels = receive.recv_timeout(LABELS_LIMIT).ok().flatten();
    labels.into_iter().flatten().map(|snapshot| CompletionCandidate::new(snapshot.label)).collect()
}

fn labels_of(vm: &VmName) -> Option<Vec<DiskSnapshot>> {
    let session = Session::open(Arc::new(NoEvents), crate::providers::all().clone()).ok()?;
    session.snapshots(vm, &RunOptions::new(LABELS_LIMIT, &Interrupt::default())).ok()
}

/// The stacks that `create` finds by name, including those in the registry.
pub fn stacks() -> Vec<CompletionCandidate> {
    offered(|_, paths| Some(registry::stack_names(&paths)))
}

/// The stacks of the library.
pub fn library_stacks() -> Vec<CompletionCandidate> {
    offered(|_, paths| Some(stack::in_library(&paths.config)))
}

/// The stacks in the registry.
pub fn remembered_stacks() -> Vec<CompletionCandidate> {
    offered(|_, paths| Some(Registry::new(&paths.state).names()))
}

fn offered<T: IntoIterator<Item = String>>(
    look: impl FnOnce(Settings, Paths) -> Option<T>,
) -> Vec<CompletionCandidate> {
    // The shell inserts the word unquoted: names that need quotes aren't offered.
    let plain = |name: &String| shlex::try_quote(name).is_ok_and(|quoted| quoted == *name);
    found(look).into_iter().filter(plain).map(CompletionCandidate::new).collect()
}

/// What is found with the user's settings; nothing where they can't be used.
fn found<T: IntoIterator<Item = String>>(look: impl FnOnce(Settings, Paths) -> Option<T>) -> Vec<String> {
    let names = || {
        let home = paths::home().ok()?;
        let config = Paths::config_dir(&home);
        Paths::check_config(&config).ok()?;
        let settings = Settings::read(&config).ok()?;
        let state = settings.state_dir(&home);
        let paths = Paths::resolve(home, state);
        paths.check_private().ok()?;
        look(settings, paths)
    };
    names().into_iter().flatten().collect()
}
