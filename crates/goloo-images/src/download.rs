//! Downloads: resumed after an interruption, verified while streaming, with a limit on every wait.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use goloo_model::events::Event;
use goloo_model::redirect::{self, Hosts, REDIRECTS_MAX, RedirectError};
use goloo_model::spec::is_safe_url;
use goloo_sys::{durable, http, read};
use serde::{Deserialize, Serialize};
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::{Agent, Body};

use crate::digest::{FileDigest, Hasher, each_piece};
use crate::error::{IMAGE_MAX, ImageError, too_large};
use crate::watch::Watch;

/// The maximum size of a list of digests, in bytes.
const LIST_MAX: u64 = 4 << 20;
/// A download fails after this many interruptions with next to no progress between them.
const BREAKS_MAX: u32 = 3;
/// The progress, in bytes, that resets the count of interruptions and that is required within each
/// [`DownloadTimeouts::headway`].
const HEADWAY: u64 = 1 << 20;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct DownloadTimeouts {
    /// For establishing the connection.
    pub connect: Duration,
    /// For the response's headers and for each further piece of its body.
    pub piece: Duration,
    /// For each MiB of an image and for a whole list of digests, so that a server that sends a byte now and then
    /// doesn't stall goloo.
    pub headway: Duration,
    /// For one response, even if data keeps coming; the rest is then requested again.
    pub answer: Duration,
}

impl Default for DownloadTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            piece: Duration::from_secs(30),
            headway: Duration::from_secs(600),
            answer: Duration::from_secs(3600),
        }
    }
}

/// What is known about a partial download; written before its first byte.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PartNote {
    url: String,
    /// The server's identifier for this version of the file: `ETag`, otherwise `Last-Modified`.
    validator: Option<String>,
    expected: Option<String>,
}

/// A finished download that hasn't been moved to its final place.
#[derive(Debug)]
pub struct Downloaded {
    /// Its path.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: FileDigest,
}

/// Downloads from publishers.
#[derive(Debug, Clone)]
pub struct Downloader {
    agent: Agent,
    headway: Duration,
}

impl Downloader {
    /// Creates a downloader with these limits.
    pub fn new(patience: DownloadTimeouts) -> Self {
        let config = Agent::config_builder()
            .max_redirects(0)
            .timeout_connect(Some(patience.connect))
            .timeout_resolve(Some(patience.connect))
            .timeout_recv_response(Some(patience.piece))
            .timeout_per_read(Some(patience.piece))
            .timeout_recv_body(Some(patience.answer))
            .http_status_as_error(false)
            .user_agent(concat!("goloo/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), headway: patience.headway }
    }

    /// Limited by `limit`, or only by the limit on each piece if it is `None`.
    fn get(
        &self,
        url: &str,
        range: Option<(u64, &str)>,
        limit: Option<Duration>,
    ) -> Result<Response<Body>, ImageError> {
        check_scheme(url)?;
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let tls = http::tls_for(&at)?;
            let mut request = self.agent.get(&at).config().timeout_global(limit).tls_config(tls).build();
            if let Some((from, validator)) = range {
                let bytes = format!("bytes={from}-");
                request = request.header(header::RANGE, bytes).header(header::IF_RANGE, validator);
            }
            let answer = request.call().map_err(|error| broken(url, &error))?;
            if !redirect::is_redirect(answer.status().as_u16()) {
                return Ok(answer);
            }
            let location = text(answer.headers(), &header::LOCATION).unwrap_or_default();
            let next = redirect::target(&at, location, Hosts::Any);
            at = next.map_err(|source| ImageError::Redirect { url: url.to_owned(), source })?;
        }
        Err(ImageError::Redirect { url: url.to_owned(), source: RedirectError::TooMany })
    }

    /// Downloads a small text file.
    pub fn text(&self, url: &str) -> Result<String, ImageError> {
        let mut answer = self.get(url, None, Some(self.headway))?;
        expect_success(url, answer.status())?;
        answer.body_mut().with_config().limit(LIST_MAX).read_to_string().map_err(|error| broken(url, &error))
    }

    /// Downloads to `part` and verifies the digest. After an interruption it resumes as long as the part keeps growing
    /// beyond its previous maximum. If it gives up, the part stays for the next call; a file with the wrong digest is
    /// removed.
    pub fn file(
        &self,
        url: &str,
        expected: Option<&FileDigest>,
        part: &Path,
        watch: &dyn Watch,
    ) -> Result<Downloaded, ImageError> {
        let (mut breaks, mut longest) = (0, length(part));
        loop {
            match self.attempt(url, expected, part, watch) {
                Err(error @ ImageError::Download { .. }) => {
                    if length(part) >= longest + HEADWAY {
                        (breaks, longest) = (0, length(part));
                    } else {
                        breaks += 1;
                    }
                    if breaks == BREAKS_MAX {
                        return Err(error);
                    }
                    watch.event(Event::Note(format!("{error}; continuing at {} bytes", length(part))));
                }
                other => return other,
            }
        }
    }

    fn attempt(
        &self,
        url: &str,
        expected: Option<&FileDigest>,
        part: &Path,
        watch: &dyn Watch,
    ) -> Result<Downloaded, ImageError> {
        let failed = |source| ImageError::Cache { path: part.to_owned(), source };
        let mut part = Part::open(part, url, expected).map_err(failed)?;
        let held = part.length;
        let mut answer = match part.note.validator.clone().filter(|_| held > 0) {
            Some(validator) => self.get(url, Some((held, &validator)), None)?,
            None => self.get(url, None, None)?,
        };
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            // The server sends this only if the part is complete, or if the file has become shorter.
            answer = self.get(url, None, None)?;
        }
        let mut hasher = Hasher::new(expected);
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            if resumes_at(answer.headers()) != Some(held) {
                part.discard();
                return Err(ImageError::Download {
                    url: url.to_owned(),
                    reason: "the server continued at a different position than requested".to_owned(),
                });
            }
            part.hash_into(&mut hasher, watch).map_err(failed)?;
        } else {
            expect_success(url, answer.status())?;
            part.begin(url, validator(answer.headers()), expected).map_err(failed)?;
        }
        let total = content_length(answer.headers()).map(|rest| part.length.saturating_add(rest));
        self.receive(&mut part, &mut answer, &mut hasher, total, url, watch)?;
        part.finish(url, hasher, expected)
    }

    fn receive(
        &self,
        part: &mut Part,
        answer: &mut Response<Body>,
        hasher: &mut Hasher,
        total: Option<u64>,
        url: &str,
        watch: &dyn Watch,
    ) -> Result<(), ImageError> {
        if total.is_some_and(|total| total > IMAGE_MAX) {
            return Err(too_large(url));
        }
        let body = answer.body_mut().with_config().limit(u64::MAX).reader();
        let (mut since, mut length_then) = (Instant::now(), part.length);
        let taken = |piece: &[u8]| {
            if watch.stopped() {
                return Err(ImageError::Stopped);
            }
            part.write(piece)?;
            hasher.update(piece);
            watch.event(Event::Progress { done: part.length, total });
            if part.length > IMAGE_MAX {
                return Err(too_large(url));
            }
            if part.length - length_then >= HEADWAY {
                (since, length_then) = (Instant::now(), part.length);
            } else if since.elapsed() > self.headway {
                let seconds = self.headway.as_secs_f32();
                return Err(failed(
                    url,
                    format!("less than {} MiB was received in {seconds} s", HEADWAY >> 20),
                ));
            }
            Ok(())
        };
        each_piece(body, taken, |error| broken(url, &error))?;
        match total {
            Some(total) if part.length != total => {
                Err(failed(url, format!("it ended after {} of {total} bytes", part.length)))
            }
            _ => Ok(()),
        }
    }
}

