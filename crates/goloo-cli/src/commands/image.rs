//! `goloo image`

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use goloo_engine::Interrupt;
use goloo_images::{ImageEntry, ListedImage, UnknownUses, Watch};
use goloo_model::events::{Event, Events};
use goloo_model::provider_id::ProviderId;
use goloo_model::time::Timestamp;
use goloo_sys::private::in_shell;

use super::{baked_stacks, kept_images};
use crate::app::App;
use crate::error::CliError;
use crate::options::Json;
use crate::output::{Column, Table, Ui, age, bytes};
use crate::{complete, exit, json, providers};

/// The subcommands.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// List the cached images, or the baked ones that a provider keeps
    List {
        #[command(flatten)]
        keeper: KeeperArgs,
        #[command(flatten)]
        json: Json,
    },
    /// Download an image in advance
    Pull {
        /// The image, as in vm.image: 24.04, debian-12, an https URL, or a path
        #[arg(add = ArgValueCandidates::new(complete::images))]
        image: String,
    },
    /// Build a Debian image from packages; needs root on a Debian machine
    Build {
        /// debian-12 or debian-13; by default this machine's release
        #[arg(add = ArgValueCandidates::new(complete::buildable_images))]
        image: Option<String>,
    },
    /// Remove an image that no VM uses
    #[command(visible_alias = "remove")]
    Rm {
        /// The image, as `goloo image list` shows it
        image: String,
        #[command(flatten)]
        keeper: KeeperArgs,
    },
    /// Remove all images that no VM uses
    Prune {
        #[command(flatten)]
        keeper: KeeperArgs,
        /// Don't ask for confirmation, which only images outside of the cache need
        #[arg(short = 'y', long)]
        yes: bool,
    },
}

// Who keeps the images: the cache by default.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct KeeperArgs {
    /// The baked images in AWS
    #[arg(long)]
    aws: bool,
    /// The baked images that this provider keeps
    #[arg(long, value_name = "P", value_parser = providers::parse, add = ArgValueCandidates::new(complete::providers))]
    provider: Option<ProviderId>,
}

impl KeeperArgs {
    /// `None` for the cache.
    fn keeper(&self) -> Option<ProviderId> {
        if self.aws { Some(providers::AWS) } else { self.provider }
    }
}

pub fn run(app: &App, command: &Command) -> Result<u8, CliError> {
    match command {
        Command::List { keeper, .. } => match keeper.keeper() {
            Some(provider) => kept_images::list(app, provider)?,
            None => list(app)?,
        },
        Command::Pull { image } => {
            let image = watched(app, |watch| app.session.pull_image(image, watch))?;
            said(app, &image.entry);
        }
        Command::Build { image } => {
            let entry = watched(app, |watch| app.session.build_image(image.as_deref(), watch))?;
            said(app, &entry);
        }
        Command::Rm { image, keeper } => {
            if let Some(provider) = keeper.keeper() {
                kept_images::remove(app, provider, image)?;
                return Ok(exit::DONE);
            }
            let freed = app.session.remove_image(image)?;
            app.ui.line(&format!("removed {image}, freed {}", bytes(freed.bytes)));
        }
        Command::Prune { keeper, yes } => {
            if let Some(provider) = keeper.keeper() {
                kept_images::prune(app, provider, *yes)?;
                return Ok(exit::DONE);
            }
            let freed = app.session.prune_images()?;
            freed.out_of_sight.iter().for_each(|machine| app.ui.note(&kept(machine)));
            app.ui.line(&format!("removed {} files, freed {}", freed.files, bytes(freed.bytes)));
        }
    }
    Ok(exit::DONE)
}

/// Why an image is kept that no known machine uses.
fn kept(machine: &UnknownUses) -> String {
    format!(
        "kept the image of the VM {}, since its state folder does not exist: prune again with GOLOO_STATE_DIR set to its \
         new path, or run `rm {}` if the VM no longer exists",
        machine.machine.display(),
        in_shell(&machine.note)
    )
}

fn list(app: &App) -> Result<(), CliError> {
    let images = app.session.images()?;
    let changed = changes(app, &images);
    if app.ui.json() {
        app.ui.result(&json::ImageList::of(&images, changed));
        return Ok(());
    }
    if images.is_empty() {
        app.ui.say("the cache is empty; run `goloo image pull 24.04` to download an image");
        return Ok(());
    }
    let mut table = Table::new(&[
        Column::name("IMAGE"),
        Column::whole("ORIGIN", 2),
        Column::whole("SIZE", 4).figure(),
        Column::whole("DISK", 3).figure(),
        Column::whole("AGE", 6).figure(),
        Column::whole("IN USE", 5),
        Column::whole("LAST USE", 2).figure(),
        Column::whole("STACK CHANGED", 3),
        Column::whole("SHA-256", 1),
    ]);
    let now = Timestamp::now();
    for image in &images {
        let entry = &image.entry;
        table.row([
            entry.name.clone(),
            entry.origin.as_str().to_owned(),
            bytes(entry.bytes),
            bytes(entry.virtual_size),
            age(now.since(entry.taken_at)),
            if image.in_use { "yes" } else { "no" }.to_owned(),
            image.last_used.map(|used| age(now.since(used))).unwrap_or_default(),
            baked_stacks::word(changed(entry)),
            entry.sha256.chars().take(12).collect(),
        ]);
    }
    app.ui.table(&table);
    Ok(())
}

/// Tells whether the stack of a baked image has changed.
fn changes<'a>(app: &'a App, images: &[ListedImage]) -> impl Fn(&ImageEntry) -> Option<bool> + 'a {
    let stacks = images.iter().filter_map(|image| image.entry.baked_stack()).collect();
    let keys = baked_stacks::keys(app, app.session.image_cache_provider(), stacks);
    move |entry| {
        let now = app.session.cached_bake(keys.get(entry.baked_stack()?)?).ok()?;
        Some(now.is_none_or(|now| now.sha256 != entry.sha256))
    }
}

fn said(app: &App, entry: &ImageEntry) {
    app.ui.line(&format!(
        "{} is in the cache ({}, {})",
        entry.name,
        entry.origin.as_str(),
        bytes(entry.bytes)
    ));
}

/// Runs long work with a progress line and Ctrl-C handling. An interrupted download continues next time.
fn watched<T>(app: &App, work: impl FnOnce(&dyn Watch) -> Result<T, goloo::Error>) -> Result<T, CliError> {
    let interrupt = app.watch_signals("the image is incomplete; run the same command to continue")?;
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
