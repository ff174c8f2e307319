//! A small HTTP server on loopback that serves images, and misbehaves on request.
#![allow(clippy::unwrap_used, reason = "a test double: a panic is its error message")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How a file misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Disconnects after this many bytes of the file; each later response sends this many more.
    CutAfter(usize),
    /// Announces this many bytes more than it sends.
    TooLong(usize),
    /// Changes the byte at this offset.
    Corrupt(usize),
    /// Accepts the request but never responds.
    Hang,
    /// Sends this many bytes and then nothing more, without closing.
    HangAfter(usize),
    /// Responds with this status.
    Status(u16),
    /// Sends this many bytes at a time, with pauses of 10 ms.
    Slow(usize),
    /// Disconnects after this many bytes; if the rest is requested, announces 2^64 - 1 bytes.
    Endless(usize),
    /// Disconnects after this many bytes of every other response, and before the first byte of the others. Each serves
    /// a different version of the file.
    Turns(usize),
    /// Sends the file in chunks, followed by endless trailers.
    Trailers,
}

#[derive(Debug, Clone)]
struct File {
    content: Vec<u8>,
    tag: String,
    ranges: bool,
    fault: Option<Fault>,
}

/// A received request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The path, with its leading slash.
    pub path: String,
    /// The value of the `Range` header.
    pub range: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    files: BTreeMap<String, File>,
    /// The redirect targets of paths without a file.
    redirects: BTreeMap<String, String>,
    requests: Vec<Request>,
}

/// The server; it serves until the process exits.
#[derive(Debug, Clone)]
pub struct ImageServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Default for ImageServer {
    fn default() -> Self {
        Self::start()
    }
}

impl ImageServer {
    /// Starts a server on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let server = Self { address, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // The server ignores clients that disconnect midway.
                thread::spawn(move || answer(&stream, &shared));
            }
        });
        server
    }

    /// The URL of a path, which starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves this content, with ranges and without faults.
    pub fn put(&self, path: &str, content: &[u8]) {
        let mut shared = self.shared.lock().unwrap();
        let tag = format!("\"{}\"", shared.files.len() + shared.requests.len());
        let file = File { content: content.to_vec(), tag, ranges: true, fault: None };
        shared.files.insert(path.to_owned(), file);
    }

    /// Redirects requests for this path to any address.
    pub fn redirect(&self, path: &str, to: &str) {
        self.shared.lock().unwrap().redirects.insert(path.to_owned(), to.to_owned());
    }

    /// Makes a file misbehave from now on, or stops that.
    pub fn fault(&self, path: &str, fault: Option<Fault>) {
        self.shared.lock().unwrap().files.get_mut(path).unwrap().fault = fault;
    }

    /// Sets whether a file supports range requests.
    pub fn ranges(&self, path: &str, ranges: bool) {
        self.shared.lock().unwrap().files.get_mut(path).unwrap().ranges = ranges;
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().unwrap().requests.clone()
    }
}

fn answer(stream: &TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut range, mut if_range) = (None, None);
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.trim().to_owned()),
            "if-range" => if_range = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let (file, redirect, count) = {
        let mut shared = shared.lock().unwrap();
        shared.requests.push(Request { path: path.clone(), range: range.clone() });
        let count = shared.requests.len();
        (shared.files.get(&path).cloned(), shared.redirects.get(&path).cloned(), count)
    };
    let mut out = stream;
    if let Some(to) = redirect {
        return out.write_all(&head(302, 0, &format!("Location: {to}\r\n")));
    }
    let Some(mut file) = file else { return out.write_all(&head(404, 0, "")) };
    if matches!(file.fault, Some(Fault::Turns(_))) {
        file.tag = format!("\"turn-{count}\"");
    }
    let total = file.content.len();
    let from = range
        .filter(|_| file.ranges && if_range.is_none_or(|tag| tag == file.tag))
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    if from.is_some_and(|from| from >= total) {
        return out.write_all(&head(416, 0, &format!("Content-Range: bytes */{total}\r\n")));
    }
    let start = from.unwrap_or(0);
    let mut body = file.content[start..].to_vec();
    let mut length = body.len();
    match file.fault {
        Some(Fault::Status(status)) => return out.write_all(&head(status, 0, "")),
        Some(Fault::Hang) => return hang(),
        Some(Fault::TooLong(more)) => length += more,
        Some(Fault::Endless(_)) if start > 0 => length = usize::MAX,
        Some(Fault::Corrupt(at)) if at >= start => body[at - start] ^= 1,
        _ => {}
    }
    let mut headers = format!("ETag: {}\r\n", file.tag);
    let status = if from.is_some() { 206 } else { 200 };
    if from.is_some() {
        headers += &format!("Content-Range: bytes {start}-{}/{total}\r\n", total - 1);
    }
    if file.fault == Some(Fault::Trailers) {
        return with_trailers(out, &body, &headers);
    }
    out.write_all(&head(status, length, &headers))?;
    match file.fault {
        Some(Fault::Endless(bytes)) => out.write_all(&body[..bytes.min(body.len())]),
        Some(Fault::Turns(bytes)) => {
            let sent = if count.is_multiple_of(2) { bytes } else { 0 };
            out.write_all(&body[..sent.min(body.len())])
        }
        Some(Fault::CutAfter(bytes)) => out.write_all(&body[..bytes.min(body.len())]),
        Some(Fault::HangAfter(bytes)) => {
            out.write_all(&body[..bytes.min(body.len())])?;
            out.flush()?;
            hang()
        }
        Some(Fault::Slow(bytes)) => body.chunks(bytes).try_for_each(|chunk| {
            thread::sleep(Duration::from_millis(10));
            out.write_all(chunk)
        }),
        _ => out.write_all(&body),
    }
}

fn head(status: u16, length: usize, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n")
        .into_bytes()
}

fn with_trailers(mut out: &TcpStream, body: &[u8], headers: &str) -> std::io::Result<()> {
    write!(out, "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n{headers}\r\n{:x}\r\n", body.len())?;
    out.write_all(body)?;
    out.write_all(b"\r\n0\r\n")?;
    loop {
        out.write_all(b"X-More: and more\r\n")?;
        thread::sleep(Duration::from_millis(10));
    }
}

fn hang() -> std::io::Result<()> {
    thread::sleep(Duration::from_secs(3600));
    Ok(())
}
