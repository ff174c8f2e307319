//! The provider: one CloudFormation stack for each VM.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use goloo_core::access::Address;
use goloo_core::events::{Event, Events};
use goloo_core::name::VmName;
use goloo_core::provider::{
    Adopted, Capabilities, ConsolePiece, DnsNames, LiveState, Machine, Made, Observation, Provider,
    ProviderError, ProviderPlan, StopMode, Stray, Work,
};
use goloo_core::record::{Aws, OperationKind, ProviderKind, Record};
use goloo_core::spec::SshSource;

use crate::ami::{self, Ami};
use crate::arn::StackArn;
use crate::checkip;
use crate::design::{self, Design};
use crate::details::{Details, DnsRecord};
use crate::dns::{self, Kind, Name, Zone};
use crate::error::AwsError;
use crate::instances::{self, Instance, State, Which};
use crate::lead::Lead;
use crate::network::{self, Site};
use crate::session::{Clients, Session};
use crate::settings::Settings;
use crate::stack::{self, Making, Order, Stack, Stacks, Stage};
use crate::strays;
use crate::tags;
use crate::template::{self, Place, VmTemplate, output, parameter};
use crate::user_data::HiddenUserData;
use crate::zones;

/// AWS. Its futures need a tokio runtime with I/O and time.
#[derive(Debug)]
pub struct AwsProvider {
    pub(crate) settings: Arc<Settings>,
    pub(crate) session: Session,
}

impl AwsProvider {
    /// A provider; nothing is asked yet.
    pub fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Self { session: Session::new(Arc::clone(&settings)), settings }
    }

    pub(crate) fn stacks<'a>(&self, clients: &'a Clients) -> Stacks<'a> {
        Stacks { clients, pace: self.settings.pace }
    }

    /// The region that a record leads to.
    pub(crate) fn region<'a>(&'a self, lead: &'a Lead) -> &'a str {
        lead.region.as_deref().unwrap_or(&self.settings.region)
    }

    /// Refuses to act, or to believe that something is gone, with another account's credentials.
    pub(crate) async fn check_account(&self, lead: &Lead) -> Result<(), ProviderError> {
        let Some(account) = lead.account() else { return Ok(()) };
        let identity = self.session.identity().await?;
        if identity.account == account {
            return Ok(());
        }
        Err(ProviderError::Permission {
            what: format!("this VM is in the AWS account {account}, and {} isn't", identity.arn),
            hint: "take that account's credentials: AWS_PROFILE=… goloo …".to_owned(),
        })
    }

    /// Whether tags prove that a resource is the record's VM: only someone with rights in AWS can set them. The id of an
    /// untrusted record may be copied from another VM's, so there the name must match too.
    fn identifies(&self, tags: &[(String, String)], record: &Record) -> bool {
        let has = |key: &str, value: &str| tags::value(tags, key) == Some(value);
        has(tags::ID, record.id.as_str())
            && (self.settings.trust.is_trusted(record) || has(tags::NAME, record.name.as_str()))
    }

    /// The instance that a record leads to.
    async fn instance(&self, clients: &Clients, record: &Record) -> Result<Instance, ProviderError> {
        let which = match Lead::of(record).instance {
            Some(id) => Which::Ids(vec![id]),
            None => Which::Tagged(tags::ID, vec![record.id.to_string()]),
        };
        let found = instances::describe(clients, which).await?;
        let there = found.into_iter().find(|instance| instance.state != State::Terminated);
        let there = there.ok_or_else(|| {
            ProviderError::failed(
                "the instance isn't there any more",
                format!("goloo delete {} removes what is left of it", record.name),
            )
        })?;
        if !self.identifies(&there.tags, record) && !self.settings.trust.is_trusted(record) {
            return Err(not_shown(&there.id, record));
        }
        Ok(there)
    }
}

