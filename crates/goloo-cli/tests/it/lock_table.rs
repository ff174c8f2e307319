//! The real command with its records in a bucket without conditional writes: `lockTable` in the settings.

#![cfg(feature = "s3")]

use crate::common::{Ran, World, wait_until};
use goloo_testkit::aws_emulators::{AwsEmulator, Credentials, aim};
use goloo_testkit::fault_proxy::{FaultProxy, Request};
use serde_json::{Value, json};

const BUCKET: &str = "team";
const TABLE: &str = "locks";

fn settings(endpoint: &str) -> String {
    let backend = json!({
        "type": "s3",
        "bucket": BUCKET,
        "prefix": "goloo",
        "region": "us-east-1",
        "endpoint": endpoint,
        "lockTable": TABLE,
    });
    json!({"localProvider": "qemu", "stateBackend": backend}).to_string()
}

/// Runs a command with the DynamoDB endpoint `tables`; nothing listens at the endpoint of all other AWS services.
fn run(world: &World, tables: &str, arguments: &[&str]) -> Ran {
    let mut command = world.command();
    aim(&mut command, "http://127.0.0.1:9", &Credentials::any());
    Ran(command.env("AWS_ENDPOINT_URL_DYNAMODB", tables).args(arguments).output().unwrap())
}

fn is_conditional(request: &Request) -> bool {
    request.header("if-match").is_some() || request.header("if-none-match").is_some()
}

/// The findings of `doctor` that contain these words.
fn examined(world: &World, aws: &AwsEmulator, words: &str) -> Vec<Value> {
    let all: Value =
        serde_json::from_str(&run(world, aws.endpoint(), &["doctor", "--json"]).stdout()).unwrap();
    let of_it = |finding: &&Value| finding["what"].as_str().unwrap().contains(words);
    all["findings"].as_array().unwrap().iter().filter(of_it).cloned().collect()
}

#[test]
fn emulator_doctor_shows_the_store_and_recommends_versioning() {
    let aws = AwsEmulator::ministack();
    aws.rest("s3", "PUT", &format!("/{BUCKET}"), "");
    let world = World::new();
    world.settings(&settings(aws.endpoint()));
    let doctor = || examined(&world, &aws, BUCKET);
    let found = doctor();
    let place = format!("records are stored in s3://team/goloo?region=us-east-1&endpoint={}", aws.endpoint());
    assert!(found[0]["what"].as_str().unwrap().starts_with(&place), "{found:?}");
    let command = "aws s3api put-bucket-versioning --region us-east-1 --bucket team \
                   --versioning-configuration Status=Enabled";
    assert_eq!((&found[1]["ok"], &found[1]["hint"]), (&json!(true), &json!(command)), "{found:?}");
    let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    aws.rest("s3", "PUT", &format!("/{BUCKET}?versioning"), on);
    assert_eq!(doctor()[1]["what"], "the bucket team keeps old versions");
}

#[test]
fn emulator_doctor_tests_the_lock_table_and_leaves_no_row() {
    let aws = AwsEmulator::ministack();
    aws.rest("s3", "PUT", &format!("/{BUCKET}"), "");
    let world = World::new();
    world.settings(&settings(aws.endpoint()));
    let doctor = || -> Value {
        let found = examined(&world, &aws, "DynamoDB");
        let [finding] = found.try_into().unwrap();
        finding
    };
    let missing = doctor();
    assert_eq!(missing["what"], "there is no DynamoDB table \"locks\" in us-east-1");
    assert!(missing["hint"].as_str().unwrap().starts_with("aws dynamodb create-table "), "{missing}");
    aws.create_table(TABLE, "Id");
    let of_another = doctor();
    assert_eq!(
        (&of_another["ok"], of_another["what"].as_str().unwrap().contains("LockID")),
        (&json!(false), true)
    );
    aws.dynamodb("DeleteTable", &json!({"TableName": TABLE}));
    aws.create_table(TABLE, "LockID");
    let sound = json!({"ok": true, "level": "good", "what": "the DynamoDB table \"locks\" in us-east-1 can hold its locks", "hint": ""});
    assert_eq!(doctor(), sound);
    let rows = aws.dynamodb("Scan", &json!({"TableName": TABLE, "ConsistentRead": true}));
    assert_eq!(rows["Count"], 0, "{rows}");
}

#[test]
fn emulator_a_lock_table_replaces_conditional_writes_from_create_to_archive() {
    let aws = AwsEmulator::ministack();
    aws.rest("s3", "PUT", &format!("/{BUCKET}"), "");
    let (objects, tables) = (FaultProxy::start(aws.endpoint()), FaultProxy::start(aws.endpoint()));
    let world = World::new();
    world.settings(&settings(objects.endpoint()));
    let goloo = |arguments: &[&str]| run(&world, tables.endpoint(), arguments);

    let refused = goloo(&["create", "hello", "--no-wait", "--json"]).expect(1);
    let error: Value = serde_json::from_str(&refused.stdout()).unwrap();
    assert_eq!(error["error"]["code"], "lock-table", "{error}");
    let hint = error["error"]["hint"].as_str().unwrap();
    assert!(hint.starts_with("aws dynamodb create-table --region us-east-1 --table-name locks "), "{hint}");
    assert!(world.machines().is_empty() && world.qemus().is_empty());

    aws.create_table(TABLE, "LockID");
    goloo(&["create", "hello", "--no-wait"]).expect(0);
    goloo(&["protect", "hello"]).expect(0);
    goloo(&["delete", "hello", "--yes"]).expect(1);
    goloo(&["unprotect", "hello"]).expect(0);
    goloo(&["delete", "hello", "--yes"]).expect(0);
    wait_until("QEMU is gone", || world.qemus().is_empty());
    let archive: Value =
        serde_json::from_str(&goloo(&["archive", "list", "--json"]).expect(0).stdout()).unwrap();
    assert_eq!(archive["archived"].as_array().unwrap().len(), 1, "{archive}");

    let rows = aws.dynamodb("Scan", &json!({"TableName": TABLE, "ConsistentRead": true}));
    assert_eq!(rows["Count"], 0, "{rows}");
    assert!(tables.actions().iter().any(|action| action == "PutItem"));
    let requests = objects.requests();
    assert!(requests.iter().all(|request| request.service() == "s3" && !is_conditional(request)));
    assert!(requests.iter().any(|request| request.method == "PUT"));
}
