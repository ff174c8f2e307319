//! The real command against moto: everything except a guest.
#![cfg(feature = "aws")]

use crate::common;
use std::cell::Cell;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::common::{Ran, World};
use base64::Engine as _;
use goloo_testkit::aws_answers;
use goloo_testkit::aws_emulators::{AwsEmulator, Credentials, REGIONS, aim};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy, Request};
use goloo_testkit::full_zones::{FullZones, NO_CAPACITY};

pub(crate) const WEB: &str =
    r#"{"vm": {"cpus": 1, "memory": "512M", "disk": "8G", "ssh_cidr": "198.51.100.0/24"}}"#;

/// A user's computer and an AWS account.
pub(crate) struct Cloud {
    pub(crate) world: World,
    pub(crate) aws: AwsEmulator,
}

impl Cloud {
    pub(crate) fn new() -> Self {
        let (world, aws) = (World::new(), AwsEmulator::moto());
        aws.open_default_vpc(REGIONS[0]);
        world.stack("web", WEB, "");
        Self { world, aws }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.command(self.aws.endpoint(), arguments).output().unwrap())
    }

    pub(crate) fn command(&self, endpoint: &str, arguments: &[&str]) -> Command {
        let mut command = self.world.command();
        aim(&mut command, endpoint, &Credentials::any());
        command.env("GOLOO_AWS_POLL", "0.05").args(arguments);
        command
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        self.json_of(arguments, 0)
    }

    fn json_of(&self, arguments: &[&str], code: i32) -> serde_json::Value {
        serde_json::from_str(&self.run(arguments).expect(code).stdout()).unwrap()
    }

    /// Records in Route 53.
    fn records(&self) -> Vec<String> {
        self.aws.ledger().into_iter().filter(|line| line.starts_with("record ")).collect()
    }

    /// Creates a DNS record that belongs to someone else.
    fn foreign_address(&self, zone: &str, name: &str, address: &str) {
        let body = format!(
            r#"<ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeBatch>
            <Changes><Change><Action>CREATE</Action><ResourceRecordSet><Name>{name}</Name><Type>A</Type><TTL>300</TTL>
            <ResourceRecords><ResourceRecord><Value>{address}</Value></ResourceRecord></ResourceRecords>
            </ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"#
        );
        self.aws.rest("route53", "POST", &format!("/2013-04-01/hostedzone/{zone}/rrset"), &body);
    }

    /// Runs the command and kills it when it makes this request, or, if `late`, when the request has taken effect.
    /// Returns whether the command completed anyway.
    pub(crate) fn kill_at(&self, proxy: &FaultProxy, at: At, late: bool, arguments: &[&str]) -> bool {
        let pid = Arc::new(OnceLock::<u32>::new());
        let child = Arc::clone(&pid);
        let kill = move |_: &Request| {
            let pid = child.wait().to_string();
            assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        };
        proxy.fault(at, if late { Fault::after(kill) } else { Fault::before(kill) });
        let mut command = self.command(proxy.endpoint(), arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        pid.set(child.id()).unwrap();
        child.wait().unwrap().code().is_some()
    }

    pub(crate) fn status(&self, name: &str) -> serde_json::Value {
        self.json(&["status", name, "--json"])["vm"].clone()
    }

    fn is_unfinished(&self, name: &str) -> bool {
        !self.status(name)["operation"].is_null()
    }

    /// The address in goloo's record.
    fn address(&self, name: &str) -> String {
        self.status(name)["aws"]["publicIP"].as_str().unwrap().to_owned()
    }

    /// The actual address of the only instance.
    fn live_address(&self) -> Option<String> {
        let seen = self.aws.query("ec2", REGIONS[0], &[("Action", "DescribeInstances")]);
        let (_, after) = seen.rsplit_once("<ipAddress>")?;
        Some(after.split_once('<')?.0.to_owned())
    }

    /// Runs a command and kills it when the condition holds, for commands that would then wait forever.
    fn run_until(&self, arguments: &[&str], when: &str, is_so: impl Fn() -> bool) {
        if is_so() {
            return;
        }
        let mut command = self.command(self.aws.endpoint(), arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < end, "{when}: {}", self.status("web"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts or stops the only instance without goloo.
    fn power(&self, action: &str) {
        let all = self.instances();
        let id = all[0].split(' ').nth(2).unwrap();
        self.aws.query("ec2", REGIONS[0], &[("Action", action), ("InstanceId.1", id)]);
    }

    pub(crate) fn assert_nothing_is_left(&self, empty: &[String], when: &str) {
        assert_eq!(self.world.names(), [""; 0], "{when}");
        assert_eq!(self.aws.ledger(), empty, "{when}");
    }

    /// The ports that a VM's security group opens.
    fn ports(&self, vm: &serde_json::Value) -> Vec<usize> {
        let group = vm["aws"]["securityGroupID"].as_str().unwrap();
        let asked = [("Action", "DescribeSecurityGroups"), ("GroupId.1", group)];
        let answer = self.aws.query("ec2", REGIONS[0], &asked);
        let rules = answer.split("</ipPermissions>").next().unwrap();
        let ports = rules.split("<fromPort>").skip(1).map(|rule| rule.split('<').next().unwrap());
        let mut ports: Vec<usize> = ports.map(|port| port.parse().unwrap()).collect();
        ports.sort_unstable();
        ports
    }

    fn instances(&self) -> Vec<String> {
        self.aws.ledger().into_iter().filter(|line| line.contains(" instance ")).collect()
    }
}

#[test]
fn a_vm_in_aws_is_created_listed_stopped_and_deleted() {
    let cloud = Cloud::new();
    // moto's instances have no SSH server to wait for.
    let created = cloud.run(&["create", "web", "--aws", "--no-wait"]).expect(0);
    assert!(created.stdout().contains("web is running"), "{created:?}");
    assert_eq!(cloud.json(&["list", "--refresh", "--json"])["vms"][0]["live"], "running");
    cloud.run(&["logs", "web", "--console"]).expect(0);
    cloud.run(&["stop", "web"]).expect(0);
    assert_eq!(cloud.json(&["list", "--refresh", "--json"])["vms"][0]["live"], "stopped");
    cloud.run(&["delete", "web", "--yes"]).expect(0);
    assert_eq!(cloud.instances(), [""; 0]);
    assert_eq!(cloud.world.names(), [""; 0]);
}

#[test]
fn a_dry_run_needs_no_access_to_aws() {
    let world = World::new();
    world.stack("web", WEB, "");
    let plan = world.json(&["create", "web", "--aws", "--dry-run", "--json"]);
    assert_eq!(plan["plan"]["aws"]["region"], "us-east-1");
    assert_eq!(plan["plan"]["aws"]["template"]["Resources"]["Instance"]["Type"], "AWS::EC2::Instance");
}

#[test]
fn a_dry_run_shows_the_user_data_but_masks_it_in_the_aws_parameters() {
    let world = World::new();
    world.stack("web", WEB, "#cloud-config\npassword: swordfish\n");
    let plan = world.json(&["create", "web", "--aws", "--dry-run", "--json"])["plan"].clone();
    let user_data = plan["userData"].as_str().unwrap();
    assert!(user_data.contains("swordfish") && user_data.contains("PRIVATE KEY"), "{user_data}");
    let encoded = base64::engine::general_purpose::STANDARD.encode(user_data);
    let shown = plan["aws"].to_string();
    let parts = encoded.as_bytes().chunks(64).map(|part| std::str::from_utf8(part).unwrap());
    assert!(parts.into_iter().all(|part| !shown.contains(part)), "{shown}");
    assert_eq!(plan["aws"]["parameters"]["UserData1"], "****");
}

#[test]
fn aws_keys_are_ignored_with_a_warning_on_other_providers() {
    let world = World::new();
    world.stack("web", "{\"vm\": {\n\"spot\": true, \"iam_instance_profile\": \"web\"}}", "");
    let warnings = |provider: &str| {
        let plan = world.json(&["create", "web", provider, "--dry-run", "--json"])["plan"].clone();
        plan["warnings"].to_string()
    };
    let here = warnings("--provider=qemu");
    assert!(here.contains("config.json:2:9: vm.spot only applies to AWS, and qemu ignores it"), "{here}");
    assert!(here.contains("vm.iam_instance_profile only applies to AWS, and qemu ignores it"), "{here}");
    let there = warnings("--aws");
    assert!(!there.contains("ignores it") && there.contains("AWS may terminate a Spot Instance"), "{there}");
}

#[test]
fn stop_and_restart_refuse_a_spot_instance() {
    let cloud = Cloud::new();
    let spot = WEB.replace("\"cpus\"", "\"spot\": true, \"cpus\"");
    cloud.world.stack("web", &spot, "");
    let empty = cloud.aws.ledger();
    cloud.run(&CREATE).expect(0);
    for command in [&["stop", "web"][..], &["stop", "web", "--force"], &["restart", "web"]] {
        let refused = cloud.run(command).expect(2);
        assert!(
            refused.stderr().contains("web is a Spot Instance (vm.spot), which AWS can't stop"),
            "{refused:?}"
        );
        assert!(!cloud.is_unfinished("web"));
    }
    assert!(cloud.instances()[0].ends_with(" running"));
    cloud.run(&["delete", "web", "--yes"]).expect(0);
    cloud.assert_nothing_is_left(&empty, "at the end");
}

#[test]
fn missing_or_refused_credentials_exit_4_and_leave_nothing() {
    let cloud = Cloud::new();
    let mut without = cloud.world.command();
    cloud.aws.aim(&mut without, &Credentials::any());
    without.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let ran = Ran(without.args(["create", "web", "--aws"]).output().unwrap()).expect(4);
    assert!(ran.stderr().contains("no AWS credentials") && ran.stderr().contains("AWS_PROFILE"), "{ran:?}");
    let nothing = serde_json::json!({"Effect": "Deny", "Action": "*", "Resource": "*"});
    cloud.aws.require_credentials(&serde_json::json!({"Version": "2012-10-17", "Statement": [nothing]}));
    let ran = cloud.run(&["create", "web", "--aws"]).expect(4);
    assert!(ran.stderr().contains("InvalidClientTokenId"), "{ran:?}");
    assert_eq!(cloud.world.names(), [""; 0]);
}

#[test]
fn an_instance_without_a_record_is_listed_as_an_orphan_and_adopted() {
    let cloud = Cloud::new();
    cloud.run(&["create", "web", "--aws", "--no-wait"]).expect(0);
    std::fs::rename(cloud.world.state().join("active/web"), cloud.world.path().join("lost")).unwrap();
    let orphans = cloud.json_of(&["refresh", "--json"], 1)["strays"].clone();
    let id = orphans[0]["id"].as_str().unwrap();
    assert_eq!((&orphans[0]["provider"], &orphans[0]["ours"]), (&"aws".into(), &true.into()), "{orphans}");
    cloud.run(&["adopt", "web", "--provider", "aws", "--id", id]).expect(0);
    assert_eq!(cloud.json(&["list", "--refresh", "--json"])["vms"][0]["live"], "running");
    cloud.run(&["delete", "web", "--yes"]).expect(0);
    assert_eq!(cloud.instances(), [""; 0]);
}

/// Starts a server that reports this address to every client; returns its URL, `http://127.0.0.1:PORT`.
fn checkip(address: &'static str) -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 4096]);
            let length = address.len();
            let _ = write!(
                client,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{address}"
            );
        }
    });
    url
}

