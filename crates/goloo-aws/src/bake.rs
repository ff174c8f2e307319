//! Bake: an AMI is made of a provisioned machine, and others are made from it.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use goloo_model::events::Events;
use goloo_model::hint::NextStep;
use goloo_model::provider::{BakedImage, Bakes, KeptImage, KeptImageState, KeptImages, ProviderError, Work};
use goloo_model::record::{Baking, Digest, Record};
use goloo_model::spec::ResolvedStack;

use crate::ami::{self, Ami};
use crate::ami_check;
use crate::baked_images::{self, BakedAmi};
use crate::context::AwsProvider;
use crate::error::AwsError;
use crate::instance_types::{self, InstanceArch};
use crate::resource_ref::ResourceRef;
use crate::retry::{PATIENCE, pause, tolerate_transient};
use crate::session::Clients;
use crate::tags;

/// An image of a few GiB takes minutes, one of hundreds of GiB hours.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// After this many polls that don't show the image it was removed.
const UNSEEN_MAX: u32 = 24;

/// The maximum length of a tag's value, in characters.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html>
const TAG_MAX: usize = 256;

#[async_trait]
impl Bakes for AwsProvider {
    async fn base(&self, stack: &ResolvedStack) -> Result<Option<String>, ProviderError> {
        let clients = self.session.clients(self.region_of(stack)).await;
        match baked_images::is_any(&clients).await {
            Ok(true) => base_ami(&clients, stack).await.map(Some),
            // Without credentials nothing can be created either, and that says how to get some.
            Ok(false) | Err(AwsError::NoCredentials { .. } | AwsError::NoSsoSession { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn fetch_base(
        &self,
        stack: &ResolvedStack,
        _: &dyn Events,
        _: &(dyn Fn() -> bool + Sync),
    ) -> Result<String, ProviderError> {
        base_ami(&self.session.clients(self.region_of(stack)).await, stack).await
    }

    async fn find(&self, key: &Digest, stack: &ResolvedStack) -> Result<Option<BakedImage>, ProviderError> {
        let clients = self.session.clients(self.region_of(stack)).await;
        let found = baked_images::newest(&clients, key).await?;
        Ok(found.map(|image| BakedImage {
            key: key.clone(),
            disk: image.disk,
            size: image.disk,
            memory: None,
        }))
    }

    fn check_memory(&self, _: &ResolvedStack) -> Result<(), ProviderError> {
        Err(ProviderError::Unsupported {
            what: "the memory of a VM in AWS can't be kept".to_owned(),
            hint: "omit --memory".into(),
        })
    }

    async fn keep(
        &self,
        record: &Record,
        baking: &Baking,
        work: &mut dyn Work,
    ) -> Result<BakedImage, ProviderError> {
        let resource_ref = ResourceRef::of(record)?;
        self.check_account(&resource_ref).await?;
        let clients = self.session.clients(self.region(&resource_ref)).await;
        let order = ImageOrder { provider: self, clients: &clients, record, key: &baking.key };
        let limit = work.time_left(LIMIT);
        let made = tokio::time::timeout(limit, order.carry_out(work)).await;
        let image = made.unwrap_or_else(|_| Err(order.unfinished()))?;
        let size = baked_images::stored_size(&clients, &record.id).await?;
        Ok(BakedImage {
            key: baking.key.clone(),
            disk: image.disk,
            size: size.unwrap_or(image.disk),
            memory: None,
        })
    }

    fn kept(&self) -> Option<&dyn KeptImages> {
        Some(self)
    }
}

#[async_trait]
impl KeptImages for AwsProvider {
    async fn list(&self, known: &[&Record]) -> Result<Vec<KeptImage>, ProviderError> {
        let resource_refs: Vec<_> = known.iter().flat_map(|record| ResourceRef::of(record)).collect();
        let mut regions: BTreeSet<&str> =
            resource_refs.iter().map(|resource_ref| self.region(resource_ref)).collect();
        regions.insert(&self.settings.region);
        let mut images = Vec::new();
        for region in regions {
            images.extend(baked_images::all(&self.session.clients(region).await).await?);
        }
        images.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(images)
    }

    async fn remove(&self, image: &KeptImage) -> Result<(), ProviderError> {
        let region = image.region.as_deref().unwrap_or(&self.settings.region);
        let clients = self.session.clients(region).await;
        baked_images::remove(&clients, image, self.settings.pace.then).await
    }
}

impl AwsProvider {
    fn region_of<'a>(&'a self, stack: &'a ResolvedStack) -> &'a str {
        stack.region.as_deref().unwrap_or(&self.settings.region)
    }
}

/// The id of the AMI that a machine of this stack begins with today.
async fn base_ami(clients: &Clients, stack: &ResolvedStack) -> Result<String, ProviderError> {
    let arch = InstanceArch::of(&instance_types::choose(stack)?);
    match ami::choose(stack, arch)? {
        Ami::Newest { parameter, .. } => public_parameter(clients, &parameter).await,
        Ami::Published { owner, name, .. } => ami_check::published_id(clients, (owner, &name)).await,
        ami @ (Ami::Given(_) | Ami::Baked) => Ok(ami.parameter_value().to_owned()),
    }
}

/// Asks for a list of one: CloudFormation needs the same permission.
async fn public_parameter(clients: &Clients, name: &str) -> Result<String, ProviderError> {
    let request = clients.ssm.get_parameters().names(name);
    let answer = request.send().await.map_err(|error| AwsError::of("ssm:GetParameters", &error))?;
    let found = answer.parameters().iter().find_map(|parameter| parameter.value());
    found.map(str::to_owned).ok_or_else(|| {
        ProviderError::failed(
            format!("there is no public parameter {name} in {}", clients.region),
            "set vm.region to a region that has it, or vm.os to the id of an AMI",
        )
    })
}

/// The image that is to be made of a machine.
struct ImageOrder<'a> {
    provider: &'a AwsProvider,
    clients: &'a Clients,
    record: &'a Record,
    key: &'a Digest,
}

impl ImageOrder<'_> {
    /// By the name an image is found whose id was lost with the response.
    fn name(&self) -> String {
        let key: String = self.key.as_str().chars().take(16).collect();
        format!("goloo-baked-{key}-{}", self.record.id)
    }

    /// Makes the image, or finds the one that was begun, and waits until machines can be made from it.
    async fn carry_out(&self, work: &mut dyn Work) -> Result<BakedAmi, ProviderError> {
        let (name, pace) = (self.name(), self.provider.settings.pace);
        let (mut is_asked, mut patience, mut unseen) = (false, PATIENCE, 0);
        loop {
            match baked_images::named(self.clients, &name).await {
                Ok(Some(image)) if image.state == KeptImageState::Available => return Ok(image),
                Ok(Some(image)) if image.state == KeptImageState::Failed => {
                    baked_images::deregister(self.clients, &image.id).await?;
                    if is_asked {
                        let reason = image.reason.as_deref().unwrap_or("AWS gave no reason");
                        return Err(self.failed(reason));
                    }
                }
                Ok(Some(_)) => {
                    (is_asked, unseen, patience) = (true, 0, PATIENCE);
                }
                Ok(None) if !is_asked => {
                    work.record_resource(baked_images::RESOURCE, &name).await?;
                    self.begin(&name, work).await?;
                    is_asked = true;
                }
                // EC2 doesn't show a new image at once.
                Ok(None) if unseen == UNSEEN_MAX => return Err(self.failed("it was removed meanwhile")),
                Ok(None) => unseen += 1,
                Err(error) => tolerate_transient(&mut patience, error, work)?,
            }
            pause(pace.then, work).await?;
        }
    }

    async fn begin(&self, name: &str, work: &mut dyn Work) -> Result<(), ProviderError> {
        let instance = self.provider.instance(self.clients, self.record).await?;
        work.step("making the image; AWS takes some minutes");
        let stack = tag_value(&self.record.stack.to_string());
        let token = self.record.operation.as_ref().map_or("", |operation| operation.id.as_str());
        let tags = [
            ("Name", &*tag_value(&format!("baked:{stack}"))),
            (tags::BAKED, self.key.as_str()),
            (tags::STACK, &stack),
            (tags::ID, self.record.id.as_str()),
            (tags::OPERATION, token),
        ];
        Ok(baked_images::begin(self.clients, &instance.id, name, &tags).await?)
    }

    fn failed(&self, reason: &str) -> ProviderError {
        ProviderError::failed(
            format!("AWS couldn't make the image: {reason}"),
            NextStep::Resume(self.record.name.clone()).text(" tries again"),
        )
    }

    fn unfinished(&self) -> ProviderError {
        ProviderError::Unfinished {
            what: "AWS is still making the image".to_owned(),
            hint: NextStep::Resume(self.record.name.clone()).text(" continues to wait"),
        }
    }
}

/// The record's words may be longer than a tag's value can be.
fn tag_value(text: &str) -> String {
    text.chars().take(TAG_MAX).collect()
}
