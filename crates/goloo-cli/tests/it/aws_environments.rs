//! `goloo up` and `goloo down` in AWS, against moto: everything except guests, whose answers a stand-in for ssh gives.
#![cfg(feature = "aws")]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use goloo_testkit::aws_emulators::{AwsEmulator, Credentials, REGIONS, aim};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy, Request};
use serde_json::{Value, json};

use crate::aws::{Cloud, WEB};
use crate::common::{Ran, World};

const SHOP: &str = r#"{"name": "shop", "network": true, "machines": {
    "db": {"stack": "web"}, "web": {"stack": "web"}}}"#;

/// Nothing listens at moto's addresses, so the results of provisioning are unknown.
const UP: [&str; 4] = ["up", "--aws", "--timeout", "1s"];
const DOWN: [&str; 4] = ["down", "--env", "shop", "--yes"];
const UNKNOWN: i32 = 8;

fn shop() -> Cloud {
    let cloud = Cloud::new();
    describe(&cloud.world, SHOP);
    cloud
}

fn describe(world: &World, goloo_json: &str) {
    let work = world.path().join("work");
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("goloo.json"), goloo_json).unwrap();
}

/// The groups of environments in the account.
fn groups(cloud: &Cloud) -> Vec<String> {
    cloud.aws.ledger().into_iter().filter(|line| line.contains(" goloo-shop-01")).collect()
}

/// The VM's private address by its record.
fn private_address(cloud: &Cloud, name: &str) -> String {
    cloud.status(name)["aws"]["privateIP"].as_str().unwrap().to_owned()
}

fn assert_connected(cloud: &Cloud, when: &str) {
    let groups = groups(cloud);
    assert_eq!(groups.len(), 1, "{when}: {groups:?}");
    let group = groups[0].split(' ').nth(2).unwrap();
    let asked =
        [("Action", "DescribeNetworkInterfaces"), ("Filter.1.Name", "group-id"), ("Filter.1.Value.1", group)];
    let interfaces = cloud.aws.query("ec2", REGIONS[0], &asked);
    for name in ["shop-db", "shop-web"] {
        let vm = cloud.status(name);
        assert_eq!(vm["aws"]["environmentGroupID"], group, "{when}: {vm}");
        let instance = vm["aws"]["instanceID"].as_str().unwrap();
        assert!(interfaces.contains(instance), "{when}: {name}");
        assert!(interfaces.contains(&private_address(cloud, name)), "{when}: {name}");
    }
}

#[test]
fn emulator_machines_of_an_environment_are_in_one_security_group_until_the_last_is_deleted() {
    let cloud = shop();
    let empty = cloud.aws.ledger();
    let planned = cloud.run(&["up", "--aws", "--dry-run"]).expect(0);
    assert!(planned.stdout().contains("shop-db"), "{planned:?}");
    cloud.run(&UP).expect(UNKNOWN);
    assert_connected(&cloud, "up");
    let membership = |name: &str| cloud.status(name)["membership"]["environmentID"].clone();
    assert!(membership("shop-db").is_string() && membership("shop-db") == membership("shop-web"));
    cloud.run(&["delete", "shop-web", "--yes"]).expect(0);
    assert_eq!(groups(&cloud).len(), 1);
    cloud.run(&DOWN).expect(0);
    cloud.assert_nothing_is_left(&empty, "down");
}

/// A server that greets like one of SSH; returns its port.
fn ssh_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.write_all(b"SSH-2.0-test\r\n");
        }
    });
    port
}

/// As if the machines were provisioned and had an SSH server. What their guests are told is written to a file.
fn make_ready(cloud: &Cloud, told: Option<&Path>) {
    if let Some(told) = told {
        let script = "#!/bin/sh\nfor last; do :; done\nprintf '%s\\n' \"$*\" >>TOLD\ncat >>TOLD\n";
        cloud.world.program("ssh", &script.replace("TOLD", &told.display().to_string()));
    }
    let port = ssh_server();
    for name in ["shop-db", "shop-web"] {
        edit(cloud, name, |record| {
            record["phase"] = json!("ready");
            record["endpoint"]["address"] = json!("127.0.0.1");
            record["endpoint"]["sshPort"] = json!(port);
        });
    }
}