const OPEN_TO_ME: &str = r#"{"vm": {"cpus": 1, "memory": "512M", "disk": "8G"}}"#;

impl Cloud {
    /// Runs the command with this service as the source of this computer's address.
    fn run_at(&self, checkip: &str, arguments: &[&str]) -> Ran {
        let mut command = self.command(self.aws.endpoint(), arguments);
        Ran(command.env("GOLOO_CHECKIP_URL", checkip).output().unwrap())
    }

    /// Whether some VM's port 22 is open to this block.
    fn is_open_to(&self, block: &str) -> bool {
        let groups = self.aws.query("ec2", REGIONS[0], &[("Action", "DescribeSecurityGroups")]);
        groups.contains(&format!("<cidrIp>{block}</cidrIp>"))
    }
}

#[test]
fn port_22_is_open_only_to_this_host_by_default() {
    let cloud = Cloud::new();
    cloud.world.stack("web", OPEN_TO_ME, "");
    let office = checkip("198.51.100.7");
    let created = cloud.run_at(&office, &["create", "web", "--aws", "--no-wait"]).expect(0);
    let note = "port 22 is open to 198.51.100.7/32, this computer's public address (vm.ssh_cidr)";
    assert!(created.stderr().contains(note), "{created:?}");
    assert!(cloud.is_open_to("198.51.100.7/32"));
    assert_eq!(cloud.status("web")["aws"]["sshCIDR"], serde_json::json!(["198.51.100.7/32"]));
    // Recreated from another address, it is open to the same block.
    let home = checkip("203.0.113.9");
    cloud.run_at(&home, &["recreate", "web", "--as", "web-2", "--no-wait"]).expect(0);
    assert_eq!(cloud.status("web-2")["aws"]["sshCIDR"], serde_json::json!(["198.51.100.7/32"]));
    assert!(!cloud.is_open_to("203.0.113.9/32"));
}

