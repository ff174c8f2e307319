//! The security group of an environment, against moto.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::faulty_moto::FaultyMoto;
use crate::common::moto::REGION;
use goloo_aws::details::Details;
use goloo_model::name::EnvironmentId;
use goloo_model::provider::{LiveState, Machine, Provider, ProviderError, resource};
use goloo_model::record::{Membership, Record};
use goloo_testkit::aws_answers;
use goloo_testkit::fault_proxy::{At, Fault};
use goloo_testkit::provider_suite::{Bench, SuiteWork, record};
use goloo_testkit::samples::name;

impl FaultyMoto {
    /// A machine of the environment `shop` with this id.
    fn member_machine(&self, machine: &str, environment_id: &EnvironmentId) -> Machine {
        let mut machine = self.moto.machine(machine);
        machine.membership = Some(Membership {
            environment: name("shop"),
            machine: machine.name.clone(),
            number: None,
            network: None,
            environment_id: Some(environment_id.clone()),
            extra: serde_json::Map::new(),
        });
        machine
    }

    /// A running member of that environment, which isn't connected.
    async fn member(&self, machine: &str, environment_id: &EnvironmentId) -> Record {
        let machine = self.member_machine(machine, environment_id);
        let mut work = SuiteWork::default();
        let made = self.provider().create(&machine, &mut work).await.unwrap();
        let mut record = record(&machine, goloo_aws::INFO.id);
        record.membership.clone_from(&machine.membership);
        note(&mut record, work);
        made.write_to(&mut record);
        record
    }

    async fn connect(&self, record: &mut Record) -> Result<(), ProviderError> {
        let mut work = SuiteWork::default();
        let connected = self.provider().networks().unwrap().connect(record, &mut work).await;
        note(record, work);
        connected
    }

    async fn delete(&self, record: &Record) -> Result<SuiteWork, ProviderError> {
        let mut work = SuiteWork::default();
        self.provider().delete(record, &mut work).await.map(|()| work)
    }

    /// The names of all groups of environments.
    fn groups(&self) -> Vec<String> {
        let made = self.moto.made().into_iter().filter(|line| line.contains(" security-group "));
        let names = made.filter_map(|line| line.split_once(" goloo-shop-").map(|(_, id)| id.to_owned()));
        names.collect()
    }

    /// Whether the instance of a connected member is in its environment's group besides its own.
    fn is_in_its_group(&self, record: &Record) -> bool {
        let details = Details::of(record).unwrap();
        let id = details.instance_id.unwrap();
        let asked = [("Action", "DescribeInstances"), ("InstanceId.1", id.as_str())];
        let seen = self.moto.aws.query("ec2", REGION, &asked);
        let (_, interface) = seen.split_once("<networkInterfaceSet>").unwrap();
        let groups = [details.environment_group_id.unwrap(), details.security_group_id.unwrap()];
        groups.iter().all(|group| interface.contains(&format!("<groupId>{group}</groupId>")))
    }
}

/// Writes down what a provider recorded and saved, as the engine does.
fn note(record: &mut Record, work: SuiteWork) {
    for (kind, id) in &work.made {
        record.resources.push(resource(kind, id, &goloo_model::name::OperationId::generate()));
    }
    if let Some(endpoints) = work.addresses {
        endpoints.write_to(record);
    }
}

#[tokio::test]
async fn members_are_in_one_group_that_is_open_to_itself_until_the_last_is_deleted() {
    let world = FaultyMoto::new();
    let id = EnvironmentId::generate();
    let (mut db, mut web) = (world.member("db", &id).await, world.member("web", &id).await);
    for record in [&mut db, &mut web] {
        world.connect(record).await.unwrap();
        assert!(world.is_in_its_group(record));
    }
    assert_eq!(world.groups(), [id.as_str()]);
    let group = Details::of(&db).unwrap().environment_group_id.unwrap();
    assert_eq!(Details::of(&web).unwrap().environment_group_id.as_ref(), Some(&group));
    let asked = [("Action", "DescribeSecurityGroups"), ("GroupId.1", group.as_str())];
    let described = world.moto.aws.query("ec2", REGION, &asked);
    let (_, rules) = described.split_once("<ipPermissions>").unwrap();
    assert!(rules.contains("<ipProtocol>-1</ipProtocol>") && !rules.contains("<cidrIp>"), "{rules}");
    assert!(rules.contains(&format!("<groupId>{group}</groupId>")), "{rules}");
    let private = Details::of(&db).unwrap().private_ip.unwrap();
    assert_eq!(world.provider().networks().unwrap().address(&db), Some(private.into()));

    // Once connected, one request tells that nothing is to be done.
    world.faults.reset();
    world.connect(&mut db).await.unwrap();
    assert_eq!(world.faults.actions(), ["GetCallerIdentity", "DescribeInstances"]);

    let work = world.delete(&db).await.unwrap();
    assert_eq!((world.groups(), work.said()), (vec![id.to_string()], Vec::new()));
    world.delete(&web).await.unwrap();
    assert_eq!(world.moto.made(), [""; 0]);
}