/// An instance to which a record leads that somebody else may have written.
fn not_shown(instance: &str, record: &Record) -> ProviderError {
    ProviderError::failed(
        format!(
            "nothing shows that the instance {instance} is \"{}\": it doesn't carry its id, and the record wasn't made with this state folder",
            record.name
        ),
        format!(
            "if it is, say so in AWS: aws ec2 create-tags --resources {instance} --tags Key={},Value={} Key={},Value={}",
            tags::ID,
            record.id,
            tags::NAME,
            record.name
        ),
    )
}

#[async_trait]
impl Provider for AwsProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Aws
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

    async fn create(&self, machine: &Machine, work: &mut dyn Work) -> Result<Made, ProviderError> {
        let design = Design::of(machine, &self.settings)?;
        work.step("asking AWS who this is and where the instance can be");
        let planned = self.planned(machine, &design).await?;
        let clients = self.session.clients(&design.region).await;
        let zone = self.zone(machine).await?;
        let root_device = root_device(&clients, machine, &design, work).await?;
        let ssh_cidr = self.ssh_blocks(machine).await?;
        let dns = machine.stack.dns.as_ref().zip(zone.as_deref());
        let names = dns.map(|(dns, zone)| dns::notes(dns, zone)).unwrap_or_default();
        let sites = self.sites(machine, &design, &clients, work).await?;
        work.made(stack::RESOURCE, &planned.to_string()).await?;
        let drawing = Drawing { machine, design: &design, planned: &planned, root_device, ssh_cidr, names };
        let (stack, site) = self.make(&drawing, &clients, sites, work).await?;
        let mut aws = section(&stack, machine, &design, &site, drawing.ssh_cidr)?;
        if let Some(zone) = zone {
            self.publish(machine, &zone, &mut aws, work).await?;
        }
        Ok(Made::Aws(aws))
    }

    async fn delete(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        let lead = Lead::of(record);
        if !lead.leads_somewhere() {
            return Ok(());
        }
        self.check_account(&lead).await?;
        let clients = self.session.clients(self.region(&lead)).await;
        let stack = self.own_stack(&clients, &lead, record).await?;
        self.withdraw(&clients, record, stack.as_ref(), work).await?;
        if let Some(stack) = &stack {
            work.step(&format!("removing the stack {} in {}", stack.arn.name, stack.arn.region));
            let token = record.operation.as_ref().map(|operation| operation.id.as_str());
            self.stacks(&clients).remove(stack, token, work).await?;
        }
        if let (None, Some(instance)) = (&lead.stack, &lead.instance) {
            self.end_instance(&clients, instance, record, work).await?;
        }
        offer_network(&clients, record, work).await;
        Ok(())
    }

    async fn start(&self, record: &Record, work: &mut dyn Work) -> Result<Made, ProviderError> {
        let lead = Lead::of(record);
        self.check_account(&lead).await?;
        let clients = self.session.clients(self.region(&lead)).await;
        let instance = self.instance(&clients, record).await?;
        let instance = self.power_on(&clients, instance, work).await?;
        let mut aws = record.aws.clone().unwrap_or_default();
        let old =
            std::mem::replace(&mut aws.public_ip, instance.address().and_then(|ip| Address::parse(ip).ok()));
        aws.instance_id = Some(instance.id);
        self.follow(record, &mut aws, old, work).await.map_err(|error| names_behind(&record.name, error))?;
        Ok(Made::Aws(aws))
    }

    async fn stop(&self, record: &Record, mode: StopMode, work: &mut dyn Work) -> Result<(), ProviderError> {
        refuse_to_stop_spot(record)?;
        if mode == StopMode::Suspend {
            return Err(ProviderError::Unsupported {
                what: "goloo's instances in AWS can't be suspended".to_owned(),
                hint: format!("goloo stop {} keeps the disk; the memory is lost", record.name),
            });
        }
        let lead = Lead::of(record);
        self.check_account(&lead).await?;
        let clients = self.session.clients(self.region(&lead)).await;
        let instance = self.instance(&clients, record).await?;
        let mut aws = record.aws.clone().unwrap_or_default();
        let stopped = if instance.state == State::Stopped {
            instance
        } else {
            self.begin_stop(&clients, &instance, mode == StopMode::Force, work).await?;
            // Before the address goes back to AWS; what fails here is tried again, and said, when the VM is off.
            match self.release_address(record, &mut aws, &instance, work).await {
                Err(error) if leaves_work(&error) => return Err(error),
                _ => {}
            }
            self.finish_stop(&clients, &instance.id, work).await?
        };
        match self.release_address(record, &mut aws, &stopped, work).await {
            // Its names follow as soon as it is up again.
            Err(error) if is_restart(record) && !leaves_work(&error) => {
                work.events().event(Event::Warning(error.to_string()));
                Ok(())
            }
            done => done.map_err(|error| names_left(record, error)),
        }
    }

    async fn observe(&self, records: &[&Record]) -> Vec<Observation> {
        let leads: Vec<Lead> = records.iter().map(|record| Lead::of(record)).collect();
        let mut seen: Vec<Observation> = records.iter().map(|_| observed(LiveState::Missing)).collect();
        let mut regions: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, lead) in leads.iter().enumerate().filter(|(_, lead)| lead.leads_somewhere()) {
            regions.entry(self.region(lead)).or_default().push(index);
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
                        seen[index] = unknown(error.to_string());
                    }
                }
            }
        }
        seen
    }

    async fn console(&self, record: &Record, offset: u64) -> Result<ConsolePiece, ProviderError> {
        let lead = Lead::of(record);
        let clients = self.session.clients(self.region(&lead)).await;
        let id = match lead.instance {
            Some(id) => id,
            None => self.instance(&clients, record).await?.id,
        };
        Ok(ConsolePiece::of(&instances::console(&clients, &id).await?, offset))
    }

    async fn strays(&self, known: &[&Record]) -> Result<Vec<Stray>, ProviderError> {
        strays::find(self, known).await
    }

    async fn adopt(&self, name: &VmName, id: Option<&str>) -> Result<Adopted, ProviderError> {
        strays::adopt(self, name, id).await
    }

    fn dns(&self) -> Option<&dyn DnsNames> {
        Some(self)
    }
}

