//! AMIs that goloo has made of provisioned machines, and their snapshots.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{
    Filter, Image, ImageState, ResourceType, Snapshot as Ec2Snapshot, TagSpecification,
};
use goloo_model::aws_ids;
use goloo_model::name::VmId;
use goloo_model::provider::{KeptImage, KeptImageState, ProviderError};
use goloo_model::record::Digest;
use goloo_model::time::Timestamp;

use crate::error::AwsError;
use crate::pages::Pages;
use crate::session::Clients;
use crate::tags::{self, Tags};

/// The resource kind under which a baked image is recorded, by its name.
pub const RESOURCE: &str = "ec2-image";

/// Those who share an image with this account can tag it for themselves: only its own images count.
const OWNER: &str = "self";

/// How often the deletion of a snapshot is tried: EC2 may take it for in use for some seconds after its image was
/// deregistered.
const DELETIONS: u32 = 24;

const GIB: u64 = 1 << 30;

/// A baked image as described by EC2.
#[derive(Debug, Clone)]
pub struct BakedAmi {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: KeptImageState,
    /// Why EC2 couldn't make it.
    pub reason: Option<String>,
    /// The size of its root volume, in bytes.
    pub disk: u64,
    created_at: Option<Timestamp>,
    last_used: Option<Timestamp>,
    /// The snapshots that it consists of.
    snapshots: Vec<String>,
    tags: Tags,
}

impl BakedAmi {
    fn of(image: &Image) -> Option<Self> {
        let id = image.image_id().filter(|id| aws_ids::is_id(id, "ami-"))?.to_owned();
        let time = |text: Option<&str>| text.and_then(|text| Timestamp::parse(text).ok());
        let reason = image.state_reason().and_then(|reason| reason.message());
        Some(Self {
            id,
            state: state(image.state())?,
            reason: reason.map(str::to_owned),
            disk: root_size(image),
            created_at: time(image.creation_date()),
            last_used: time(image.last_launched_time()),
            snapshots: snapshot_ids(image),
            tags: tags::in_ec2(image.tags()),
        })
    }

    /// The id of the VM that it was made of.
    fn vm(&self) -> Option<&str> {
        tags::value(&self.tags, tags::ID)
    }
}

fn snapshot_ids(image: &Image) -> Vec<String> {
    let volumes = image.block_device_mappings().iter().filter_map(|mapping| mapping.ebs());
    volumes.filter_map(|volume| volume.snapshot_id().map(str::to_owned)).collect()
}

/// `None` for one that is deregistered. A disabled one can't be used until it is enabled again.
fn state(state: Option<&ImageState>) -> Option<KeptImageState> {
    match state? {
        ImageState::Available => Some(KeptImageState::Available),
        ImageState::Pending | ImageState::Transient => Some(KeptImageState::Pending),
        ImageState::Deregistered => None,
        _ => Some(KeptImageState::Failed),
    }
}

fn root_size(image: &Image) -> u64 {
    let mut mappings = image.block_device_mappings().iter();
    let root = mappings.find(|mapping| mapping.device_name() == image.root_device_name());
    let gib = root.and_then(|root| root.ebs()).and_then(|ebs| ebs.volume_size());
    gib.and_then(|gib| u64::try_from(gib).ok()).unwrap_or_default().saturating_mul(GIB)
}

async fn describe(clients: &Clients, filters: Vec<(&str, &str)>) -> Result<Vec<BakedAmi>, AwsError> {
    let request = clients.ec2.describe_images().owners(OWNER).set_filters(Some(filter(filters)));
    let answer = request.send().await.map_err(|error| AwsError::of("ec2:DescribeImages", &error))?;
    let mut images: Vec<_> = answer.images().iter().filter_map(BakedAmi::of).collect();
    images.sort_by_key(|image| (image.created_at, image.id.clone()));
    Ok(images)
}

fn filter(filters: Vec<(&str, &str)>) -> Vec<Filter> {
    let filter = |(name, value): (&str, &str)| Filter::builder().name(name).values(value).build();
    filters.into_iter().map(filter).collect()
}

