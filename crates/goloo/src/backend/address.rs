//! Backend addresses: parses and formats them, for the command line and for the marks of moved stores.

use std::fmt;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::bucket::ObjectPlace;
use super::form::StateBackend;
use super::service::{AddressingStyle, Service};
use super::store_backend::Backend;
use crate::error::AddressError;

impl Backend {
    /// Parses an address: `dir`, `dir:PATH`, `sqlite`, `sqlite:PATH`, `s3://BUCKET/PREFIX?region=…`, `gs://…`,
    /// `az://…`. A relative path is resolved against the current directory.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(address: &str) -> Result<Self, AddressError> {
        let path = |path: &str| std::path::absolute(path).unwrap_or_else(|_| path.into());
        match address.split_once(':') {
            None if address == "dir" => Ok(Self::Dir(None)),
            None if address == "sqlite" => Ok(Self::Sqlite(None)),
            Some(("dir", place)) if !place.is_empty() => Ok(Self::Dir(Some(path(place)))),
            Some(("sqlite", place)) if !place.is_empty() => Ok(Self::Sqlite(Some(path(place)))),
            Some((scheme, rest)) => match Service::from_scheme(scheme) {
                Some(service) => {
                    let rest = rest.strip_prefix("//").ok_or_else(Vec::new);
                    let place = rest.and_then(|rest| ObjectPlace::parse(service, rest));
                    place.map(Self::Object).map_err(|problems| AddressError::Bucket {
                        address: address.to_owned(),
                        service,
                        problems,
                    })
                }
                None => Err(AddressError::Unknown { address: address.to_owned() }),
            },
            None => Err(AddressError::Unknown { address: address.to_owned() }),
        }
    }
}

/// The characters that are not percent-encoded in an address.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');

impl ObjectPlace {
    /// Parses what follows `//`. The error has a message for each invalid value.
    fn parse(service: Service, rest: &str) -> Result<Self, Vec<String>> {
        let read = Self::form(service, rest).ok_or_else(Vec::new)?;
        let problems = read.problems();
        match read.backend(Path::new("/")) {
            Backend::Object(place) if problems.is_empty() => Ok(place),
            _ => Err(problems.into_iter().map(|(_, message, hint)| format!("{message} ({hint})")).collect()),
        }
    }

    /// The address in the form of the settings; `None` if it isn't a valid one.
    fn form(service: Service, rest: &str) -> Option<StateBackend> {
        let decoded = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let mut read = StateBackend { kind: Some(service.into()), ..StateBackend::default() };
        match service {
            Service::Azure => read.container = Some(decoded(bucket)?),
            _ => read.bucket = Some(decoded(bucket)?),
        }
        read.prefix = Some(decoded(prefix)?);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=')?;
            if key == "addressingStyle" {
                if read.addressing_style.replace(AddressingStyle::parse(value)?).is_some() {
                    return None;
                }
                continue;
            }
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
        Some(read)
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
            ("region", self.region.as_deref()),
            ("endpoint", self.endpoint.as_deref()),
            ("addressingStyle", self.addressing_style.map(AddressingStyle::as_str)),
            ("lockTable", self.lock_table.as_deref()),
            ("account", self.account.as_deref()),
        ];
        let set = options.into_iter().filter_map(|(key, value)| Some((key, value?)));
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
