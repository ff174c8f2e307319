//! A complete request to AWS, identified by its name in AWS's documentation.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// The maximum size of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path with its leading slash, and its query.
    pub path: String,
    /// The headers, unchanged.
    pub headers: Vec<(String, String)>,
    /// The body, unchanged.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads a request; `None` if the client closes without sending anything.
    pub(super) fn read(client: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        loop {
            if let Some((mut request, head_bytes)) = parsed(&bytes)? {
                request.body = bytes.split_off(head_bytes);
                request.read_body(client)?;
                return Ok(Some(request));
            }
            let mut more = [0; 8192];
            match client.read(&mut more)? {
                0 if bytes.is_empty() => return Ok(None),
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => bytes.extend_from_slice(&more[..read]),
            }
        }
    }

    fn read_body(&mut self, client: &mut TcpStream) -> io::Result<()> {
        if self.header("transfer-encoding").is_some() {
            // No AWS client sends these requests in chunks; one that does must not go unnoticed.
            client.write_all(
                b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            )?;
            return Err(io::Error::new(ErrorKind::Unsupported, "a body without a length"));
        }
        let length = self.header("content-length").map_or(Ok(0), str::parse).map_err(invalid)?;
        let already = self.body.len().min(length);
        self.body.resize(length, 0);
        client.read_exact(&mut self.body[already..])
    }

    /// The value of a header; its name is case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The service in the signature's scope: `cloudformation`, `ec2`, `route53`, `s3`, …; empty without one.
    pub fn service(&self) -> &str {
        self.scope(3)
    }

    /// The region in the signature's scope; empty without one.
    pub fn region(&self) -> &str {
        self.scope(2)
    }

    /// `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, …`
    fn scope(&self, part: usize) -> &str {
        self.header("authorization")
            .and_then(|value| value.split_once("Credential="))
            .and_then(|(_, scope)| scope.split([',', ' ']).next()?.split('/').nth(part))
            .unwrap_or_default()
    }

    /// What the request asks for, as named in AWS's documentation: `CreateStack`, `DescribeInstances`,
    /// `ChangeResourceRecordSets`, `GetParameter`. For other REST services it is the method and path.
    pub fn action(&self) -> String {
        if let Some(action) = self.parameter("Action") {
            return action;
        }
        if let Some((_, action)) = self.header("x-amz-target").and_then(|target| target.split_once('.')) {
            return action.to_owned();
        }
        let path = self.path.split('?').next().unwrap_or_default();
        route53_action(&self.method, path).map_or_else(|| format!("{} {path}", self.method), str::to_owned)
    }

    /// A decoded parameter of the Query protocol: `StackName`, `ClientRequestToken`, `Filter.1.Name`.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let body = std::str::from_utf8(&self.body).ok()?;
        let mut pairs = body.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(known, _)| decoded(known) == name).map(|(_, value)| decoded(value))
    }

    /// The bytes of the same request, with the connection closed afterwards.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let kept = self.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("connection"));
        let headers: String = kept.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("{} {} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n", self.method, self.path);
        [head.as_bytes(), &self.body].concat()
    }
}

/// The request's head and its size in bytes; `None` while it is incomplete.
fn parsed(bytes: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = head.parse(bytes).map_err(invalid)? else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(invalid("the head is too long")) } else { Ok(None) };
    };
    let headers = head
        .headers
        .iter()
        .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
        .collect();
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: head.path.unwrap_or_default().to_owned(),
        headers,
        body: Vec::new(),
    };
    Ok(Some((request, head_bytes)))
}

/// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_Operations_Amazon_Route_53.html>
fn route53_action(method: &str, path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.strip_prefix("/2013-04-01/")?.trim_end_matches('/').split('/').collect();
    Some(match (method, parts.as_slice()) {
        ("GET", ["hostedzone"]) => "ListHostedZones",
        ("POST", ["hostedzone"]) => "CreateHostedZone",
        ("GET", ["hostedzonesbyname"]) => "ListHostedZonesByName",
        ("GET", ["hostedzone", _]) => "GetHostedZone",
        ("DELETE", ["hostedzone", _]) => "DeleteHostedZone",
        ("GET", ["hostedzone", _, "rrset"]) => "ListResourceRecordSets",
        ("POST", ["hostedzone", _, "rrset"]) => "ChangeResourceRecordSets",
        ("GET", ["change", _]) => "GetChange",
        _ => return None,
    })
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// Decodes form encoding: `+` is a space, `%41` is `A`.
fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(|digit| char::from(digit.unwrap_or(b'0')));
                digits.iter().fold(0, |value, digit| {
                    value * 16 + u8::try_from(digit.to_digit(16).unwrap_or(0)).expect("a digit is below 16")
                })
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&plain).into_owned()
}
