//! Chooses a VM's instance type.

use std::fmt;

use goloo_model::provider::ProviderError;
use goloo_model::spec::{ResolvedStack, Size};

/// The architecture of an instance's processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceArch {
    /// Intel and AMD.
    X86_64,
    /// Graviton.
    Arm64,
}

impl InstanceArch {
    /// The architecture of an instance type, from its name: `g` among the letters after the generation's number stands
    /// for Graviton, and the first Graviton types were called `a1`.
    /// <https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html>
    pub fn of(instance_type: &str) -> Self {
        let family = instance_type.split('.').next().unwrap_or_default();
        let behind_letters = family.trim_start_matches(|c: char| !c.is_ascii_digit());
        let attributes = behind_letters.trim_start_matches(|c: char| c.is_ascii_digit());
        if family == "a1" || attributes.contains('g') { Self::Arm64 } else { Self::X86_64 }
    }
}

impl fmt::Display for InstanceArch {
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

/// The burstable types with the architecture of local machines, smallest first: vCPUs and MiB according to
/// <https://aws.amazon.com/ec2/instance-types/t3/> in November 2026.
const BURSTABLE: &[InstanceType] = &[
    burstable("t3.nano", 2, 512),
    burstable("t3.micro", 2, 1 << 10),
    burstable("t3.small", 2, 2 << 10),
    burstable("t3.medium", 2, 4 << 10),
    burstable("t3.large", 2, 8 << 10),
    burstable("t3.xlarge", 4, 16 << 10),
    burstable("t3.2xlarge", 8, 32 << 10),
];

/// Whether a type is burstable and thus has a CPU credit mode: `t3.micro`, not `trn1.2xlarge`.
pub fn is_burstable(instance_type: &str) -> bool {
    instance_type.strip_prefix('t').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The type in `vm.instance_type`, otherwise the smallest burstable type with at least the stack's CPUs and memory.
pub fn choose(stack: &ResolvedStack) -> Result<String, ProviderError> {
    choose_for(stack.instance_type.as_deref(), stack.cpus, stack.memory)
}

/// The given type, otherwise the smallest burstable type with at least these CPUs and this memory.
pub(crate) fn choose_for(given: Option<&str>, cpus: u32, memory: Size) -> Result<String, ProviderError> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let fits = |kind: &&InstanceType| kind.cpus >= cpus && kind.memory >= memory;
    let smallest = BURSTABLE.iter().find(fits).map(|kind| kind.name.to_owned());
    smallest.ok_or_else(|| ProviderError::Unsupported {
        what: format!("no burstable instance type has {cpus} CPUs and {memory} of memory"),
        hint: "set one, for example \"instance_type\": \"m7i.4xlarge\"".into(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::spec::ImageRef;

    use super::*;

    fn chosen(cpus: u32, memory: &str) -> Result<String, String> {
        let machine =
            goloo_testkit::provider_suite::machine("web", ImageRef::Alias("ubuntu-24.04".into()), b"");
        let megabytes: u64 = memory.parse().unwrap();
        let stack = ResolvedStack { cpus, memory: Size::bytes(megabytes << 20), ..machine.stack };
        choose(&stack).map_err(|error| error.to_string())
    }

    #[test]
    fn the_smallest_type_with_enough_cpus_and_memory_is_chosen() {
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
    fn a_size_that_no_burstable_type_offers_is_an_error() {
        assert_eq!(
            chosen(16, "65536").unwrap_err(),
            "no burstable instance type has 16 CPUs and 64G of memory"
        );
        chosen(8, "32769").unwrap_err();
    }

    #[test]
    fn burstable_types_are_recognized_by_name() {
        for kind in BURSTABLE.iter().map(|kind| kind.name).chain(["t2.micro", "t3a.nano", "t4g.small"]) {
            assert!(is_burstable(kind), "{kind}");
        }
        for kind in ["m7i.large", "trn1.2xlarge", "c7g.large", ""] {
            assert!(!is_burstable(kind), "{kind}");
        }
    }

    #[test]
    fn the_architecture_is_derived_from_the_type_name() {
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
            assert_eq!(InstanceArch::of(arm), InstanceArch::Arm64, "{arm}");
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
            assert_eq!(InstanceArch::of(x86), InstanceArch::X86_64, "{x86}");
        }
    }
}
