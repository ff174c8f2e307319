//! Moving names from one VM to another, with engine and provider together, against ministack, which rejects Route 53
//! changes as AWS does.

use std::sync::Arc;
use std::time::Duration;

use crate::common::dying_store::DyingStore;
use crate::common::named_vms::{
    Death, OLD, REGION, World, blue, by_host, green, killed_at, names_at, refusal, web,
};
use crate::common::{block_on, side_by_side};
use goloo_aws::details::Details;
use goloo_engine::{EngineError, Resumed};
use goloo_model::dns::{DnsChange, Holder};
use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::VmName;
use goloo_model::provider::ProviderError;
use goloo_model::record::{OperationKind, Record};
use goloo_model::spec::Dns;
use goloo_model::store::{Store, StoreError};
use goloo_testkit::aws_emulators::AwsEmulator;
use goloo_testkit::fault_proxy::{At, Fault};
use goloo_testkit::samples;

#[tokio::test]
async fn emulator_a_swap_and_its_rollback_move_all_names_in_one_batch() {
    let world = World::blue_and_green().await;
    world.assert_agreed(&blue(), "at first").await;
    let change = world.swap(&green()).await.unwrap();
    assert_eq!(change.giver.unwrap().name, blue());
    assert_eq!(world.batches(), 1);
    world.assert_agreed(&green(), "after the swap").await;
    let again = world.swap(&green()).await.unwrap();
    assert_eq!(again.difference(), (vec![], vec![]));
    assert_eq!(world.batches(), 1);
    world.rollback(&green()).await.unwrap();
    assert_eq!(world.batches(), 2);
    world.assert_agreed(&blue(), "after the rollback").await;
    let error = world.rollback(&green()).await.unwrap_err();
    let EngineError::Refused { what, hint } = error else { panic!("{error:?}") };
    assert_eq!(what, "\"web-green\" didn't get its DNS names from another VM");
    let rollback = NextStep::DnsRollback(blue());
    assert_eq!(hint, Hint::from("to return the names that \"web-blue\" got from it, run ").step(rollback));
    world.rollback(&blue()).await.unwrap();
    world.assert_agreed(&green(), "after the rollback of the rollback").await;
}

#[tokio::test]
async fn emulator_a_swap_keeps_ttls_and_names_that_only_one_vm_has() {
    let world = World::new();
    for name in [blue(), green()] {
        world.vm(&name, &by_host(&name)).await;
    }
    let before = world.live();
    let (at_blue, at_green) = (world.address(&blue()).await, world.address(&green()).await);
    world.swap(&green()).await.unwrap();
    let moved = [
        format!("example.com A {at_green}"),
        format!("web-blue.example.com A {at_blue}"),
        format!("web-green.example.com A {at_green}"),
        "www.example.com CNAME web-green.example.com".to_owned(),
    ];
    assert_eq!(world.live(), moved);
    assert_eq!(world.recorded(&blue()).await, moved[1..2]);
    assert_eq!(world.recorded(&green()).await, [&moved[..1], &moved[2..]].concat());
    let ttls: Vec<u32> = Details::of(&world.record(&green()).await)
        .unwrap()
        .dns_records
        .iter()
        .map(|known| known.ttl)
        .collect();
    assert_eq!(ttls, [60; 3]);
    world.rollback(&green()).await.unwrap();
    assert_eq!(world.live(), before);
    assert_eq!(world.record(&green()).await.fqdn(), Some("web-green.example.com"));
}

#[tokio::test]
async fn emulator_a_swap_is_refused_when_the_confirmed_record_has_changed() {
    let world = World::blue_and_green().await;
    let before = world.live();
    let agreed =
        Record { tags: [("team".to_owned(), "a".to_owned())].into(), ..world.record(&green()).await };
    let swapped =
        world.engine(async |engine| engine.dns_swap(&green(), None, false, Some(&agreed)).await).await;
    assert!(refusal(swapped.unwrap_err()).contains("was changed in the meantime"));
    assert_eq!((world.live(), world.batches()), (before, 0));
    world.swap(&green()).await.unwrap();
    let rolled_back =
        world.engine(async |engine| engine.dns_rollback(&green(), false, Some(&agreed)).await).await;
    assert!(refusal(rolled_back.unwrap_err()).contains("was changed in the meantime"));
}

