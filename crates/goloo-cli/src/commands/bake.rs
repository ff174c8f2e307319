//! `goloo bake`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap_complete::engine::ArgValueCandidates;
use goloo::actions::BakeResult;
use goloo::registry::Registry;
use goloo_engine::{Baked, Created};
use goloo_model::provider::BakedImage;
use goloo_model::spec::with_github_users;

use super::create::{self, ProviderArgs};
use super::{created, remembered};
use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, duration};
use crate::output::{self, Mark, bytes};
use crate::{complete, exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The stack, as for `goloo create`
    #[arg(value_name = "STACK", add = ArgValueCandidates::new(complete::stacks))]
    stack: Option<String>,
    /// The stack's folder, or its parent folder
    #[arg(short = 'f', long = "folder", value_name = "PATH")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    provider: ProviderArgs,
    /// GitHub users, as for `goloo create`: their keys are in the image
    #[arg(short = 'u', long = "users", value_name = "GITHUB,...", value_delimiter = ',', value_parser = create::github_user)]
    users: Vec<String>,
    /// How long to wait for the VM that is baked
    #[arg(long, value_name = "D", default_value = "30m", value_parser = duration)]
    timeout: Duration,
    /// Keep the VM's memory too: VMs made from it don't boot
    #[arg(long)]
    memory: bool,
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let began = Instant::now();
    let names: Vec<String> = args.stack.iter().cloned().collect();
    let (name, folder) = create::requests(&names, args.folder.as_deref())?.remove(0);
    let registry = Registry::new(&app.session.paths.state);
    let found = app.session.find_stack(&name, folder.as_deref(), &remembered::stacks(app, &registry))?;
    let stack = with_github_users(found.resolve(&app.session, &name, None)?, &args.users);
    let provider = args.provider.choose(app)?.id;
    let left = format!(
        "the bake of {name} may be unfinished: run `goloo list`, then `goloo resume NAME` to continue it, or `goloo delete NAME`"
    );
    let baked =
        app.act(args.timeout, &left, |run| app.session.bake(&found, stack, provider, args.memory, run))?;
    match baked {
        BakeResult::AlreadyBaked(image) => {
            say(app, &image, &format!("{name} is baked already"));
            Ok(exit::DONE)
        }
        BakeResult::Ended(baked) => Ok(report(app, &baked, &name, Some(began.elapsed()))),
    }
}

/// Prints the result; also of a resumed bake.
pub(super) fn report(app: &App, baked: &Baked, stack: &str, took: Option<Duration>) -> u8 {
    match baked {
        Baked::Kept { image, .. } => {
            let took = took.map_or_else(String::new, |took| format!(", {}", output::duration(took)));
            let size = match &image.memory {
                Some(memory) => format!("disk {}, memory {}", bytes(image.size), bytes(memory.size)),
                None => bytes(image.size),
            };
            say(app, image, &format!("baked {stack} ({size}{took}); `goloo create` uses it from now on"));
            exit::DONE
        }
        Baked::NotGood(created) => {
            not_good(app, created, stack);
            exit::DEGRADED
        }
    }
}

fn say(app: &App, image: &BakedImage, text: &str) {
    match app.ui.json() {
        true => app.ui.result(&json::BakedImageShown::from(image)),
        false => app.ui.marked_line(Mark::Good, text),
    }
}

/// Why nothing is kept.
fn not_good(app: &App, created: &Created, stack: &str) {
    let Some(verdict) = &created.verdict else { return };
    created::say_log(app, verdict);
    let what = format!("{stack} can't be baked, since its provisioning failed; the VM was deleted");
    let hint = format!("run `goloo create {stack} --no-bake` to look at it");
    let mut error = CliError::new(exit::DEGRADED, "degraded", what, hint);
    error.causes.clone_from(&verdict.errors);
    app.ui.error(&error);
}
