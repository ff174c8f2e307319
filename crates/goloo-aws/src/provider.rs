//! The provider: one CloudFormation stack for each VM.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use goloo_model::access::Address;
use goloo_model::events::{Event, Events};
use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::VmName;
use goloo_model::provider::{
    Adopted, Bakes, Capabilities, Changes, ConsolePiece, DnsNames, Endpoints, HostnameAtBoot, LiveState,
    Machine, Networks, Observation, Orphan, Provider, ProviderError, ProviderPlan, StopMode, Work,
};
use goloo_model::provider_info::ProviderInfo;
use goloo_model::record::{OperationKind, Record};
use goloo_model::spec::SshSource;

use crate::ami::Ami;
use crate::ami_check;
use crate::arn::StackArn;
use crate::baked_images;
use crate::checkip;
use crate::context::AwsProvider;
use crate::design::{self, Design};
use crate::details::{Details, DnsRecord, RecordedVm};
use crate::dns::{self, Name, Zone};
use crate::environment_group;
use crate::error::AwsError;
use crate::factory::INFO;
use crate::instances::{self, Instance, InstanceRef, State, Which};
use crate::network;
use crate::orphan;
use crate::publish::ForeignNames;
use crate::record_type::RecordType;
use crate::resource_ref::ResourceRef;
use crate::retry;
use crate::session::Clients;
use crate::site::Site;
use crate::stack::{self, Making, Stack, StackOrder};
use crate::stage::Stage;
use crate::tags;
use crate::template::{self, Placement, VmTemplate, output, parameter};
use crate::user_data::HiddenUserData;
use crate::zones;

impl AwsProvider {
    /// Whether tags prove that a resource is the record's VM: only someone with permissions in AWS can set them. An
    /// untrusted record may contain an id copied from another VM, so there the name must match too.
    fn identifies(&self, tags: &[(String, String)], record: &Record) -> bool {
        let has = |key: &str, value: &str| tags::value(tags, key) == Some(value);
        has(tags::ID, record.id.as_str())
            && (self.settings.trust.is_trusted(record) || has(tags::NAME, record.name.as_str()))
    }

    /// The instance that a record refers to.
    pub(crate) async fn instance(
        &self,
        clients: &Clients,
        record: &Record,
    ) -> Result<Instance, ProviderError> {
        let which = match ResourceRef::of(record)?.instance {
            Some(id) => Which::Ids(vec![id]),
            None => Which::Tagged(tags::ID, vec![record.id.to_string()]),
        };
        let found = instances::describe(clients, which).await?;
        let there = found.into_iter().find(|instance| instance.state != State::Terminated);
        let there = there.ok_or_else(|| {
            ProviderError::failed(
                "the instance no longer exists",
                NextStep::Delete(record.name.clone()).text(" removes its remaining resources"),
            )
        })?;
        if !self.identifies(&there.tags, record) && !self.settings.trust.is_trusted(record) {
            return Err(not_shown(clients, &there.id, record));
        }
        Ok(there)
    }
}

/// An instance referenced by a record that someone else may have written.
fn not_shown(clients: &Clients, instance: &str, record: &Record) -> ProviderError {
    let region = &clients.region;
    ProviderError::failed(
        format!(
            "nothing proves that the instance {instance} is \"{}\": it isn't tagged with its ID, and the record wasn't created with this state folder",
            record.name
        ),
        format!(
            "if it is, tag it: aws ec2 create-tags --region {region} --resources {instance} --tags Key={},Value={} Key={},Value={}",
            tags::ID,
            record.id,
            tags::NAME,
            record.name
        ),
    )
}