#[tokio::test]
async fn emulator_foreign_records_are_replaced_only_with_force_and_rolled_back() {
    let world = World::blue_and_green().await;
    world.overwrite("example.com", "A", &["192.0.2.8", "192.0.2.9"]).await;
    let before = world.live();
    let error = world.swap(&green()).await.unwrap_err();
    let text = refusal(error);
    assert_eq!(
        text,
        "these names point elsewhere and are left unchanged: example.com (A 192.0.2.8 192.0.2.9)"
    );
    assert_eq!((world.live(), world.batches()), (before.clone(), 0));
    assert_eq!(world.record(&green()).await.operation, None);
    world.engine(async |engine| engine.dns_swap(&green(), None, true, None).await).await.unwrap();
    world.assert_agreed(&green(), "by force").await;
    world.rollback(&green()).await.unwrap();
    assert_eq!(world.live(), before);
    let at_blue = world.address(&blue()).await;
    let mut without_apex = names_at(&at_blue);
    without_apex.remove(1);
    assert_eq!(world.recorded(&blue()).await, without_apex);
    assert_eq!(world.recorded(&green()).await, [""; 0]);
}

#[tokio::test]
async fn emulator_a_record_changed_during_a_swap_is_left_unchanged() {
    let world = World::blue_and_green().await;
    let (aws, zone) = (world.aws.endpoint().to_owned(), world.zone.clone());
    world.faults.fault(
        At::Action("ChangeResourceRecordSets", 1),
        Fault::before(move |_| {
            let body = "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
                <ChangeBatch><Changes><Change><Action>UPSERT</Action><ResourceRecordSet>\
                <Name>example.com</Name><Type>A</Type><TTL>60</TTL><ResourceRecords><ResourceRecord>\
                <Value>192.0.2.9</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></Change>\
                </Changes></ChangeBatch></ChangeResourceRecordSetsRequest>";
            let url = format!("{aws}/2013-04-01/hostedzone/{zone}/rrset");
            ureq::post(url).send(body).unwrap();
        }),
    );
    let error = world.swap(&green()).await.unwrap_err();
    assert!(
        refusal(error).starts_with("someone else changed the DNS names of \"web-green\" in the meantime: ")
    );
    let at_blue = world.address(&blue()).await;
    let mut without_apex = names_at(&at_blue);
    without_apex.remove(1);
    assert_eq!(world.recorded(&blue()).await, without_apex);
    assert_eq!(world.recorded(&green()).await, [""; 0]);
    assert!(world.live().contains(&"example.com A 192.0.2.9".to_owned()));
    assert_eq!(world.record(&blue()).await.operation, None);
}

#[tokio::test]
async fn emulator_show_reports_the_owner_of_each_name() {
    let world = World::blue_and_green().await;
    world.swap(&green()).await.unwrap();
    world.overwrite("example.com", "A", &["192.0.2.9"]).await;
    let whose = async |name: VmName| {
        let report = world.engine(async |engine| engine.dns_names(&name).await).await.unwrap();
        let holders: Vec<(String, Holder)> =
            report.names.into_iter().map(|mut name| (name.name, name.live.remove(0).1)).collect();
        (holders, report.previous.map(|previous| previous.vm.unwrap().name))
    };
    let expected = |holder: Holder| {
        [
            ("web.example.com".to_owned(), holder.clone()),
            ("example.com".to_owned(), Holder::Foreign),
            ("www.example.com".to_owned(), holder.clone()),
            ("*.example.com".to_owned(), holder),
        ]
    };
    assert_eq!(whose(green()).await, (expected(Holder::This).to_vec(), Some(blue())));
    assert_eq!(whose(blue()).await, (expected(Holder::Vm(green())).to_vec(), None));
}

#[tokio::test]
async fn emulator_starting_or_deleting_the_old_vm_keeps_the_names_of_the_new_one() {
    let world = World::blue_and_green().await;
    world.swap(&green()).await.unwrap();
    let live = world.live();
    // Simulates a changed address: its names would follow if it had any.
    world.change_record(&blue(), |record| record.endpoint.address = "192.0.2.77".parse().ok()).await;
    world.engine(async |engine| engine.start(&blue()).await).await.unwrap();
    assert_eq!(world.live(), live);
    world.engine(async |engine| engine.delete(&blue(), None).await).await.unwrap();
    assert_eq!(world.live(), live);
    let error = world.rollback(&green()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"web-blue\", which had the DNS names of \"web-green\" before, no longer exists"
    );
    world.engine(async |engine| engine.delete(&green(), None).await).await.unwrap();
    assert_eq!(world.live(), [""; 0]);
}

