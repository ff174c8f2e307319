//! `goloo image`

use clap::Subcommand;
use goloo_core::engine::Interrupt;
use goloo_core::events::{Event, Events};
use goloo_core::spec::{self, ImageRef};
use goloo_os::private::in_shell;
use goloo_qemu::image::{Cache, CachedImage, Entry, ImageError, OutOfSight, Watch, build};
use serde_json::json;

use crate::app::App;
use crate::error::CliError;
use crate::output::{Table, Ui, bytes};
use crate::{args, exit};

/// What to do with the cache of images.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Show what is in the cache
    List {
        #[command(flatten)]
        json: args::Json,
    },
    /// Fetch an image, so that the next create needn't
    Pull {
        /// As in vm.image: 24.04, debian-12, an https URL, or a path
        image: String,
    },
    /// Make a Debian image from packages alone, on a Debian machine, as root
    Build {
        /// debian-12 or debian-13; by default the release that this machine runs
        image: Option<String>,
    },
    /// Remove the images that no VM uses
    Prune,
}

pub fn run(app: &App, command: &Command) -> Result<u8, CliError> {
    let settings = app.qemu_settings()?;
    let cache = &settings.cache;
    match command {
        Command::List { .. } => list(app, cache)?,
        Command::Pull { image } => {
            let image = pull(app, cache, image)?;
            said(app, &image.entry);
        }
        Command::Build { image } => {
            let name = image.as_deref().or_else(|| build::host_image()).unwrap_or("debian-12");
            goloo_os::umask::for_system_files();
            let entry = watched(app, |watch| build::build(cache, name, watch))?;
            said(app, &entry);
        }
        Command::Prune => {
            let freed = cache.prune(&settings.vms)?;
            freed.out_of_sight.iter().for_each(|machine| app.ui.note(&kept(machine)));
            app.ui.line(&format!("{} files removed, {} freed", freed.files, bytes(freed.bytes)));
        }
    }
    Ok(exit::DONE)
}

/// Why an image stays that no machine in sight builds on.
fn kept(machine: &OutOfSight) -> String {
    format!(
        "the image of the VM {} is kept, since its state folder isn't there: prune again with GOLOO_STATE_DIR at its \
         new place, or `rm {}` if the VM no longer exists",
        machine.machine.display(),
        in_shell(&machine.note)
    )
}

fn list(app: &App, cache: &Cache) -> Result<(), CliError> {
    let images = cache.list()?;
    if app.ui.json() {
        let list = images.iter().map(|image| {
            let entry = &image.entry;
            json!({
                "name": entry.name, "arch": entry.arch, "origin": entry.origin.as_str(), "sha256": entry.sha256,
                "bytes": entry.bytes, "virtualSize": entry.virtual_size, "takenAt": entry.taken_at,
                "inUse": image.in_use,
            })
        });
        app.ui.result(json!({"images": list.collect::<Vec<_>>()}));
        return Ok(());
    }
    if images.is_empty() {
        app.ui.say("the cache is empty; goloo image pull 24.04 fetches an image");
        return Ok(());
    }
    let mut table = Table::new(&["IMAGE", "FROM", "SIZE", "DISK", "USED", "SHA-256"]);
    for image in &images {
        let entry = &image.entry;
        table.row([
            entry.name.clone(),
            entry.origin.as_str().to_owned(),
            bytes(entry.bytes),
            bytes(entry.virtual_size),
            if image.in_use { "yes" } else { "no" }.to_owned(),
            entry.sha256.chars().take(12).collect(),
        ]);
    }
    app.ui.table(&table);
    Ok(())
}

fn pull(app: &App, cache: &Cache, text: &str) -> Result<CachedImage, CliError> {
    let here = std::env::current_dir()
        .map_err(|error| CliError::failed("there is no current folder", "cd somewhere").because(&error))?;
    let image = spec::parse_image(text, &here, &app.paths.home)
        .map_err(|problem| CliError::usage(problem.message, problem.hint))?;
    watched(app, |watch| match &image {
        ImageRef::Alias(name) => cache.pull(name, watch),
        other => cache.ensure(other, None, watch),
    })
}

fn said(app: &App, entry: &Entry) {
    app.ui.line(&format!(
        "{} is in the cache ({}, {})",
        entry.name,
        entry.origin.as_str(),
        bytes(entry.bytes)
    ));
}

/// Long work with its progress shown and Ctrl-C heard. What it breaks off is gone on with next time.
fn watched<T>(app: &App, work: impl FnOnce(&dyn Watch) -> Result<T, ImageError>) -> Result<T, CliError> {
    let interrupt = app.watch_signals("the image isn't whole; the same command goes on with it")?;
    let watcher = Watcher { ui: app.ui.clone(), interrupt: interrupt.clone() };
    let result = work(&watcher);
    app.ui.finish();
    Ok(result?)
}

struct Watcher {
    ui: Ui,
    interrupt: Interrupt,
}

impl Watch for Watcher {
    fn event(&self, event: Event) {
        self.ui.event(event);
    }

    fn stopped(&self) -> bool {
        self.interrupt.is_raised()
    }
}