/// Whether there is a baked image that can be used, whatever its key.
pub async fn is_any(clients: &Clients) -> Result<bool, AwsError> {
    let images = describe(clients, vec![("tag-key", tags::BAKED), ("state", "available")]).await?;
    Ok(!images.is_empty())
}

/// The newest image with this key that can be used.
pub async fn newest(clients: &Clients, key: &Digest) -> Result<Option<BakedAmi>, AwsError> {
    let tag = format!("tag:{}", tags::BAKED);
    let mut images = describe(clients, vec![(&tag, key.as_str()), ("state", "available")]).await?;
    Ok(images.pop())
}

/// The image with this name. No two images of an account have the same.
pub async fn named(clients: &Clients, name: &str) -> Result<Option<BakedAmi>, AwsError> {
    Ok(describe(clients, vec![("name", name)]).await?.pop())
}

/// Begins to make an image of a stopped instance. An image with this name is left as it is.
pub async fn begin(
    clients: &Clients,
    instance: &str,
    name: &str,
    tags: &[(&str, &str)],
) -> Result<(), AwsError> {
    let of = |kind: ResourceType| {
        TagSpecification::builder().resource_type(kind).set_tags(Some(tags::to_ec2(tags))).build()
    };
    let request = clients.ec2.create_image().instance_id(instance).name(name);
    let request =
        request.tag_specifications(of(ResourceType::Image)).tag_specifications(of(ResourceType::Snapshot));
    match request.send().await.map_err(|error| AwsError::of("ec2:CreateImage", &error)) {
        Ok(_) => Ok(()),
        // An earlier request was carried out whose response was lost.
        Err(error) if error.code() == Some("InvalidAMIName.Duplicate") => Ok(()),
        Err(error) => Err(error),
    }
}

/// All baked images of a region with their snapshots, and the snapshots whose image was deregistered.
pub async fn all(clients: &Clients) -> Result<Vec<KeptImage>, AwsError> {
    let images = describe(clients, vec![("tag-key", tags::BAKED)]).await?;
    let snapshots = snapshots(clients, ("tag-key", tags::BAKED)).await?;
    let region = &clients.region;
    // A pending image doesn't name all of its snapshots yet.
    let has_image = |snapshot: &Snapshot| {
        images.iter().any(|image| image.snapshots.contains(&snapshot.id) || image.vm() == snapshot.vm())
    };
    let mut leftovers: BTreeMap<&str, Vec<&Snapshot>> = BTreeMap::new();
    for left in snapshots.iter().filter(|snapshot| !has_image(snapshot)) {
        leftovers.entry(left.vm().unwrap_or(&left.id)).or_default().push(left);
    }
    let kept = images.iter().map(|image| {
        let own = snapshots.iter().filter(|snapshot| image.snapshots.contains(&snapshot.id));
        kept(region, image, &own.collect::<Vec<_>>())
    });
    Ok(kept.chain(leftovers.values().filter_map(|left| leftover(region, left))).collect())
}

fn kept(region: &str, image: &BakedAmi, snapshots: &[&Snapshot]) -> KeptImage {
    KeptImage {
        id: image.id.clone(),
        state: image.state,
        created_at: image.created_at,
        last_used: image.last_used,
        disk: image.disk,
        size: if snapshots.is_empty() { image.disk } else { size(snapshots) },
        snapshots: snapshots.iter().map(|snapshot| snapshot.id.clone()).collect(),
        ..described(region, &image.tags)
    }
}

fn leftover(region: &str, snapshots: &[&Snapshot]) -> Option<KeptImage> {
    let first = snapshots.first()?;
    Some(KeptImage {
        id: first.id.clone(),
        created_at: first.begun_at,
        disk: size(snapshots),
        size: size(snapshots),
        snapshots: snapshots.iter().map(|snapshot| snapshot.id.clone()).collect(),
        ..described(region, &first.tags)
    })
}

/// What the tags say, of which nothing else is known.
fn described(region: &str, of: &Tags) -> KeptImage {
    let text = |key| tags::value(of, key);
    KeptImage {
        id: String::new(),
        stack: text(tags::STACK).unwrap_or_default().to_owned(),
        key: text(tags::BAKED).and_then(Digest::parse),
        vm: text(tags::ID).and_then(|id| VmId::parse(id).ok()),
        state: KeptImageState::Leftover,
        created_at: None,
        last_used: None,
        disk: 0,
        size: 0,
        snapshots: Vec::new(),
        region: Some(region.to_owned()),
    }
}

