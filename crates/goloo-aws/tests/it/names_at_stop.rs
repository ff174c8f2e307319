//! What happens to a VM's names on stop and start, with engine and provider together, against ministack, with addresses
//! that go back to AWS on stop.

use crate::common::dying_store::DyingStore;
use crate::common::named_vms::{Death, REGION, World, blue, green, killed_at, names_at, refusal, web};
use goloo_aws::details::Details;
use goloo_engine::{Engine, EngineError};
use goloo_model::name::VmName;
use goloo_model::provider::{LiveState, Provider, ProviderError, StopMode};
use goloo_model::record::Record;
use goloo_testkit::aws_answers;
use goloo_testkit::fault_proxy::{At, Fault};
use goloo_testkit::samples;

/// A VM with all names of its stack.
async fn world() -> World {
    let world = World::new();
    world.vm(&blue(), &web()).await;
    world.lend_addresses();
    world
}

async fn stop(world: &World, name: &VmName) -> Result<Record, EngineError> {
    world.engine(async |engine| engine.stop(name, StopMode::Graceful).await).await
}

async fn start(world: &World, name: &VmName) -> Result<Record, EngineError> {
    world.engine(async |engine| engine.start(name).await).await
}

async fn restart(world: &World, name: &VmName) -> Result<Record, EngineError> {
    world.engine(async |engine| engine.restart(name, StopMode::Graceful).await).await
}

/// What remains of [`names_at`] while the VM is stopped: the names that point to its own name.
fn aliases() -> Vec<String> {
    let mut names = names_at("");
    names.retain(|line| line.contains(" CNAME "));
    names
}

/// Stops or starts an instance without goloo.
async fn power(world: &World, action: &'static str, name: &VmName) {
    let instance = Details::of(&world.record(name).await).unwrap().instance_id.unwrap();
    world.aws.query("ec2", REGION, &[("Action", action), ("InstanceId.1", &instance)]);
}

async fn state(world: &World, name: &VmName) -> LiveState {
    world.provider().observe(&[&world.record(name).await]).await[0].state
}

/// The VM is off, its names are unassigned, and its record says so.
async fn assert_withdrawn(world: &World, name: &VmName, at: &str) {
    let record = world.record(name).await;
    assert_eq!(record.operation, None, "{at}");
    assert_eq!(state(world, name).await, LiveState::Stopped, "{at}");
    assert_eq!(world.live(), aliases(), "{at}");
    assert_eq!((record.ip(), record.fqdn()), (None, Some("web.example.com")), "{at}");
    let details = Details::of(&record).unwrap();
    let withdrawn = details.dns_records.iter().filter(|known| known.withdrawn);
    let withdrawn: Vec<&str> = withdrawn.map(|known| known.name.as_str()).collect();
    assert_eq!(withdrawn, ["web.example.com", "example.com"], "{at}");
}

/// The VM is running, all names point to it, and its record says so.
async fn assert_named(world: &World, name: &VmName, at: &str) {
    let record = world.record(name).await;
    assert_eq!(record.operation, None, "{at}");
    let seen = world.provider().observe(&[&record]).await.remove(0);
    assert_eq!((seen.state, seen.ip.as_deref()), (LiveState::Running, record.ip()), "{at}");
    assert_eq!(world.live(), names_at(record.ip().unwrap()), "{at}");
    assert_eq!(world.recorded(name).await, world.live(), "{at}");
    let details = Details::of(&record).unwrap();
    assert!(details.dns_records.iter().all(|known| !known.withdrawn && known.ttl == 60), "{at}");
}

