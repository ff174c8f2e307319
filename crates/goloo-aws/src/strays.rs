//! What carries goloo's tags and no record knows, and how a record is made for it.

use std::collections::BTreeSet;

use goloo_core::access::Address;
use goloo_core::name::{VmId, VmName};
use goloo_core::provider::{Adopted, LiveState, Made, ProviderError, Stray};
use goloo_core::record::{Aws, Record};

use crate::arn::StackArn;
use crate::details::Details;
use crate::dns::{self, Zone};
use crate::error::AwsError;
use crate::instances::{self, Instance, State, Which};
use crate::lead::{self, Lead};
use crate::provider::AwsProvider;
use crate::session::Clients;
use crate::stack::{self, Stack, Stage};
use crate::tags;
use crate::template::output;

/// All of goloo's VMs that none of `known` leads to, in every region that one of them names and in the
/// current one.
pub(crate) async fn find(provider: &AwsProvider, known: &[&Record]) -> Result<Vec<Stray>, ProviderError> {
    let leads: Vec<Lead> = known.iter().map(|record| Lead::of(record)).collect();
    let mut regions: BTreeSet<&str> = leads.iter().map(|lead| provider.region(lead)).collect();
    regions.insert(&provider.settings.region);
    let ids: BTreeSet<&str> = known.iter().map(|record| record.id.as_str()).collect();
    let mut strays = Vec::new();
    for region in regions {
        let clients = provider.session.clients(region).await;
        strays.extend(in_region(provider, &clients, &ids, &leads).await?);
    }
    strays.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(strays)
}

async fn in_region(
    provider: &AwsProvider,
    clients: &Clients,
    ids: &BTreeSet<&str>,
    leads: &[Lead],
) -> Result<Vec<Stray>, AwsError> {
    let is_known =
        |instance: &Instance| leads.iter().any(|lead| lead.instance.as_ref() == Some(&instance.id));
    let mut instances = instances::describe(clients, Which::AnyTagged(tags::ID)).await?;
    instances.retain(|instance| {
        instance.state != State::Terminated
            && !is_known(instance)
            && instance.vm_id().is_some_and(|id| !ids.contains(id))
    });
    let with_instance: BTreeSet<&str> = instances.iter().filter_map(Instance::vm_id).collect();
    let stacks = provider.stacks(clients).all().await?;
    // A stack that failed, or whose instance ended itself, has no instance that leads to it.
    let bare = stacks.iter().filter(|stack| {
        let id = tags::value(&stack.tags, tags::ID);
        stack.stage != Stage::Gone && id.is_some_and(|id| !ids.contains(id) && !with_instance.contains(id))
    });
    let mut strays: Vec<Stray> = bare.map(of_stack).collect();
    strays.extend(instances.iter().map(of_instance));
    Ok(strays)
}

fn of_instance(instance: &Instance) -> Stray {
    let name = tags::value(&instance.tags, tags::NAME).unwrap_or(&instance.id);
    Stray { name: name.to_owned(), id: instance.id.clone(), state: instance.state.live(), ours: true }
}

fn of_stack(stack: &Stack) -> Stray {
    let name = tags::value(&stack.tags, tags::NAME).unwrap_or(&stack.arn.name);
    Stray { name: name.to_owned(), id: stack.arn.to_string(), state: LiveState::Missing, ours: true }
}

/// The instance of this id, or the only one of goloo's with this name; a stack without an instance by
/// its ARN, so that it can be deleted.
pub(crate) async fn adopt(
    provider: &AwsProvider,
    name: &VmName,
    id: Option<&str>,
) -> Result<Adopted, ProviderError> {
    if let Some(text) = id.filter(|id| id.starts_with("arn:")) {
        let arn = StackArn::parse(text).ok_or_else(|| ProviderError::Unsupported {
            what: format!("{text} isn't the ARN of a CloudFormation stack"),
            hint: "goloo doctor lists what can be adopted; --id i-… adopts an instance".to_owned(),
        })?;
        return adopt_stack(provider, &arn).await;
    }
    let clients = provider.session.clients(&provider.settings.region).await;
    let which = match id {
        Some(id) => Which::Ids(vec![id.to_owned()]),
        None => Which::Tagged(tags::NAME, vec![name.to_string()]),
    };
    let mut found = instances::describe(&clients, which).await?;
    found.retain(|instance| instance.state != State::Terminated);
    let [instance] = &found[..] else {
        let what = match (found.len(), id) {
            (0, Some(id)) => format!("there is no instance {id} in {}", clients.region),
            (0, None) => format!("goloo made no instance \"{name}\" in {}", clients.region),
            (count, _) => format!("{count} instances in {} are goloo's \"{name}\"", clients.region),
        };
        let hint = "goloo doctor lists them; --id i-… picks one; AWS_REGION looks elsewhere";
        return Err(ProviderError::failed(what, hint));
    };
    let stack = stack_of(provider, &clients, instance).await?;
    let adopted = adopted(instance, stack.as_ref(), &clients.region);
    match stack {
        Some(stack) => with_names(provider, adopted, instance, &stack).await,
        None => Ok(adopted),
    }
}

