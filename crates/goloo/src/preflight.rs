//! Checks a stack against this computer: the folders and files that it names, memory, processors, line ends.
//! Writes nothing.

use goloo_model::provider_info::ProviderInfo;
use goloo_model::spec::{Diagnostic, KeySource, ResolvedStack, Size, diagnostic_at_pointer};

use crate::stack::Found;

/// The result of the checks.
#[derive(Debug, Default)]
pub struct Findings {
    /// Problems that would make `create` fail.
    pub problems: Vec<Diagnostic>,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
}

/// Checks a stack for this provider.
pub fn findings(found: &Found, stack: &ResolvedStack, provider: &ProviderInfo) -> Findings {
    let config = found.file("config.json").unwrap_or_default();
    let at =
        |pointer: &str, message: String, hint: &str| diagnostic_at_pointer(config, pointer, message, hint);
    let mut findings = Findings { problems: key_files(stack, &at), warnings: line_ends(stack) };
    if provider.is_host_bound() {
        findings.problems.extend(mounts(stack, &at));
        findings.warnings.extend(size(stack, &at));
    }
    findings
}

/// Warnings for keys that this provider ignores.
pub fn ignored_keys(found: &Found, stack: &ResolvedStack, provider: &ProviderInfo) -> Vec<Diagnostic> {
    let config = found.file("config.json").unwrap_or_default();
    let keys = [("iam_instance_profile", stack.iam_instance_profile.is_some()), ("spot", stack.spot)];
    let ignored = keys.into_iter().filter(|(_, is_given)| *is_given && provider.is_host_bound());
    let warning = |(key, _)| {
        let message = format!("vm.{key} only applies to AWS, and {} ignores it", provider.id);
        let hint = "create the VM with --aws, or remove the key";
        diagnostic_at_pointer(config, &format!("/vm/{key}"), message, hint)
    };
    ignored.map(warning).collect()
}

type At<'a> = &'a dyn Fn(&str, String, &str) -> Diagnostic;

fn mounts(stack: &ResolvedStack, at: At<'_>) -> Vec<Diagnostic> {
    let sources = stack.mounts.iter().enumerate().filter(|(_, mount)| !mount.source.is_dir());
    let problem = |(index, mount): (usize, &goloo_model::spec::Mount)| {
        let source = mount.source.display();
        let what = if mount.source.exists() { "isn't a folder" } else { "doesn't exist" };
        let hint = "create the folder, or change the mount's source";
        at(&format!("/vm/mounts/{index}/source"), format!("the mount's source {source} {what}"), hint)
    };
    sources.map(problem).collect()
}

fn key_files(stack: &ResolvedStack, at: At<'_>) -> Vec<Diagnostic> {
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
            problems.push(at(
                &pointer,
                message,
                "name a file with public keys, such as ~/.ssh/id_ed25519.pub",
            ));
        }
    }
    problems
}

/// Warnings for more memory or CPUs than this computer has.
fn size(stack: &ResolvedStack, at: At<'_>) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    if let Some(memory) = memory().filter(|memory| stack.memory > *memory) {
        let has = Size::bytes(memory.as_bytes() >> 20 << 20);
        let message = format!("the stack asks for {} of memory, but this computer has {has}", stack.memory);
        warnings.push(at("/vm/memory", message, "reduce vm.memory, or use --aws"));
    }
    let cpus = std::thread::available_parallelism()
        .map_or(u32::MAX, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
    if stack.cpus > cpus {
        let message = format!("the stack asks for {} CPUs, but this computer has {cpus}", stack.cpus);
        warnings.push(at(
            "/vm/cpus",
            message,
            "reduce vm.cpus: more CPUs than the computer has make the VM slower",
        ));
    }
    warnings
}

/// This computer's memory; `None` when it is unknown.
fn memory() -> Option<Size> {
    meminfo("MemTotal:")
}

/// The memory that new programs can use; `None` when it is unknown.
pub(crate) fn available_memory() -> Option<Size> {
    meminfo("MemAvailable:")
}

fn meminfo(key: &str) -> Option<Size> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Size::bytes(kib << 10))
}

/// Scripts with CRLF line ends.
fn line_ends(stack: &ResolvedStack) -> Vec<Diagnostic> {
    let configure = stack.configure.as_deref().map(|text| ("configure.sh", text));
    let document = stack.cloud_init.as_deref().filter(|text| text.starts_with(b"#!"));
    let scripts = configure.into_iter().chain(document.map(|text| (goloo_cloudinit::FILE, text)));
    let with_crlf = scripts.filter_map(|(file, text)| {
        let at = text.windows(2).position(|bytes| bytes == b"\r\n")?;
        let line = text[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        Some(Diagnostic {
            file: file.to_owned(),
            pointer: String::new(),
            line,
            column: 1,
            message: "the script has Windows line endings (CRLF), which make shells fail".to_owned(),
            hint: format!("sed -i 's/\\r$//' {file}").into(),
        })
    });
    with_crlf.collect()
}
