//! Changes of existing VMs: what the stack has is changed by CloudFormation, the root volume by EC2, names in Route 53.

use async_trait::async_trait;
use goloo_model::aws_ids;
use goloo_model::change::Setting;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::provider::{ChangeTime, Changes, Endpoints, MachineChange, ProviderError, Work};
use goloo_model::record::{Record, StackValueError};
use goloo_model::spec::{Dns, Size};

use crate::ami;
use crate::context::AwsProvider;
use crate::deployed::TemplateChange;
use crate::details::{DnsRecord, RecordedVm};
use crate::dns::{self, Zone};
use crate::instance_types::{self, InstanceArch};
use crate::instances::{Instance, InstanceRef, State};
use crate::provider::refuse_to_stop_spot;
use crate::renaming::Renaming;
use crate::resource_ref::ResourceRef;
use crate::session::Clients;
use crate::stack_update::StackUpdate;
use crate::volume::VolumeGrowth;

/// What is to be changed, looked up and checked before anything is changed.
#[derive(Debug, Default)]
struct Wanted {
    template: TemplateChange,
    disk_gib: Option<i32>,
    names: Option<NewNames>,
}

/// A VM's names in Route 53.
#[derive(Debug, Default)]
struct NewNames {
    /// Their zone; `None` if it is to have none.
    zone: Option<String>,
    records: Vec<DnsRecord>,
}

/// What a change works on.
struct Target<'a> {
    record: &'a Record,
    clients: Clients,
    resource_ref: ResourceRef,
    instance: Instance,
}

#[async_trait]
impl Changes for AwsProvider {
    async fn change(
        &self,
        record: &Record,
        change: MachineChange<'_>,
        work: &mut dyn Work,
    ) -> Result<Endpoints, ProviderError> {
        let resource_ref = ResourceRef::of(record)?;
        self.check_account(&resource_ref).await?;
        let clients = self.session.clients(self.region(&resource_ref)).await;
        let instance = self.instance(&clients, record).await?;
        let target = Target { record, clients, resource_ref, instance };
        if change.time == ChangeTime::NextStart {
            target.check_at_rest()?;
        }
        let wanted = self.wanted(&target, change, work).await?;
        let mut vm = RecordedVm::of(record)?;
        if !wanted.template.is_empty() {
            self.update_stack(&target, &wanted.template, work).await?;
            let TemplateChange { ssh_cidr, instance_type, .. } = wanted.template;
            vm.details.ssh_cidr = ssh_cidr.unwrap_or(vm.details.ssh_cidr);
            vm.details.instance_type = instance_type.or(vm.details.instance_type);
        }
        if let Some(gib) = wanted.disk_gib {
            let volume = target.root_volume()?;
            let growth = VolumeGrowth { vm: &record.name, volume, gib };
            growth.carry_out(&target.clients, self.settings.pace, work).await?;
        }
        if let Some(names) = wanted.names {
            self.rename(&target, names, &mut vm, work).await?;
        }
        Ok(vm.into())
    }
}

