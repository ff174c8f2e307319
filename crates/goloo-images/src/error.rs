//! Why there is no image, and what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_model::hint::{Hint, NextStep};
use goloo_model::redirect::RedirectError;
use goloo_model::spec::nearest;
use goloo_sys::tls::NoRoots;

use crate::alias;
use crate::header::ImageRefusal;

/// The largest image that is accepted, in bytes: a server must not fill the disk, and a sparse file can have any
/// length.
pub(crate) const IMAGE_MAX: u64 = 64 << 30;

pub(crate) fn too_large(what: &str) -> ImageError {
    let reason = format!("it is larger than {} GiB", IMAGE_MAX >> 30);
    ImageError::Unusable { what: what.to_owned(), reason }
}

/// Why an image is unavailable.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The name is unknown.
    #[error("unknown image \"{name}\"")]
    UnknownAlias {
        /// The name.
        name: String,
    },
    /// The publisher's image can't be obtained.
    #[error("the image {name} can't be downloaded")]
    NotToBeHad {
        /// The image's canonical name.
        name: String,
        /// Why.
        #[source]
        source: Box<ImageError>,
    },
    /// The connection couldn't be established or was lost.
    #[error("downloading {url} failed: {reason}")]
    Download {
        /// The address.
        url: String,
        /// The underlying error.
        reason: String,
    },
    /// No server can be trusted.
    #[error(transparent)]
    NoRoots(#[from] NoRoots),
    /// The server responded, but doesn't have the file.
    #[error("{url} returned status {status}")]
    Status {
        /// The address.
        url: String,
        /// The HTTP status code.
        status: u16,
    },
    /// The address isn't one goloo downloads from.
    #[error("{url} isn't an https address")]
    Insecure {
        /// The address.
        url: String,
    },
    /// The server redirects to an address goloo doesn't follow.
    #[error("{url} can't be downloaded: {source}")]
    Redirect {
        /// The requested address.
        url: String,
        /// Why.
        source: RedirectError,
    },
    /// The publisher's list has no entry for the image.
    #[error("the checksum list {url} has no digest for {file}")]
    NotListed {
        /// The list's address.
        url: String,
        /// The image's file name.
        file: String,
    },
    /// The content doesn't match the published digest.
    #[error("{what} has the digest {found}, not {expected}")]
    Digest {
        /// Address or path.
        what: String,
        /// The expected digest.
        expected: String,
        /// The actual digest.
        found: String,
    },
    /// The user's image file doesn't exist or can't be read.
    #[error("the image {} can't be read: {source}", path.display())]
    Source {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// goloo can't start machines from the image.
    #[error("{what} can't be used: {reason}")]
    Unusable {
        /// Address or path.
        what: String,
        /// Why.
        reason: String,
    },
    /// The header check refused the image file.
    #[error("{what} can't be used: {refusal}")]
    Refused {
        /// Address or path.
        what: String,
        /// Why.
        refusal: ImageRefusal,
    },
    /// The cache itself can't be accessed.
    #[error("can't access the image cache at {}: {source}", path.display())]
    Cache {
        /// The file that failed.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another goloo process holds a resource that is needed.
    #[error("{what}")]
    Busy {
        /// What is in use.
        what: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// No image of this name is in the cache.
    #[error("there is no image \"{name}\" in the cache")]
    NotCached {
        /// The name.
        name: String,
        /// The names of those that are there.
        known: Vec<String>,
    },
    /// A machine's disk depends on the image.
    #[error("the image \"{name}\" is in use{}", machine.as_ref().map_or_else(String::new, |folder| format!(" by the machine in {}", folder.display())))]
    InUse {
        /// The image.
        name: String,
        /// The machine's folder, if it is known.
        machine: Option<PathBuf>,
    },
    /// Required programs aren't installed.
    #[error("these programs are missing: {}", programs.join(", "))]
    Tools {
        /// Their names.
        programs: Vec<String>,
        /// The Debian packages that provide them.
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
        hint: Hint,
    },
    /// The image was built, but the user whose cache it is for can't import it.
    #[error("the image can't be written to {} as user {uid}: {message}", folder.display())]
    Handover {
        /// The cache.
        folder: PathBuf,
        /// The user.
        uid: u32,
        /// Why.
        message: String,
        /// What to do.
        hint: Hint,
    },
    /// The cache root works in is accessible to other users.
    #[error(transparent)]
    Exposed(#[from] goloo_sys::private::Exposed),
    /// The system can't start a program or a thread.
    #[error("{program} can't be started: {source}")]
    CannotRun {
        /// Its name.
        program: String,
        /// The system's error.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed ({status}): {message}")]
    Program {
        /// Its name.
        program: String,
        /// Its exit status.
        status: String,
        /// The end of what it said.
        message: String,
    },
    /// Interrupted by the user.
    #[error("interrupted")]
    Stopped,
}

impl ImageError {
    /// What to do.
    pub fn hint(&self) -> Hint {
        let words = match self {
            Self::UnknownAlias { .. } => {
                let known: Vec<_> = alias::names().collect();
                format!("use one of {}, a path, or an https address", known.join(", "))
            }
            Self::NotToBeHad { name, source } if name.starts_with("debian-") => {
                return source
                    .hint()
                    .text("; if it can't be reached, build the image: ")
                    .step(NextStep::ImageBuild(name.clone()));
            }
            Self::NotToBeHad { source, .. } => {
                return source.hint().text(
                    "; if it can't be reached, download the image elsewhere and write its path as vm.image",
                );
            }
            Self::Download { .. } | Self::Status { .. } => {
                "check the network, the proxy (HTTPS_PROXY) or the mirror (GOLOO_IMAGE_MIRROR), then try again; the \
                 download continues where it stopped"
                    .to_owned()
            }
            Self::NoRoots(error) => error.hint().to_owned(),
            Self::Insecure { .. } => "write an https address, or a path".to_owned(),
            Self::Redirect { .. } => "use the publisher's current address, or another mirror \
                                      (GOLOO_IMAGE_MIRROR)"
                .to_owned(),
            Self::NotListed { .. } => "try again later: the publisher may be updating it".to_owned(),
            Self::Digest { .. } => {
                "try again later; if the digest still doesn't match, don't trust that source (the download was discarded)".to_owned()
            }
            Self::Source { .. } => "check vm.image in config.json".to_owned(),
            Self::Unusable { .. } => "use a qcow2 or raw image without a backing file; `qemu-img convert -O qcow2 IN \
                                      OUT` makes one"
                .to_owned(),
            Self::Refused { refusal, .. } => refusal.hint(),
            Self::Cache { path, .. } => format!(
                "check the free disk space and the permissions of {}, or set GOLOO_CACHE_DIR to another folder",
                path.parent().unwrap_or(path).display()
            ),
            Self::Busy { .. } => "wait until the other goloo process has finished, then try again".to_owned(),
            Self::NotCached { name, known } => match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("the nearest name is \"{near}\""),
                None if known.is_empty() => "the cache is empty".to_owned(),
                None => format!("name one of {}", known.join(", ")),
            },
            Self::InUse { .. } => "delete the VM first".to_owned(),
            Self::Tools { packages, .. } => {
                format!("sudo apt-get install --no-install-recommends {}", packages.join(" "))
            }
            Self::NotBuildable { hint, .. } | Self::Handover { hint, .. } => return hint.clone(),
            Self::Exposed(exposed) => exposed.hint(),
            Self::CannotRun { program, source } => goloo_command::shortage_hint(source)
                .map_or_else(|| format!("check the installation of {program}"), str::to_owned),
            Self::Program { .. } => "fix the problem that it reported, then try again".to_owned(),
            Self::Stopped => "run the same command again to continue".to_owned(),
        };
        words.into()
    }
}

/// The error of a file operation in the cache.
pub(crate) fn fails_at(path: &Path) -> impl Fn(io::Error) -> ImageError + use<> {
    let path = path.to_owned();
    move |source| ImageError::Cache { path: path.clone(), source }
}