#[test]
fn a_killed_create_resumes_with_its_original_ssh_address() {
    let cloud = Cloud::new();
    cloud.world.stack("web", OPEN_TO_ME, "");
    for late in [false, true] {
        let proxy = FaultProxy::start(cloud.aws.endpoint());
        let pid = Arc::new(OnceLock::<u32>::new());
        let child = Arc::clone(&pid);
        let kill = move |_: &Request| {
            let pid = child.wait().to_string();
            assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        };
        let fault = if late { Fault::after(kill) } else { Fault::before(kill) };
        proxy.fault(At::Action("CreateStack", 1), fault);
        let mut command = cloud.command(proxy.endpoint(), &["create", "web", "--aws", "--no-wait"]);
        command.env("GOLOO_CHECKIP_URL", checkip("198.51.100.7"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        pid.set(child.id()).unwrap();
        child.wait().unwrap();
        assert!(cloud.is_unfinished("web"), "killed, late: {late}");
        cloud.run_at(&checkip("203.0.113.9"), &["resume", "web"]).expect(0);
        assert_eq!(cloud.status("web")["aws"]["sshCIDR"], serde_json::json!(["198.51.100.7/32"]), "{late}");
        assert!(cloud.is_open_to("198.51.100.7/32") && !cloud.is_open_to("203.0.113.9/32"), "{late}");
        cloud.run(&["delete", "web", "--yes"]).expect(0);
    }
}

#[test]
fn an_unknown_public_address_must_be_set_in_the_config() {
    let cloud = Cloud::new();
    cloud.world.stack("web", OPEN_TO_ME, "");
    // A dry run needs no address.
    cloud.run_at("http://127.0.0.1:1", &["create", "web", "--aws", "--dry-run"]).expect(0);
    let refused = cloud.run_at("http://127.0.0.1:1", &["create", "web", "--aws"]).expect(2);
    let said = refused.stderr();
    assert!(said.contains("can't get this computer's public address from http://127.0.0.1:1"), "{said}");
    assert!(said.contains("hint: set the addresses that may connect to port 22 in config.json"), "{said}");
    let portal = checkip("<html>log in</html>");
    let refused = cloud.run_at(&portal, &["create", "web", "--aws"]).expect(2);
    assert!(refused.stderr().contains("the response is not an IP address"), "{refused:?}");
    let refused = cloud.run_at("http://checkip.example.com", &["create", "web", "--aws"]).expect(2);
    assert!(refused.stderr().contains("which is insecure"), "{refused:?}");
    assert_eq!(cloud.world.names(), [""; 0]);
}

#[test]
fn an_unknown_public_address_is_prompted_for_on_a_terminal() {
    use std::io::Write;
    let cloud = Cloud::new();
    cloud.world.stack("web", OPEN_TO_ME, "");
    let asked = |answer: &str| {
        let mut command = Command::new("script");
        cloud.world.settle(&mut command);
        cloud.aws.aim(&mut command, &Credentials::any());
        command.env("GOLOO_AWS_POLL", "0.05").env("GOLOO_CHECKIP_URL", "http://127.0.0.1:1");
        let line = format!("{} create web --aws --no-wait", common::goloo().display());
        command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = command.spawn().unwrap();
        script.stdin.take().unwrap().write_all(format!("{answer}\n").as_bytes()).unwrap();
        Ran(script.wait_with_output().unwrap())
    };
    for nothing in ["", "me", "everyone"] {
        let refused = asked(nothing).expect(2);
        assert!(refused.stdout().contains("Which addresses may reach port 22 of web"), "{refused:?}");
        assert!(refused.stdout().contains("is neither an IP address nor a CIDR block"), "{refused:?}");
    }
    assert_eq!(cloud.world.names(), [""; 0]);
    asked("203.0.113.9").expect(0);
    assert!(cloud.is_open_to("203.0.113.9/32"));
    assert_eq!(cloud.status("web")["aws"]["sshCIDR"], serde_json::json!(["203.0.113.9/32"]));
}

#[test]
fn an_unsuitable_hosted_zone_exits_2_and_leaves_nothing() {
    let cloud = Cloud::new();
    let zone = cloud.aws.create_zone("example.com");
    let stack = |zone: &str, domain: &str| {
        format!(
            r#"{{"vm": {{"ssh_cidr": "198.51.100.0/24"}}, "dns": {{"domain": "{domain}", "zone_id": "{zone}"}}}}"#
        )
    };
    for (zone, domain, why) in [
        (zone.as_str(), "example.org", "doesn't contain"),
        ("Z0GONE", "example.com", "there is no hosted zone"),
    ] {
        cloud.world.stack("web", &stack(zone, domain), "");
        let refused = cloud.run(&["create", "web", "--aws"]).expect(2);
        assert!(refused.stderr().contains(why), "{refused:?}");
        assert!(refused.stderr().contains("hint: aws route53 list-hosted-zones-by-name"), "{refused:?}");
    }
    assert_eq!((cloud.world.names(), cloud.instances()), (Vec::new(), Vec::new()));
}

#[test]
fn dns_names_of_a_stopped_vm_are_withdrawn_and_reported() {
    let cloud = Cloud::new();
    cloud.aws.create_zone("example.com");
    cloud.world.stack("web", NAMED, "");
    cloud.run(&["create", "web", "--aws", "--no-wait"]).expect(0);
    let address = cloud.address("web");
    assert_eq!(cloud.records(), [format!("record web.example.com. A {address}")]);
    cloud.power("StopInstances");
    let dangling = format!("web.example.com still points to {address}, which AWS may give to someone else");
    let refreshed = cloud.run(&["refresh"]).expect(1);
    assert!(refreshed.stdout().contains(&dangling), "{refreshed:?}");
    let json = cloud.json_of(&["refresh", "--json"], 1);
    assert_eq!(json["dangling"][0]["name"], "web", "{json}");
    let doctor = cloud.run(&["doctor"]);
    assert!(doctor.stdout().contains(&dangling), "{doctor:?}");
    for command in [["status", "web"], ["list", "--refresh"]] {
        cloud.run(&command).expect(0);
    }
    assert!(cloud.run(&["status", "web"]).expect(0).stdout().contains(&dangling));
    assert!(cloud.run(&["dns", "show", "web"]).expect(0).stderr().contains(&dangling));
    cloud.run(&["stop", "web"]).expect(0);
    assert_eq!(cloud.records(), [""; 0]);
    let shown = cloud.run(&["dns", "show", "web"]).expect(0);
    assert!(shown.stdout().contains("this VM, while it is running"), "{shown:?}");
    assert!(
        shown.stderr().contains("web is stopped; run `goloo start web` to set its names again"),
        "{shown:?}"
    );
    let names = cloud.json(&["dns", "show", "web", "--json"]);
    assert_eq!(
        names["names"][0],
        serde_json::json!({"name": "web.example.com", "live": [], "withdrawn": true})
    );
    assert_eq!(names["live"], serde_json::json!({"state": "stopped", "reason": null}));
    let status = cloud.json(&["status", "web", "--json"]);
    assert_eq!(status["vm"]["aws"]["publicIP"], serde_json::Value::Null);
    cloud.run(&["refresh"]).expect(0);
    cloud.run(&["delete", "web", "--yes"]).expect(0);
    assert_eq!((cloud.records(), cloud.instances()), (Vec::new(), Vec::new()));
}

const CHANGE: &str = "ChangeResourceRecordSets";

const NAMED: &str = r#"{
    "vm": {"cpus": 1, "memory": "512M", "disk": "8G", "ssh_cidr": "198.51.100.0/24"},
    "dns": {"hostname": "web", "domain": "example.com"}
}"#;

/// Refuses to create an existing record as AWS does; moto would create it again.
fn refuse_to_make_what_exists(proxy: &FaultProxy) {
    proxy.answer(CHANGE, |request| {
        let body = String::from_utf8_lossy(&request.body);
        let is_new = !body.contains("<Action>DELETE</Action>");
        is_new.then(|| aws_answers::error("route53", 400, "InvalidChangeBatch", "but it already exists"))
    });
}

#[test]
fn existing_dns_names_are_taken_over_only_with_force_even_on_resume() {
    let cloud = Cloud::new();
    cloud.world.stack("web", NAMED, "");
    let zone = cloud.aws.create_zone("example.com");
    cloud.foreign_address(&zone, "web.example.com", "192.0.2.77");
    let foreign = "record web.example.com. A 192.0.2.77";
    let proxy = FaultProxy::start(cloud.aws.endpoint());
    refuse_to_make_what_exists(&proxy);
    let created = Ran(cloud.command(proxy.endpoint(), &CREATE).output().unwrap()).expect(0);
    let warning = "web.example.com (A 192.0.2.77) already points elsewhere";
    assert!(
        created.stderr().contains(warning) && created.stderr().contains("dns swap web --force"),
        "{created:?}"
    );
    cloud.run(&["delete", "web", "--yes"]).expect(0);
    assert_eq!(cloud.records(), [foreign]);

    let force = [&CREATE[..], &["--force"]].concat();
    proxy.reset();
    refuse_to_make_what_exists(&proxy);
    assert!(!cloud.kill_at(&proxy, At::Action(CHANGE, 1), false, &force));
    assert_eq!(cloud.records(), [foreign]);
    proxy.reset();
    refuse_to_make_what_exists(&proxy);
    Ran(cloud.command(proxy.endpoint(), &["resume", "web"]).output().unwrap()).expect(0);
    assert_eq!(cloud.records(), [format!("record web.example.com. A {}", cloud.address("web"))]);
    cloud.run(&["delete", "web", "--yes"]).expect(0);
    assert_eq!(cloud.records(), [""; 0]);
}

#[test]
fn create_accepts_force_only_for_aws() {
    let world = World::new();
    world.stack("web", WEB, "");
    let refused = world.run(&["create", "web", "--force", "--local"]).expect(2);
    assert!(refused.stderr().contains("takes over DNS names in AWS"), "{refused:?}");
    world.run(&["create", "web", "--force", "--aws", "--dry-run"]).expect(0);
}

/// Kills the command at each of its requests to AWS, before or after the request took effect. `begin` prepares the
/// command; `go_on` recovers as a user would, and checks the result.
fn at_every_request(cloud: &Cloud, arguments: &[&str], begin: impl Fn(), go_on: impl Fn(usize, &str)) {
    let proxy = FaultProxy::start(cloud.aws.endpoint());
    for late in [false, true] {
        for number in 1.. {
            begin();
            proxy.reset();
            let ended = cloud.kill_at(&proxy, At::Request(number), late, arguments);
            let when = format!("killed at request {number}, late: {late}, ended: {ended}");
            go_on(number, &when);
            if proxy.struck() == 0 {
                assert!(ended && number > 3, "{when}");
                break;
            }
        }
    }
}

const CREATE: [&str; 4] = ["create", "web", "--aws", "--no-wait"];

/// The requests of a create that ask for baked images, before anything is made or recorded.
const BEFORE_THE_RECORD: usize = 1;

#[test]
fn kill_create_in_aws_at_every_request_then_resume_or_delete() {
    let cloud = Cloud::new();
    let empty = cloud.aws.ledger();
    let go_on = |number: usize, when: &str| {
        if number > BEFORE_THE_RECORD {
            if number.is_multiple_of(2) {
                cloud.run(&["resume", "web"]).expect(0);
                assert_eq!(cloud.instances().len(), 1, "{when}");
            }
            cloud.run(&["delete", "web", "--yes"]).expect(0);
        }
        cloud.assert_nothing_is_left(&empty, when);
    };
    at_every_request(&cloud, &CREATE, || {}, go_on);
}

#[test]
fn kill_create_in_a_full_zone_at_every_request_then_resume_or_delete() {
    let cloud = Cloud::new();
    let empty = cloud.aws.ledger();
    for late in [false, true] {
        for number in 1.. {
            let (proxy, zones) =
                (FaultProxy::start(cloud.aws.endpoint()), FullZones::new("goloo-web", &[NO_CAPACITY]));
            zones.play(&proxy);
            let ended = cloud.kill_at(&proxy, At::Request(number), late, &CREATE);
            let struck = proxy.struck();
            let when = format!("killed at request {number}, late: {late}, ended: {ended}");
            let run = |arguments: &[&str]| Ran(cloud.command(proxy.endpoint(), arguments).output().unwrap());
            if number > BEFORE_THE_RECORD {
                if number.is_multiple_of(2) {
                    run(&["resume", "web"]).expect(0);
                    assert_eq!(cloud.instances().len(), 1, "{when}");
                }
                run(&["delete", "web", "--yes"]).expect(0);
            }
            cloud.assert_nothing_is_left(&empty, &when);
            assert_eq!(zones.left(), [""; 0], "{when}");
            if struck == 0 {
                assert!(ended && number > 8 && zones.failures() > 0, "{when}");
                break;
            }
        }
    }
}

#[test]
fn kill_delete_in_aws_at_every_request_then_resume() {
    let cloud = Cloud::new();
    let empty = cloud.aws.ledger();
    let begin = || drop(cloud.run(&CREATE).expect(0));
    let go_on = |_, when: &str| {
        if !cloud.world.names().is_empty() {
            cloud.run(&["resume", "web"]).expect(0);
        }
        cloud.assert_nothing_is_left(&empty, when);
    };
    at_every_request(&cloud, &["delete", "web", "--yes"], begin, go_on);
}

#[test]
fn kill_stop_in_aws_at_every_request_then_resume_or_retry() {
    let cloud = Cloud::new();
    let empty = cloud.aws.ledger();
    cloud.run(&CREATE).expect(0);
    let stop = ["stop", "web"];
    let go_on = |number: usize, when: &str| {
        let resumes = number.is_multiple_of(2) && cloud.is_unfinished("web");
        cloud.run(if resumes { &["resume", "web"] } else { &stop }).expect(0);
        assert!(!cloud.is_unfinished("web"), "{when}");
        assert!(cloud.instances()[0].ends_with(" stopped"), "{when}");
    };
    at_every_request(&cloud, &stop, || cloud.power("StartInstances"), go_on);
    cloud.run(&["delete", "web", "--yes"]).expect(0);
    cloud.assert_nothing_is_left(&empty, "at the end");
}

#[test]
fn kill_start_in_aws_at_every_request_then_resume_or_retry() {
    let cloud = Cloud::new();
    cloud.world.stack("web", NAMED, "");
    cloud.aws.create_zone("example.com");
    let empty = cloud.aws.ledger();
    cloud.run(&CREATE).expect(0);
    let runs = || {
        let (vm, address) = (cloud.status("web"), cloud.live_address());
        let record = address.as_ref().map(|address| format!("record web.example.com. A {address}"));
        vm["operation"].is_null()
            && vm["aws"]["publicIP"].as_str() == address.as_deref()
            && cloud.instances()[0].ends_with(" running")
            && cloud.records() == Vec::from_iter(record)
    };
    let start = ["start", "web", "--timeout", "1s"];
    let go_on = |number: usize, when: &str| {
        let resumes = number.is_multiple_of(2) && cloud.is_unfinished("web");
        // Nothing listens at moto's addresses: the record must be complete before goloo waits for SSH.
        cloud.run_until(if resumes { &["resume", "web"] } else { &start }, when, runs);
    };
    at_every_request(&cloud, &start, || cloud.power("StopInstances"), go_on);
    cloud.run(&["delete", "web", "--yes"]).expect(0);
    cloud.assert_nothing_is_left(&empty, "at the end");
}

/// The config of a VM with a name, this port and this alias.
fn with_port(port: usize) -> String {
    format!(
        r#"{{
            "vm": {{"cpus": 1, "memory": "512M", "disk": "8G", "ssh_cidr": "198.51.100.0/24", "ports": [{port}]}},
            "dns": {{"hostname": "web", "domain": "example.com", "cname_aliases": ["a{port}"]}}
        }}"#
    )
}