impl Target<'_> {
    /// A type can be changed without an interruption only while the instance is stopped.
    fn check_at_rest(&self) -> Result<(), ProviderError> {
        refuse_to_stop_spot(self.record)?;
        if self.instance.state == State::Stopped {
            return Ok(());
        }
        Err(ProviderError::failed(
            format!("the instance {} was started while it was to be changed", self.instance.id),
            "run the same command again",
        ))
    }

    fn root_volume(&self) -> Result<&str, ProviderError> {
        self.instance.root_volume.as_deref().ok_or_else(|| ProviderError::Unsupported {
            what: format!("the root volume of the instance {} isn't on EBS", self.instance.id),
            hint: NextStep::Delete(self.record.name.clone()).text(" the VM and create it again"),
        })
    }

    /// Of a VM with these settings.
    fn instance_type(&self, change: MachineChange<'_>) -> Result<String, ProviderError> {
        let mut stack = self.record.resolved.as_deref().unwrap_or(change.target).clone();
        change.settings.iter().for_each(|setting| stack.take(*setting, change.target));
        let given = stack.instance_type.as_ref().map(|line| line.as_str());
        let chosen = instance_types::choose_for(given, stack.cpus, Size::bytes(stack.memory))?;
        if !aws_ids::is_instance_type(&chosen) {
            return Err(invalid("vm.instance_type", &chosen));
        }
        let had = self.instance.kind.as_deref().unwrap_or_default();
        let (old, new) = (InstanceArch::of(had), InstanceArch::of(&chosen));
        if old != new {
            return Err(ProviderError::Unsupported {
                what: format!(
                    "a {chosen} is {new}, but the VM's disk is of an AMI for {old}, like its {had}"
                ),
                hint: Hint::from("choose a type of that architecture, or ")
                    .step(NextStep::Delete(self.record.name.clone()))
                    .text(" the VM and create it again"),
            });
        }
        self.root_volume()?;
        Ok(chosen)
    }
}

/// Looks up and checks what is to be changed.
impl AwsProvider {
    async fn wanted(
        &self,
        target: &Target<'_>,
        change: MachineChange<'_>,
        work: &mut dyn Work,
    ) -> Result<Wanted, ProviderError> {
        let mut wanted = Wanted::default();
        let stack = change.target;
        if [Setting::Cpus, Setting::Memory, Setting::InstanceType].iter().any(|size| change.has(*size)) {
            wanted.template.instance_type = Some(target.instance_type(change)?);
        }
        if change.has(Setting::Ports) {
            wanted.template.ports = Some(stack.port_forwards()?);
        }
        if change.has(Setting::SshCidr) {
            wanted.template.ssh_cidr = Some(self.ssh_blocks(&stack.ssh_sources()?).await?);
        }
        // An instance without a stack is only stopped by its shutdown.
        if change.has(Setting::Ttl) && target.resource_ref.stack.is_some() {
            wanted.template.shutdown_terminates = Some(stack.ttl.is_some() || stack.spot);
        }
        if change.has(Setting::Disk) {
            target.root_volume()?;
            let gib = ami::volume_gib(Size::bytes(stack.disk));
            wanted.disk_gib = Some(i32::try_from(gib).map_err(|_| invalid("vm.disk", &gib.to_string()))?);
        }
        if change.has(Setting::Dns) {
            let names = self.new_names(target, stack.dns_section()?, work).await?;
            if target.resource_ref.stack.is_some() {
                let zone = names.zone.as_deref().unwrap_or_default();
                let note = |record: &DnsRecord| dns::note(zone, &record.kind, &record.name);
                wanted.template.names = Some(names.records.iter().map(note).collect());
            }
            wanted.names = Some(names);
        }
        Ok(wanted)
    }

    async fn new_names(
        &self,
        target: &Target<'_>,
        dns: Option<Dns>,
        work: &mut dyn Work,
    ) -> Result<NewNames, ProviderError> {
        let (record, instance) = (target.record, &target.instance);
        let vm = RecordedVm::of(record)?;
        let live = instance.address().filter(|_| instance.state == State::Running);
        if !self.may_follow(record, &vm.details, live, work.events()).await? {
            return Err(ProviderError::failed(
                format!("the record of {} doesn't prove that its DNS names belong to it", record.name),
                NextStep::DnsShow(record.name.clone()).text(" shows them and whose they are"),
            ));
        }
        let Some(dns) = dns else { return Ok(NewNames::default()) };
        let address = live.ok_or_else(|| ProviderError::Unsupported {
            what: format!(
                "{} isn't running, so it has no address that its new names could point to",
                record.name
            ),
            hint: NextStep::Start(record.name.clone()).text(" starts it; then run the same command again"),
        })?;
        let zone = dns::zone(&self.session.route53().await, &dns).await?;
        Ok(NewNames { records: dns::wanted(&dns, address), zone: Some(zone) })
    }
}

