//! The public keys of a stack's users: from GitHub, from the config, or from files.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use goloo_model::authorized_key::{AuthorizedKeyError, KeyList, parse_list};
use goloo_model::events::{Event, Events};
use goloo_model::record::UserKeys;
use goloo_model::redirect::{self, Hosts, REDIRECTS_MAX, RedirectError};
use goloo_model::spec::{KeySource, ResolvedStack, User, is_github_user, is_safe_url};
use goloo_sys::tls::NoRoots;
use goloo_sys::{http, read};
use ureq::Body;
use ureq::http::Response;

use crate::error::Error;
use crate::error::keys::{FILES_MAX, KEYS_MAX};
use crate::files;
use crate::session::Session;

pub use crate::error::{AnswerError, KeysError};

/// The time limit for one response.
const LIMIT: Duration = Duration::from_secs(10);
/// The first attempt and two more.
const ATTEMPTS: u32 = 3;
/// The pause before each attempt grows by this much.
const PAUSE: Duration = Duration::from_millis(300);
/// The largest list of keys, in bytes.
const ANSWER_MAX: u64 = 256 << 10;
/// How many lines are reported for a file without any key.
const REASONS_MAX: usize = 5;

/// Collects the keys of all users of the stack.
///
/// # Errors
/// [`KeysError`], and when a key file can't be read.
pub fn fetch(session: &Session, stack: &ResolvedStack) -> Result<Vec<UserKeys>, Error> {
    let github = GitHub::from_env(session.paths.cache.join("github-keys"))?;
    let mut files = KeyFiles { left: FILES_MAX };
    stack.users.iter().map(|user| keys_of(user, &github, &mut files, &*session.events)).collect()
}

fn keys_of(
    user: &User,
    github: &GitHub,
    files: &mut KeyFiles,
    events: &dyn Events,
) -> Result<UserKeys, Error> {
    let mut keys: Vec<String> = Vec::new();
    let mut github_username = None;
    for source in &user.keys {
        let found = match source {
            KeySource::Inline(key) => vec![key.trim().to_owned()],
            KeySource::File(path) => files.keys(path, events)?,
            KeySource::GitHub(name) => {
                github_username.get_or_insert_with(|| name.clone());
                github.keys(name, events)?
            }
        };
        for key in found {
            if !keys.contains(&key) {
                keys.push(key);
            }
            if keys.len() > KEYS_MAX {
                return Err(KeysError::TooMany { username: user.username.clone() }.into());
            }
        }
    }
    Ok(UserKeys { username: user.username.clone(), github_username, keys })
}

struct KeyFiles {
    /// How many bytes may still be read.
    left: u64,
}

impl KeyFiles {
    fn keys(&mut self, path: &Path, events: &dyn Events) -> Result<Vec<String>, Error> {
        let bytes = read::file(path, read::FILE_MAX)
            .map_err(|error| Error::cannot("read the keys in", path, error))?;
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(KeysError::FilesTooLarge)?;
        let mut list = parse_list(&String::from_utf8_lossy(&bytes));
        if list.keys.is_empty() {
            list.skipped.truncate(REASONS_MAX);
            return Err(KeysError::NoKeyInFile { path: path.to_owned(), skipped: list.skipped }.into());
        }
        Ok(good_keys(list, &path.display().to_string(), events))
    }
}

/// The valid keys of a list that has at least one, with a warning for each invalid line.
fn good_keys(list: KeyList, place: &str, events: &dyn Events) -> Vec<String> {
    for (line, error) in &list.skipped {
        events.event(Event::Warning(format!("{place}:{line}: skipped this line: {error}")));
    }
    list.keys.iter().map(ToString::to_string).collect()
}

/// GitHub's lists of keys; caches the last valid response for each user.
struct GitHub {
    base: String,
    cache: PathBuf,
    agent: ureq::Agent,
}

enum Answer {
    Keys(KeyList),
    NoSuchUser,
    /// Not a response from GitHub: neither retried nor skipped.
    Refused(String),
    /// No server can be trusted, this time and the next.
    NoRoots(NoRoots),
    /// May be retried, or replaced by the cached response.
    Failed(String),
}

impl GitHub {
    fn from_env(cache: PathBuf) -> Result<Self, KeysError> {
        let base = std::env::var("GOLOO_GITHUB_URL").ok().filter(|url| !url.is_empty());
        Self::new(base.unwrap_or_else(|| "https://github.com".to_owned()), cache)
    }

