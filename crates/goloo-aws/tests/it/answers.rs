//! AWS responds with arbitrary data, well-formed or not: the provider always returns promptly.

use crate::common::{block_on, settings};
use goloo_aws::AwsProvider;
use goloo_model::provider::Provider;
use goloo_testkit::aws_answers::{self, Image, Stack};
use goloo_testkit::mutate::{self, AnswerServer};
use goloo_testkit::samples::{in_aws, name};

const INSTANCE: &str = "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><reservationSet><item><instancesSet><item>\
    <instanceId>i-0abc0abc0abc0abc0</instanceId><instanceState><code>16</code><name>running</name></instanceState><ipAddress>54.210.33.100</ipAddress>\
    <stateReason><code>Client.UserInitiatedShutdown</code><message>x</message></stateReason><launchTime>2025-01-15T10:30:00.000Z</launchTime>\
    <tagSet><item><key>goloo:name</key><value>web</value></item><item><key>goloo:id</key><value>01JHN3W1T3K9Q2Z8F6B4C7D5E0</value></item></tagSet>\
    </item></instancesSet></item></reservationSet><nextToken/></DescribeInstancesResponse>";

#[test]
fn mutated_aws_responses_are_handled_within_bounds() {
    let server = AnswerServer::start();
    let provider = AwsProvider::new(settings(&server.endpoint, "us-east-1"));
    let record = in_aws(&name("web"));
    let corpus = [
        mutate::http_answer("text/xml", INSTANCE),
        aws_answers::describe_stacks(&[Stack::new("goloo-web", "CREATE_COMPLETE")]).bytes(),
        aws_answers::describe_images(&[Image::new("ami-0123456789abcdef0")]).bytes(),
        aws_answers::error("ec2", 403, "UnauthorizedOperation", "You are not authorized").bytes(),
        aws_answers::error(
            "cloudformation",
            400,
            "ValidationError",
            "Stack with id goloo-web does not exist",
        )
        .bytes(),
    ];
    mutate::run_rounds(&corpus, 150, |answer| {
        server.set(answer);
        for observed in block_on(provider.observe(&[&record])) {
            assert!(observed.reason.is_none_or(|reason| reason.len() < 64 << 10));
        }
        drop(block_on(provider.orphans(&[&record])));
    });
}

#[test]
fn an_oversized_response_is_rejected_before_it_is_buffered() {
    let server = AnswerServer::start();
    let provider = AwsProvider::new(settings(&server.endpoint, "us-east-1"));
    server.set(&mutate::http_answer("text/xml", &format!("{INSTANCE}{}", " ".repeat(40 << 20))));
    let observed = block_on(provider.observe(&[&in_aws(&name("web"))])).remove(0);
    let reason = observed.reason.unwrap();
    assert!(reason.contains("length limit exceeded"), "{reason}");
}