#[test]
fn kill_apply_in_aws_at_every_request_then_resume_or_retry() {
    let cloud = Cloud::new();
    let empty = cloud.aws.ledger();
    let port = Cell::new(8000);
    let edit = || {
        port.set(port.get() + 1);
        cloud.world.stack(
            "web",
            &WEB.replace("\"cpus\"", &format!("\"ports\": [{}], \"cpus\"", port.get())),
            "",
        );
    };
    edit();
    cloud.run(&CREATE).expect(0);
    let before = cloud.instances();
    let apply = ["apply", "web"];
    let go_on = |number: usize, when: &str| {
        let resumes = number.is_multiple_of(2) && cloud.is_unfinished("web");
        cloud.run(if resumes { &["resume", "web"] } else { &apply }).expect(0);
        let vm = cloud.status("web");
        assert!(vm["operation"].is_null(), "{when}");
        assert_eq!(cloud.ports(&vm), [22, port.get()], "{when}");
    };
    at_every_request(&cloud, &apply, edit, go_on);
    assert_eq!(cloud.instances(), before);
    cloud.run(&["delete", "web", "--yes"]).expect(0);
    cloud.assert_nothing_is_left(&empty, "at the end");
}

#[test]
fn an_update_that_outlasts_the_timeout_is_continued_by_resume() {
    let cloud = Cloud::new();
    cloud.world.stack("web", &with_port(80), "");
    cloud.aws.create_zone("example.com");
    cloud.run(&CREATE).expect(0);
    let vm = cloud.status("web");
    let mut updating = aws_answers::Stack::new("goloo-web", "UPDATE_IN_PROGRESS");
    updating.id = vm["aws"]["stackID"].as_str().unwrap().to_owned();
    updating.tags = vec![("goloo:id".to_owned(), vm["id"].as_str().unwrap().to_owned())];
    let proxy = FaultProxy::start(cloud.aws.endpoint());
    let executed = Arc::new(AtomicBool::new(false));
    let is_executed = Arc::clone(&executed);
    let note = move |_: &Request| executed.store(true, Ordering::SeqCst);
    proxy.fault(At::Action("ExecuteChangeSet", 1), Fault::after(note));
    proxy.answer("DescribeStacks", move |_| {
        let answer = || aws_answers::describe_stacks(std::slice::from_ref(&updating));
        is_executed.load(Ordering::SeqCst).then(answer)
    });
    cloud.world.stack("web", &with_port(443), "");
    let mut apply = cloud.command(proxy.endpoint(), &["apply", "web", "--timeout", "2s"]);
    let ended = Ran(apply.output().unwrap()).expect(6);
    assert!(ended.stderr().contains("goloo resume web"), "{ended:?}");
    assert!(cloud.is_unfinished("web"));
    cloud.run(&["resume", "web"]).expect(0);
    let vm = cloud.status("web");
    assert_eq!((cloud.ports(&vm), vm["operation"].is_null()), (vec![22, 443], true));
}

