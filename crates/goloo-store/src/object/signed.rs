//! Requests of our own to AWS's services, which `object_store` doesn't support: signed with the same
//! credentials, and sent by the same client.

use std::time::Duration;

use http::Method;
use http::header::HeaderName;
use object_store::Error as ObjectError;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpError};
use tokio::time::timeout;

use super::error::Seen;

/// An AWS service, or a compatible one.
#[derive(Debug)]
pub(super) struct SignedService {
    pub client: HttpClient,
    pub credentials: AwsCredentialProvider,
    /// Its name in signatures: `dynamodb`, `s3`.
    pub name: &'static str,
    pub region: String,
    /// `https://…`, without a trailing slash.
    pub endpoint: String,
    /// The response timeout.
    pub limit: Duration,
}

/// A request.
pub(super) struct Question<'q> {
    pub method: Method,
    /// The path from its first slash on, with the query.
    pub path: &'q str,
    pub headers: &'q [(HeaderName, &'q str)],
    pub body: String,
}

/// A response with any status.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl SignedService {
    /// Sends a request once.
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

fn failed(error: http::Error) -> ObjectError {
    ObjectError::Generic { store: "AWS", source: Box::new(error) }
}

fn on_the_line(error: HttpError) -> ObjectError {
    ObjectError::Generic { store: "AWS", source: Box::new(error) }
}