#[async_trait]
impl Provider for AwsProvider {
    fn info(&self) -> &'static ProviderInfo {
        &INFO
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { console: true, suspend: false }
    }

    fn plan(&self, machine: &Machine) -> Result<ProviderPlan, ProviderError> {
        Design::of(machine, &self.settings)?.plan(machine)
    }

    async fn public_address(&self) -> Result<Option<IpAddr>, ProviderError> {
        checkip::ask(&self.settings).await.map(Some)
    }

    async fn create(&self, machine: &Machine, work: &mut dyn Work) -> Result<Endpoints, ProviderError> {
        let mut design = Design::of(machine, &self.settings)?;
        work.step("checking the AWS account and the available zones");
        let planned = self.planned(machine, &design).await?;
        let clients = self.session.clients(&design.region).await;
        let zone = self.zone(machine).await?;
        let root_device = root_device(&clients, machine, &mut design, work).await?;
        let ssh_cidr = self.ssh_blocks(&machine.stack.ssh_cidr).await?;
        let dns = machine.stack.dns.as_ref().zip(zone.as_deref());
        let names = dns.map(|(dns, zone)| dns::notes(dns, zone)).unwrap_or_default();
        let sites = self.sites(machine, &design, &clients, work).await?;
        work.record_resource(stack::RESOURCE, &planned.to_string()).await?;
        let drawing = Drawing { machine, design: &design, planned: &planned, root_device, ssh_cidr, names };
        let (stack, site) = self.make(&drawing, &clients, sites, work).await?;
        let mut vm = recorded(&stack, machine, &design, &site, drawing.ssh_cidr)?;
        if let Some(zone) = zone {
            self.publish(machine, &zone, &mut vm, work).await?;
        }
        Ok(vm.into())
    }

    async fn delete(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        let resource_ref = ResourceRef::of(record)?;
        if !resource_ref.is_known() && !environment_group::is_recorded(record) {
            return Ok(());
        }
        self.check_account(&resource_ref).await?;
        let clients = self.session.clients(self.region(&resource_ref)).await;
        let stack = self.own_stack(&clients, &resource_ref, record).await?;
        self.withdraw(&clients, record, stack.as_ref(), work).await?;
        if let Some(stack) = &stack {
            work.step(&format!("removing the stack {} in {}", stack.arn.name, stack.arn.region));
            let token = record.operation.as_ref().map(|operation| operation.id.as_str());
            self.stacks(&clients).remove(stack, token, work).await?;
        }
        if let (None, Some(instance)) = (&resource_ref.stack, &resource_ref.instance) {
            self.end_instance(&clients, instance, record, work).await?;
        }
        self.remove_unused_groups(&clients, record, work).await?;
        offer_network(&clients, record, work).await;
        Ok(())
    }

    async fn start(&self, record: &Record, work: &mut dyn Work) -> Result<Endpoints, ProviderError> {
        let resource_ref = ResourceRef::of(record)?;
        self.check_account(&resource_ref).await?;
        let clients = self.session.clients(self.region(&resource_ref)).await;
        let instance = self.instance(&clients, record).await?;
        let instance = self.power_on(&clients, &record.name, instance, work).await?;
        let mut vm = RecordedVm::of(record)?;
        let old =
            std::mem::replace(&mut vm.public_ip, instance.address().and_then(|ip| Address::parse(ip).ok()));
        vm.details.instance_id = Some(instance.id);
        self.follow(record, &mut vm, old, work).await.map_err(|error| names_behind(&record.name, error))?;
        Ok(vm.into())
    }

    async fn stop(&self, record: &Record, mode: StopMode, work: &mut dyn Work) -> Result<(), ProviderError> {
        refuse_to_stop_spot(record)?;
        if mode == StopMode::Suspend {
            return Err(ProviderError::Unsupported {
                what: "goloo's instances in AWS can't be suspended".to_owned(),
                hint: NextStep::stop(&record.name).text(" keeps the disk, but not the memory"),
            });
        }
        let resource_ref = ResourceRef::of(record)?;
        self.check_account(&resource_ref).await?;
        let clients = self.session.clients(self.region(&resource_ref)).await;
        let instance = self.instance(&clients, record).await?;
        let mut vm = RecordedVm::of(record)?;
        let stopped = if instance.state == State::Stopped {
            instance
        } else {
            self.begin_stop(&clients, &record.name, &instance, mode == StopMode::Force, work).await?;
            // Before the address goes back to AWS. A failure here is retried and reported once the VM is off.
            match self.release_address(record, &mut vm, &instance, work).await {
                Err(error) if leaves_work(&error) => return Err(error),
                _ => {}
            }
            self.finish_stop(&clients, InstanceRef { vm: &record.name, id: &instance.id }, work).await?
        };
        match self.release_address(record, &mut vm, &stopped, work).await {
            // Its names are updated as soon as it is running again.
            Err(error) if starts_again(record) && !leaves_work(&error) => {
                work.events().event(Event::Warning(error.to_string()));
                Ok(())
            }
            done => done.map_err(|error| names_left(record, error)),
        }
    }

    /// The tags of the instance: a colleague's goloo compares one of them with the record's name.
    async fn show_new_name(&self, record: &Record, name: &VmName) -> Result<HostnameAtBoot, ProviderError> {
        let resource_ref = ResourceRef::of(record)?;
        self.check_account(&resource_ref).await?;
        let clients = self.session.clients(self.region(&resource_ref)).await;
        let instance = match self.instance(&clients, record).await {
            // An interrupted attempt may have changed them.
            Err(_) => self.instance(&clients, &record.with_name(name)).await,
            found => found,
        }?;
        let changed = instances::tag(&clients, &instance.id, &tags::of_name(name)).await;
        changed.map(|()| HostnameAtBoot::Unchanged).map_err(|error| {
            let tags = tags::of_name(name).map(|(key, value)| format!("Key={key},Value={value}")).join(" ");
            let (region, id) = (&clients.region, &instance.id);
            ProviderError::caused(
                format!("the tags of the instance {id} still have the old name"),
                format!("aws ec2 create-tags --region {region} --resources {id} --tags {tags}"),
                error,
            )
        })
    }

    async fn observe(&self, records: &[&Record]) -> Vec<Observation> {
        let (mut leads, mut seen) = (Vec::new(), Vec::new());
        for record in records {
            let (resource_ref, observation) = match ResourceRef::of(record) {
                Ok(resource_ref) => (resource_ref, Observation::of(LiveState::Missing)),
                Err(error) => (ResourceRef::unknown(), Observation::unknown(error.to_string())),
            };
            leads.push(resource_ref);
            seen.push(observation);
        }
        let mut regions: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, resource_ref) in
            leads.iter().enumerate().filter(|(_, resource_ref)| resource_ref.is_known())
        {
            regions.entry(self.region(resource_ref)).or_default().push(index);
        }
        for (region, indices) in regions {
            let clients = self.session.clients(region).await;
            match self.look_at(&clients, &indices, records, &leads).await {
                Ok(there) => {
                    for (index, observation) in there {
                        seen[index] = observation;
                    }
                }
                Err(error) => {
                    for index in indices {
                        seen[index] = Observation::unknown(error.to_string());
                    }
                }
            }
        }
        seen
    }

    async fn console(&self, record: &Record, offset: u64) -> Result<ConsolePiece, ProviderError> {
        let resource_ref = ResourceRef::of(record)?;
        let clients = self.session.clients(self.region(&resource_ref)).await;
        let id = match resource_ref.instance {
            Some(id) => id,
            None => self.instance(&clients, record).await?.id,
        };
        Ok(ConsolePiece::of(&instances::console(&clients, &id).await?, offset))
    }

    async fn orphans(&self, known: &[&Record]) -> Result<Vec<Orphan>, ProviderError> {
        orphan::find(self, known).await
    }

    async fn adopt(&self, name: &VmName, id: Option<&str>) -> Result<Adopted, ProviderError> {
        orphan::adopt(self, name, id).await
    }

    fn networks(&self) -> Option<&dyn Networks> {
        Some(self)
    }

    fn dns(&self) -> Option<&dyn DnsNames> {
        Some(self)
    }

    fn changes(&self) -> Option<&dyn Changes> {
        Some(self)
    }

    fn bakes(&self) -> Option<&dyn Bakes> {
        Some(self)
    }
}