#[tokio::test]
async fn emulator_stop_withdraws_the_names_and_start_sets_them_again() {
    let world = world().await;
    let first = world.address(&blue()).await;
    for round in 0..2 {
        stop(&world, &blue()).await.unwrap();
        assert_withdrawn(&world, &blue(), "stopped").await;
        let report = world.engine(async |engine| engine.dns_names(&blue()).await).await.unwrap();
        let withdrawn: Vec<(&str, bool)> =
            report.names.iter().map(|name| (name.name.as_str(), name.withdrawn)).collect();
        assert_eq!(
            withdrawn,
            [
                ("web.example.com", true),
                ("example.com", true),
                ("www.example.com", false),
                ("*.example.com", false)
            ]
        );
        assert_eq!((report.live.state, report.live.reason), (LiveState::Stopped, None));
        stop(&world, &blue()).await.unwrap();
        assert_withdrawn(&world, &blue(), "stopped twice").await;
        start(&world, &blue()).await.unwrap();
        assert_ne!(world.address(&blue()).await, first, "{round}");
        assert_named(&world, &blue(), "started").await;
    }
    restart(&world, &blue()).await.unwrap();
    assert_named(&world, &blue(), "restarted").await;
}

#[tokio::test]
async fn emulator_names_are_withdrawn_before_the_address_is_released() {
    let world = world().await;
    stop(&world, &blue()).await.unwrap();
    let actions = world.faults.actions();
    let place = |action: &str| actions.iter().position(|known| known == action).unwrap();
    let (order, batch) = (place("StopInstances"), place("ChangeResourceRecordSets"));
    assert!(order < batch, "{actions:?}");
    assert!(actions[order..batch].iter().all(|action| action != "DescribeInstances"), "{actions:?}");
    assert_eq!(actions.iter().filter(|action| *action == "ChangeResourceRecordSets").count(), 1);
}

#[tokio::test]
async fn emulator_names_of_an_elastic_ip_address_are_kept_at_stop() {
    let world = World::new();
    let address = world.vm(&blue(), &web()).await.endpoint.address.unwrap();
    // Simulates AWS's description of an address owned by an account; ministack's instances keep theirs.
    let (emulator, shown) = (world.aws.endpoint().to_owned(), address.clone());
    world.faults.answer("DescribeInstances", move |request| {
        let scope = request.header("authorization").unwrap_or_default();
        let answer = ureq::post(&emulator).header("authorization", scope).send(&request.body[..]).unwrap();
        let body = answer.into_body().read_to_string().unwrap();
        let association = format!(
            "<networkInterfaceSet><item><association><publicIp>{shown}</publicIp>\
             <ipOwnerId>123456789012</ipOwnerId></association></item></networkInterfaceSet><ipAddress>"
        );
        let body = body.replace("<networkInterfaceSet/>", "").replacen("<ipAddress>", &association, 1);
        Some(aws_answers::Reply { status: 200, kind: "text/xml", body })
    });
    stop(&world, &blue()).await.unwrap();
    assert_eq!(state(&world, &blue()).await, LiveState::Stopped);
    assert_eq!(world.live(), names_at(&address));
    assert_eq!(world.record(&blue()).await.ip(), Some(address.as_str()));
    let seen = world.provider().observe(&[&world.record(&blue()).await]).await.remove(0);
    assert_eq!(seen.reason, None);
    assert_eq!(world.batches(), 0);
    start(&world, &blue()).await.unwrap();
    assert_named(&world, &blue(), "started").await;
    assert_eq!(world.batches(), 0);
}

#[tokio::test]
async fn emulator_foreign_records_are_neither_withdrawn_nor_overwritten() {
    let world = world().await;
    world.overwrite("example.com", "A", &["192.0.2.9"]).await;
    stop(&world, &blue()).await.unwrap();
    let foreign = "example.com A 192.0.2.9".to_owned();
    let mut left = aliases();
    left.push(foreign.clone());
    left.sort();
    assert_eq!(world.live(), left);
    let seen = world.provider().observe(&[&world.record(&blue()).await]).await.remove(0);
    assert_eq!(seen.reason, None, "what someone else has isn't the stopped VM's");
    // While the VM is stopped, someone else takes its own name, too.
    world.overwrite("web.example.com", "A", &["192.0.2.8"]).await;
    let live = world.live();
    let started = start(&world, &blue()).await.unwrap();
    assert_eq!(world.live(), live);
    let details = Details::of(&started).unwrap();
    let own: Vec<&str> = details.dns_records.iter().map(|known| known.name.as_str()).collect();
    assert!(!own.contains(&"web.example.com"), "it lost the name: {own:?}");
    world.engine(async |engine| engine.delete(&blue(), None).await).await.unwrap();
    assert_eq!(
        world.live(),
        [
            "*.example.com CNAME web.example.com".to_owned(),
            foreign,
            "web.example.com A 192.0.2.8".to_owned(),
            "www.example.com CNAME web.example.com".to_owned()
        ]
    );
}