/// Parts of a create.
impl AwsProvider {
    /// What the VM's stack is going to be called.
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

    /// The zone of the stack's names: looked up before anything is made, so that a domain which isn't
    /// there costs nothing.
    async fn zone(&self, machine: &Machine) -> Result<Option<String>, ProviderError> {
        match &machine.stack.dns {
            Some(dns) => Ok(Some(dns::zone(&self.session.route53().await, dns).await?)),
            None => Ok(None),
        }
    }

    /// Who may reach port 22. A create notes this computer's address before it begins; one of an older goloo
    /// may have noted none.
    async fn ssh_blocks(&self, machine: &Machine) -> Result<Vec<String>, ProviderError> {
        let mut blocks: Vec<String> = Vec::new();
        for source in &machine.stack.ssh_cidr {
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

    /// Where the instance can be, in the order in which that is tried.
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
                "the internet doesn't lead to the subnet {}: the VM is reached by its address in the VPC {}",
                subnet.id, subnet.vpc
            )));
        }
        Ok(sites)
    }

    /// Makes the stack at the first site whose zone has room for the instance. The stack is always called the
    /// same, so one that failed is removed before the next site is tried.
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
            work.step(&format!("making the stack {} in {zone}", planned.name));
            let order = Order {
                planned,
                body: drawing.body(site.place)?,
                parameters: parameters(&drawing.design.ami, &site),
                user_data: Some(&user_data),
                earlier: work.noted(stack::RESOURCE).and_then(StackArn::parse),
                tags: tags::of(machine),
                mark: (tags::ID, machine.id.as_str()),
                token: machine.token.as_str(),
                keep_failed: machine.keep_failed,
            };
            let arn = stacks.ensure(&order, work).await?;
            work.made(stack::RESOURCE, &arn.to_string()).await?;
            match stacks.wait_created(&arn, work).await? {
                Making::Failed { stack, failure } if failure.is_of_the_zone && sites.peek().is_some() => {
                    work.events().event(Event::Warning(format!("{}; the next zone is tried", failure.what)));
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
        aws: &mut Aws,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let (Some(dns), Some(address)) = (&machine.stack.dns, aws.public_ip.clone()) else { return Ok(()) };
        let wanted = dns::wanted(dns, &address);
        let client = self.session.route53().await;
        let made = Zone::new(&client, zone).publish(&wanted, machine.force_dns, work).await?;
        let own = wanted.first().filter(|own| made.contains(own));
        aws.fqdn = own.map(|own| own.name.clone());
        let details = Details { zone_id: Some(zone.to_owned()), dns_records: made, ..Details::of(aws) };
        aws.extra = details.into_extra();
        Ok(())
    }
}

