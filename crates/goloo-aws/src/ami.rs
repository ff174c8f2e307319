//! Which AMI a VM starts from, and how AWS's public parameters call it.

use goloo_model::provider::ProviderError;
use goloo_model::spec::{ImageRef, ResolvedStack, Size, images};

use crate::instance_types::InstanceArch;

/// The image of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ami {
    /// The newest image of a system, looked up by CloudFormation.
    Newest {
        /// The system's name in core's table.
        os: &'static str,
        /// The public SSM parameter that contains the AMI's id.
        parameter: String,
        /// The device name of its root volume.
        root_device: &'static str,
    },
    /// The newest image that a publisher without such a parameter has made public.
    Published {
        /// The system's name in core's table.
        os: &'static str,
        /// The publisher's AWS account.
        owner: &'static str,
        /// The images' names, with `*` in place of the build.
        name: String,
    },
    /// The AMI the stack specifies.
    Given(String),
    /// The baked image of the stack.
    Baked,
}

impl Ami {
    /// The value of the template's parameter `ImageId`.
    pub fn parameter_value(&self) -> &str {
        match self {
            Self::Newest { parameter, .. } => parameter,
            // Only in a plan: a create looks up the image's id first.
            Self::Published { name, .. } => name,
            Self::Given(id) => id,
            // As for a published one.
            Self::Baked => "(the baked image)",
        }
    }
}

/// The root volume's device name in Debian's and Amazon's images.
pub(crate) const XVDA: &str = "/dev/xvda";
const SDA1: &str = "/dev/sda1";

/// Chooses the image of a stack for this architecture.
pub fn choose(stack: &ResolvedStack, arch: InstanceArch) -> Result<Ami, ProviderError> {
    if stack.os.starts_with("ami-") {
        return Ok(Ami::Given(stack.os.clone()));
    }
    let image = images::find(&stack.os).filter(|image| image.aws_user.is_some());
    let os = image.map(|image| image.name).ok_or_else(|| no_system(stack))?;
    if let Some((owner, name)) = published(os, arch) {
        return Ok(Ami::Published { os, owner, name });
    }
    let (parameter, root_device) = public(os, arch).ok_or_else(|| no_system(stack))?;
    check_disk(stack.disk, PUBLIC_ROOT, &format!("the public AMI of {os}"))?;
    Ok(Ami::Newest { os, parameter, root_device })
}

/// The size of the root volume of every public AMI in [`images`], according to their publishers in November 2026:
/// <https://documentation.ubuntu.com/aws/>, <https://wiki.debian.org/Cloud/AmazonEC2Image>,
/// <https://docs.aws.amazon.com/linux/al2023/ug/ec2.html>.
const PUBLIC_ROOT: Size = Size::gib(8);

/// A volume's size in whole GiB, the unit EC2 uses.
pub fn volume_gib(disk: Size) -> u64 {
    disk.as_bytes().div_ceil(1 << 30)
}

/// EC2 rejects a volume smaller than the snapshot it is created from.
pub(crate) fn check_disk(disk: Size, root: Size, ami: &str) -> Result<(), ProviderError> {
    if volume_gib(disk) >= volume_gib(root) {
        return Ok(());
    }
    Err(ProviderError::Unsupported {
        what: format!("vm.disk is {disk}, but the root volume of {ami} has {root}"),
        hint: format!("set vm.disk to {root} or more").into(),
    })
}

/// The public parameter of a system's AMI and its root device. Sources:
/// <https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/>,
/// <https://wiki.debian.org/Cloud/AmazonEC2Image>,
/// <https://docs.aws.amazon.com/linux/al2023/ug/ec2.html>.
fn public(os: &str, arch: InstanceArch) -> Option<(String, &'static str)> {
    let debian_word = match arch {
        InstanceArch::X86_64 => "amd64",
        InstanceArch::Arm64 => "arm64",
    };
    if let Some(release) = os.strip_prefix("ubuntu-") {
        // Since 24.04 the images use gp3 volumes.
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

/// The account and the names of a system's AMIs where there is no public parameter. Sources:
/// <https://fedoraproject.org/cloud/download>, <https://wiki.almalinux.org/cloud/AWS.html>,
/// <https://rockylinux.org/download>.
fn published(os: &str, arch: InstanceArch) -> Option<(&'static str, String)> {
    let (system, version) = os.rsplit_once('-')?;
    let kernel_word = match arch {
        InstanceArch::X86_64 => "x86_64",
        InstanceArch::Arm64 => "aarch64",
    };
    match system {
        "fedora" => Some(("125523088429", format!("Fedora-Cloud-Base-AmazonEC2.{kernel_word}-{version}-*"))),
        "almalinux" => Some(("764336703387", format!("AlmaLinux OS {version}.* {kernel_word}"))),
        "rocky" => Some(("792107900819", format!("Rocky-{version}-EC2-Base-{version}.*.{kernel_word}"))),
        _ => None,
    }
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
        hint: "set the system to use in AWS with vm.os: \"os\": \"ubuntu-24.04\", or an \"ami-...\"".into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_testkit::provider_suite::machine;

    use super::*;

    #[test]
    fn every_image_with_a_user_in_aws_has_a_public_ami_for_both_architectures() {
        for image in images::IMAGES.iter().filter(|image| image.aws_user.is_some()) {
            for arch in [InstanceArch::X86_64, InstanceArch::Arm64] {
                if let Some((owner, name)) = published(image.name, arch) {
                    assert!(owner.len() == 12 && name.contains('*'), "{}", image.name);
                    continue;
                }
                let (path, root) = public(image.name, arch).unwrap();
                assert!(path.starts_with("/aws/service/") && root.starts_with("/dev/"), "{}", image.name);
            }
        }
    }

    #[test]
    fn public_ami_paths_depend_on_release_and_architecture() {
        insta::assert_snapshot!(
            [
                public("ubuntu-24.04", InstanceArch::X86_64),
                public("ubuntu-22.04", InstanceArch::Arm64),
                public("debian-12", InstanceArch::Arm64),
                public("amazon-linux-2023", InstanceArch::X86_64),
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
    fn a_disk_smaller_than_the_public_amis_root_volume_is_refused() {
        let chosen = |disk: Size| {
            let mut stack = machine("web", ImageRef::Alias("debian-12".into()), b"").stack;
            (stack.os, stack.disk) = ("debian-12".to_owned(), disk);
            choose(&stack, InstanceArch::X86_64).map(drop).map_err(|error| error.to_string())
        };
        // EC2 rounds it up to 8.
        assert_eq!(chosen(Size::bytes((7 << 30) + 1)), Ok(()));
        let refused = "vm.disk is 7G, but the root volume of the public AMI of debian-12 has 8G";
        assert_eq!(chosen(Size::gib(7)), Err(refused.to_owned()));
    }

    #[test]
    fn a_custom_image_requires_vm_os() {
        let mut machine = machine("web", ImageRef::Path("/images/own.qcow2".into()), b"");
        let error = choose(&machine.stack, InstanceArch::X86_64).unwrap_err();
        assert!(
            matches!(&error, ProviderError::Unsupported { hint, .. } if hint.debug_text().contains("vm.os")),
            "{error:?}"
        );
        machine.stack.os = "ami-0abc0abc".to_owned();
        assert_eq!(
            choose(&machine.stack, InstanceArch::X86_64).unwrap(),
            Ami::Given("ami-0abc0abc".to_owned())
        );
    }
}
