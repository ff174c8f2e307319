//! Resources with goloo's tags that no record refers to, and creating records for them.

use std::collections::BTreeSet;

use goloo_model::access::Address;
use goloo_model::hint::NextStep;
use goloo_model::name::{VmId, VmName};
use goloo_model::provider::{Adopted, LiveState, Orphan, ProviderError};
use goloo_model::record::Record;

use crate::arn::StackArn;
use crate::context::AwsProvider;
use crate::design::STACK_PREFIX;
use crate::details::{Details, RecordedVm};
use crate::dns::{self, Zone};
use crate::environment_group;
use crate::error::AwsError;
use crate::instances::{self, Instance, State, Which};
use crate::resource_ref::{self, ResourceRef};
use crate::session::Clients;
use crate::stack::{self, Stack};
use crate::stage::Stage;
use crate::tags;
use crate::template::output;

/// All of goloo's VMs and security groups of environments that none of `known` refers to, in the current region and in
/// every region named by a record.
pub(crate) async fn find(provider: &AwsProvider, known: &[&Record]) -> Result<Vec<Orphan>, ProviderError> {
    // A machine is known by its record's id, too, where the record can't be read.
    let leads: Vec<ResourceRef> = known.iter().flat_map(|record| ResourceRef::of(record)).collect();
    let mut regions: BTreeSet<&str> =
        leads.iter().map(|resource_ref| provider.region(resource_ref)).collect();
    regions.insert(&provider.settings.region);
    let ids: BTreeSet<&str> = known.iter().map(|record| record.id.as_str()).collect();
    let mut orphans = Vec::new();
    for region in regions {
        let clients = provider.session.clients(region).await;
        orphans.extend(in_region(provider, &clients, &ids, &leads).await?);
        orphans.extend(environment_group::left_behind(&clients, known).await?);
    }
    orphans.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(orphans)
}

async fn in_region(
    provider: &AwsProvider,
    clients: &Clients,
    ids: &BTreeSet<&str>,
    leads: &[ResourceRef],
) -> Result<Vec<Orphan>, AwsError> {
    let is_known = |instance: &Instance| {
        leads.iter().any(|resource_ref| resource_ref.instance.as_ref() == Some(&instance.id))
    };
    let mut instances = instances::describe(clients, Which::AnyTagged(tags::ID)).await?;
    instances.retain(|instance| {
        instance.state != State::Terminated
            && !is_known(instance)
            && instance.vm_id().is_some_and(|id| !ids.contains(id))
    });
    let with_instance: BTreeSet<&str> = instances.iter().filter_map(Instance::vm_id).collect();
    let stacks = provider.stacks(clients).all().await?;
    // A stack that failed, or whose instance terminated itself, has no instance that identifies it.
    let bare = stacks.iter().filter(|stack| {
        let id = tags::value(&stack.tags, tags::ID);
        stack.stage != Stage::Gone && id.is_some_and(|id| !ids.contains(id) && !with_instance.contains(id))
    });
    let mut orphans: Vec<Orphan> = bare.map(of_stack).collect();
    orphans.extend(instances.iter().map(of_instance));
    Ok(orphans)
}

fn of_instance(instance: &Instance) -> Orphan {
    let name = tags::value(&instance.tags, tags::NAME).unwrap_or(&instance.id);
    Orphan { name: name.to_owned(), id: instance.id.clone(), state: instance.state.live(), ours: true }
}

fn of_stack(stack: &Stack) -> Orphan {
    let name = tags::value(&stack.tags, tags::NAME).unwrap_or(&stack.arn.name);
    Orphan { name: name.to_owned(), id: stack.arn.to_string(), state: LiveState::Missing, ours: true }
}

/// Adopts the instance with this id, or goloo's only one with this name. A stack without an instance is adopted by its
/// ARN, and the security group of an environment by its id, so that they can be deleted.
pub(crate) async fn adopt(
    provider: &AwsProvider,
    name: &VmName,
    id: Option<&str>,
) -> Result<Adopted, ProviderError> {
    if let Some(text) = id.filter(|id| id.starts_with("arn:")) {
        let arn = StackArn::parse(text).ok_or_else(|| ProviderError::Unsupported {
            what: format!("{text} isn't the ARN of a CloudFormation stack"),
            hint: NextStep::Doctor.text(" lists the VMs that can be adopted; use --id i-... for an instance"),
        })?;
        return adopt_stack(provider, &arn).await;
    }
    let clients = provider.session.clients(&provider.settings.region).await;
    if let Some(group) = id.filter(|id| id.starts_with("sg-")) {
        return environment_group::adopt(&clients, group).await;
    }
    let which = match id {
        Some(id) => Which::Ids(vec![id.to_owned()]),
        None => Which::Tagged(tags::NAME, vec![name.to_string()]),
    };
    let mut found = instances::describe(&clients, which).await?;
    found.retain(|instance| instance.state != State::Terminated);
    let [instance] = &found[..] else {
        let what = match (found.len(), id) {
            (0, Some(id)) => format!("there is no instance {id} in {}", clients.region),
            (0, None) => format!("there is no instance \"{name}\" of goloo in {}", clients.region),
            (count, _) => format!("{count} instances of goloo in {} are named \"{name}\"", clients.region),
        };
        let hint = NextStep::Doctor
            .text(" lists them; choose one with --id i-..., or another region with AWS_REGION");
        return Err(ProviderError::failed(what, hint));
    };
    match stack_of(provider, &clients, instance).await? {
        Some(stack) => with_names(provider, instance, &stack, &clients.region).await,
        None => Ok(adopted(instance, None, recorded(instance, None, &clients.region))),
    }
}

