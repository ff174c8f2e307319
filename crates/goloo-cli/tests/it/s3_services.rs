//! The real command with its records on S3-compatible servers other than AWS, and how it handles the responses of
//! services.

#![cfg(feature = "s3")]

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Ran, World, wait_until};
use goloo_model::record::Phase;
use goloo_model::store::Store;
use goloo_store::{DirStore, Options};
use goloo_testkit::aws_answers::Reply;
use goloo_testkit::aws_emulators::{AwsEmulator, Credentials, aim};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy, Request};
use goloo_testkit::s3_services::S3Service;
use goloo_testkit::samples::{in_aws, name, owner, snapshot, time};
use goloo_testkit::store_suite::run;
use serde_json::Value;

/// A user of a shared store: a computer, credentials, and the endpoint of the lock table.
struct Person {
    world: World,
    store: String,
    credentials: Credentials,
    table: Option<String>,
}

impl Person {
    fn new(endpoint: &str, credentials: &Credentials) -> Self {
        let store = format!("s3://team/goloo?region=us-east-1&endpoint={endpoint}");
        Self { world: World::new(), store, credentials: credentials.clone(), table: None }
    }

    fn on(service: &S3Service) -> Self {
        Self::new(service.endpoint(), service.credentials())
    }

    fn with_table(service: &S3Service, table: &S3Service) -> Self {
        let person = Self::on(service);
        let store = format!("{}&lockTable=locks", person.store);
        Self { store, table: Some(table.endpoint().to_owned()), ..person }
    }

    fn plain(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.command();
        aim(&mut command, "http://127.0.0.1:9", &self.credentials);
        command.env_remove("AWS_ENDPOINT_URL");
        if let Some(table) = &self.table {
            command.env("AWS_ENDPOINT_URL_DYNAMODB", table);
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.plain(arguments);
        command.env("GOLOO_STATE_BACKEND", &self.store);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.command(arguments).output().unwrap())
    }
}

fn error(ran: &Ran) -> Value {
    serde_json::from_str::<Value>(&ran.stdout()).unwrap()["error"].clone()
}

/// Asserts the error for a service that would lose records, which is the same everywhere.
fn assert_unsafe(ran: Ran) {
    let ran = ran.expect(1);
    let said = ran.stderr();
    assert!(said.contains("ignores If-None-Match") && said.contains("lockTable=TABLE"), "{said}");
}

#[test]
fn emulator_an_s3_service_without_conditional_writes_is_refused() {
    for service in [S3Service::s3rver(), S3Service::rclone()] {
        let ann = Person::on(&service);
        assert_unsafe(ann.run(&["create", "hello", "--no-wait"]));
        assert!(ann.world.qemus().is_empty(), "a machine was made without a record");
        let plain = |arguments: &[&str]| Ran(ann.plain(arguments).output().unwrap());
        assert_unsafe(plain(&["settings", "set", "stateBackend", &ann.store]));
        assert_unsafe(plain(&["state", "move", "--yes", &ann.store]));
        let shown = plain(&["state", "show", "--json"]).expect(0).stdout();
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["backend"], "dir", "{shown}");
        plain(&["create", "hello", "--no-wait"]).expect(0);
        plain(&["delete", "hello", "--yes"]).expect(0);
        let doctor = ann.run(&["doctor"]).expect(1).stdout();
        assert!(doctor.contains("✗ its service doesn't protect against concurrent writes"), "{doctor}");
    }
}

/// Two users create a VM of the same name at the same time: one gets it, the other gets an error.
fn race(people: [Person; 2]) {
    let [ann, ben] = &people;
    for round in 0..3 {
        let vm = format!("race{round}");
        let create = |person: &Person| person.run(&["create", "hello", "--as", &vm, "--no-wait"]);
        let (first, second) = thread::scope(|scope| {
            let first = scope.spawn(|| create(ann));
            let second = scope.spawn(|| create(ben));
            (first.join().unwrap(), second.join().unwrap())
        });
        let codes = [first.code(), second.code()];
        let won = codes.iter().filter(|code| **code == 0).count();
        assert!(won == 1 && codes.iter().all(|code| [0, 3, 5].contains(code)), "{first:?}\n{second:?}");
        let machines = people.each_ref().map(|person| person.world.qemus().len());
        assert_eq!(machines, codes.map(|code| usize::from(code == 0)), "a machine without a record");
        assert_eq!(ann.run(&["list", "-q"]).expect(0).stdout().trim(), vm);
        let winner = if codes[0] == 0 { ann } else { ben };
        winner.run(&["delete", &vm, "--yes"]).expect(0);
        wait_until("QEMU has ended", || winner.world.qemus().is_empty());
    }
}

