//! What networks and clouds do and emulators don't: cut, lost, throttled and expired calls, and stacks that
//! fail, in AWS's documented shapes.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::moto::{Moto, REGION};
use common::{block_on, settings, side_by_side};
use goloo_aws::AwsProvider;
use goloo_core::provider::{Machine, Made, Provider, ProviderError, StopMode, resource};
use goloo_core::record::{Aws, ProviderKind, Record};
use goloo_testkit::aws_answers::{self, Stack, StackEvent};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy};
use goloo_testkit::provider_suite::{Bench, SuiteWork, record};

/// goloo, the faults, and moto behind them.
struct World {
    moto: Moto,
    faults: FaultProxy,
}

impl World {
    fn new() -> Self {
        let moto = Moto::new();
        Self { faults: FaultProxy::start(&moto.queue.endpoint), moto }
    }

    fn provider(&self) -> AwsProvider {
        provider(&self.faults)
    }

    fn machine(&self) -> Machine {
        self.moto.machine("web")
    }

    async fn create(&self) -> Record {
        create(&self.provider(), self.machine()).await
    }
}

/// As a new goloo process has it.
fn provider(faults: &FaultProxy) -> AwsProvider {
    AwsProvider::new(settings(faults.endpoint(), REGION))
}

/// A whole life: create, stop, start, delete, each by a new goloo.
async fn live_through(faults: &FaultProxy, machine: Machine) {
    let mut record = create(&provider(faults), machine).await;
    stop(&provider(faults), &record).await.unwrap();
    record.aws = Some(start(&provider(faults), &record).await);
    provider(faults).delete(&record, &mut SuiteWork::default()).await.unwrap();
}

async fn create(provider: &AwsProvider, machine: Machine) -> Record {
    let mut work = SuiteWork::default();
    let made = provider.create(&machine, &mut work).await.unwrap();
    noted(&machine, &work, Some(made))
}

fn noted(machine: &Machine, work: &SuiteWork, made: Option<Made>) -> Record {
    let mut record = record(machine, ProviderKind::Aws);
    record.resources = work.made.iter().map(|(kind, id)| resource(kind, id, &machine.token)).collect();
    if let Some(Made::Aws(aws)) = made {
        record.aws = Some(aws);
    }
    record
}

/// Each kind in which a call can fail for good: not carried out, carried out, refused.
fn kinds() -> [Fault; 5] {
    [Fault::CutBefore, Fault::ReplyLost, Fault::Status500, Fault::Throttled, Fault::ExpiredToken]
}

/// From one request of what `act` does on, nothing works, and then all does again: for every request and each
/// kind of fault. `begin` and `go_on` meet no fault; what there was before them is there after them, and no more.
async fn at_every_request_in<S>(
    world: &World,
    begin: impl AsyncFn(&World) -> S,
    act: impl AsyncFn(&World, &mut S),
    go_on: impl AsyncFn(&World, S),
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
    begin: impl AsyncFn(&World) -> S,
    act: impl AsyncFn(&World, &mut S),
    go_on: impl AsyncFn(&World, S),
) {
    at_every_request_in(&World::new(), begin, act, go_on).await;
}

/// A machine that is to be made, and what is noted of it.
async fn wanted(world: &World) -> (Machine, SuiteWork) {
    (world.machine(), SuiteWork::default())
}

async fn try_to_create(world: &World, (machine, work): &mut (Machine, SuiteWork)) {
    world.provider().create(machine, work).await.ok();
}

async fn delete(world: &World, record: &Record) {
    world.provider().delete(record, &mut SuiteWork::default()).await.unwrap();
}

#[tokio::test]
async fn a_create_that_fails_at_any_request_can_go_on_and_leaves_nothing_when_deleted() {
    at_every_request(wanted, try_to_create, async |world, (machine, mut work)| {
        let made = world.provider().create(&machine, &mut work).await.unwrap();
        assert_eq!(world.moto.running().await, 1);
        delete(world, &noted(&machine, &work, Some(made))).await;
    })
    .await;
}

