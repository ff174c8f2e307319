//! What this provider needs of the machine, looked at without changing anything.

use std::process::{Command, Stdio};
use std::time::Duration;

use goloo_command::Limits;
use goloo_core::finding::Finding;

use crate::accel::{Choice, Memory};
use crate::arch::Arch;
use crate::image::build;
use crate::provider::QemuProvider;
use crate::settings::Settings;

/// Looks at QEMU, its tools and hardware acceleration.
pub fn doctor(settings: &Settings) -> Vec<Finding> {
    let provider = QemuProvider::new(settings.clone());
    let program = match provider.program() {
        Ok(program) => program,
        Err(error) => {
            let hint = match error {
                goloo_core::provider::ProviderError::Unavailable { hint, .. } => hint,
                other => other.to_string(),
            };
            return vec![Finding::wrong("QEMU isn't installed", hint)];
        }
    };
    let memory = Memory::new(settings.memory.clone(), &program);
    let mut findings =
        vec![version(&program.display().to_string()), version("qemu-img"), acceleration(&memory, settings)];
    findings.extend(build::host_image().map(builder));
    findings
}

/// Machines are made without it, so what it lacks is never an error.
fn builder(image: &str) -> Finding {
    let (what, hint) = match build::check_tools() {
        Ok(()) => (format!("{image} can be built here"), String::new()),
        Err(error) => (format!("goloo image build {image} can't run: {error}"), error.hint()),
    };
    Finding { ok: true, what, hint }
}

/// What a program may say of its version.
const VERSION_LIMITS: Limits = Limits { time: Duration::from_secs(10), stdout: 64 << 10, stderr: 4 << 10 };

fn version(program: &str) -> Finding {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null());
    let output = match goloo_command::run_blocking(command, VERSION_LIMITS) {
        Ok(output) => output,
        Err(error) => {
            return Finding::wrong(
                format!("{program} can't be run: {error}"),
                error.shortage_hint().unwrap_or("Debian, Ubuntu: sudo apt-get install qemu-utils"),
            );
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = text.lines().next().unwrap_or_default();
    Finding { ok: output.status.success(), what: format!("{program}: {first}"), hint: String::new() }
}

/// Machines work without it, so this is never an error.
fn acceleration(memory: &Memory, settings: &Settings) -> Finding {
    let sound = |what: String, hint: &str| Finding { ok: true, what, hint: hint.to_owned() };
    match memory.choose(settings.accel, (settings.offered)(Arch::host())) {
        Choice::Settled(accel) => sound(format!("machines run with {accel}"), ""),
        Choice::Unproved(accel) => {
            sound(format!("{accel} is there; the first machine will show whether it works"), "")
        }
        Choice::Without { reason } => sound(
            format!("machines run without hardware acceleration, ten to thirty times slower: {reason}"),
            match (settings.offered)(Arch::host()) {
                Ok(_) => "GOLOO_QEMU_ACCEL=kvm tries it all the same",
                Err(_) => "turn on virtualization in the firmware, or nested virtualization in the host",
            },
        ),
    }
}
