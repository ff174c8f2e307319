//! The files that records are written to and read from.

use std::path::Path;

use goloo::actions::Export;
use goloo_model::store::Broken;
use goloo_sys::read;

use crate::app::App;
use crate::commands::listing::warn_of_each;
use crate::error::CliError;

/// Warns of each broken record.
pub fn warn_of_broken(app: &App, export: &Export) {
    warn_of_each(&app.ui, &export.broken, |broken| {
        let Broken { path, error, .. } = broken;
        let instead =
            if export.has_recovered(broken) { "its previous copy is used" } else { "it is skipped" };
        format!("{path} is broken ({error}); {instead}")
    });
}

/// Whether `-` was given instead of a file.
pub fn is_standard_stream(file: &Path) -> bool {
    file == Path::new("-")
}

/// Reads the named file, or standard input; `max` is in bytes. Refuses pipes and devices, which could block.
pub fn read_file(file: &Path, max: u64) -> Result<Vec<u8>, CliError> {
    let read = if is_standard_stream(file) {
        read::stream(std::io::stdin().lock(), max)
    } else {
        read::file(file, max)
    };
    read.map_err(|error| {
        let failed = CliError::cannot("read", file, &error);
        match error.kind() {
            std::io::ErrorKind::InvalidInput => {
                CliError { hint: "name a regular file, or - for standard input".to_owned(), ..failed }
            }
            _ => failed,
        }
    })
}

/// Writes a new file with mode 0600.
pub fn write_file(file: &Path, bytes: &[u8]) -> Result<(), CliError> {
    goloo::files::write_new(file, bytes).map_err(|error| {
        let failed = CliError::cannot("write", file, &error);
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                CliError { hint: "use another name, or remove the file first".to_owned(), ..failed }
            }
            _ => failed,
        }
    })
}