/// A VM's stack, worked out as far as it is the same at every site.
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
    fn body(&self, place: Place) -> Result<String, ProviderError> {
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

/// What the AMI's root volume is called.
async fn root_device(
    clients: &Clients,
    machine: &Machine,
    design: &Design,
    work: &mut dyn Work,
) -> Result<String, ProviderError> {
    match &design.ami {
        Ami::Newest { root_device, .. } => Ok((*root_device).to_owned()),
        Ami::Given(id) => ami::check_given(clients, id, design, machine.stack.disk, work).await,
    }
}

/// No zone that was tried could make the instance.
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
    if let Place::Subnet { .. } = site.place {
        parameters.push(pair(parameter::VPC, &site.subnet.vpc));
    }
    parameters
}

/// The record's section, from the stack's outputs.
fn section(
    stack: &Stack,
    machine: &Machine,
    design: &Design,
    site: &Site,
    ssh_cidr: Vec<String>,
) -> Result<Aws, ProviderError> {
    let output = |key: &str| stack.outputs.get(key).filter(|value| !value.is_empty()).cloned();
    let incomplete = || {
        ProviderError::failed(
            format!("the stack {} is there and doesn't say which instance it made", stack.arn.name),
            "aws cloudformation describe-stacks shows what it says",
        )
    };
    let details = Details {
        region: Some(stack.arn.region.clone()),
        instance_type: Some(design.instance_type.clone()),
        ami_id: output(output::IMAGE),
        security_group_id: output(output::SECURITY_GROUP),
        vpc_id: Some(output(output::VPC).unwrap_or_else(|| site.subnet.vpc.clone())),
        subnet_id: Some(output(output::SUBNET).unwrap_or_else(|| site.subnet.id.clone())),
        created_vpc: site.place == Place::SharedNetwork,
        spot: machine.stack.spot,
        ttl_seconds: machine.stack.ttl,
        ssh_cidr,
        ..Details::default()
    };
    Ok(Aws {
        stack_name: Some(stack.arn.name.clone()),
        stack_id: Some(stack.arn.to_string()),
        instance_id: Some(output(output::INSTANCE).ok_or_else(incomplete)?),
        public_ip: output(output::ADDRESS).and_then(|ip| Address::parse(&ip).ok()),
        fqdn: None,
        extra: details.into_extra(),
    })
}

