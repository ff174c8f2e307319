//! AWS emulators on loopback, started for one test and stopped with it.
//!
//! ```no_run
//! use goloo_testkit::aws_emulators::{AwsEmulator, Credentials};
//!
//! let aws = AwsEmulator::moto();
//! let mut command = std::process::Command::new("goloo");
//! aws.aim(&mut command, &Credentials::any());
//! assert_eq!(aws.ledger(), [""; 0], "nothing is left");
//! ```
//!
//! [`AwsEmulator::moto`] supports VM stacks, instances, addresses and DNS records; [`AwsEmulator::ministack`] supports
//! network stacks, exports and imports, and rejects Route 53 changes as AWS does. Neither fails by itself: put a [fault
//! proxy](crate::fault_proxy) in front of it. `docs/testing.md` lists their limitations.
//!
//! `scripts/aws-emulators.sh` installs them; a test whose emulator is unavailable fails.
#![allow(clippy::unwrap_used, reason = "a test double: a panic is its error message")]

mod ledger;
mod prefork;
mod python;
mod xml;

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;
use ureq::http::Request;

pub use python::python;

/// The regions in [`AwsEmulator::ledger`]. Commands use the first one by default.
pub const REGIONS: [&str; 2] = ["us-east-1", "eu-west-1"];

