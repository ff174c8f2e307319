//! Changes of existing VMs, against moto, with faults before it and what no emulator plays in AWS's documented formats.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::block_on;
use crate::common::faulty_moto;
use crate::common::moto::{Moto, REGION};
use goloo_aws::AwsProvider;
use goloo_aws::details::Details;
use goloo_model::change::Setting;
use goloo_model::provider::{
    ChangeTime, Endpoints, MachineChange, Provider, ProviderError, StopMode, resource,
};
use goloo_model::record::{Operation, OperationKind, Record, RecordedStack};
use goloo_model::spec::{Dns, ResolvedStack, Size, SshSource};
use goloo_testkit::aws_answers::{self, PlannedChange, Stack, StackEvent};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy, Request};
use goloo_testkit::provider_suite::{Bench, SuiteWork, record};
use goloo_testkit::samples::{self, forwards};

const INSTANCE: &str = "AWS::EC2::Instance";
const GROUP: &str = "AWS::EC2::SecurityGroup";
const STACK: &str = "AWS::CloudFormation::Stack";

/// goloo, the fault proxy, moto behind it, and a VM with its record.
struct World {
    moto: Moto,
    faults: FaultProxy,
    stack: ResolvedStack,
    record: Record,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(edit: impl FnOnce(&mut ResolvedStack)) -> Self {
        let moto = Moto::new();
        let faults = FaultProxy::start(&moto.queue.endpoint);
        let mut machine = moto.machine("web");
        machine.stack.ports = forwards(&["80"]);
        machine.stack.ssh_cidr = blocks(&["198.51.100.0/24"]);
        edit(&mut machine.stack);
        let mut work = SuiteWork::default();
        let made = moto.provider().create(&machine, &mut work).await.unwrap();
        let mut record = record(&machine, goloo_aws::INFO.id);
        record.resources = work.made.iter().map(|(kind, id)| resource(kind, id, &machine.token)).collect();
        made.write_to(&mut record);
        record.resolved = RecordedStack::of(&machine.stack).map(Box::new);
        let operation = samples::creating(&machine.name).operation.unwrap();
        record.operation = Some(Operation { kind: OperationKind::Apply, inputs: None, ..operation });
        Self { moto, faults, stack: machine.stack, record }
    }

    /// The provider of a new goloo process.
    fn provider(&self) -> AwsProvider {
        faulty_moto::provider(&self.faults)
    }

    async fn try_to_change(
        &self,
        settings: &[Setting],
        time: ChangeTime,
        work: &mut SuiteWork,
    ) -> Result<Endpoints, ProviderError> {
        let target = &RecordedStack::of(&self.stack).unwrap();
        let provider = self.provider();
        let changes = provider.changes().unwrap();
        changes.change(&self.record, MachineChange { settings, target, time }, work).await
    }

    /// Changes what costs no restart.
    async fn change(&mut self, settings: &[Setting]) -> Vec<String> {
        let mut work = SuiteWork::default();
        let made = self.try_to_change(settings, ChangeTime::Now, &mut work).await.unwrap();
        made.write_to(&mut self.record);
        work.said()
    }

    async fn fail_to_change(&self, settings: &[Setting]) -> ProviderError {
        self.try_to_change(settings, ChangeTime::Now, &mut SuiteWork::default()).await.unwrap_err()
    }

    async fn resize(&mut self) -> Result<(), ProviderError> {
        let settings = [Setting::Cpus, Setting::Memory];
        let made = self.try_to_change(&settings, ChangeTime::NextStart, &mut SuiteWork::default()).await?;
        made.write_to(&mut self.record);
        Ok(())
    }

    async fn stop(&mut self) {
        let mut work = SuiteWork::default();
        self.provider().stop(&self.record, StopMode::Force, &mut work).await.unwrap();
        if let Some(addresses) = work.addresses {
            addresses.write_to(&mut self.record);
        }
    }

    fn details(&self) -> Details {
        Details::of(&self.record).unwrap()
    }

    fn ask(&self, action: &str) -> String {
        self.moto.aws.query("ec2", REGION, &[("Action", action)])
    }

