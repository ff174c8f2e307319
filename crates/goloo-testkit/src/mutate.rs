//! Mutation tests for parsers of untrusted input: files of a corpus are changed in many small ways, and the parser must
//! always return promptly and without a panic. The same seed produces the same inputs everywhere.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The number of inputs in a run unless `GOLOO_MUTATIONS` is set.
const ROUNDS: u32 = 1500;
/// The time limit for one input, in an unoptimized build on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(10);
/// The largest input, in bytes.
const SIZE_MAX: usize = 64 << 10;

/// Strings with a special meaning in many formats.
const WORDS: &[&str] = &[
    "",
    "0",
    "-1",
    "1",
    "65536",
    "4294967296",
    "18446744073709551616",
    "-9223372036854775809",
    "1e999",
    "NaN",
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    ":",
    ",",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\u{1b}[2J",
    "\u{202e}",
    "\u{2028}",
    "\u{feff}",
    "\u{fffd}",
    "..",
    "../",
    "/",
    "//",
    "%2e%2e",
    "\\",
    "\\u0000",
    "\\ud800",
    "&a ",
    "*a",
    "!!",
    "!x",
    "<<: *a",
    "---\n",
    "- ",
    "? ",
    "|",
    ">",
    "#",
    "<",
    "<!ENTITY a \"b\">",
    "&a;",
    "]]>",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "-262144-01-01T00:00:00Z",
    "1970-01-01T00:00:60Z",
    "ssh-ed25519 AAAA",
    "-oProxyCommand=x",
    "{{",
    "{%",
    "${",
    "}}",
];

/// Reproducible random numbers: xorshift64*.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Starts with this seed, which must not be 0.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let (a, b) = (self.below(length + 1), self.below(length + 1));
        a.min(b)..a.max(b)
    }
}

/// The files of a corpus folder, sorted by name.
///
/// # Panics
/// If there are none.
pub fn corpus(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| fs::read(path).expect("a readable file")).collect()
}

/// Feeds the corpus and its mutations to a parser. Its result doesn't matter, only that it returns.
///
/// # Panics
/// If the parser panicked or took too long; the message contains the input.
pub fn run(corpus: &[Vec<u8>], parse: impl Fn(&[u8])) {
    run_rounds(corpus, ROUNDS, parse);
}

/// Like [`run`] with this number of inputs, for parsers that are expensive to call.
///
/// # Panics
/// Like [`run`].
pub fn run_rounds(corpus: &[Vec<u8>], rounds: u32, parse: impl Fn(&[u8])) {
    let rounds = std::env::var("GOLOO_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(rounds);
    corpus.iter().for_each(|input| check(input, &parse));
    let mut random = Random::new(0x9E37_79B9_7F4A_7C15);
    for _ in 0..rounds {
        check(&mutated(corpus, &mut random), &parse);
    }
}

fn check(input: &[u8], parse: &impl Fn(&[u8])) {
    let begin = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| parse(input)));
    let took = begin.elapsed();
    assert!(done.is_ok(), "the parser panicked at this input: {}", shown(input));
    assert!(took < TIME_MAX, "the parser took {took:?} for this input: {}", shown(input));
}

/// A server on loopback that sends one response to each request and closes the connection.
pub struct AnswerServer {
    /// Its URL: `http://127.0.0.1:PORT`.
    pub endpoint: String,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl AnswerServer {
    /// Starts the server; it serves until the process exits.
    ///
    /// # Panics
    /// If no port is free.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let answer = Arc::<Mutex<Vec<u8>>>::default();
        let answers = answer.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answers.lock().expect("no holder panics").clone();
                // A client may have disconnected.
                let _ = serve(stream, &answer);
            }
        });
        Self { endpoint, answer }
    }

    /// Sets the bytes of the response, including its status line and headers.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn set(&self, answer: &[u8]) {
        *self.answer.lock().expect("no holder panics") = answer.to_vec();
    }
}

fn serve(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    let body = loop {
        let got = stream.read(&mut piece)?;
        request.extend_from_slice(&piece[..got]);
        if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if got == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&request[..body]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut left = length.unwrap_or(0_usize).saturating_sub(request.len() - body);
    while left > 0 {
        match stream.read(&mut piece)? {
            0 => break,
            got => left = left.saturating_sub(got),
        }
    }
    stream.write_all(answer)
}

/// A response with status 200 and this body.
pub fn http_answer(content_type: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nETag: \"0123456789abcdef\"\r\n\
         Last-Modified: Wed, 15 Jan 2025 10:30:00 GMT\r\nDate: Wed, 15 Jan 2025 10:30:00 GMT\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Formats an input as a Rust literal, for use in a test.
fn shown(input: &[u8]) -> String {
    format!("b\"{}\"", input.escape_ascii())
}

fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        change(&mut input, corpus, random);
    }
    input.truncate(SIZE_MAX);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    match random.below(9) {
        0 if !input.is_empty() => {
            let place = random.below(input.len());
            input[place] ^= 1 << random.below(8);
        }
        1 if !input.is_empty() => {
            let place = random.below(input.len());
            input[place] = [0, 0xff, b'0', b'"', b'\n', 0x80][random.below(6)];
        }
        2 => drop(input.drain(random.range(input.len()))),
        3 => input.truncate(at),
        4 => insert(input, at, WORDS[random.below(WORDS.len())].as_bytes()),
        5 => {
            // Replaces a word, number or name with another one.
            let word = word_at(input, at);
            input.splice(word, WORDS[random.below(WORDS.len())].bytes());
        }
        6 => {
            let piece = input[random.range(input.len())].to_vec();
            for _ in 0..=random.below(20) {
                insert(input, at, &piece);
            }
        }
        7 => {
            let other = &corpus[random.below(corpus.len())];
            let piece = other[random.range(other.len())].to_vec();
            insert(input, at, &piece);
        }
        _ => insert(input, at, WORDS[random.below(WORDS.len())].repeat(1 + random.below(400)).as_bytes()),
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if input.len() + piece.len() <= SIZE_MAX {
        input.splice(at..at, piece.iter().copied());
    }
}

/// The range of letters and digits around an offset.
fn word_at(input: &[u8], at: usize) -> std::ops::Range<usize> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.+/".contains(byte);
    let start = input[..at].iter().rposition(|byte| !is_word(byte)).map_or(0, |before| before + 1);
    let end = input[at..].iter().position(|byte| !is_word(byte)).map_or(input.len(), |length| at + length);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_are_varied_and_reproducible() {
        let corpus = vec![b"{\"a\": 12, \"b\": [true]}".to_vec(), b"other".to_vec()];
        let inputs = |count: usize| {
            let mut random = Random::new(7);
            (0..count).map(|_| mutated(&corpus, &mut random)).collect::<Vec<_>>()
        };
        let made = inputs(500);
        assert_eq!(made, inputs(500));
        let distinct: std::collections::BTreeSet<_> = made.iter().collect();
        assert!(distinct.len() > 400, "{}", distinct.len());
        assert!(made.iter().any(Vec::is_empty) && made.iter().any(|input| input.len() > 1000));
    }

    #[test]
    #[should_panic(expected = "the parser panicked at this input")]
    fn a_panicking_parser_is_detected() {
        run(&[b"[1, 2, 3]".to_vec()], |input| assert!(!input.contains(&0xff), "it can't take that"));
    }
}