#[tokio::test]
async fn a_plan_names_the_group_of_machines_in_an_environment_with_a_network() {
    let world = FaultyMoto::new();
    let steps = |machine: &Machine| world.provider().plan(machine).unwrap().steps.join("\n");
    let mut member = world.member_machine("db", &EnvironmentId::generate());
    assert!(steps(&member).contains("add it to the security group of shop"), "{}", steps(&member));
    member.membership.as_mut().unwrap().environment_id = None;
    assert!(!steps(&member).contains("shop"), "{}", steps(&member));
}

#[tokio::test]
async fn environments_of_the_same_name_have_groups_of_their_own() {
    let world = FaultyMoto::new();
    let (mine, other) = (EnvironmentId::generate(), EnvironmentId::generate());
    let (mut db, mut web) = (world.member("db", &mine).await, world.member("web", &other).await);
    world.connect(&mut db).await.unwrap();
    world.connect(&mut web).await.unwrap();
    let group = |record: &Record| Details::of(record).unwrap().environment_group_id;
    assert_ne!(group(&db), group(&web));
    world.delete(&db).await.unwrap();
    assert_eq!(world.groups(), [other.as_str()]);
}

#[tokio::test]
async fn members_that_are_connected_at_the_same_time_are_in_one_group() {
    let world = FaultyMoto::new();
    let id = EnvironmentId::generate();
    let (mut db, mut web) = (world.member("db", &id).await, world.member("web", &id).await);
    let (first, second) = tokio::join!(world.connect(&mut db), world.connect(&mut web));
    first.and(second).unwrap();
    assert_eq!(world.groups(), [id.as_str()]);
    assert!(world.is_in_its_group(&db) && world.is_in_its_group(&web));
}

/// Every action of a connect and of the part of a delete that concerns the group.
const CONNECT: [&str; 4] = [
    "DescribeSecurityGroups",
    "CreateSecurityGroup",
    "AuthorizeSecurityGroupIngress",
    "ModifyNetworkInterfaceAttribute",
];
const DELETE: [&str; 3] = ["DescribeSecurityGroups", "DescribeNetworkInterfaces", "DeleteSecurityGroup"];

#[tokio::test]
async fn a_fault_at_any_request_leaves_what_the_next_attempt_finishes() {
    let world = FaultyMoto::new();
    for fault in [Fault::CutBefore, Fault::ReplyLost, Fault::Status500, Fault::ExpiredToken] {
        for action in CONNECT {
            let id = EnvironmentId::generate();
            let mut db = world.member("db", &id).await;
            world.faults.fault(At::Each(action), fault.clone());
            world.connect(&mut db).await.unwrap_err();
            assert_eq!(world.provider().networks().unwrap().address(&db), None, "{fault:?} {action}");
            world.faults.reset();
            world.connect(&mut db).await.unwrap();
            assert_eq!(world.groups(), [id.as_str()], "{fault:?} {action}");
            assert!(world.is_in_its_group(&db), "{fault:?} {action}");
            world.delete(&db).await.unwrap();
            assert_eq!(world.moto.made(), [""; 0], "{fault:?} {action}");
        }
        for action in DELETE {
            let id = EnvironmentId::generate();
            let mut db = world.member("db", &id).await;
            world.connect(&mut db).await.unwrap();
            world.faults.reset();
            world.faults.fault(At::Each(action), fault.clone());
            let failed = world.delete(&db).await;
            assert!(failed.is_err(), "{fault:?} {action}: the record has to stay");
            world.faults.reset();
            world.delete(&db).await.unwrap();
            assert_eq!(world.moto.made(), [""; 0], "{fault:?} {action}");
        }
    }
}

#[tokio::test]
async fn a_member_that_was_never_connected_leaves_the_group_of_a_failed_connect_to_nobody() {
    let world = FaultyMoto::new();
    let mut db = world.member("db", &EnvironmentId::generate()).await;
    world.faults.fault(At::Each("ModifyNetworkInterfaceAttribute"), Fault::CutBefore);
    world.connect(&mut db).await.unwrap_err();
    world.faults.reset();
    world.delete(&db).await.unwrap();
    assert_eq!(world.moto.made(), [""; 0]);
}