/// Parts of a delete.
impl AwsProvider {
    /// The VM's stack, when it is there and this VM's.
    async fn own_stack(
        &self,
        clients: &Clients,
        lead: &Lead,
        record: &Record,
    ) -> Result<Option<Stack>, ProviderError> {
        let Some(arn) = &lead.stack else { return Ok(None) };
        let stacks = self.stacks(clients);
        let mut found = stacks.find(&arn.to_ask()).await?;
        if arn.unique.is_some() && found.as_ref().is_none_or(|stack| stack.stage == Stage::Gone) {
            // A create that died may have made a second one, in the next zone, before it could note that.
            let second = stacks.find(&arn.name).await?;
            found = second.filter(|stack| stack.has_tag(tags::ID, record.id.as_str())).or(found);
        }
        let Some(stack) = found else { return Ok(None) };
        match tags::value(&stack.tags, tags::ID) {
            Some(_) if self.identifies(&stack.tags, record) => Ok(Some(stack)),
            // An older goloo's stack, which its config named.
            None if arn.unique.is_some()
                && record.origin.is_some()
                && self.settings.trust.is_proven(record) =>
            {
                Ok(Some(stack))
            }
            // The planned name belongs to another VM: this one's stack was never made.
            _ if arn.unique.is_none() => Ok(None),
            other => Err(not_this_vms(arn, other.is_some(), record)),
        }
    }

    /// Takes the VM's names away before its address goes to someone else.
    async fn withdraw(
        &self,
        clients: &Clients,
        record: &Record,
        stack: Option<&Stack>,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let Some((zone, mut names)) = dns::noted(record) else { return Ok(()) };
        if !self.settings.trust.is_trusted(record) {
            let of_stack = stack.map(|stack| stack_names(stack, &zone)).unwrap_or_default();
            names.retain(|name| of_stack.contains(name));
        }
        let details = record.aws.as_ref().map(Details::of).unwrap_or_default();
        let in_names = details.dns_records.iter().filter_map(DnsRecord::address).map(str::to_owned);
        let in_record = record.aws.as_ref().and_then(|aws| aws.public_ip.as_ref()).map(Address::to_string);
        // The stack knows the first address alone, which by now may be someone else's.
        let of_create = stack.filter(|_| record.aws.is_none());
        let in_stack = of_create.and_then(|stack| stack.outputs.get(output::ADDRESS).cloned());
        // A start that died may have changed the address without a trace in the record.
        let which = Which::Tagged(tags::ID, vec![record.id.to_string()]);
        let live = instances::describe(clients, which).await?;
        let live = live.iter().filter_map(|instance| instance.address().map(str::to_owned));
        // What a record of others calls the VM's address may be anybody's.
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
            return Err(not_shown(id, record));
        }
        work.step(&format!("ending the instance {id}"));
        instances::terminate(clients, id).await?;
        while instances::one(clients, id).await?.is_some() {
            stack::pause(self.settings.pace.then, work).await?;
        }
        Ok(())
    }
}

/// The names in this zone that a stack was made with.
fn stack_names(stack: &Stack, zone: &str) -> BTreeSet<Name> {
    let in_notes = dns::in_notes(stack.dns_notes().map(String::as_str));
    in_notes.filter(|(of, _)| of == zone).map(|(_, names)| names.into_iter().collect()).unwrap_or_default()
}

/// A stack that isn't the record's, or doesn't show that it is.
fn not_this_vms(arn: &StackArn, has_other_id: bool, record: &Record) -> ProviderError {
    let (name, region) = (&arn.name, &arn.region);
    if has_other_id || record.origin.is_none() {
        return ProviderError::failed(
            format!("the stack {name} in {region} isn't this VM's"),
            "aws cloudformation describe-stacks shows whose it is",
        );
    }
    ProviderError::failed(
        format!(
            "nothing shows that the stack {name} in {region} is \"{}\": it doesn't carry its id, and the record wasn't made with this state folder",
            record.name
        ),
        format!(
            "if it is, say so in AWS: aws cloudformation update-stack --region {region} --stack-name {name} --use-previous-template --capabilities CAPABILITY_IAM --tags Key={},Value={} Key={},Value={}",
            tags::ID,
            record.id,
            tags::NAME,
            record.name
        ),
    )
}

