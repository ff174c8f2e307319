//! Which back end keeps the records: what the settings say, or an address on the command line.

mod address;
mod bucket;
mod form;

use std::path::{Path, PathBuf};

use goloo_core::finding::Finding;
use goloo_core::store::Store;
use goloo_store::{DirStore, Options, Seal, SqliteStore, WaitNotice};

pub use bucket::{ObjectPlace, Service};
pub use form::StateBackend;

use crate::error::CliError;
use crate::paths::Paths;

/// The SQLite file's name in the state folder.
const DATABASE: &str = "goloo.db";

/// A place for records, not opened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A folder; `None` is the state folder.
    Dir(Option<PathBuf>),
    /// A SQLite file; `None` is `goloo.db` in the state folder.
    Sqlite(Option<PathBuf>),
    /// A bucket.
    Object(ObjectPlace),
}

impl Backend {
    /// The same place by its path, whatever the settings say of the state folder.
    pub fn with_paths(self, paths: &Paths) -> Self {
        match self {
            Self::Dir(None) => Self::Dir(Some(paths.state.clone())),
            Self::Sqlite(None) => Self::Sqlite(Some(paths.state.join(DATABASE))),
            other => other,
        }
    }

    /// Whether it lies in the state folder, where nobody but this user writes.
    pub fn is_in(&self, paths: &Paths) -> bool {
        match self {
            Self::Dir(None) | Self::Sqlite(None) => true,
            Self::Dir(Some(path)) => *path == paths.state,
            Self::Sqlite(Some(file)) => file.parent() == Some(&paths.state),
            Self::Object(_) => false,
        }
    }

    /// Where a bucket's service is, when it isn't the usual place.
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::Object(place) => place.endpoint.as_deref(),
            Self::Dir(_) | Self::Sqlite(_) => None,
        }
    }

    /// What kind of place it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dir(_) => "dir",
            Self::Sqlite(_) => "sqlite",
            Self::Object(place) => place.service.as_str(),
        }
    }

    /// The files and folders on this computer that are all of it; none where it lies elsewhere.
    pub fn files(&self, paths: &Paths) -> Vec<PathBuf> {
        match self {
            Self::Dir(path) => {
                let root = path.as_ref().unwrap_or(&paths.state);
                vec![root.join("active"), root.join("archive")]
            }
            Self::Sqlite(path) => {
                let file = path.clone().unwrap_or_else(|| paths.state.join(DATABASE));
                let beside = |ending: &str| PathBuf::from(format!("{}{ending}", file.display()));
                vec![beside(""), beside("-wal"), beside("-shm")]
            }
            Self::Object(_) => Vec::new(),
        }
    }

    /// Opens it. Nothing is touched until something is read or written.
    /// `on_wait` is told when another process keeps it waiting.
    pub fn open(&self, paths: &Paths, seal: Seal, on_wait: WaitNotice) -> Result<Box<dyn Store>, CliError> {
        match self {
            Self::Dir(path) => {
                let folder = path.as_ref().unwrap_or(&paths.state);
                Ok(Box::new(DirStore::open(folder, options(seal, on_wait))))
            }
            Self::Sqlite(path) => Ok(Box::new(sqlite(path.as_deref(), paths, seal, on_wait))),
            Self::Object(place) => Ok(Box::new(place.open(seal)?)),
        }
    }

    /// What is to be said of it beyond its records, for `goloo doctor`.
    pub async fn examine(&self, paths: &Paths, seal: Seal) -> Result<Vec<Finding>, CliError> {
        match self {
            Self::Dir(None) => Ok(Vec::new()),
            Self::Dir(Some(folder)) => {
                Ok(vec![Finding::sound(format!("records are kept in {}", folder.display()))])
            }
            Self::Sqlite(path) => Ok(sqlite(path.as_deref(), paths, seal, WaitNotice::default()).examine()),
            Self::Object(place) => place.examine(seal).await,
        }
    }
}

fn sqlite(file: Option<&Path>, paths: &Paths, seal: Seal, on_wait: WaitNotice) -> SqliteStore {
    let file = file.map_or_else(|| paths.state.join(DATABASE), Path::to_owned);
    SqliteStore::open(&file, options(seal, on_wait))
}

