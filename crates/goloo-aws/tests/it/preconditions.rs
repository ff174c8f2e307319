//! What is detected and reported before anything is created, and how AWS's refusals are distinguished.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::faulty_moto::FaultyMoto;
use crate::common::moto::{Moto, REGION};
use crate::common::settings;
use goloo_aws::{AwsProvider, Settings};
use goloo_model::hint::Hint;
use goloo_model::provider::{Machine, Provider, ProviderError};
use goloo_model::spec::{Dns, SshSource};
use goloo_testkit::aws_answers::{self, Reply, error};
use goloo_testkit::fault_proxy::{At, Fault};
use goloo_testkit::provider_suite::{Bench, SuiteWork};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

impl FaultyMoto {
    fn provider_in(&self, region: &str) -> AwsProvider {
        AwsProvider::new(settings(self.faults.endpoint(), region))
    }

    /// The reason why nothing was created.
    async fn refused(&self, machine: &Machine) -> ProviderError {
        let error = self.provider().create(machine, &mut SuiteWork::default()).await.unwrap_err();
        let actions = self.faults.actions();
        assert!(!actions.iter().any(|action| action == "CreateStack"), "{actions:?}");
        error
    }
}

fn named(moto: &Moto, zone_id: Option<&str>, domain: &str) -> Machine {
    let mut machine = moto.machine("web");
    machine.stack.dns = Some(Dns {
        hostname: "web".to_owned(),
        domain: domain.to_owned(),
        ttl: 300,
        zone_id: zone_id.map(str::to_owned),
        is_apex_domain: false,
        cname_aliases: Vec::new(),
    });
    machine
}

fn unsupported(error: ProviderError) -> (String, Hint) {
    match error {
        ProviderError::Unsupported { what, hint } => (what, hint),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unsuitable_hosted_zone_is_refused_before_anything_is_created() {
    let world = FaultyMoto::new();
    let zone = world.moto.aws.create_zone("example.com");
    let (what, hint) =
        unsupported(world.refused(&named(&world.moto, Some("Z0000000GONE"), "example.com")).await);
    assert_eq!(what, "dns.zone_id can't be used: there is no hosted zone Z0000000GONE in Route 53");
    assert!(
        hint.debug_text().starts_with("aws route53 list-hosted-zones-by-name --dns-name example.com"),
        "{hint:?}"
    );
    let (what, _) = unsupported(world.refused(&named(&world.moto, Some(&zone), "example.org")).await);
    let other = format!(
        "dns.zone_id can't be used: the hosted zone {zone} is example.com, which doesn't contain example.org"
    );
    assert_eq!(what, other);
    // A name that merely has the same ending.
    let (what, _) = unsupported(world.refused(&named(&world.moto, Some(&zone), "notexample.com")).await);
    assert!(what.contains("which doesn't contain notexample.com"), "{what}");
    world.faults.answer("GetHostedZone", |_| Some(aws_answers::hosted_zone("Z1", "example.com.", true)));
    let (what, _) = unsupported(world.refused(&named(&world.moto, Some("Z1"), "example.com")).await);
    assert_eq!(
        what,
        "dns.zone_id can't be used: the hosted zone Z1 (example.com) is private: its names only resolve in its VPCs"
    );
    world
        .faults
        .answer("GetHostedZone", |_| Some(error("route53", 400, "InvalidInput", "1 validation error")));
    let (what, _) = unsupported(world.refused(&named(&world.moto, Some("no zone!"), "example.com")).await);
    assert_eq!(what, "dns.zone_id can't be used: there is no hosted zone no zone! in Route 53");
    world.faults.answer("GetHostedZone", |_| Some(error("route53", 403, "AccessDenied", "not authorized")));
    let denied = world.refused(&named(&world.moto, Some(&zone), "example.com")).await;
    assert!(
        matches!(&denied, ProviderError::Permission { what, .. } if what.contains("route53:GetHostedZone"))
    );
    let (what, _) = unsupported(world.refused(&named(&world.moto, None, "example.org")).await);
    assert_eq!(what, "no public hosted zone in Route 53 has the domain example.org");
}

#[tokio::test]
async fn a_parent_zone_or_a_zone_id_with_prefix_is_accepted() {
    let world = FaultyMoto::new();
    let zone = world.moto.aws.create_zone("example.com");
    for (name, id) in [("one", zone.clone()), ("two", format!("/hostedzone/{zone}"))] {
        let mut machine = named(&world.moto, Some(&id), "dev.Example.com.");
        machine.name = goloo_testkit::samples::name(name);
        machine.machine_name = machine.name.clone();
        machine.id = goloo_model::name::VmId::generate();
        machine.stack.dns.as_mut().unwrap().hostname = name.to_owned();
        world.provider().create(&machine, &mut SuiteWork::default()).await.unwrap();
        let live = world.moto.made();
        let expected = format!("record {name}.dev.example.com. A ");
        assert!(live.iter().any(|line| line.starts_with(&expected)), "{live:?}");
    }
    let zones = world.faults.actions().into_iter().filter(|action| action.contains("HostedZone"));
    assert_eq!(zones.collect::<Vec<_>>(), ["GetHostedZone", "GetHostedZone"]);
}

/// Responds to each request with these bytes; returns `http://127.0.0.1:PORT`.
fn answers(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = client.read(&mut request);
            let _ = client.write_all(bytes);
        }
    });
    format!("http://{address}")
}

