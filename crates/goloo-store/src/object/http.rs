//! The connection to the service: the HTTP client and TLS stack that the AWS SDK brings along, in place of
//! a second one.
//!
//! It also does two things that `object_store` can't: it notes the service's clock, and it makes a deletion
//! depend on the ETag (`If-Match` needs no place in the signature). And it goes through the proxy that the
//! environment names (`HTTPS_PROXY`, `NO_PROXY`, as curl reads them).

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::header::{DATE, HeaderValue, IF_MATCH};
use http::uri::Scheme;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connect, HttpConnector as Tcp};
use hyper_util::client::legacy::{Client, Error as ClientError, ResponseFuture};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
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
        let tls = tls().map_err(|source| object_store::Error::Generic { store: "TLS", source })?;
        let direct = client(HttpsConnector::from((tcp(), tls.clone())));
        let (tunnelled, proxies) = (OnceLock::new(), Matcher::from_env());
        Ok(HttpClient::new(Service { tls, direct, tunnelled, proxies, clock: self.0.clone() }))
    }
}

/// Made once: the system's certificates take longest to read.
fn tls() -> Result<Arc<rustls::ClientConfig>, Box<dyn std::error::Error + Send + Sync>> {
    static MADE: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made.clone());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_native_roots()?.with_no_client_auth();
    Ok(MADE.get_or_init(|| Arc::new(config)).clone())
}

fn tcp() -> Tcp {
    let mut tcp = Tcp::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_LIMIT));
    tcp.set_nodelay(true);
    tcp
}

fn client<C: Connect + Clone>(connector: C) -> Client<C, HttpRequestBody> {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_LIMIT)
        .build(connector)
}

type Direct = HttpsConnector<Tcp>;
/// TLS to the service, in a connection through a proxy to which TLS may lead too.
type Tunnelled = HttpsConnector<Tunnel<Direct>>;

#[derive(Debug)]
struct Service {
    tls: Arc<rustls::ClientConfig>,
    direct: Client<Direct, HttpRequestBody>,
    /// Made when the first request goes that way: all go through one proxy.
    tunnelled: OnceLock<Client<Tunnelled, HttpRequestBody>>,
    proxies: Matcher,
    clock: Arc<ServiceClock>,
}

impl Service {
    fn request(&self, request: HttpRequest) -> ResponseFuture {
        // Without TLS is only a service on this machine.
        let proxied = request.uri().scheme() == Some(&Scheme::HTTPS);
        match self.proxies.intercept(request.uri()).filter(|_| proxied) {
            Some(proxy) => self.tunnelled.get_or_init(|| self.through(&proxy)).request(request),
            None => self.direct.request(request),
        }
    }

    fn through(&self, proxy: &Intercept) -> Client<Tunnelled, HttpRequestBody> {
        let mut tunnel = Tunnel::new(proxy.uri().clone(), HttpsConnector::from((tcp(), self.tls.clone())));
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        client(HttpsConnector::from((tunnel, self.tls.clone())))
    }
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
        let answer = self.request(request).await.map_err(failed)?;
        self.clock.note(answer.headers());
        let broken_off = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        Ok(answer.map(|body| HttpResponseBody::new(body.map_err(broken_off))))
    }
}

fn failed(error: ClientError) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
    HttpError::new(kind, error)
}
