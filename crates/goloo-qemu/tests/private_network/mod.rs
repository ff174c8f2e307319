//! Machines in the private network of their environment. Stand-ins have sockets there, and send no frames.

use goloo_model::name::VmName;
use goloo_model::record::Membership;

use super::*;

fn membership(environment: &str, address: &str) -> Membership {
    Membership {
        environment: VmName::parse(environment).unwrap(),
        machine: VmName::parse("web").unwrap(),
        number: None,
        network: Some(address.to_owned().try_into().unwrap()),
        environment_id: None,
        extra: serde_json::Map::new(),
    }
}

impl World {
    fn member(&self, name: &str, address: &str) -> Machine {
        Machine { membership: Some(membership("shop", address)), ..self.machine(name) }
    }

    async fn create_member(&self, name: &str, address: &str) -> Record {
        let machine = self.member(name, address);
        self.qemu().create(&machine, &mut SuiteWork::default()).await.unwrap();
        let record = Record { membership: machine.membership.clone(), ..record(&machine) };
        self.connect(&record).await.unwrap();
        record
    }

    async fn connect(&self, record: &Record) -> Result<(), ProviderError> {
        let qemu = self.qemu();
        qemu.networks().unwrap().connect(record, &mut SuiteWork::default()).await
    }

    async fn delete(&self, record: &Record) {
        self.qemu().delete(record, &mut SuiteWork::default()).await.unwrap();
    }

    /// The network of `shop`.
    fn network(&self) -> PathBuf {
        self.state.join("net/shop-10.88.3.0")
    }

    fn sockets(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.network()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        // The switch's ends follow soon.
        names.retain(|name| !name.ends_with(".sw"));
        names.sort();
        names
    }

    fn switches(&self) -> Vec<u32> {
        common::switches_of(&self.state)
    }

    fn problems(&self) -> Vec<String> {
        let checks = goloo_qemu::doctor(&self.settings());
        let bad = checks.iter().filter(|check| check.level == CheckLevel::Wrong);
        bad.map(|check| format!("{} ({})", check.what, check.hint.debug_text())).collect()
    }

    async fn without_switch(&self) {
        until("the switch has ended", SOON, async || self.switches().is_empty()).await;
    }
}

fn has_nic(argv: &[String]) -> bool {
    argv.iter().any(|word| word.contains("id=private-nic"))
}

fn has_port(argv: &[String]) -> bool {
    argv.iter().any(|word| word.contains("id=private-port"))
}

