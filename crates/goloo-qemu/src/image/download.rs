//! Downloads: resumed where they broke off, checked while they pass, never waited for in vain.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_core::events::Event;
use serde::{Deserialize, Serialize};
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::{Agent, Body};

use super::digest::{Digest, Hasher, each_piece};
use super::{ImageError, Watch};
use crate::files;

/// The largest list of digests that is read, in bytes.
const LIST_MAX: u64 = 4 << 20;
/// After so many breaks with next to nothing between them, a download is given up.
const BREAKS_MAX: u32 = 3;
/// What has to come between two breaks to count, in bytes.
const HEADWAY: u64 = 1 << 20;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the connection.
    pub connect: Duration,
    /// For the answer's head, and for each further piece of its body.
    pub piece: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), piece: Duration::from_secs(30) }
    }
}

/// What is known of a partial download; written before its first byte.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PartNote {
    url: String,
    /// The server's name for this version of the file: `ETag`, else `Last-Modified`.
    validator: Option<String>,
    expected: Option<String>,
}

/// A finished download, not yet in its place.
#[derive(Debug)]
pub struct Downloaded {
    /// Where it lies.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// Downloads from publishers.
#[derive(Debug, Clone)]
pub struct Downloader {
    agent: Agent,
}

impl Downloader {
    /// With these limits.
    pub fn new(patience: Patience) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(patience.connect))
            .timeout_resolve(Some(patience.connect))
            .timeout_recv_response(Some(patience.piece))
            .timeout_per_read(Some(patience.piece))
            .http_status_as_error(false)
            .user_agent(concat!("goloo/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into() }
    }

    fn get(&self, url: &str, range: Option<(u64, &str)>) -> Result<Response<Body>, ImageError> {
        check_scheme(url)?;
        // An address that begins secure must not lead to one that isn't.
        let mut request = self.agent.get(url).config().https_only(url.starts_with("https://")).build();
        if let Some((from, validator)) = range {
            request =
                request.header(header::RANGE, format!("bytes={from}-")).header(header::IF_RANGE, validator);
        }
        request.call().map_err(|error| broken(url, &error))
    }

    /// A small text file.
    pub fn text(&self, url: &str) -> Result<String, ImageError> {
        let mut answer = self.get(url, None)?;
        expect_success(url, answer.status())?;
        answer.body_mut().with_config().limit(LIST_MAX).read_to_string().map_err(|error| broken(url, &error))
    }

    /// Downloads to `part` and checks the digest. A break is followed by a resumption as long as they
    /// bring something; what is there when it is given up stays for the next call. A file with
    /// the wrong digest doesn't stay.
    pub fn file(
        &self,
        url: &str,
        expected: Option<&Digest>,
        part: &Path,
        watch: &dyn Watch,
    ) -> Result<Downloaded, ImageError> {
        let mut breaks = 0;
        loop {
            let before = length(part);
            match self.attempt(url, expected, part, watch) {
                Err(error @ ImageError::Download { .. }) => {
                    breaks = if length(part) >= before + HEADWAY { 0 } else { breaks + 1 };
                    if breaks == BREAKS_MAX {
                        return Err(error);
                    }
                    watch.event(Event::Note(format!("{error}; going on from {} bytes", length(part))));
                }
                other => return other,
            }
        }
    }

    fn attempt(
        &self,
        url: &str,
        expected: Option<&Digest>,
        part: &Path,
        watch: &dyn Watch,
    ) -> Result<Downloaded, ImageError> {
        let failed = |source| ImageError::Cache { path: part.to_owned(), source };
        let mut part = Part::open(part, url, expected).map_err(failed)?;
        let held = part.length;
        let mut answer = match part.note.validator.clone().filter(|_| held > 0) {
            Some(validator) => self.get(url, Some((held, &validator)))?,
            None => self.get(url, None)?,
        };
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            // Only a file that is all there, or one that has become shorter, gives this.
            answer = self.get(url, None)?;
        }
        let mut hasher = Hasher::new(expected);
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            if resumes_at(answer.headers()) != Some(held) {
                part.discard();
                return Err(ImageError::Download {
                    url: url.to_owned(),
                    reason: "the server goes on at another place than asked".to_owned(),
                });
            }
            part.hash_into(&mut hasher, watch).map_err(failed)?;
        } else {
            expect_success(url, answer.status())?;
            part.begin(url, validator(answer.headers()), expected).map_err(failed)?;
        }
        let total = content_length(answer.headers()).map(|rest| part.length + rest);
        receive(&mut part, &mut answer, &mut hasher, total, url, watch)?;
        part.finish(url, hasher, expected)
    }
}

