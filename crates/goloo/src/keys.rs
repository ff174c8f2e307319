//! The public keys of a stack's users: from GitHub, written out, or from files.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use goloo_core::authorized_key::{AuthorizedKeyError, KeyList, parse_list};
use goloo_core::record::UserKeys;
use goloo_core::redirect::{self, Hosts, REDIRECTS_MAX, RedirectError};
use goloo_core::spec::{KeySource, ResolvedStack, User, is_github_user, is_safe_url};
use goloo_os::read;
use ureq::Body;
use ureq::http::Response;

use crate::app::App;
use crate::error::CliError;
use crate::files;
use crate::output::Ui;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The first attempt and two more.
const ATTEMPTS: u32 = 3;
/// The pause before an attempt grows by this.
const PAUSE: Duration = Duration::from_millis(300);
/// More than this many bytes is no list of keys.
const ANSWER_MAX: u64 = 256 << 10;
/// Nor are more lines than this.
const KEYS_MAX: usize = 256;
/// Of a file without any key so many lines are named.
const REASONS_MAX: usize = 5;

/// Finds the keys of all users of the stack.
pub fn fetch(app: &App, stack: &ResolvedStack) -> Result<Vec<UserKeys>, CliError> {
    let github = GitHub::from_env(app.paths.cache.join("github-keys"))?;
    stack.users.iter().map(|user| keys_of(user, &github, &app.ui)).collect()
}

