//! Whether an S3 bucket keeps old versions of objects that are overwritten or deleted.

use goloo_model::check::Check;
use http::Method;

use super::signed::{Answer, Question, SignedService};

/// Checks the bucket's versioning. It is a recommendation: a bucket without it is fine.
///
/// `path` is the bucket's path at the service, empty if it is part of the host name.
///
/// Returns `None` if there is no response or the bucket doesn't exist: reading records reports that.
pub(super) async fn examine(bucket: &str, path: &str, s3: &SignedService) -> Option<Check> {
    let path = if path.is_empty() { "/?versioning".to_owned() } else { format!("{path}?versioning") };
    let question = Question { method: Method::GET, path: &path, headers: &[], body: String::new() };
    check(bucket, &s3.region, &s3.ask(question).await.ok()?)
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketVersioning.html>
fn check(bucket: &str, region: &str, answer: &Answer) -> Option<Check> {
    let said = String::from_utf8_lossy(&answer.body);
    match answer.status {
        200 if said.contains("<Status>Enabled</Status>") => {
            Some(Check::ok(format!("the bucket {bucket} keeps old versions")))
        }
        200 => Some(Check::notice(
            format!(
                "the bucket {bucket} doesn't keep old versions: data deleted by mistake can't be restored"
            ),
            format!(
                "aws s3api put-bucket-versioning --region {region} --bucket {bucket} \
                 --versioning-configuration Status=Enabled"
            ),
        )),
        401 | 403 => Some(Check::notice(
            format!("can't check whether the bucket {bucket} keeps old versions"),
            "allow s3:GetBucketVersioning for the credentials, or ask the owner of the bucket".to_owned(),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(status: u16, body: &str) -> Option<Check> {
        check("team", "eu-west-1", &Answer { status, body: body.as_bytes().to_vec() })
    }

    #[test]
    fn a_bucket_without_versioning_passes_with_the_command_that_enables_it() {
        for off in ["<VersioningConfiguration/>", "<a><Status>Suspended</Status></a>"] {
            let check = found(200, off).expect("a finding");
            assert!(
                check.is_ok()
                    && check
                        .hint
                        .debug_text()
                        .starts_with("aws s3api put-bucket-versioning --region eu-west-1")
            );
        }
    }

    #[test]
    fn a_bucket_with_versioning_needs_no_hint() {
        let check = found(200, "<a><Status>Enabled</Status></a>").expect("a finding");
        assert!(check.is_ok() && check.hint.is_empty());
    }

    #[test]
    fn a_denied_versioning_check_passes_and_names_the_permission() {
        let check = found(403, "<Error/>").expect("a finding");
        assert!(check.is_ok() && check.hint.debug_text().contains("s3:GetBucketVersioning"));
        assert_eq!((found(404, ""), found(501, "")), (None, None));
    }
}