    fn new(base: String, cache: PathBuf) -> Result<Self, KeysError> {
        if !is_safe_url(&base) {
            return Err(KeysError::InsecureUrl { url: base });
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(LIMIT))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("goloo/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { base: base.trim_end_matches('/').to_owned(), cache, agent: config.into() })
    }

    fn keys(&self, user: &str, events: &dyn Events) -> Result<Vec<String>, KeysError> {
        // Checked because it becomes part of a URL and a path, and records written by others name users too.
        if !is_github_user(user) {
            return Err(KeysError::InvalidUser { user: user.to_owned() });
        }
        let mut reason = String::new();
        for attempt in 0..ATTEMPTS {
            std::thread::sleep(PAUSE * attempt);
            match self.ask(user) {
                Answer::Keys(list) if list.keys.is_empty() => {
                    return Err(KeysError::NoKeys { user: user.to_owned() });
                }
                Answer::Keys(list) => {
                    let keys = good_keys(list, &self.url(user), events);
                    self.remember(user, &keys);
                    return Ok(keys);
                }
                Answer::NoSuchUser => return Err(KeysError::NoSuchUser { user: user.to_owned() }),
                Answer::Refused(why) => {
                    return Err(KeysError::Refused {
                        user: user.to_owned(),
                        url: self.url(user),
                        source: AnswerError(why),
                    });
                }
                Answer::NoRoots(error) => return Err(error.into()),
                Answer::Failed(why) => reason = why,
            }
        }
        let Some(keys) = self.remembered(user) else {
            return Err(KeysError::Unfetched { user: user.to_owned(), source: AnswerError(reason) });
        };
        events.event(Event::Warning(format!(
            "GitHub can't be reached ({reason}); using the cached keys of \"{user}\""
        )));
        Ok(keys)
    }

    fn url(&self, user: &str) -> String {
        format!("{}/{user}.keys", self.base)
    }

    fn ask(&self, user: &str) -> Answer {
        let url = self.url(user);
        let response = match self.get(&url) {
            Ok(response) => response,
            Err(answer) => return answer,
        };
        let status = response.status();
        if status.as_u16() == 404 {
            return Answer::NoSuchUser;
        }
        if !status.is_success() {
            return Answer::Failed(format!("{url} returned {status}"));
        }
        let mut bytes = Vec::new();
        // Reads one byte more than the limit to detect a longer response.
        let mut body = response.into_body().into_reader().take(ANSWER_MAX + 1);
        if let Err(error) = body.read_to_end(&mut bytes) {
            return Answer::Failed(format!("{url}: {error}"));
        }
        let list = match checked_list(&bytes) {
            Ok(list) => list,
            Err(why) => return Answer::Refused(why),
        };
        // A captive portal answers every request with its own page.
        match list.skipped.first() {
            Some((line, error)) if list.keys.is_empty() => Answer::Failed(format!("{url}:{line}: {error}")),
            _ => Answer::Keys(list),
        }
    }

    /// Follows redirects; all of them together have the time limit of one response.
    fn get(&self, url: &str) -> Result<Response<Body>, Answer> {
        let end = Instant::now() + LIMIT;
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let left = end.saturating_duration_since(Instant::now());
            let tls = http::tls_for(&at).map_err(Answer::NoRoots)?;
            let asked =
                self.agent.get(&at).config().timeout_global(Some(left)).tls_config(tls).build().call();
            let response = asked.map_err(|error| Answer::Failed(format!("{at}: {error}")))?;
            if !redirect::is_redirect(response.status().as_u16()) {
                return Ok(response);
            }
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            let next = redirect::target(&at, location.unwrap_or_default(), Hosts::Same);
            at = next.map_err(|error| Answer::Refused(format!("{at}: {error}")))?;
        }
        Err(Answer::Refused(format!("{url}: {}", RedirectError::TooMany)))
    }

    fn remember(&self, user: &str, keys: &[String]) {
        // An error while writing the cache is ignored.
        let _ = files::ensure_folder(&self.cache).and_then(|()| {
            let mut file = tempfile::NamedTempFile::new_in(&self.cache)?;
            std::io::Write::write_all(&mut file, (keys.join("\n") + "\n").as_bytes())?;
            file.persist(self.cache.join(user)).map(drop).map_err(|error| error.error)
        });
    }

    /// The cached response, validated as strictly as a new one: it was written without invalid lines.
    fn remembered(&self, user: &str) -> Option<Vec<String>> {
        let bytes = read::own(&self.cache.join(user), ANSWER_MAX).ok()?;
        let list = checked_list(&bytes).ok().filter(|list| list.skipped.is_empty())?;
        Some(list.keys.iter().map(ToString::to_string).collect::<Vec<_>>()).filter(|keys| !keys.is_empty())
    }
}