fn options(seal: Seal, on_wait: WaitNotice) -> Options {
    let allow_network = std::env::var_os("GOLOO_ALLOW_NETWORK_FS").is_some_and(|value| value == "1");
    Options { allow_network, seal, on_wait, ..Options::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use form::AddressingStyle;
    use proptest::prelude::*;

    fn backends() -> impl Strategy<Value = Backend> {
        let word = || "[a-z0-9]{3,12}";
        let url = || {
            prop::option::of(
                "https?://[a-z][a-z0-9-]{0,6}([.][a-z]{2})?(:[1-9][0-9]{0,3})?(/[a-z0-9;+&=%]{1,6})?",
            )
        };
        let path = || prop::option::of("/[a-z0-9 ?&=%#:]{1,12}".prop_map(PathBuf::from));
        let option = || prop::option::of("[a-zA-Z0-9_-]{3,12}");
        let prefix = || "([a-z &='!%+;-]{1,6}(/[a-z &='!%+;-]{1,6})?)?";
        let style =
            || prop::option::of(prop_oneof![Just(AddressingStyle::Path), Just(AddressingStyle::Virtual)]);
        let object = (word(), prefix(), option(), url(), style(), option(), word(), 0..3usize).prop_map(
            |(bucket, prefix, region, endpoint, style, lock_table, account, which)| {
                let service = [Service::S3, Service::Gcs, Service::Azure][which];
                let (s3, azure) = (service == Service::S3, service == Service::Azure);
                Backend::Object(ObjectPlace {
                    service,
                    bucket,
                    prefix,
                    region: region.filter(|_| s3),
                    endpoint,
                    addressing_style: style.filter(|_| s3),
                    lock_table: lock_table.filter(|_| s3),
                    account: azure.then_some(account),
                })
            },
        );
        prop_oneof![path().prop_map(Backend::Dir), path().prop_map(Backend::Sqlite), object]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_address_is_read_back_as_it_was_written(backend in backends()) {
            prop_assert_eq!(Backend::parse(&backend.to_string()).unwrap(), backend);
        }

        #[test]
        fn the_settings_form_is_read_back_as_it_was_written(backend in backends()) {
            let form = StateBackend::from(&backend);
            prop_assert_eq!(form.problems(), vec![]);
            let json = serde_json::to_string(&form).unwrap();
            let form: StateBackend = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(form.backend(Path::new("/home/ann")), backend);
        }
    }

    #[test]
    fn an_address_reads_as_a_person_would_write_it() {
        let place =
            "s3://team-state/goloo/a%20b?region=eu-central-1&endpoint=http://127.0.0.1:9000&lockTable=locks";
        let backend = Backend::parse(place).unwrap();
        assert_eq!(backend.to_string(), place);
        let Backend::Object(object) = backend else { panic!("no bucket") };
        assert_eq!((object.bucket.as_str(), object.prefix.as_str()), ("team-state", "goloo/a b"));
        let azure = Backend::parse("az://state/?account=ann").unwrap();
        assert_eq!(azure.to_string(), "az://state?account=ann");
    }

    #[test]
    fn relative_paths_count_from_where_the_process_is() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(Backend::parse("dir:vms").unwrap(), Backend::Dir(Some(here.join("vms"))));
        assert_eq!(Backend::parse("sqlite:a/b.db").unwrap(), Backend::Sqlite(Some(here.join("a/b.db"))));
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for odd in [
            "",
            "dir:",
            "sqlite:",
            "file.db",
            "ftp://x",
            "s3:",
            "s3:x",
            "s3://",
            "s3:///prefix",
            "az://state",
            "gs://team?region=x",
            "s3://team?region",
            "s3://team?colour=red",
            "s3://team?region=a&region=b",
            "s3://team/%ff",
            "s3://team?region=eu west",
            "s3://team?endpoint=127.0.0.1%3A9103",
            "s3://te",
            "s3://team/a~b",
            "s3://team?addressingStyle=dns",
            "s3://team?addressingStyle=path&addressingStyle=path",
            "s3://team?lockTable=a%20b",
            "az://State?account=ann",
            "az://state?account=Ann",
        ] {
            let error = Backend::parse(odd).unwrap_err();
            assert_eq!(error.code, crate::exit::USAGE, "{odd}");
            assert!(error.hint.starts_with("write it like"), "{odd}: {}", error.hint);
        }
    }
}
