//! Which AMI a VM starts from, how AWS's public parameters call it, and whether a given one can be used.

use aws_sdk_ec2::types::{DeviceType, Image, ImageState, VirtualizationType};
use goloo_core::events::Event;
use goloo_core::provider::{ProviderError, Work};
use goloo_core::spec::{ImageRef, ResolvedStack, Size, images};
use goloo_core::time::Timestamp;

use crate::design::Design;
use crate::error::AwsError;
use crate::instance_types::Arch;
use crate::session::Clients;

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
    check_disk(stack.disk, PUBLIC_ROOT, &format!("the public AMI of {os}"))?;
    Ok(Ami::Newest { os, parameter, root_device })
}

/// The size of the root volume of every public AMI in [`images`], as their publishers had it in November 2026:
/// <https://documentation.ubuntu.com/aws/>, <https://wiki.debian.org/Cloud/AmazonEC2Image>,
/// <https://docs.aws.amazon.com/linux/al2023/ug/ec2.html>.
const PUBLIC_ROOT: Size = Size::gib(8);

/// A volume's size in whole units of 2³⁰ bytes, as EC2 counts it.
pub fn volume_gib(disk: Size) -> u64 {
    disk.as_bytes().div_ceil(1 << 30)
}

/// EC2 makes no volume that is smaller than the snapshot that it is made from.
fn check_disk(disk: Size, root: Size, ami: &str) -> Result<(), ProviderError> {
    if volume_gib(disk) >= volume_gib(root) {
        return Ok(());
    }
    Err(ProviderError::Unsupported {
        what: format!("vm.disk is {disk}, and the root volume of {ami} has {root}"),
        hint: format!("set vm.disk to {root} or more"),
    })
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

/// What a given AMI's root volume is called; an error where the VM can't be made from that AMI.
pub async fn check_given(
    clients: &Clients,
    id: &str,
    design: &Design,
    disk: Size,
    work: &mut dyn Work,
) -> Result<String, ProviderError> {
    let image = look_up(clients, id).await?.ok_or_else(|| ProviderError::Unsupported {
        what: format!("there is no AMI {id} in {} that these credentials may use", clients.region),
        hint: "an AMI belongs to one region: set vm.region, or take another vm.os".to_owned(),
    })?;
    let root_device = usable(&image, id, design, disk)?;
    let deprecated = image.deprecation_time().and_then(|time| Timestamp::parse(time).ok());
    if let Some(since) = deprecated.filter(|since| *since <= Timestamp::now()) {
        work.events().event(Event::Warning(format!(
            "{id} is deprecated since {since}: its publisher has a newer one"
        )));
    }
    Ok(root_device)
}

/// By its id, not by a filter: a filter leaves deprecated AMIs out, which are as good as before to who names one.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-deprecate.html>
async fn look_up(clients: &Clients, id: &str) -> Result<Option<Image>, AwsError> {
    let request = clients.ec2.describe_images().image_ids(id).include_deprecated(true).include_disabled(true);
    let answer = request.send().await.map_err(|error| AwsError::of("ec2:DescribeImages", &error));
    match answer {
        Ok(answer) => Ok(answer.images.unwrap_or_default().into_iter().next()),
        Err(error) if error.code().is_some_and(|code| code.starts_with("InvalidAMIID.")) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of the root volume, where an instance of this design can be made from the AMI.
fn usable(image: &Image, id: &str, design: &Design, disk: Size) -> Result<String, ProviderError> {
    let refused = |what: String, hint: &str| ProviderError::Unsupported { what, hint: hint.to_owned() };
    if let Some(state) = image.state().filter(|state| **state != ImageState::Available) {
        let why = image.state_reason().and_then(|reason| reason.message());
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        let hint = match state {
            ImageState::Pending => "wait until aws ec2 describe-images says that it is available",
            _ => "take another AMI in vm.os",
        };
        return Err(refused(format!("the AMI {id} is {}{why}", state.as_str()), hint));
    }
    // EC2 writes it in lower case, and the SDK's constant isn't.
    if image.platform().is_some_and(|platform| platform.as_str().eq_ignore_ascii_case("windows")) {
        return Err(refused(
            format!("{id} is a Windows AMI"),
            "take one of a Linux with cloud-init in vm.os",
        ));
    }
    let architecture = image.architecture().map_or("x86_64", |arch| arch.as_str());
    if architecture != design.arch.to_string() {
        return Err(refused(
            format!("{id} is for {architecture}, and a {} is {}", design.instance_type, design.arch),
            "take another vm.instance_type (t4g.small is arm64, say) or another AMI",
        ));
    }
    if image.root_device_type().is_some_and(|kind| *kind != DeviceType::Ebs)
        || image.virtualization_type().is_some_and(|kind| *kind != VirtualizationType::Hvm)
    {
        let what = format!("{id} isn't an HVM image with its root on an EBS volume");
        return Err(refused(what, "take another AMI in vm.os: current instance types need such a one"));
    }
    let root_device = image.root_device_name().unwrap_or(XVDA);
    let root =
        image.block_device_mappings().iter().find(|mapping| mapping.device_name() == Some(root_device));
    let gib = root.and_then(|mapping| mapping.ebs()).and_then(|ebs| ebs.volume_size());
    let root = gib.and_then(|gib| u64::try_from(gib).ok()).map_or(Size::bytes(0), Size::gib);
    check_disk(disk, root, id)?;
    Ok(root_device.to_owned())
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
    fn a_disk_is_at_least_as_large_as_the_public_amis_root() {
        let chosen = |disk: Size| {
            let mut stack = machine("web", ImageRef::Alias("debian-12".into()), b"").stack;
            (stack.os, stack.disk) = ("debian-12".to_owned(), disk);
            choose(&stack, Arch::X86_64).map(drop).map_err(|error| error.to_string())
        };
        // EC2 makes it a whole 8.
        assert_eq!(chosen(Size::bytes((7 << 30) + 1)), Ok(()));
        let refused = "vm.disk is 7G, and the root volume of the public AMI of debian-12 has 8G";
        assert_eq!(chosen(Size::gib(7)), Err(refused.to_owned()));
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