#[tokio::test]
async fn emulator_names_point_to_the_current_address_of_a_vm() {
    let world = World::blue_and_green().await;
    world.had_another_address(&blue()).await;
    world.swap(&green()).await.unwrap();
    let address = world.address(&green()).await;
    world.had_another_address(&green()).await;
    world.engine(async |engine| engine.start(&green()).await).await.unwrap();
    assert_eq!(world.address(&green()).await, address);
    world.assert_agreed(&green(), "after the start").await;
    world.rollback(&green()).await.unwrap();
    assert_ne!(world.address(&blue()).await, OLD);
    world.assert_agreed(&blue(), "after the rollback").await;
}

#[tokio::test]
async fn emulator_the_target_of_a_swap_must_be_running_and_have_names_configured() {
    let world = World::blue_and_green().await;
    let mut none = world.without_names(&samples::name("none"));
    world.keep(&mut none).await;
    let error = world.swap(&none.name).await.unwrap_err();
    assert!(
        matches!(error, EngineError::Provider { source: ProviderError::Unsupported { .. }, .. }),
        "{error:?}"
    );
    let error =
        world.engine(async |engine| engine.dns_swap(&green(), Some(&green()), false, None).await).await;
    assert!(matches!(error, Err(EngineError::Refused { .. })), "{error:?}");
    let instance = Details::of(&world.record(&green()).await).unwrap().instance_id.unwrap();
    world.aws.query("ec2", REGION, &[("Action", "StopInstances"), ("InstanceId.1", &instance)]);
    assert_eq!(
        refusal(world.swap(&green()).await.unwrap_err()),
        "\"web-green\", which would get the names, is stopped"
    );
    // Its last address may belong to someone else by now, even if the user forces it.
    let forced = world.engine(async |engine| engine.dns_swap(&green(), None, true, None).await).await;
    assert_eq!(refusal(forced.unwrap_err()), "\"web-green\", which would get the names, is stopped");
    world.assert_agreed(&blue(), "refused").await;
    world.engine(async |engine| engine.start(&green()).await).await.unwrap();
    world.swap(&green()).await.unwrap();
    world.assert_agreed(&green(), "started").await;
}

#[tokio::test]
async fn emulator_one_of_two_concurrent_swaps_is_refused_as_locked() {
    let world = World::blue_and_green().await;
    let held = world.store.lock(&blue(), &samples::owner(2)).await.unwrap();
    let error = world.swap(&green()).await.unwrap_err();
    assert!(matches!(error, EngineError::Store(StoreError::Locked { .. })), "{error:?}");
    drop(held);
    assert_eq!(world.batches(), 0);
    let green = green();
    let (one, other) = tokio::join!(world.swap(&green), world.swap(&green));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    world.assert_agreed(&green, "after both").await;
}

#[tokio::test]
async fn emulator_a_swap_with_several_possible_sources_requires_a_choice() {
    let world = World::new();
    let red = samples::name("web-red");
    world.vm(&blue(), &Dns { is_apex_domain: false, cname_aliases: vec![], ..web() }).await;
    world.vm(&red, &Dns { hostname: "red".into(), cname_aliases: vec![], ..web() }).await;
    world.vm(&green(), &Dns { cname_aliases: vec![], ..web() }).await;
    let error = world.swap(&green()).await.unwrap_err();
    let EngineError::Refused { what, hint } = error else { panic!("{error:?}") };
    assert_eq!(what, "several VMs have DNS names that \"web-green\" is configured to use: web-blue, web-red");
    let swap = NextStep::DnsSwap { to: Some(green()), from: Some(blue()), force: false };
    assert_eq!(hint, Hint::from("choose the VM to take them from: ").step(swap));
    let error =
        world.engine(async |engine| engine.dns_swap(&green(), Some(&blue()), false, None).await).await;
    let at_red = world.address(&red).await;
    assert_eq!(
        refusal(error.unwrap_err()),
        format!("these names point elsewhere and are left unchanged: example.com (A {at_red})")
    );
}

fn kinds() -> [Fault; 5] {
    [Fault::CutBefore, Fault::ReplyLost, Fault::Status500, Fault::Throttled, Fault::ExpiredToken]
}

/// A repeatable operation that moves the names from one VM to the other.
#[derive(Debug, Clone, Copy)]
enum Move {
    Swap,
    Rollback,
}

impl Move {
    /// Returns the VMs that own the names and are to receive them.
    async fn prepare(self, world: &World) -> (VmName, VmName) {
        world.faults.reset();
        let at_blue = !world.recorded(&blue()).await.is_empty();
        let (giver, taker) = if at_blue { (blue(), green()) } else { (green(), blue()) };
        if matches!(self, Self::Swap) {
            return (giver, taker);
        }
        // So that the rollback has something to restore.
        world.swap(&taker).await.unwrap();
        (taker, giver)
    }

