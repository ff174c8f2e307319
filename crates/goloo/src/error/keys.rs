//! Keys of a stack's users that are unavailable.

use goloo_sys::tls::NoRoots;
use std::path::PathBuf;

use goloo_model::authorized_key::AuthorizedKeyError;

/// The most lines of a list, and the most keys of a user, from all sources.
pub(crate) const KEYS_MAX: usize = 256;
/// The largest total size of a stack's key files, in bytes; a file that is listed twice counts twice.
pub(crate) const FILES_MAX: u64 = 16 << 20;

/// Why the keys of a stack's users are unavailable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A user has more keys than any user needs.
    #[error("the user \"{username}\" has more than {KEYS_MAX} keys")]
    TooMany {
        /// The user.
        username: String,
    },
    /// A stack's key files are too large in total.
    #[error("the key files of the stack are larger than {} MiB in total", FILES_MAX >> 20)]
    FilesTooLarge,
    /// A key file has no line that sshd accepts.
    #[error("{} has no public SSH key", path.display())]
    NoKeyInFile {
        /// The file.
        path: PathBuf,
        /// Its first lines, by number, and what is wrong with each.
        skipped: Vec<(usize, AuthorizedKeyError)>,
    },
    /// `GOLOO_GITHUB_URL` names an insecure address.
    #[error(
        "GOLOO_GITHUB_URL is {url}, which is insecure: goloo fetches keys only over https, or from this machine"
    )]
    InsecureUrl {
        /// The address.
        url: String,
    },
    /// A name that no GitHub user can have.
    #[error("\"{user}\" is not a valid GitHub user name")]
    InvalidUser {
        /// The name.
        user: String,
    },
    /// GitHub doesn't know the user.
    #[error("GitHub has no user \"{user}\"")]
    NoSuchUser {
        /// The user.
        user: String,
    },
    /// The user has no keys at GitHub.
    #[error("the GitHub user \"{user}\" has no public keys")]
    NoKeys {
        /// The user.
        user: String,
    },
    /// The response isn't a list of keys.
    #[error("GitHub's list of keys for \"{user}\" is invalid")]
    Refused {
        /// The user.
        user: String,
        /// The address of the list.
        url: String,
        /// What is wrong with the response.
        source: AnswerError,
    },
    /// No server can be trusted to be GitHub.
    #[error(transparent)]
    NoRoots(#[from] NoRoots),
    /// There was no response, and none is cached.
    #[error("the keys of the GitHub user \"{user}\" can't be fetched")]
    Unfetched {
        /// The user.
        user: String,
        /// The error of the last attempt.
        source: AnswerError,
    },
}

impl KeysError {
    /// The stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooMany { .. }
            | Self::FilesTooLarge
            | Self::NoKeyInFile { .. }
            | Self::InsecureUrl { .. }
            | Self::InvalidUser { .. } => "usage",
            Self::NoSuchUser { .. } => "not-found",
            Self::NoKeys { .. } | Self::Refused { .. } | Self::NoRoots(_) | Self::Unfetched { .. } => {
                "failed"
            }
        }
    }
}

/// What was wrong with a response, or why there was none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AnswerError(pub(crate) String);
