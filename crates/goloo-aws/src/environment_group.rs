//! The security group of an environment: its machines reach each other on all ports. There is one in each VPC that its
//! machines are in, made by the first of them and removed with the last.
//!
//! A VPC can't have two groups of the same name, and EC2 refuses to delete a group in use: so several machines at once
//! need nothing else to agree.

use std::collections::BTreeSet;
use std::net::IpAddr;

use async_trait::async_trait;
use aws_sdk_ec2::types::{
    Filter, IpPermission, ResourceType, SecurityGroup as Ec2Group, TagSpecification, UserIdGroupPair,
};
use goloo_model::events::Event;
use goloo_model::hint::NextStep;
use goloo_model::name::{EnvironmentId, VmName};
use goloo_model::provider::{Adopted, LiveState, Networks, Orphan, ProviderError, Work};
use goloo_model::record::{Membership, Record};

use crate::context::AwsProvider;
use crate::details::{Details, RecordedVm};
use crate::error::AwsError;
use crate::instances::{self, Instance, Interface, State, Which};
use crate::resource_ref::ResourceRef;
use crate::retry::{PATIENCE, pause, tolerate_transient};
use crate::session::Clients;
use crate::tags;

/// The resource kind under which a VM in such a group records the group's name.
const RESOURCE: &str = "ec2-environment-group";

/// How often a group that another process is making or removing is looked for.
const TRIES: u32 = 4;

/// EC2's name for all protocols.
const ALL: &str = "-1";

#[async_trait]
impl Networks for AwsProvider {
    fn takes_addresses(&self) -> bool {
        false
    }

    fn address(&self, record: &Record) -> Option<IpAddr> {
        Details::of(record).ok()?.private_ip.map(IpAddr::V4)
    }

    async fn connect(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        let Some((environment, id)) = networked(record) else { return Ok(()) };
        let resource_ref = ResourceRef::of(record)?;
        self.check_account(&resource_ref).await?;
        let clients = self.session.clients(self.region(&resource_ref)).await;
        let instance = self.instance(&clients, record).await?;
        let (vpc, interface) = place(record, &instance)?;
        let group = EnvironmentGroup { clients: &clients, environment, id, vpc };
        let recorded = RecordedVm::of(record)?;
        let mut vm = recorded.clone();
        let known = vm.details.environment_group_id.take();
        // It has its rule before the first machine is in it.
        let joined = match known.filter(|known| interface.groups.contains(known)) {
            Some(known) => known,
            None => self.join(&group, interface, work).await?,
        };
        vm.details.environment_group_id = Some(joined);
        vm.details.private_ip = instance.private_ip.and_then(|ip| ip.parse().ok());
        if vm != recorded {
            work.save_addresses(vm.into()).await?;
        }
        Ok(())
    }
}

/// The environment whose group a VM is in.
fn networked(record: &Record) -> Option<(&VmName, &EnvironmentId)> {
    let Membership { environment, environment_id, .. } = record.membership.as_ref()?;
    Some((environment, environment_id.as_ref()?))
}

fn place<'i>(record: &Record, instance: &'i Instance) -> Result<(&'i str, &'i Interface), ProviderError> {
    instance.vpc.as_deref().zip(instance.interface.as_ref()).ok_or_else(|| {
        ProviderError::failed(
            format!("EC2 doesn't say which network the instance {} is in", instance.id),
            NextStep::Start(record.name.clone()).text(" tries again"),
        )
    })
}

impl AwsProvider {
    /// Puts an instance into the group of its environment, and returns the group's id. The last of the other machines may
    /// be deleted meanwhile, and the group with it.
    async fn join(
        &self,
        group: &EnvironmentGroup<'_>,
        interface: &Interface,
        work: &mut dyn Work,
    ) -> Result<String, ProviderError> {
        work.record_resource(RESOURCE, &group.name()).await?;
        work.step(&format!("adding it to the security group of {}", group.environment));
        let mut tries = TRIES;
        loop {
            match group.join(interface).await {
                Ok(id) => return Ok(id),
                Err(error) if is_changing(&error) && tries > 0 => tries -= 1,
                Err(error) => return Err(error.into()),
            }
            pause(self.settings.pace.first, work).await?;
        }
    }

    /// Removes the groups of a VM's environment that no machine is in any more. The VM's own instance no longer exists. Only
    /// a VM that has joined one, or was adopted for one that was left, has it among its resources.
    pub(crate) async fn remove_unused_groups(
        &self,
        clients: &Clients,
        record: &Record,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        for id in recorded(record) {
            for group in groups(clients, &id, None).await? {
                self.remove_unused(clients, &group, work).await?;
            }
        }
        Ok(())
    }

