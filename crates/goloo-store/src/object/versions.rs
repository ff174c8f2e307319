//! Whether a bucket of S3's keeps former versions of what is written over or deleted.

use goloo_core::finding::Finding;
use http::Method;

use super::signed::{Answer, Question, SignedService};

/// Looks at the bucket's versioning. It is a recommendation: a bucket without it is sound.
///
/// `path` is the bucket's path at the service, empty where it is part of the host's name.
///
/// Nothing is found where nobody answers or the bucket isn't there: whoever reads records learns that.
pub(super) async fn examine(bucket: &str, path: &str, s3: &SignedService) -> Option<Finding> {
    let path = if path.is_empty() { "/?versioning".to_owned() } else { format!("{path}?versioning") };
    let question = Question { method: Method::GET, path: &path, headers: &[], body: String::new() };
    finding(bucket, &s3.region, &s3.ask(question).await.ok()?)
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketVersioning.html>
fn finding(bucket: &str, region: &str, answer: &Answer) -> Option<Finding> {
    let said = String::from_utf8_lossy(&answer.body);
    let recommended = |what: String, hint: String| Finding { hint, ..Finding::sound(what) };
    match answer.status {
        200 if said.contains("<Status>Enabled</Status>") => {
            Some(Finding::sound(format!("the bucket {bucket} keeps former versions")))
        }
        200 => Some(recommended(
            format!("the bucket {bucket} keeps no former versions: what is deleted by mistake is gone"),
            format!(
                "aws s3api put-bucket-versioning --region {region} --bucket {bucket} \
                 --versioning-configuration Status=Enabled"
            ),
        )),
        401 | 403 => Some(recommended(
            format!("whether the bucket {bucket} keeps former versions can't be looked at"),
            "let the credentials do s3:GetBucketVersioning, or ask who owns the bucket".to_owned(),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(status: u16, body: &str) -> Option<Finding> {
        finding("team", "eu-west-1", &Answer { status, body: body.as_bytes().to_vec() })
    }

    #[test]
    fn a_bucket_without_versions_is_sound_and_gets_the_command() {
        for off in ["<VersioningConfiguration/>", "<a><Status>Suspended</Status></a>"] {
            let finding = found(200, off).expect("a finding");
            assert!(
                finding.ok && finding.hint.starts_with("aws s3api put-bucket-versioning --region eu-west-1")
            );
        }
    }

    #[test]
    fn a_bucket_with_versions_needs_nothing() {
        let finding = found(200, "<a><Status>Enabled</Status></a>").expect("a finding");
        assert_eq!((finding.ok, finding.hint.as_str()), (true, ""));
    }

    #[test]
    fn a_refusal_names_the_permission_and_is_no_fault_of_the_store() {
        let finding = found(403, "<Error/>").expect("a finding");
        assert!(finding.ok && finding.hint.contains("s3:GetBucketVersioning"));
        assert_eq!((found(404, ""), found(501, "")), (None, None));
    }
}