#[test]
fn apply_in_aws_changes_ports_and_the_end_at_once_and_the_type_with_a_restart() {
    let cloud = Cloud::new();
    cloud.world.stack("web", &with_port(80), "");
    cloud.aws.create_zone("example.com");
    let empty = cloud.aws.ledger();
    cloud.run(&CREATE).expect(0);
    let id = cloud.status("web")["aws"]["instanceID"].clone();
    cloud.world.stack("web", &with_port(443), "");
    let dry = cloud.run(&["apply", "web", "--dry-run"]).expect(0).stdout();
    assert!(dry.contains("vm.ports") && dry.contains("nothing"), "{dry}");
    assert_eq!(cloud.ports(&cloud.status("web")), [22, 80]);
    let applied = cloud.run(&["apply", "web"]).expect(0).stdout();
    assert!(applied.contains("changed web: vm.ports, dns"), "{applied}");
    assert_eq!(cloud.ports(&cloud.status("web")), [22, 443]);
    let same = cloud.run(&["apply", "web"]).expect(0).stdout();
    assert!(same.contains("web is as its stack says"), "{same}");

    let resize = ["apply", "web", "--set", "cpus=4"];
    let refused = cloud.run(&resize).expect(2);
    assert!(refused.stderr().contains("apply asks before it restarts a machine"), "{refused:?}");
    let has_moved = || {
        let (vm, address) = (cloud.status("web"), cloud.live_address());
        let own = address.as_ref().map(|address| format!("record web.example.com. A {address}"));
        vm["aws"]["instanceType"] == "t3.xlarge"
            && vm["aws"]["publicIP"].as_str() == address.as_deref()
            && cloud.instances()[0].ends_with(" running")
            && cloud.records().last() == own.as_ref()
    };
    // Nothing listens at moto's addresses: goloo waits for SSH.
    cloud.run_until(&[&resize[..], &["--yes"]].concat(), "resized", has_moved);
    assert_eq!(cloud.status("web")["aws"]["instanceID"], id);
    assert_eq!(cloud.ports(&cloud.status("web")), [22, 443]);

    let asked = [
        ("Action", "DescribeInstanceAttribute"),
        ("InstanceId", id.as_str().unwrap()),
        ("Attribute", "instanceInitiatedShutdownBehavior"),
    ];
    let is_terminated = || cloud.aws.query("ec2", REGIONS[0], &asked).contains("<value>terminate</value>");
    assert!(!is_terminated());
    cloud.run_until(&["apply", "web", "--set", "ttl=2h"], "a shutdown is its end", is_terminated);
    cloud.run(&["delete", "web", "--yes"]).expect(0);
    cloud.assert_nothing_is_left(&empty, "at the end");
}