    /// EC2 may still count an instance that no longer exists, so its refusal is awaited. What else uses the group is the
    /// user's: the VM is deleted all the same.
    async fn remove_unused(
        &self,
        clients: &Clients,
        group: &FoundGroup,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let mut patience = PATIENCE;
        loop {
            match remove(clients, group).await {
                Ok(Removal::Done | Removal::HasMembers) => return Ok(()),
                Ok(Removal::InUse) if patience > 0 => patience -= 1,
                Ok(Removal::InUse) => {
                    let (id, region) = (&group.id, &clients.region);
                    work.events().event(Event::Warning(format!(
                        "the security group {id} of the environment stays, since something other than its machines uses it; remove it with: aws ec2 delete-security-group --region {region} --group-id {id}"
                    )));
                    return Ok(());
                }
                Err(error) => tolerate_transient(&mut patience, error, work)?,
            }
            pause(self.settings.pace.then, work).await?;
        }
    }
}

/// Errors that pass when another process has made or removed the group, or EC2 knows of it everywhere.
fn is_changing(error: &AwsError) -> bool {
    matches!(error.code(), Some("InvalidGroup.NotFound" | "InvalidGroup.Duplicate"))
}

/// The environments whose groups a record has among its resources.
fn recorded(record: &Record) -> BTreeSet<EnvironmentId> {
    let groups = record.resources.iter().filter(|resource| resource.kind == RESOURCE);
    groups.filter_map(|resource| environment_of(&resource.id)).collect()
}

/// The environment that a group was made for, by its [name](EnvironmentGroup::name), which can't be changed.
fn environment_of(name: &str) -> Option<EnvironmentId> {
    let (_, id) = name.strip_prefix("goloo-")?.rsplit_once('-')?;
    EnvironmentId::parse(id).ok()
}

/// Whether a record has such a group among its resources.
pub(crate) fn is_recorded(record: &Record) -> bool {
    !recorded(record).is_empty()
}

/// The groups in a region that no machine is in and none of `known` needs or has: they were left behind.
pub(crate) async fn left_behind(clients: &Clients, known: &[&Record]) -> Result<Vec<Orphan>, AwsError> {
    let tagged = filter("tag-key", tags::ENVIRONMENT_ID);
    let of_record = |record: &&Record| {
        let member = networked(record).map(|(_, id)| id.clone());
        recorded(record).into_iter().chain(member).collect::<Vec<_>>()
    };
    let known: BTreeSet<EnvironmentId> = known.iter().flat_map(of_record).collect();
    let mut left = Vec::new();
    for group in describe(clients, vec![tagged]).await? {
        let is_known = environment_of(&group.name).is_none_or(|id| known.contains(&id));
        if !is_known && !has_members(clients, &group).await? {
            left.push(group.into());
        }
    }
    Ok(left)
}

/// The record of a group that was left behind, so that it can be deleted.
pub(crate) async fn adopt(clients: &Clients, id: &str) -> Result<Adopted, ProviderError> {
    let groups = describe(clients, vec![filter("group-id", id)]).await?;
    let group = groups.into_iter().find(|group| environment_of(&group.name).is_some());
    let Some(group) = group else {
        let what = format!("there is no security group {id} of an environment in {}", clients.region);
        return Err(ProviderError::failed(what, NextStep::Doctor.text(" lists those without a record")));
    };
    if has_members(clients, &group).await? {
        let what = format!(
            "machines of an environment are in the security group {id}, which is deleted with the last of them"
        );
        return Err(ProviderError::failed(what, NextStep::Doctor.text(" lists machines without a record")));
    }
    let details = Details { region: Some(clients.region.clone()), ..Details::default() };
    Ok(Adopted {
        id: None,
        name: None,
        resources: vec![(RESOURCE.to_owned(), group.name)],
        endpoints: Some(RecordedVm::new(None, details).into()),
    })
}

/// The group of an environment in a VPC.
struct EnvironmentGroup<'a> {
    clients: &'a Clients,
    environment: &'a VmName,
    id: &'a EnvironmentId,
    vpc: &'a str,
}

