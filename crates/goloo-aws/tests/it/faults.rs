//! What networks and clouds do and emulators don't: interrupted, lost, throttled and expired calls, and failing stacks,
//! in AWS's documented formats.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::faulty_moto::{FaultyMoto, provider};
use crate::common::moto::{Moto, REGION};
use crate::common::{block_on, side_by_side};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use goloo_aws::AwsProvider;
use goloo_aws::details::Details;
use goloo_model::name::VmName;
use goloo_model::provider::{Endpoints, Machine, Provider, ProviderError, StopMode, resource};
use goloo_model::record::Record;
use goloo_model::spec::ImageRef;
use goloo_testkit::aws_answers::{self, Image, Stack, StackEvent};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy, Request};
use goloo_testkit::full_zones::{FullZones, NO_CAPACITY, UNSUPPORTED, members};
use goloo_testkit::provider_suite::{Bench, SuiteWork, record};

impl FaultyMoto {
    fn machine(&self) -> Machine {
        self.moto.machine("web")
    }

    async fn create(&self) -> Record {
        create(&self.provider(), self.machine()).await
    }
}

/// A full life cycle: create, stop, start, delete, each by a new goloo process.
async fn live_through(faults: &FaultProxy, machine: Machine) {
    let mut record = create(&provider(faults), machine).await;
    stop(&provider(faults), &record).await.unwrap();
    start(&provider(faults), &record).await.write_to(&mut record);
    provider(faults).delete(&record, &mut SuiteWork::default()).await.unwrap();
}

async fn create(provider: &AwsProvider, machine: Machine) -> Record {
    let mut work = SuiteWork::default();
    let made = provider.create(&machine, &mut work).await.unwrap();
    noted(&machine, &work, Some(made))
}

fn noted(machine: &Machine, work: &SuiteWork, made: Option<Endpoints>) -> Record {
    let mut record = record(machine, goloo_aws::INFO.id);
    record.resources = work.made.iter().map(|(kind, id)| resource(kind, id, &machine.token)).collect();
    if let Some(made) = made {
        made.write_to(&mut record);
    }
    record
}

/// Each way in which a call can fail permanently: not carried out, carried out, refused.
fn kinds() -> [Fault; 5] {
    [Fault::CutBefore, Fault::ReplyLost, Fault::Status500, Fault::Throttled, Fault::ExpiredToken]
}

/// Makes everything fail from one request of `act` on, and then work again: for every request and each kind of fault.
/// `begin` and `go_on` meet no faults; afterwards exactly the resources from before must exist.
async fn at_every_request_in<S>(
    world: &FaultyMoto,
    begin: impl AsyncFn(&FaultyMoto) -> S,
    act: impl AsyncFn(&FaultyMoto, &mut S),
    go_on: impl AsyncFn(&FaultyMoto, S),
) {
    let before = world.moto.made();
    for fault in kinds() {
        for number in 1.. {
            world.faults.reset();
            let mut state = begin(world).await;
            world.faults.reset();
            world.faults.fault(At::From(number), fault.clone());
            act(world, &mut state).await;
            let struck = world.faults.struck();
            world.faults.reset();
            go_on(world, state).await;
            assert_eq!(world.moto.made(), before, "{fault:?} from request {number} on");
            if struck == 0 {
                assert!(number > 3, "too few requests: {number}");
                break;
            }
        }
    }
}

async fn at_every_request<S>(
    begin: impl AsyncFn(&FaultyMoto) -> S,
    act: impl AsyncFn(&FaultyMoto, &mut S),
    go_on: impl AsyncFn(&FaultyMoto, S),
) {
    at_every_request_in(&FaultyMoto::new(), begin, act, go_on).await;
}

/// A machine to create, and what was recorded for it.
async fn wanted(world: &FaultyMoto) -> (Machine, SuiteWork) {
    (world.machine(), SuiteWork::default())
}

async fn try_to_create(world: &FaultyMoto, (machine, work): &mut (Machine, SuiteWork)) {
    world.provider().create(machine, work).await.ok();
}

async fn delete(world: &FaultyMoto, record: &Record) {
    world.provider().delete(record, &mut SuiteWork::default()).await.unwrap();
}