/// Helpers of create.
impl AwsProvider {
    /// The planned ARN of the VM's stack.
    async fn planned(&self, machine: &Machine, design: &Design) -> Result<StackArn, ProviderError> {
        let identity = self.session.identity().await?;
        Ok(StackArn {
            partition: identity.partition.clone(),
            region: design.region.clone(),
            account: identity.account.clone(),
            name: design::stack_name(machine),
            unique: None,
        })
    }

    /// The zone of the stack's names, looked up before anything is created, so that a nonexistent domain costs nothing.
    async fn zone(&self, machine: &Machine) -> Result<Option<String>, ProviderError> {
        match &machine.stack.dns {
            Some(dns) => Ok(Some(dns::zone(&self.session.route53().await, dns).await?)),
            None => Ok(None),
        }
    }

    /// The CIDR blocks that may reach port 22. Create records this computer's address before it starts; a record from
    /// an older goloo may have none.
    pub(crate) async fn ssh_blocks(&self, sources: &[SshSource]) -> Result<Vec<String>, ProviderError> {
        let mut blocks: Vec<String> = Vec::new();
        for source in sources {
            let block = match source {
                SshSource::Me => SshSource::of_address(checkip::ask(&self.settings).await?).to_string(),
                SshSource::Cidr(block) => block.clone(),
            };
            if !blocks.contains(&block) {
                blocks.push(block);
            }
        }
        Ok(blocks)
    }

    /// The possible sites of the instance, in the order in which they are tried.
    async fn sites(
        &self,
        machine: &Machine,
        design: &Design,
        clients: &Clients,
        work: &mut dyn Work,
    ) -> Result<Vec<Site>, ProviderError> {
        let found = network::find(clients, &machine.stack).await?;
        let offer = zones::offer(clients, &design.instance_type).await?;
        let sites = match found {
            Some(sites) => sites,
            None => {
                let (stacks, identity) = (self.stacks(clients), self.session.identity().await?);
                network::ensure_shared(&stacks, identity, &offer, machine.token.as_str(), work).await?
            }
        };
        let sites = offer.keep(sites)?;
        if let Some(Site { subnet, .. }) = sites.iter().find(|site| !site.subnet.public) {
            work.events().event(Event::Warning(format!(
                "the subnet {} isn't public: the VM is only reachable at its address in the VPC {}",
                subnet.id, subnet.vpc
            )));
        }
        Ok(sites)
    }