fn edit(cloud: &Cloud, name: &str, change: impl FnOnce(&mut Value)) {
    let path = cloud.world.state().join("active").join(name).join("state.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(&path, record.to_string()).unwrap();
}

#[test]
fn emulator_machines_in_aws_are_told_the_private_addresses_of_the_others() {
    let cloud = shop();
    cloud.run(&UP).expect(UNKNOWN);
    let told = cloud.world.path().join("told");
    make_ready(&cloud, Some(&told));
    cloud.run(&["up", "--aws"]).expect(0);
    let told = fs::read_to_string(&told).unwrap();
    for (name, names) in [("shop-db", "db db.shop"), ("shop-web", "web web.shop")] {
        let line = format!("{} {names}", private_address(&cloud, name));
        assert_eq!(told.matches(&line).count(), 2, "{line}: each machine is told\n{told}");
    }
    cloud.run(&DOWN).expect(0);
}

#[test]
fn emulator_machines_are_connected_when_their_environment_gets_a_network() {
    let cloud = shop();
    describe(&cloud.world, &SHOP.replace("true", "false"));
    cloud.run(&UP).expect(UNKNOWN);
    assert_eq!((groups(&cloud).len(), &cloud.status("shop-db")["aws"]["privateIP"]), (0, &Value::Null));
    make_ready(&cloud, None);
    describe(&cloud.world, SHOP);
    // The names can't be told to machines that don't exist.
    cloud.run(&["up", "--aws", "--timeout", "1s"]);
    assert_connected(&cloud, "with a network");
}

#[test]
fn emulator_a_replacement_is_in_the_security_group_while_it_is_provisioned() {
    let cloud = shop();
    let empty = cloud.aws.ledger();
    cloud.run(&UP).expect(UNKNOWN);
    cloud.world.stack("web", WEB, "#cloud-config\nruncmd: [\"echo new\"]\n");
    cloud.run(&["apply", "shop-db", "--replace", "--yes", "--timeout", "1s"]).expect(UNKNOWN);
    let group = |name: &str| cloud.status(name)["aws"]["environmentGroupID"].clone();
    assert!(group("shop-db").is_string());
    assert_eq!(group("shop-db-new"), group("shop-db"));
    cloud.run(&["delete", "shop-db-new", "--yes"]).expect(0);
    assert_connected(&cloud, "without the replacement");
    cloud.run(&DOWN).expect(0);
    cloud.assert_nothing_is_left(&empty, "down");
}

#[test]
fn emulator_a_security_group_that_was_left_behind_is_reported_with_what_removes_it() {
    let cloud = shop();
    let empty = cloud.aws.ledger();
    cloud.run(&UP).expect(UNKNOWN);
    for name in ["shop-db", "shop-web"] {
        edit(&cloud, name, |record| {
            record["resources"]
                .as_array_mut()
                .unwrap()
                .retain(|resource| resource["kind"] != "ec2-environment-group");
        });
        cloud.run(&["delete", name, "--yes"]).expect(0);
    }
    assert_eq!(groups(&cloud).len(), 1);
    let reported = cloud.run(&["refresh"]).expect(1).stdout();
    let (_, command) = reported.split_once("goloo adopt ").unwrap();
    let adopt: Vec<&str> = command.lines().next().unwrap().split_whitespace().collect();
    assert!(adopt[0].starts_with("goloo-shop-01") && adopt[4].starts_with("sg-"), "{reported}");
    cloud.run(&[&["adopt"], &adopt[..]].concat()).expect(0);
    cloud.run(&["delete", adopt[0], "--yes"]).expect(0);
    cloud.assert_nothing_is_left(&empty, "delete");
    cloud.run(&["refresh"]).expect(0);
}

/// Kills a command at each of its requests to AWS, before or after the request took effect.
fn at_every_request(
    (cloud, arguments, late): (&Cloud, &[&str], bool),
    begin: impl Fn(),
    go_on: impl Fn(usize, &str),
) {
    let proxy = FaultProxy::start(cloud.aws.endpoint());
    for number in 1.. {
        begin();
        proxy.reset();
        let ended = cloud.kill_at(&proxy, At::Request(number), late, arguments);
        let when = format!("killed at request {number}, late: {late}, ended: {ended}");
        let struck = proxy.struck();
        go_on(number, &when);
        if struck == 0 {
            assert!(ended && number > 12, "{when}");
            return;
        }
    }
}

fn kill_up(late: bool) {
    let cloud = shop();
    let empty = cloud.aws.ledger();
    let go_on = |number: usize, when: &str| {
        if number.is_multiple_of(2) {
            let again = cloud.run(&UP);
            assert_eq!(again.code(), UNKNOWN, "{when}: {again:?}");
            assert_connected(&cloud, when);
        }
        let down = cloud.run(&DOWN);
        assert!([0, 3].contains(&down.code()), "{when}: {down:?}");
        cloud.assert_nothing_is_left(&empty, when);
    };
    at_every_request((&cloud, &UP, late), || {}, go_on);
}

fn kill_down(late: bool) {
    let cloud = shop();
    let empty = cloud.aws.ledger();
    let begin = || drop(cloud.run(&UP).expect(UNKNOWN));
    let go_on = |_, when: &str| {
        let down = cloud.run(&DOWN);
        assert!([0, 3].contains(&down.code()), "{when}: {down:?}");
        cloud.assert_nothing_is_left(&empty, when);
    };
    at_every_request((&cloud, &DOWN, late), begin, go_on);
}

#[test]
fn kill_up_in_aws_before_every_request_then_up_again_or_down() {
    kill_up(false);
}

#[test]
fn kill_up_in_aws_after_every_request_then_up_again_or_down() {
    kill_up(true);
}

#[test]
fn kill_down_in_aws_before_every_request_then_down_again() {
    kill_down(false);
}

#[test]
fn kill_down_in_aws_after_every_request_then_down_again() {
    kill_down(true);
}

/// A user with a computer of their own, and a store that both users have.
struct Person<'c> {
    cloud: &'c Cloud,
    world: World,
    user: &'static str,
    store: String,
}

