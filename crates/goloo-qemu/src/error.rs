//! Errors about machines, with hints.

use std::io;
use std::path::Path;

use goloo_images::ImageError;
use goloo_model::hint::NextStep;
use goloo_model::provider::ProviderError;
use goloo_model::record::Record;

use crate::args::Files;

pub(crate) fn port_taken(port: u16, error: &io::Error) -> ProviderError {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return ProviderError::Permission {
            what: format!("no permission to bind port {port} of this machine (vm.ports)"),
            hint: format!("use a port above 1023 on this side: \"{}:{port}\"", u32::from(port) + 8000).into(),
        };
    }
    ProviderError::failed(
        format!("port {port} on 127.0.0.1 is taken (vm.ports): {error}"),
        "stop the program that listens there, or use another port on this side: \"HOST:GUEST\"",
    )
}

pub(crate) fn missing(record: &Record, files: &Files) -> ProviderError {
    ProviderError::failed(
        format!("the machine no longer exists: {} has no disk", files.folder().display()),
        NextStep::Delete(record.name.clone()),
    )
}

pub(crate) fn prepare_failed(folder: &Path, source: io::Error) -> ProviderError {
    ProviderError::caused(
        format!("can't access the machine's files in {}", folder.display()),
        "check the free disk space and the permissions there, then run the same command again",
        source,
    )
}

pub(crate) fn end_failed(folder: &Path, source: io::Error) -> ProviderError {
    ProviderError::caused(
        format!("can't stop the QEMU process of {}", folder.display()),
        "run the same command again as the user who started it",
        source,
    )
}

pub(crate) fn image_failed(error: ImageError) -> ProviderError {
    match error {
        ImageError::Stopped => ProviderError::Interrupted,
        ImageError::Tools { .. } => {
            ProviderError::Unavailable { what: error.to_string(), hint: error.hint() }
        }
        error => ProviderError::Failed {
            what: error.to_string(),
            hint: error.hint(),
            source: std::error::Error::source(&error).map(|source| source.to_string().into()),
        },
    }
}