    /// Creates the stack at the first site whose zone has capacity for the instance. The stack always has the same
    /// name, so a failed one is removed before the next site is tried.
    async fn make(
        &self,
        drawing: &Drawing<'_>,
        clients: &Clients,
        sites: Vec<Site>,
        work: &mut dyn Work,
    ) -> Result<(Stack, Site), ProviderError> {
        let (stacks, machine, planned) = (self.stacks(clients), drawing.machine, drawing.planned);
        let user_data = HiddenUserData::of(&machine.user_data);
        let mut tried = Vec::new();
        let mut sites = sites.into_iter().peekable();
        while let Some(site) = sites.next() {
            let zone = site.subnet.zone.clone().unwrap_or_else(|| planned.region.clone());
            work.step(&format!("creating the stack {} in {zone}", planned.name));
            let order = StackOrder {
                planned,
                body: drawing.body(site.place)?,
                parameters: parameters(&drawing.design.ami, &site),
                user_data: Some(&user_data),
                earlier: work.recorded_resource(stack::RESOURCE).and_then(StackArn::parse),
                tags: tags::of(machine),
                mark: (tags::ID, machine.id.as_str()),
                token: machine.token.as_str(),
                keep_failed: machine.keep_failed,
            };
            let arn = stacks.ensure(&order, work).await?;
            work.record_resource(stack::RESOURCE, &arn.to_string()).await?;
            match stacks.wait_created(&arn, work).await? {
                Making::Failed { stack, failure } if failure.is_of_the_zone && sites.peek().is_some() => {
                    work.events().event(Event::Warning(format!("{}; trying the next zone", failure.what)));
                    tried.push(zone);
                    stacks.remove(&stack, None, work).await?;
                }
                Making::Failed { failure, .. } if failure.is_of_the_zone => {
                    tried.push(zone);
                    return Err(no_room(&failure.what, &tried));
                }
                making => return Ok((making.into_stack()?, site)),
            }
        }
        Err(no_room("there is no subnet to try", &tried))
    }

    async fn publish(
        &self,
        machine: &Machine,
        zone: &str,
        vm: &mut RecordedVm,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let (Some(dns), Some(address)) = (&machine.stack.dns, vm.public_ip.clone()) else { return Ok(()) };
        let wanted = dns::wanted(dns, &address);
        let client = self.session.route53().await;
        let foreign = match (machine.force_dns, machine.is_replacement) {
            (true, _) => ForeignNames::Replace,
            (false, true) => ForeignNames::StayForNow,
            (false, false) => ForeignNames::Stay,
        };
        let made = Zone::new(&client, zone).publish(&machine.name, &wanted, foreign, work).await?;
        let own = wanted.first().filter(|own| made.contains(own));
        vm.fqdn = own.map(|own| own.name.clone());
        (vm.details.zone_id, vm.details.dns_records) = (Some(zone.to_owned()), made);
        Ok(())
    }
}

/// The parts of a VM's stack that are the same at every site.
struct Drawing<'a> {
    machine: &'a Machine,
    design: &'a Design,
    planned: &'a StackArn,
    root_device: String,
    ssh_cidr: Vec<String>,
    names: Vec<String>,
}

impl Drawing<'_> {
    /// The template for a site.
    fn body(&self, place: Placement) -> Result<String, ProviderError> {
        let template = VmTemplate {
            machine: self.machine,
            ami: &self.design.ami,
            root_device: &self.root_device,
            instance_type: &self.design.instance_type,
            ssh_cidr: &self.ssh_cidr,
            place,
            names: &self.names,
        };
        template::body(&template.value())
    }
}

/// The device name of the AMI's root volume. A published or baked AMI is replaced by its id.
async fn root_device(
    clients: &Clients,
    machine: &Machine,
    design: &mut Design,
    work: &mut dyn Work,
) -> Result<String, ProviderError> {
    match &design.ami {
        Ami::Newest { root_device, .. } => Ok((*root_device).to_owned()),
        Ami::Published { owner, name, .. } => {
            let image = (*owner, name.as_str());
            let (id, root_device) =
                ami_check::find_published(clients, image, design, machine.stack.disk).await?;
            design.ami = Ami::Given(id);
            Ok(root_device)
        }
        Ami::Given(id) => ami_check::check_given(clients, id, design, machine.stack.disk, work).await,
        Ami::Baked => {
            let id = baked_ami(clients, machine).await?;
            let root_device = ami_check::check_given(clients, &id, design, machine.stack.disk, work).await?;
            design.ami = Ami::Given(id);
            Ok(root_device)
        }
    }
}

/// The baked image that a machine is made from.
async fn baked_ami(clients: &Clients, machine: &Machine) -> Result<String, ProviderError> {
    let found = match &machine.baked {
        Some(key) => baked_images::newest(clients, key).await?,
        None => None,
    };
    found.map(|image| image.id).ok_or_else(|| {
        ProviderError::failed(
            format!("the baked image of the stack {} was removed meanwhile", machine.stack.stack),
            NextStep::Delete(machine.name.clone()).text(", then create it again"),
        )
    })
}

/// No zone that was tried had capacity for the instance.
fn no_room(what: &str, tried: &[String]) -> ProviderError {
    ProviderError::failed(
        format!("{what} (tried: {})", tried.join(", ")),
        "run the same command again later, or set another vm.instance_type or vm.region",
    )
}