/// Carries it out.
impl AwsProvider {
    async fn update_stack(
        &self,
        target: &Target<'_>,
        change: &TemplateChange,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let Target { record, clients, resource_ref, instance } = target;
        let stack = self.own_stack(clients, resource_ref, record).await?;
        let stack = stack.ok_or_else(|| no_stack(record, instance))?;
        let token = record.operation.as_ref().map(|operation| operation.id.as_str());
        let update = StackUpdate {
            vm: &record.name,
            arn: &stack.arn,
            change,
            ami: instance.ami.as_deref().unwrap_or_default(),
            token: token.unwrap_or_default(),
        };
        update.carry_out(self.stacks(clients), work).await?;
        match &change.instance_type {
            Some(wanted) => self.check_type(target, wanted, work).await,
            None => Ok(()),
        }
    }

    /// The stack has the type; so must the instance, which is stopped as it was: CloudFormation may have started it.
    async fn check_type(
        &self,
        target: &Target<'_>,
        wanted: &str,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let instance = self.instance(&target.clients, target.record).await?;
        if instance.kind.as_deref() != Some(wanted) {
            return Err(changed_manually(&instance, wanted, &target.clients.region));
        }
        if instance.state != State::Stopped {
            let vm = &target.record.name;
            self.begin_stop(&target.clients, vm, &instance, false, work).await?;
            self.finish_stop(&target.clients, InstanceRef { vm, id: &instance.id }, work).await?;
        }
        Ok(())
    }

    /// In another zone, the VM's names are first removed from the former one: a record has one zone.
    async fn rename(
        &self,
        target: &Target<'_>,
        names: NewNames,
        vm: &mut RecordedVm,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let client = self.session.route53().await;
        let name = &target.record.name;
        if let Some(old) = vm.details.zone_id.clone().filter(|old| Some(old) != names.zone.as_ref()) {
            let had = std::mem::take(&mut vm.details.dns_records);
            Zone::new(&client, &old).rename(Renaming { vm: name, had: &had, wanted: &[] }, work).await?;
            (vm.details.zone_id, vm.fqdn) = (names.zone.clone(), None);
            work.save_addresses(vm.clone().into()).await?;
        }
        if let Some(zone) = names.zone {
            let renaming = Renaming { vm: name, had: &vm.details.dns_records, wanted: &names.records };
            let made = Zone::new(&client, &zone).rename(renaming, work).await?;
            vm.fqdn = names.records.first().filter(|own| made.contains(own)).map(|own| own.name.clone());
            (vm.details.zone_id, vm.details.dns_records) = (Some(zone), made);
        }
        Ok(())
    }
}

/// A value that only another program can have written.
fn invalid(key: &'static str, value: &str) -> ProviderError {
    StackValueError { key, value: value.to_owned() }.into()
}

/// A VM that was imported as an instance.
fn no_stack(record: &Record, instance: &Instance) -> ProviderError {
    let group = instance.security_group.as_deref().unwrap_or("of the instance");
    ProviderError::Unsupported {
        what: format!(
            "{} has no CloudFormation stack, so its ports, ssh_cidr and instance type can't be changed",
            record.name
        ),
        hint: format!("change the security group {group} or the instance {} in AWS", instance.id).into(),
    }
}

/// The stack has the wanted type and the instance another one: CloudFormation sees nothing to do.
fn changed_manually(instance: &Instance, wanted: &str, region: &str) -> ProviderError {
    let (id, kind) = (&instance.id, instance.kind.as_deref().unwrap_or("unknown"));
    ProviderError::Unsupported {
        what: format!(
            "the instance {id} is a {kind}, but its stack says {wanted}: it was changed without CloudFormation"
        ),
        hint: format!(
            "while it is stopped, run `aws ec2 modify-instance-attribute --region {region} --instance-id {id} --instance-type {wanted}`"
        )
        .into(),
    }
}