#[tokio::test]
async fn members_have_one_switch_which_ends_with_the_last_of_them() {
    let world = World::new();
    let a = world.create_member("a", "10.88.3.1/24").await;
    let b = world.create_member("b", "10.88.3.2/24").await;
    let switches = world.switches();
    assert_eq!(switches.len(), 1);
    assert_eq!(world.sockets(), ["10.88.3.1", "10.88.3.2", "switch", "switch.lock"]);
    let mode = std::fs::metadata(world.network()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(world.problems(), [""; 0]);

    world.delete(&a).await;
    assert_eq!(world.sockets(), ["10.88.3.2", "switch", "switch.lock"]);
    assert_eq!(world.switches(), switches);
    world.delete(&b).await;
    assert!(!world.network().exists());
    world.without_switch().await;
}

#[tokio::test]
async fn a_killed_switch_is_reported_and_started_again_by_the_next_command() {
    let world = World::new();
    let a = world.create_member("a", "10.88.3.1/24").await;
    let b = world.create_member("b", "10.88.3.2/24").await;
    kill(&world.switches());
    world.without_switch().await;
    let problems = world.problems();
    assert_eq!(problems.len(), 1, "one for the network: {problems:?}");
    let problem = "the private network of shop is down: its switch isn't running (Start(VmName(";
    assert!(problems[0].starts_with(problem), "{problems:?}");
    world.qemu().start(&a, &mut SuiteWork::default()).await.unwrap();
    world.connect(&a).await.unwrap();
    assert_eq!((world.switches().len(), world.problems()), (1, vec![]));
    stop(&world, &a, StopMode::Force).await.unwrap();
    stop(&world, &b, StopMode::Force).await.unwrap();
    kill(&world.switches());
    world.without_switch().await;
    assert_eq!(world.problems(), [""; 0], "no machine needs it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn machines_that_are_connected_at_once_get_one_switch() {
    let world = World::new();
    let mut records = Vec::new();
    for last in 1..=4 {
        let machine = world.member(&format!("m-{last}"), &format!("10.88.3.{last}/24"));
        world.qemu().create(&machine, &mut SuiteWork::default()).await.unwrap();
        records.push(Record { membership: machine.membership.clone(), ..record(&machine) });
    }
    let [a, b, c, d] = [0, 1, 2, 3].map(|index| world.connect(&records[index]));
    let (a, b, c, d) = tokio::join!(a, b, c, d);
    [a, b, c, d].into_iter().for_each(|connected| connected.unwrap());
    assert_eq!(world.switches().len(), 1);
}

#[tokio::test]
async fn a_running_machine_is_connected_without_a_restart_and_keeps_its_card() {
    let world = World::new();
    let (_, mut record, _) = world.create("late").await;
    world.connect(&record).await.unwrap();
    assert!(!world.network().exists(), "it is no member");
    record.membership = Some(membership("shop", "10.88.3.7/24"));
    for _ in 0..2 {
        world.connect(&record).await.unwrap();
        assert_eq!(world.sockets(), ["10.88.3.7", "switch", "switch.lock"]);
        assert!(!has_nic(&world.argv()), "it was plugged in");
    }
    for mode in [StopMode::Suspend, StopMode::Suspend, StopMode::Force] {
        stop(&world, &record, mode).await.unwrap();
        world.qemu().start(&record, &mut SuiteWork::default()).await.unwrap();
        assert!(has_nic(&world.argv()) && has_port(&world.argv()), "after {mode:?}");
        world.connect(&record).await.unwrap();
    }
    // Its card has the address that it was started with.
    record.membership = Some(membership("shop", "10.88.3.8/24"));
    let error = world.connect(&record).await.unwrap_err();
    assert!(text(&error).contains("it has another address there"), "{}", text(&error));
    stop(&world, &record, StopMode::Force).await.unwrap();
    world.connect(&record).await.unwrap();
    world.qemu().start(&record, &mut SuiteWork::default()).await.unwrap();
    world.connect(&record).await.unwrap();
}

#[tokio::test]
async fn a_machine_that_an_earlier_version_suspended_continues_and_is_connected_by_a_restart() {
    let world = World::new();
    let (_, mut record, _) = world.create("old").await;
    stop(&world, &record, StopMode::Suspend).await.unwrap();
    let file = world.state.join("vms").join(record.id.as_str()).join("machine.json");
    let mut machine: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let removed = machine["suspended"].as_object_mut().unwrap().remove("private");
    assert_eq!(removed, Some(serde_json::json!({"port": true, "nic": false})));
    std::fs::write(&file, machine.to_string()).unwrap();
    record.membership = Some(membership("shop", "10.88.3.7/24"));
    world.connect(&record).await.unwrap();
    world.qemu().start(&record, &mut SuiteWork::default()).await.unwrap();
    assert!(!has_port(&world.argv()), "its saved memory knows no such port");
    let error = world.connect(&record).await.unwrap_err();
    assert!(text(&error).contains("earlier version"), "{}", text(&error));
    stop(&world, &record, StopMode::Force).await.unwrap();
    world.qemu().start(&record, &mut SuiteWork::default()).await.unwrap();
    world.connect(&record).await.unwrap();
    assert!(has_nic(&world.argv()));
}

#[tokio::test]
async fn an_address_belongs_to_one_machine_of_an_environment() {
    let world = World::new();
    let a = world.create_member("a", "10.88.3.1/24").await;
    let same = world.member("b", "10.88.3.1/24");
    let error = world.qemu().create(&same, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("10.88.3.1 in the network of shop belongs to \"a\""), "{}", text(&error));
    let (_, mut other, _) = world.create("other").await;
    other.membership = Some(membership("shop", "10.88.3.1/24"));
    assert!(world.connect(&other).await.is_err());
    // The same address in another environment is another one.
    other.membership = Some(membership("lab", "10.88.3.1/24"));
    world.connect(&other).await.unwrap();
    assert_eq!(world.switches().len(), 2);
    world.delete(&other).await;
    world.delete(&a).await;
    world.without_switch().await;
}

#[tokio::test]
async fn a_replacement_gets_its_address_when_the_other_machine_is_gone() {
    let world = World::new();
    let old = world.create_member("web", "10.88.3.1/24").await;
    let new = Machine { is_replacement: true, ..world.member("web-new", "10.88.3.1/24") };
    world.qemu().create(&new, &mut SuiteWork::default()).await.unwrap();
    let new = Record { membership: new.membership.clone(), ..record(&new) };
    assert!(world.connect(&new).await.is_err());
    world.delete(&old).await;
    world.connect(&new).await.unwrap();
    assert_eq!(world.sockets(), ["10.88.3.1", "switch", "switch.lock"]);
}

#[tokio::test]
async fn a_delete_that_was_interrupted_is_finished_in_the_network_too() {
    let world = World::new();
    let a = world.create_member("a", "10.88.3.1/24").await;
    kill(&processes_of(&world.state));
    std::fs::remove_dir_all(world.state.join("vms").join(a.id.as_str())).unwrap();
    assert!(world.network().exists());
    world.delete(&a).await;
    assert!(!world.network().exists());
    world.delete(&a).await;
    world.without_switch().await;
}

#[tokio::test]
async fn a_late_delete_leaves_the_address_to_the_machine_that_has_it_now() {
    let world = World::new();
    let a = world.create_member("a", "10.88.3.1/24").await;
    // Its delete was interrupted after its folder was removed.
    kill(&processes_of(&world.state));
    std::fs::remove_dir_all(world.state.join("vms").join(a.id.as_str())).unwrap();
    world.create_member("b", "10.88.3.1/24").await;
    world.delete(&a).await;
    assert_eq!(world.sockets(), ["10.88.3.1", "switch", "switch.lock"]);
}

#[tokio::test]
async fn a_copy_of_a_member_is_no_member() {
    let world = World::new();
    let source = world.create_member("a", "10.88.3.1/24").await;
    stop(&world, &source, StopMode::Force).await.unwrap();
    let copy = record(&world.machine("copy"));
    let qemu = world.qemu();
    qemu.clones().unwrap().clone_machine(&source, &copy, &mut SuiteWork::default()).await.unwrap();
    qemu.start(&copy, &mut SuiteWork::default()).await.unwrap();
    assert!(!has_nic(&world.argv()));
    qemu.start(&source, &mut SuiteWork::default()).await.unwrap();
}