fn parameters(ami: &Ami, site: &Site) -> Vec<(String, String)> {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut parameters =
        vec![pair(parameter::IMAGE, ami.parameter_value()), pair(parameter::SUBNET, &site.subnet.id)];
    if let Placement::Subnet { .. } = site.place {
        parameters.push(pair(parameter::VPC, &site.subnet.vpc));
    }
    parameters
}

/// What the record is to say of the VM, from the stack's outputs.
fn recorded(
    stack: &Stack,
    machine: &Machine,
    design: &Design,
    site: &Site,
    ssh_cidr: Vec<String>,
) -> Result<RecordedVm, ProviderError> {
    let output = |key: &str| stack.outputs.get(key).filter(|value| !value.is_empty()).cloned();
    let incomplete = || {
        ProviderError::failed(
            format!("the stack {} exists, but doesn't report its instance", stack.arn.name),
            format!(
                "aws cloudformation describe-stacks --region {} --stack-name {} shows its outputs",
                stack.arn.region, stack.arn.name
            ),
        )
    };
    let details = Details {
        stack_name: Some(stack.arn.name.clone()),
        stack_id: Some(stack.arn.to_string()),
        instance_id: Some(output(output::INSTANCE).ok_or_else(incomplete)?),
        region: Some(stack.arn.region.clone()),
        instance_type: Some(design.instance_type.clone()),
        ami_id: output(output::IMAGE),
        security_group_id: output(output::SECURITY_GROUP),
        vpc_id: Some(output(output::VPC).unwrap_or_else(|| site.subnet.vpc.clone())),
        subnet_id: Some(output(output::SUBNET).unwrap_or_else(|| site.subnet.id.clone())),
        created_vpc: site.place == Placement::SharedNetwork,
        spot: machine.stack.spot,
        ttl_seconds: machine.stack.ttl,
        ssh_cidr,
        ..Details::default()
    };
    Ok(RecordedVm::new(output(output::ADDRESS).and_then(|ip| Address::parse(&ip).ok()), details))
}

/// Helpers of delete.
impl AwsProvider {
    /// The VM's stack, if it exists and belongs to this VM.
    pub(crate) async fn own_stack(
        &self,
        clients: &Clients,
        resource_ref: &ResourceRef,
        record: &Record,
    ) -> Result<Option<Stack>, ProviderError> {
        let Some(arn) = &resource_ref.stack else { return Ok(None) };
        let stacks = self.stacks(clients);
        let mut found = stacks.find(&arn.to_ask()).await?;
        if arn.unique.is_some() && found.as_ref().is_none_or(|stack| stack.stage == Stage::Gone) {
            // An interrupted create may have made a second stack, in the next zone, before it could record that.
            let second = stacks.find(&arn.name).await?;
            found = second.filter(|stack| stack.has_tag(tags::ID, record.id.as_str())).or(found);
        }
        let Some(stack) = found else { return Ok(None) };
        match tags::value(&stack.tags, tags::ID) {
            Some(_) if self.identifies(&stack.tags, record) => Ok(Some(stack)),
            Some(_) if self.has_renamed_instance(clients, &stack, record).await? => Ok(Some(stack)),
            // A stack of an older goloo, named in its config.
            None if arn.unique.is_some()
                && record.origin.is_some()
                && self.settings.trust.is_proven(record) =>
            {
                Ok(Some(stack))
            }
            // The planned name belongs to another VM: this VM's stack was never created.
            _ if arn.unique.is_none() => Ok(None),
            other => Err(not_this_vms(arn, other.is_some(), record)),
        }
    }

    /// Whether the stack is the VM's by the tags of its instance: those of the stack keep the name that the VM had when it
    /// was created.
    async fn has_renamed_instance(
        &self,
        clients: &Clients,
        stack: &Stack,
        record: &Record,
    ) -> Result<bool, ProviderError> {
        let Some(id) =
            stack.outputs.get(output::INSTANCE).filter(|_| stack.has_tag(tags::ID, record.id.as_str()))
        else {
            return Ok(false);
        };
        let instance = instances::one(clients, id).await?;
        Ok(instance.is_some_and(|instance| self.identifies(&instance.tags, record)))
    }

    /// Withdraws the VM's names before its address is reassigned.
    async fn withdraw(
        &self,
        clients: &Clients,
        record: &Record,
        stack: Option<&Stack>,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let details = Details::of(record)?;
        let Some((zone, mut names)) = dns::noted(record, &details) else { return Ok(()) };
        if !self.settings.trust.is_trusted(record) {
            let of_stack = stack.map(|stack| stack_names(stack, &zone)).unwrap_or_default();
            names.retain(|name| of_stack.contains(name));
        }
        let in_names = details.dns_records.iter().filter_map(DnsRecord::address).map(str::to_owned);
        let in_record = record.address().map(Address::to_string);
        // The stack knows only the first address, which may have been reassigned by now.
        let of_create = stack.filter(|_| Endpoints::of(record) == Endpoints::default());
        let in_stack = of_create.and_then(|stack| stack.outputs.get(output::ADDRESS).cloned());
        // An interrupted start may have changed the address without updating the record.
        let which = Which::Tagged(tags::ID, vec![record.id.to_string()]);
        let live = instances::describe(clients, which).await?;
        let live = live.iter().filter_map(|instance| instance.address().map(str::to_owned));
        // The address in an untrusted record may belong to anyone.
        let is_trusted = self.settings.trust.is_trusted(record);
        let on_record = in_names.chain(in_record).filter(|_| is_trusted);
        let addresses: BTreeSet<String> = on_record.chain(in_stack).chain(live).collect();
        let client = self.session.route53().await;
        Zone::new(&client, &zone).withdraw(&names, &addresses, work).await
    }

