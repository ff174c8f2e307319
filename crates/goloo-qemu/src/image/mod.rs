//! Base images: where they come from, and the cache that keeps them.

pub mod alias;
pub mod build;
pub mod cache;
pub mod digest;
pub mod download;
mod entry;
mod file;
pub mod header;
pub mod intake;
mod keep;
mod sources;
mod workshop;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use goloo_core::events::Event;
use goloo_core::redirect::RedirectError;

pub use cache::{Cache, CachedImage};
pub use entry::{Entry, Format, Origin};
pub use keep::{Freed, Listed, OutOfSight};

/// What long work on images tells, and asks now and then.
pub trait Watch {
    /// Takes one event.
    fn event(&self, event: Event);

    /// Whether the work is to end here.
    fn stopped(&self) -> bool;
}

/// Tells nobody, never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn event(&self, _: Event) {}

    fn stopped(&self) -> bool {
        false
    }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No such name.
    #[error("goloo knows no image \"{name}\"")]
    UnknownAlias {
        /// The name.
        name: String,
    },
    /// The image can't be had from its publisher.
    #[error("the image {name} can't be downloaded")]
    NotToBeHad {
        /// The image's canonical name.
        name: String,
        /// Why.
        #[source]
        source: Box<ImageError>,
    },
    /// The connection couldn't be made, or broke.
    #[error("downloading {url} failed: {reason}")]
    Download {
        /// The address.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// The server answers and hasn't got it.
    #[error("{url} answers with status {status}")]
    Status {
        /// The address.
        url: String,
        /// HTTP's number.
        status: u16,
    },
    /// The address isn't one that goloo downloads from.
    #[error("{url} isn't an https address")]
    Insecure {
        /// The address.
        url: String,
    },
    /// The server sends goloo to an address that isn't followed.
    #[error("{url} can't be downloaded: {source}")]
    Redirect {
        /// The address that was asked for.
        url: String,
        /// Why.
        source: RedirectError,
    },
    /// The publisher's list doesn't name the image.
    #[error("the list {url} has no digest of {file}")]
    NotListed {
        /// The list's address.
        url: String,
        /// The image's file name.
        file: String,
    },
    /// What came isn't what was published.
    #[error("{what} has the digest {found}, not {expected}")]
    Digest {
        /// Address or path.
        what: String,
        /// The digest that it must have.
        expected: String,
        /// The digest that it has.
        found: String,
    },
    /// The image file of the user isn't there or can't be read.
    #[error("the image {} can't be read: {source}", path.display())]
    Source {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An image that goloo doesn't start machines from.
    #[error("{what} can't be used: {reason}")]
    Unusable {
        /// Address or path.
        what: String,
        /// Why.
        reason: String,
    },
    /// An image file that is none of those that goloo starts machines from.
    #[error("{what} can't be used: {refusal}")]
    Refused {
        /// Address or path.
        what: String,
        /// Why.
        refusal: header::Refusal,
    },
    /// The cache itself fails.
    #[error("the image cache fails at {}: {source}", path.display())]
    Cache {
        /// The file at which it failed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another goloo uses what is needed.
    #[error("{what} for more than {} s", limit.as_secs())]
    Busy {
        /// What is in use.
        what: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Programs that aren't installed.
    #[error("these programs are missing: {}", programs.join(", "))]
    Tools {
        /// Their names.
        programs: Vec<String>,
        /// The Debian packages that have them.
        packages: Vec<String>,
    },
    /// This image can't be built on this machine.
    #[error("{name} can't be built here: {reason}")]
    NotBuildable {
        /// The image's name.
        name: String,
        /// Why.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The image is built, and the user whose cache it is for can't take it.
    #[error("the image can't be put into {} as user {uid}: {message}", folder.display())]
    Handover {
        /// The cache.
        folder: PathBuf,
        /// The user.
        uid: u32,
        /// Why.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The cache that root works in isn't root's alone.
    #[error(transparent)]
    Exposed(#[from] goloo_os::private::Exposed),
    /// The system doesn't start a program, or a thread of goloo's.
    #[error("{program} can't be started: {source}")]
    CannotRun {
        /// Its name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed ({status}): {message}")]
    Program {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        message: String,
    },
    /// Ended on request.
    #[error("interrupted")]
    Stopped,
}

impl ImageError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownAlias { .. } => {
                let known: Vec<_> = alias::names().collect();
                format!("known are {}; a path or an https address works too", known.join(", "))
            }
            Self::NotToBeHad { name, source } if name.starts_with("debian-") => format!(
                "{}; without a way to it, build the image: sudo -E goloo image build {name}",
                source.hint()
            ),
            Self::NotToBeHad { source, .. } => format!(
                "{}; without a way to it, download the image elsewhere and write its path as vm.image",
                source.hint()
            ),
            Self::Download { .. } | Self::Status { .. } => {
                "look at the network, a proxy (HTTPS_PROXY) or a mirror (GOLOO_IMAGE_MIRROR), then try again; a \
                 download goes on where it ended"
                    .to_owned()
            }
            Self::Insecure { .. } => "write an https address, or a path".to_owned(),
            Self::Redirect { .. } => "take the address that the publisher names now, or another mirror \
                                      (GOLOO_IMAGE_MIRROR)"
                .to_owned(),
            Self::NotListed { .. } => "the publisher may be renewing it: try again later".to_owned(),
            Self::Digest { .. } => {
                "nothing of it was kept; try again later, and if it stays so, don't trust that source".to_owned()
            }
            Self::Source { .. } => "look at vm.image in config.json".to_owned(),
            Self::Unusable { .. } => "give a qcow2 or raw image that stands alone; `qemu-img convert -O qcow2 IN \
                                      OUT` makes one"
                .to_owned(),
            Self::Refused { refusal, .. } => refusal.hint(),
            Self::Cache { path, .. } => format!(
                "look at the room and the permissions of {}, or set GOLOO_CACHE_DIR to another folder",
                path.parent().unwrap_or(path).display()
            ),
            Self::Busy { .. } => "let the other goloo finish, then try again".to_owned(),
            Self::Tools { packages, .. } => {
                format!("sudo apt-get install --no-install-recommends {}", packages.join(" "))
            }
            Self::NotBuildable { hint, .. } | Self::Handover { hint, .. } => hint.clone(),
            Self::Exposed(exposed) => exposed.hint(),
            Self::CannotRun { program, source } => goloo_command::shortage_hint(source)
                .map_or_else(|| format!("check the installation of {program}"), str::to_owned),
            Self::Program { .. } => "what it said tells what to mend; then try again".to_owned(),
            Self::Stopped => "run the same command again: it goes on where it ended".to_owned(),
        }
    }
}
