//! `goloo state show`

use crate::app::App;
use crate::error::CliError;
use crate::output::{bytes, first};
use crate::{exit, json};

pub fn run(app: &App) -> Result<u8, CliError> {
    let status = app.session.store_status()?;
    if app.ui.json() {
        app.ui.result(&json::StoreShown::from(&status));
        return Ok(exit::DONE);
    }
    let locks: Vec<String> = status.locks.iter().map(ToString::to_string).collect();
    let line = |label: &str, value: String| app.ui.line(&format!("{label:<9} {value}"));
    let some = |values: &[String]| if values.is_empty() { "none".to_owned() } else { values.join(", ") };
    line("backend", status.backend.to_owned());
    line("place", status.location.clone());
    line(
        "VMs",
        match status.unfinished {
            0 => status.vms.to_string(),
            count => format!("{}, {count} with an operation in progress", status.vms),
        },
    );
    line("archived", status.archived.to_string());
    line("broken", some(&first(status.broken.iter(), ToString::to_string)));
    line("locks", some(&locks));
    line(
        "moved",
        status.moved_to.map_or_else(|| "no".to_owned(), |to| format!("to {to}; this one is read-only")),
    );
    if let Some(size) = status.bytes {
        line("size", bytes(size));
    }
    Ok(exit::DONE)
}
