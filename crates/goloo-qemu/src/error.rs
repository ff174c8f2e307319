//! What fails around a machine, with the way out.

use std::io;
use std::path::Path;

use goloo_core::provider::ProviderError;
use goloo_core::record::Record;

use crate::args::Files;
use crate::image::ImageError;

pub(crate) fn port_taken(port: u16, error: &io::Error) -> ProviderError {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return ProviderError::Permission {
            what: format!("port {port} of this machine may not be bound (vm.ports)"),
            hint: format!("take one above 1023 on this side: \"{}:{port}\"", u32::from(port) + 8000),
        };
    }
    ProviderError::failed(
        format!("port {port} on 127.0.0.1 is taken (vm.ports): {error}"),
        "end what listens there, or take another port on this side: \"HOST:GUEST\"",
    )
}

pub(crate) fn missing(record: &Record, files: &Files) -> ProviderError {
    ProviderError::failed(
        format!("the machine isn't there any more: {} has no disk", files.folder().display()),
        format!("goloo delete {}", record.name),
    )
}

pub(crate) fn prepare_failed(folder: &Path, source: io::Error) -> ProviderError {
    ProviderError::caused(
        format!("the machine's files in {} fail", folder.display()),
        "look at the room and the permissions there, then run the same command again",
        source,
    )
}

pub(crate) fn end_failed(folder: &Path, source: io::Error) -> ProviderError {
    ProviderError::caused(
        format!("the QEMU of {} can't be ended", folder.display()),
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