async fn address_by(url: &str) -> Result<String, ProviderError> {
    let settings = Settings { checkip: url.to_owned(), ..Settings::new(REGION) };
    let address = AwsProvider::new(settings).public_address().await?;
    Ok(address.unwrap().to_string())
}

#[tokio::test]
async fn only_a_valid_response_of_the_service_gives_this_computers_address() {
    let good = answers(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n198.51.100.7\n");
    assert_eq!(address_by(&good).await.unwrap(), "198.51.100.7");
    for (bytes, why) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n<html></html>\n"[..], "the response is not an IP address"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Length: 12\r\n\r\n198.51.100.7", "the response is a redirect"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "the response has the status 204"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n2001:db8::1", "the response is the IPv6 address 2001:db8::1, but the VM is reached over IPv4"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n127.0.0.1", "the response is 127.0.0.1, which is not a public address"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "protocol"),
        (b"", ""),
    ] {
        let error = address_by(&answers(bytes)).await.unwrap_err();
        let ProviderError::Unavailable { what, hint } = &error else { panic!("{error:?}") };
        assert!(what.starts_with("can't get this computer's public address from http://127.0.0.1:"), "{what}");
        assert!(what.contains(why), "{what} should say: {why}");
        assert!(hint.debug_text().contains("\"ssh_cidr\": \"198.51.100.7/32\""), "{hint:?}");
    }
    for url in ["http://checkip.example.com", "http://127.0.0.1:80@example.com/", "file:///etc/hosts"] {
        let (what, _) = unsupported(address_by(url).await.unwrap_err());
        assert_eq!(what, format!("GOLOO_CHECKIP_URL is {url}, which is insecure"));
    }
}

#[tokio::test]
async fn an_endless_response_of_the_address_service_is_cut_off() {
    let mut endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    endless.resize(100_000, b'1');
    let error = address_by(&answers(endless.leak())).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_request_to_an_unresponsive_address_service_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let began = Instant::now();
    let error = address_by(&format!("http://{}", listener.local_addr().unwrap())).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test]
