//! Which instance type a VM gets.

use std::fmt;

use goloo_core::provider::ProviderError;
use goloo_core::spec::{ResolvedStack, Size};

/// What an instance's processor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// Intel and AMD.
    X86_64,
    /// Graviton.
    Arm64,
}

impl Arch {
    /// Of an instance type, by its name: `g` among the letters behind the generation's number stands for
    /// Graviton, and the first ones were called `a1`.
    /// <https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html>
    pub fn of(instance_type: &str) -> Self {
        let family = instance_type.split('.').next().unwrap_or_default();
        let behind_letters = family.trim_start_matches(|c: char| !c.is_ascii_digit());
        let attributes = behind_letters.trim_start_matches(|c: char| c.is_ascii_digit());
        if family == "a1" || attributes.contains('g') { Self::Arm64 } else { Self::X86_64 }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        })
    }
}

struct InstanceType {
    name: &'static str,
    cpus: u32,
    memory: Size,
}

const fn burstable(name: &'static str, cpus: u32, memory_mib: u64) -> InstanceType {
    InstanceType { name, cpus, memory: Size::bytes(memory_mib << 20) }
}

/// The burstable types that run what local machines run, smallest first: vCPUs and MiB as
/// <https://aws.amazon.com/ec2/instance-types/t3/> had them in November 2026.
const BURSTABLE: &[InstanceType] = &[
    burstable("t3.nano", 2, 512),
    burstable("t3.micro", 2, 1 << 10),
    burstable("t3.small", 2, 2 << 10),
    burstable("t3.medium", 2, 4 << 10),
    burstable("t3.large", 2, 8 << 10),
    burstable("t3.xlarge", 4, 16 << 10),
    burstable("t3.2xlarge", 8, 32 << 10),
];

/// Whether a type is a burstable one, which takes a mode for its CPU credits: `t3.micro`, not `trn1.2xlarge`.
pub fn is_burstable(instance_type: &str) -> bool {
    instance_type.strip_prefix('t').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// What `vm.instance_type` says, else the smallest burstable type with at least the CPUs and the memory
/// of the stack.
pub fn choose(stack: &ResolvedStack) -> Result<String, ProviderError> {
    if let Some(given) = &stack.instance_type {
        return Ok(given.clone());
    }
    let fits = |kind: &&InstanceType| kind.cpus >= stack.cpus && kind.memory >= stack.memory;
    let smallest = BURSTABLE.iter().find(fits).map(|kind| kind.name.to_owned());
    smallest.ok_or_else(|| ProviderError::Unsupported {
        what: format!("no burstable instance type has {} CPUs and {} of memory", stack.cpus, stack.memory),
        hint: "give one yourself: \"instance_type\": \"m7i.4xlarge\", say".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_core::spec::ImageRef;

    use super::*;

    fn chosen(cpus: u32, memory: &str) -> Result<String, String> {
        let machine =
            goloo_testkit::provider_suite::machine("web", ImageRef::Alias("ubuntu-24.04".into()), b"");
        let megabytes: u64 = memory.parse().unwrap();
        let stack = ResolvedStack { cpus, memory: Size::bytes(megabytes << 20), ..machine.stack };
        choose(&stack).map_err(|error| error.to_string())
    }

    #[test]
    fn the_smallest_type_with_enough_of_both_is_taken() {
        for (cpus, memory, wanted) in [
            (1, "512", "t3.nano"),
            (2, "513", "t3.micro"),
            (2, "2048", "t3.small"),
            (2, "2049", "t3.medium"),
            (3, "512", "t3.xlarge"),
            (8, "32768", "t3.2xlarge"),
        ] {
            assert_eq!(chosen(cpus, memory).unwrap(), wanted, "{cpus} CPUs, {memory}M");
        }
    }

    #[test]
    fn what_no_burstable_type_has_must_be_named() {
        assert_eq!(
            chosen(16, "65536").unwrap_err(),
            "no burstable instance type has 16 CPUs and 64G of memory"
        );
        chosen(8, "32769").unwrap_err();
    }

    #[test]
    fn burstable_types_are_told_by_their_name() {
        for kind in BURSTABLE.iter().map(|kind| kind.name).chain(["t2.micro", "t3a.nano", "t4g.small"]) {
            assert!(is_burstable(kind), "{kind}");
        }
        for kind in ["m7i.large", "trn1.2xlarge", "c7g.large", ""] {
            assert!(!is_burstable(kind), "{kind}");
        }
    }

    #[test]
    fn the_name_of_a_type_tells_its_architecture() {
        for arm in [
            "t4g.small",
            "a1.large",
            "m7g.large",
            "c7gn.xlarge",
            "im4gn.large",
            "is4gen.large",
            "g5g.xlarge",
            "hpc7g.4xlarge",
            "x2gd.large",
        ] {
            assert_eq!(Arch::of(arm), Arch::Arm64, "{arm}");
        }
        for x86 in [
            "t3.micro",
            "g4dn.xlarge",
            "g6.xlarge",
            "gr6.4xlarge",
            "m7i-flex.large",
            "u-6tb1.metal",
            "c6a.large",
            "p4de.24xlarge",
            "inf2.xlarge",
        ] {
            assert_eq!(Arch::of(x86), Arch::X86_64, "{x86}");
        }
    }
}
