//! Which back end keeps the records: what the settings say, or an address on the command line.

use std::fmt;
use std::path::PathBuf;

use goloo_core::store::Store;
use goloo_store::DirStore;

use crate::error::CliError;
use crate::paths::Paths;

/// A place for records, not opened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A folder; `None` is the state folder.
    Dir(Option<PathBuf>),
}

impl Backend {
    /// Reads an address: `dir`, `dir:PATH`.
    pub fn parse(address: &str) -> Result<Self, CliError> {
        match address.split_once(':') {
            None if address == "dir" => Ok(Self::Dir(None)),
            // Kept in settings and marks, which are read from other folders.
            Some(("dir", path)) if !path.is_empty() => {
                Ok(Self::Dir(Some(std::path::absolute(path).unwrap_or_else(|_| path.into()))))
            }
            _ => Err(CliError::usage(
                format!("\"{address}\" is no place for records"),
                "write it like dir:PATH",
            )),
        }
    }

    /// What kind of place it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dir(_) => "dir",
        }
    }

    /// The files and folders on this computer that are all of it; none where it lies elsewhere.
    pub fn files(&self, paths: &Paths) -> Vec<PathBuf> {
        match self {
            Self::Dir(path) => {
                let root = path.as_ref().unwrap_or(&paths.state);
                vec![root.join("active"), root.join("archive")]
            }
        }
    }

    /// Opens it. Nothing is touched until something is read or written.
    pub fn open(&self, paths: &Paths) -> Result<Box<dyn Store>, CliError> {
        match self {
            Self::Dir(path) => Ok(Box::new(open_dir(path.as_ref().unwrap_or(&paths.state)))),
        }
    }
}

impl fmt::Display for Backend {
    /// The address that [`Backend::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(None) => f.write_str("dir"),
            Self::Dir(Some(path)) => write!(f, "dir:{}", path.display()),
        }
    }
}

fn open_dir(folder: &std::path::Path) -> DirStore {
    let allow_network = std::env::var_os("GOLOO_ALLOW_NETWORK_FS").is_some_and(|value| value == "1");
    DirStore::open(folder, goloo_store::Options { allow_network })
}