impl<'c> Person<'c> {
    fn new(cloud: &'c Cloud, user: &'static str, store: &str) -> Self {
        let world = World::new();
        world.stack("web", WEB, "");
        Self { cloud, world, user, store: store.to_owned() }
    }

    fn with_file(self) -> Self {
        describe(&self.world, SHOP);
        self
    }

    fn command(&self, endpoint: &str, arguments: &[&str]) -> Command {
        let mut command = self.world.command();
        aim(&mut command, endpoint, &Credentials::any());
        command.env("GOLOO_AWS_POLL", "0.05").env("GOLOO_STATE_BACKEND", &self.store);
        command.env("USER", self.user).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.command(self.cloud.aws.endpoint(), arguments).output().unwrap())
    }

    fn names(&self) -> Vec<String> {
        self.run(&["list", "--env", "shop", "-q"]).expect(0).stdout().lines().map(str::to_owned).collect()
    }
}

/// What one user brings up in AWS, another one changes and takes down, on another computer.
fn take_down_what_another_brought_up(store: &str) {
    let cloud = Cloud::new();
    let empty = cloud.aws.ledger();
    let ann = Person::new(&cloud, "ann", store).with_file();
    let bob = Person::new(&cloud, "bob", store);
    ann.run(&UP).expect(UNKNOWN);
    assert_eq!(bob.names(), ["shop-db", "shop-web"]);
    // Bob has the same file: nothing is made twice.
    let bob = bob.with_file();
    let same = bob.run(&["up", "--aws", "--dry-run"]).expect(0).stdout();
    assert!(same.contains("check its provisioning again") && !same.contains("create"), "{same}");
    bob.run(&["delete", "shop/web", "--yes"]).expect(0);
    bob.run(&UP).expect(UNKNOWN);
    assert_eq!((ann.names(), groups(&cloud).len()), (bob.names(), 1));
    fs::remove_file(bob.world.path().join("work/goloo.json")).unwrap();
    bob.run(&DOWN).expect(0);
    assert_eq!((ann.names(), cloud.aws.ledger()), (Vec::new(), empty));
    let archived = ann.run(&["list", "--archive", "--env", "shop", "-q"]).expect(0).stdout();
    assert_eq!(archived.lines().count(), 3, "{archived}");
}

#[test]
fn emulator_a_colleague_takes_an_environment_down_with_a_database_as_store() {
    let folder = tempfile::tempdir().unwrap();
    take_down_what_another_brought_up(&format!("sqlite:{}/team.db", folder.path().display()));
}

/// A bucket of an emulator, and its address as a store.
fn bucket() -> (AwsEmulator, String) {
    let aws = AwsEmulator::ministack();
    aws.rest("s3", "PUT", "/team", "");
    let address = format!("s3://team/goloo?region=us-east-1&endpoint={}", aws.endpoint());
    (aws, address)
}

#[test]
fn emulator_a_colleague_takes_an_environment_down_with_a_bucket_as_store() {
    let (_aws, store) = bucket();
    take_down_what_another_brought_up(&store);
}

#[test]
fn emulator_of_two_colleagues_who_change_an_environment_one_is_told_that_the_other_does() {
    let (_aws, store) = bucket();
    let cloud = Cloud::new();
    let empty = cloud.aws.ledger();
    let ann = Person::new(&cloud, "ann", &store).with_file();
    let bob = Person::new(&cloud, "bob", &store).with_file();
    // Ann's first stack is being created until Bob has tried.
    let proxy = FaultProxy::start(cloud.aws.endpoint());
    let (arrived, is_there) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    let hold = move |_: &Request| {
        arrived.send(()).unwrap();
        may_go.lock().unwrap().recv().unwrap();
    };
    proxy.fault(At::Action("CreateStack", 1), Fault::before(hold));
    let mut up = ann.command(proxy.endpoint(), &UP);
    let up = up.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    is_there.recv_timeout(Duration::from_secs(30)).unwrap();
    for command in [&UP[..], &DOWN] {
        let told = bob.run(command).expect(5).stderr();
        assert!(told.contains("the environment \"shop\" is being changed by ann on "), "{told}");
        assert!(told.contains(&format!("(pid {})", up.id())), "{told}");
    }
    go.send(()).unwrap();
    Ran(up.wait_with_output().unwrap()).expect(UNKNOWN);
    assert_eq!((bob.names().len(), groups(&cloud).len()), (2, 1));
    bob.run(&DOWN).expect(0);
    assert_eq!(cloud.aws.ledger(), empty);
}