/// Says so when the shared network has lost its last VM. It costs nothing, and the next VM in the
/// region is quicker with it, so it stays until someone says otherwise.
async fn offer_network(clients: &Clients, record: &Record, work: &mut dyn Work) {
    let used = record.resources.iter().any(|resource| resource.kind == network::SHARED);
    if used && network::is_unused(clients).await.unwrap_or(false) {
        let (name, region) = (network::SHARED, &clients.region);
        work.events().event(Event::Note(format!(
            "no VM uses the shared network in {region} any more; it costs nothing, and this removes it: aws cloudformation delete-stack --stack-name {name} --region {region}"
        )));
    }
}

/// Parts of start, stop and observe.
impl AwsProvider {
    async fn power_on(
        &self,
        clients: &Clients,
        instance: Instance,
        work: &mut dyn Work,
    ) -> Result<Instance, ProviderError> {
        let (id, pace) = (instance.id.clone(), self.settings.pace);
        if instance.state == State::Running {
            return Ok(instance);
        }
        work.step(&format!("starting the instance {id}"));
        if instance.state == State::Stopping {
            instances::wait_for(clients, &id, State::Stopped, pace, work).await?;
        }
        if instance.state != State::Pending {
            instances::start(clients, &id).await?;
        }
        instances::wait_for(clients, &id, State::Running, pace, work).await
    }

    /// Until AWS has taken the order: from then on the instance goes down.
    async fn begin_stop(
        &self,
        clients: &Clients,
        instance: &Instance,
        force: bool,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let (id, pace) = (&instance.id, self.settings.pace);
        work.step(&format!("stopping the instance {id}"));
        if instance.state == State::Pending {
            instances::wait_for(clients, id, State::Running, pace, work).await?;
        }
        if instance.state != State::Stopping || force {
            instances::stop(clients, id, force).await?;
        }
        Ok(())
    }

    async fn finish_stop(
        &self,
        clients: &Clients,
        id: &str,
        work: &mut dyn Work,
    ) -> Result<Instance, ProviderError> {
        let pace = self.settings.pace;
        // EC2 cuts the power by itself, after some minutes.
        let limit = work.power_down_limit(Duration::MAX);
        let stopped = instances::wait_for(clients, id, State::Stopped, pace, work);
        if let Ok(stopped) = tokio::time::timeout(limit, stopped).await {
            return stopped;
        }
        work.events().event(Event::Warning(format!(
            "the guest hasn't powered off within {} s; forcing power off",
            limit.as_secs()
        )));
        instances::stop(clients, id, true).await?;
        instances::wait_for(clients, id, State::Stopped, pace, work).await
    }

    /// Takes the address of a VM that is being stopped out of its names and its record, unless it keeps it: AWS
    /// gives it to someone else.
    async fn release_address(
        &self,
        record: &Record,
        aws: &mut Aws,
        instance: &Instance,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let is_released = |address: &str| !instance.keeps(address);
        let details = Details::of(aws);
        let is_named = details.dns_records.iter().filter_map(DnsRecord::address).any(is_released);
        let mut then = aws.clone();
        let had = then.public_ip.take_if(|address| is_released(address));
        let live = instance.public_ip.as_deref();
        let may_follow = is_named && self.may_follow(record, &details, live, work.events()).await?;
        if let (true, Some(zone)) = (may_follow, &details.zone_id) {
            let live = instance.public_ip.clone().filter(|address| is_released(address));
            let old = had.map(|ip| ip.to_string()).into_iter().chain(live).collect();
            let client = self.session.route53().await;
            let followed = Zone::new(&client, zone).follow(&details.dns_records, &old, None, work).await?;
            then.extra = Details { dns_records: followed, ..details }.into_extra();
        }
        if *aws != then {
            work.save_addresses(Made::Aws(then.clone())).await?;
            *aws = then;
        }
        Ok(())
    }