    async fn act(self, world: &World, giver: &VmName, taker: &VmName) -> Result<DnsChange, EngineError> {
        match self {
            Self::Swap => world.swap(taker).await,
            Self::Rollback => world.rollback(giver).await,
        }
    }

    fn kind(self) -> OperationKind {
        match self {
            Self::Swap => OperationKind::DnsSwap,
            Self::Rollback => OperationKind::DnsRollback,
        }
    }
}

/// Whatever happened, the zone is consistent, and either nothing has changed or `resume` completes the change.
async fn assert_converges(
    world: &World,
    what: Move,
    (giver, taker): (&VmName, &VmName),
    asked: &VmName,
    at: &str,
) {
    let of_giver = names_at(&world.address(giver).await);
    let of_taker = names_at(&world.address(taker).await);
    let live = world.live();
    assert!(live == of_giver || live == of_taker, "half moved, {at}: {live:?}");
    world.faults.reset();
    let locked = |record: Record| record.operation.map(|operation| operation.kind);
    if locked(world.record(asked).await).is_some() {
        let power = world.engine(async |engine| engine.start(asked).await).await;
        assert!(matches!(power, Err(EngineError::Unfinished { .. })), "{at}: {power:?}");
        let resumed = world.resume(asked).await;
        assert!(matches!(resumed, Ok(Resumed::Names(_))), "{at}: {resumed:?}");
    } else if live == of_giver {
        // Nothing has changed, and nothing is left to do.
        world.assert_agreed(giver, at).await;
        what.act(world, giver, taker).await.unwrap();
    }
    world.assert_agreed(taker, at).await;
}

async fn at_every_request(what: Move, fault_at: fn(usize) -> At, faults: &[Fault]) {
    let world = World::blue_and_green().await;
    for fault in faults {
        for number in 1.. {
            let (giver, taker) = what.prepare(&world).await;
            world.faults.reset();
            world.faults.fault(fault_at(number), fault.clone());
            let ended = what.act(&world, &giver, &taker).await;
            let struck = world.faults.struck();
            let at = format!("{what:?}, {fault:?} at {:?}: {ended:?}", fault_at(number));
            let asked = if number % 2 == 0 { &giver } else { &taker };
            assert_converges(&world, what, (&giver, &taker), asked, &at).await;
            if struck == 0 {
                assert!(number > 5, "too few requests: {number}");
                ended.unwrap();
                break;
            }
        }
    }
}

#[tokio::test]
async fn emulator_a_swap_that_fails_from_any_request_on_can_be_resumed() {
    at_every_request(Move::Swap, At::From, &kinds()).await;
}

#[tokio::test]
async fn emulator_a_rollback_that_fails_from_any_request_on_can_be_resumed() {
    at_every_request(Move::Rollback, At::From, &kinds()).await;
}

#[tokio::test]
async fn emulator_a_single_fault_at_any_request_leaves_no_swap_half_done() {
    at_every_request(Move::Swap, At::Request, &kinds()).await;
}

#[tokio::test]
async fn emulator_a_single_fault_at_any_request_leaves_no_rollback_half_done() {
    at_every_request(Move::Rollback, At::Request, &kinds()).await;
}

#[test]
fn emulator_a_swap_awaits_a_response_delayed_by_ten_seconds() {
    // One account for all swaps: each has its own zone and its own proxy, and they wait concurrently.
    let aws = Arc::new(AwsEmulator::ministack());
    let swapped = |number: Option<usize>| {
        block_on(async {
            let world = World::beside(aws.clone()).with_blue_and_green().await;
            world.faults.reset();
            if let Some(number) = number {
                world.faults.fault(At::Request(number), Fault::Stall(Duration::from_secs(10)));
            }
            world.swap(&green()).await.unwrap();
            let requests = world.faults.requests().len();
            world.assert_agreed(&green(), &format!("stalled at request {number:?}")).await;
            requests
        })
    };
    let requests = swapped(None);
    side_by_side(requests, |number| assert_eq!(swapped(Some(number)), requests));
}