fn keys_of(user: &User, github: &GitHub, ui: &Ui) -> Result<UserKeys, CliError> {
    let mut keys: Vec<String> = Vec::new();
    let mut github_username = None;
    for source in &user.keys {
        let found = match source {
            KeySource::Inline(key) => vec![key.trim().to_owned()],
            KeySource::File(path) => from_file(path, ui)?,
            KeySource::GitHub(name) => {
                github_username.get_or_insert_with(|| name.clone());
                github.keys(name, ui)?
            }
        };
        for key in found {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    Ok(UserKeys { username: user.username.clone(), github_username, keys })
}

fn from_file(path: &Path, ui: &Ui) -> Result<Vec<String>, CliError> {
    let bytes = read::file(path, read::FILE_MAX)
        .map_err(|error| CliError::cannot("read the keys in", path, &error))?;
    let list = parse_list(&String::from_utf8_lossy(&bytes));
    let place = path.display().to_string();
    if list.keys.is_empty() {
        let mut error = CliError::usage(
            format!("{place} has no public SSH key"),
            "the file must hold public keys, one a line, as in id_ed25519.pub",
        );
        error.causes = reasons(&list.skipped, &place);
        return Err(error);
    }
    Ok(good_keys(list, &place, ui))
}

/// The keys of a list in which at least one is good, with a warning of each line that isn't.
fn good_keys(list: KeyList, place: &str, ui: &Ui) -> Vec<String> {
    for (line, error) in &list.skipped {
        ui.warning(&format!("{place}:{line}: this line is skipped: {error}"));
    }
    list.keys.iter().map(ToString::to_string).collect()
}

/// What is wrong with the first lines of a list.
fn reasons(skipped: &[(usize, AuthorizedKeyError)], place: &str) -> Vec<String> {
    let shown = skipped.iter().take(REASONS_MAX);
    shown.map(|(line, error)| format!("{place}:{line}: {error}")).collect()
}

/// GitHub's lists of keys, with the last good answer of each kept.
struct GitHub {
    base: String,
    cache: PathBuf,
    agent: ureq::Agent,
}

/// What came of asking.
enum Answer {
    Keys(KeyList),
    NoSuchUser,
    /// Nothing that GitHub would say: neither asked again nor passed over.
    Refused(String),
    /// Worth another attempt, or the last good answer.
    Failed(String),
}

impl GitHub {
    fn from_env(cache: PathBuf) -> Result<Self, CliError> {
        let base = std::env::var("GOLOO_GITHUB_URL").ok().filter(|url| !url.is_empty());
        Self::new(base.unwrap_or_else(|| "https://github.com".to_owned()), cache)
    }

    fn new(base: String, cache: PathBuf) -> Result<Self, CliError> {
        if !is_safe_url(&base) {
            return Err(CliError::usage(
                format!("GOLOO_GITHUB_URL is {base}: keys are only fetched by https, or from this machine"),
                "set it to an https address",
            ));
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(LIMIT))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("goloo/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { base: base.trim_end_matches('/').to_owned(), cache, agent: config.into() })
    }

    fn keys(&self, user: &str, ui: &Ui) -> Result<Vec<String>, CliError> {
        // Part of an address and of a path; records of others name users too.
        if !is_github_user(user) {
            return Err(CliError::usage(
                format!("\"{user}\" is no GitHub user"),
                "write a name as in github.com/NAME",
            ));
        }
        let mut reason = String::new();
        for attempt in 0..ATTEMPTS {
            std::thread::sleep(PAUSE * attempt);
            match self.ask(user) {
                Answer::Keys(list) if list.keys.is_empty() => {
                    return Err(CliError::failed(
                        format!("the GitHub user \"{user}\" has no public keys"),
                        "add one at GitHub, or write a key into ssh_keys",
                    ));
                }
                Answer::Keys(list) => {
                    let keys = good_keys(list, &self.url(user), ui);
                    self.remember(user, &keys);
                    return Ok(keys);
                }
                Answer::NoSuchUser => {
                    return Err(CliError::not_found(
                        format!("GitHub knows no user \"{user}\""),
                        "look at the spelling of github_username",
                    ));
                }
                Answer::Refused(why) => {
                    let mut error = CliError::failed(
                        format!("GitHub's list of keys of \"{user}\" is refused"),
                        format!("look at {}, or write the keys into ssh_keys", self.url(user)),
                    );
                    error.causes.push(why);
                    return Err(error);
                }
                Answer::Failed(why) => reason = why,
            }
        }
        let Some(keys) = self.remembered(user) else {
            let mut error = CliError::failed(
                format!("the keys of the GitHub user \"{user}\" can't be fetched"),
                "try again when the network is back, or write the keys into ssh_keys",
            );
            error.causes.push(reason);
            return Err(error);
        };
        ui.warning(&format!(
            "GitHub can't be reached ({reason}); the keys of \"{user}\" are those of its last answer"
        ));
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
            return Answer::Failed(format!("{url} answers {status}"));
        }
        let mut bytes = Vec::new();
        // One more than the limit shows that there is more.
        let mut body = response.into_body().into_reader().take(ANSWER_MAX + 1);
        if let Err(error) = body.read_to_end(&mut bytes) {
            return Answer::Failed(format!("{url}: {error}"));
        }
        let list = match checked_list(&bytes) {
            Ok(list) => list,
            Err(why) => return Answer::Refused(why),
        };
        // A captive portal answers everything, with a page of its own.
        match reasons(&list.skipped, &url).into_iter().next() {
            Some(reason) if list.keys.is_empty() => Answer::Failed(reason),
            _ => Answer::Keys(list),
        }
    }

    /// The answer behind redirects, all within the time of one.
    fn get(&self, url: &str) -> Result<Response<Body>, Answer> {
        let end = Instant::now() + LIMIT;
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let left = end.saturating_duration_since(Instant::now());
            let asked = self.agent.get(&at).config().timeout_global(Some(left)).build().call();
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
        // A cache that can't be written costs nothing now.
        let _ = files::ensure_folder(&self.cache).and_then(|()| {
            let mut file = tempfile::NamedTempFile::new_in(&self.cache)?;
            std::io::Write::write_all(&mut file, (keys.join("\n") + "\n").as_bytes())?;
            file.persist(self.cache.join(user)).map(drop).map_err(|error| error.error)
        });
    }

    /// The last good answer, read as strictly as a new one: it was written without lines to be skipped.
    fn remembered(&self, user: &str) -> Option<Vec<String>> {
        let bytes = read::file(&self.cache.join(user), ANSWER_MAX).ok()?;
        let list = checked_list(&bytes).ok().filter(|list| list.skipped.is_empty())?;
        Some(list.keys.iter().map(ToString::to_string).collect::<Vec<_>>()).filter(|keys| !keys.is_empty())
    }
}

/// A list of keys as a server may send it; otherwise why it isn't one. A line of another kind of key is left to the
/// caller: sshd skips it too.
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
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::args::Color;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakY0xYcs0pqkq7OC8hVTCKu5UGvyZdwRPBMqtDbTmE ann@laptop";

    fn ui() -> Ui {
        Ui::new(Color::Never, 0, false)
    }

    /// Answers one connection after the other with these texts, and then no more.
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
    fn keys_come_one_a_line_and_are_remembered() {
        let cache = tempfile::tempdir().unwrap();
        let url = server(vec![http("200 OK", &format!("{KEY}\n"))]);
        let github = GitHub::new(url, cache.path().into()).unwrap();
        assert_eq!(github.keys("ann", &ui()).unwrap(), [KEY]);
        // The server is gone now: the last good answer is used.
        assert_eq!(github.keys("ann", &ui()).unwrap(), [KEY]);
    }

    #[test]
    fn a_fault_is_tried_again_and_a_missing_user_is_not() {
        let cache = tempfile::tempdir().unwrap();
        let fault = http("500 Oops", "");
        let url = server(vec![fault.clone(), fault, http("200 OK", KEY)]);
        let github = GitHub::new(url, cache.path().into()).unwrap();
        assert_eq!(github.keys("ann", &ui()).unwrap(), [KEY]);
        let url = server(vec![http("404 Not Found", "")]);
        let github = GitHub::new(url, cache.path().into()).unwrap();
        let error = github.keys("nobody", &ui()).unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (crate::exit::NOT_FOUND, "GitHub knows no user \"nobody\"")
        );
    }

    #[test]
    fn a_page_is_no_list_of_keys() {
        let cache = tempfile::tempdir().unwrap();
        let page = http("200 OK", "<html>please log in</html>");
        let github =
            GitHub::new(server(vec![page.clone(), page.clone(), page]), cache.path().into()).unwrap();
        let error = github.keys("ann", &ui()).unwrap_err();
        assert!(error.causes[0].ends_with("/ann.keys:1: this is no public SSH key"), "{error:?}");
        assert!(github.remembered("ann").is_none());
    }

    #[test]
    fn a_user_without_keys_is_an_error() {
        let cache = tempfile::tempdir().unwrap();
        let github = GitHub::new(server(vec![http("200 OK", "")]), cache.path().into()).unwrap();
        assert!(github.keys("ann", &ui()).unwrap_err().message.contains("has no public keys"));
    }

    #[test]
    fn a_bad_line_of_github_s_costs_that_line_alone() {
        let cache = tempfile::tempdir().unwrap();
        let url = server(vec![http("200 OK", &format!("ssh-dss AAAA\n{KEY}\n"))]);
        let github = GitHub::new(url, cache.path().into()).unwrap();
        assert_eq!(github.keys("ann", &ui()).unwrap(), [KEY]);
    }

    #[test]
    fn a_file_without_a_good_line_is_refused_with_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.pub");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            from_file(&path, &ui())
        };
        assert_eq!(read(&format!("# mine\n\n{KEY}\nssh-dss AAAA\n")).unwrap(), [KEY]);
        let error = read("# mine\n-----BEGIN OPENSSH PRIVATE KEY-----\nssh-dss AAAA\n").unwrap_err();
        assert!(error.message.ends_with("keys.pub has no public SSH key"), "{error:?}");
        assert!(error.causes[0].contains("keys.pub:2: this is a private key"), "{error:?}");
        assert!(error.causes[1].contains("keys.pub:3: sshd doesn't accept keys of the type"), "{error:?}");
        assert!(read("").is_err());
    }

    fn redirect(to: &str) -> String {
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }

    fn ask(answers: Vec<String>) -> Result<Vec<String>, CliError> {
        let cache = tempfile::tempdir().unwrap();
        // A last good answer doesn't hide what is refused.
        fs::write(cache.path().join("ann"), format!("{KEY}\n")).unwrap();
        GitHub::new(server(answers), cache.path().into()).unwrap().keys("ann", &ui())
    }

    fn refused(answer: String) -> String {
        let error = ask(vec![answer]).unwrap_err();
        assert_eq!(error.message, "GitHub's list of keys of \"ann\" is refused");
        error.causes.concat()
    }

    #[test]
    fn a_redirect_is_followed_to_the_same_host_alone() {
        assert_eq!(ask(vec![redirect("/other.keys"), http("200 OK", KEY)]).unwrap(), [KEY]);
        for (to, why) in [
            ("http://192.0.2.1/ann.keys", "insecure"),
            ("ftp://127.0.0.1/ann.keys", "insecure"),
            ("https://evil.example/ann.keys", "another host"),
            ("http://127.0.0.1:1/ann.keys", "another host"),
            ("", "without an address"),
        ] {
            let told = refused(redirect(to));
            assert!(told.contains(why), "{to}: {told}");
        }
        let error = ask(vec![redirect("/x"); REDIRECTS_MAX + 1]).unwrap_err();
        assert!(error.causes[0].contains("more than 5 times"), "{error:?}");
    }

    #[test]
    fn an_answer_over_the_limit_is_refused_and_not_cut() {
        // A cut would leave a good key: each line is one.
        let line = format!("{KEY}\n");
        let lines = |bytes: usize| line.repeat(bytes.div_ceil(line.len()));
        let limit = usize::try_from(ANSWER_MAX).unwrap();
        assert!(refused(http("200 OK", &lines(limit + 1))).contains("larger than 256 KiB"));
        let many = format!("{KEY}\n").repeat(KEYS_MAX + 1);
        assert!(refused(http("200 OK", &many)).contains("more than 256 lines"));
        assert_eq!(ask(vec![http("200 OK", &format!("{KEY}\n").repeat(KEYS_MAX))]).unwrap().len(), KEYS_MAX);
    }

    #[test]
    fn control_characters_are_refused_with_their_line() {
        for bad in ["\u{1b}[2J", "\r", "\u{9b}31m", "\u{202e}", "\u{7f}", "\0", "\u{2028}x"] {
            let told = refused(http("200 OK", &format!("{KEY}\n\n{KEY}{bad}x\n")));
            assert_eq!(told, "line 3: it contains control characters", "{bad:?}");
        }
    }

    #[test]
    fn a_last_good_answer_is_read_as_strictly() {
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
    fn a_name_is_no_path_and_no_address() {
        let cache = tempfile::tempdir().unwrap();
        let github = GitHub::new(server(vec![]), cache.path().join("keys")).unwrap();
        fs::create_dir_all(cache.path().join("keys")).unwrap();
        fs::write(cache.path().join("x"), KEY).unwrap();
        for user in ["../x", "ann?x=", "ann#", "%2e%2e/x", "a/b", "", "ann\n", "ann\u{1b}", "@evil.example"] {
            let error = github.keys(user, &ui()).unwrap_err();
            assert!(error.message.ends_with("is no GitHub user"), "{user:?}: {error:?}");
        }
    }
}