/// A snapshot that belongs to a baked image.
#[derive(Debug)]
struct Snapshot {
    id: String,
    size: u64,
    begun_at: Option<Timestamp>,
    tags: Tags,
}

impl Snapshot {
    fn of(snapshot: &Ec2Snapshot) -> Option<Self> {
        let gib = snapshot.volume_size().and_then(|gib| u64::try_from(gib).ok()).unwrap_or_default();
        let full = snapshot.full_snapshot_size_in_bytes().and_then(|bytes| u64::try_from(bytes).ok());
        Some(Self {
            id: snapshot.snapshot_id().filter(|id| aws_ids::is_id(id, "snap-"))?.to_owned(),
            size: full.filter(|bytes| *bytes > 0).unwrap_or(gib.saturating_mul(GIB)),
            begun_at: snapshot.start_time().and_then(|time| Timestamp::from_unix(time.secs())),
            tags: tags::in_ec2(snapshot.tags()),
        })
    }

    /// The id of the VM whose image it belongs to.
    fn vm(&self) -> Option<&str> {
        tags::value(&self.tags, tags::ID)
    }
}

fn size(snapshots: &[&Snapshot]) -> u64 {
    snapshots.iter().map(|snapshot| snapshot.size).sum()
}

/// Snapshots of this account.
async fn snapshots(clients: &Clients, filter_by: (&str, &str)) -> Result<Vec<Snapshot>, AwsError> {
    const ACTION: &str = "ec2:DescribeSnapshots";
    let mut found = Vec::new();
    let (mut next, mut pages) = (None, Pages::of(ACTION));
    loop {
        let request = clients.ec2.describe_snapshots().owner_ids(OWNER).set_next_token(next);
        let request = request.set_filters(Some(filter(vec![filter_by])));
        let answer = request.send().await.map_err(|error| AwsError::of(ACTION, &error))?;
        found.extend(answer.snapshots().iter().filter_map(Snapshot::of));
        next = pages.next(answer.next_token())?;
        if next.is_none() {
            return Ok(found);
        }
    }
}

/// The size of the snapshots of a VM's image.
pub async fn stored_size(clients: &Clients, vm: &VmId) -> Result<Option<u64>, AwsError> {
    let tag = format!("tag:{}", tags::ID);
    let found = snapshots(clients, (&tag, vm.as_str())).await?;
    Ok((!found.is_empty()).then(|| size(&found.iter().collect::<Vec<_>>())))
}

/// Deregisters an image, then deletes its snapshots: the other order isn't possible.
pub async fn remove(
    clients: &Clients,
    image: &KeptImage,
    wait: std::time::Duration,
) -> Result<(), ProviderError> {
    if image.state != KeptImageState::Leftover {
        deregister(clients, &image.id).await?;
    }
    for snapshot in &image.snapshots {
        let mut tries = DELETIONS;
        while let Err(error) = delete_snapshot(clients, snapshot).await {
            if tries == 0 || error.code() != Some("InvalidSnapshot.InUse") {
                return Err(error.into());
            }
            tries -= 1;
            tokio::time::sleep(wait).await;
        }
    }
    Ok(())
}

/// Deregisters an image; one that no longer exists is success.
pub async fn deregister(clients: &Clients, id: &str) -> Result<(), AwsError> {
    let request = clients.ec2.deregister_image().image_id(id);
    match request.send().await.map_err(|error| AwsError::of("ec2:DeregisterImage", &error)) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.code(), Some("InvalidAMIID.NotFound" | "InvalidAMIID.Unavailable")) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn delete_snapshot(clients: &Clients, id: &str) -> Result<(), AwsError> {
    let request = clients.ec2.delete_snapshot().snapshot_id(id);
    match request.send().await.map_err(|error| AwsError::of("ec2:DeleteSnapshot", &error)) {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("InvalidSnapshot.NotFound") => Ok(()),
        Err(error) => Err(error),
    }
}