impl EnvironmentGroup<'_> {
    /// Unique, since others may have an environment of the same name in this VPC.
    fn name(&self) -> String {
        format!("goloo-{}-{}", self.environment, self.id)
    }

    /// Makes the group, if it doesn't exist, and puts an interface into it.
    async fn join(&self, interface: &Interface) -> Result<String, AwsError> {
        let found = groups(self.clients, self.id, Some(self.vpc)).await?.pop();
        let (id, is_open) = match found {
            Some(found) => (found.id, found.is_open),
            None => (self.create().await?, false),
        };
        if !is_open {
            self.open(&id).await?;
        }
        if !interface.groups.contains(&id) {
            self.attach(&id, interface).await?;
        }
        Ok(id)
    }

    async fn create(&self) -> Result<String, AwsError> {
        const ACTION: &str = "ec2:CreateSecurityGroup";
        let name = self.name();
        let (environment, id) = (self.environment.as_str(), self.id.as_str());
        let tags = [("Name", name.as_str()), (tags::ENVIRONMENT, environment), (tags::ENVIRONMENT_ID, id)];
        let tags = TagSpecification::builder()
            .resource_type(ResourceType::SecurityGroup)
            .set_tags(Some(tags::to_ec2(&tags)))
            .build();
        let request = self
            .clients
            .ec2
            .create_security_group()
            .group_name(&name)
            .description(format!("Between the machines of the goloo environment {environment}"))
            .vpc_id(self.vpc)
            .tag_specifications(tags);
        let answer = request.send().await.map_err(|error| AwsError::of(ACTION, &error))?;
        answer.group_id.ok_or_else(|| AwsError::NoAnswer {
            action: ACTION,
            detail: "the response contains no id".to_owned(),
        })
    }

    /// Lets the group's machines reach each other.
    async fn open(&self, group: &str) -> Result<(), AwsError> {
        let source = UserIdGroupPair::builder().group_id(group).build();
        let rule = IpPermission::builder().ip_protocol(ALL).user_id_group_pairs(source).build();
        let request = self.clients.ec2.authorize_security_group_ingress().group_id(group);
        let answer = request.ip_permissions(rule).send().await;
        match answer.map_err(|error| AwsError::of("ec2:AuthorizeSecurityGroupIngress", &error)) {
            Err(error) if error.code() != Some("InvalidPermission.Duplicate") => Err(error),
            _ => Ok(()),
        }
    }

    async fn attach(&self, group: &str, interface: &Interface) -> Result<(), AwsError> {
        let request = self.clients.ec2.modify_network_interface_attribute();
        let groups = interface.groups.iter().cloned().chain([group.to_owned()]).collect();
        let answer = request.network_interface_id(&interface.id).set_groups(Some(groups)).send().await;
        answer.map(drop).map_err(|error| AwsError::of("ec2:ModifyNetworkInterfaceAttribute", &error))
    }
}

/// A group that exists.
struct FoundGroup {
    id: String,
    name: String,
    /// Whether its machines reach each other.
    is_open: bool,
}

impl FoundGroup {
    fn of(group: &Ec2Group) -> Option<Self> {
        let id = group.group_id()?;
        let is_own = |rule: &IpPermission| {
            let mut sources = rule.user_id_group_pairs().iter();
            rule.ip_protocol() == Some(ALL) && sources.any(|source| source.group_id() == Some(id))
        };
        let name = group.group_name().unwrap_or(id).to_owned();
        Some(Self { id: id.to_owned(), name, is_open: group.ip_permissions().iter().any(is_own) })
    }
}

impl From<FoundGroup> for Orphan {
    /// Its name in lower case, which a VM can have.
    fn from(group: FoundGroup) -> Self {
        let name = group.name.to_ascii_lowercase();
        Self { name, id: group.id, state: LiveState::Missing, ours: true }
    }
}

/// The groups of an environment in a region, or in one VPC of it. Only goloo sets their tags.
async fn groups(
    clients: &Clients,
    id: &EnvironmentId,
    vpc: Option<&str>,
) -> Result<Vec<FoundGroup>, AwsError> {
    let tagged = filter(&format!("tag:{}", tags::ENVIRONMENT_ID), id.as_str());
    describe(clients, std::iter::once(tagged).chain(vpc.map(|vpc| filter("vpc-id", vpc))).collect()).await
}

async fn describe(clients: &Clients, filters: Vec<Filter>) -> Result<Vec<FoundGroup>, AwsError> {
    let request = clients.ec2.describe_security_groups().set_filters(Some(filters));
    let answer = request.send().await.map_err(|error| AwsError::of("ec2:DescribeSecurityGroups", &error))?;
    Ok(answer.security_groups().iter().filter_map(FoundGroup::of).collect())
}

fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

enum Removal {
    /// It no longer exists.
    Done,
    /// Other machines are in it: the last of them removes it.
    HasMembers,
    /// EC2 refuses, although no machine is in it.
    InUse,
}

async fn remove(clients: &Clients, group: &FoundGroup) -> Result<Removal, AwsError> {
    if has_members(clients, group).await? {
        return Ok(Removal::HasMembers);
    }
    let request = clients.ec2.delete_security_group().group_id(&group.id);
    match request.send().await.map_err(|error| AwsError::of("ec2:DeleteSecurityGroup", &error)) {
        Ok(_) => Ok(Removal::Done),
        Err(error) if error.code() == Some("InvalidGroup.NotFound") => Ok(Removal::Done),
        Err(error) if error.code() == Some("DependencyViolation") => Ok(Removal::InUse),
        Err(error) => Err(error),
    }
}

/// Whether an instance is in the group. One that is being terminated isn't: its VM may be deleted by now.
async fn has_members(clients: &Clients, group: &FoundGroup) -> Result<bool, AwsError> {
    let request = clients.ec2.describe_network_interfaces().filters(filter("group-id", &group.id));
    let answer =
        request.send().await.map_err(|error| AwsError::of("ec2:DescribeNetworkInterfaces", &error))?;
    let interfaces = answer.network_interfaces().iter().filter_map(|interface| interface.attachment());
    let ids: Vec<String> =
        interfaces.filter_map(|attachment| attachment.instance_id().map(str::to_owned)).collect();
    let instances = instances::describe(clients, Which::Ids(ids)).await?;
    Ok(instances.iter().any(|instance| instance.state != State::Terminated))
}