#[tokio::test]
async fn a_group_that_is_removed_meanwhile_is_made_again() {
    let world = FaultyMoto::new();
    let id = EnvironmentId::generate();
    let mut db = world.member("db", &id).await;
    let gone = aws_answers::error("ec2", 400, "InvalidGroup.NotFound", "it does not exist");
    world.faults.fault(At::Action("ModifyNetworkInterfaceAttribute", 1), Fault::Refused(gone));
    world.connect(&mut db).await.unwrap();
    assert!(world.is_in_its_group(&db));
    assert_eq!(world.groups(), [id.as_str()]);
}

#[tokio::test]
async fn a_group_that_was_left_behind_is_found_adopted_and_deleted() {
    let world = FaultyMoto::new();
    let id = EnvironmentId::generate();
    let mut db = world.member("db", &id).await;
    world.connect(&mut db).await.unwrap();
    let provider = world.provider();
    let found = async |known: &[&Record]| provider.orphans(known).await.unwrap();
    assert_eq!(found(&[&db]).await, []);
    let unknown = found(&[]).await;
    assert_eq!(unknown.len(), 1, "a machine is in the group: {unknown:?}");
    let group = Details::of(&db).unwrap().environment_group_id.unwrap();
    provider.adopt(&name("left"), Some(&group)).await.unwrap_err();

    // Deleted by somebody who knows nothing of the group.
    let mut stack_alone = db.clone();
    stack_alone.resources.retain(|resource| resource.kind.contains("stack"));
    world.delete(&stack_alone).await.unwrap();
    assert_eq!(world.groups(), [id.as_str()]);
    assert_eq!(found(&[&db]).await, [], "a record has it");
    assert_eq!(found(&[&stack_alone]).await, [], "a machine of the environment may need it");
    let orphans = found(&[]).await;
    let [orphan] = &orphans[..] else { panic!("{orphans:?}") };
    assert_eq!((&orphan.id, orphan.state, orphan.ours), (&group, LiveState::Missing, true));
    assert_eq!(orphan.name, format!("goloo-shop-{id}").to_ascii_lowercase());

    let adopted = provider.adopt(&name("left"), Some(&group)).await.unwrap();
    let mut left = record(&world.moto.machine("left"), goloo_aws::INFO.id);
    for (kind, id) in &adopted.resources {
        left.resources.push(resource(kind, id, &goloo_model::name::OperationId::generate()));
    }
    adopted.endpoints.unwrap().write_to(&mut left);
    assert_eq!(Details::of(&left).unwrap().region.as_deref(), Some(REGION));
    assert_eq!(found(&[&left]).await, []);
    assert_eq!(provider.observe(&[&left]).await[0].state, LiveState::Missing);
    world.delete(&left).await.unwrap();
    assert_eq!(world.moto.made(), [""; 0]);
    for nothing in [group.as_str(), "sg-0123456789abcdef0"] {
        provider.adopt(&name("left"), Some(nothing)).await.unwrap_err();
    }
}

#[tokio::test]
async fn other_security_groups_are_neither_found_nor_adopted() {
    let world = FaultyMoto::new();
    let db = world.member("db", &EnvironmentId::generate()).await;
    let own = Details::of(&db).unwrap().security_group_id.unwrap();
    assert_eq!(world.provider().orphans(&[&db]).await.unwrap(), []);
    let refused = world.provider().adopt(&name("left"), Some(&own)).await.unwrap_err();
    assert!(refused.to_string().contains("no security group"), "{refused}");
}

/// Refuses to delete a group this often, as EC2 does while an instance is in it.
fn refuse_deletions(world: &FaultyMoto, times: usize) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    world.faults.answer("DeleteSecurityGroup", move |_| {
        let refused = count.fetch_add(1, Ordering::SeqCst) < times;
        refused.then(|| aws_answers::error("ec2", 400, "DependencyViolation", "it has a dependent object"))
    });
    asked
}

#[tokio::test]
async fn a_group_that_ec2_still_counts_an_instance_in_is_awaited() {
    let world = FaultyMoto::new();
    let mut db = world.member("db", &EnvironmentId::generate()).await;
    world.connect(&mut db).await.unwrap();
    let asked = refuse_deletions(&world, 3);
    world.delete(&db).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    assert_eq!(world.moto.made(), [""; 0]);
}

#[tokio::test]
async fn a_group_that_something_else_uses_stays_with_a_warning_and_the_vm_is_deleted() {
    let world = FaultyMoto::new();
    let id = EnvironmentId::generate();
    let mut db = world.member("db", &id).await;
    world.connect(&mut db).await.unwrap();
    refuse_deletions(&world, usize::MAX);
    let work = world.delete(&db).await.unwrap();
    let group = Details::of(&db).unwrap().environment_group_id.unwrap();
    let hint = format!("aws ec2 delete-security-group --region {REGION} --group-id {group}");
    assert!(work.said().iter().any(|text| text.contains(&hint)), "{:?}", work.said());
    assert_eq!(world.groups(), [id.as_str()]);
}