fn receive(
    part: &mut Part,
    answer: &mut Response<Body>,
    hasher: &mut Hasher,
    total: Option<u64>,
    url: &str,
    watch: &dyn Watch,
) -> Result<(), ImageError> {
    let body = answer.body_mut().with_config().limit(u64::MAX).reader();
    let taken = |part: &mut Part, piece: &[u8]| {
        if watch.stopped() {
            return Err(ImageError::Stopped);
        }
        part.write(piece)?;
        hasher.update(piece);
        watch.event(Event::Progress { done: part.length, total });
        Ok(())
    };
    let mut taken = taken;
    each_piece(body, |piece| taken(part, piece), |error| broken(url, &error))?;
    match total {
        Some(total) if part.length != total => Err(ImageError::Download {
            url: url.to_owned(),
            reason: format!("it ended after {} of {total} bytes", part.length),
        }),
        _ => Ok(()),
    }
}

/// Plain http only where nobody is between: on this machine.
pub fn check_scheme(url: &str) -> Result<(), ImageError> {
    let insecure = || ImageError::Insecure { url: url.to_owned() };
    if url.starts_with("https://") {
        return Ok(());
    }
    let rest = url.strip_prefix("http://").ok_or_else(insecure)?;
    let authority =
        rest.split(['/', '?', '#']).next().filter(|part| !part.contains('@')).ok_or_else(insecure)?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    if matches!(host, "127.0.0.1" | "localhost" | "::1") { Ok(()) } else { Err(insecure()) }
}

fn expect_success(url: &str, status: StatusCode) -> Result<(), ImageError> {
    if status == StatusCode::OK {
        return Ok(());
    }
    Err(ImageError::Status { url: url.to_owned(), status: status.as_u16() })
}

fn broken(url: &str, error: &dyn std::error::Error) -> ImageError {
    ImageError::Download { url: url.to_owned(), reason: error.to_string() }
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Only a strong one proves that two halves belong together.
fn validator(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, &header::ETAG).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| text(headers, &header::LAST_MODIFIED)).map(str::to_owned)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &header::CONTENT_LENGTH)?.parse().ok()
}

/// From `bytes 100-199/200`: the first.
fn resumes_at(headers: &HeaderMap) -> Option<u64> {
    let range = text(headers, &header::CONTENT_RANGE)?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.parse().ok()
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |data| data.len())
}

/// The partial file and its note.
struct Part {
    path: PathBuf,
    file: File,
    note: PartNote,
    length: u64,
}

impl Part {
    fn note_path(path: &Path) -> PathBuf {
        path.with_extension("note")
    }

    /// What is there counts only for the same address and the same digest.
    fn open(path: &Path, url: &str, expected: Option<&Digest>) -> std::io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let note: Option<PartNote> =
            std::fs::read(Self::note_path(path)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let same =
            |note: &PartNote| note.url == url && note.expected.as_deref() == expected.map(Digest::as_str);
        let note = note.filter(same);
        if note.is_none() {
            file.set_len(0)?;
        }
        let length = file.seek(SeekFrom::End(0))?;
        Ok(Self { path: path.to_owned(), file, note: note.unwrap_or_default(), length })
    }

    fn begin(
        &mut self,
        url: &str,
        validator: Option<String>,
        expected: Option<&Digest>,
    ) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.length = 0;
        let expected = expected.map(|digest| digest.as_str().to_owned());
        self.note = PartNote { url: url.to_owned(), validator, expected };
        files::write_durably(&Self::note_path(&self.path), &serde_json::to_vec(&self.note)?)
    }

    fn hash_into(&mut self, hasher: &mut Hasher, watch: &dyn Watch) -> std::io::Result<()> {
        self.file.rewind()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = self.file.read(&mut buffer)?;
            if read == 0 || watch.stopped() {
                return Ok(());
            }
            hasher.update(&buffer[..read]);
        }
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), ImageError> {
        self.file.write_all(piece).map_err(|source| ImageError::Cache { path: self.path.clone(), source })?;
        self.length += piece.len() as u64;
        Ok(())
    }

    fn discard(&self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(Self::note_path(&self.path));
    }

    fn finish(self, url: &str, hasher: Hasher, expected: Option<&Digest>) -> Result<Downloaded, ImageError> {
        let (sha256, comparable) = hasher.finish();
        if let Some(expected) = expected.filter(|expected| **expected != comparable) {
            self.discard();
            return Err(ImageError::Digest {
                what: url.to_owned(),
                expected: expected.to_string(),
                found: comparable.to_string(),
            });
        }
        self.file.sync_all().map_err(|source| ImageError::Cache { path: self.path.clone(), source })?;
        let _ = std::fs::remove_file(Self::note_path(&self.path));
        Ok(Downloaded { path: self.path, sha256 })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for good in ["https://a.example/x", "http://127.0.0.1:80/x", "http://localhost/x", "http://[::1]:8/x"]
        {
            check_scheme(good).unwrap();
        }
        for bad in [
            "http://a.example/x",
            "http://127.0.0.1.example/x",
            "http://localhost@a.example/x",
            "http://127.0.0.1:80@a.example/x",
            "ftp://localhost/x",
            "file:///etc/passwd",
        ] {
            assert!(matches!(check_scheme(bad), Err(ImageError::Insecure { .. })), "{bad}");
        }
    }
}