    /// The rules of the VM's security group: the first port of each, with its source.
    fn rules(&self) -> Vec<String> {
        let group = self.details().security_group_id.unwrap();
        let asked = [("Action", "DescribeSecurityGroups"), ("GroupId.1", group.as_str())];
        let answer = self.moto.aws.query("ec2", REGION, &asked);
        let (_, ingress) = answer.split_once("<ipPermissions>").unwrap();
        let ingress = ingress.split("</ipPermissions>").next().unwrap();
        let value = |text: &str| text.split('<').next().unwrap().to_owned();
        let of_port = |rule: &str| {
            let (protocol, port) = (value(rule), value(rule.split_once("<fromPort>").unwrap().1));
            let sources = rule.split("<cidrIp>").skip(1);
            sources.map(|source| format!("{port} {protocol} {}", value(source))).collect::<Vec<_>>()
        };
        let mut rules: Vec<String> = ingress.split("<ipProtocol>").skip(1).flat_map(of_port).collect();
        rules.sort();
        rules
    }

    /// The size of the only volume in GiB.
    fn disk(&self) -> String {
        let answer = self.ask("DescribeVolumes");
        answer.split_once("<size>").unwrap().1.split('<').next().unwrap().to_owned()
    }

    fn instance_type(&self) -> String {
        let answer = self.ask("DescribeInstances");
        answer.split_once("<instanceType>").unwrap().1.split('<').next().unwrap().to_owned()
    }

    fn instances(&self) -> Vec<String> {
        self.moto.made().into_iter().filter(|line| line.contains(" instance ")).collect()
    }

    fn names(&self) -> Vec<String> {
        self.moto.made().into_iter().filter(|line| line.starts_with("record ")).collect()
    }

    /// How often an action was requested since the last reset.
    fn count(&self, action: &str) -> usize {
        self.faults.actions().iter().filter(|known| *known == action).count()
    }

    fn change_sets(&self) -> usize {
        let asked = [("Action", "ListChangeSets"), ("StackName", "goloo-web")];
        let answer = self.moto.aws.query("cloudformation", REGION, &asked);
        answer.matches("<ChangeSetName>").count()
    }

    /// Plays the stack's status after its update was requested.
    fn play_status(&self, status: &'static str) {
        let mut stack = Stack::new("goloo-web", status);
        stack.id = self.details().stack_id.unwrap();
        stack.tags = vec![("goloo:id".to_owned(), self.record.id.to_string())];
        let executed = Arc::new(AtomicUsize::new(0));
        let is_executed = Arc::clone(&executed);
        self.faults.answer("ExecuteChangeSet", move |_| {
            executed.fetch_add(1, Ordering::SeqCst);
            Some(aws_answers::execute_change_set())
        });
        self.faults.answer("DescribeStacks", move |_| {
            (is_executed.load(Ordering::SeqCst) > 0)
                .then(|| aws_answers::describe_stacks(std::slice::from_ref(&stack)))
        });
    }
}

fn blocks(texts: &[&str]) -> Vec<SshSource> {
    texts.iter().map(|text| SshSource::Cidr((*text).to_owned())).collect()
}

fn dns(aliases: &[&str]) -> Dns {
    Dns {
        hostname: "web".to_owned(),
        domain: "example.com".to_owned(),
        ttl: 300,
        zone_id: None,
        is_apex_domain: false,
        cname_aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
    }
}

#[tokio::test]
async fn ports_and_ssh_addresses_are_changed_in_the_same_security_group() {
    let mut world = World::new().await;
    let before = world.instances();
    assert_eq!(world.rules(), ["22 tcp 198.51.100.0/24", "80 tcp 0.0.0.0/0"]);
    world.stack.ports = forwards(&["443", "5353:53/udp"]);
    world.change(&[Setting::Ports]).await;
    let opened = ["22 tcp 198.51.100.0/24", "443 tcp 0.0.0.0/0", "53 udp 0.0.0.0/0"];
    assert_eq!(world.rules(), opened);
    world.stack.ports = forwards(&[]);
    world.stack.ssh_cidr = blocks(&["203.0.113.0/24", "198.51.100.7/32"]);
    world.change(&[Setting::SshCidr]).await;
    let moved = ["22 tcp 198.51.100.7/32", "22 tcp 203.0.113.0/24", "443 tcp 0.0.0.0/0", "53 udp 0.0.0.0/0"];
    assert_eq!(world.rules(), moved, "the ports weren't to be changed");
    assert_eq!(world.details().ssh_cidr, ["203.0.113.0/24", "198.51.100.7/32"]);
    assert_eq!(world.instances(), before);
    assert_eq!(world.change_sets(), 0);
}