/// A replacement that ends soon: nothing listens at moto's addresses, so its verdict is unknown.
const REPLACE: [&str; 6] = ["apply", "web", "--replace", "--yes", "--timeout", "1s"];

/// An account with the VM `web` that has a DNS name.
struct Named {
    cloud: Cloud,
    /// Refuses to create names that exist.
    proxy: FaultProxy,
    /// What the account has without VMs.
    empty: Vec<String>,
}

impl Named {
    fn new() -> Self {
        let cloud = Cloud::new();
        cloud.world.stack("web", NAMED, "");
        cloud.aws.create_zone("example.com");
        let empty = cloud.aws.ledger();
        cloud.run(&CREATE).expect(0);
        let proxy = FaultProxy::start(cloud.aws.endpoint());
        refuse_to_make_what_exists(&proxy);
        Self { cloud, proxy, empty }
    }

    /// Ends all faults.
    fn reset(&self) {
        self.proxy.reset();
        refuse_to_make_what_exists(&self.proxy);
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.cloud.command(self.proxy.endpoint(), arguments).output().unwrap())
    }

    fn edit(&self, text: &str) {
        let document = format!("#cloud-config\nruncmd: [\"echo {text}\"]\n");
        self.cloud.world.stack("web", NAMED, &document);
    }

    /// Notes that the new VM is provisioned, as its guest would have said.
    fn make_ready(&self) {
        let path = self.cloud.world.state().join("active/web-new/state.json");
        let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        record["phase"] = "ready".into();
        std::fs::write(&path, record.to_string()).unwrap();
    }

    /// Whether the name points to this address, and to nothing else.
    fn points_to(&self, address: &str) -> bool {
        self.cloud.records() == [format!("record web.example.com. A {address}")]
    }

    fn assert_replaced(&self, old: &serde_json::Value, when: &str) {
        let new = self.cloud.status("web");
        assert_eq!((&new["replaces"], new["operation"].is_null()), (old, true), "{when}");
        assert_eq!((self.cloud.world.names().len(), self.cloud.instances().len()), (1, 1), "{when}");
        assert!(self.points_to(&self.cloud.address("web")), "{when}: {:?}", self.cloud.records());
    }

    fn delete(self) {
        self.cloud.run(&["delete", "web", "--yes"]).expect(0);
        self.cloud.assert_nothing_is_left(&self.empty, "at the end");
    }
}