/// The VM of a stack, with the data in the stack. Also works for a stack whose instance no longer exists, so that it
/// can be deleted.
async fn adopt_stack(provider: &AwsProvider, arn: &StackArn) -> Result<Adopted, ProviderError> {
    provider.check_account(&ResourceRef { stack: Some(arn.clone()), instance: None, region: None }).await?;
    let clients = provider.session.clients(&arn.region).await;
    let stack = provider.stacks(&clients).find(&arn.to_ask()).await?;
    let ours =
        stack.filter(|stack| stack.stage != Stage::Gone && tags::value(&stack.tags, tags::ID).is_some());
    let stack = ours.ok_or_else(|| {
        ProviderError::failed(
            format!("there is no stack {} of goloo in {}", arn.name, arn.region),
            NextStep::Doctor.text(" lists the stacks without a record"),
        )
    })?;
    let instance = match stack.outputs.get(output::INSTANCE) {
        Some(id) => instances::one(&clients, id).await?,
        None => None,
    };
    let Some(instance) = instance else {
        let id = tags::value(&stack.tags, tags::ID).and_then(|id| VmId::parse(id).ok());
        let resources = vec![(stack::RESOURCE.to_owned(), stack.arn.to_string())];
        return Ok(Adopted { id, name: machine_name(&stack), resources, endpoints: None });
    };
    with_names(provider, &instance, &stack, &clients.region).await
}

/// The VM of a stack, with the names that the stack was made with, as far as they point to the VM, or to nothing
/// because it is stopped.
async fn with_names(
    provider: &AwsProvider,
    instance: &Instance,
    stack: &Stack,
    region: &str,
) -> Result<Adopted, ProviderError> {
    let mut vm = recorded(instance, Some(stack), region);
    let mut adopted = adopted(instance, Some(stack), vm.clone());
    let names: Vec<&String> = stack.dns_notes().collect();
    adopted.resources.extend(names.into_iter().map(|id| (dns::RESOURCE.to_owned(), id.clone())));
    let noted = adopted.resources.iter().filter(|(kind, _)| kind == dns::RESOURCE);
    let Some((zone, names)) = dns::in_notes(noted.map(|(_, id)| id.as_str())) else { return Ok(adopted) };
    let client = provider.session.route53().await;
    let last_address = stack.outputs.get(output::ADDRESS).map_or("", String::as_str);
    let records = Zone::new(&client, &zone).records_of(&names, instance, last_address).await?;
    vm.fqdn = names
        .first()
        .filter(|own| records.iter().any(|known| known.name == own.name))
        .map(|own| own.name.clone());
    (vm.details.zone_id, vm.details.dns_records) = (Some(zone), records);
    Ok(Adopted { endpoints: Some(vm.into()), ..adopted })
}

/// The stack that created an instance, if it is one of goloo's.
async fn stack_of(
    provider: &AwsProvider,
    clients: &Clients,
    instance: &Instance,
) -> Result<Option<Stack>, AwsError> {
    let Some(id) = instance.vm_id() else { return Ok(None) };
    let by_cloudformation = tags::value(&instance.tags, "aws:cloudformation:stack-id").map(str::to_owned);
    let by_name = tags::value(&instance.tags, tags::NAME).map(|name| format!("{STACK_PREFIX}{name}"));
    let Some(to_ask) = by_cloudformation.or(by_name) else { return Ok(None) };
    let stack = provider.stacks(clients).find(&to_ask).await?;
    Ok(stack.filter(|stack| stack.has_tag(tags::ID, id)))
}

fn recorded(instance: &Instance, stack: Option<&Stack>, region: &str) -> RecordedVm {
    let details = Details {
        stack_name: stack.map(|stack| stack.arn.name.clone()),
        stack_id: stack.map(|stack| stack.arn.to_string()),
        instance_id: Some(instance.id.clone()),
        region: Some(region.to_owned()),
        instance_type: instance.kind.clone(),
        ami_id: instance.ami.clone(),
        security_group_id: instance.security_group.clone(),
        vpc_id: instance.vpc.clone(),
        subnet_id: instance.subnet.clone(),
        ..Details::default()
    };
    RecordedVm::new(instance.address().and_then(|ip| Address::parse(ip).ok()), details)
}

/// The name that a machine had when its stack was created.
fn machine_name(stack: &Stack) -> Option<VmName> {
    stack.arn.name.strip_prefix(STACK_PREFIX).and_then(|name| VmName::parse(name).ok())
}

fn adopted(instance: &Instance, stack: Option<&Stack>, vm: RecordedVm) -> Adopted {
    let resource = match stack {
        Some(stack) => (stack::RESOURCE.to_owned(), stack.arn.to_string()),
        None => (resource_ref::INSTANCE.to_owned(), instance.id.clone()),
    };
    Adopted {
        id: stack.and_then(|_| instance.vm_id()).and_then(|id| VmId::parse(id).ok()),
        name: stack.and_then(machine_name),
        resources: vec![resource],
        endpoints: Some(vm.into()),
    }
}