    async fn end_instance(
        &self,
        clients: &Clients,
        id: &str,
        record: &Record,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let Some(instance) = instances::one(clients, id).await? else { return Ok(()) };
        if !self.identifies(&instance.tags, record) && !self.settings.trust.is_proven(record) {
            return Err(not_shown(clients, id, record));
        }
        work.step(&format!("terminating the instance {id}"));
        instances::terminate(clients, id).await?;
        while instances::one(clients, id).await?.is_some() {
            retry::pause(self.settings.pace.then, work).await?;
        }
        Ok(())
    }
}

/// The names in this zone that the stack was created with.
fn stack_names(stack: &Stack, zone: &str) -> BTreeSet<Name> {
    let in_notes = dns::in_notes(stack.dns_notes().map(String::as_str));
    in_notes.filter(|(of, _)| of == zone).map(|(_, names)| names.into_iter().collect()).unwrap_or_default()
}

/// A stack that isn't the record's, or can't be proven to be.
fn not_this_vms(arn: &StackArn, has_other_id: bool, record: &Record) -> ProviderError {
    let (name, region) = (&arn.name, &arn.region);
    if has_other_id || record.origin.is_none() {
        return ProviderError::failed(
            format!("the stack {name} in {region} isn't this VM's"),
            format!(
                "aws cloudformation describe-stacks --region {region} --stack-name {name} shows its owner"
            ),
        );
    }
    ProviderError::failed(
        format!(
            "nothing proves that the stack {name} in {region} is \"{}\": it isn't tagged with its ID, and the record wasn't created with this state folder",
            record.name
        ),
        format!(
            "if it is, tag it: aws cloudformation update-stack --region {region} --stack-name {name} --use-previous-template --capabilities CAPABILITY_IAM --tags Key={},Value={} Key={},Value={}",
            tags::ID,
            record.id,
            tags::NAME,
            record.name
        ),
    )
}

/// Reports when the shared network's last VM is deleted. The network costs nothing and speeds up the next create in the
/// region, so it stays until the user removes it.
async fn offer_network(clients: &Clients, record: &Record, work: &mut dyn Work) {
    let used = record.resources.iter().any(|resource| resource.kind == network::SHARED);
    if used && network::is_unused(clients).await.unwrap_or(false) {
        let (name, region) = (network::SHARED, &clients.region);
        work.events().event(Event::Note(format!(
            "the shared network in {region} is no longer used by any VM; it costs nothing, and you can remove it: aws cloudformation delete-stack --stack-name {name} --region {region}"
        )));
    }
}

/// Helpers of start, stop and observe.
impl AwsProvider {
    async fn power_on(
        &self,
        clients: &Clients,
        vm: &VmName,
        instance: Instance,
        work: &mut dyn Work,
    ) -> Result<Instance, ProviderError> {
        let (id, pace) = (instance.id.clone(), self.settings.pace);
        let target = InstanceRef { vm, id: &id };
        if instance.state == State::Running {
            return Ok(instance);
        }
        work.step(&format!("starting the instance {id}"));
        if instance.state == State::Stopping {
            instances::wait_for(clients, target, State::Stopped, pace, work).await?;
        }
        if instance.state != State::Pending {
            instances::start(clients, &id).await?;
        }
        instances::wait_for(clients, target, State::Running, pace, work).await
    }

    /// Returns once AWS has accepted the request: from then on the instance is shutting down.
    pub(crate) async fn begin_stop(
        &self,
        clients: &Clients,
        vm: &VmName,
        instance: &Instance,
        force: bool,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let (id, pace) = (&instance.id, self.settings.pace);
        work.step(&format!("stopping the instance {id}"));
        if instance.state == State::Pending {
            instances::wait_for(clients, InstanceRef { vm, id }, State::Running, pace, work).await?;
        }
        if instance.state != State::Stopping || force {
            instances::stop(clients, id, force).await?;
        }
        Ok(())
    }