#[test]
fn a_vm_in_aws_answers_under_its_name_until_its_replacement_is_ready() {
    let vms = Named::new();
    let (old, address) = (vms.cloud.status("web"), vms.cloud.address("web"));
    vms.edit("new");
    let failed = vms.run(&REPLACE).expect(8).stderr();
    assert!(failed.contains("web is as it was") && !failed.contains("dns swap"), "{failed}");
    assert_eq!(vms.cloud.status("web"), old);
    assert!(vms.points_to(&address) && vms.cloud.instances().len() == 2);
    // What is given up must not take the names of the other one with it.
    vms.run(&["dns", "swap", "web-new", "--from", "web"]).expect(0);
    let refused = vms.run(&["delete", "web-new", "--yes"]).expect(1).stderr();
    assert!(
        refused.contains("has the DNS names of") && refused.contains("dns rollback web-new"),
        "{refused}"
    );
    vms.run(&["dns", "rollback", "web-new"]).expect(0);
    vms.run(&["delete", "web-new", "--yes"]).expect(0);
    assert!(vms.points_to(&address) && vms.cloud.instances().len() == 1);
    vms.run(&REPLACE).expect(8);
    vms.make_ready();
    let said = vms.run(&["resume", "web"]).expect(0).stdout();
    assert!(said.contains("web is a new VM"), "{said}");
    vms.assert_replaced(&old["id"], "resumed");
    assert!(!vms.points_to(&address));
    vms.delete();
}

#[test]
fn a_replacement_in_aws_that_is_killed_while_its_vm_is_created_goes_on() {
    let vms = Named::new();
    let (old, address) = (vms.cloud.status("web"), vms.cloud.address("web"));
    for (at, late) in [("CreateStack", false), ("CreateStack", true), (CHANGE, false), (CHANGE, true)] {
        vms.edit(&format!("{at} {late}"));
        vms.reset();
        vms.cloud.kill_at(&vms.proxy, At::Action(at, 1), late, &REPLACE);
        assert_eq!(vms.cloud.status("web"), old, "{at}, {late}");
        vms.reset();
        // Its verdict is unknown, too.
        vms.run(&["resume", "web", "--timeout", "1s"]).expect(8);
        assert!(vms.points_to(&address) && vms.cloud.instances().len() == 2, "{at}, {late}");
        vms.run(&["delete", "web-new", "--yes"]).expect(0);
        assert!(vms.points_to(&address) && vms.cloud.instances().len() == 1, "{at}, {late}");
    }
    vms.delete();
}

#[test]
fn kill_replace_in_aws_at_every_request_then_resume() {
    let vms = Named::new();
    for late in [false, true] {
        for number in 1.. {
            let old = vms.cloud.status("web")["id"].clone();
            vms.edit(&format!("{late} {number}"));
            vms.reset();
            vms.run(&REPLACE).expect(8);
            vms.make_ready();
            vms.reset();
            let ended = vms.cloud.kill_at(&vms.proxy, At::Request(number), late, &["resume", "web"]);
            let struck = vms.proxy.struck();
            let when = format!("killed at request {number}, late: {late}, ended: {ended}");
            vms.reset();
            let names = vms.cloud.world.names();
            let resumed = vms.run(&["resume", &names[number % names.len()]]);
            assert_eq!(resumed.code(), 0, "{when}: {resumed:?}");
            vms.assert_replaced(&old, &when);
            if struck == 0 {
                assert!(ended && number > 8, "{when}");
                break;
            }
        }
    }
    vms.delete();
}

#[test]
fn kill_swap_in_aws_at_every_request_then_resume_or_retry() {
    let cloud = Cloud::new();
    cloud.world.stack("web", NAMED, "");
    cloud.aws.create_zone("example.com");
    let empty = cloud.aws.ledger();
    for name in ["blue", "green"] {
        cloud.run(&[&CREATE[..], &["--as", name]].concat()).expect(0);
    }
    let swap = ["dns", "swap", "green", "--from", "blue"];
    let back = || drop(cloud.run(&["dns", "swap", "blue", "--from", "green"]).expect(0));
    back();
    let green = cloud.address("green");
    let go_on = |number: usize, when: &str| {
        if cloud.is_unfinished("green") {
            let refused = cloud.run(&swap).expect(6);
            assert!(refused.stderr().contains("goloo resume"), "{when}: {refused:?}");
            let either = if number.is_multiple_of(2) { "blue" } else { "green" };
            cloud.run(&["resume", either]).expect(0);
        } else {
            cloud.run(&swap).expect(0);
        }
        assert!(!cloud.is_unfinished("blue") && !cloud.is_unfinished("green"), "{when}");
        assert_eq!(cloud.records(), [format!("record web.example.com. A {green}")], "{when}");
    };
    at_every_request(&cloud, &swap, back, go_on);
    for name in ["blue", "green"] {
        cloud.run(&["delete", name, "--yes"]).expect(0);
    }
    cloud.assert_nothing_is_left(&empty, "at the end");
}

