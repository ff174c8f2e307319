//! `goloo state show`

use std::path::Path;

use serde_json::json;

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::output::{bytes, first};

struct Shown {
    vms: usize,
    under_way: usize,
    archived: usize,
    broken: Vec<String>,
    locks: Vec<String>,
    moved_to: Option<String>,
}

pub fn run(app: &App) -> Result<u8, CliError> {
    let backend = app.settings.backend(&app.paths.home)?;
    let shown = app.wait_for(look(app))?;
    let files = backend.files(&app.paths);
    let size = (!files.is_empty()).then(|| files.iter().map(|path| size(path)).sum::<u64>());
    if app.ui.json() {
        app.ui.result(json!({
            "backend": backend.kind(), "address": backend.to_string(), "place": app.store.location(),
            "vms": shown.vms, "underWay": shown.under_way, "archived": shown.archived,
            "broken": shown.broken, "locks": shown.locks, "movedTo": shown.moved_to, "bytes": size,
        }));
        return Ok(exit::DONE);
    }
    let line = |label: &str, value: String| app.ui.line(&format!("{label:<9} {value}"));
    let some = |values: &[String]| if values.is_empty() { "none".to_owned() } else { values.join(", ") };
    line("back end", backend.kind().to_owned());
    line("place", app.store.location());
    line(
        "VMs",
        match shown.under_way {
            0 => shown.vms.to_string(),
            count => format!("{}, {count} with an operation under way", shown.vms),
        },
    );
    line("archived", shown.archived.to_string());
    line("broken", some(&first(shown.broken.iter(), ToString::to_string)));
    line("locks", some(&shown.locks));
    line(
        "moved",
        shown.moved_to.map_or_else(|| "no".to_owned(), |to| format!("to {to}; this one is only read")),
    );
    if let Some(size) = size {
        line("size", bytes(size));
    }
    Ok(exit::DONE)
}

async fn look(app: &App) -> Result<Shown, CliError> {
    let list = app.store.list().await?;
    let archive = app.store.archive_list().await?;
    let broken = list.broken.iter().chain(&archive.broken).map(|broken| broken.path.clone()).collect();
    Ok(Shown {
        vms: list.entries.len(),
        under_way: list.entries.iter().filter(|vm| vm.operation).count(),
        archived: archive.entries.len(),
        broken,
        locks: app.store.locks().await?.into_iter().map(|held| held.name.to_string()).collect(),
        moved_to: app.store.moved_to().await?,
    })
}

/// Bytes of the files below a path; what can't be looked at counts as nothing.
fn size(path: &Path) -> u64 {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}