    pub(crate) async fn finish_stop(
        &self,
        clients: &Clients,
        target: InstanceRef<'_>,
        work: &mut dyn Work,
    ) -> Result<Instance, ProviderError> {
        let pace = self.settings.pace;
        // EC2 forces power off by itself after some minutes.
        let limit = work.power_down_limit(Duration::MAX);
        let stopped = instances::wait_for(clients, target, State::Stopped, pace, work);
        if let Ok(stopped) = tokio::time::timeout(limit, stopped).await {
            return stopped;
        }
        work.events().event(Event::Warning(format!(
            "the guest hasn't powered off within {} s; forcing power off",
            limit.as_secs()
        )));
        instances::stop(clients, target.id, true).await?;
        instances::wait_for(clients, target, State::Stopped, pace, work).await
    }

    /// Removes a stopping VM's address from its names and its record, unless the VM keeps the address: AWS reassigns
    /// it.
    async fn release_address(
        &self,
        record: &Record,
        vm: &mut RecordedVm,
        instance: &Instance,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let is_released = |address: &str| !instance.keeps(address);
        let mut then = vm.clone();
        let details = &vm.details;
        let is_named = details.dns_records.iter().filter_map(DnsRecord::address).any(is_released);
        let had = then.public_ip.take_if(|address| is_released(address));
        let live = instance.public_ip.as_deref();
        let may_follow = is_named && self.may_follow(record, details, live, work.events()).await?;
        if let (true, Some(zone)) = (may_follow, &details.zone_id) {
            let live = instance.public_ip.clone().filter(|address| is_released(address));
            let old = had.map(|ip| ip.to_string()).into_iter().chain(live).collect();
            let client = self.session.route53().await;
            then.details.dns_records =
                Zone::new(&client, zone).follow(&details.dns_records, &old, None, work).await?;
        }
        if *vm != then {
            work.save_addresses(then.clone().into()).await?;
            *vm = then;
        }
        Ok(())
    }

    /// Whether the recorded names may be changed. An untrusted record may claim any names in the zone together with
    /// their addresses: then only names that the VM's stack was created with count, and only if they are withdrawn or
    /// have the VM's own address.
    pub(crate) async fn may_follow(
        &self,
        record: &Record,
        details: &Details,
        live: Option<&str>,
        events: &dyn Events,
    ) -> Result<bool, ProviderError> {
        if self.settings.trust.is_trusted(record) {
            return Ok(true);
        }
        let resource_ref = ResourceRef::of(record)?;
        let clients = self.session.clients(self.region(&resource_ref)).await;
        let stack = self.own_stack(&clients, &resource_ref, record).await?;
        let zone = details.zone_id.as_deref().unwrap_or_default();
        let of_stack = stack.as_ref().map(|stack| stack_names(stack, zone)).unwrap_or_default();
        let is_safe = |known: &DnsRecord| {
            let name =
                RecordType::parse(&known.kind).map(|kind| Name { name: dns::normal(&known.name), kind });
            name.is_some_and(|name| of_stack.contains(&name))
                && known.address().is_none_or(|address| Some(address) == live)
        };
        if details.dns_records.iter().all(is_safe) {
            return Ok(true);
        }
        let names: Vec<&str> = details.dns_records.iter().map(|known| known.name.as_str()).collect();
        events.event(Event::Warning(format!(
            "the DNS names {} are left unchanged: the record of {} doesn't prove that they belong to it",
            names.join(", "),
            record.name
        )));
        let swap = NextStep::DnsSwap { to: Some(record.name.clone()), from: None, force: false };
        events.event(Event::Hint(swap.text(" asks for confirmation and moves them")));
        Ok(false)
    }

    /// Points the VM's names at its address. An interrupted start may have done that already.
    async fn follow(
        &self,
        record: &Record,
        vm: &mut RecordedVm,
        old: Option<Address>,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let details = &vm.details;
        let (Some(zone), Some(new)) = (&details.zone_id, &vm.public_ip) else { return Ok(()) };
        let is_there =
            |known: &DnsRecord| known.kind != RecordType::A.as_str() || known.address() == Some(new.as_str());
        if details.dns_records.iter().all(is_there) {
            return Ok(());
        }
        // Even if updating the names fails, this is the VM's address.
        work.save_addresses(vm.clone().into()).await?;
        if !self.may_follow(record, details, Some(new.as_str()), work.events()).await? {
            return Ok(());
        }
        let client = self.session.route53().await;
        let old = old.map(|ip| ip.to_string()).into_iter().collect();
        vm.details.dns_records =
            Zone::new(&client, zone).follow(&details.dns_records, &old, Some(new), work).await?;
        Ok(())
    }

    /// Observes one region's VMs with a single query.
    async fn look_at(
        &self,
        clients: &Clients,
        indices: &[usize],
        records: &[&Record],
        leads: &[ResourceRef],
    ) -> Result<Vec<(usize, Observation)>, AwsError> {
        let ids: Vec<String> = indices.iter().filter_map(|index| leads[*index].instance.clone()).collect();
        let without = indices.iter().filter(|index| leads[**index].instance.is_none());
        let vms: Vec<String> = without.map(|index| records[*index].id.to_string()).collect();
        let mut found = instances::describe(clients, Which::Ids(ids)).await?;
        found.extend(instances::describe(clients, Which::Tagged(tags::ID, vms)).await?);
        let there = instances::index(found);
        let mut seen = Vec::new();
        for index in indices {
            let (record, resource_ref) = (records[*index], &leads[*index]);
            let key = resource_ref.instance.as_deref().unwrap_or(record.id.as_str());
            seen.push((*index, self.observation(there.get(key), record, resource_ref).await));
        }
        Ok(seen)
    }