#[tokio::test]
async fn emulator_deleting_a_stopped_vm_removes_its_aliases() {
    let world = world().await;
    stop(&world, &blue()).await.unwrap();
    world.engine(async |engine| engine.delete(&blue(), None).await).await.unwrap();
    assert_eq!(world.live(), [""; 0]);
}

#[tokio::test]
async fn emulator_names_at_a_reassigned_address_are_kept_when_a_stopped_vm_is_deleted() {
    let world = world().await;
    let address = world.address(&blue()).await;
    stop(&world, &blue()).await.unwrap();
    // AWS has lent the address to a machine that took the name.
    world.overwrite("web.example.com", "A", &[&address]).await;
    world.engine(async |engine| engine.delete(&blue(), None).await).await.unwrap();
    assert!(world.live().contains(&format!("web.example.com A {address}")), "{:?}", world.live());
}

#[tokio::test]
async fn emulator_a_vm_stopped_outside_goloo_is_reported_and_its_names_repaired() {
    let world = world().await;
    let address = world.address(&blue()).await;
    power(&world, "StopInstances", &blue()).await;
    let seen = world.provider().observe(&[&world.record(&blue()).await]).await.remove(0);
    let reason = format!(
        "by its record web.example.com, example.com still point to {address}, which AWS may give to someone else"
    );
    assert_eq!((seen.state, seen.reason), (LiveState::Stopped, Some(reason.clone())));
    let report = world.engine(async |engine| engine.dns_names(&blue()).await).await.unwrap();
    assert_eq!(report.live.reason, Some(reason));
    stop(&world, &blue()).await.unwrap();
    assert_withdrawn(&world, &blue(), "stopped by both").await;
    start(&world, &blue()).await.unwrap();
    assert_named(&world, &blue(), "started").await;
    // Without a stop by goloo, the start moves the names.
    power(&world, "StopInstances", &blue()).await;
    start(&world, &blue()).await.unwrap();
    assert_named(&world, &blue(), "started after the console").await;
    // Stopped by goloo and started without it.
    stop(&world, &blue()).await.unwrap();
    power(&world, "StartInstances", &blue()).await;
    start(&world, &blue()).await.unwrap();
    assert_named(&world, &blue(), "started by both").await;
}

#[tokio::test]
async fn emulator_a_vm_stops_without_route_53_permission_and_its_names_are_reported() {
    let world = world().await;
    let address = world.address(&blue()).await;
    let denied = || aws_answers::error("route53", 403, "AccessDenied", "not authorized");
    world.faults.fault(At::Each("ChangeResourceRecordSets"), Fault::Refused(denied()));
    let error = stop(&world, &blue()).await.unwrap_err();
    let EngineError::Provider { source: ProviderError::Permission { what, hint }, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        what,
        format!(
            "the VM is stopped, but web.example.com, example.com still point to {address}, which AWS may give to someone else: \
             the AWS credentials don't allow route53:ChangeResourceRecordSets: not authorized"
        )
    );
    assert!(
        hint.debug_text().ends_with("; then run Stop { vm: VmName(\"web-blue\"), force: false } again"),
        "{hint:?}"
    );
    assert_eq!(state(&world, &blue()).await, LiveState::Stopped);
    assert_eq!(
        world.record(&blue()).await.ip(),
        Some(address.as_str()),
        "a later stop finds the names by it"
    );
    world.faults.reset();
    world.lend_addresses();
    stop(&world, &blue()).await.unwrap();
    assert_withdrawn(&world, &blue(), "with rights").await;
    world.faults.fault(At::Each("ChangeResourceRecordSets"), Fault::Refused(denied()));
    let error = start(&world, &blue()).await.unwrap_err();
    let text = refusal(error);
    assert!(text.starts_with("the VM is running, but its names don't point to it: "), "{text}");
    let seen = world.provider().observe(&[&world.record(&blue()).await]).await.remove(0);
    assert_eq!(seen.ip.as_deref(), world.record(&blue()).await.ip(), "it is reached all the same");
    world.faults.reset();
    world.lend_addresses();
    start(&world, &blue()).await.unwrap();
    assert_named(&world, &blue(), "with rights").await;
}

