//! An S3-compatible service with arbitrary responses: the client always returns, and soon.
#![cfg(feature = "s3")]

use std::time::{Duration, Instant};

use crate::object_common::{Memory, fast, open_at};
use goloo_model::record;
use goloo_model::store::Store;
use goloo_store::object::{Options, Pace};
use goloo_testkit::mutate::{self, AnswerServer, http_answer};
use goloo_testkit::samples::{in_aws, name, owner};
use goloo_testkit::store_suite::{self, run};

#[test]
fn mutated_bucket_responses_do_not_cause_a_panic() {
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

/// A compromised service sends the same page again and again, full or empty.
#[test]
fn an_endless_list_is_given_up_with_the_reason() {
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

/// Anyone who may write to the bucket can create such objects, even by a mistake in a script.
#[test]
fn an_object_with_an_odd_key_is_broken_without_affecting_others() {
    let server = AnswerServer::start();
    let object = |key: &str| {
        format!(
            "<Contents><Key>goloo/{key}</Key><LastModified>2025-01-15T10:30:00.000Z</LastModified>\
             <ETag>&quot;0123&quot;</ETag><Size>2000</Size></Contents>"
        )
    };
    let page = |objects: String| {
        let page = format!(
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>\
             <KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>{objects}</ListBucketResult>"
        );
        http_answer("application/xml", &page)
    };
    let store = open_at(&server.endpoint, fast());
    let odd = ["active//x.json", "active/../x.json", "active/&#x1b;[2J.json"];
    let all: String =
        odd.into_iter().chain(["active/", "active/web.json", "active/web.json/"]).map(object).collect();
    server.set(&page(all));
    assert_eq!(run(store.names()).unwrap(), ["web"]);
    let broken = run(store.list()).unwrap().broken;
    let removals: Vec<_> =
        broken.iter().filter_map(|broken| broken.error.split_once("remove it: ")).collect();
    assert_eq!(removals.len(), odd.len(), "{broken:?}");
    let command = removals[2].1;
    assert!(
        command.starts_with("aws s3api delete-object ") && command.contains(&server.endpoint),
        "{command}"
    );
    assert!(command.ends_with("--bucket team --key $'goloo/active/\\x1b\\x5b2J.json'"), "{command}");
    // One object that isn't a record is enough to break a page of the archive.
    server.set(&page(object("archive//x")));
    assert_eq!(run(store.archive_list()).unwrap().broken.len(), 1);
    assert_eq!(run(store.archive_of(&name("web"))).unwrap().broken, []);
}

#[test]
fn a_save_never_writes_a_record_that_is_too_large_to_read() {
    let store = Memory::new().open(fast());
    run(store_suite::no_save_makes_a_record_that_is_too_large_to_be_read(&store));
}