async fn killed_at_every_request(what: Move) {
    let world = World::blue_and_green().await;
    for death in [Death::Before, Death::After] {
        for number in 1.. {
            let (giver, taker) = what.prepare(&world).await;
            world.faults.reset();
            let act = async { drop(what.act(&world, &giver, &taker).await) };
            let killed = killed_at(&world, number, death, act).await;
            let at = format!("{what:?} killed at request {number}, {death:?}");
            let asked = if number % 2 == 0 { &giver } else { &taker };
            let intents = [&giver, &taker].map(async |name| world.record(name).await.operation);
            let [one, other] = intents;
            assert_eq!(
                one.await.map(|operation| operation.kind),
                other.await.map(|operation| operation.kind)
            );
            let locked = world.record(asked).await.operation.map(|operation| operation.kind);
            assert!(locked.is_none_or(|kind| kind == what.kind()), "{at}");
            assert_converges(&world, what, (&giver, &taker), asked, &at).await;
            if killed.is_none() {
                assert!(number > 5, "too few requests: {number}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn emulator_a_swap_killed_at_any_request_can_be_resumed() {
    killed_at_every_request(Move::Swap).await;
}

#[tokio::test]
async fn emulator_a_rollback_killed_at_any_request_can_be_resumed() {
    killed_at_every_request(Move::Rollback).await;
}

async fn killed_at_every_save(what: Move) {
    let world = World::blue_and_green().await;
    for saves in 0.. {
        for ask_taker in [true, false] {
            let (giver, taker) = what.prepare(&world).await;
            let store = DyingStore::after(saves, &world.store);
            let died = tokio::select! {
                biased;
                () = store.death.comes() => true,
                ended = world.engine_on(&store, async |engine| match what {
                    Move::Swap => engine.dns_swap(&taker, None, false, None).await,
                    Move::Rollback => engine.dns_rollback(&giver, false, None).await,
                }) => ended.is_err(),
            };
            let (asked, other) = if ask_taker { (&taker, &giver) } else { (&giver, &taker) };
            let at = format!("{what:?} killed after {saves} saves, {asked} resumed");
            let is_free = world.record(asked).await.operation.is_none();
            // One record may be finished already, or not affected yet.
            let asked = if is_free { other } else { asked };
            assert_converges(&world, what, (&giver, &taker), asked, &at).await;
            if !died {
                assert_eq!(saves, 4, "an intent and a result in both records");
                return;
            }
        }
    }
}

#[tokio::test]
async fn emulator_a_swap_killed_at_any_save_can_be_resumed() {
    killed_at_every_save(Move::Swap).await;
}

#[tokio::test]
async fn emulator_a_rollback_killed_at_any_save_can_be_resumed() {
    killed_at_every_save(Move::Rollback).await;
}

#[tokio::test]
async fn emulator_a_resume_leaves_a_record_that_finished_the_swap_unchanged() {
    let world = World::blue_and_green().await;
    // Two intents and the target's result.
    let store = DyingStore::after(3, &world.store);
    tokio::select! {
        biased;
        () = store.death.comes() => {}
        ended = world.engine_on(&store, async |engine| engine.dns_swap(&green(), None, false, None).await) => panic!("{ended:?}"),
    }
    let mut other = samples::creating(&green()).operation.unwrap();
    other.kind = OperationKind::Stop;
    world.change_record(&green(), |record| record.operation = Some(other.clone())).await;
    world.resume(&blue()).await.unwrap();
    assert_eq!(world.record(&green()).await.operation, Some(other));
    world.change_record(&green(), |record| record.operation = None).await;
    world.assert_agreed(&green(), "after the resume").await;
}

#[tokio::test]
async fn emulator_a_vm_without_recorded_resources_can_swap_its_names_back() {
    let world = World::blue_and_green().await;
    // Simulates records of VMs from an older goloo.
    world.change_record(&blue(), |record| record.resources.clear()).await;
    world.swap(&green()).await.unwrap();
    world.swap(&blue()).await.unwrap();
    world.assert_agreed(&blue(), "after both swaps").await;
}

#[tokio::test]
async fn emulator_a_vm_can_be_deleted_in_the_middle_of_a_swap() {
    for (deleted, stays) in [(blue(), green()), (green(), blue())] {
        for death in [Death::Before, Death::After] {
            let world = World::blue_and_green().await;
            let number = {
                world.swap(&green()).await.unwrap();
                let number =
                    world.faults.actions().iter().position(|action| action == "ChangeResourceRecordSets");
                world.rollback(&green()).await.unwrap();
                number.unwrap() + 1
            };
            world.faults.reset();
            let act = async { drop(world.swap(&green()).await) };
            killed_at(&world, number, death, act).await.unwrap();
            world.faults.reset();
            world.engine(async |engine| engine.delete(&deleted, None).await).await.unwrap();
            let resumed = world.resume(&stays).await;
            let at = format!("{deleted} deleted, killed {death:?}: {resumed:?}");
            assert_eq!(world.record(&stays).await.operation, None, "{at}");
            assert_eq!(world.recorded(&stays).await, world.live(), "{at}");
            world.engine(async |engine| engine.delete(&stays, None).await).await.unwrap();
            assert_eq!(world.live(), [""; 0], "{at}");
        }
    }
}
