//! The connection to the service: the HTTP client and TLS stack that the AWS SDK brings along, in place of
//! a second one.
//!
//! It also does two things that `object_store` can't: it notes the service's clock, and it makes a deletion
//! depend on the ETag (`If-Match` needs no place in the signature).

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::header::{DATE, HeaderValue, IF_MATCH};
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};

use super::bucket::Clock;

/// A connection that takes longer to open isn't waited for.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Shorter than services keep a silent connection, so that few requests meet one that is being closed.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// The ETag that what is deleted must have.
    pub(super) static DELETE_IF: String;
}

/// What the service said the time was, when it last answered.
#[derive(Debug, Default)]
pub(super) struct ServiceClock(Mutex<Option<(i64, Instant)>>);

impl ServiceClock {
    fn note(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let Some(date) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else { return };
        let said = (date.timestamp().as_second(), Instant::now());
        *self.0.lock().expect("no holder panics") = Some(said);
    }
}

impl Clock for ServiceClock {
    fn now(&self) -> Option<i64> {
        let (said, at) = (*self.0.lock().expect("no holder panics"))?;
        Some(said.saturating_add_unsigned(at.elapsed().as_secs()))
    }
}

/// Makes clients that note the time in this clock.
#[derive(Debug)]
pub(super) struct Connector(pub Arc<ServiceClock>);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .build(https()?);
        Ok(HttpClient::new(Service { client, clock: self.0.clone() }))
    }
}

/// What opens connections. It is made once: the system's certificates take longest to read.
fn https() -> object_store::Result<HttpsConnector<Tcp>> {
    static MADE: OnceLock<HttpsConnector<Tcp>> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made.clone());
    }
    let mut tcp = Tcp::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_LIMIT));
    tcp.set_nodelay(true);
    let tls = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .map_err(|error| object_store::Error::Generic { store: "TLS", source: Box::new(error) })?;
    Ok(MADE.get_or_init(|| tls.https_or_http().enable_http1().wrap_connector(tcp)).clone())
}

#[derive(Debug)]
struct Service {
    client: Client<HttpsConnector<Tcp>, HttpRequestBody>,
    clock: Arc<ServiceClock>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.method() == Method::DELETE
            && let Ok(etag) = DELETE_IF.try_with(|etag| HeaderValue::from_str(etag))
        {
            let etag = etag.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
            request.headers_mut().insert(IF_MATCH, etag);
        }
        let answer = self.client.request(request).await.map_err(failed)?;
        self.clock.note(answer.headers());
        let broken_off = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        Ok(answer.map(|body| HttpResponseBody::new(body.map_err(broken_off))))
    }
}

fn failed(error: ClientError) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
    HttpError::new(kind, error)
}