fn failed(url: &str, reason: String) -> ImageError {
    ImageError::Download { url: url.to_owned(), reason }
}

/// Plain http is allowed only on this machine, where nothing is in between.
pub fn check_scheme(url: &str) -> Result<(), ImageError> {
    is_safe_url(url).then_some(()).ok_or_else(|| ImageError::Insecure { url: url.to_owned() })
}

fn expect_success(url: &str, status: StatusCode) -> Result<(), ImageError> {
    if status == StatusCode::OK {
        return Ok(());
    }
    Err(ImageError::Status { url: url.to_owned(), status: status.as_u16() })
}

fn broken(url: &str, error: &dyn std::error::Error) -> ImageError {
    failed(url, error.to_string())
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Only a strong validator proves that two parts belong together.
fn validator(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, &header::ETAG).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| text(headers, &header::LAST_MODIFIED)).map(str::to_owned)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &header::CONTENT_LENGTH)?.parse().ok()
}

/// Parses the first byte's position from `bytes 100-199/200`.
fn resumes_at(headers: &HeaderMap) -> Option<u64> {
    let range = text(headers, &header::CONTENT_RANGE)?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.parse().ok()
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |data| data.len())
}

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

    /// A partial download is reused only for the same address and the same digest.
    fn open(path: &Path, url: &str, expected: Option<&FileDigest>) -> std::io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let note: Option<PartNote> = read::own(&Self::note_path(path), read::FILE_MAX)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let same =
            |note: &PartNote| note.url == url && note.expected.as_deref() == expected.map(FileDigest::as_str);
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
        expected: Option<&FileDigest>,
    ) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.length = 0;
        let expected = expected.map(|digest| digest.as_str().to_owned());
        self.note = PartNote { url: url.to_owned(), validator, expected };
        durable::write(&Self::note_path(&self.path), &serde_json::to_vec(&self.note)?)
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

    fn finish(
        self,
        url: &str,
        hasher: Hasher,
        expected: Option<&FileDigest>,
    ) -> Result<Downloaded, ImageError> {
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
    fn plain_http_is_allowed_only_for_the_loopback_address() {
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