async fn port_22_is_open_to_each_configured_block_and_to_this_computer() {
    let world = FaultyMoto::new();
    let checkip = answers(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\n198.51.100.7");
    let mut settings = settings(world.faults.endpoint(), REGION);
    settings.checkip = checkip;
    let provider = AwsProvider::new(settings);
    let mut machine = world.moto.machine("web");
    let block = |text: &str| SshSource::Cidr(text.to_owned());
    machine.stack.ssh_cidr = vec![SshSource::Me, block("10.0.0.0/8"), block("198.51.100.7/32")];
    // The plan sends no requests.
    let plan = provider.plan(&machine).unwrap();
    assert_eq!(world.faults.requests().len(), 0);
    let rules = &plan.detail["template"]["Resources"]["SecurityGroup"]["Properties"]["SecurityGroupIngress"];
    assert_eq!(rules[0]["CidrIp"], "(this computer's public address)");
    assert!(plan.steps.iter().any(|step| step == "open port 22 to this computer's public address, 10.0.0.0/8, 198.51.100.7/32"), "{:?}", plan.steps);
    let made = provider.create(&machine, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(made.details["sshCIDR"], serde_json::json!(["198.51.100.7/32", "10.0.0.0/8"]));
    let groups = world.moto.aws.query("ec2", REGION, &[("Action", "DescribeSecurityGroups")]);
    for block in ["198.51.100.7/32", "10.0.0.0/8"] {
        assert!(groups.contains(&format!("<cidrIp>{block}</cidrIp>")), "{block} in {groups}");
    }
}

fn permission(error: ProviderError) -> (String, Hint) {
    match error {
        ProviderError::Permission { what, hint } => (what, hint),
        other => panic!("{other:?}"),
    }
}

/// What a create reports if AWS refuses one action in this way.
async fn refusal(world: &FaultyMoto, region: &str, action: &'static str, reply: Reply) -> (String, Hint) {
    world.faults.reset();
    world.faults.fault(At::Each(action), Fault::Refused(reply));
    let mut machine = world.moto.machine("web");
    machine.stack.region = Some(region.to_owned());
    let provider = world.provider_in(region);
    permission(provider.create(&machine, &mut SuiteWork::default()).await.unwrap_err())
}

#[tokio::test]
async fn a_disabled_region_is_named_with_the_command_that_enables_it() {
    let world = FaultyMoto::new();
    world.moto.aws.open_default_vpc("eu-central-2");
    let message = "AWS was not able to validate the provided access credentials";
    for (action, reply) in [
        ("GetCallerIdentity", error("sts", 403, "InvalidClientTokenId", "The security token is invalid.")),
        ("DescribeSubnets", error("ec2", 401, "AuthFailure", message)),
        ("CreateStack", error("cloudformation", 403, "UnrecognizedClientException", "invalid token")),
    ] {
        let (what, hint) = refusal(&world, "eu-central-2", action, reply.clone()).await;
        let start =
            "AWS doesn't accept the credentials in eu-central-2, a region that an account must enable first";
        assert!(what.starts_with(start), "{what}");
        assert!(
            hint.debug_text().contains("aws account enable-region --region-name eu-central-2"),
            "{hint:?}"
        );
        let (what, hint) = refusal(&world, REGION, action, reply).await;
        assert!(what.starts_with("AWS doesn't accept the credentials ("), "{what}");
        assert!(!hint.debug_text().contains("enable-region"), "{hint:?}");
    }
}

#[tokio::test]
async fn a_wrong_clock_is_distinguished_from_bad_or_expired_credentials() {
    let world = FaultyMoto::new();
    let expired = "Signature expired: 20250115T103000Z is now earlier than 20250115T112500Z (20250115T113000Z - 5 min.)";
    let (what, hint) =
        refusal(&world, REGION, "GetCallerIdentity", error("sts", 403, "SignatureDoesNotMatch", expired))
            .await;
    assert!(what.starts_with("this computer's clock is wrong"), "{what}");
    assert!(hint.debug_text().starts_with("set the clock"), "{hint:?}");
    let secret = "The request signature we calculated does not match the signature you provided.";
    let (what, _) =
        refusal(&world, REGION, "GetCallerIdentity", error("sts", 403, "SignatureDoesNotMatch", secret))
            .await;
    assert!(what.starts_with("AWS doesn't accept the credentials (SignatureDoesNotMatch)"), "{what}");
    let (what, hint) = refusal(&world, REGION, "DescribeSubnets", aws_answers::expired_token("ec2")).await;
    assert!(what.starts_with("the AWS credentials have expired (RequestExpired)"), "{what}");
    assert!(hint.debug_text().contains("aws sso login"), "{hint:?}");
}

#[tokio::test]
async fn throttling_is_tolerated_while_waiting_for_a_stack() {
    let world = FaultyMoto::new();
    for code in
        ["RequestThrottled", "ThrottledException", "EC2ThrottledException", "TransactionInProgressException"]
    {
        world.faults.reset();
        let busy = error("cloudformation", 400, code, "Rate exceeded");
        // As many as the SDK retries by itself, and more.
        for number in 1..=4 {
            world.faults.fault(At::Action("DescribeStackEvents", number), Fault::Refused(busy.clone()));
        }
        let mut work = SuiteWork::default();
        let name = format!("web-{}", code.to_ascii_lowercase());
        world.provider().create(&world.moto.machine(&name), &mut work).await.unwrap();
        assert_eq!(world.faults.struck(), 4, "{code}");
    }
}

#[tokio::test]
async fn a_route_53_change_is_retried_while_the_prior_request_is_not_complete() {
    let world = FaultyMoto::new();
    let zone = world.moto.aws.create_zone("example.com");
    let busy = error(
        "route53",
        400,
        "PriorRequestNotComplete",
        "The request was rejected because Route 53 was still processing a prior request.",
    );
    world.faults.fault(At::Action("ChangeResourceRecordSets", 1), Fault::Refused(busy));
    let machine = named(&world.moto, Some(&zone), "example.com");
    world.provider().create(&machine, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(world.faults.struck(), 1);
}

#[tokio::test]
async fn an_unusable_ca_bundle_is_named_and_no_request_is_sent() {
    let world = FaultyMoto::new();
    let mut settings = settings(world.faults.endpoint(), REGION);
    settings.ca_bundle = Some("/nowhere/ca.pem".into());
    let provider = AwsProvider::new(settings);
    let error = provider.create(&world.moto.machine("web"), &mut SuiteWork::default()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("AWS_CA_BUNDLE names /nowhere/ca.pem, which can't be used: No such file"),
        "{text}"
    );
    assert_eq!(world.faults.requests().len(), 0);
}

/// A server whose certificate is signed by a CA of these tests; it counts the requests it could read and responds to
/// none.
struct TlsServer {
    endpoint: String,
    requests: Arc<AtomicUsize>,
}

impl TlsServer {
    fn start() -> Self {
        let certificate = CertificateDer::from_pem_slice(include_bytes!("../fixtures/server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("../fixtures/server.key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let (config, requests) = (Arc::new(config), Arc::<AtomicUsize>::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(session, client);
                if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { endpoint, requests }
    }
}

#[tokio::test]
async fn an_unknown_ca_has_a_specific_error_and_a_ca_bundle_resolves_it() {
    let server = TlsServer::start();
    let moto = Moto::new();
    let refused = async |bundle: Option<&str>| {
        let mut settings = settings(&server.endpoint, REGION);
        settings.ca_bundle = bundle.map(Into::into);
        let machine = moto.machine("web");
        AwsProvider::new(settings).create(&machine, &mut SuiteWork::default()).await.unwrap_err()
    };
    let ProviderError::Failed { what, hint, .. } = refused(None).await else { panic!("another kind") };
    assert!(what.starts_with("the certificate of the AWS endpoint isn't trusted: "), "{what}");
    assert!(hint.debug_text().contains("AWS_CA_BUNDLE"), "{hint:?}");
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
    let bundle = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ca.pem");
    let error = refused(Some(bundle)).await.to_string();
    assert!(error.starts_with("no response to sts:GetCallerIdentity"), "{error}");
    assert!(server.requests.load(Ordering::SeqCst) > 0);
}