#[tokio::test]
async fn emulator_a_restart_continues_when_names_cannot_be_withdrawn() {
    let world = world().await;
    // The SDK doesn't retry a refusal: one while the VM is stopping, and one when it is off.
    for number in 1..=2 {
        let denied = aws_answers::error("route53", 403, "AccessDenied", "not authorized");
        world.faults.fault(At::Action("ChangeResourceRecordSets", number), Fault::Refused(denied));
    }
    restart(&world, &blue()).await.unwrap();
    assert_eq!(world.faults.struck(), 2);
    assert_named(&world, &blue(), "restarted").await;
}

#[tokio::test]
async fn emulator_a_deleted_zone_blocks_neither_stop_nor_start() {
    let world = world().await;
    world
        .change_record(&blue(), |record| {
            record.details.insert("zoneID".into(), "Z0123456789GONE".into());
        })
        .await;
    stop(&world, &blue()).await.unwrap();
    assert_eq!(world.record(&blue()).await.ip(), None);
    start(&world, &blue()).await.unwrap();
    assert!(world.record(&blue()).await.ip().is_some());
}

#[tokio::test]
async fn emulator_a_lost_response_is_distinguished_from_a_foreign_change() {
    let world = world().await;
    world.faults.fault(At::Action("ChangeResourceRecordSets", 1), Fault::ReplyLost);
    stop(&world, &blue()).await.unwrap();
    assert_withdrawn(&world, &blue(), "the withdrawal's answer was lost").await;
    world.faults.reset();
    world.lend_addresses();
    world.faults.fault(At::Action("ChangeResourceRecordSets", 1), Fault::ReplyLost);
    start(&world, &blue()).await.unwrap();
    assert_named(&world, &blue(), "the answer to setting them was lost").await;
    world.faults.reset();
    world.lend_addresses();
    world.faults.fault(At::Action("ChangeResourceRecordSets", 1), Fault::ReplyLost);
    world.engine(async |engine| engine.delete(&blue(), None).await).await.unwrap();
    assert_eq!(world.live(), [""; 0]);
}

#[tokio::test]
async fn emulator_a_swap_and_a_rollback_move_the_names_of_a_stopped_vm() {
    let world = World::blue_and_green().await;
    world.lend_addresses();
    stop(&world, &blue()).await.unwrap();
    let change = world.swap(&green()).await.unwrap();
    assert_eq!(change.giver.unwrap().name, blue());
    world.assert_agreed(&green(), "after the swap").await;
    // It must not set names on start that it has given away.
    start(&world, &blue()).await.unwrap();
    world.assert_agreed(&green(), "after the start").await;
    world.rollback(&green()).await.unwrap();
    assert_named(&world, &blue(), "after the rollback").await;
    assert_eq!(world.recorded(&green()).await, [""; 0]);
    // The other way round: their owner is off when they are returned.
    world.swap(&green()).await.unwrap();
    stop(&world, &green()).await.unwrap();
    world.rollback(&green()).await.unwrap();
    world.assert_agreed(&blue(), "after the rollback from a stopped one").await;
}

#[tokio::test]
async fn emulator_a_swap_to_a_stopped_vm_is_refused() {
    let world = World::blue_and_green().await;
    world.lend_addresses();
    stop(&world, &green()).await.unwrap();
    for force in [false, true] {
        let error = world.engine(async |engine| engine.dns_swap(&green(), None, force, None).await).await;
        assert_eq!(
            refusal(error.unwrap_err()),
            "\"web-green\", which would get the names, is stopped",
            "{force}"
        );
    }
    world.assert_agreed(&blue(), "refused").await;
}

#[derive(Debug, Clone, Copy)]
enum Power {
    Stop,
    Start,
}