#[tokio::test]
async fn a_create_that_fails_at_any_request_can_be_deleted_by_its_notes() {
    at_every_request(wanted, try_to_create, async |world, (machine, work)| {
        delete(world, &noted(&machine, &work, None)).await;
    })
    .await;
}

#[tokio::test]
async fn a_delete_that_fails_at_any_request_goes_on_later() {
    at_every_request(
        World::create,
        async |world, record| {
            world.provider().delete(record, &mut SuiteWork::default()).await.ok();
        },
        async |world, record| delete(world, &record).await,
    )
    .await;
}

/// One machine for all requests: it is running before each stop.
#[tokio::test]
async fn a_stop_that_fails_at_any_request_works_the_next_time() {
    let world = World::new();
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
            record.aws = Some(start(&world.provider(), &record).await);
        },
    )
    .await;
    delete(&world, &record).await;
    assert_eq!(world.moto.made(), [""; 0]);
}

/// One machine for all requests: it is stopped before each start.
#[tokio::test]
async fn a_start_that_fails_at_any_request_works_the_next_time() {
    let world = World::new();
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

async fn start(provider: &AwsProvider, record: &Record) -> Aws {
    match provider.start(record, &mut SuiteWork::default()).await.unwrap() {
        Made::Aws(aws) => aws,
        Made::Local(_) => panic!("not in AWS"),
    }
}

#[tokio::test]
async fn a_single_fault_at_any_request_is_got_over() {
    let world = World::new();
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
async fn a_stack_that_no_answer_tells_of_is_found_by_its_name() {
    let world = World::new();
    world.faults.fault(At::Each("CreateStack"), Fault::ReplyLost);
    let record = world.create().await;
    assert!(world.faults.struck() > 1, "the SDK asks again first");
    assert_eq!(world.moto.running().await, 1);
    world.faults.reset();
    delete(&world, &record).await;
    assert_eq!(world.moto.made(), [""; 0]);
}

#[tokio::test]
async fn an_observation_that_fails_says_unknown_and_why() {
    let world = World::new();
    let record = world.create().await;
    for fault in kinds() {
        world.faults.reset();
        world.faults.fault(At::From(1), fault.clone());
        let seen = world.provider().observe(&[&record]).await.remove(0);
        assert_eq!(seen.state, goloo_core::provider::LiveState::Unknown, "{fault:?}");
        assert!(
            seen.reason.is_some_and(
                |reason| reason.contains("ec2:DescribeInstances") || reason.contains("credentials")
            ),
            "{fault:?}"
        );
    }
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

/// A stack that fails because of its instance, told in two pages, the newest first.
fn play_rollback(world: &World, machine: &Machine, reason: &'static str) {
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
async fn the_first_thing_that_failed_is_the_error() {
    let world = World::new();
    let machine = world.machine();
    play_rollback(&world, &machine, "We currently do not have sufficient t3.nano capacity");
    let error = world.provider().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "the instance: We currently do not have sufficient t3.nano capacity");
}

#[tokio::test]
async fn a_permission_that_lacks_within_a_stack_is_one_that_lacks() {
    let world = World::new();
    let machine = world.machine();
    play_rollback(&world, &machine, "You are not authorized to perform this operation. (ec2:RunInstances)");
    let error = world.provider().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Permission { .. }), "{error:?}");
}

#[tokio::test]
async fn what_an_earlier_try_left_is_removed_before_the_next_one() {
    let world = World::new();
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
    assert_eq!(tokens, [machine.token.to_string(), format!("{}-2", machine.token)]);
}

#[tokio::test]
async fn a_delete_that_aws_cannot_finish_names_what_holds_it() {
    let world = World::new();
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
async fn a_stack_that_is_to_be_looked_at_when_it_fails_is_not_taken_back() {
    let world = World::new();
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
fn an_answer_that_takes_ten_seconds_is_waited_for_at_any_request() {
    // One account for all lives: each has its own proxy, and they wait side by side.
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