/// The access key of the test's own calls; the launcher exempts it from credential checks.
const TEST_KEY: &str = "GOLOO-TEST";
/// The start takes 2 s on an idle machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The credentials a client signs with.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `AWS_ACCESS_KEY_ID`
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`
    pub secret_access_key: String,
}

impl Credentials {
    /// Any credentials; they are accepted until [`AwsEmulator::require_credentials`] is called.
    pub fn any() -> Self {
        Self { access_key_id: "AKIAIOSFODNN7EXAMPLE".into(), secret_access_key: "secret".into() }
    }
}

/// An emulator with its own account, which contains only what every new account has.
#[derive(Debug)]
pub struct AwsEmulator {
    process: prefork::Emulator,
    endpoint: String,
    folder: TempDir,
    agent: Agent,
}

impl AwsEmulator {
    /// Starts moto, which supports instances.
    pub fn moto() -> Self {
        Self::start("moto")
    }

    /// Starts moto with serialized requests: its S3 has race conditions otherwise.
    pub fn moto_single_threaded() -> Self {
        Self::start("moto-single-threaded")
    }

    /// Starts ministack, which supports networks.
    pub fn ministack() -> Self {
        Self::start("ministack")
    }

    fn start(kind: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let process = prefork::start(kind, folder.path(), &log_file(&folder));
        let endpoint = format!("http://127.0.0.1:{}", process.port);
        let config = Agent::config_builder().timeout_global(Some(ANSWER_LIMIT)).http_status_as_error(false);
        let emulator = Self { process, endpoint, folder, agent: config.build().into() };
        // The port is open before the emulator is ready: the first call is answered once it is.
        emulator.query("sts", REGIONS[0], &[("Action", "GetCallerIdentity")]);
        emulator
    }

    /// The value for `AWS_ENDPOINT_URL`: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The id of the serving process.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// The emulator's output so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_file(&self.folder)).unwrap_or_default()
    }

    /// Configures a command to use this emulator.
    pub fn aim(&self, command: &mut Command, credentials: &Credentials) {
        aim(command, &self.endpoint, credentials);
    }

    /// Makes moto check signatures from now on, and allows the returned credentials to do what `policy` allows. Can be
    /// called again for other credentials.
    ///
    /// moto doesn't support resources in policies for EC2 and CloudFormation: it compares only actions.
    pub fn require_credentials(&self, policy: &Value) -> Credentials {
        static USERS: AtomicU32 = AtomicU32::new(0);
        let user = format!("user-{}", USERS.fetch_add(1, Ordering::Relaxed));
        let policy = policy.to_string();
        let iam = |parameters: &[(&str, &str)]| self.query("iam", REGIONS[0], parameters);
        iam(&[("Action", "CreateUser"), ("UserName", &user)]);
        iam(&[
            ("Action", "PutUserPolicy"),
            ("UserName", &user),
            ("PolicyName", "test"),
            ("PolicyDocument", &policy),
        ]);
        let answer = iam(&[("Action", "CreateAccessKey"), ("UserName", &user)]);
        self.send(Request::post(self.url("/moto-api/reset-auth")).header("Content-Type", "text/plain"), "0");
        let document = roxmltree::Document::parse(&answer).unwrap();
        let text = |name| xml::text(document.root(), name).unwrap().to_owned();
        Credentials { access_key_id: text("AccessKeyId"), secret_access_key: text("SecretAccessKey") }
    }

    /// Calls an action of a service with the Query protocol (`cloudformation`, `ec2`, `iam`, `sts`), bypassing goloo
    /// and any credential check. Returns the XML.
    ///
    /// # Panics
    /// If the call fails; the message contains the emulator's response and its log.
    pub fn query(&self, service: &str, region: &str, parameters: &[(&str, &str)]) -> String {
        let version = match service {
            "cloudformation" => "2010-05-15",
            "ec2" => "2016-11-15",
            "iam" => "2010-05-08",
            "sts" => "2011-06-15",
            other => panic!("{other} doesn't speak the Query protocol"),
        };
        let pair = |(name, value): (&str, &str)| format!("{name}={}", encoded(value));
        let body: Vec<String> = [("Version", version)].iter().chain(parameters).copied().map(pair).collect();
        let request = self
            .request("POST", service, region, "/")
            .header("Content-Type", "application/x-www-form-urlencoded");
        self.send(request, &body.join("&"))
    }

    /// Calls a REST service (`route53`), bypassing goloo and any credential check. `body` is XML.
    ///
    /// # Panics
    /// Like [`query`](Self::query).
    pub fn rest(&self, service: &str, method: &str, path: &str, body: &str) -> String {
        let request =
            self.request(method, service, REGIONS[0], path).header("Content-Type", "application/xml");
        self.send(request, body)
    }

    /// The value of a public parameter, such as an AMI's id.
    ///
    /// # Panics
    /// If no parameter has this name.
    pub fn public_parameter(&self, region: &str, name: &str) -> String {
        let request = self
            .request("POST", "ssm", region, "/")
            .header("X-Amz-Target", "AmazonSSM.GetParameter")
            .header("Content-Type", "application/x-amz-json-1.1");
        let answer: Value =
            serde_json::from_str(&self.send(request, &json!({ "Name": name }).to_string())).unwrap();
        answer["Parameter"]["Value"].as_str().unwrap().to_owned()
    }

    /// Calls an action of DynamoDB, bypassing goloo and any credential check.
    ///
    /// # Panics
    /// Like [`query`](Self::query).
    pub fn dynamodb(&self, action: &str, body: &Value) -> Value {
        let request = self
            .request("POST", "dynamodb", REGIONS[0], "/")
            .header("X-Amz-Target", format!("DynamoDB_20120810.{action}"))
            .header("Content-Type", "application/x-amz-json-1.0");
        serde_json::from_str(&self.send(request, &body.to_string())).unwrap()
    }

    /// Creates a DynamoDB table whose only key is the string `key`, like `LockID` in Terraform's lock tables.
    pub fn create_table(&self, name: &str, key: &str) {
        let table = json!({
            "TableName": name,
            "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
        });
        self.dynamodb("CreateTable", &table);
    }

    /// Creates a public zone and returns its id, without `/hostedzone/`. Several zones may have the same domain.
    pub fn create_zone(&self, domain: &str) -> String {
        static ZONES: AtomicU32 = AtomicU32::new(0);
        let reference = ZONES.fetch_add(1, Ordering::Relaxed);
        let answer = self.rest(
            "route53",
            "POST",
            "/2013-04-01/hostedzone",
            &format!(
                r#"<CreateHostedZoneRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/">
                <Name>{domain}</Name><CallerReference>{domain} {reference}</CallerReference></CreateHostedZoneRequest>"#
            ),
        );
        let document = roxmltree::Document::parse(&answer).unwrap();
        xml::text(document.root(), "Id").unwrap().trim_start_matches("/hostedzone/").to_owned()
    }

    /// Gives moto's default VPC the internet access that AWS's has: moto creates neither gateway nor route.
    /// [`ledger`](Self::ledger) omits them.
    pub fn open_default_vpc(&self, region: &str) {
        let ask = |parameters: &[(&str, &str)]| self.query("ec2", region, parameters);
        let first = |answer: &str, name: &str| {
            let document = roxmltree::Document::parse(answer).unwrap();
            xml::text(document.root(), name).unwrap().to_owned()
        };
        let filtered = |action, name, value| {
            ask(&[("Action", action), ("Filter.1.Name", name), ("Filter.1.Value.1", value)])
        };
        let vpc = first(&filtered("DescribeVpcs", "isDefault", "true"), "vpcId");
        let table = first(&filtered("DescribeRouteTables", "vpc-id", &vpc), "routeTableId");
        let gateway = first(&ask(&[("Action", "CreateInternetGateway")]), "internetGatewayId");
        ask(&[("Action", "AttachInternetGateway"), ("VpcId", &vpc), ("InternetGatewayId", &gateway)]);
        ask(&[
            ("Action", "CreateRoute"),
            ("RouteTableId", &table),
            ("DestinationCidrBlock", "0.0.0.0/0"),
            ("GatewayId", &gateway),
        ]);
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint)
    }

    /// Both emulators derive the service and the region from the signature.
    fn request(&self, method: &str, service: &str, region: &str, path: &str) -> ureq::http::request::Builder {
        let signature = format!(
            "AWS4-HMAC-SHA256 Credential={TEST_KEY}/20250115/{region}/{service}/aws4_request, \
             SignedHeaders=host, Signature=0"
        );
        Request::builder().method(method).uri(self.url(path)).header("Authorization", signature)
    }

    fn send(&self, request: ureq::http::request::Builder, body: &str) -> String {
        let answer = self.agent.run(request.body(body.to_owned()).unwrap());
        let mut answer = answer.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        let text = answer.body_mut().read_to_string().unwrap();
        assert!(answer.status().is_success(), "{} {text}\nfor {body}\n{}", answer.status(), self.log());
        text
    }
}

impl Drop for AwsEmulator {
    fn drop(&mut self) {
        self.process.stop();
        if thread::panicking() {
            eprintln!("the emulator's log:\n{}", self.log());
        }
    }
}

/// Configures a command to use only this endpoint, an emulator's or a proxy's, regardless of the AWS settings in the
/// developer's environment and files.
pub fn aim(command: &mut Command, endpoint: &str, credentials: &Credentials) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", &credentials.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &credentials.secret_access_key)
        .env("AWS_REGION", REGIONS[0])
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
}

/// Checks templates with cfn-lint, an independent tool: `(name, JSON)`. One call checks many, because it is slow to
/// start.
///
/// # Errors
/// Its findings, including warnings, one per line, starting with the template's name.
pub fn cfn_lint(templates: &[(&str, &str)]) -> Result<(), String> {
    let folder = TempDir::new().unwrap();
    for (name, json) in templates {
        std::fs::write(folder.path().join(name), json).unwrap();
    }
    let output = Command::new(python().with_file_name("cfn-lint"))
        .args(["--format", "parseable", "--"])
        .args(templates.iter().map(|(name, _)| name))
        .current_dir(folder.path())
        .output()
        .unwrap();
    let (found, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(format!("{found}{errors}")) }
}

fn log_file(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

/// Percent-encodes a value for forms and URLs.
fn encoded(value: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(byte).collect()
}