#[tokio::test]
async fn with_a_ttl_a_shutdown_terminates_the_instance_and_without_one_it_stops_it() {
    let mut world = World::new().await;
    let before = world.instances();
    for (ttl, terminates) in [(Some(3600), true), (Some(7200), true), (None, false)] {
        world.stack.ttl = ttl;
        world.change(&[Setting::Ttl]).await;
        let id = world.details().instance_id.unwrap();
        let asked = [
            ("Action", "DescribeInstanceAttribute"),
            ("InstanceId", id.as_str()),
            ("Attribute", "instanceInitiatedShutdownBehavior"),
        ];
        let answer = world.moto.aws.query("ec2", REGION, &asked);
        assert_eq!(answer.contains("<value>terminate</value>"), terminates, "{ttl:?}: {answer}");
    }
    assert_eq!(world.instances(), before);
    assert_eq!(world.count("ExecuteChangeSet"), 2, "another end is the guest's matter");
}

#[tokio::test]
async fn the_same_change_twice_makes_one_update() {
    let mut world = World::new().await;
    world.stack.ports = forwards(&["443"]);
    world.stack.disk = Size::gib(20);
    let settings = [Setting::Ports, Setting::Disk];
    world.change(&settings).await;
    world.change(&settings).await;
    assert_eq!((world.count("ExecuteChangeSet"), world.count("ModifyVolume")), (1, 1));
    assert_eq!(world.count("CreateChangeSet"), 1);
    assert_eq!(world.disk(), "20");
}

#[tokio::test]
async fn a_stopped_instance_gets_another_type_and_stays_stopped() {
    let mut world = World::new().await;
    world.stop().await;
    (world.stack.cpus, world.stack.memory) = (4, Size::gib(3));
    let address = world.record.ip().map(str::to_owned);
    for _ in 0..2 {
        world.resize().await.unwrap();
        assert_eq!(world.instance_type(), "t3.xlarge");
        assert_eq!(world.details().instance_type.as_deref(), Some("t3.xlarge"));
        assert!(world.instances()[0].ends_with(" stopped"), "{:?}", world.instances());
        assert_eq!(world.record.ip(), address.as_deref());
    }
    assert_eq!(world.count("ExecuteChangeSet"), 1);
    assert_eq!(world.count("StartInstances"), 0);
}

#[tokio::test]
async fn an_update_keeps_the_ami_and_the_user_data_of_the_instance() {
    let mut world = World::new().await;
    world.stack.ports = forwards(&["443"]);
    world.change(&[Setting::Ports]).await;
    let requests = world.faults.requests();
    let request = requests.iter().find(|request| request.action() == "CreateChangeSet").unwrap();
    let parameter = |number: usize, part| request.parameter(&format!("Parameters.member.{number}.{part}"));
    let parameters = (1..).map_while(|number| {
        let key = parameter(number, "ParameterKey")?;
        let is_kept = parameter(number, "UsePreviousValue").is_some_and(|is_kept| is_kept == "true");
        let value = parameter(number, "ParameterValue").filter(|_| !is_kept);
        Some(format!("{key}: {}", value.unwrap_or_else(|| "as it is".to_owned())))
    });
    let image = format!("ImageId: {}", world.details().ami_id.unwrap());
    let kept = ["SubnetId: as it is", "VpcId: as it is", "UserData1: as it is"];
    assert_eq!(parameters.collect::<Vec<_>>(), [&[image.as_str()], &kept[..]].concat());
    let template: serde_json::Value =
        serde_json::from_str(&request.parameter("TemplateBody").unwrap()).unwrap();
    assert_eq!(template["Parameters"]["ImageId"]["Type"], "AWS::EC2::Image::Id");
    let mapping = &template["Resources"]["Instance"]["Properties"]["BlockDeviceMappings"][0];
    assert_eq!(mapping["Ebs"]["VolumeSize"], 8);
}

#[tokio::test]
async fn a_grown_disk_does_not_enter_the_template() {
    let mut world = World::new().await;
    world.stack.disk = Size::gib(20);
    world.change(&[Setting::Disk]).await;
    assert_eq!((world.disk().as_str(), world.count("CreateChangeSet")), ("20", 0));
    world.stack.ports = forwards(&["443"]);
    world.change(&[Setting::Ports]).await;
    assert_eq!((world.disk().as_str(), world.instances().len()), ("20", 1));
}

