//! Which AMI a VM starts from, and how AWS's public parameters call it.

use goloo_core::provider::ProviderError;
use goloo_core::spec::{ImageRef, ResolvedStack, images};

use crate::instance_types::Arch;

/// The image of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ami {
    /// The newest of a system, which CloudFormation looks up.
    Newest {
        /// The system, by its name in core's table.
        os: &'static str,
        /// The public SSM parameter that holds its id.
        parameter: String,
        /// What its root volume is called.
        root_device: &'static str,
    },
    /// One that the stack names.
    Given(String),
}

impl Ami {
    /// What the template's parameter `ImageId` gets.
    pub fn parameter_value(&self) -> &str {
        match self {
            Self::Newest { parameter, .. } => parameter,
            Self::Given(id) => id,
        }
    }
}

/// How Debian's and Amazon's images call their root volume.
const XVDA: &str = "/dev/xvda";
const SDA1: &str = "/dev/sda1";

/// The image of a stack, for this architecture.
pub fn choose(stack: &ResolvedStack, arch: Arch) -> Result<Ami, ProviderError> {
    if stack.os.starts_with("ami-") {
        return Ok(Ami::Given(stack.os.clone()));
    }
    let os = images::find(&stack.os).map(|image| image.name).ok_or_else(|| no_system(stack))?;
    let (parameter, root_device) = public(os, arch).ok_or_else(|| no_system(stack))?;
    Ok(Ami::Newest { os, parameter, root_device })
}

/// The public parameter of a system and its root device. The publishers' pages:
/// <https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/>,
/// <https://wiki.debian.org/Cloud/AmazonEC2Image>,
/// <https://docs.aws.amazon.com/linux/al2023/ug/ec2.html>.
fn public(os: &str, arch: Arch) -> Option<(String, &'static str)> {
    let debian_word = match arch {
        Arch::X86_64 => "amd64",
        Arch::Arm64 => "arm64",
    };
    if let Some(release) = os.strip_prefix("ubuntu-") {
        // From 24.04 on the images' volumes are gp3.
        let volume = if release == "22.04" { "ebs-gp2" } else { "ebs-gp3" };
        let path = format!(
            "/aws/service/canonical/ubuntu/server/{release}/stable/current/{debian_word}/hvm/{volume}/ami-id"
        );
        return Some((path, SDA1));
    }
    if let Some(release) = os.strip_prefix("debian-") {
        return Some((format!("/aws/service/debian/release/{release}/latest/{debian_word}"), XVDA));
    }
    (os == "amazon-linux-2023")
        .then(|| (format!("/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{arch}"), XVDA))
}

fn no_system(stack: &ResolvedStack) -> ProviderError {
    let what = match &stack.image {
        ImageRef::Alias(_) => format!("there is no public AMI of {}", stack.os),
        ImageRef::Path(_) | ImageRef::Url(_) => {
            format!("the image {} can't be used in AWS", stack.image_text)
        }
    };
    ProviderError::Unsupported {
        what,
        hint: "say in vm.os which system AWS is to take: \"os\": \"ubuntu-24.04\", or an \"ami-…\""
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_testkit::provider_suite::machine;

    use super::*;

    #[test]
    fn every_named_image_has_a_public_ami_for_both_architectures() {
        for image in images::IMAGES {
            for arch in [Arch::X86_64, Arch::Arm64] {
                let (path, root) = public(image.name, arch).unwrap();
                assert!(path.starts_with("/aws/service/") && root.starts_with("/dev/"), "{}", image.name);
            }
        }
    }

    #[test]
    fn a_path_names_release_and_architecture() {
        insta::assert_snapshot!(
            [
                public("ubuntu-24.04", Arch::X86_64),
                public("ubuntu-22.04", Arch::Arm64),
                public("debian-12", Arch::Arm64),
                public("amazon-linux-2023", Arch::X86_64),
            ]
            .into_iter()
            .map(|found| { let (path, root) = found.unwrap(); format!("{path} {root}") })
            .collect::<Vec<_>>()
            .join("\n"),
            @r"
        /aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id /dev/sda1
        /aws/service/canonical/ubuntu/server/22.04/stable/current/arm64/hvm/ebs-gp2/ami-id /dev/sda1
        /aws/service/debian/release/12/latest/arm64 /dev/xvda
        /aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64 /dev/xvda
        "
        );
    }

    #[test]
    fn an_image_of_ones_own_needs_a_word_on_the_system() {
        let mut machine = machine("web", ImageRef::Path("/images/own.qcow2".into()), b"");
        let error = choose(&machine.stack, Arch::X86_64).unwrap_err();
        assert!(
            matches!(&error, ProviderError::Unsupported { hint, .. } if hint.contains("vm.os")),
            "{error:?}"
        );
        machine.stack.os = "ami-0abc0abc".to_owned();
        assert_eq!(choose(&machine.stack, Arch::X86_64).unwrap(), Ami::Given("ami-0abc0abc".to_owned()));
    }
}
