//! When the engine connects machines to the private network of their environment.

use std::time::Duration;

use goloo_engine::{
    CreateRequest, Created, Engine, EngineError, Interrupt, ReplacementRequest, ResumeInputs, Resumed,
};
use goloo_model::events::NoEvents;
use goloo_model::name::VmName;
use goloo_model::provider::StopMode;
use goloo_model::record::{Extra, Membership, Phase, PrivateAddress, Record};
use goloo_model::store::Store;
use goloo_testkit::fake_provider::{FakeGuest, FakeProvider};
use goloo_testkit::memory_store::MemoryStore;
use goloo_testkit::samples::{here, name, owner};

use crate::common::NoEmergencyDump;
use crate::engine_crash::{rebuild, request};

#[derive(Default)]
struct World {
    store: MemoryStore,
    provider: FakeProvider,
}

impl World {
    async fn run<T>(&self, work: impl AsyncFnOnce(Engine<'_>) -> T) -> T {
        work(Engine {
            store: &self.store,
            provider: &self.provider,
            guest: &FakeGuest::provisioned(),
            host_names: &self.provider,
            events: &NoEvents,
            interrupt: &Interrupt::default(),
            rescue: &NoEmergencyDump,
            owner: &owner(1),
            here: &here(),
            limit: Duration::from_secs(1),
            follow_log: false,
        })
        .await
    }

    /// The VMs that were connected since the last call.
    fn connected(&self) -> Vec<VmName> {
        self.provider.connected().into_iter().map(|(name, _)| name).collect()
    }

    async fn create(&self, request: CreateRequest) -> Result<Created, EngineError> {
        self.run(async |engine| engine.create(request).await).await
    }

    async fn join(&self, vm: &VmName, address: &str) -> Result<Record, EngineError> {
        let planned = membership(Some(address));
        self.run(async |engine| engine.join_network(vm, &planned).await).await
    }

    async fn recorded_address(&self, vm: &VmName) -> Option<PrivateAddress> {
        let record = self.store.load(vm).await.unwrap().unwrap().record;
        record.membership.unwrap().network
    }
}

fn membership(address: Option<&str>) -> Membership {
    Membership {
        environment: name("shop"),
        machine: name("web"),
        number: None,
        network: address.map(address_of),
        environment_id: None,
        extra: Extra::new(),
    }
}

fn address_of(text: &str) -> PrivateAddress {
    text.to_owned().try_into().unwrap()
}

fn member_at(address: Option<&str>) -> CreateRequest {
    let mut request = request();
    request.plan.machine.membership = Some(membership(address));
    request
}

fn member() -> CreateRequest {
    member_at(Some("10.88.3.1/24"))
}

#[tokio::test]
async fn an_address_is_saved_before_the_machine_is_connected_and_kept() {
    let world = World::default();
    let vm = world.create(member_at(None)).await.unwrap().record.name;
    let (first, second) = ("10.88.0.2/24", "10.88.0.9/24");
    world.provider.fail_networks(true);
    let failed = world.join(&vm, first).await;
    assert!(matches!(failed, Err(EngineError::Unrecorded(_))), "{failed:?}");
    assert_eq!(world.recorded_address(&vm).await, Some(address_of(first)));
    world.provider.fail_networks(false);
    world.join(&vm, second).await.unwrap();
    assert_eq!(world.provider.connected(), [(vm.clone(), address_of(first))]);
    assert_eq!(world.recorded_address(&vm).await, Some(address_of(first)));
}

#[tokio::test]
async fn a_machine_without_an_address_is_not_connected() {
    let world = World::default();
    let vm = world.create(member_at(None)).await.unwrap().record.name;
    world.run(async |engine| engine.start(&vm).await).await.unwrap();
    assert_eq!(world.connected(), []);
}

#[tokio::test]
async fn only_members_of_an_environment_are_connected_after_a_create_and_after_a_start() {
    let world = World::default();
    world.create(request()).await.unwrap();
    assert_eq!(world.connected(), []);

    let world = World::default();
    let vm = world.create(member()).await.unwrap().record.name;
    assert_eq!(world.connected(), std::slice::from_ref(&vm));
    world.run(async |engine| engine.stop(&vm, StopMode::Force).await).await.unwrap();
    assert_eq!(world.connected(), []);
    world.run(async |engine| engine.start(&vm).await).await.unwrap();
    assert_eq!(world.connected(), [vm]);
}

#[tokio::test]
async fn a_machine_that_cant_be_connected_is_kept_and_connected_later() {
    let world = World::default();
    world.provider.fail_networks(true);
    let failed = world.create(member()).await.unwrap_err();
    assert!(matches!(failed, EngineError::Midway { .. }), "{failed:?}");
    let vm = member().plan.machine.name;
    let resume = async |engine: Engine<'_>| engine.resume(&vm, None, ResumeInputs::of_create(&rebuild)).await;
    world.run(resume).await.unwrap_err();
    assert_eq!(world.provider.machines(), 1);

    world.provider.fail_networks(false);
    let Resumed::Created(created) = world.run(resume).await.unwrap() else { panic!("it is a create") };
    assert_eq!((created.record.phase, world.connected()), (Phase::Ready, vec![vm.clone()]));

    world.provider.fail_networks(true);
    world.run(async |engine| engine.start(&vm).await).await.unwrap_err();
    world.provider.fail_networks(false);
    world.run(async |engine| engine.start(&vm).await).await.unwrap();
    assert_eq!(world.connected(), [vm]);
}

#[tokio::test]
async fn a_replacement_is_connected_when_the_other_machine_is_deleted() {
    let world = World::default();
    let old = world.create(member()).await.unwrap().record;
    assert_eq!(world.connected(), std::slice::from_ref(&old.name));
    let mut request = member();
    request.plan.machine.is_replacement = true;
    request.replacement = Some(ReplacementRequest { old: old.clone(), name: name("new") });
    world.create(request).await.unwrap();
    assert_eq!(world.connected(), [], "it has the same address");
    let replaced = world.run(async |engine| engine.finish_replacement(&name("new")).await).await.unwrap();
    assert_eq!(world.connected(), std::slice::from_ref(&old.name));
    assert_eq!((replaced.record.name, replaced.record.replacing), (old.name, None));
    assert_eq!(world.store.records().await.unwrap().entries.len(), 1);
}
