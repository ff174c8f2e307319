//! `stateBackend`: a backend as written in the settings.

use std::path::{Path, PathBuf};

use goloo_store::bucket_address;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bucket::ObjectPlace;
use super::service::{AddressingStyle, Service};
use super::store_backend::Backend;
use crate::paths::in_home;

/// `stateBackend` in the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StateBackend {
    /// Where the records are stored: dir, sqlite, s3, gcs or azure
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<Kind>,
    /// dir and sqlite: the path of the folder or the file; may begin with ~/
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    /// s3 and gcs: the bucket
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bucket: Option<String>,
    /// azure: the container
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) container: Option<String>,
    /// azure: the storage account
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) account: Option<String>,
    /// s3, gcs and azure: the prefix of all keys
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prefix: Option<String>,
    /// s3: the region
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) region: Option<String>,
    /// s3, gcs and azure: the service's URL, when it isn't the default
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    /// s3: whether the bucket is in the URL's path or in its host name; path by default
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) addressing_style: Option<AddressingStyle>,
    /// s3: a DynamoDB table for locks, when the service has no conditional writes
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lock_table: Option<String>,
}

impl AddressingStyle {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Virtual => "virtual",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Path, Self::Virtual].into_iter().find(|style| style.as_str() == word)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum Kind {
    Dir,
    Sqlite,
    S3,
    Gcs,
    Azure,
}

impl From<Service> for Kind {
    fn from(service: Service) -> Self {
        match service {
            Service::S3 => Self::S3,
            Service::Gcs => Self::Gcs,
            Service::Azure => Self::Azure,
        }
    }
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

    /// The keys that apply to it.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Dir | Self::Sqlite => &["path"],
            Self::S3 => &["bucket", "prefix", "region", "endpoint", "addressingStyle", "lockTable"],
            Self::Gcs => &["bucket", "prefix", "endpoint"],
            Self::Azure => &["container", "account", "prefix", "endpoint"],
        }
    }

    /// The required keys.
    fn needed(self) -> &'static [&'static str] {
        match self {
            Self::Dir | Self::Sqlite => &[],
            Self::S3 | Self::Gcs => &["bucket"],
            Self::Azure => &["container", "account"],
        }
    }
}

impl StateBackend {
    /// Problems beyond the JSON schema: the key, the message, and the hint.
    pub fn problems(&self) -> Vec<(&'static str, String, String)> {
        let Some(kind) = self.kind else {
            let hint = "write \"type\": \"dir\", \"sqlite\", \"s3\", \"gcs\" or \"azure\"".to_owned();
            return vec![("", "stateBackend has no \"type\"".to_owned(), hint)];
        };
        let fields = self.fields();
        let odd = fields.iter().filter(|(key, value)| value.is_some() && !kind.keys().contains(key));
        let odd = odd.map(|(key, _)| {
            let what = format!("\"{key}\" is not a key of {}", kind.word());
            (*key, what, format!("its keys are {}", kind.keys().join(", ")))
        });
        let missing = fields
            .iter()
            .filter(|(key, value)| kind.needed().contains(key) && value.is_none_or(str::is_empty));
        let missing = missing.map(|(key, _)| {
            ("", format!("stateBackend has no \"{key}\""), format!("{} needs \"{key}\"", kind.word()))
        });
        odd.chain(missing).chain(self.unusable_values()).collect()
    }

    /// Values that no service accepts.
    fn unusable_values(&self) -> impl Iterator<Item = (&'static str, String, String)> {
        let checked = self.fields().into_iter().filter_map(|(key, value)| {
            let check = match key {
                "bucket" => bucket_address::check_bucket,
                "container" => bucket_address::check_container,
                "account" => bucket_address::check_account,
                "prefix" => bucket_address::check_prefix,
                "region" => bucket_address::check_region,
                "endpoint" => bucket_address::check_endpoint,
                "lockTable" => bucket_address::check_table,
                _ => return None,
            };
            // An empty value is reported as missing.
            let error = check(value.filter(|value| !value.is_empty())?).err()?;
            Some((key, error.message, error.hint))
        });
        checked.chain(self.unusable_host()).collect::<Vec<_>>().into_iter()
    }

    /// An endpoint that can't have the bucket in its host name because it is an IP address.
    fn unusable_host(&self) -> Option<(&'static str, String, String)> {
        let (endpoint, bucket) = (self.endpoint.as_deref()?, self.bucket.as_deref()?);
        if self.addressing_style != Some(AddressingStyle::Virtual)
            || bucket_address::check_endpoint(endpoint).is_err()
        {
            return None;
        }
        let url = bucket_address::with_bucket(endpoint, bucket);
        let error = bucket_address::check_endpoint(&url).err()?;
        let hint = "use a host name in the endpoint, or the addressing style path".to_owned();
        Some(("addressingStyle", error.message, hint))
    }

    fn fields(&self) -> [(&'static str, Option<&str>); 9] {
        [
            ("path", self.path.as_deref()),
            ("bucket", self.bucket.as_deref()),
            ("container", self.container.as_deref()),
            ("account", self.account.as_deref()),
            ("prefix", self.prefix.as_deref()),
            ("region", self.region.as_deref()),
            ("endpoint", self.endpoint.as_deref()),
            ("addressingStyle", self.addressing_style.map(AddressingStyle::as_str)),
            ("lockTable", self.lock_table.as_deref()),
        ]
    }

    /// The backend that it describes; `home` replaces `~`. The caller has checked that it has no
    /// [`problems`](Self::problems).
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
            addressing_style: self.addressing_style,
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
        let (bucket, container) = match place.service {
            Service::Azure => (None, Some(place.bucket)),
            Service::S3 | Service::Gcs => (Some(place.bucket), None),
        };
        Self {
            kind: Some(place.service.into()),
            path: None,
            bucket,
            container,
            account: place.account,
            prefix: Some(place.prefix).filter(|prefix| !prefix.is_empty()),
            region: place.region,
            endpoint: place.endpoint,
            addressing_style: place.addressing_style,
            lock_table: place.lock_table,
        }
    }
}

fn trimmed(prefix: &str) -> String {
    prefix.trim_matches('/').to_owned()
}
