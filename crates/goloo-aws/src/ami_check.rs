//! Whether a VM can be made from a given AMI.

use aws_sdk_ec2::types::{DeviceType, Filter, Image, ImageState, VirtualizationType};
use goloo_model::events::Event;
use goloo_model::provider::{ProviderError, Work};
use goloo_model::spec::Size;
use goloo_model::time::Timestamp;

use crate::ami::{XVDA, check_disk};
use crate::design::Design;
use crate::error::AwsError;
use crate::session::Clients;

/// The device name of a given AMI's root volume; an error if the VM can't be created from that AMI.
pub async fn check_given(
    clients: &Clients,
    id: &str,
    design: &Design,
    disk: Size,
    work: &mut dyn Work,
) -> Result<String, ProviderError> {
    let image = look_up(clients, id).await?.ok_or_else(|| ProviderError::Unsupported {
        what: format!("there is no AMI {id} in {} that these credentials may use", clients.region),
        hint: "set vm.region or another vm.os: an AMI is only available in its own region".into(),
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

/// The id of the newest image of this account with such a name, and the device name of its root volume.
pub async fn find_published(
    clients: &Clients,
    published: (&str, &str),
    design: &Design,
    disk: Size,
) -> Result<(String, String), ProviderError> {
    let (id, image) = newest_published(clients, published).await?;
    let root_device = usable(&image, &id, design, disk)?;
    Ok((id, root_device))
}

/// The id of the newest image of this account with such a name.
pub async fn published_id(clients: &Clients, published: (&str, &str)) -> Result<String, ProviderError> {
    Ok(newest_published(clients, published).await?.0)
}

async fn newest_published(
    clients: &Clients,
    (owner, name): (&str, &str),
) -> Result<(String, Image), ProviderError> {
    let filter = |key: &str, value: &str| Filter::builder().name(key).values(value).build();
    let request = clients.ec2.describe_images().owners(owner).filters(filter("name", name));
    let request = request.filters(filter("state", "available"));
    let answer = request.send().await.map_err(|error| AwsError::of("ec2:DescribeImages", &error))?;
    let images = answer.images.unwrap_or_default().into_iter();
    let theirs = images.filter(|image| image.owner_id() == Some(owner));
    let newest = theirs.max_by_key(|image| image.creation_date().unwrap_or_default().to_owned());
    newest.and_then(|image| Some((image.image_id()?.to_owned(), image))).ok_or_else(|| {
        ProviderError::Unsupported {
            what: format!("the account {owner} has no public AMI called \"{name}\" in {}", clients.region),
            hint: "set vm.region to a region in which it is published, or vm.os to the id of an AMI".into(),
        }
    })
}

/// Looks up by id, not with a filter: filters omit deprecated AMIs, which still work when named explicitly.
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

/// The root volume's device name, if an instance of this design can be created from the AMI.
fn usable(image: &Image, id: &str, design: &Design, disk: Size) -> Result<String, ProviderError> {
    let refused = |what: String, hint: &str| ProviderError::Unsupported { what, hint: hint.into() };
    if let Some(state) = image.state().filter(|state| **state != ImageState::Available) {
        let why = image.state_reason().and_then(|reason| reason.message());
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        let hint = match state {
            ImageState::Pending => &format!(
                "wait until aws ec2 describe-images --region {} --image-ids {id} shows it as available",
                design.region
            ),
            _ => "use another AMI in vm.os",
        };
        return Err(refused(format!("the AMI {id} is {}{why}", state.as_str()), hint));
    }
    // EC2 returns it in lower case, unlike the SDK's constant.
    if image.platform().is_some_and(|platform| platform.as_str().eq_ignore_ascii_case("windows")) {
        return Err(refused(
            format!("{id} is a Windows AMI"),
            "set vm.os to an AMI of a Linux with cloud-init",
        ));
    }
    let architecture = image.architecture().map_or("x86_64", |arch| arch.as_str());
    if architecture != design.arch.to_string() {
        return Err(refused(
            format!("{id} is for {architecture}, and a {} is {}", design.instance_type, design.arch),
            "use another vm.instance_type (for example t4g.small, which is arm64) or another AMI",
        ));
    }
    if image.root_device_type().is_some_and(|kind| *kind != DeviceType::Ebs)
        || image.virtualization_type().is_some_and(|kind| *kind != VirtualizationType::Hvm)
    {
        let what = format!("{id} isn't an HVM image with its root on an EBS volume");
        return Err(refused(what, "use another AMI in vm.os: current instance types require this"));
    }
    let root_device = image.root_device_name().unwrap_or(XVDA);
    let root =
        image.block_device_mappings().iter().find(|mapping| mapping.device_name() == Some(root_device));
    let gib = root.and_then(|mapping| mapping.ebs()).and_then(|ebs| ebs.volume_size());
    let root = gib.and_then(|gib| u64::try_from(gib).ok()).map_or(Size::bytes(0), Size::gib);
    check_disk(disk, root, id)?;
    Ok(root_device.to_owned())
}
