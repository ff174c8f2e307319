//! Names that move from one VM to another, engine and provider together, against ministack: it refuses in
//! Route 53 as AWS does.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::dying_store::DyingStore;
use common::named_vms::{Death, OLD, REGION, World, blue, by_host, green, killed_at, names_at, refusal, web};
use common::{block_on, side_by_side};
use goloo_aws::details::Details;
use goloo_core::dns::{DnsChange, Holder};
use goloo_core::engine::{EngineError, Resumed};
use goloo_core::name::VmName;
use goloo_core::provider::ProviderError;
use goloo_core::record::{OperationKind, Record};
use goloo_core::spec::Dns;
use goloo_core::store::{Store, StoreError};
use goloo_testkit::aws_emulators::AwsEmulator;
use goloo_testkit::fault_proxy::{At, Fault};
use goloo_testkit::samples;

#[tokio::test]
async fn emulator_all_names_move_in_one_batch_and_back() {
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
    assert_eq!(what, "\"web-green\" got its names from nobody");
    assert_eq!(hint, "\"web-blue\" got names from it: goloo dns rollback web-blue");
    world.rollback(&blue()).await.unwrap();
    world.assert_agreed(&green(), "after the rollback of the rollback").await;
}

#[tokio::test]
async fn emulator_ttls_and_names_of_its_own_are_kept() {
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
    let ttls: Vec<u32> = Details::of(&world.record(&green()).await.aws.unwrap())
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
async fn emulator_what_leads_elsewhere_is_replaced_with_force_only_and_comes_back() {
    let world = World::blue_and_green().await;
    world.overwrite("example.com", "A", &["192.0.2.8", "192.0.2.9"]).await;
    let before = world.live();
    let error = world.swap(&green()).await.unwrap_err();
    let text = refusal(error);
    assert_eq!(text, "what leads elsewhere is left alone: example.com (A 192.0.2.8 192.0.2.9)");
    assert_eq!((world.live(), world.batches()), (before.clone(), 0));
    assert_eq!(world.record(&green()).await.operation, None);
    world.engine(async |engine| engine.dns_swap(&green(), None, true).await).await.unwrap();
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
async fn emulator_a_name_that_changes_while_it_moves_stays_as_it_is() {
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
    assert!(refusal(error).starts_with("someone else changed the names of \"web-green\" meanwhile: "));
    let at_blue = world.address(&blue()).await;
    let mut without_apex = names_at(&at_blue);
    without_apex.remove(1);
    assert_eq!(world.recorded(&blue()).await, without_apex);
    assert_eq!(world.recorded(&green()).await, [""; 0]);
    assert!(world.live().contains(&"example.com A 192.0.2.9".to_owned()));
    assert_eq!(world.record(&blue()).await.operation, None);
}

#[tokio::test]
async fn emulator_show_says_whose_each_name_is() {
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
async fn emulator_the_old_vm_takes_no_name_of_the_new_one_with_it() {
    let world = World::blue_and_green().await;
    world.swap(&green()).await.unwrap();
    let live = world.live();
    // As if its address had changed: its names would follow, if it had any.
    world
        .change_record(&blue(), |record| record.aws.as_mut().unwrap().public_ip = "192.0.2.77".parse().ok())
        .await;
    world.engine(async |engine| engine.start(&blue()).await).await.unwrap();
    assert_eq!(world.live(), live);
    world.engine(async |engine| engine.delete(&blue(), None).await).await.unwrap();
    assert_eq!(world.live(), live);
    let error = world.rollback(&green()).await.unwrap_err();
    assert_eq!(error.to_string(), "\"web-blue\", which had the names of \"web-green\" before, is gone");
    world.engine(async |engine| engine.delete(&green(), None).await).await.unwrap();
    assert_eq!(world.live(), [""; 0]);
}

#[tokio::test]
async fn emulator_names_lead_to_the_address_that_a_vm_has_by_then() {
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
async fn emulator_names_go_to_a_vm_that_runs_and_asks_for_them() {
    let world = World::blue_and_green().await;
    let mut none = world.without_names(&samples::name("none"));
    world.keep(&mut none).await;
    let error = world.swap(&none.name).await.unwrap_err();
    assert!(
        matches!(error, EngineError::Provider { source: ProviderError::Unsupported { .. }, .. }),
        "{error:?}"
    );
    let error = world.engine(async |engine| engine.dns_swap(&green(), Some(&green()), false).await).await;
    assert!(matches!(error, Err(EngineError::Refused { .. })), "{error:?}");
    let instance = world.record(&green()).await.aws.unwrap().instance_id.unwrap();
    world.aws.query("ec2", REGION, &[("Action", "StopInstances"), ("InstanceId.1", &instance)]);
    assert_eq!(
        refusal(world.swap(&green()).await.unwrap_err()),
        "\"web-green\", which is to get the names, is stopped"
    );
    // Its last address may be someone else's by now, whatever a person forces.
    let forced = world.engine(async |engine| engine.dns_swap(&green(), None, true).await).await;
    assert_eq!(refusal(forced.unwrap_err()), "\"web-green\", which is to get the names, is stopped");
    world.assert_agreed(&blue(), "refused").await;
    world.engine(async |engine| engine.start(&green()).await).await.unwrap();
    world.swap(&green()).await.unwrap();
    world.assert_agreed(&green(), "started").await;
}

#[tokio::test]
async fn emulator_of_two_moves_at_once_one_is_told_that_the_other_is_at_work() {
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
async fn emulator_who_gives_is_asked_for_where_several_could() {
    let world = World::new();
    let red = samples::name("web-red");
    world.vm(&blue(), &Dns { is_apex_domain: false, cname_aliases: vec![], ..web() }).await;
    world.vm(&red, &Dns { hostname: "red".into(), cname_aliases: vec![], ..web() }).await;
    world.vm(&green(), &Dns { cname_aliases: vec![], ..web() }).await;
    let error = world.swap(&green()).await.unwrap_err();
    let EngineError::Refused { what, hint } = error else { panic!("{error:?}") };
    assert_eq!(what, "several VMs have names that \"web-green\" asks for: web-blue, web-red");
    assert_eq!(hint, "say whose are to move: goloo dns swap web-green --from web-blue");
    let error = world.engine(async |engine| engine.dns_swap(&green(), Some(&blue()), false).await).await;
    let at_red = world.address(&red).await;
    assert_eq!(
        refusal(error.unwrap_err()),
        format!("what leads elsewhere is left alone: example.com (A {at_red})")
    );
}

fn kinds() -> [Fault; 5] {
    [Fault::CutBefore, Fault::ReplyLost, Fault::Status500, Fault::Throttled, Fault::ExpiredToken]
}

/// What is done to names, as often as wanted: it moves them from one to the other.
#[derive(Debug, Clone, Copy)]
enum Move {
    Swap,
    Rollback,
}

impl Move {
    /// Who has the names and is to give them.
    async fn prepare(self, world: &World) -> (VmName, VmName) {
        world.faults.reset();
        let at_blue = !world.recorded(&blue()).await.is_empty();
        let (giver, taker) = if at_blue { (blue(), green()) } else { (green(), blue()) };
        if matches!(self, Self::Swap) {
            return (giver, taker);
        }
        // The rollback is to have something to go back to.
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

/// Whatever happened: the zone is whole, and either nothing has happened, or `resume` finishes it.
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
    let under_way = |record: Record| record.operation.map(|operation| operation.kind);
    if under_way(world.record(asked).await).is_some() {
        let power = world.engine(async |engine| engine.start(asked).await).await;
        assert!(matches!(power, Err(EngineError::Unfinished { .. })), "{at}: {power:?}");
        let resumed = world.resume(asked).await;
        assert!(matches!(resumed, Ok(Resumed::Names(_))), "{at}: {resumed:?}");
    } else if live == of_giver {
        // Nothing has happened, and nothing is left to do.
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
async fn emulator_a_swap_that_fails_from_any_request_on_can_go_on() {
    at_every_request(Move::Swap, At::From, &kinds()).await;
}

#[tokio::test]
async fn emulator_a_rollback_that_fails_from_any_request_on_can_go_on() {
    at_every_request(Move::Rollback, At::From, &kinds()).await;
}

#[tokio::test]
async fn emulator_a_single_fault_at_any_request_of_a_swap_leaves_nothing_half_done() {
    at_every_request(Move::Swap, At::Request, &kinds()).await;
}

#[tokio::test]
async fn emulator_a_single_fault_at_any_request_of_a_rollback_leaves_nothing_half_done() {
    at_every_request(Move::Rollback, At::Request, &kinds()).await;
}

#[test]
fn emulator_a_swap_waits_ten_seconds_for_an_answer_at_any_request() {
    // One account for all swaps: each has its own zone and its own proxy, and they wait side by side.
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
            let under_way = world.record(asked).await.operation.map(|operation| operation.kind);
            assert!(under_way.is_none_or(|kind| kind == what.kind()), "{at}");
            assert_converges(&world, what, (&giver, &taker), asked, &at).await;
            if killed.is_none() {
                assert!(number > 5, "too few requests: {number}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn emulator_a_swap_that_is_killed_at_any_request_can_go_on() {
    killed_at_every_request(Move::Swap).await;
}

#[tokio::test]
async fn emulator_a_rollback_that_is_killed_at_any_request_can_go_on() {
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
                    Move::Swap => engine.dns_swap(&taker, None, false).await,
                    Move::Rollback => engine.dns_rollback(&giver, false).await,
                }) => ended.is_err(),
            };
            let (asked, other) = if ask_taker { (&taker, &giver) } else { (&giver, &taker) };
            let at = format!("{what:?} killed after {saves} saves, {asked} resumed");
            let is_free = world.record(asked).await.operation.is_none();
            // One record may be done with it, or not have heard of it yet.
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
async fn emulator_a_swap_that_is_killed_at_any_save_can_go_on() {
    killed_at_every_save(Move::Swap).await;
}

#[tokio::test]
async fn emulator_a_rollback_that_is_killed_at_any_save_can_go_on() {
    killed_at_every_save(Move::Rollback).await;
}

#[tokio::test]
async fn emulator_a_record_that_is_done_with_a_move_is_left_as_it_is() {
    let world = World::blue_and_green().await;
    // Two intents and the taker's result.
    let store = DyingStore::after(3, &world.store);
    tokio::select! {
        biased;
        () = store.death.comes() => {}
        ended = world.engine_on(&store, async |engine| engine.dns_swap(&green(), None, false).await) => panic!("{ended:?}"),
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
async fn emulator_a_vm_still_asks_for_the_names_that_it_gave() {
    let world = World::blue_and_green().await;
    // As records of an older goloo's VMs are.
    world.change_record(&blue(), |record| record.resources.clear()).await;
    world.swap(&green()).await.unwrap();
    world.swap(&blue()).await.unwrap();
    world.assert_agreed(&blue(), "after both swaps").await;
}

#[tokio::test]
async fn emulator_a_vm_can_be_deleted_in_the_middle_of_a_move() {
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