    async fn observation(
        &self,
        instance: Option<&Instance>,
        record: &Record,
        resource_ref: &ResourceRef,
    ) -> Observation {
        match instance {
            Some(Instance { state: State::Terminated, is_reclaimed, .. }) => Observation {
                reason: is_reclaimed.then(|| "AWS terminated the Spot Instance".to_owned()),
                ..Observation::of(LiveState::Missing)
            },
            Some(instance) => {
                let ip = instance.address().filter(|_| instance.state == State::Running).map(str::to_owned);
                let started_at = instance.launched_at.filter(|_| instance.state == State::Running);
                let seen = Observation { ip, started_at, ..Observation::of(instance.state.live()) };
                match dangling(record, instance) {
                    Some(reason) => Observation {
                        reason: Some(reason),
                        hint: NextStep::stop(&record.name).text(" withdraws it"),
                        ..seen
                    },
                    None => seen,
                }
            }
            // Another account's resources are invisible, which doesn't mean they are missing.
            None => match self.check_account(resource_ref).await {
                Ok(()) => Observation::of(LiveState::Missing),
                Err(error) => Observation::unknown(error.to_string()),
            },
        }
    }
}

/// What a VM's names still point at after it was stopped without goloo and its address went back to AWS.
fn dangling(record: &Record, instance: &Instance) -> Option<String> {
    let details = Details::of(record).ok()?;
    let is_dangling = |known: &&DnsRecord| known.address().is_some_and(|address| !instance.keeps(address));
    let dangling: Vec<&DnsRecord> = details.dns_records.iter().filter(is_dangling).collect();
    let first = dangling.first().filter(|_| instance.state == State::Stopped)?;
    Some(format!("by its record {}", still_points(&dangling, first)))
}

fn still_points(dangling: &[&DnsRecord], first: &DnsRecord) -> String {
    let names: Vec<&str> = dangling.iter().map(|known| known.name.as_str()).collect();
    let verb = if names.len() == 1 { "points" } else { "point" };
    format!("{} still {verb} to {}, which AWS may give to someone else", names.join(", "), first.value)
}

/// The VM is off, but its names still point at its former address.
fn names_left(record: &Record, error: ProviderError) -> ProviderError {
    let details = Details::of(record).unwrap_or_default();
    let named: Vec<&DnsRecord> =
        details.dns_records.iter().filter(|known| known.address().is_some()).collect();
    let Some(first) = named.first() else { return error };
    let what = format!("the VM is stopped, but {}", still_points(&named, first));
    with_context(error, &what, NextStep::stop(&record.name))
}

/// The VM is running, but its names don't point at it yet.
fn names_behind(name: &VmName, error: ProviderError) -> ProviderError {
    let again = NextStep::Start(name.clone());
    with_context(error, "the VM is running, but its names don't point to it", again)
}

/// Adds to an error what has succeeded nevertheless, and what to run once the cause is fixed.
fn with_context(error: ProviderError, context: &str, again: NextStep) -> ProviderError {
    let then_again = |hint: Hint| hint.text("; then run ").step(again).text(" again");
    match error {
        ProviderError::Permission { what, hint } => {
            ProviderError::Permission { what: format!("{context}: {what}"), hint: then_again(hint) }
        }
        ProviderError::Failed { what, hint, source } => {
            ProviderError::Failed { what: format!("{context}: {what}"), hint: then_again(hint), source }
        }
        other => other,
    }
}

/// Whether the operation starts the VM again after it has stopped it.
fn starts_again(record: &Record) -> bool {
    let kind = record.operation.as_ref().map(|operation| operation.kind);
    matches!(kind, Some(OperationKind::Restart | OperationKind::Apply))
}

/// Whether the operation is unfinished and will be resumed.
fn leaves_work(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Interrupted | ProviderError::Record(_))
}

/// EC2 can stop a Spot Instance only if its request is persistent; goloo's requests are one-time.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-spot-instances-request.html>
pub(crate) fn refuse_to_stop_spot(record: &Record) -> Result<(), ProviderError> {
    if !Details::of(record)?.spot {
        return Ok(());
    }
    let name = &record.name;
    Err(ProviderError::Unsupported {
        what: format!("{name} is a Spot Instance (vm.spot), which AWS can't stop"),
        hint: NextStep::Delete(name.clone())
            .text(" deletes it and its disk; ")
            .step(NextStep::Reboot(name.clone()))
            .text(" restarts it"),
    })
}
