//! Checks this provider's requirements on the machine without changing anything.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use goloo_command::Limits;
use goloo_images::{Arch, ImageEntry, build};
use goloo_model::check::Check;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::VmName;
use goloo_model::provider::ProviderError;

use crate::accel::{Choice, ProbeCache};
use crate::context::QemuProvider;
use crate::lost_folders::{self, LostFolder};
use crate::private_nic::PrivateNic;
use crate::saved_machine::ANOTHER_VERSION;
use crate::settings::Settings;
use crate::virtiofs::{NoVirtiofsd, Virtiofsd};

/// Checks QEMU, its tools and hardware acceleration.
pub fn doctor(settings: &Settings) -> Vec<Check> {
    let provider = QemuProvider::new(settings.clone());
    let program = match provider.program() {
        Ok(program) => program,
        Err(error) => {
            let hint = match error {
                ProviderError::Unavailable { hint, .. } => hint,
                other => other.to_string().into(),
            };
            return vec![Check::absent("QEMU isn't installed", hint)];
        }
    };
    let memory = ProbeCache::new(settings.memory.clone(), &program);
    let mut checks =
        vec![version(&program.display().to_string()), version("qemu-img"), acceleration(&memory, settings)];
    checks.extend(cfg!(target_os = "linux").then(|| shared_folders(settings)));
    checks.extend(build::host_image().map(builder));
    checks.extend(unusable_memories(&provider));
    checks.extend(networks(&provider));
    checks.extend(folders_lost(settings));
    checks
}

/// Folders are shared without virtiofs too, so this is never an error.
fn shared_folders(settings: &Settings) -> Check {
    match Virtiofsd::find(&settings.virtiofsd) {
        Ok(virtiofsd) => {
            let program = virtiofsd.program().display();
            Check::ok(format!("folders are shared over virtiofs where the VM's kernel has it: {program}"))
        }
        Err(NoVirtiofsd::Off) => Check::ok("folders are shared over 9p: GOLOO_VIRTIOFSD is off"),
        Err(reason) => {
            let hint = match reason {
                NoVirtiofsd::FewFiles(_) => "raise the hard limit of open files to 524288",
                _ => "install virtiofsd 1.13 or later (Debian 13, Fedora: the package virtiofsd)",
            };
            Check::absent(format!("folders are shared over 9p, not over the faster virtiofs: {reason}"), hint)
        }
    }
}

/// virtiofsd was killed: whatever uses the folder in the VM hangs, and only a new boot helps.
fn folders_lost(settings: &Settings) -> Vec<Check> {
    match lost_folders::find(&settings.vms) {
        Ok(lost) => lost.iter().map(lost_folder).collect(),
        // Already reported for the networks.
        Err(_) => Vec::new(),
    }
}

fn lost_folder(lost: &LostFolder) -> Check {
    let LostFolder { machine, source } = lost;
    let what = format!(
        "{machine} can't access {} any more, since its virtiofsd was ended: what uses the folder there hangs",
        source.display()
    );
    let hint = VmName::parse(machine).map(|name| {
        NextStep::stop(&name).text(", which forces power off if it must, then ").step(NextStep::Start(name))
    });
    Check::failed(what, hint.unwrap_or_default())
}

/// A switch that was killed: its machines keep running, and can't reach each other.
fn networks(provider: &QemuProvider) -> Vec<Check> {
    match provider.networks_without_switch() {
        Ok(broken) => broken.iter().map(|(nic, machine)| down(nic, machine)).collect(),
        Err(error) => {
            vec![Check::failed(format!("the machines' folders can't be read: {error}"), Hint::default())]
        }
    }
}

fn down(nic: &PrivateNic, machine: &str) -> Check {
    let what = format!("the private network of {} is down: its switch isn't running", nic.environment);
    let hint = VmName::parse(machine).map(|name| NextStep::Start(name).text(" starts it again"));
    Check::failed(what, hint.unwrap_or_default())
}

/// VMs boot instead, so this is never an error. A stack that was baked again has older images, too.
fn unusable_memories(provider: &QemuProvider) -> Vec<Check> {
    let images = provider.settings.cache.list().unwrap_or_default();
    let problem = |entry: &ImageEntry| {
        let saved = serde_json::from_value(entry.memory.as_ref()?.machine.clone());
        let reason = match saved {
            Ok(saved) => provider.memory_problem(&saved).ok()??,
            Err(_) => ANOTHER_VERSION.to_owned(),
        };
        Some(format!("the memory of {} can't be used: {reason}", entry.name))
    };
    let problems: BTreeSet<String> = images.iter().filter_map(|image| problem(&image.entry)).collect();
    let hint = "bake the stack again with its memory; until then, VMs boot from its disk";
    problems.into_iter().map(|what| Check::notice(what, hint)).collect()
}

/// Machines can be created without it, so a missing tool is never an error.
fn builder(image: &str) -> Check {
    match build::check_tools() {
        Ok(()) => Check::ok(format!("{image} can be built here")),
        Err(error) => Check::absent(format!("{image} can't be built here: {error}"), error.hint()),
    }
}

/// Limits for a program that prints its version.
const VERSION_LIMITS: Limits = Limits { time: Duration::from_secs(10), stdout: 64 << 10, stderr: 4 << 10 };

fn version(program: &str) -> Check {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null());
    let output = match goloo_command::run_blocking(command, VERSION_LIMITS) {
        Ok(output) => output,
        Err(error) => {
            return Check::failed(
                format!("{program} can't be run: {error}"),
                error.shortage_hint().unwrap_or("Debian, Ubuntu: sudo apt-get install qemu-utils"),
            );
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = text.lines().next().unwrap_or_default();
    let what = format!("{program}: {first}");
    if output.status.success() { Check::ok(what) } else { Check::failed(what, Hint::default()) }
}

/// Machines work without acceleration, so this is never an error.
fn acceleration(memory: &ProbeCache, settings: &Settings) -> Check {
    match memory.choose(settings.accel, (settings.offered)(Arch::host())) {
        Choice::Settled(accel) => Check::ok(format!("machines use {accel}")),
        Choice::Unproved(accel) => {
            Check::ok(format!("{accel} is available but untested; the first start will test it"))
        }
        Choice::Without { reason } => Check::notice(
            format!("no hardware acceleration, so machines are ten to thirty times slower: {reason}"),
            match (settings.offered)(Arch::host()) {
                Ok(_) => "set GOLOO_QEMU_ACCEL=kvm to try it anyway",
                Err(_) => "turn on virtualization in the firmware, or nested virtualization in the host",
            },
        ),
    }
}
