//! VMs of environments: when the engine connects them to their network.

use std::time::Duration;

use crate::common::NoEmergencyDump;
use goloo_engine::{Engine, EngineError, Interrupt};
use goloo_model::events::NoEvents;
use goloo_model::provider::Provider;
use goloo_model::record::{Extra, Membership, Phase, PrivateAddress, Record};
use goloo_model::store::Store;
use goloo_testkit::fake_provider::{FakeGuest, FakeProvider};
use goloo_testkit::memory_store::MemoryStore;
use goloo_testkit::provider_suite::{self, SuiteWork};
use goloo_testkit::samples::{creating, here, name, owner, snapshot};

#[derive(Default)]
struct World {
    store: MemoryStore,
    provider: FakeProvider,
}

impl World {
    /// A running machine of an environment.
    async fn with_member(network: Option<PrivateAddress>) -> Self {
        let world = Self::default();
        let mut record = creating(&name("shop-db"));
        let image = goloo_model::spec::ImageRef::Path("/image".into());
        let machine = provider_suite::machine("shop-db", image, b"");
        let machine = goloo_model::provider::Machine { id: record.id.clone(), ..machine };
        let made = world.provider.create(&machine, &mut SuiteWork::default()).await.unwrap();
        made.write_to(&mut record);
        (record.phase, record.operation) = (Phase::Ready, None);
        record.membership = Some(member(network));
        let mut lock = world.store.lock(&record.name, &owner(1)).await.unwrap();
        lock.create(&mut record, &snapshot()).await.unwrap();
        drop(lock);
        world
    }

    async fn run<T>(&self, work: impl AsyncFnOnce(Engine<'_>) -> T) -> T {
        let (guest, owner, interrupt) = (FakeGuest::provisioned(), owner(1), Interrupt::default());
        work(Engine {
            store: &self.store,
            provider: &self.provider,
            guest: &guest,
            host_names: &self.provider,
            events: &NoEvents,
            interrupt: &interrupt,
            rescue: &NoEmergencyDump,
            owner: &owner,
            here: &here(),
            limit: Duration::from_secs(1),
            follow_log: false,
        })
        .await
    }

    async fn join(&self, address: &str) -> Result<Record, EngineError> {
        let planned = member(Some(address_of(address)));
        self.run(async |engine| engine.join_network(&name("shop-db"), &planned).await).await
    }

    async fn recorded_address(&self) -> Option<String> {
        let record = self.store.load(&name("shop-db")).await.unwrap().unwrap().record;
        record.membership.unwrap().network.map(|network| network.to_string())
    }
}

fn member(network: Option<PrivateAddress>) -> Membership {
    Membership {
        environment: name("shop"),
        machine: name("db"),
        number: None,
        network,
        environment_id: None,
        extra: Extra::new(),
    }
}

fn address_of(text: &str) -> PrivateAddress {
    text.to_owned().try_into().unwrap()
}

#[tokio::test]
async fn an_address_is_saved_before_the_machine_is_connected_and_kept() {
    let world = World::with_member(None).await;
    world.provider.fail_networks(true);
    let failed = world.join("10.88.0.2/24").await;
    assert!(matches!(failed, Err(EngineError::Unrecorded(_))), "{failed:?}");
    assert_eq!(world.recorded_address().await.as_deref(), Some("10.88.0.2/24"));
    world.provider.fail_networks(false);
    world.join("10.88.0.9/24").await.unwrap();
    assert_eq!(world.provider.connected(), [(name("shop-db"), address_of("10.88.0.2/24"))]);
    assert_eq!(world.recorded_address().await.as_deref(), Some("10.88.0.2/24"));
}

#[tokio::test]
async fn a_machine_without_an_address_is_not_connected() {
    let world = World::with_member(None).await;
    world.run(async |engine| engine.start(&name("shop-db")).await).await.unwrap();
    assert_eq!(world.provider.connected(), []);
}
