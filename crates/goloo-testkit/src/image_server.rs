//! A small HTTP server on loopback that serves images, and misbehaves where a test wants it to.
#![allow(clippy::unwrap_used, reason = "a test double: a panic is its error message")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How one file misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Breaks off after so many bytes of the file; each later answer gets so many further.
    CutAfter(usize),
    /// Announces so many bytes more than it sends.
    TooLong(usize),
    /// Changes the byte at this place.
    Corrupt(usize),
    /// Takes the request and never answers.
    Hang,
    /// Sends so many bytes and then nothing more, without closing.
    HangAfter(usize),
    /// Answers with this status.
    Status(u16),
    /// Sends so many bytes at a time, with a pause of 10 ms between.
    Slow(usize),
}

#[derive(Debug, Clone)]
struct File {
    content: Vec<u8>,
    tag: String,
    ranges: bool,
    fault: Option<Fault>,
}

/// One request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The path, with its first slash.
    pub path: String,
    /// What `Range` said.
    pub range: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    files: BTreeMap<String, File>,
    /// Where paths lead that are none of a file.
    redirects: BTreeMap<String, String>,
    requests: Vec<Request>,
}

/// The server; it serves until the process ends.
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
    /// Starts one on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let server = Self { address, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A client that goes away in the middle is no concern of the server's.
                thread::spawn(move || answer(&stream, &shared));
            }
        });
        server
    }

    /// The address of a path, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves this content; with ranges, and without a fault.
    pub fn put(&self, path: &str, content: &[u8]) {
        let mut shared = self.shared.lock().unwrap();
        let tag = format!("\"{}\"", shared.files.len() + shared.requests.len());
        let file = File { content: content.to_vec(), tag, ranges: true, fault: None };
        shared.files.insert(path.to_owned(), file);
    }

    /// Redirects requests for this path to an address, whatever that is.
    pub fn redirect(&self, path: &str, to: &str) {
        self.shared.lock().unwrap().redirects.insert(path.to_owned(), to.to_owned());
    }

    /// Makes a file misbehave from now on, or behave.
    pub fn fault(&self, path: &str, fault: Option<Fault>) {
        self.shared.lock().unwrap().files.get_mut(path).unwrap().fault = fault;
    }

    /// Whether parts of a file can be asked for.
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
    let (file, redirect) = {
        let mut shared = shared.lock().unwrap();
        shared.requests.push(Request { path: path.clone(), range: range.clone() });
        (shared.files.get(&path).cloned(), shared.redirects.get(&path).cloned())
    };
    let mut out = stream;
    if let Some(to) = redirect {
        return out.write_all(&head(302, 0, &format!("Location: {to}\r\n")));
    }
    let Some(file) = file else { return out.write_all(&head(404, 0, "")) };
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
        Some(Fault::Corrupt(at)) if at >= start => body[at - start] ^= 1,
        _ => {}
    }
    let mut headers = format!("ETag: {}\r\n", file.tag);
    let status = if from.is_some() { 206 } else { 200 };
    if from.is_some() {
        headers += &format!("Content-Range: bytes {start}-{}/{total}\r\n", total - 1);
    }
    out.write_all(&head(status, length, &headers))?;
    match file.fault {
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

fn hang() -> std::io::Result<()> {
    thread::sleep(Duration::from_secs(3600));
    Ok(())
}