#[tokio::test]
async fn a_create_that_fails_at_any_request_can_be_resumed_and_fully_deleted() {
    at_every_request(wanted, try_to_create, async |world, (machine, mut work)| {
        let made = world.provider().create(&machine, &mut work).await.unwrap();
        assert_eq!(world.moto.running().await, 1);
        delete(world, &noted(&machine, &work, Some(made))).await;
    })
    .await;
}

#[tokio::test]
async fn a_create_that_fails_at_any_request_can_be_deleted_from_its_record() {
    at_every_request(wanted, try_to_create, async |world, (machine, work)| {
        delete(world, &noted(&machine, &work, None)).await;
    })
    .await;
}

#[tokio::test]
async fn a_delete_that_fails_at_any_request_succeeds_when_retried() {
    at_every_request(
        FaultyMoto::create,
        async |world, record| {
            world.provider().delete(record, &mut SuiteWork::default()).await.ok();
        },
        async |world, record| delete(world, &record).await,
    )
    .await;
}

/// One machine for all requests: it is running before each stop.
#[tokio::test]
async fn a_stop_that_fails_at_any_request_succeeds_when_retried() {
    let world = FaultyMoto::new();
    let record = world.create().await;
    at_every_request_in(
        &world,
        async |_| record.clone(),
        async |world, record| {
            stop(&world.provider(), record).await.ok();
        },
        async |world, mut record| {
            stop(&world.provider(), &record).await.unwrap();
            assert_eq!(world.moto.running().await, 0);
            start(&world.provider(), &record).await.write_to(&mut record);
        },
    )
    .await;
    delete(&world, &record).await;
    assert_eq!(world.moto.made(), [""; 0]);
}

/// One machine for all requests: it is stopped before each start.
#[tokio::test]
async fn a_start_that_fails_at_any_request_succeeds_when_retried() {
    let world = FaultyMoto::new();
    let record = world.create().await;
    stop(&world.provider(), &record).await.unwrap();
    at_every_request_in(
        &world,
        async |_| record.clone(),
        async |world, record| {
            world.provider().start(record, &mut SuiteWork::default()).await.ok();
        },
        async |world, record| {
            start(&world.provider(), &record).await;
            assert_eq!(world.moto.running().await, 1);
            stop(&world.provider(), &record).await.unwrap();
        },
    )
    .await;
    delete(&world, &record).await;
    assert_eq!(world.moto.made(), [""; 0]);
}

async fn stop(provider: &AwsProvider, record: &Record) -> Result<(), ProviderError> {
    provider.stop(record, StopMode::Graceful, &mut SuiteWork::default()).await
}

async fn start(provider: &AwsProvider, record: &Record) -> Endpoints {
    provider.start(record, &mut SuiteWork::default()).await.unwrap()
}