/// Validates a list of keys from a server. Lines with a different kind of key are left to the caller: sshd skips them
/// too.
fn checked_list(bytes: &[u8]) -> Result<KeyList, String> {
    if bytes.len() as u64 > ANSWER_MAX {
        return Err(format!("it is larger than {} KiB", ANSWER_MAX >> 10));
    }
    let list = parse_list(&String::from_utf8_lossy(bytes));
    let control = list.skipped.iter().find(|(_, error)| *error == AuthorizedKeyError::Control);
    if let Some((line, error)) = control {
        return Err(format!("line {line}: {error}"));
    }
    if list.keys.len() + list.skipped.len() > KEYS_MAX {
        return Err(format!("it has more than {KEYS_MAX} lines"));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::error::Error as _;
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use goloo_model::events::NoEvents;

    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakY0xYcs0pqkq7OC8hVTCKu5UGvyZdwRPBMqtDbTmE ann@laptop";

    fn cause(error: &KeysError) -> String {
        error.source().map(ToString::to_string).unwrap_or_default()
    }

    /// Answers one connection per text, then stops.
    fn server(answers: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        url
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    #[test]
    fn keys_are_read_one_per_line_and_cached() {
        let cache = tempfile::tempdir().unwrap();
        let url = server(vec![http("200 OK", &format!("{KEY}\n"))]);
        let github = GitHub::new(url, cache.path().into()).unwrap();
        assert_eq!(github.keys("ann", &NoEvents).unwrap(), [KEY]);
        // The server no longer answers: the cached response is used.
        assert_eq!(github.keys("ann", &NoEvents).unwrap(), [KEY]);
    }

    #[test]
    fn a_server_error_is_retried_but_a_missing_user_is_not() {
        let cache = tempfile::tempdir().unwrap();
        let fault = http("500 Oops", "");
        let url = server(vec![fault.clone(), fault, http("200 OK", KEY)]);
        let github = GitHub::new(url, cache.path().into()).unwrap();
        assert_eq!(github.keys("ann", &NoEvents).unwrap(), [KEY]);
        let url = server(vec![http("404 Not Found", "")]);
        let github = GitHub::new(url, cache.path().into()).unwrap();
        let error = github.keys("nobody", &NoEvents).unwrap_err();
        assert_eq!(error.code(), "not-found");
        assert_eq!(error.to_string(), "GitHub has no user \"nobody\"");
    }

    #[test]
    fn an_html_page_is_not_accepted_as_a_list_of_keys() {
        let cache = tempfile::tempdir().unwrap();
        let page = http("200 OK", "<html>please log in</html>");
        let github =
            GitHub::new(server(vec![page.clone(), page.clone(), page]), cache.path().into()).unwrap();
        let error = github.keys("ann", &NoEvents).unwrap_err();
        assert!(cause(&error).ends_with("/ann.keys:1: this is not a public SSH key"), "{error:?}");
        assert!(github.remembered("ann").is_none());
    }

    #[test]
    fn a_user_without_keys_is_an_error() {
        let cache = tempfile::tempdir().unwrap();
        let github = GitHub::new(server(vec![http("200 OK", "")]), cache.path().into()).unwrap();
        assert!(matches!(github.keys("ann", &NoEvents).unwrap_err(), KeysError::NoKeys { .. }));
    }

    #[test]
    fn only_the_invalid_lines_of_a_github_response_are_skipped() {
        let cache = tempfile::tempdir().unwrap();
        let url = server(vec![http("200 OK", &format!("ssh-dss AAAA\n{KEY}\n"))]);
        let github = GitHub::new(url, cache.path().into()).unwrap();
        assert_eq!(github.keys("ann", &NoEvents).unwrap(), [KEY]);
    }

    #[test]
    fn a_file_without_a_valid_key_is_refused_with_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.pub");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            KeyFiles { left: FILES_MAX }.keys(&path, &NoEvents)
        };
        assert_eq!(read(&format!("# mine\n\n{KEY}\nssh-dss AAAA\n")).unwrap(), [KEY]);
        let error = read("# mine\n-----BEGIN OPENSSH PRIVATE KEY-----\nssh-dss AAAA\n").unwrap_err();
        assert!(error.to_string().ends_with("keys.pub has no public SSH key"), "{error:?}");
        let Error::Keys(KeysError::NoKeyInFile { skipped, .. }) = error else { panic!("{error:?}") };
        assert_eq!(skipped[0], (2, AuthorizedKeyError::Private));
        assert!(matches!(skipped[1], (3, AuthorizedKeyError::Kind(_))), "{skipped:?}");
        assert!(read("").is_err());
    }

    fn redirect(to: &str) -> String {
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }

    fn ask(answers: Vec<String>) -> Result<Vec<String>, KeysError> {
        let cache = tempfile::tempdir().unwrap();
        // A cached response doesn't hide an invalid one.
        fs::write(cache.path().join("ann"), format!("{KEY}\n")).unwrap();
        GitHub::new(server(answers), cache.path().into()).unwrap().keys("ann", &NoEvents)
    }

    fn refused(answer: String) -> String {
        let error = ask(vec![answer]).unwrap_err();
        assert_eq!(error.to_string(), "GitHub's list of keys for \"ann\" is invalid");
        cause(&error)
    }

    #[test]
    fn a_redirect_is_followed_only_to_the_same_host() {
        assert_eq!(ask(vec![redirect("/other.keys"), http("200 OK", KEY)]).unwrap(), [KEY]);
        for (to, why) in [
            ("http://192.0.2.1/ann.keys", "insecure"),
            ("ftp://127.0.0.1/ann.keys", "insecure"),
            ("https://evil.example/ann.keys", "another host"),
            ("http://127.0.0.1:1/ann.keys", "another host"),
            ("", "without a valid address"),
        ] {
            let told = refused(redirect(to));
            assert!(told.contains(why), "{to}: {told}");
        }
        let error = ask(vec![redirect("/x"); REDIRECTS_MAX + 1]).unwrap_err();
        assert!(cause(&error).contains("more than 5 times"), "{error:?}");
    }

    #[test]
    fn a_response_over_the_limit_is_refused_and_not_truncated() {
        // A truncated list would still consist of valid keys: each line is one.
        let line = format!("{KEY}\n");
        let lines = |bytes: usize| line.repeat(bytes.div_ceil(line.len()));
        let limit = usize::try_from(ANSWER_MAX).unwrap();
        assert!(refused(http("200 OK", &lines(limit + 1))).contains("larger than 256 KiB"));
        let many = format!("{KEY}\n").repeat(KEYS_MAX + 1);
        assert!(refused(http("200 OK", &many)).contains("more than 256 lines"));
        assert_eq!(ask(vec![http("200 OK", &format!("{KEY}\n").repeat(KEYS_MAX))]).unwrap().len(), KEYS_MAX);
    }

    #[test]
    fn control_characters_are_refused_with_the_line_number() {
        for bad in ["\u{1b}[2J", "\r", "\u{9b}31m", "\u{202e}", "\u{7f}", "\0", "\u{2028}x"] {
            let told = refused(http("200 OK", &format!("{KEY}\n\n{KEY}{bad}x\n")));
            assert_eq!(told, "line 3: it contains control characters", "{bad:?}");
        }
    }

    #[test]
    fn a_cached_response_is_parsed_as_strictly() {
        let cache = tempfile::tempdir().unwrap();
        let github = GitHub::new("http://127.0.0.1:9".to_owned(), cache.path().into()).unwrap();
        let remembered = |text: &str| {
            fs::write(cache.path().join("ann"), text).unwrap();
            github.remembered("ann")
        };
        assert_eq!(remembered(&format!("{KEY}\n")).unwrap(), [KEY]);
        assert_eq!(remembered(&format!("{KEY}\n{KEY}\u{1b}x\n")), None);
        assert_eq!(remembered(&format!("{KEY}\nssh-dss AAAA\n")), None);
        assert_eq!(remembered(&format!("{KEY}\n").repeat(KEYS_MAX + 1)), None);
    }

    #[test]
    fn a_user_name_with_path_or_url_characters_is_refused() {
        let cache = tempfile::tempdir().unwrap();
        let github = GitHub::new(server(vec![]), cache.path().join("keys")).unwrap();
        fs::create_dir_all(cache.path().join("keys")).unwrap();
        fs::write(cache.path().join("x"), KEY).unwrap();
        for user in ["../x", "ann?x=", "ann#", "%2e%2e/x", "a/b", "", "ann\n", "ann\u{1b}", "@evil.example"] {
            let error = github.keys(user, &NoEvents).unwrap_err();
            assert!(error.to_string().ends_with("is not a valid GitHub user name"), "{user:?}: {error:?}");
        }
    }
}
