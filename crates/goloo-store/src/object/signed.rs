//! Requests of our own to AWS's services, for what `object_store` has no words for: signed with the same
//! credentials as its own, and sent by the same client.

use std::time::Duration;

use http::Method;
use http::header::{CONTENT_TYPE, HeaderName};
use object_store::Error as ObjectError;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpError};
use tokio::time::timeout;

use super::error::Seen;

/// One of AWS's services, or what speaks like it.
#[derive(Debug)]
pub(super) struct SignedService {
    pub client: HttpClient,
    pub credentials: AwsCredentialProvider,
    /// As signatures name it: `dynamodb`, `s3`.
    pub name: &'static str,
    pub region: String,
    /// `https://…`, without a slash at its end.
    pub endpoint: String,
    /// How long an answer is waited for.
    pub limit: Duration,
}

/// What is asked.
pub(super) struct Question<'q> {
    pub method: Method,
    /// From its first slash on, with the query.
    pub path: &'q str,
    pub headers: &'q [(HeaderName, &'q str)],
    pub body: String,
}

/// An answer of whatever status.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl SignedService {
    /// Asks once.
    pub async fn ask(&self, question: Question<'_>) -> Result<Answer, Seen> {
        let answer = timeout(self.limit, self.ask_without_limit(question)).await;
        answer.map_err(|_| Seen::Silence(self.limit))?.map_err(Seen::Error)
    }

    async fn ask_without_limit(&self, question: Question<'_>) -> Result<Answer, ObjectError> {
        let credential = self.credentials.get_credential().await?;
        let uri = format!("{}{}", self.endpoint, question.path);
        let mut request = http::Request::builder().method(question.method).uri(uri);
        for (name, value) in question.headers {
            request = request.header(name, *value);
        }
        let mut request = request.body(question.body.into()).map_err(failed)?;
        AwsAuthorizer::new(&credential, self.name, &self.region).try_authorize(&mut request, None)?;
        let answer = self.client.execute(request).await.map_err(on_the_line)?;
        let status = answer.status().as_u16();
        let body = answer.into_body().bytes().await.map_err(on_the_line)?;
        Ok(Answer { status, body: body.into() })
    }
}

/// The content type of services that speak JSON.
pub(super) const JSON: (HeaderName, &str) = (CONTENT_TYPE, "application/x-amz-json-1.0");

fn failed(error: http::Error) -> ObjectError {
    ObjectError::Generic { store: "AWS", source: Box::new(error) }
}

fn on_the_line(error: HttpError) -> ObjectError {
    ObjectError::Generic { store: "AWS", source: Box::new(error) }
}
