//! The backend that stores the records: from the settings, or from an address on the command line.

use std::path::{Path, PathBuf};

use goloo_model::check::Check;
use goloo_model::store::Store;
use goloo_store::{DirStore, Options, Seal, SqliteStore};
use goloo_sys::private::{self, Exposed};

use super::bucket::ObjectPlace;
use crate::error::Error;
use crate::paths::Paths;

/// The SQLite file's name in the state folder.
const DATABASE: &str = "goloo.db";

/// A place for records that is not opened yet.
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
    /// The same backend with its path filled in, independent of the state folder in the settings.
    pub fn with_paths(self, paths: &Paths) -> Self {
        match self {
            Self::Dir(None) => Self::Dir(Some(paths.state.clone())),
            Self::Sqlite(None) => Self::Sqlite(Some(paths.state.join(DATABASE))),
            other => other,
        }
    }

    /// Whether only this user writes there. A folder is checked when it is opened. A database counts only in the state
    /// folder and if the file itself is private, since it may be a link to a shared one.
    pub fn is_private(&self, paths: &Paths) -> bool {
        match self.clone().with_paths(paths) {
            Self::Dir(_) => true,
            Self::Sqlite(Some(file)) => file.parent() == Some(&paths.state) && private::check(&file).is_ok(),
            _ => false,
        }
    }

    /// Checks a folder like goloo's own ones: its files, including links, are trusted to be this user's. The state
    /// folder itself is checked by [`Paths::check_private`], and a database by the store.
    ///
    /// # Errors
    /// Names the first folder that isn't private, with the command that repairs it.
    fn check(&self, paths: &Paths) -> Result<(), Exposed> {
        let Self::Dir(Some(folder)) = self else { return Ok(()) };
        if *folder == paths.state {
            return Ok(());
        }
        private::check(folder)?;
        ["active", "archive", "locks"].iter().try_for_each(|name| private::check_within(&folder.join(name)))
    }

    /// The URL of a bucket's service, when it isn't the default.
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::Object(place) => place.endpoint.as_deref(),
            Self::Dir(_) | Self::Sqlite(_) => None,
        }
    }

    /// The kind of backend.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dir(_) => "dir",
            Self::Sqlite(_) => "sqlite",
            Self::Object(place) => place.service.as_str(),
        }
    }

    /// The files and folders on this computer that contain the store; empty when it isn't local.
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

    /// Opens it. Nothing is accessed until something is read or written.
    ///
    /// # Errors
    /// When others can change the folder or a bucket's settings are incomplete, and [`StoreError::NotInBuild`](goloo_model::store::StoreError::NotInBuild).
    pub fn open(&self, paths: &Paths, options: Options) -> Result<Box<dyn Store>, Error> {
        self.check(paths)?;
        self.open_unchecked(paths, options)
    }

    /// Like [`Self::open`], but without the privacy check, for a command that reads and writes no record.
    ///
    /// # Errors
    /// When a bucket's settings are incomplete, and [`StoreError::NotInBuild`](goloo_model::store::StoreError::NotInBuild).
    pub fn open_unchecked(&self, paths: &Paths, options: Options) -> Result<Box<dyn Store>, Error> {
        match self {
            Self::Dir(path) => {
                let folder = path.as_ref().unwrap_or(&paths.state);
                Ok(Box::new(DirStore::open(folder, on_this_host(options))))
            }
            Self::Sqlite(path) => Ok(Box::new(sqlite(path.as_deref(), paths, options))),
            Self::Object(place) => Ok(Box::new(place.open(options.seal)?)),
        }
    }

    /// Checks more than its records, for diagnosis.
    ///
    /// # Errors
    /// As [`Self::open_unchecked`].
    pub async fn examine(&self, paths: &Paths, seal: Seal) -> Result<Vec<Check>, Error> {
        match self {
            Self::Dir(None) => Ok(Vec::new()),
            Self::Dir(Some(folder)) => {
                Ok(vec![Check::ok(format!("records are stored in {}", folder.display()))])
            }
            Self::Sqlite(path) => {
                Ok(sqlite(path.as_deref(), paths, Options { seal, ..Options::default() }).examine())
            }
            Self::Object(place) => place.examine(seal).await,
        }
    }
}

fn sqlite(file: Option<&Path>, paths: &Paths, options: Options) -> SqliteStore {
    let file = file.map_or_else(|| paths.state.join(DATABASE), Path::to_owned);
    SqliteStore::open(&file, on_this_host(options))
}

/// What the environment of this computer decides.
fn on_this_host(options: Options) -> Options {
    let allow_network = std::env::var_os("GOLOO_ALLOW_NETWORK_FS").is_some_and(|value| value == "1");
    Options { allow_network, ..options }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::backend::form::StateBackend;
    use crate::backend::service::{AddressingStyle, Service};
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
        fn an_address_survives_a_round_trip(backend in backends()) {
            prop_assert_eq!(Backend::parse(&backend.to_string()).unwrap(), backend);
        }

        #[test]
        fn the_settings_form_survives_a_round_trip(backend in backends()) {
            let form = StateBackend::from(&backend);
            prop_assert_eq!(form.problems(), vec![]);
            let json = serde_json::to_string(&form).unwrap();
            let form: StateBackend = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(form.backend(Path::new("/home/ann")), backend);
        }
    }

    #[test]
    fn a_database_in_the_state_folder_is_private_unless_linked_to_a_shared_one() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (state, shared) = (folder.path().join("state"), folder.path().join("shared"));
        let paths = Paths { state: state.clone(), config: "/".into(), cache: "/".into(), home: "/".into() };
        private::create_folders(&state).unwrap();
        private::create_folders(&shared).unwrap();
        assert!(Backend::Sqlite(None).is_private(&paths) && Backend::Dir(None).is_private(&paths));
        assert!(!Backend::Sqlite(Some(shared.join("goloo.db"))).is_private(&paths));
        std::fs::write(shared.join("goloo.db"), "").unwrap();
        symlink(shared.join("goloo.db"), state.join(DATABASE)).unwrap();
        assert!(Backend::Sqlite(None).is_private(&paths));
        std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(!Backend::Sqlite(None).is_private(&paths));
    }

    #[test]
    fn an_address_is_displayed_without_unneeded_escapes() {
        let place =
            "s3://team-state/goloo/a%20b?region=eu-central-1&endpoint=http://127.0.0.1:9000&lockTable=locks";
        let backend = Backend::parse(place).unwrap();
        assert_eq!(backend.to_string(), place);
        let Backend::Object(object) = backend else { panic!("not a bucket") };
        assert_eq!((object.bucket.as_str(), object.prefix.as_str()), ("team-state", "goloo/a b"));
        let azure = Backend::parse("az://state/?account=ann").unwrap();
        assert_eq!(azure.to_string(), "az://state?account=ann");
    }

    #[test]
    fn relative_paths_are_resolved_against_the_current_folder() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(Backend::parse("dir:vms").unwrap(), Backend::Dir(Some(here.join("vms"))));
        assert_eq!(Backend::parse("sqlite:a/b.db").unwrap(), Backend::Sqlite(Some(here.join("a/b.db"))));
    }

    #[test]
    fn an_invalid_address_is_refused() {
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
            assert!(error.to_string().starts_with(&format!("\"{odd}\"")), "{odd}: {error}");
        }
    }
}
