//! Lines of an `authorized_keys` file, checked as sshd reads them (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
//!
//! sshd silently skips a line that it doesn't understand, which locks the user out, so each
//! line is checked before a machine is created.

use std::fmt;

use ssh_key::public::KeyData;

use crate::printable::is_printable;

/// A key that sshd accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizedKey {
    /// The options before the key: `from="192.0.2.0/24",no-pty`.
    pub options: Option<String>,
    /// The key's type: `ssh-ed25519`.
    pub kind: String,
    /// The key in base64.
    pub body: String,
    /// The free text after the key.
    pub comment: Option<String>,
}

/// Why sshd would skip a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizedKeyError {
    /// Part of a private key.
    #[error("this is a private key; use the line from the .pub file instead")]
    Private,
    /// Nothing that looks like a key.
    #[error("this is not a public SSH key")]
    NoKey,
    /// Characters that never occur in a key.
    #[error("it contains control characters")]
    Control,
    /// An unterminated `command="…`.
    #[error("a quote in its options is not closed")]
    OpenQuote,
    /// An option that sshd refuses.
    #[error("sshd doesn't accept the option `{0}`")]
    Option(String),
    /// A certificate: sshd accepts these from the client, never from a file.
    #[error("{0} is a certificate; authorize the key of its CA instead: cert-authority ssh-ed25519 AAAA...")]
    Certificate(String),
    /// An unsupported key type.
    #[error("sshd doesn't accept keys of the type {0}")]
    Kind(String),
    /// An RSA key that is too short to be secure.
    #[error("an RSA key of {0} bits is too short; sshd requires 1024 or more")]
    ShortRsa(usize),
    /// The base64 data isn't a key of that type.
    #[error("the key is damaged: {0}")]
    Damaged(String),
}

/// The key types that sshd accepts for user authentication.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];
/// Options without a value; most can be negated (`no-pty`).
const FLAGS: [&str; 9] = [
    "restrict",
    "cert-authority",
    "port-forwarding",
    "agent-forwarding",
    "x11-forwarding",
    "touch-required",
    "verify-required",
    "pty",
    "user-rc",
];
/// Options with a value in quotes.
const VALUES: [&str; 8] =
    ["command", "principals", "from", "expiry-time", "environment", "permitopen", "permitlisten", "tunnel"];
const SHORTEST_RSA: usize = 1024;

impl AuthorizedKey {
    /// Reads one line. A line that contains control characters is rejected: they have no legitimate use in a key. If
    /// only the comment is not UTF-8, the key is kept and the comment is dropped.
    pub fn parse(line: &str) -> Result<Self, AuthorizedKeyError> {
        let line = line.trim();
        if line.contains("PRIVATE KEY") {
            return Err(AuthorizedKeyError::Private);
        }
        if !line.chars().all(|c| c == '\t' || is_printable(c)) {
            return Err(AuthorizedKeyError::Control);
        }
        let (options, key) = if is_kind(word(line).0) { (None, line) } else { split_options(line)? };
        let (kind, rest) = word(key);
        let (body, comment) = word(rest);
        if kind.is_empty() || (options.is_some() && !is_kind(kind)) || !is_base64(body) {
            return Err(AuthorizedKeyError::NoKey);
        }
        if let Some(options) = options {
            check_options(options)?;
        }
        check_key(kind, body)?;
        let comment = comment.trim().replace('\t', " ");
        let comment = Some(comment).filter(|text| !text.is_empty() && !text.contains('\u{fffd}'));
        Ok(Self {
            options: options.map(str::to_owned),
            kind: kind.to_owned(),
            body: body.to_owned(),
            comment,
        })
    }
}

/// The normalized line, with single spaces.
impl fmt::Display for AuthorizedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(options) = &self.options {
            write!(f, "{options} ")?;
        }
        write!(f, "{} {}", self.kind, self.body)?;
        self.comment.iter().try_for_each(|comment| write!(f, " {comment}"))
    }
}

/// The result of parsing a list of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyList {
    /// The keys that sshd accepts, in order.
    pub keys: Vec<AuthorizedKey>,
    /// The lines that it would skip, with their numbers from 1.
    pub skipped: Vec<(usize, AuthorizedKeyError)>,
}

/// Parses keys, one per line; blank lines and comments are ignored. An invalid line doesn't affect the others.
pub fn parse_list(text: &str) -> KeyList {
    let mut list = KeyList::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        match AuthorizedKey::parse(line) {
            Ok(key) => list.keys.push(key),
            Err(error) => list.skipped.push((index + 1, error)),
        }
    }
    list
}

/// The first word, and the rest.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start_matches([' ', '\t']))
}

/// Whether a word is a key type, supported or not, rather than an option.
fn is_kind(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"].iter().any(|start| word.starts_with(start))
}

fn is_base64(body: &str) -> bool {
    !body.is_empty() && body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
}

