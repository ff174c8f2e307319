//! Helpers shared by this crate's tests.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses its part; a failing one is to panic")]

pub mod account;
pub mod dying_store;
pub mod faulty_moto;
pub mod moto;
pub mod named_vms;
pub mod queue;
pub mod real;

use std::time::Duration;

use aws_credential_types::Credentials;
use goloo_aws::ami;
use goloo_aws::dns;
use goloo_aws::instance_types::InstanceArch;
use goloo_aws::tags;
use goloo_aws::template::{self, Placement, VmTemplate};
use goloo_aws::{PollIntervals, Settings};
use goloo_model::name::{OperationId, VmId};
use goloo_model::provider::Machine;
use goloo_model::spec::{Dns, ImageRef, Size};
use goloo_testkit::provider_suite;
use goloo_testkit::samples::forwards;
use serde_json::Value;

/// Settings that use this emulator and don't wait between polls.
pub fn settings(endpoint: &str, region: &str) -> Settings {
    let mut settings = Settings::new(region);
    settings.trust = goloo_model::record::Trust {
        key: Some(goloo_testkit::samples::state_key()),
        store_is_private: true,
        ..Default::default()
    };
    settings.endpoint = Some(endpoint.to_owned());
    settings.credentials = Some(Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", None, None, "test"));
    settings.pace = PollIntervals {
        first: Duration::ZERO,
        then: Duration::from_millis(5),
        again: Duration::from_millis(1),
    };
    settings
}

/// A machine with fixed values.
pub fn fixed_machine() -> Machine {
    let mut machine =
        provider_suite::machine("web", ImageRef::Alias("ubuntu-24.04".into()), b"#cloud-config\n{}\n");
    machine.id = VmId::parse("01JHN3W1T3K9Q2Z8F6B4C7D5E0").unwrap();
    machine.token = OperationId::parse("01JHN3W1T3K9Q2Z8F6B4C7D5E1").unwrap();
    machine.stack.os = "ubuntu-24.04".to_owned();
    machine.stack.disk = Size::gib(8);
    machine
}

/// Runs a future without an existing runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Calls `act` concurrently for each number from 1 to the last: the calls mostly wait.
pub fn side_by_side(last: usize, act: impl Fn(usize) + Sync) {
    let act = &act;
    std::thread::scope(|scope| {
        let all: Vec<_> = (1..=last).map(|number| scope.spawn(move || act(number))).collect();
        for (number, one) in (1..).zip(all) {
            assert!(one.join().is_ok(), "number {number}");
        }
    });
}

/// Every variant of a template.
pub fn variants() -> Vec<(&'static str, Value)> {
    let plain = fixed_machine();
    let mut rich = fixed_machine();
    rich.stack.ports = forwards(&["8080:80", "8081:80", "443", "53:53/udp", "27000-27010/udp"]);
    rich.stack.ttl = Some(3600);
    let mut given = fixed_machine();
    given.stack.os = "ami-0abc0abc".to_owned();
    rich.stack.dns = Some(Dns {
        hostname: "web".to_owned(),
        domain: "example.com".to_owned(),
        ttl: 300,
        zone_id: None,
        is_apex_domain: true,
        cname_aliases: vec!["www".to_owned()],
    });
    let mut spot = fixed_machine();
    (spot.stack.spot, spot.stack.iam_instance_profile) = (true, Some("web".to_owned()));
    // It needs two parameters.
    spot.user_data = vec![b'x'; 4_000];
    let shown = |machine: &Machine, arch, instance_type, ssh_cidr: &[&str], place| {
        let ami = ami::choose(&machine.stack, arch).unwrap();
        let root_device = "/dev/sda1";
        let dns = machine.stack.dns.as_ref();
        let names = &dns.map(|dns| dns::notes(dns, "Z0123456789")).unwrap_or_default();
        let ssh_cidr = &ssh_cidr.iter().map(|block| (*block).to_owned()).collect::<Vec<_>>();
        VmTemplate { machine, ami: &ami, root_device, instance_type, ssh_cidr, place, names }.value()
    };
    let public = Placement::Subnet { public: true };
    let private = Placement::Subnet { public: false };
    let mark = (tags::SHARED.to_owned(), "network".to_owned());
    vec![
        ("plain", shown(&plain, InstanceArch::X86_64, "t3.nano", &["0.0.0.0/0"], public)),
        (
            "ports_ttl_shared_network",
            shown(
                &rich,
                InstanceArch::Arm64,
                "t4g.small",
                &["198.51.100.0/24", "2001:db8::/32"],
                Placement::SharedNetwork,
            ),
        ),
        ("given_ami_private", shown(&given, InstanceArch::X86_64, "t3.nano", &["198.51.100.7/32"], private)),
        ("spot_profile", shown(&spot, InstanceArch::Arm64, "m7g.medium", &["198.51.100.7/32"], public)),
        ("network", template::network("goloo-network", &vec![mark.clone()], 1)),
        ("network_of_three_zones", template::network("goloo-network", &vec![mark], 3)),
    ]
}