impl Power {
    async fn act(self, engine: Engine<'_>) -> Result<Record, EngineError> {
        match self {
            Self::Stop => engine.stop(&blue(), StopMode::Graceful).await,
            Self::Start => engine.start(&blue()).await,
        }
    }

    /// Puts the VM into the state the operation requires.
    async fn prepare(self, world: &World) {
        world.faults.reset();
        world.lend_addresses();
        match self {
            Self::Stop => start(world, &blue()).await.unwrap(),
            Self::Start => stop(world, &blue()).await.unwrap(),
        };
        world.faults.reset();
        world.lend_addresses();
    }

    /// A killed operation is resumed; one that ended otherwise is repeated.
    async fn converge(self, world: &World, at: &str) {
        world.faults.reset();
        world.lend_addresses();
        if world.record(&blue()).await.operation.is_some() {
            world.resume(&blue()).await.unwrap();
        } else {
            world.engine(async |engine| self.act(engine).await).await.unwrap();
        }
        match self {
            Self::Stop => assert_withdrawn(world, &blue(), at).await,
            Self::Start => assert_named(world, &blue(), at).await,
        }
    }
}

async fn killed_at_every_request(power: Power) {
    let world = world().await;
    for death in [Death::Before, Death::After] {
        for number in 1.. {
            power.prepare(&world).await;
            let act = async { drop(world.engine(async |engine| power.act(engine).await).await) };
            let killed = killed_at(&world, number, death, act).await;
            power.converge(&world, &format!("{power:?} killed at request {number}, {death:?}")).await;
            if killed.is_none() {
                assert!(number > 5, "too few requests: {number}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn emulator_a_stop_killed_at_any_request_can_be_resumed() {
    killed_at_every_request(Power::Stop).await;
}

#[tokio::test]
async fn emulator_a_start_killed_at_any_request_can_be_resumed() {
    killed_at_every_request(Power::Start).await;
}

async fn killed_at_every_save(power: Power) -> usize {
    let world = world().await;
    for saves in 0.. {
        power.prepare(&world).await;
        let store = DyingStore::after(saves, &world.store);
        let died = tokio::select! {
            biased;
            () = store.death.comes() => true,
            ended = world.engine_on(&store, async |engine| power.act(engine).await) => ended.is_err(),
        };
        power.converge(&world, &format!("{power:?} killed after {saves} saves")).await;
        if !died {
            return saves;
        }
    }
    unreachable!("the loop ends by returning")
}

#[tokio::test]
async fn emulator_a_stop_killed_at_any_save_can_be_resumed() {
    assert_eq!(killed_at_every_save(Power::Stop).await, 3, "the intent, the names, the result");
}

#[tokio::test]
async fn emulator_a_start_killed_at_any_save_can_be_resumed() {
    assert_eq!(killed_at_every_save(Power::Start).await, 3, "the intent, the address, the result");
}

#[tokio::test]
async fn emulator_a_stop_or_start_that_fails_at_any_request_succeeds_when_retried() {
    let world = world().await;
    for power in [Power::Stop, Power::Start] {
        for fault in [Fault::CutBefore, Fault::ReplyLost, Fault::Throttled, Fault::ExpiredToken] {
            for number in 1.. {
                power.prepare(&world).await;
                world.faults.fault(At::From(number), fault.clone());
                let ended = world.engine(async |engine| power.act(engine).await).await;
                let struck = world.faults.struck();
                power.converge(&world, &format!("{power:?}, {fault:?} from {number}: {ended:?}")).await;
                if struck == 0 {
                    assert!(number > 5, "too few requests: {number}");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn emulator_a_new_vm_gets_and_keeps_the_names_of_a_stopped_vm() {
    let world = world().await;
    stop(&world, &blue()).await.unwrap();
    let red = samples::name("web-red");
    world.vm(&red, &web()).await;
    assert_eq!(world.live(), names_at(&world.address(&red).await));
    let live = world.live();
    start(&world, &blue()).await.unwrap();
    assert_eq!(world.live(), live);
    world.engine(async |engine| engine.delete(&blue(), None).await).await.unwrap();
    assert_eq!(world.live(), live);
}