#[test]
fn emulator_one_of_two_creates_wins_on_s3rver_and_rclone_with_a_lock_table() {
    for service in [S3Service::s3rver(), S3Service::rclone()] {
        let table = S3Service::dynalite("locks");
        race([Person::with_table(&service, &table), Person::with_table(&service, &table)]);
    }
}

#[test]
fn emulator_one_of_two_creates_wins_on_aws_emulators() {
    let (ministack, moto) = (AwsEmulator::ministack(), AwsEmulator::moto_single_threaded());
    // moto's one thread waits on every open connection for a request; the proxy opens one only with a request.
    let front = FaultProxy::start(moto.endpoint());
    for (aws, endpoint) in [(&ministack, ministack.endpoint()), (&moto, front.endpoint())] {
        aws.rest("s3", "PUT", "/team", "");
        let person = || Person::new(endpoint, &Credentials::any());
        race([person(), person()]);
    }
}

#[test]
fn emulator_records_can_be_moved_from_a_service_without_conditional_writes() {
    let (s3rver, table) = (S3Service::s3rver(), S3Service::dynalite("locks"));
    let ann = Person::with_table(&s3rver, &table);
    ann.run(&["create", "hello", "--no-wait"]).expect(0);
    // As if an earlier version had written the records without a table.
    let without = ann.store.replace("&lockTable=locks", "");
    let without =
        |arguments: &[&str]| Ran(ann.plain(arguments).env("GOLOO_STATE_BACKEND", &without).output().unwrap());
    assert_unsafe(without(&["protect", "hello"]));
    let folder = tempfile::tempdir().unwrap();
    let place = format!("dir:{}", folder.path().join("records").display());
    without(&["state", "move", "--yes", &place]).expect(0);
    let there =
        |arguments: &[&str]| Ran(ann.plain(arguments).env("GOLOO_STATE_BACKEND", &place).output().unwrap());
    there(&["delete", "hello", "--yes"]).expect(0);
    let refused = without(&["protect", "hello"]).expect(1).stderr();
    assert!(refused.contains("was moved") || refused.contains("would not be safe"), "{refused}");
}

fn refusal(status: u16, code: &str, more: &str) -> Reply {
    let body = format!("<Error><Code>{code}</Code><Message>The words of {code}.</Message>{more}</Error>");
    Reply { status, kind: "application/xml", body }
}