/// A cloud whose guests let `ssh`'s stand-in in, once [`Cloud::bake_until_provisioned`] has given them an address.
fn with_guests() -> (Cloud, u16) {
    let cloud = Cloud::new();
    cloud.world.ssh_finds(r#"{"status":"done","errors":[]}"#);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in server.incoming() {
            let _ = client.unwrap().write_all(b"SSH-2.0-test\r\n");
        }
    });
    (cloud, port)
}

impl Cloud {
    /// Begins a bake, and leaves the record as it is once the VM is provisioned: the emulator's guests don't boot.
    fn bake_until_provisioned(&self, port: u16) {
        let path = self.world.state().join("active/bake-web/state.json");
        let record = || serde_json::from_slice::<serde_json::Value>(&std::fs::read(&path).ok()?).ok();
        self.run_until(&["bake", "web", "--aws"], "it is waited for its guest", || {
            std::thread::sleep(Duration::from_millis(20));
            record().is_some_and(|record| record["operation"]["step"] == "provisioning")
        });
        let mut record = record().unwrap();
        record["phase"] = "ready".into();
        record["operation"]["kind"] = "bake".into();
        record["operation"]["step"] = "intent".into();
        record["operation"].as_object_mut().unwrap().remove("inputs");
        record["endpoint"]["address"] = "127.0.0.1".into();
        record["endpoint"]["sshPort"] = port.into();
        std::fs::write(&path, record.to_string()).unwrap();
    }

    fn baked(&self) -> Vec<serde_json::Value> {
        self.json(&["image", "list", "--aws", "--json"])["images"].as_array().unwrap().clone()
    }
}

#[test]
fn a_stack_that_is_baked_in_aws_is_created_from_its_image_until_that_is_pruned() {
    let (cloud, port) = with_guests();
    let empty = cloud.aws.ledger();
    cloud.bake_until_provisioned(port);
    let baked = cloud.run(&["resume", "bake-web", "--yes"]).expect(0);
    assert!(baked.stdout().contains("baked web"), "{baked:?}");
    assert_eq!(cloud.world.names(), [""; 0]);
    assert_eq!(cloud.aws.ledger().len(), empty.len() + 2, "an image and its snapshot");
    let image = cloud.baked().remove(0);
    assert_eq!(
        (&image["stack"], &image["state"], &image["inUse"], &image["stackChanged"]),
        (&"web".into(), &"available".into(), &false.into(), &false.into())
    );
    let again = cloud.run(&["bake", "web", "--aws"]).expect(0);
    assert!(again.stdout().contains("web is baked already"), "{again:?}");

    let dry = cloud.run(&["create", "web", "--aws", "--dry-run"]).expect(0);
    assert!(dry.stdout().contains("the baked image of the stack web") && dry.stdout().contains("per GiB"));
    cloud.run(&CREATE).expect(0);
    let vm = cloud.status("web");
    assert_eq!((&vm["aws"]["amiID"], &vm["bakedFrom"]), (&image["id"], &image["key"]));
    assert_eq!(cloud.baked()[0]["inUse"], true);
    cloud.run(&["image", "rm", "--aws", "baked:web"]).expect(1);
    cloud.run(&["image", "prune", "--aws", "--yes"]).expect(0);
    assert_eq!(cloud.baked().len(), 1, "a VM uses it");
    cloud.run(&["delete", "web", "--yes"]).expect(0);

    let asks = cloud.run(&["image", "prune", "--aws"]).expect(2);
    assert!(asks.stderr().contains("ami-") && asks.stderr().contains("--yes"), "{asks:?}");
    cloud.run(&["image", "rm", "--aws", "baked:other"]).expect(3);
    cloud.run(&["image", "prune", "--aws", "--yes"]).expect(0);
    assert_eq!(cloud.aws.ledger(), empty);
}

#[test]
fn a_create_in_aws_is_not_prevented_by_a_failing_look_up_of_images() {
    let cloud = Cloud::new();
    let proxy = FaultProxy::start(cloud.aws.endpoint());
    let denied = aws_answers::error("ec2", 403, "UnauthorizedOperation", "not allowed");
    proxy.fault(At::Action("DescribeImages", 1), Fault::Refused(denied));
    let created = Ran(cloud.command(proxy.endpoint(), &CREATE).output().unwrap()).expect(0);
    assert!(
        created.stderr().contains("made from scratch") && created.stderr().contains("ec2:DescribeImages")
    );
    assert_eq!(cloud.status("web")["bakedFrom"], serde_json::Value::Null);
}

#[test]
fn kill_bake_in_aws_at_every_request_then_resume_or_delete() {
    let (cloud, port) = with_guests();
    let empty = cloud.aws.ledger();
    let go_on = |number: usize, when: &str| {
        if cloud.world.names() == [""; 0] {
            // It was killed before its claim or after its end.
        } else if number.is_multiple_of(2) {
            cloud.run(&["resume", "bake-web", "--yes"]).expect(0);
            let images = cloud.baked();
            assert_eq!((images.len(), &images[0]["state"]), (1, &"available".into()), "{when}");
        } else {
            cloud.run(&["delete", "bake-web", "--yes"]).expect(0);
        }
        // One that was begun before the bake was given up is no longer pending now.
        cloud.baked();
        cloud.run(&["image", "prune", "--aws", "--yes"]).expect(0);
        cloud.assert_nothing_is_left(&empty, when);
    };
    at_every_request(&cloud, &["resume", "bake-web", "--yes"], || cloud.bake_until_provisioned(port), go_on);
}
