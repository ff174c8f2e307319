//! A service of S3's kind that answers anything at all: the client comes back each time, soon.
#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used)]

mod object_common;

use std::time::{Duration, Instant};

use goloo_core::record;
use goloo_core::store::Store;
use goloo_store::object::{Options, Pace};
use goloo_testkit::mutate::{self, AnswerServer, http_answer};
use goloo_testkit::samples::{in_aws, name, owner};
use goloo_testkit::store_suite::run;
use object_common::{fast, open_at};

#[test]
fn mutation_of_the_answers_of_a_bucket() {
    let pace =
        Pace { answer: Duration::from_millis(200), patience: Duration::from_millis(100), ..fast().pace };
    let server = AnswerServer::start();
    let store = open_at(&server.endpoint, Options { pace, ..fast() });
    let record = String::from_utf8(record::to_json(&in_aws(&name("web")))).unwrap();
    let object = serde_json::json!({"format": 1, "write": "01J", "epoch": 1, "lease": {"owner": owner(1), "seconds": 90},
        "vm": {"record": record, "snapshot": {"config.json": "{}"}}});
    let listing = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>\
        <KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><NextContinuationToken>x</NextContinuationToken>\
        <Contents><Key>team/goloo/active/web.json</Key><LastModified>2025-01-15T10:30:00.000Z</LastModified>\
        <ETag>&quot;0123&quot;</ETag><Size>2000</Size><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>";
    let refusal =
        "<Error><Code>NoSuchBucket</Code><Message>no such bucket</Message><BucketName>b</BucketName></Error>";
    let refused = String::from_utf8(http_answer("application/xml", refusal)).unwrap().replacen(
        "200 OK",
        "404 Not Found",
        1,
    );
    let elsewhere =
        refused.replacen("404 Not Found", "301 Moved Permanently\r\nx-amz-bucket-region: eu-west-1", 1);
    let corpus = [
        http_answer("application/json", &object.to_string()),
        http_answer("application/xml", listing),
        refused.into_bytes(),
        elsewhere.into_bytes(),
    ];
    mutate::run_rounds(&corpus, 60, |answer| {
        server.set(answer);
        drop(run(store.load(&name("web"))));
        drop(run(store.list()));
    });
}

/// A service that was taken over sends the same page again and again, full or empty.
#[test]
fn a_list_without_end_ends_with_its_reason() {
    let pace = Pace { answer: Duration::from_secs(60), patience: Duration::from_secs(60), ..fast().pace };
    let contents = "<Contents><Key>team/goloo/active/web.json</Key><LastModified>2025-01-15T10:30:00.000Z</LastModified>\
        <ETag>&quot;0123&quot;</ETag><Size>2000</Size></Contents>";
    for contents in ["", contents] {
        let server = AnswerServer::start();
        let page = format!(
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><KeyCount>1</KeyCount>\
             <IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>{contents}</ListBucketResult>"
        );
        server.set(&http_answer("application/xml", &page));
        let store = open_at(&server.endpoint, Options { pace, ..fast() });
        let begin = Instant::now();
        let refused = run(store.names()).unwrap_err();
        assert!(format!("{refused:?}").contains("the list has more than 200 pages"), "{refused:?}");
        assert!(begin.elapsed() < pace.answer, "it was repeated");
    }
}
