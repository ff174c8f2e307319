//! Which back end keeps the records: what the settings say, or an address on the command line.

use std::fmt;
use std::path::{Path, PathBuf};

use goloo_core::finding::Finding;
use goloo_core::store::Store;
use goloo_store::{DirStore, Options, Seal, SqliteStore};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::CliError;
use crate::paths::{Paths, in_home};

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

/// A part of a bucket, as the settings name it. Credentials aren't in it: they come from the service's
/// own chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPlace {
    /// Who keeps the bucket.
    pub service: Service,
    /// The bucket; Azure calls it a container.
    pub bucket: String,
    /// The first part of all keys, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The region (S3).
    pub region: Option<String>,
    /// Where the service is, when it isn't the usual place.
    pub endpoint: Option<String>,
    /// A DynamoDB table for locks, where the store has no conditional writes (S3).
    pub lock_table: Option<String>,
    /// The storage account (Azure).
    pub account: Option<String>,
}

/// What kinds of buckets there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// S3 and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// `stateBackend` in the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StateBackend {
    /// What keeps the records: dir, sqlite, s3, gcs or azure
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    /// dir and sqlite: the folder or the file; ~/ allowed
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// s3 and gcs: the bucket
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<String>,
    /// azure: the container
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    /// azure: the storage account
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    /// s3, gcs and azure: the first part of all keys
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// s3: the region
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    /// s3, gcs and azure: the service's URL, when it isn't the usual one
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// s3: a DynamoDB table for locks, where the store has no conditional writes
    #[serde(skip_serializing_if = "Option::is_none")]
    lock_table: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Dir,
    Sqlite,
    S3,
    Gcs,
    Azure,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Dir => "dir",
            Self::Sqlite => "sqlite",
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
        }
    }

    fn service(self) -> Option<Service> {
        match self {
            Self::Dir | Self::Sqlite => None,
            Self::S3 => Some(Service::S3),
            Self::Gcs => Some(Service::Gcs),
            Self::Azure => Some(Service::Azure),
        }
    }

    /// The keys that mean something for it.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Dir | Self::Sqlite => &["path"],
            Self::S3 => &["bucket", "prefix", "region", "endpoint", "lockTable"],
            Self::Gcs => &["bucket", "prefix", "endpoint"],
            Self::Azure => &["container", "account", "prefix", "endpoint"],
        }
    }

    /// The keys that it can't do without.
    fn needed(self) -> &'static [&'static str] {
        match self {
            Self::Dir | Self::Sqlite => &[],
            Self::S3 | Self::Gcs => &["bucket"],
            Self::Azure => &["container", "account"],
        }
    }
}

impl StateBackend {
    /// What is wrong with it beyond its shape: the key, what, and what to do.
    pub fn problems(&self) -> Vec<(&'static str, String, String)> {
        let Some(kind) = self.kind else {
            let hint = "write \"type\": \"dir\", \"sqlite\", \"s3\", \"gcs\" or \"azure\"".to_owned();
            return vec![("", "stateBackend has no \"type\"".to_owned(), hint)];
        };
        let fields = self.fields();
        let odd = fields.iter().filter(|(key, value)| value.is_some() && !kind.keys().contains(key));
        let odd = odd.map(|(key, _)| {
            let what = format!("\"{key}\" means nothing for {}", kind.word());
            (*key, what, format!("its keys are {}", kind.keys().join(", ")))
        });
        let missing = fields
            .iter()
            .filter(|(key, value)| kind.needed().contains(key) && value.as_deref().is_none_or(str::is_empty));
        let missing = missing.map(|(key, _)| {
            ("", format!("stateBackend has no \"{key}\""), format!("{} needs \"{key}\"", kind.word()))
        });
        odd.chain(missing).collect()
    }