#[tokio::test]
async fn every_operation_survives_a_single_fault_at_any_request() {
    let world = FaultyMoto::new();
    for fault in [Fault::CutBefore, Fault::ReplyLost, Fault::Status500, Fault::Throttled] {
        for number in 1.. {
            world.faults.reset();
            world.faults.fault(At::Request(number), fault.clone());
            live_through(&world.faults, world.machine()).await;
            assert_eq!(world.moto.made(), [""; 0], "{fault:?} at request {number}");
            if world.faults.struck() == 0 {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_stack_whose_create_response_was_lost_is_found_by_name() {
    let world = FaultyMoto::new();
    world.faults.fault(At::Each("CreateStack"), Fault::ReplyLost);
    let record = world.create().await;
    assert!(world.faults.struck() > 1, "the SDK asks again first");
    assert_eq!(world.moto.running().await, 1);
    world.faults.reset();
    delete(&world, &record).await;
    assert_eq!(world.moto.made(), [""; 0]);
}

#[tokio::test]
async fn a_failed_observation_reports_unknown_with_the_reason() {
    let world = FaultyMoto::new();
    let record = world.create().await;
    for fault in kinds() {
        world.faults.reset();
        world.faults.fault(At::From(1), fault.clone());
        let seen = world.provider().observe(&[&record]).await.remove(0);
        assert_eq!(seen.state, goloo_model::provider::LiveState::Unknown, "{fault:?}");
        assert!(
            seen.reason.is_some_and(
                |reason| reason.contains("ec2:DescribeInstances") || reason.contains("credentials")
            ),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_spot_instance_terminated_by_aws_is_missing_with_that_reason() {
    let world = FaultyMoto::new();
    let record = world.create().await;
    let id = Details::of(&record).unwrap().instance_id.unwrap();
    let observed = async |code: &'static str| {
        let id = id.clone();
        world
            .faults
            .answer("DescribeInstances", move |_| Some(aws_answers::describe_ended_instance(&id, code)));
        let seen = world.provider().observe(&[&record]).await.remove(0);
        assert_eq!(seen.state, goloo_model::provider::LiveState::Missing, "{code}");
        seen.reason
    };
    let reason = observed("Server.SpotInstanceTermination").await;
    assert_eq!(reason.as_deref(), Some("AWS terminated the Spot Instance"));
    assert_eq!(observed("Client.UserInitiatedShutdown").await, None);
}

const STACK: &str = "AWS::CloudFormation::Stack";
const INSTANCE: &str = "AWS::EC2::Instance";
const GROUP: &str = "AWS::EC2::SecurityGroup";

fn event(number: u32, resource: (&str, &str), status: &str, reason: Option<&str>) -> StackEvent {
    let event = StackEvent::new("goloo-web", number, resource, status);
    StackEvent { reason: reason.map(str::to_owned), ..event }
}

fn ours(machine: &Machine, status: &str) -> Stack {
    let mut stack = Stack::new("goloo-web", status);
    stack.tags = vec![("goloo:id".to_owned(), machine.id.to_string())];
    stack
}

/// Plays a stack that fails because of its instance, reported in two pages, newest first.
fn play_rollback(world: &FaultyMoto, machine: &Machine, reason: &'static str) {
    let id = aws_answers::stack_id("goloo-web");
    world.faults.answer("CreateStack", move |_| Some(aws_answers::create_stack(&id)));
    world.faults.answer("DescribeStackEvents", move |request| {
        Some(match request.parameter("NextToken") {
            None => aws_answers::describe_stack_events(
                &[
                    event(6, ("goloo-web", STACK), "ROLLBACK_COMPLETE", None),
                    event(
                        5,
                        ("goloo-web", STACK),
                        "ROLLBACK_IN_PROGRESS",
                        Some("The following resource(s) failed"),
                    ),
                    event(4, ("SecurityGroup", GROUP), "CREATE_FAILED", Some("Resource creation cancelled")),
                ],
                Some("2"),
            ),
            Some(_) => aws_answers::describe_stack_events(
                &[
                    event(3, ("Instance", INSTANCE), "CREATE_FAILED", Some(reason)),
                    event(2, ("Instance", INSTANCE), "CREATE_IN_PROGRESS", None),
                    event(1, ("goloo-web", STACK), "CREATE_IN_PROGRESS", Some("User Initiated")),
                ],
                None,
            ),
        })
    });
    let stack = ours(machine, "ROLLBACK_COMPLETE");
    world
        .faults
        .answer("DescribeStacks", move |_| Some(aws_answers::describe_stacks(std::slice::from_ref(&stack))));
}

#[tokio::test]
async fn the_first_failed_resource_is_reported_as_the_error() {
    let world = FaultyMoto::new();
    let machine = world.machine();
    let reason = "You have requested more vCPU capacity than your current vCPU limit of 1 allows";
    play_rollback(&world, &machine, reason);
    let error = world.provider().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the instance: {reason}"));
}

#[tokio::test]
async fn a_permission_missing_within_a_stack_is_a_permission_error() {
    let world = FaultyMoto::new();
    let machine = world.machine();
    play_rollback(&world, &machine, "You are not authorized to perform this operation. (ec2:RunInstances)");
    let error = world.provider().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Permission { .. }), "{error:?}");
}

#[tokio::test]
async fn leftovers_of_a_failed_stack_are_removed_before_the_retry() {
    let world = FaultyMoto::new();
    let machine = world.machine();
    static CREATES: AtomicUsize = AtomicUsize::new(0);
    static DELETES: AtomicUsize = AtomicUsize::new(0);
    world.faults.answer("CreateStack", |_| {
        let first = CREATES.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(|| {
            aws_answers::error(
                "cloudformation",
                400,
                "AlreadyExistsException",
                "Stack [goloo-web] already exists",
            )
        })
    });
    world.faults.answer("DeleteStack", |_| {
        (DELETES.fetch_add(1, Ordering::SeqCst) == 0).then(aws_answers::delete_stack)
    });
    let failed = ours(&machine, "ROLLBACK_COMPLETE");
    world.faults.answer("DescribeStacks", move |_| match DELETES.load(Ordering::SeqCst) {
        0 => Some(aws_answers::describe_stacks(std::slice::from_ref(&failed))),
        _ if CREATES.load(Ordering::SeqCst) == 1 => Some(aws_answers::no_such_stack("goloo-web")),
        _ => None,
    });
    world.provider().create(&machine, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(world.moto.running().await, 1);
    let tokens: Vec<String> = world
        .faults
        .requests()
        .iter()
        .filter(|request| request.action() == "CreateStack")
        .filter_map(|request| request.parameter("ClientRequestToken"))
        .collect();
    let unique = "c1b8f4e0-d35a-11ef-9c2a-example";
    assert_eq!(tokens, [machine.token.to_string(), format!("{}-{unique}", machine.token)]);
}

#[tokio::test]
async fn the_next_zone_is_tried_when_one_lacks_capacity() {
    let world = FaultyMoto::new();
    let zones = FullZones::new("goloo-web", &[UNSUPPORTED, NO_CAPACITY]);
    zones.play(&world.faults);
    let (machine, mut work) = (world.machine(), SuiteWork::default());
    let made = world.provider().create(&machine, &mut work).await.unwrap();
    let record = noted(&machine, &work, Some(made));
    assert_eq!((zones.failures(), zones.left()), (2, vec![]));
    let requests = world.faults.requests();
    let creates: Vec<_> = requests.iter().filter(|request| request.action() == "CreateStack").collect();
    let subnet = |request: &&Request| {
        let parameters = members(request, "Parameters", "ParameterKey", "ParameterValue");
        parameters.into_iter().find(|(key, _)| key == "SubnetId").unwrap().1
    };
    let subnets = world.moto.subnets();
    let zone = |id: String| subnets.iter().find(|(_, known)| *known == id).unwrap().0.clone();
    let tried: Vec<String> = creates.iter().map(subnet).map(zone).collect();
    assert_eq!(tried, ["us-east-1a", "us-east-1b", "us-east-1c"]);
    let tokens: Vec<String> =
        creates.iter().filter_map(|request| request.parameter("ClientRequestToken")).collect();
    let after = |number| format!("{}-c1b8f4e0-d35a-11ef-9c2a-example-{number}", machine.token);
    assert_eq!(tokens, [machine.token.to_string(), after(1), after(2)]);
    // The record refers to the stack that was created, and contains its location.
    let details = Details::of(&record).unwrap();
    assert_eq!(record.resources.last().map(|resource| &resource.id), details.stack_id.as_ref());
    assert_eq!(zone(details.subnet_id.unwrap()), "us-east-1c");
    let said = work.said();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("not supported in your requested Availability Zone"), "{said:?}");
    delete(&world, &record).await;
    assert_eq!(world.moto.made(), [""; 0]);
}

#[tokio::test]
async fn the_error_names_every_tried_zone_when_none_has_capacity() {
    let world = FaultyMoto::new();
    let zones = FullZones::new("goloo-web", &[NO_CAPACITY; 5]);
    zones.play(&world.faults);
    let (machine, mut work) = (world.machine(), SuiteWork::default());
    let error = world.provider().create(&machine, &mut work).await.unwrap_err().to_string();
    assert!(error.starts_with("the instance: ") && error.contains("sufficient t3.nano capacity"), "{error}");
    let tried = "(tried: us-east-1a, us-east-1b, us-east-1c, us-east-1d, us-east-1f)";
    assert!(error.ends_with(tried), "{error}");
    // What the engine does next; with --keep-failed the user inspects it first.
    assert_eq!(zones.left().len(), 1);
    delete(&world, &noted(&machine, &work, None)).await;
    assert_eq!((zones.left(), world.moto.made()), (vec![], vec![]));
}

#[tokio::test]
async fn a_failure_other_than_capacity_is_not_retried_in_another_zone() {
    let world = FaultyMoto::new();
    let quota = "You have requested more vCPU capacity than your current vCPU limit of 1 allows (Service: AmazonEC2; Status Code: 400; Error Code: VcpuLimitExceeded; Request ID: x)";
    let zones = FullZones::new("goloo-web", &[quota; 2]);
    zones.play(&world.faults);
    let error = world.provider().create(&world.machine(), &mut SuiteWork::default()).await.unwrap_err();
    assert_eq!((error.to_string(), zones.failures()), (format!("the instance: {quota}"), 1));
}

/// Each request is followed by a resume for some kinds of faults, and by a delete for the others.
#[tokio::test]
async fn a_zone_fallback_that_fails_at_any_request_can_be_resumed_or_deleted() {
    let world = FaultyMoto::new();
    for (kind, fault) in kinds().into_iter().enumerate() {
        for number in 1.. {
            let zones = FullZones::new("goloo-web", &[NO_CAPACITY]);
            world.faults.reset();
            zones.play(&world.faults);
            world.faults.fault(At::From(number), fault.clone());
            let (machine, mut work) = (world.machine(), SuiteWork::default());
            world.provider().create(&machine, &mut work).await.ok();
            let struck = world.faults.struck();
            world.faults.reset();
            zones.play(&world.faults);
            let mut made = None;
            if (kind + number).is_multiple_of(2) {
                made = Some(world.provider().create(&machine, &mut work).await.unwrap());
                assert_eq!(world.moto.running().await, 1);
            }
            delete(&world, &noted(&machine, &work, made)).await;
            let left = (zones.left(), world.moto.made());
            assert_eq!(left, (vec![], vec![]), "{fault:?} from request {number} on");
            if struck == 0 {
                assert!(number > 10, "too few requests: {number}");
                break;
            }
        }
    }
}

/// A create with an AMI as described by EC2; returns the result, the messages and the calls.
async fn with_image(
    world: &FaultyMoto,
    image: Image,
) -> (Result<Endpoints, ProviderError>, Vec<String>, Vec<String>) {
    world.faults.reset();
    let mut machine = world.machine();
    machine.stack.os.clone_from(&image.id);
    world.faults.answer("DescribeImages", move |request| {
        // A filter would omit deprecated ones.
        (request.parameter("ImageId.1").as_ref() == Some(&image.id))
            .then(|| aws_answers::describe_images(std::slice::from_ref(&image)))
    });
    let mut work = SuiteWork::default();
    let made = world.provider().create(&machine, &mut work).await;
    (made, work.said(), world.moto.made())
}

#[tokio::test]
async fn a_deprecated_ami_is_used_with_a_warning() {
    // Each uses an AMI moto can start, and its own account.
    for (time, is_deprecated) in [("2024-01-15T10:30:00.000Z", true), ("2999-01-15T10:30:00.000Z", false)] {
        let world = FaultyMoto::new();
        let id = world.moto.aws.public_parameter(REGION, "/aws/service/debian/release/12/latest/amd64");
        let image = Image { deprecation_time: Some(time.to_owned()), ..Image::new(&id) };
        let (made, said, _) = with_image(&world, image).await;
        made.unwrap();
        let warning = format!("{id} is deprecated since 2024-01-15T10:30:00Z: its publisher has a newer one");
        assert_eq!(said, Vec::from_iter(is_deprecated.then_some(warning)));
    }
}

#[tokio::test]
async fn an_unusable_ami_is_refused_before_anything_is_created() {
    let world = FaultyMoto::new();
    let image = || Image::new("ami-0abc0abc");
    let text = |text: &str| Some(text.to_owned());
    for (image, wanted) in [
        (Image { root_gib: 30, ..image() }, "vm.disk is 8G, but the root volume of ami-0abc0abc has 30G"),
        (Image { state: "disabled".to_owned(), ..image() }, "the AMI ami-0abc0abc is disabled"),
        (
            Image { state: "failed".to_owned(), state_reason: text("the snapshot failed"), ..image() },
            "the AMI ami-0abc0abc is failed: the snapshot failed",
        ),
        (
            Image { architecture: "arm64".to_owned(), ..image() },
            "ami-0abc0abc is for arm64, and a t3.nano is x86_64",
        ),
        (Image { platform: text("windows"), ..image() }, "ami-0abc0abc is a Windows AMI"),
        (
            Image { root_device_type: "instance-store".to_owned(), ..image() },
            "ami-0abc0abc isn't an HVM image with its root on an EBS volume",
        ),
        (
            Image { virtualization_type: "paravirtual".to_owned(), ..image() },
            "ami-0abc0abc isn't an HVM image with its root on an EBS volume",
        ),
    ] {
        let (made, _, left) = with_image(&world, image).await;
        let error = made.unwrap_err();
        assert!(matches!(error, ProviderError::Unsupported { .. }), "{error:?}");
        assert_eq!((error.to_string().as_str(), left), (wanted, vec![]));
    }
}

#[tokio::test]
async fn the_newest_published_ami_of_the_systems_own_account_is_used() {
    let world = FaultyMoto::new();
    let id = world.moto.aws.public_parameter(REGION, "/aws/service/debian/release/12/latest/amd64");
    let mut machine = world.machine();
    (machine.stack.os, machine.stack.image) = ("rocky-10".to_owned(), ImageRef::Alias("rocky-10".to_owned()));
    let image = |id: &str, owner: &str, day: &str| Image {
        owner: owner.to_owned(),
        creation_date: format!("2026-05-{day}T10:30:00.000Z"),
        ..Image::new(id)
    };
    let images = [
        image("ami-0abc0abc", "792107900819", "01"),
        image(&id, "792107900819", "20"),
        // Somebody else can use the same name.
        image("ami-0bad0bad", "666666666666", "30"),
    ];
    world.faults.answer("DescribeImages", move |request| {
        let asked = [request.parameter("Owner.1"), request.parameter("Filter.1.Value.1")];
        let wanted = ["792107900819", "Rocky-10-EC2-Base-10.*.x86_64"].map(|text| Some(text.to_owned()));
        (asked == wanted).then(|| aws_answers::describe_images(&images))
    });
    let made = world.provider().create(&machine, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(made.details["amiID"], id.as_str(), "{made:?}");
    let requests = world.faults.requests();
    let create = requests.iter().find(|request| request.action() == "CreateStack").unwrap();
    assert!(create.parameter("TemplateBody").unwrap().contains("AWS::EC2::Image::Id"));

    world.faults.answer("DescribeImages", |_| Some(aws_answers::describe_images(&[])));
    machine.name = VmName::parse("other").unwrap();
    machine.machine_name = machine.name.clone();
    let error = world.provider().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(error.to_string().contains("792107900819 has no public AMI"), "{error:?}");
}

#[tokio::test]
async fn the_root_volume_uses_the_device_name_of_the_ami() {
    let world = FaultyMoto::new();
    let id = world.moto.aws.public_parameter(REGION, "/aws/service/debian/release/12/latest/amd64");
    let mut machine = world.machine();
    machine.stack.os.clone_from(&id);
    let image = Image { root_device_name: "/dev/sdq".to_owned(), ..Image::new(&id) };
    world
        .faults
        .answer("DescribeImages", move |_| Some(aws_answers::describe_images(std::slice::from_ref(&image))));
    world.provider().create(&machine, &mut SuiteWork::default()).await.unwrap();
    let requests = world.faults.requests();
    let create = requests.iter().find(|request| request.action() == "CreateStack").unwrap();
    let body = create.parameter("TemplateBody").unwrap();
    assert!(body.contains(r#""DeviceName":"/dev/sdq""#), "{body}");
}

#[tokio::test]
async fn the_sent_template_contains_neither_secrets_nor_the_host_key() {
    let world = FaultyMoto::new();
    let mut machine = world.machine();
    machine.user_data = "#cloud-config\npassword: swordfish\n".repeat(200).into_bytes();
    create(&world.provider(), machine.clone()).await;
    let requests = world.faults.requests();
    let create = requests.iter().find(|request| request.action() == "CreateStack").unwrap();
    let parameters = members(create, "Parameters", "ParameterKey", "ParameterValue");
    let pieces = parameters.iter().filter(|(key, _)| key.starts_with("UserData"));
    let joined: String = pieces.map(|(_, value)| value.as_str()).collect();
    assert_eq!(STANDARD.decode(&joined).unwrap(), machine.user_data);
    let body = create.parameter("TemplateBody").unwrap();
    let parts = joined.as_bytes().chunks(64).map(|part| std::str::from_utf8(part).unwrap());
    assert!(parts.into_iter().all(|part| !body.contains(part)), "{body}");
}

#[tokio::test]
async fn a_request_token_that_outlives_its_stack_does_not_block_a_create() {
    let world = FaultyMoto::new();
    let machine = world.machine();
    let token = machine.token.to_string();
    world.faults.answer("CreateStack", move |request| {
        (request.parameter("ClientRequestToken").as_ref() == Some(&token)).then(|| {
            let code = "TokenAlreadyExistsException";
            aws_answers::error("cloudformation", 400, code, "A client request token already exists")
        })
    });
    world.provider().create(&machine, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(world.moto.running().await, 1);
}

#[tokio::test]
async fn a_delete_that_aws_cannot_finish_names_the_blocking_resource() {
    let world = FaultyMoto::new();
    let record = world.create().await;
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    world.faults.answer("DeleteStack", |_| Some(aws_answers::delete_stack()));
    let mut stack = Stack::new("goloo-web", "CREATE_COMPLETE");
    stack.tags = vec![("goloo:id".to_owned(), record.id.to_string())];
    world.faults.answer("DescribeStacks", move |_| {
        let mut stack = stack.clone();
        if ASKED.fetch_add(1, Ordering::SeqCst) > 0 {
            stack.status = "DELETE_FAILED".to_owned();
        }
        Some(aws_answers::describe_stacks(&[stack]))
    });
    world.faults.answer("DescribeStackEvents", |_| {
        let mut failed = event(
            3,
            ("SecurityGroup", GROUP),
            "DELETE_FAILED",
            Some("resource sg-0abc has a dependent object"),
        );
        failed.physical_id = "sg-0abc".to_owned();
        Some(aws_answers::describe_stack_events(
            &[
                event(4, ("goloo-web", STACK), "DELETE_FAILED", None),
                failed,
                event(2, ("goloo-web", STACK), "DELETE_IN_PROGRESS", None),
                event(1, ("Instance", INSTANCE), "DELETE_FAILED", Some("an attempt before")),
            ],
            None,
        ))
    });
    let error = world.provider().delete(&record, &mut SuiteWork::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "CloudFormation can't delete the stack goloo-web: the security group (sg-0abc): resource sg-0abc has a dependent object"
    );
}

#[tokio::test]
async fn keep_failed_prevents_the_rollback_of_a_failed_stack() {
    let world = FaultyMoto::new();
    let mut machine = world.machine();
    for (keep, wanted) in [(false, "ROLLBACK"), (true, "DO_NOTHING")] {
        machine.keep_failed = keep;
        world.faults.reset();
        play_rollback(&world, &machine, "no capacity");
        world.provider().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
        let requests = world.faults.requests();
        let create = requests.iter().find(|request| request.action() == "CreateStack").unwrap();
        assert_eq!(create.parameter("OnFailure").as_deref(), Some(wanted));
    }
}

#[test]
fn a_response_delayed_by_ten_seconds_is_awaited_at_any_request() {
    // One account for all life cycles: each has its own proxy, and they wait concurrently.
    let moto = Moto::new();
    let live = |name: &str, stalled: Option<usize>| {
        let faults = FaultProxy::start(&moto.queue.endpoint);
        if let Some(number) = stalled {
            faults.fault(At::Request(number), Fault::Stall(Duration::from_secs(10)));
        }
        block_on(live_through(&faults, moto.machine(name)));
        faults.requests().len()
    };
    let requests = live("web", None);
    assert!(requests > 15, "too few requests: {requests}");
    side_by_side(requests, |number| {
        assert_eq!(live(&format!("web-{number}"), Some(number)), requests, "none is asked again");
    });
    assert_eq!(moto.made(), [""; 0]);
}
