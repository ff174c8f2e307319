//! A proxy that preserves the order of calls and counts them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Accepts one connection at a time and forwards its single request. So a complete request from a client that died is
/// carried out before the next client's, as in practice, where users are slower than networks; a multi-threaded
/// emulator might reorder them.
#[derive(Debug)]
pub struct Queue {
    /// `http://127.0.0.1:PORT`
    pub endpoint: String,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Queue {
    /// Starts a proxy for this endpoint, which runs until the test's process ends.
    pub fn before(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let behind = endpoint.trim_start_matches("http://").to_owned();
        let calls = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&calls);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client that disconnected isn't a failure.
                let _ = pass_on(&client, &behind, &seen);
            }
        });
        Self { endpoint: format!("http://{address}"), calls }
    }

    /// The calls since the last query: an action, or method and path.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

fn pass_on(mut client: &TcpStream, behind: &str, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client);
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
        if line == "\r\n" {
            break;
        }
        if !lower.starts_with("connection:") {
            head.extend(line.into_bytes());
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    seen.lock().unwrap().push(name(&head, &body));
    head.extend(b"Connection: close\r\n\r\n");
    let mut server = TcpStream::connect(behind)?;
    server.write_all(&[head, body].concat())?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    client.write_all(&answer)
}

fn name(head: &[u8], body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body).into_owned();
    let action = body.split('&').find_map(|pair| pair.strip_prefix("Action="));
    let first = String::from_utf8_lossy(head).lines().next().unwrap_or_default().to_owned();
    action.map_or_else(|| first.trim_end_matches(" HTTP/1.1").to_owned(), str::to_owned)
}