    fn fields(&self) -> [(&'static str, &Option<String>); 8] {
        [
            ("path", &self.path),
            ("bucket", &self.bucket),
            ("container", &self.container),
            ("account", &self.account),
            ("prefix", &self.prefix),
            ("region", &self.region),
            ("endpoint", &self.endpoint),
            ("lockTable", &self.lock_table),
        ]
    }

    /// The back end that it names; `home` stands for `~`. It has no [`problems`](Self::problems).
    pub fn backend(&self, home: &Path) -> Backend {
        let path = self.path.as_deref().map(|path| in_home(path, home));
        let kind = self.kind.unwrap_or(Kind::Dir);
        let Some(service) = kind.service() else {
            return if kind == Kind::Dir { Backend::Dir(path) } else { Backend::Sqlite(path) };
        };
        Backend::Object(ObjectPlace {
            service,
            bucket: self.bucket.clone().or(self.container.clone()).unwrap_or_default(),
            prefix: trimmed(self.prefix.as_deref().unwrap_or_default()),
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            lock_table: self.lock_table.clone(),
            account: self.account.clone(),
        })
    }
}

impl From<&Backend> for StateBackend {
    fn from(backend: &Backend) -> Self {
        let text = |path: &PathBuf| path.display().to_string();
        match backend {
            Backend::Dir(path) => {
                Self { kind: Some(Kind::Dir), path: path.as_ref().map(text), ..Self::default() }
            }
            Backend::Sqlite(path) => {
                Self { kind: Some(Kind::Sqlite), path: path.as_ref().map(text), ..Self::default() }
            }
            Backend::Object(place) => place.into(),
        }
    }
}

impl From<&ObjectPlace> for StateBackend {
    fn from(place: &ObjectPlace) -> Self {
        let place = place.clone();
        let (kind, bucket, container) = match place.service {
            Service::S3 => (Kind::S3, Some(place.bucket), None),
            Service::Gcs => (Kind::Gcs, Some(place.bucket), None),
            Service::Azure => (Kind::Azure, None, Some(place.bucket)),
        };
        Self {
            kind: Some(kind),
            path: None,
            bucket,
            container,
            account: place.account,
            prefix: Some(place.prefix).filter(|prefix| !prefix.is_empty()),
            region: place.region,
            endpoint: place.endpoint,
            lock_table: place.lock_table,
        }
    }
}

fn trimmed(prefix: &str) -> String {
    prefix.trim_matches('/').to_owned()
}

impl Service {
    /// The word for it in the settings.
    fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    fn from_scheme(scheme: &str) -> Option<Self> {
        [Self::S3, Self::Gcs, Self::Azure].into_iter().find(|service| service.scheme() == scheme)
    }
}

impl Backend {
    /// Reads an address: `dir`, `dir:PATH`, `sqlite`, `sqlite:PATH`, `s3://BUCKET/PREFIX?region=…`, `gs://…`,
    /// `az://…`. A relative path counts from the folder that the process is in.
    pub fn parse(address: &str) -> Result<Self, CliError> {
        let path = |path: &str| std::path::absolute(path).unwrap_or_else(|_| path.into());
        match address.split_once(':') {
            None if address == "dir" => Ok(Self::Dir(None)),
            None if address == "sqlite" => Ok(Self::Sqlite(None)),
            Some(("dir", place)) if !place.is_empty() => Ok(Self::Dir(Some(path(place)))),
            Some(("sqlite", place)) if !place.is_empty() => Ok(Self::Sqlite(Some(path(place)))),
            Some((scheme, rest)) => match Service::from_scheme(scheme) {
                Some(service) => {
                    let place = rest.strip_prefix("//").and_then(|rest| ObjectPlace::parse(service, rest));
                    place.map(Self::Object).ok_or_else(|| odd_bucket(address, service))
                }
                None => Err(odd_address(address)),
            },
            None => Err(odd_address(address)),
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
    pub fn open(&self, paths: &Paths, seal: Seal) -> Result<Box<dyn Store>, CliError> {
        match self {
            Self::Dir(path) => {
                let folder = path.as_ref().unwrap_or(&paths.state);
                Ok(Box::new(DirStore::open(folder, options(seal))))
            }
            Self::Sqlite(path) => Ok(Box::new(sqlite(path.as_deref(), paths, seal))),
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
            Self::Sqlite(path) => Ok(sqlite(path.as_deref(), paths, seal).examine()),
            Self::Object(place) => place.examine(seal).await,
        }
    }
}

impl ObjectPlace {
    #[cfg(feature = "object")]
    async fn examine(&self, seal: Seal) -> Result<Vec<Finding>, CliError> {
        Ok(self.open(seal)?.examine().await)
    }

    #[cfg(not(feature = "object"))]
    async fn examine(&self, seal: Seal) -> Result<Vec<Finding>, CliError> {
        self.open(seal).map(|_| Vec::new())
    }

    #[cfg(feature = "object")]
    fn open(&self, seal: Seal) -> Result<goloo_store::object::ObjectStore, CliError> {
        use goloo_store::object::{Kind, LockTable, ObjectSettings, ObjectStore, Options};

        let lock_table = self.lock_table.clone().map(|name| LockTable { name, endpoint: None });
        let settings = ObjectSettings {
            kind: match self.service {
                Service::S3 => Kind::S3,
                Service::Gcs => Kind::Gcs,
                Service::Azure => Kind::Azure,
            },
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            account: self.account.clone(),
            keys: None,
            lock_table,
        };
        Ok(ObjectStore::open(settings, Options { seal, ..Options::default() })?)
    }

    #[cfg(not(feature = "object"))]
    fn open(&self, _: Seal) -> Result<DirStore, CliError> {
        Err(CliError::new(
            crate::exit::USAGE,
            "unsupported",
            format!("this goloo was built without a way to {}", Backend::Object(self.clone())),
            "goloo settings set stateBackend dir, or another goloo",
        ))
    }
}

fn sqlite(file: Option<&Path>, paths: &Paths, seal: Seal) -> SqliteStore {
    let file = file.map_or_else(|| paths.state.join(DATABASE), Path::to_owned);
    SqliteStore::open(&file, options(seal))
}

fn options(seal: Seal) -> Options {
    let allow_network = std::env::var_os("GOLOO_ALLOW_NETWORK_FS").is_some_and(|value| value == "1");
    Options { allow_network, seal }
}

fn odd_address(address: &str) -> CliError {
    CliError::usage(
        format!("\"{address}\" is no place for records"),
        "write it like dir:PATH, sqlite:PATH, s3://BUCKET/PREFIX?region=REGION, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX?account=ACCOUNT",
    )
}

fn odd_bucket(address: &str, service: Service) -> CliError {
    let example = match service {
        Service::S3 => "s3://BUCKET/PREFIX?region=REGION&endpoint=URL&lockTable=TABLE",
        Service::Gcs => "gs://BUCKET/PREFIX?endpoint=URL",
        Service::Azure => "az://CONTAINER/PREFIX?account=ACCOUNT&endpoint=URL",
    };
    let what = format!("\"{address}\" doesn't name a bucket, or asks for something that it can't have");
    CliError::usage(what, format!("write it like {example}, where all after PREFIX may be left out"))
}

/// What stands in an address as it is.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');

impl ObjectPlace {
    /// Reads what follows `//`.
    fn parse(service: Service, rest: &str) -> Option<Self> {
        let decoded = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let mut read = StateBackend {
            kind: Some(match service {
                Service::S3 => Kind::S3,
                Service::Gcs => Kind::Gcs,
                Service::Azure => Kind::Azure,
            }),
            ..StateBackend::default()
        };
        match service {
            Service::Azure => read.container = Some(decoded(bucket)?),
            _ => read.bucket = Some(decoded(bucket)?),
        }
        read.prefix = Some(decoded(prefix)?);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=')?;
            let field = match key {
                "region" => &mut read.region,
                "endpoint" => &mut read.endpoint,
                "lockTable" => &mut read.lock_table,
                "account" => &mut read.account,
                _ => return None,
            };
            if field.replace(decoded(value)?).is_some() {
                return None;
            }
        }
        let Backend::Object(place) = read.backend(Path::new("/")) else { return None };
        read.problems().is_empty().then_some(place)
    }
}

impl fmt::Display for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = |text| utf8_percent_encode(text, PLAIN);
        write!(f, "{}://{}", self.service.scheme(), encoded(&self.bucket))?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", encoded(&self.prefix))?;
        }
        let options = [
            ("region", &self.region),
            ("endpoint", &self.endpoint),
            ("lockTable", &self.lock_table),
            ("account", &self.account),
        ];
        let set = options.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        for (index, (key, value)) in set.enumerate() {
            let mark = if index == 0 { '?' } else { '&' };
            write!(f, "{mark}{key}={}", encoded(value))?;
        }
        Ok(())
    }
}