#[tokio::test]
async fn names_are_added_changed_and_removed_and_others_names_stay() {
    let mut world = World::new().await;
    let zone = world.moto.aws.create_zone("example.com");
    let address = world.record.ip().unwrap().to_owned();
    let foreign = r#"<ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/">
        <ChangeBatch><Changes><Change><Action>CREATE</Action><ResourceRecordSet><Name>taken.example.com</Name>
        <Type>A</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord>
        </ResourceRecords></ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"#;
    world.moto.aws.rest("route53", "POST", &format!("/2013-04-01/hostedzone/{zone}/rrset"), foreign);
    let theirs = "record taken.example.com. A 192.0.2.1".to_owned();

    world.stack.dns = Some(dns(&["www"]));
    assert_eq!(world.change(&[Setting::Dns]).await, [""; 0]);
    let own = format!("record web.example.com. A {address}");
    let alias = |name: &str, of: &str| format!("record {name}.example.com. CNAME {of}.example.com");
    assert_eq!(world.names(), [theirs.clone(), own.clone(), alias("www", "web")]);
    assert_eq!(world.record.fqdn(), Some("web.example.com"));

    world.stack.dns = Some(dns(&["app", "taken"]));
    let said = world.change(&[Setting::Dns]).await;
    assert!(said[0].starts_with("taken.example.com (A 192.0.2.1) already points elsewhere"), "{said:?}");
    assert_eq!(world.names(), [alias("app", "web"), theirs.clone(), own]);

    world.stack.dns = Some(Dns { hostname: "new".to_owned(), ..dns(&["app"]) });
    world.change(&[Setting::Dns]).await;
    let new = format!("record new.example.com. A {address}");
    assert_eq!(world.names(), [alias("app", "new"), new, theirs.clone()]);
    assert_eq!(world.record.fqdn(), Some("new.example.com"));
    let notes = aws_outputs(&world);
    assert_eq!(notes, [format!("{zone}/A/new.example.com"), format!("{zone}/CNAME/app.example.com")]);

    world.stack.dns = None;
    world.change(&[Setting::Dns]).await;
    assert_eq!(world.names(), [theirs]);
    let details = world.details();
    assert_eq!((details.zone_id, details.dns_records, world.record.fqdn()), (None, vec![], None));
    assert_eq!(aws_outputs(&world), [""; 0]);
}