    /// Whether the names on record may be changed. An untrusted record may claim any names of the zone, with the address
    /// that they have: then only names that the VM's stack was made with count, at the VM's own address or withdrawn.
    async fn may_follow(
        &self,
        record: &Record,
        details: &Details,
        live: Option<&str>,
        events: &dyn Events,
    ) -> Result<bool, ProviderError> {
        if self.settings.trust.is_trusted(record) {
            return Ok(true);
        }
        let lead = Lead::of(record);
        let clients = self.session.clients(self.region(&lead)).await;
        let stack = self.own_stack(&clients, &lead, record).await?;
        let zone = details.zone_id.as_deref().unwrap_or_default();
        let of_stack = stack.as_ref().map(|stack| stack_names(stack, zone)).unwrap_or_default();
        let is_safe = |known: &DnsRecord| {
            let name = Kind::parse(&known.kind).map(|kind| Name { name: dns::normal(&known.name), kind });
            name.is_some_and(|name| of_stack.contains(&name))
                && known.address().is_none_or(|address| Some(address) == live)
        };
        if details.dns_records.iter().all(is_safe) {
            return Ok(true);
        }
        let names: Vec<&str> = details.dns_records.iter().map(|known| known.name.as_str()).collect();
        events.event(Event::Warning(format!(
            "the DNS names {} are left unchanged: the record of {} doesn't prove that they are its names; `goloo dns swap {}` asks and sets them",
            names.join(", "),
            record.name,
            record.name
        )));
        Ok(false)
    }

    /// Points the VM's names at its address. A start that died may have done that already.
    async fn follow(
        &self,
        record: &Record,
        aws: &mut Aws,
        old: Option<Address>,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let details = Details::of(aws);
        let (Some(zone), Some(new)) = (&details.zone_id, &aws.public_ip) else { return Ok(()) };
        let is_there =
            |known: &DnsRecord| known.kind != Kind::A.as_str() || known.address() == Some(new.as_str());
        if details.dns_records.iter().all(is_there) {
            return Ok(());
        }
        // Whatever becomes of the names, the VM is reached there.
        work.save_addresses(Made::Aws(aws.clone())).await?;
        if !self.may_follow(record, &details, Some(new.as_str()), work.events()).await? {
            return Ok(());
        }
        let client = self.session.route53().await;
        let old = old.map(|ip| ip.to_string()).into_iter().collect();
        let followed = Zone::new(&client, zone).follow(&details.dns_records, &old, Some(new), work).await?;
        aws.extra = Details { dns_records: followed, ..details }.into_extra();
        Ok(())
    }

    /// One region's VMs, in one question.
    async fn look_at(
        &self,
        clients: &Clients,
        indices: &[usize],
        records: &[&Record],
        leads: &[Lead],
    ) -> Result<Vec<(usize, Observation)>, AwsError> {
        let ids: Vec<String> = indices.iter().filter_map(|index| leads[*index].instance.clone()).collect();
        let without = indices.iter().filter(|index| leads[**index].instance.is_none());
        let vms: Vec<String> = without.map(|index| records[*index].id.to_string()).collect();
        let mut found = instances::describe(clients, Which::Ids(ids)).await?;
        found.extend(instances::describe(clients, Which::Tagged(tags::ID, vms)).await?);
        let there = instances::index(found);
        let mut seen = Vec::new();
        for index in indices {
            let (record, lead) = (records[*index], &leads[*index]);
            let key = lead.instance.as_deref().unwrap_or(record.id.as_str());
            seen.push((*index, self.observation(there.get(key), record, lead).await));
        }
        Ok(seen)
    }