impl fmt::Display for Backend {
    /// The address that [`Backend::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(None) => f.write_str("dir"),
            Self::Dir(Some(path)) => write!(f, "dir:{}", path.display()),
            Self::Sqlite(None) => f.write_str("sqlite"),
            Self::Sqlite(Some(path)) => write!(f, "sqlite:{}", path.display()),
            Self::Object(place) => place.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn backends() -> impl Strategy<Value = Backend> {
        let word = || "[^\0/]{1,12}";
        let path = || prop::option::of("/[a-z0-9 ?&=%#:]{1,12}".prop_map(PathBuf::from));
        let option = || prop::option::of("[^\0]{1,12}");
        let prefix = || "([^\0/]{1,6}(/[^\0/]{1,6})?)?";
        let object = (word(), prefix(), option(), option(), option(), word(), 0..3usize).prop_map(
            |(bucket, prefix, region, endpoint, lock_table, account, which)| {
                let service = [Service::S3, Service::Gcs, Service::Azure][which];
                let (s3, azure) = (service == Service::S3, service == Service::Azure);
                Backend::Object(ObjectPlace {
                    service,
                    bucket,
                    prefix,
                    region: region.filter(|_| s3),
                    endpoint,
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
            "gs://b?region=x",
            "s3://b?region",
            "s3://b?colour=red",
            "s3://b?region=a&region=b",
            "s3://b/%ff",
        ] {
            let error = Backend::parse(odd).unwrap_err();
            assert_eq!(error.code, crate::exit::USAGE, "{odd}");
            assert!(error.hint.starts_with("write it like"), "{odd}: {}", error.hint);
        }
    }
}