/// The names in the stack's outputs, which stand for a lost record.
fn aws_outputs(world: &World) -> Vec<String> {
    let answer = world.moto.aws.query(
        "cloudformation",
        REGION,
        &[("Action", "DescribeStacks"), ("StackName", "goloo-web")],
    );
    let outputs = answer.split("<OutputKey>Name").skip(1);
    outputs
        .map(|output| output.split_once("<OutputValue>").unwrap().1.split('<').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn names_in_another_zone_replace_those_in_the_former_one() {
    let mut world = World::new().await;
    let zones = ["example.com", "example.org"].map(|domain| world.moto.aws.create_zone(domain));
    world.stack.dns = Some(dns(&[]));
    world.change(&[Setting::Dns]).await;
    world.stack.dns = Some(Dns { domain: "example.org".to_owned(), ..dns(&[]) });
    world.change(&[Setting::Dns]).await;
    let address = world.record.ip().unwrap();
    assert_eq!(world.names(), [format!("record web.example.org. A {address}")]);
    assert_eq!(world.details().zone_id.as_ref(), Some(&zones[1]));
}

#[tokio::test]
async fn a_change_that_fails_at_any_request_is_completed_when_repeated() {
    let mut world = World::new().await;
    world.moto.aws.create_zone("example.com");
    let settings = [Setting::Ports, Setting::SshCidr, Setting::Disk, Setting::Dns];
    let before = world.moto.made();
    let mut size = 8;
    for fault in [Fault::CutBefore, Fault::ReplyLost, Fault::Status500, Fault::Throttled, Fault::ExpiredToken]
    {
        for number in 1.. {
            size += 1;
            let (port, alias) = (format!("{}", 1000 + size), format!("a{size}"));
            world.stack.ports = forwards(&[&port]);
            world.stack.ssh_cidr = blocks(&[&format!("203.0.113.{size}/32")]);
            world.stack.disk = Size::gib(size);
            world.stack.dns = Some(dns(&[&alias]));
            world.faults.reset();
            world.faults.fault(At::From(number), fault.clone());
            world.try_to_change(&settings, ChangeTime::Now, &mut SuiteWork::default()).await.ok();
            let struck = world.faults.struck();
            world.faults.reset();
            world.change(&settings).await;
            let when = format!("{fault:?} from request {number} on");
            assert_eq!(
                world.rules(),
                [format!("{port} tcp 0.0.0.0/0"), format!("22 tcp 203.0.113.{size}/32")],
                "{when}"
            );
            assert_eq!(world.disk(), size.to_string(), "{when}");
            let mut made = world.moto.made();
            let names: Vec<String> = made.extract_if(.., |line| line.starts_with("record ")).collect();
            assert!(names.len() == 2 && names[0].contains(&alias), "{when}: {names:?}");
            // As before, in a stack that was updated.
            made.iter_mut().for_each(|line| *line = line.replace("UPDATE_", "CREATE_"));
            assert_eq!((&made, world.change_sets()), (&before, 0), "{when}");
            if struck == 0 {
                assert!(number > 10, "too few requests: {number}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_resize_that_fails_at_any_request_is_completed_when_repeated() {
    let mut world = World::new().await;
    world.stop().await;
    let mut is_large = false;
    for fault in [Fault::ReplyLost, Fault::ExpiredToken] {
        for number in 1.. {
            is_large = !is_large;
            (world.stack.cpus, world.stack.memory) = (2, Size::gib(if is_large { 8 } else { 4 }));
            world.faults.reset();
            world.faults.fault(At::From(number), fault.clone());
            world.resize().await.ok();
            let struck = world.faults.struck();
            world.faults.reset();
            world.resize().await.unwrap();
            let wanted = if is_large { "t3.large" } else { "t3.medium" };
            assert_eq!(world.instance_type(), wanted, "{fault:?} from request {number} on");
            assert!(world.ask("DescribeInstances").contains("<name>stopped</name>"));
            if struck == 0 {
                assert!(number > 6, "too few requests: {number}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_change_survives_a_single_fault_at_any_request() {
    let mut world = World::new().await;
    let settings = [Setting::Ports, Setting::Disk];
    let mut size = 8;
    for fault in [Fault::ReplyLost, Fault::Throttled] {
        for number in 1.. {
            size += 1;
            world.stack.ports = forwards(&[&format!("{}", 1000 + size)]);
            world.stack.disk = Size::gib(size);
            world.faults.reset();
            world.faults.fault(At::Request(number), fault.clone());
            world.change(&settings).await;
            assert_eq!(world.disk(), size.to_string(), "{fault:?} at request {number}");
            assert_eq!(world.rules()[0], format!("{} tcp 0.0.0.0/0", 1000 + size));
            if world.faults.struck() == 0 {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_change_set_left_by_an_interrupted_change_is_replaced() {
    let mut world = World::new().await;
    world.stack.ports = forwards(&["443"]);
    world.faults.fault(At::Each("DescribeChangeSet"), Fault::ExpiredToken);
    world.fail_to_change(&[Setting::Ports]).await;
    assert_eq!(world.change_sets(), 1);
    world.faults.reset();
    world.stack.ports = forwards(&["8443"]);
    world.change(&[Setting::Ports]).await;
    assert_eq!(world.rules(), ["22 tcp 198.51.100.0/24", "8443 tcp 0.0.0.0/0"]);
    assert_eq!(world.change_sets(), 0);
}

#[tokio::test]
async fn a_change_set_left_by_a_change_that_is_no_longer_wanted_is_removed() {
    let mut world = World::new().await;
    world.stack.ports = forwards(&["443"]);
    world.faults.fault(At::Each("DescribeChangeSet"), Fault::ExpiredToken);
    world.fail_to_change(&[Setting::Ports]).await;
    world.faults.reset();
    world.stack.ports = forwards(&["80"]);
    world.change(&[Setting::Ports]).await;
    assert_eq!((world.change_sets(), world.count("CreateChangeSet")), (0, 0));
}

#[tokio::test]
async fn an_instance_that_cloudformation_started_is_stopped_again() {
    let mut world = World::new().await;
    world.stop().await;
    (world.stack.cpus, world.stack.memory) = (2, Size::gib(8));
    let (provider, record) = (world.moto.provider(), world.record.clone());
    let start = move |_: &Request| {
        block_on(provider.start(&record, &mut SuiteWork::default())).unwrap();
    };
    world.faults.fault(At::Action("ExecuteChangeSet", 1), Fault::after(start));
    world.resize().await.unwrap();
    assert_eq!(world.instance_type(), "t3.large");
    assert!(world.instances()[0].ends_with(" stopped"), "{:?}", world.instances());
}

#[tokio::test]
async fn a_change_that_would_replace_the_instance_is_refused_and_leaves_nothing() {
    let mut world = World::new().await;
    world.stack.ports = forwards(&["443"]);
    world.faults.answer("DescribeChangeSet", |request: &Request| {
        let instance = PlannedChange {
            logical_id: "Instance",
            kind: INSTANCE,
            replacement: "True",
            properties: vec![("ImageId", "Always"), ("Tags", "Never")],
        };
        let group = PlannedChange {
            logical_id: "SecurityGroup",
            kind: GROUP,
            replacement: "False",
            properties: vec![("SecurityGroupIngress", "Never")],
        };
        Some(match request.parameter("NextToken") {
            None => aws_answers::describe_change_set(&[group], Some("2")),
            Some(_) => aws_answers::describe_change_set(&[instance], None),
        })
    });
    let error = world.fail_to_change(&[Setting::Ports]).await;
    assert!(matches!(error, ProviderError::Unsupported { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "AWS would delete the following and create it again, so the stack goloo-web wasn't updated: Instance (ImageId)"
    );
    assert_eq!((world.count("ExecuteChangeSet"), world.change_sets()), (0, 0));
    assert_eq!(world.rules(), ["22 tcp 198.51.100.0/24", "80 tcp 0.0.0.0/0"]);
}

#[tokio::test]
async fn a_change_set_without_changes_is_success_and_removed() {
    let mut world = World::new().await;
    world.stack.ports = forwards(&["443"]);
    for reason in [
        "The submitted information didn't contain changes. Submit different information to create a change set.",
        "No updates are to be performed.",
    ] {
        world.faults.answer("DescribeChangeSet", |_| {
            Some(aws_answers::describe_unusable_change_set("FAILED", reason))
        });
        world.change(&[Setting::Ports]).await;
    }
    assert_eq!((world.count("ExecuteChangeSet"), world.change_sets()), (0, 0));
}

#[tokio::test]
async fn a_change_set_that_aws_refuses_is_an_error_with_its_reason() {
    let mut world = World::new().await;
    world.stack.ports = forwards(&["443"]);
    let asked = AtomicUsize::new(0);
    world.faults.answer("DescribeChangeSet", move |_| {
        Some(match asked.fetch_add(1, Ordering::SeqCst) {
            0 => aws_answers::describe_unusable_change_set("CREATE_IN_PROGRESS", ""),
            _ => aws_answers::describe_unusable_change_set("FAILED", "Rate limit of rules"),
        })
    });
    let error = world.fail_to_change(&[Setting::Ports]).await.to_string();
    assert_eq!(error, "CloudFormation refuses the update of the stack goloo-web: Rate limit of rules");
    assert_eq!((world.count("ExecuteChangeSet"), world.change_sets()), (0, 0));
}

fn event(number: u32, resource: (&str, &str), status: &str, reason: Option<&str>) -> StackEvent {
    let event = StackEvent::new("goloo-web", number, resource, status);
    StackEvent { reason: reason.map(str::to_owned), ..event }
}

/// The events of an update whose security group failed; `rollback` are those of its end, newest first.
fn play_failure(world: &World, reason: &'static str, rollback: Vec<StackEvent>) {
    world.faults.answer("DescribeStackEvents", move |_| {
        let mut events = rollback.clone();
        events.extend([
            event(14, ("goloo-web", STACK), "UPDATE_ROLLBACK_IN_PROGRESS", Some("failed: [SecurityGroup]")),
            event(13, ("Instance", INSTANCE), "UPDATE_FAILED", Some("Resource update cancelled")),
            event(12, ("SecurityGroup", GROUP), "UPDATE_FAILED", Some(reason)),
            event(11, ("goloo-web", STACK), "UPDATE_IN_PROGRESS", Some("User Initiated")),
            event(10, ("Instance", INSTANCE), "UPDATE_FAILED", Some("an update before")),
            event(9, ("goloo-web", STACK), "UPDATE_IN_PROGRESS", Some("User Initiated")),
        ]);
        Some(aws_answers::describe_stack_events(&events, None))
    });
}

#[tokio::test]
async fn an_update_that_aws_undid_says_so_with_the_first_failure() {
    let mut world = World::new().await;
    world.stack.ports = forwards(&["443"]);
    let reason = "The maximum number of rules per security group has been reached.";
    play_failure(&world, reason, vec![event(15, ("goloo-web", STACK), "UPDATE_ROLLBACK_COMPLETE", None)]);
    world.play_status("UPDATE_ROLLBACK_COMPLETE");
    let error = world.fail_to_change(&[Setting::Ports]).await;
    assert_eq!(
        error.to_string(),
        format!(
            "AWS undid the update of the stack goloo-web, and the VM is as before: the security group: {reason}"
        )
    );
    let denied = "You are not authorized to perform this operation. (ec2:AuthorizeSecurityGroupIngress)";
    play_failure(&world, denied, vec![]);
    let error = world.fail_to_change(&[Setting::Ports]).await;
    assert!(matches!(error, ProviderError::Permission { .. }), "{error:?}");
}

#[tokio::test]
async fn a_failed_rollback_says_what_is_true_and_the_way_out() {
    let mut world = World::new().await;
    world.stack.ports = forwards(&["443"]);
    let failed = event(15, ("SecurityGroup", GROUP), "UPDATE_FAILED", Some("sg-0abc no longer exists"));
    let end = event(16, ("goloo-web", STACK), "UPDATE_ROLLBACK_FAILED", None);
    play_failure(&world, "a rule is invalid", vec![end, failed]);
    world.play_status("UPDATE_ROLLBACK_FAILED");
    let error = world.fail_to_change(&[Setting::Ports]).await;
    assert_eq!(
        error.to_string(),
        "AWS could neither update the stack goloo-web nor undo the update (UPDATE_ROLLBACK_FAILED), so the VM may be changed in part: the security group: sg-0abc no longer exists"
    );
    let ProviderError::Failed { hint, .. } = &error else { panic!("{error:?}") };
    let command = "`aws cloudformation continue-update-rollback --region us-east-1 --stack-name goloo-web`";
    assert!(hint.debug_text().contains(command), "{hint:?}");
    // A further change begins with the same state.
    let (creates, again) = (world.count("CreateChangeSet"), world.fail_to_change(&[Setting::Ports]).await);
    assert_eq!((again.to_string(), world.count("CreateChangeSet")), (error.to_string(), creates));
}

#[tokio::test]
async fn an_update_in_progress_is_awaited_first() {
    let mut world = World::new().await;
    world.stack.ports = forwards(&["443"]);
    let mut stack = Stack::new("goloo-web", "UPDATE_IN_PROGRESS");
    stack.id = world.details().stack_id.unwrap();
    stack.tags = vec![("goloo:id".to_owned(), world.record.id.to_string())];
    let asked = AtomicUsize::new(0);
    world.faults.answer("DescribeStacks", move |_| {
        let is_under_way = asked.fetch_add(1, Ordering::SeqCst) < 4;
        is_under_way.then(|| aws_answers::describe_stacks(std::slice::from_ref(&stack)))
    });
    world.change(&[Setting::Ports]).await;
    let actions = world.faults.actions();
    let place = |action: &str| actions.iter().position(|known| known == action).unwrap();
    let polls = actions[..place("CreateChangeSet")].iter().filter(|known| *known == "DescribeStacks");
    assert_eq!(polls.count(), 5, "{actions:?}");
    assert_eq!(world.rules(), ["22 tcp 198.51.100.0/24", "443 tcp 0.0.0.0/0"]);
}

#[tokio::test]
async fn an_interrupted_wait_ends_at_once_and_the_change_can_continue() {
    let mut world = World::new().await;
    world.stack.ports = forwards(&["443"]);
    world.play_status("UPDATE_IN_PROGRESS");
    let mut work = SuiteWork::default();
    let stop = work.stopper();
    world.faults.fault(
        At::Action("ExecuteChangeSet", 1),
        Fault::after(move |_| {
            stop.send_replace(true);
        }),
    );
    let error = world.try_to_change(&[Setting::Ports], ChangeTime::Now, &mut work).await.unwrap_err();
    assert!(matches!(error, ProviderError::Interrupted), "{error:?}");
    world.faults.reset();
    world.change(&[Setting::Ports]).await;
    assert_eq!(world.rules(), ["22 tcp 198.51.100.0/24", "443 tcp 0.0.0.0/0"]);
}

#[tokio::test]
async fn a_growing_volume_is_awaited_until_its_size_can_be_used() {
    let mut world = World::new().await;
    world.stack.disk = Size::gib(20);
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    world.faults.answer("DescribeVolumesModifications", |_| {
        Some(match ASKED.fetch_add(1, Ordering::SeqCst) {
            0 => aws_answers::describe_volumes_modifications("completed", 10, None),
            1..4 => aws_answers::describe_volumes_modifications("modifying", 20, None),
            _ => aws_answers::describe_volumes_modifications("optimizing", 20, None),
        })
    });
    world.change(&[Setting::Disk]).await;
    assert_eq!((ASKED.load(Ordering::SeqCst), world.count("ModifyVolume")), (5, 1));

    world.stack.disk = Size::gib(30);
    let asked = AtomicUsize::new(0);
    world.faults.answer("DescribeVolumesModifications", move |_| {
        Some(match asked.fetch_add(1, Ordering::SeqCst) {
            0 => aws_answers::describe_volumes_modifications("completed", 20, None),
            _ => aws_answers::describe_volumes_modifications("failed", 30, Some("the volume is impaired")),
        })
    });
    let error = world.fail_to_change(&[Setting::Disk]).await.to_string();
    assert!(error.contains("the volume is impaired"), "{error}");
}

#[tokio::test]
async fn a_volume_that_aws_does_not_change_again_yet_is_an_error_with_its_reason() {
    let mut world = World::new().await;
    world.stack.disk = Size::gib(20);
    let refusal = aws_answers::error(
        "ec2",
        400,
        "VolumeModificationRateExceeded",
        "You've reached the maximum modification rate per volume limit. Wait at least 6 hours.",
    );
    world.faults.fault(At::Each("ModifyVolume"), Fault::Refused(refusal));
    let error = world.fail_to_change(&[Setting::Disk]).await.to_string();
    assert!(error.contains("Wait at least 6 hours"), "{error}");
    assert_eq!(world.disk(), "8");
}

#[tokio::test]
async fn a_growth_whose_response_was_lost_is_awaited_like_any_other() {
    let mut world = World::new().await;
    world.stack.disk = Size::gib(20);
    let refusal =
        aws_answers::error("ec2", 400, "IncorrectModificationState", "It is currently being modified.");
    world.faults.fault(At::Action("ModifyVolume", 1), Fault::ReplyLost);
    world.faults.fault(At::Each("ModifyVolume"), Fault::Refused(refusal));
    world.change(&[Setting::Disk]).await;
    assert_eq!((world.disk().as_str(), world.count("ModifyVolume")), ("20", 2));
}

/// What is refused, and that nothing is updated then.
async fn refused(world: &mut World, settings: &[Setting], time: ChangeTime, words: &str) {
    let error = world.try_to_change(settings, time, &mut SuiteWork::default()).await.unwrap_err();
    assert!(error.to_string().contains(words), "{error:?}");
    assert_eq!((world.count("CreateChangeSet"), world.count("ModifyVolume")), (0, 0), "{words}");
}

#[tokio::test]
async fn what_cannot_be_changed_is_refused_before_anything_is() {
    let mut world = World::new().await;
    world.moto.aws.create_zone("example.com");
    let size = [Setting::InstanceType];
    world.stack.instance_type = Some("t3.large".to_owned());
    refused(&mut world, &size, ChangeTime::NextStart, "was started while it was to be changed").await;
    world.stop().await;
    world.stack.dns = Some(dns(&[]));
    let both = [Setting::Ports, Setting::Dns];
    refused(&mut world, &both, ChangeTime::Now, "web isn't running, so it has no address").await;
    world.stack.instance_type = Some("t4g.large".to_owned());
    refused(&mut world, &size, ChangeTime::NextStart, "a t4g.large is arm64").await;
    world.record.details.insert("spot".to_owned(), true.into());
    refused(&mut world, &size, ChangeTime::NextStart, "is a Spot Instance").await;
    world.record.details.remove("spot");
    world.record.details.remove("stackID");
    world.record.resources.clear();
    refused(&mut world, &[Setting::Ports], ChangeTime::Now, "web has no CloudFormation stack").await;
}

#[tokio::test]
async fn a_type_that_was_changed_without_cloudformation_is_reported() {
    let mut world = World::new().await;
    world.stop().await;
    let id = world.details().instance_id.unwrap();
    let asked = [
        ("Action", "ModifyInstanceAttribute"),
        ("InstanceId", id.as_str()),
        ("InstanceType.Value", "t3.large"),
    ];
    world.moto.aws.query("ec2", REGION, &asked);
    let error = world.resize().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the instance {id} is a t3.large, but its stack says t3.nano: it was changed without CloudFormation"
        )
    );
}