/// Splits at the first blank outside quotes, where options end; `\"` doesn't end a quote.
fn split_options(line: &str) -> Result<(Option<&str>, &str), AuthorizedKeyError> {
    let mut quoted = false;
    let mut characters = line.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' if characters.next_if(|(_, next)| *next == '"').is_some() => {}
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => return Ok((Some(&line[..at]), &line[at..])),
            _ => {}
        }
    }
    Err(if quoted { AuthorizedKeyError::OpenQuote } else { AuthorizedKeyError::NoKey })
}

/// Checks that sshd knows each option: it skips the whole line for an unknown one.
fn check_options(options: &str) -> Result<(), AuthorizedKeyError> {
    split_at_commas(options).into_iter().try_for_each(|option| {
        let is_known = match option.split_once('=') {
            Some((name, value)) => VALUES.contains(&name.to_ascii_lowercase().as_str()) && is_quoted(value),
            None => {
                let flag = option.to_ascii_lowercase();
                FLAGS.contains(&flag.strip_prefix("no-").unwrap_or(&flag))
                    && !matches!(flag.as_str(), "no-restrict" | "no-cert-authority")
            }
        };
        if is_known { Ok(()) } else { Err(AuthorizedKeyError::Option(option.to_owned())) }
    })
}

fn split_at_commas(options: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut quoted) = (Vec::new(), 0, false);
    let bytes = options.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' if at == 0 || bytes[at - 1] != b'\\' => quoted = !quoted,
            b',' if !quoted => {
                parts.push(&options[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&options[begin..]);
    parts
}

/// Whether the value is a single quoted string.
fn is_quoted(value: &str) -> bool {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return false };
    !inner.ends_with('\\') && !inner.replace("\\\"", "").contains('"')
}

