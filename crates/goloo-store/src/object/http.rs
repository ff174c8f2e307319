//! The connection to the service: the HTTP client and TLS stack that the AWS SDK includes, instead of
//! a second one.
//!
//! It also does what `object_store` can't: it tracks the service's clock, makes deletions conditional on the ETag
//! (`If-Match` needn't be signed), adds the checksum that buckets with Object Lock require, and
//! passes on the region that S3 names in a redirect. It uses the proxy from the environment
//! (`HTTPS_PROXY`, `NO_PROXY`, interpreted as by curl).

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{DATE, HOST, HeaderName, HeaderValue, IF_MATCH};
use http::uri::Scheme;
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper_rustls::HttpsConnector;
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

use super::access::{Clock, OBJECT_MAX};
use super::http_error::{EndlessList, OtherRegion, PAGES_MAX};
use super::list_page;
use crate::bucket_address::check_region;
use crate::rules::BrokenRecords;

/// The timeout for opening a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Shorter than services keep idle connections, so that few requests use one that is being closed.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// The maximum size of a response, in bytes: records and pages of a listing are far smaller.
const ANSWER_MAX: usize = OBJECT_MAX as usize;

tokio::task_local! {
    /// The ETag that an object must have to be deleted.
    pub(super) static DELETE_IF: String;
    /// Marks requests as belonging to one listing.
    pub(super) static LISTING: ListRequests;
}

/// The requests of one listing.
#[derive(Default)]
pub(super) struct ListRequests {
    pages: Cell<usize>,
    odd_keys: RefCell<Vec<String>>,
}

impl ListRequests {
    /// The first keys of objects that can't be listed; they are removed from the pages.
    pub fn odd_keys(&self) -> Vec<String> {
        self.odd_keys.take()
    }

    /// Counts a request, or fails if the limit is exceeded.
    fn count(&self) -> Result<(), EndlessList> {
        self.pages.set(self.pages.get() + 1);
        if self.pages.get() > PAGES_MAX { Err(EndlessList) } else { Ok(()) }
    }

    /// A page as passed on to the client.
    fn page(&self, page: &str) -> String {
        let mut odd_keys = self.odd_keys.borrow_mut();
        list_page::without_odd_keys(page, |key| {
            if odd_keys.len() < BrokenRecords::KEPT_MAX {
                odd_keys.push(key);
            }
        })
    }
}

/// The service's time in its last response.
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

/// Creates clients.
#[derive(Debug)]
pub(super) struct Connector {
    /// Whom they trust.
    pub tls: Arc<rustls::ClientConfig>,
    /// Where they store the service's time.
    pub clock: Arc<ServiceClock>,
    /// Whether uploads have a `Content-MD5`: S3 requires that, or a checksum that fewer services support, for a bucket
    /// with Object Lock.
    pub content_md5: bool,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let tls = self.tls.clone();
        let direct = client(HttpsConnector::from((tcp(), tls.clone())));
        let (tunnelled, proxies) = (OnceLock::new(), Matcher::from_env());
        let (clock, content_md5) = (self.clock.clone(), self.content_md5);
        Ok(HttpClient::new(Service { tls, direct, tunnelled, proxies, clock, content_md5 }))
    }
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
/// TLS to the service, through a proxy whose connection may also use TLS.
type Tunnelled = HttpsConnector<Tunnel<Direct>>;

#[derive(Debug)]
struct Service {
    tls: Arc<rustls::ClientConfig>,
    direct: Client<Direct, HttpRequestBody>,
    /// Created for the first proxied request: there is only one proxy.
    tunnelled: OnceLock<Client<Tunnelled, HttpRequestBody>>,
    proxies: Matcher,
    clock: Arc<ServiceClock>,
    content_md5: bool,
}

impl Service {
    fn request(&self, request: HttpRequest) -> ResponseFuture {
        // Only services on this host are used without TLS.
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
        let listing = LISTING.try_with(ListRequests::count);
        if let Ok(Err(endless)) = listing {
            return Err(HttpError::new(HttpErrorKind::Unknown, endless));
        }
        to_loopback(&mut request);
        let answer = self.request(request).await.map_err(failed)?;
        self.clock.note(answer.headers());
        if let Some(region) = other_region(&answer) {
            return Err(HttpError::new(HttpErrorKind::Unknown, OtherRegion(region)));
        }
        let answer =
            answer.map(|body| HttpResponseBody::new(Limited::new(body, ANSWER_MAX).map_err(broken_off)));
        if listing.is_ok() && answer.status() == StatusCode::OK { listed(answer).await } else { Ok(answer) }
    }
}

/// Converts a page of a listing so that the object store client can parse it.
async fn listed(answer: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (head, body) = answer.into_parts();
    let page = body.bytes().await?;
    let cut = std::str::from_utf8(&page).ok().map(|page| LISTING.with(|listing| listing.page(page)));
    Ok(HttpResponse::from_parts(head, cut.map_or_else(|| page.into(), HttpResponseBody::from)))
}

/// The error when a response was cut off or exceeds the limit.
fn broken_off(error: Box<dyn std::error::Error + Send + Sync>) -> HttpError {
    match error.downcast::<LengthLimitError>() {
        Ok(_) => HttpError::new(HttpErrorKind::Decode, TooLarge),
        Err(error) => HttpError::new(HttpErrorKind::Interrupted, Interrupted(error)),
    }
}

/// A response that is larger than anything goloo stores.
#[derive(Debug, thiserror::Error)]
#[error("the response is larger than {} MiB", ANSWER_MAX >> 20)]
struct TooLarge;

/// A connection that broke during a response.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Interrupted(Box<dyn std::error::Error + Send + Sync>);

/// The header needn't be signed: S3 only requires signing `x-amz-…` and the host.
async fn with_md5(request: HttpRequest) -> Result<HttpRequest, HttpError> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let digest = BASE64.encode(Md5::digest(&body));
    let digest =
        HeaderValue::from_str(&digest).map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
    head.headers.insert(HeaderName::from_static("content-md5"), digest);
    Ok(HttpRequest::from_parts(head, HttpRequestBody::from(body)))
}

/// Sends requests for names below `localhost` to this host, as required by RFC 6761; resolvers differ. With
/// virtual-host addressing the bucket is part of the host name.
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

/// The bucket's region, if S3 redirects to it.
fn other_region<B>(answer: &http::Response<B>) -> Option<String> {
    let region = answer.headers().get("x-amz-bucket-region")?.to_str().ok()?;
    let is_elsewhere = answer.status() == StatusCode::MOVED_PERMANENTLY && check_region(region).is_ok();
    is_elsewhere.then(|| region.to_owned())
}

fn failed(error: ClientError) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
    HttpError::new(kind, error)
}