/// A simulated response: its status and code, and the expected exit code, error code, message and hint.
type Played = (u16, &'static str, &'static str, i32, &'static str, &'static str, &'static str);

#[test]
fn emulator_a_refused_request_is_not_retried_and_has_its_own_error() {
    let aws = AwsEmulator::ministack();
    aws.rest("s3", "PUT", "/team", "");
    let front = FaultProxy::start(aws.endpoint());
    let ann = Person::new(front.endpoint(), &Credentials::any());
    ann.run(&["create", "hello", "--no-wait"]).expect(0);
    let region = "<Region>eu-west-1</Region>";
    let played: [Played; 7] = [
        (403, "RequestTimeTooSkewed", "", 4, "clock-skew", "clock", "timedatectl"),
        (
            400,
            "AuthorizationHeaderMalformed",
            region,
            1,
            "wrong-region",
            "the bucket is in eu-west-1",
            "region eu-west-1",
        ),
        (400, "ExpiredToken", "", 4, "denied", "ExpiredToken", "credentials"),
        (403, "AccessDenied", "", 4, "denied", "AccessDenied", "credentials"),
        (400, "InvalidRequest", "", 1, "store", "InvalidRequest", "goloo doctor"),
        (405, "MethodNotAllowed", "", 1, "store", "MethodNotAllowed", "goloo doctor"),
        (501, "NotImplemented", "", 1, "unsafe-writes", "doesn't support conditional writes", "lockTable"),
    ];
    for (status, code, more, exit, kind, said, hint) in played {
        front.reset();
        const WRITE: &str = "PUT /team/goloo/active/hello.json";
        front.fault(At::Each(WRITE), Fault::Refused(refusal(status, code, more)));
        let start = Instant::now();
        let ran = ann.run(&["protect", "hello", "--json"]).expect(exit);
        assert!(start.elapsed() < Duration::from_secs(8), "{code} took {:?}", start.elapsed());
        assert_eq!(
            front.actions().iter().filter(|action| *action == WRITE).count(),
            1,
            "{code} was repeated"
        );
        let error = error(&ran);
        assert_eq!(error["code"], kind, "{error}");
        let text = format!("{} {}", error["message"], error["causes"]);
        assert!(text.contains(said), "{code}: {text}");
        assert!(error["hint"].as_str().unwrap().contains(hint), "{code}: {error}");
    }
    // Requests to a busy service are retried.
    for (status, code) in
        [(400, "RequestTimeout"), (503, "SlowDown"), (429, "TooManyRequests"), (408, "Timeout")]
    {
        front.reset();
        front.fault(
            At::Action("PUT /team/goloo/active/hello.json", 1),
            Fault::Refused(refusal(status, code, "")),
        );
        ann.run(&["protect", "hello"]).expect(0);
        assert_eq!(front.struck(), 1, "{code}");
    }
    front.reset();
    ann.run(&["unprotect", "hello"]).expect(0);
    ann.run(&["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn an_expired_sso_session_is_reported_with_the_login_command() {
    let ann = Person::new("http://127.0.0.1:9", &Credentials::any());
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    let session = "[sso-session team]\nsso_start_url = https://team.example\nsso_region = us-east-1\n\
                   [profile work]\nsso_session = team\nsso_account_id = 123456789012\nsso_role_name = dev\n";
    std::fs::write(&config, session).unwrap();
    let mut command = ann.command(&["list", "--json"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env("AWS_CONFIG_FILE", &config).env("AWS_PROFILE", "work");
    let ran = Ran(command.output().unwrap()).expect(4);
    let error = error(&ran);
    assert_eq!(
        (error["code"].as_str(), error["hint"].as_str()),
        (Some("sso-expired"), Some("run aws sso login --profile work"))
    );
}

#[test]
fn emulator_an_unknown_certificate_authority_is_reported_until_aws_ca_bundle_is_set() {
    let s3rver = S3Service::s3rver_with_tls();
    let ann = Person::on(&s3rver);
    let start = Instant::now();
    let ran = ann.run(&["list", "--json"]).expect(1);
    assert!(start.elapsed() < Duration::from_secs(8), "it was asked again and again");
    let refused = error(&ran);
    assert_eq!(refused["code"], "unknown-authority", "{refused}");
    assert!(refused["hint"].as_str().unwrap().contains("AWS_CA_BUNDLE=FILE"), "{refused}");
    let with = |variable: &str, file: &std::path::Path| {
        Ran(ann.command(&["list", "--json"]).env(variable, file).output().unwrap())
    };
    let authority = s3rver.folder().join("ca.pem");
    with("AWS_CA_BUNDLE", &authority).expect(0);
    with("SSL_CERT_FILE", &authority).expect(0);
    let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    let bad = format!("{cut}-----END CERTIFICATE-----\n");
    for (file, content) in
        [("none.pem", None), ("empty", Some("")), ("cut", Some(cut)), ("bad", Some(bad.as_str()))]
    {
        let path = s3rver.folder().join(file);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let refused = error(&with("AWS_CA_BUNDLE", &path).expect(2));
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains("AWS_CA_BUNDLE") && message.contains(file), "{refused}");
    }
}

#[test]
fn emulator_virtual_hosted_addressing_works_and_writes_have_a_checksum() {
    let aws = AwsEmulator::moto_single_threaded();
    aws.rest("s3", "PUT", "/team", "");
    let front = FaultProxy::start(aws.endpoint());
    let endpoint = front.endpoint().replace("127.0.0.1", "localhost");
    let mut ann = Person::new(&endpoint, &Credentials::any());
    ann.store.push_str("&addressingStyle=virtual");
    ann.run(&["create", "hello", "--no-wait"]).expect(0);
    let requests = front.requests();
    let host = |request: &Request| request.header("host").unwrap_or_default().to_owned();
    assert!(requests.iter().all(|request| host(request).starts_with("team.localhost:")), "{requests:?}");
    let writes = || requests.iter().filter(|request| request.action().starts_with("PUT "));
    assert!(writes().any(|request| request.action() == "PUT /goloo/active/hello.json"), "{requests:?}");
    // 16 bytes in base64, as a bucket with Object Lock requires.
    let has_checksum = |request: &Request| request.header("content-md5").is_some_and(|sum| sum.len() == 24);
    assert!(writes().all(has_checksum), "{requests:?}");
    ann.run(&["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn invalid_s3_addresses_and_variables_are_refused() {
    let world = World::new();
    for (address, said) in [
        ("s3://team/goloo?endpoint=127.0.0.1%3A9103", "doesn't begin with https:// or http://"),
        ("s3://team/goloo?region=eu%20west", "is not a region"),
        ("s3://Team_/goloo", "is not a valid bucket name"),
        ("s3://team/a~b", "stored in a different form than displayed"),
    ] {
        for run in
            [world.run(&["settings", "set", "stateBackend", address]), world.run(&["state", "move", address])]
        {
            let said_it = run.expect(2).stderr();
            assert!(said_it.contains(said), "{address}: {said_it}");
        }
        let listed = Ran(world.command().env("GOLOO_STATE_BACKEND", address).arg("list").output().unwrap());
        listed.expect(2);
    }
    // AWS settings in the environment are validated too.
    for (variable, value) in [("AWS_REGION", "eu west"), ("AWS_ENDPOINT_URL", "127.0.0.1:9103")] {
        let mut command = world.command();
        command.env("GOLOO_STATE_BACKEND", "s3://team/goloo").env(variable, value);
        command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "x").arg("list");
        let ran = Ran(command.output().unwrap()).expect(2);
        assert!(ran.stderr().contains(value) && !ran.stderr().contains("panicked"), "{ran:?}");
    }
}

#[test]
fn emulator_a_store_can_move_to_the_same_bucket_at_another_endpoint() {
    let (one, two) = (AwsEmulator::ministack(), AwsEmulator::ministack());
    for aws in [&one, &two] {
        aws.rest("s3", "PUT", "/team", "");
    }
    let mut ann = Person::new(one.endpoint(), &Credentials::any());
    ann.run(&["create", "hello", "--no-wait"]).expect(0);
    let target = ann.store.replace(one.endpoint(), two.endpoint());
    let moved = ann.run(&["state", "move", "--yes", &target]).expect(0).stdout();
    assert!(moved.contains(&format!("endpoint={}", two.endpoint())), "{moved}");
    let refused = ann.run(&["protect", "hello"]).expect(1).stderr();
    assert!(refused.contains(two.endpoint()), "{refused}");
    ann.store = target;
    assert_eq!(ann.run(&["list", "-q"]).expect(0).stdout().trim(), "hello");
    // A different address of the same store is recognized.
    let again = format!("{}&addressingStyle=path", ann.store);
    let refused = ann.run(&["state", "move", "--yes", &again]).expect(2).stderr();
    assert!(refused.contains("are the same store"), "{refused}");
    ann.run(&["delete", "hello", "--yes"]).expect(0);
}

/// Records in the state folder, before a move.
fn fill(world: &World, count: usize) {
    let store = DirStore::open(&world.state(), Options::default());
    for number in 0..count {
        let vm = name(&format!("vm{number}"));
        let mut lock = run(store.lock(&vm, &owner(1))).unwrap();
        let mut record = in_aws(&vm);
        run(lock.create(&mut record, &snapshot())).unwrap();
        record.phase = Phase::Destroyed;
        run(lock.archive(&mut record, time("2025-02-01T00:00:00Z"))).unwrap();
        run(lock.create(&mut in_aws(&vm), &snapshot())).unwrap();
    }
}

#[test]
fn emulator_records_are_moved_concurrently_and_single_ones_read_alone() {
    const COUNT: usize = 24;
    const ANSWER: Duration = Duration::from_millis(40);
    let aws = AwsEmulator::ministack();
    aws.rest("s3", "PUT", "/team", "");
    let front = FaultProxy::start(aws.endpoint());
    let ann = Person::new(front.endpoint(), &Credentials::any());
    fill(&ann.world, COUNT);
    front.fault(At::From(1), Fault::Stall(ANSWER));
    let start = Instant::now();
    Ran(ann.plain(&["state", "move", "--yes", &ann.store]).output().unwrap()).expect(0);
    let (took, requests) = (start.elapsed(), front.requests().len());
    let one_by_one = ANSWER * u32::try_from(requests).unwrap();
    assert!(took < one_by_one / 3, "{requests} requests took {took:?}");

    let requests = |arguments: &[&str]| {
        front.reset();
        ann.run(arguments);
        front.actions()
    };
    let history = requests(&["history", "vm7"]);
    assert!(history.len() <= 4, "{history:?}");
    let locks = requests(&["state", "locks"]);
    assert!(locks.len() <= COUNT + 2, "{} requests: {locks:?}", locks.len());
    let document = ann.world.state().join("all.json").display().to_string();
    ann.run(&["state", "pull", &document]).expect(0);
    let pushed = requests(&["state", "push", &document]);
    let is_write = |action: &String| action.starts_with("PUT ") && !action.contains("write-check");
    assert!(!pushed.iter().any(is_write), "{pushed:?}");
    // It fails without GitHub's keys, after all its reads of the store.
    let recreated = requests(&["recreate", "vm7", "--as", "again", "--dry-run"]);
    assert!(recreated.len() <= 5, "{recreated:?}");
}
