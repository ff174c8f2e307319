//! The connection to the service: the HTTP client and TLS stack that the AWS SDK brings along, in place of
//! a second one.
//!
//! It also does what `object_store` can't: it notes the service's clock, it makes a deletion depend on the ETag
//! (`If-Match` needs no place in the signature), it adds the checksum that buckets with Object Lock demand, and it
//! passes on the region that S3 names in a redirect. And it goes through the proxy that the environment names
//! (`HTTPS_PROXY`, `NO_PROXY`, as curl reads them).

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{DATE, HOST, HeaderName, HeaderValue, IF_MATCH};
use http::uri::Scheme;
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
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

use md5::{Digest, Md5};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::bucket::{self, Clock};
use super::error::OtherRegion;
use crate::bucket_address::check_region;

/// A connection that takes longer to open isn't waited for.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Shorter than services keep a silent connection, so that few requests meet one that is being closed.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// The largest answer that is read, in bytes: records and pages of a listing are far below.
const ANSWER_MAX: usize = bucket::OBJECT_MAX as usize;

/// The most pages of a listing; services put 1000 objects on each.
pub(super) const PAGES_MAX: usize = 200;

tokio::task_local! {
    /// The ETag that what is deleted must have.
    pub(super) static DELETE_IF: String;
    /// How many requests may still be made for one listing.
    pub(super) static PAGES_LEFT: Cell<usize>;
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

/// Makes clients.
#[derive(Debug)]
pub(super) struct Connector {
    /// Where they note the service's time.
    pub clock: Arc<ServiceClock>,
    /// Whether what is put has a `Content-MD5`: S3 demands that, or a checksum that fewer services know, of a bucket
    /// with Object Lock.
    pub content_md5: bool,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let tls = tls().map_err(|source| object_store::Error::Generic { store: "TLS", source })?;
        let direct = client(HttpsConnector::from((tcp(), tls.clone())));
        let (tunnelled, proxies) = (OnceLock::new(), Matcher::from_env());
        let (clock, content_md5) = (self.clock.clone(), self.content_md5);
        Ok(HttpClient::new(Service { tls, direct, tunnelled, proxies, clock, content_md5 }))
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
    let config = match ca_bundle() {
        Some(file) => config.with_root_certificates(roots(&file)?),
        None => config.with_native_roots()?,
    };
    Ok(MADE.get_or_init(|| Arc::new(config.with_no_client_auth())).clone())
}

/// The file of trusted certificates that AWS's own tools read; without it, `SSL_CERT_FILE` or the system's count.
pub(super) fn ca_bundle() -> Option<PathBuf> {
    std::env::var_os("AWS_CA_BUNDLE").filter(|file| !file.is_empty()).map(PathBuf::from)
}

/// Why `AWS_CA_BUNDLE` can't be used.
#[derive(Debug, thiserror::Error)]
#[error("AWS_CA_BUNDLE names {}, which holds no certificates: {why}", file.display())]
pub(super) struct UnusableBundle {
    file: PathBuf,
    why: String,
}

/// The certificates in a file.
pub(super) fn roots(file: &Path) -> Result<RootCertStore, UnusableBundle> {
    let unusable = |why: String| UnusableBundle { file: file.to_owned(), why };
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| unusable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() { Err(unusable("it is empty".to_owned())) } else { Ok(roots) }
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
    content_md5: bool,
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
        if self.content_md5 && request.method() == Method::PUT {
            request = with_md5(request).await?;
        }
        if matches!(PAGES_LEFT.try_with(|left| left.replace(left.get().saturating_sub(1))), Ok(0)) {
            return Err(HttpError::new(HttpErrorKind::Unknown, EndlessList));
        }
        to_loopback(&mut request);
        let answer = self.request(request).await.map_err(failed)?;
        self.clock.note(answer.headers());
        if let Some(region) = other_region(&answer) {
            return Err(HttpError::new(HttpErrorKind::Unknown, OtherRegion(region)));
        }
        Ok(answer.map(|body| HttpResponseBody::new(Limited::new(body, ANSWER_MAX).map_err(broken_off))))
    }
}

/// What a service sends beyond the limit isn't read.
fn broken_off(error: Box<dyn std::error::Error + Send + Sync>) -> HttpError {
    match error.downcast::<LengthLimitError>() {
        Ok(_) => HttpError::new(HttpErrorKind::Decode, TooLarge),
        Err(error) => HttpError::new(HttpErrorKind::Interrupted, Interrupted(error)),
    }
}

/// A listing with more pages than goloo asks for, or with pages that lead in a circle.
#[derive(Debug, thiserror::Error)]
#[error("the list has more than {PAGES_MAX} pages")]
pub(super) struct EndlessList;

/// An answer that is larger than anything goloo stores.
#[derive(Debug, thiserror::Error)]
#[error("the answer is larger than {} MiB", ANSWER_MAX >> 20)]
struct TooLarge;

/// A connection that broke within an answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Interrupted(Box<dyn std::error::Error + Send + Sync>);

/// The header isn't signed: S3 signs `x-amz-…` and the host alone.
async fn with_md5(request: HttpRequest) -> Result<HttpRequest, HttpError> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let digest = BASE64.encode(Md5::digest(&body));
    let digest =
        HeaderValue::from_str(&digest).map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
    head.headers.insert(HeaderName::from_static("content-md5"), digest);
    Ok(HttpRequest::from_parts(head, HttpRequestBody::from(body)))
}

/// Sends what is meant for a name below `localhost` to this computer, as RFC 6761 says; resolvers differ. A bucket
/// is part of the host's name where a service is addressed so.
fn to_loopback(request: &mut HttpRequest) {
    let uri = request.uri();
    let Some(authority) = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTP)) else { return };
    if !authority.host().ends_with(".localhost") {
        return;
    }
    let port = authority.port().map_or_else(String::new, |port| format!(":{port}"));
    let Ok(host) = HeaderValue::from_str(authority.as_str()) else { return };
    let mut parts = uri.clone().into_parts();
    parts.authority = format!("localhost{port}").parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
        request.headers_mut().insert(HOST, host);
    }
}

/// The bucket's region, where S3 redirects to it.
fn other_region<B>(answer: &http::Response<B>) -> Option<String> {
    let region = answer.headers().get("x-amz-bucket-region")?.to_str().ok()?;
    let is_elsewhere = answer.status() == StatusCode::MOVED_PERMANENTLY && check_region(region).is_ok();
    is_elsewhere.then(|| region.to_owned())
}

fn failed(error: ClientError) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
    HttpError::new(kind, error)
}