/// The VM of a stack, with what the stack tells of it; a stack whose instance is gone too, so that it can be
/// deleted.
async fn adopt_stack(provider: &AwsProvider, arn: &StackArn) -> Result<Adopted, ProviderError> {
    provider.check_account(&Lead { stack: Some(arn.clone()), instance: None, region: None }).await?;
    let clients = provider.session.clients(&arn.region).await;
    let stack = provider.stacks(&clients).find(&arn.to_ask()).await?;
    let ours =
        stack.filter(|stack| stack.stage != Stage::Gone && tags::value(&stack.tags, tags::ID).is_some());
    let stack = ours.ok_or_else(|| {
        ProviderError::failed(
            format!("goloo has no stack {} in {}", arn.name, arn.region),
            "goloo doctor lists those that no record knows",
        )
    })?;
    let instance = match stack.outputs.get(output::INSTANCE) {
        Some(id) => instances::one(&clients, id).await?,
        None => None,
    };
    let Some(instance) = instance else {
        let id = tags::value(&stack.tags, tags::ID).and_then(|id| VmId::parse(id).ok());
        let resources = vec![(stack::RESOURCE.to_owned(), stack.arn.to_string())];
        return Ok(Adopted { id, resources, made: None });
    };
    let adopted = adopted(&instance, Some(&stack), &clients.region);
    with_names(provider, adopted, &instance, &stack).await
}

/// With the names that the stack was made with, as far as they point to the VM, or to nothing because it is
/// stopped.
async fn with_names(
    provider: &AwsProvider,
    mut adopted: Adopted,
    instance: &Instance,
    stack: &Stack,
) -> Result<Adopted, ProviderError> {
    let names: Vec<&String> = stack.dns_notes().collect();
    let Some(Made::Aws(aws)) = adopted.made.as_mut().filter(|_| !names.is_empty()) else {
        return Ok(adopted);
    };
    adopted.resources.extend(names.into_iter().map(|id| (dns::RESOURCE.to_owned(), id.clone())));
    let noted = adopted.resources.iter().filter(|(kind, _)| kind == dns::RESOURCE);
    let Some((zone, names)) = dns::in_notes(noted.map(|(_, id)| id.as_str())) else { return Ok(adopted) };
    let client = provider.session.route53().await;
    let last_address = stack.outputs.get(output::ADDRESS).map_or("", String::as_str);
    let records = Zone::new(&client, &zone).records_of(&names, instance, last_address).await?;
    aws.fqdn = names
        .first()
        .filter(|own| records.iter().any(|known| known.name == own.name))
        .map(|own| own.name.clone());
    let details = Details { zone_id: Some(zone), dns_records: records, ..Details::of(aws) };
    aws.extra = details.into_extra();
    Ok(adopted)
}

/// The stack that made an instance, when it is one of goloo's.
async fn stack_of(
    provider: &AwsProvider,
    clients: &Clients,
    instance: &Instance,
) -> Result<Option<Stack>, AwsError> {
    let Some(id) = instance.vm_id() else { return Ok(None) };
    let by_cloudformation = tags::value(&instance.tags, "aws:cloudformation:stack-id").map(str::to_owned);
    let by_name = tags::value(&instance.tags, tags::NAME).map(|name| format!("goloo-{name}"));
    let Some(to_ask) = by_cloudformation.or(by_name) else { return Ok(None) };
    let stack = provider.stacks(clients).find(&to_ask).await?;
    Ok(stack.filter(|stack| stack.has_tag(tags::ID, id)))
}

fn adopted(instance: &Instance, stack: Option<&Stack>, region: &str) -> Adopted {
    let details = Details {
        region: Some(region.to_owned()),
        instance_type: instance.kind.clone(),
        ami_id: instance.ami.clone(),
        security_group_id: instance.security_group.clone(),
        vpc_id: instance.vpc.clone(),
        subnet_id: instance.subnet.clone(),
        ..Details::default()
    };
    let aws = Aws {
        stack_name: stack.map(|stack| stack.arn.name.clone()),
        stack_id: stack.map(|stack| stack.arn.to_string()),
        instance_id: Some(instance.id.clone()),
        public_ip: instance.address().and_then(|ip| Address::parse(ip).ok()),
        fqdn: None,
        extra: details.into_extra(),
    };
    let resource = match stack {
        Some(stack) => (stack::RESOURCE.to_owned(), stack.arn.to_string()),
        None => (lead::INSTANCE.to_owned(), instance.id.clone()),
    };
    Adopted {
        id: stack.and_then(|_| instance.vm_id()).and_then(|id| VmId::parse(id).ok()),
        resources: vec![resource],
        made: Some(Made::Aws(aws)),
    }
}