fn check_key(kind: &str, body: &str) -> Result<(), AuthorizedKeyError> {
    if kind.contains("-cert-v0") {
        return Err(AuthorizedKeyError::Certificate(kind.to_owned()));
    }
    if !KINDS.contains(&kind) {
        return Err(AuthorizedKeyError::Kind(kind.to_owned()));
    }
    let damaged = |error: ssh_key::Error| AuthorizedKeyError::Damaged(error.to_string());
    let key = ssh_key::PublicKey::from_openssh(&format!("{kind} {body}")).map_err(damaged)?;
    match key.key_data() {
        KeyData::Rsa(rsa) => match rsa.n.as_positive_bytes().map_or(0, bits) {
            length if length < SHORTEST_RSA => Err(AuthorizedKeyError::ShortRsa(length)),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The number of bits of a big-endian number.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number[zeros..].first().map_or(0, |first| (number.len() - zeros) * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakY0xYcs0pqkq7OC8hVTCKu5UGvyZdwRPBMqtDbTmE";
    /// Generated by ssh-keygen, or, for the keys on tokens, assembled from such a key.
    const OTHERS: [&str; 6] = [
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDvMtB7i9kAzo0jWeRQinX7wt79ffughp6w836BtXxsQIL9zYCBNNNWO/zqiZYPAt9PIMqCs/XHEbn+FE5Ws4wakyUaq/2Zu74O+4T8mrPKHKQQ7GWIYg1MebDQYPOQz3MEmqP3KTvY4iT9OJ6c40fijQaUoTr7Q1l4rVSRBBTMUPvWDnUuLDIgO3mdOOJ9vDdLEwsdYH2Jz+h/Io1i5ZJVC971PdTC/Mx4fyf7UOFliF/j6LM7F0ftVJ3nxPxu9eUdmWZtbM54/HaNYl0vGHOb+fvYVKbK7tMQ46UC7Lwza1POWJzXn83el9C+fP4nV99AGZEPYjx25A6zo5neMx0P",
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBJjIbPXGA/ipkuSzr+g8BmHJnZRtksLMSjl4lAE1yAB2XmxYhzSZZ6We8IhcXZniZsNGMfXGXUAojvN3WPAb+B4=",
        "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBPgSqKT5tBjR/XZtTos71EpU/PyDg30S208/TZaREf7ABkhjjugmfx6Ou+4ObQKpXaPlRt7vEobSP+9r3A1od11mwW2DdXNPZyxeBlcidLijSP6sztOhJr8bmMO/dS1BsQ==",
        "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAHxRpu5Z6uMMPz9LGXdyVwDe6vLZUCnES4PD1EB4KR+tr/EhVTMod27M7NFqWFzAlaK2Q+7pN/SMyxDe1QVts51FgAbZm61de46WzRHgQrtMtNyivIWarhSIZ09+X6tW6Rf25aYOCG74nZ9sXVJuggJwWKVbcpj1PYuiQMOeU672l/mCg==",
        "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIFakY0xYcs0pqkq7OC8hVTCKu5UGvyZdwRPBMqtDbTmEAAAABHNzaDo=",
        "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBBJseW14UC+zof/fTKs+W3US3LQPTpTvF9WQrPcfSlLDyiEBAUuRss19Sy9xM7fu+vEBh+lKfXtNhOvI9JQXP8/4AAAAEc3NoOg==",
    ];

    const SHORT_RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAYQCbgQ52bsnShmPKgo3V9LOy5LBs5gdBx6h85CyCGAcujDW/mS3J6cYWYS52lqbOzBt45RBhcxHYo8LOb0R+1NV7Hi/riUFMNDwQJ8TRw4a7xM1hPjDY8WrfkbdYSiJlsfU=";

    #[test]
    fn every_key_type_that_sshd_supports_is_accepted() {
        for line in OTHERS.into_iter().chain([ED25519]) {
            let key = AuthorizedKey::parse(&format!("{line} ann@laptop")).unwrap();
            assert_eq!(key.to_string(), format!("{line} ann@laptop"));
        }
    }

    #[test]
    fn key_options_may_contain_blanks_and_escaped_quotes() {
        for options in [
            "no-pty",
            "restrict,pty,No-Port-Forwarding",
            r#"from="192.0.2.0/24,!198.51.100.1",no-pty"#,
            r#"command="echo \"hello, world\" ssh-rsa AAAA",restrict"#,
            r#"cert-authority,principals="ann,bob""#,
            r#"environment="A=b",expiry-time="20300101",tunnel="0",permitopen="*:80",permitlisten="80""#,
        ] {
            let key = AuthorizedKey::parse(&format!("  {options} \t{ED25519}\tann smith ")).unwrap();
            assert_eq!(key.options.as_deref(), Some(options));
            assert_eq!(key.to_string(), format!("{options} {ED25519} ann smith"));
        }
    }

    #[test]
    fn lines_that_sshd_would_skip_are_refused_with_the_reason() {
        let ecdsa = OTHERS[1];
        let cut = &ED25519[..ED25519.len() - 8];
        for (line, reason) in [
            ("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(), "this is a private key"),
            ("<html>please log in</html>".to_owned(), "not a public SSH key"),
            ("ssh-ed25519".to_owned(), "not a public SSH key"),
            ("no-pty".to_owned(), "not a public SSH key"),
            (format!("command=\"ls {ED25519}"), "quote in its options is not closed"),
            (format!("frm=\"*\" {ED25519}"), "the option `frm=\"*\"`"),
            (format!("from=* {ED25519}"), "the option `from=*`"),
            (format!("no-restrict {ED25519}"), "the option `no-restrict`"),
            (format!("no-pty, {ED25519}"), "the option ``"),
            (format!("command=\"a\u{1b}[2Jb\" {ED25519}"), "control characters"),
            (cut.to_owned(), "the key is damaged"),
            (format!("{ED25519}AAAA"), "the key is damaged"),
            (ecdsa.replacen("nistp256", "nistp384", 1), "the key is damaged"),
            (ED25519.replacen("ssh-ed25519", "ssh-rsa", 1), "the key is damaged"),
            (format!("ssh-dss {}", &ED25519[12..]), "keys of the type ssh-dss"),
            (
                ED25519.replacen("ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com", 1),
                "is a certificate; authorize the key of its CA",
            ),
            (SHORT_RSA.to_owned(), "an RSA key of 768 bits"),
        ] {
            let error = AuthorizedKey::parse(&line).unwrap_err().to_string();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    #[test]
    fn control_characters_are_refused_and_wrongly_encoded_comments_dropped() {
        for comment in ["ann\u{1b}]0;x\u{7}", "ann\u{9b}31m", "ann\u{202e}", "ann\rroot", "ann\u{200b}"] {
            let refused = AuthorizedKey::parse(&format!("{ED25519} {comment}"));
            assert_eq!(refused, Err(AuthorizedKeyError::Control), "{comment:?}");
        }
        assert_eq!(AuthorizedKey::parse(&format!("{ED25519} jos\u{fffd}")).unwrap().to_string(), ED25519);
        let spaced = AuthorizedKey::parse(&format!("{ED25519} a\tb")).unwrap();
        assert_eq!(spaced.to_string(), format!("{ED25519} a b"));
    }

    #[test]
    fn a_bad_line_is_skipped_without_affecting_others() {
        let text = format!("\u{feff}# mine\r\n\r\n{ED25519} a\r\nssh-dss AAAA\r\n {ED25519} b\r\n");
        let list = parse_list(&text);
        let keys: Vec<_> = list.keys.iter().map(ToString::to_string).collect();
        assert_eq!(keys, [format!("{ED25519} a"), format!("{ED25519} b")]);
        assert_eq!(list.skipped, [(4, AuthorizedKeyError::Kind("ssh-dss".to_owned()))]);
    }
}
