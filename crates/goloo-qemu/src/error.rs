//! Errors about machines, with hints.

use std::io;
use std::path::Path;

use goloo_images::ImageError;
use goloo_model::hint::NextStep;
use goloo_model::name::VmName;
use goloo_model::provider::ProviderError;
use goloo_model::record::Record;

use crate::args::Files;
use crate::holder::Holder;
use crate::machine::{self, MachineFile};
use crate::ports::{self, Listener};

/// A port of `vm.ports` that can't be bound.
pub(crate) fn port_taken(
    listener: &Listener,
    guest: u16,
    error: &io::Error,
    others: &[MachineFile],
) -> ProviderError {
    let Listener { protocol, address, port } = *listener;
    let entry = |port: u32| format!("\"{port}:{guest}{}\"", protocol.suffix());
    match error.kind() {
        io::ErrorKind::PermissionDenied => ProviderError::Permission {
            what: format!("no permission to bind port {port} of this machine (vm.ports)"),
            hint: format!("use a port above 1023 on this side: {}", entry(u32::from(port) + 8000)).into(),
        },
        io::ErrorKind::AddrNotAvailable => ProviderError::failed(
            format!("this computer doesn't have the address {address} (vm.ports)"),
            format!("omit the address: {}", entry(port.into())),
        ),
        _ => {
            let holder = Holder::of(listener, others);
            let free =
                ports::pick(&address.to_string(), protocol, address, &machine::ports(others).collect());
            let other =
                free.map_or_else(String::new, |free| format!(", such as {}", entry(free.port.into())));
            let way_out = format!("use another port on this side{other}");
            let what =
                format!("port {port}{} on {address} is taken (vm.ports) by {holder}", protocol.suffix());
            match &holder {
                Holder::Vm(name) if let Ok(name) = VmName::parse(name) => ProviderError::failed(
                    what,
                    NextStep::stop(&name).text(format!(" frees it; or {way_out}")),
                ),
                _ => {
                    ProviderError::failed(what, format!("stop the program that listens there, or {way_out}"))
                }
            }
        }
    }
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
