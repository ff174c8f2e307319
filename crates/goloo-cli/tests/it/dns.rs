//! Blue/green deployments through the real command, against moto: everything except guests.
#![cfg(feature = "aws")]

use crate::common::{Ran, World};
use goloo_testkit::aws_emulators::{AwsEmulator, Credentials, REGIONS};
use serde_json::{Value, json};

const WEB: &str = r#"{
    "vm": {"cpus": 1, "memory": "512M", "disk": "8G", "ssh_cidr": "198.51.100.0/24"},
    "dns": {"hostname": "web", "domain": "example.com", "ttl": 60, "is_apex_domain": true, "cname_aliases": ["www"]}
}"#;

/// Two VMs of one stack; the first one owns its DNS names.
struct BlueGreen {
    world: World,
    aws: AwsEmulator,
}

impl BlueGreen {
    fn new() -> Self {
        let (world, aws) = (World::new(), AwsEmulator::moto());
        world.ssh_finds(r#"{"status":"done","errors":[]}"#);
        aws.open_default_vpc(REGIONS[0]);
        aws.create_zone("example.com");
        world.stack("web", WEB, "");
        let both = Self { world, aws };
        for name in ["web-blue", "web-green"] {
            both.run(&["create", "web", "--as", name, "--aws", "--no-wait"]).expect(0);
        }
        both
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.world.command();
        self.aws.aim(&mut command, &Credentials::any());
        Ran(command.env("GOLOO_AWS_POLL", "0.05").args(arguments).output().unwrap())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(arguments).expect(0).stdout()).unwrap()
    }

    fn address(&self, name: &str) -> String {
        self.json(&["status", name, "--json"])["vm"]["aws"]["publicIP"].as_str().unwrap().to_owned()
    }

    fn assert_names_lead_to(&self, name: &str) {
        let address = self.address(name);
        let mut live = self.aws.ledger();
        live.retain(|line| line.starts_with("record "));
        live.sort();
        assert_eq!(
            live,
            [
                format!("record example.com. A {address}"),
                format!("record web.example.com. A {address}"),
                "record www.example.com. CNAME web.example.com".to_owned(),
            ]
        );
        assert_eq!(self.json(&["status", name, "--json"])["vm"]["aws"]["fqdn"], "web.example.com");
    }
}

#[test]
fn emulator_dns_names_are_swapped_from_blue_to_green_and_back() {
    let both = BlueGreen::new();
    both.assert_names_lead_to("web-blue");
    let swapped = both.run(&["dns", "swap", "web-green"]).expect(0);
    let (blue, green) = (both.address("web-blue"), both.address("web-green"));
    assert_eq!(
        swapped.stdout(),
        format!(
            "web.example.com now points to {green} (previously A {blue})\nexample.com now points to {green} (previously A {blue})\n"
        )
    );
    assert!(swapped.stderr().contains("run `goloo dns rollback web-green` to undo this"), "{swapped:?}");
    both.assert_names_lead_to("web-green");
    let again = both.run(&["dns", "swap", "web-green"]).expect(0);
    assert_eq!(again.stdout(), "all names of web-green already pointed to it\n");
    let back = both.json(&["dns", "rollback", "web-green", "--json"]);
    assert_eq!((&back["to"], &back["from"]), (&json!("web-blue"), &json!("web-green")));
    assert_eq!(
        back["records"][0],
        json!({"name": "web.example.com", "type": "A", "values": [blue], "ttl": 60})
    );
    both.assert_names_lead_to("web-blue");
    both.run(&["dns", "swap", "web-green"]).expect(0);
    both.run(&["delete", "web-blue", "--yes"]).expect(0);
    both.assert_names_lead_to("web-green");
}

#[test]
fn emulator_dns_show_and_errors_name_the_vm_that_holds_a_name() {
    let both = BlueGreen::new();
    let shown = both.json(&["dns", "show", "web-green", "--json"]);
    let blue = both.address("web-blue");
    assert_eq!(
        shown["names"][0],
        json!({"name": "web.example.com", "live": [
            {"type": "A", "ttl": 60, "values": [blue], "whose": "vm", "vm": "web-blue"},
        ], "withdrawn": false})
    );
    assert_eq!(shown["previous"], Value::Null);
    both.run(&["dns", "swap", "web-green"]).expect(0);
    assert_eq!(both.json(&["dns", "show", "web-green", "--json"])["previous"]["vm"], "web-blue");
    let table = both.run(&["dns", "show", "web-blue"]).expect(0).stdout();
    assert!(table.lines().nth(1).unwrap().ends_with("web-green"), "{table}");
    both.run(&["stop", "web-blue"]).expect(0);
    let refused = both.run(&["dns", "rollback", "web-green"]).expect(1);
    assert!(refused.stderr().contains("\"web-blue\", which would get the names, is stopped"), "{refused:?}");
    assert!(refused.stderr().contains("hint: goloo start web-blue"), "{refused:?}");
    both.run(&["dns", "swap", "nobody"]).expect(3);
    both.world.run(&["create", "hello", "--no-wait"]).expect(0);
    let local = both.run(&["dns", "show", "hello"]).expect(2);
    assert!(local.stderr().contains("qemu doesn't support DNS names"), "{local:?}");
    both.assert_names_lead_to("web-green");
}