    async fn observation(&self, instance: Option<&Instance>, record: &Record, lead: &Lead) -> Observation {
        match instance {
            Some(Instance { state: State::Terminated, is_reclaimed, .. }) => Observation {
                reason: is_reclaimed.then(|| "AWS ended the Spot Instance".to_owned()),
                ..observed(LiveState::Missing)
            },
            Some(instance) => Observation {
                ip: instance.address().filter(|_| instance.state == State::Running).map(str::to_owned),
                reason: dangling(record, instance),
                ..observed(instance.state.live())
            },
            // What another account has can't be seen, and isn't missing for that.
            None => match self.check_account(lead).await {
                Ok(()) => observed(LiveState::Missing),
                Err(error) => unknown(error.to_string()),
            },
        }
    }
}

/// What a VM's names point at, where it was stopped past goloo and its address has gone back to AWS.
fn dangling(record: &Record, instance: &Instance) -> Option<String> {
    let details = Details::of(record.aws.as_ref()?);
    let is_dangling = |known: &&DnsRecord| known.address().is_some_and(|address| !instance.keeps(address));
    let dangling: Vec<&DnsRecord> = details.dns_records.iter().filter(is_dangling).collect();
    let first = dangling.first().filter(|_| instance.state == State::Stopped)?;
    Some(format!(
        "by its record {}; `goloo stop {}` withdraws it",
        still_points(&dangling, first),
        record.name
    ))
}

fn still_points(dangling: &[&DnsRecord], first: &DnsRecord) -> String {
    let names: Vec<&str> = dangling.iter().map(|known| known.name.as_str()).collect();
    let verb = if names.len() == 1 { "points" } else { "point" };
    format!("{} still {verb} to {}, which AWS may give to someone else", names.join(", "), first.value)
}

/// The VM is off, and its names still point at the address that it had.
fn names_left(record: &Record, error: ProviderError) -> ProviderError {
    let details = record.aws.as_ref().map(Details::of).unwrap_or_default();
    let named: Vec<&DnsRecord> =
        details.dns_records.iter().filter(|known| known.address().is_some()).collect();
    let Some(first) = named.first() else { return error };
    let what = format!("the VM is stopped, but {}", still_points(&named, first));
    with_context(error, &what, &format!("then run `goloo stop {}` again", record.name))
}

/// The VM is up, and its names don't point at it yet.
fn names_behind(name: &VmName, error: ProviderError) -> ProviderError {
    let again = format!("then run `goloo start {name}` again");
    with_context(error, "the VM is running, but its names don't point to it", &again)
}

/// An error with what is so all the same, and what to run once its cause is removed.
fn with_context(error: ProviderError, context: &str, again: &str) -> ProviderError {
    match error {
        ProviderError::Permission { what, hint } => {
            ProviderError::Permission { what: format!("{context}: {what}"), hint: format!("{hint}; {again}") }
        }
        ProviderError::Failed { what, hint, source } => ProviderError::Failed {
            what: format!("{context}: {what}"),
            hint: format!("{hint}; {again}"),
            source,
        },
        other => other,
    }
}

fn is_restart(record: &Record) -> bool {
    record.operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::Restart)
}

/// Whether the operation is unfinished and will be resumed.
fn leaves_work(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Interrupted | ProviderError::Record(_))
}

/// EC2 stops a Spot Instance only where its request is a persistent one, and goloo's are one-time.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-spot-instances-request.html>
fn refuse_to_stop_spot(record: &Record) -> Result<(), ProviderError> {
    let is_spot = record.aws.as_ref().is_some_and(|aws| Details::of(aws).spot);
    if !is_spot {
        return Ok(());
    }
    let name = &record.name;
    Err(ProviderError::Unsupported {
        what: format!("{name} is a Spot Instance (vm.spot), which AWS can't stop"),
        hint: format!(
            "goloo delete {name} ends it, disk and all; goloo exec {name} -- sudo reboot restarts it"
        ),
    })
}

fn observed(state: LiveState) -> Observation {
    Observation { state, ip: None, reason: None }
}

fn unknown(reason: String) -> Observation {
    Observation { state: LiveState::Unknown, ip: None, reason: Some(reason) }
}
