//! What of this computer stands against a stack: folders and files that it names, memory, processors, line ends.
//! Nothing here writes.

use std::path::Path;

use goloo_core::cloud_init;
use goloo_core::record::ProviderKind;
use goloo_core::spec::{KeySource, Problem, ResolvedStack, Size, problem_at_pointer};

use crate::stack::Found;

/// What there is to say.
#[derive(Debug, Default)]
pub struct Findings {
    /// What `create` would fail at.
    pub problems: Vec<Problem>,
    /// What may go wrong.
    pub warnings: Vec<Problem>,
}

/// Checks a stack that this provider would make.
pub fn findings(found: &Found, stack: &ResolvedStack, provider: ProviderKind) -> Findings {
    let config = found.file("config.json").unwrap_or_default();
    let at = |pointer: &str, message: String, hint: &str| problem_at_pointer(config, pointer, message, hint);
    let mut findings = Findings { problems: key_files(stack, &at), warnings: line_ends(stack) };
    if provider.is_local() {
        findings.problems.extend(mounts(stack, &at));
        findings.warnings.extend(size(stack, &at));
    }
    findings
}

/// Warnings for keys that promise something which this provider's machine doesn't have.
pub fn ignored_keys(found: &Found, stack: &ResolvedStack, provider: ProviderKind) -> Vec<Problem> {
    let config = found.file("config.json").unwrap_or_default();
    let keys = [("iam_instance_profile", stack.iam_instance_profile.is_some()), ("spot", stack.spot)];
    let ignored = keys.into_iter().filter(|(_, is_given)| *is_given && provider.is_local());
    let warning = |(key, _)| {
        let message = format!("vm.{key} is for AWS, and {provider} ignores it");
        let hint = "create the VM with --aws, or remove the key";
        problem_at_pointer(config, &format!("/vm/{key}"), message, hint)
    };
    ignored.map(warning).collect()
}

type At<'a> = &'a dyn Fn(&str, String, &str) -> Problem;

fn mounts(stack: &ResolvedStack, at: At<'_>) -> Vec<Problem> {
    let sources = stack.mounts.iter().enumerate().filter(|(_, mount)| !mount.source.is_dir());
    let problem = |(index, mount): (usize, &goloo_core::spec::Mount)| {
        let source = mount.source.display();
        let what = if mount.source.exists() { "isn't a folder" } else { "doesn't exist" };
        let hint = "make the folder, or change the mount's source";
        at(&format!("/vm/mounts/{index}/source"), format!("the mount's source {source} {what}"), hint)
    };
    sources.map(problem).collect()
}

fn key_files(stack: &ResolvedStack, at: At<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (user, entry) in stack.users.iter().enumerate() {
        let files = entry
            .keys
            .iter()
            .filter_map(|key| if let KeySource::File(path) = key { Some(path) } else { None });
        for (index, path) in files.enumerate().filter(|(_, path)| !path.is_file()) {
            let what = if path.exists() { "is a folder" } else { "doesn't exist" };
            let pointer = format!("/vm/users/{user}/ssh_key_files/{index}");
            let message = format!("the key file {} {what}", path.display());
            problems.push(at(&pointer, message, "name a file with public keys, as ~/.ssh/id_ed25519.pub"));
        }
    }
    problems
}

/// More than this computer has.
fn size(stack: &ResolvedStack, at: At<'_>) -> Vec<Problem> {
    let mut warnings = Vec::new();
    if let Some(memory) = memory().filter(|memory| stack.memory > *memory) {
        let has = Size::bytes(memory.as_bytes() >> 20 << 20);
        let message = format!("the VM is to have {} of memory, and this computer has {has}", stack.memory);
        warnings.push(at("/vm/memory", message, "write less in vm.memory, or use --aws"));
    }
    let cpus = std::thread::available_parallelism()
        .map_or(u32::MAX, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
    if stack.cpus > cpus {
        let message = format!("the VM is to have {} CPUs, and this computer has {cpus}", stack.cpus);
        warnings.push(at("/vm/cpus", message, "write less in vm.cpus: more than there are make it slower"));
    }
    warnings
}

/// This computer's memory; `None` where it doesn't say.
fn memory() -> Option<Size> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Size::bytes(kib << 10))
}

/// Scripts with the line ends of Windows.
fn line_ends(stack: &ResolvedStack) -> Vec<Problem> {
    let configure = stack.configure.as_deref().map(|text| ("configure.sh", text));
    let document = stack.cloud_init.as_deref().filter(|text| text.starts_with(b"#!"));
    let scripts = configure.into_iter().chain(document.map(|text| (cloud_init::FILE, text)));
    let with_crlf = scripts.filter_map(|(file, text)| {
        let at = text.windows(2).position(|bytes| bytes == b"\r\n")?;
        let line = text[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        Some(Problem {
            file: file.to_owned(),
            pointer: String::new(),
            line,
            column: 1,
            message: "the script has the line ends of Windows (CRLF), at which shells fail".to_owned(),
            hint: format!("sed -i 's/\\r$//' {file}"),
        })
    });
    with_crlf.collect()
}

/// Files of a stack that are folders: they can't be read.
pub fn folders_in_place_of_files(folder: &Path) -> Vec<Problem> {
    let files = goloo_core::store::SNAPSHOT_FILES.into_iter().filter(|file| folder.join(file).is_dir());
    let problem = |file: &'static str| Problem {
        file: file.to_owned(),
        pointer: String::new(),
        line: 1,
        column: 1,
        message: format!("{file} is a folder"),
        hint: format!("put the file {file} in its place, or give the folder another name"),
    };
    files.map(problem).collect()
}
